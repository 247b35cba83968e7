"""What the Kerberos library knows of this computer: realm, ticket caches, keytabs.

Kinds of caches (FILE, DIR, KEYRING, KCM) are the library's business: a cache is known by its name here. The default
name may have the number of a user in it, as krb5.conf says; the library fills in who asks. To learn it for every user
at once, it is asked in the name of a user that nobody is (identity.py).
"""

from __future__ import annotations

import functools
import os
import re
import stat
from typing import TYPE_CHECKING

import krb5

from dfsfs.smb.auth.identity import NOBODY_HAS, as_user, really_as
from dfsfs.smb.auth.ticketcaches import copied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.auth.credentials import KerberosCredentials

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")
USUAL_CACHE = "FILE:/tmp/krb5cc_{uid}"
"""The default of the library, where its configuration can't be told."""


_NO_DNS_NAMES = """\
[libdefaults]
  dns_canonicalize_hostname = false
  rdns = false
"""
"""A server is logged in to by the name that it was given, and never by one that DNS has for it: whoever answers in
DNS's place could else have any computer's ticket asked for, and pass for the server with that."""


class KdcPreference:
    """Tells the Kerberos library of this process how it names servers, and which KDCs to ask, before anything that
    krb5.conf or DNS say.

    Left to itself it finds them by half a dozen questions to DNS for each ticket. If the controller that answers those
    is down, each waits for a time-out: 14 s for one ticket where a controller is cut off. The library reads its
    configuration anew each time; what is said here is a file in memory, so that nothing of it is left behind.

    Has to be made before there are other threads, as it changes the environment.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("krb5.conf")
        self._write(_NO_DNS_NAMES)
        others = os.environ.get("KRB5_CONFIG", "/etc/krb5.conf")
        os.environ["KRB5_CONFIG"] = f"/proc/self/fd/{self._file}:{others}"

    def prefer(self, realm: str, hosts: Sequence[str]) -> None:
        """`hosts`: names or addresses of the KDCs of a realm, the best first."""
        hosts = [host for host in hosts if _HOST.fullmatch(host)]
        if not hosts or not _HOST.fullmatch(realm):
            return  # what comes from the network must not become settings
        servers = "".join(f"    kdc = {host}\n    primary_kdc = {host}\n    master_kdc = {host}\n" for host in hosts)
        self._write(f"{_NO_DNS_NAMES}[realms]\n  {realm} = {{\n{servers}  }}\n")

    def _write(self, text: str) -> None:
        # In one piece, over all that was there: somebody may be reading it.
        size = os.fstat(self._file).st_size
        os.pwrite(self._file, text.encode().ljust(size, b"\n"), 0)


def default_realm() -> str:
    """The realm of krb5.conf; empty if there is none."""
    try:
        context = krb5.init_context()
        realm: bytes = krb5.get_default_realm(context)
    except krb5.Krb5Error:
        return ""
    return realm.decode("utf-8", "replace")


@functools.cache
def _pattern() -> str:
    """The default cache with `{uid}` for the user's number. Only root can find out about others."""
    if os.geteuid() != 0:
        return USUAL_CACHE
    try:
        with really_as(NOBODY_HAS):
            name: bytes = krb5.cc_default_name(krb5.init_context())
    except (krb5.Krb5Error, OSError):
        return USUAL_CACHE
    return name.decode("utf-8", "surrogateescape").replace(str(NOBODY_HAS), "{uid}")


def default_cache(uid: int) -> str:
    """The cache that a user's programs use unless told otherwise."""
    return _pattern().replace("{uid}", str(uid))


def renew_if_due(credentials: KerberosCredentials, now: float) -> bool:
    """Renews the ticket that all others come from (TGT) if it may be renewed and less than half of its life is left.

    The new one takes the place of the old one in the user's cache, as by kinit -R. `now` in seconds since 1970. Whether
    there was anything to do.

    Raises:
        krb5.Krb5Error: the KDC does not renew it, or there is none.
        CacheError: there is no cache, or it can't be used.
        OSError: we may not act as the user.
    """
    with as_user(credentials.account):
        context = krb5.init_context()
        copy = copied(credentials)
        name = copy.name if copy else credentials.ccache
        cache = krb5.cc_resolve(context, os.fsencode(name)) if name else krb5.cc_default(context)
        client = krb5.cc_get_principal(context, cache)
        if not any(_is_due(ticket, now) for ticket in cache):
            return False
        renewed = krb5.get_renewed_creds(context, client, cache)
        kept = krb5.cc_resolve(context, os.fsencode(copy.original)) if copy else cache
        krb5.cc_initialize(context, kept, client)
        krb5.cc_store_cred(context, kept, renewed)
    return True


def _is_due(ticket: krb5.Creds, now: float) -> bool:
    times = ticket.times
    starts = times.starttime or times.authtime
    return (
        str(ticket.server).startswith("krbtgt/")
        and now < times.endtime < times.renew_till
        and times.endtime - now < (times.endtime - starts) / 2
    )


def has_tickets() -> bool:
    """Whether there is something in the default cache of who runs this."""
    try:
        context = krb5.init_context()
        krb5.cc_get_principal(context, krb5.cc_default(context))
    except krb5.Krb5Error:
        return False
    return True


def machine_keytab() -> str:
    """The keytab of this computer, if there is one that can be read; else empty."""
    try:
        context = krb5.init_context()
        name = os.environ.get("KRB5_KTNAME") or krb5.kt_default_name(context).decode()
    except (krb5.Krb5Error, UnicodeDecodeError):
        return ""
    path = name.removeprefix("FILE:")
    return name if os.access(path, os.R_OK) else ""


def is_private(path: str) -> bool:
    """Whether nobody but its owner can read a file; True if it can't be told."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True
    return not (stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH))

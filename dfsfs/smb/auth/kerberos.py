"""The configuration of the Kerberos library on this computer: realm, ticket caches, keytabs.

Caches are known by their names here; their kinds (FILE, DIR, KEYRING, KCM) are left to the library. krb5.conf may put
the user's id into the name of the default cache, which the library then fills in. To find the pattern for all users at
once, the library is asked under a user id that no account has (identity.py).
"""

from __future__ import annotations

import functools
import os
import re
import stat
from typing import TYPE_CHECKING

import krb5

from dfsfs.smb.auth.identity import UNUSED_UID, as_real_user, as_user
from dfsfs.smb.auth.ticketcaches import copy_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.auth.credentials import KerberosCredentials

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")
FALLBACK_CACHE = "FILE:/tmp/krb5cc_{uid}"
"""The library's own default, if the configured one can't be found out."""


_NO_DNS_NAMES = """\
[libdefaults]
  dns_canonicalize_hostname = false
  rdns = false
"""
"""Settings with which a login uses the name that the server was given, and never a name from DNS: a forged answer from
DNS could make us ask for the ticket of another computer, which could then pass for the server.
"""


class KdcPreference:
    """Settings of the Kerberos library in this process, with precedence over krb5.conf and DNS: names of servers, and
    the KDCs to ask.

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
        """Has the KDCs of a realm asked in this order. `hosts`: their names or addresses."""
        hosts = [host for host in hosts if _HOST.fullmatch(host)]
        if not hosts or not _HOST.fullmatch(realm):
            return  # what comes from the network must not become settings
        servers = "".join(f"    kdc = {host}\n    primary_kdc = {host}\n    master_kdc = {host}\n" for host in hosts)
        self._write(f"{_NO_DNS_NAMES}[realms]\n  {realm} = {{\n{servers}  }}\n")

    def _write(self, text: str) -> None:
        # One write over the whole content, as the library may be reading it.
        size = os.fstat(self._file).st_size
        os.pwrite(self._file, text.encode().ljust(size, b"\n"), 0)


def get_default_realm() -> str:
    """The default realm of krb5.conf; empty if there is none."""
    try:
        context = krb5.init_context()
        realm: bytes = krb5.get_default_realm(context)
    except krb5.Krb5Error:
        return ""
    return realm.decode("utf-8", "replace")


@functools.cache
def _find_cache_pattern() -> str:
    """The name of the default cache with `{uid}` for the user's id. Only root can find that out for other users."""
    if os.geteuid() != 0:
        return FALLBACK_CACHE
    try:
        with as_real_user(UNUSED_UID):
            name: bytes = krb5.cc_default_name(krb5.init_context())
    except (krb5.Krb5Error, OSError):
        return FALLBACK_CACHE
    return name.decode("utf-8", "surrogateescape").replace(str(UNUSED_UID), "{uid}")


def get_default_cache(uid: int) -> str:
    """The name of a user's default cache."""
    return _find_cache_pattern().replace("{uid}", str(uid))


def renew_if_due(credentials: KerberosCredentials, now: float) -> bool:
    """Renews the TGT if it is renewable and less than half of its lifetime is left. Returns whether it did.

    The new one replaces the content of the user's cache, as with kinit -R. `now` in seconds since 1970.

    Raises:
        krb5.Krb5Error: the KDC does not renew it, or there is none.
        CacheError: there is no cache, or it can't be used.
        OSError: we may not act as the user.
    """
    with as_user(credentials.account):
        context = krb5.init_context()
        copy = copy_cache(credentials)
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
    """Whether there is a default cache of the user of this process."""
    try:
        context = krb5.init_context()
        krb5.cc_get_principal(context, krb5.cc_default(context))
    except krb5.Krb5Error:
        return False
    return True


def find_machine_keytab() -> str:
    """The name of the default keytab, if this process can read it; else empty."""
    try:
        context = krb5.init_context()
        name = os.environ.get("KRB5_KTNAME") or krb5.kt_default_name(context).decode()
    except (krb5.Krb5Error, UnicodeDecodeError):
        return ""
    path = name.removeprefix("FILE:")
    return name if os.access(path, os.R_OK) else ""


def is_private(path: str) -> bool:
    """Whether neither group nor others may read a file; True if its mode can't be read."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True
    return not (stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH))

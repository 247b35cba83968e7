"""Which tickets a mount with sec=krb5 uses.

    keytab=  >  ccache=  >  a password that was given  >  the caches of cruid=, or of the user who mounts  >  the keytab
    of the computer

The last one is for root only, who mounts before a user is logged in. Nothing is asked for on a terminal.
"""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING

from dfsfs.cli.messages import cannot_read
from dfsfs.cli.secrets import find_given_login
from dfsfs.config.errors import ConfigError
from dfsfs.smb.auth import kerberos
from dfsfs.smb.auth.credentials import KerberosCredentials
from dfsfs.smb.auth.identity import Account

if TYPE_CHECKING:
    from dfsfs.cli.secrets import Surroundings
    from dfsfs.config.model import ParsedOptions


def kerberos_login(options: ParsedOptions, surroundings: Surroundings) -> KerberosCredentials:
    """Who logs in, and with what.

    Raises:
        ConfigError: an option names a user or a file that makes no sense.
        MountError: a file can't be read.
    """
    domain, user, password = find_given_login(options, surroundings)
    name = options.principal or _principal(user, domain)
    if options.keytab is not None:
        return KerberosCredentials(name, keytab=_keytab(options.keytab, surroundings))
    if options.ccache is not None:
        return KerberosCredentials(name, ccache=_cache(options.ccache), account=_account(options.ticket_user))
    if password:
        if not name:
            raise ConfigError("a password is given, and no user: username=NAME@REALM")
        return KerberosCredentials(name, password=password)
    account = _account(options.ticket_user)
    if account is not None:
        return KerberosCredentials(name, ccache=kerberos.get_default_cache(account.uid), account=account)
    if os.geteuid() == 0 and not kerberos.has_tickets() and (keytab := kerberos.find_machine_keytab()):
        return KerberosCredentials(name, keytab=keytab)
    return KerberosCredentials(name)


def _principal(user: str, domain: str) -> str:
    """A user as Kerberos names it: a realm is a domain in capitals. Empty: the user whose tickets are found."""
    if not user or "@" in user or "." not in domain:
        return user
    return f"{user}@{domain.upper()}"


def _account(user: int | str | None) -> Account | None:
    """The user of cruid=; None for the user who runs this."""
    if user is None:
        return None
    try:
        known = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except KeyError:
        if isinstance(user, int):
            return Account(user, user)
        raise ConfigError(f"option 'cruid={user}': this system has no user of that name") from None
    if known.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise ConfigError(f"option 'cruid={user}': only root may use the tickets of others")
    return Account(known.pw_uid, known.pw_gid)


def _cache(text: str) -> str:
    """The name of a cache; a file may be named without its type."""
    return text if re.match("[A-Z]+:", text) else f"FILE:{os.path.abspath(text)}"


def _keytab(text: str, surroundings: Surroundings) -> str:
    path = os.path.abspath(text.removeprefix("FILE:"))
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise cannot_read(f"the keytab {path}", error) from None
    if not kerberos.is_private(path):
        surroundings.warn(f"{path} has keys and can be read by others; chmod 600 {path}")
    return path

"""Credentials of the users of a mount with option multiuser: their own tickets, or logins that they have stored."""

from __future__ import annotations

import errno
import pwd
from typing import TYPE_CHECKING

from dfsfs.errors import PosixError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth import kerberos, keyring
from dfsfs.smb.auth.callers import named_cache, root_seen_by
from dfsfs.smb.auth.credentials import KerberosCredentials
from dfsfs.smb.auth.identity import Account, as_user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.caller import Caller
    from dfsfs.smb.auth.credentials import Login


def find_tickets(who: Caller) -> Login:
    """The ticket cache that the user's process names in KRB5CCNAME, or else the user's default one, as the process sees
    it.

    Raises:
        ForeignCaller: the process is in a container.
        SmbError: LOGON_FAILURE, the cache that it names can't be used.
    """
    root = root_seen_by(who)
    ccache = named_cache(who) or kerberos.get_default_cache(who.uid)
    return KerberosCredentials(ccache=ccache, account=Account(who.uid, who.gid), root=root)


def stored_logins(names: Sequence[str]) -> Callable[[Caller], Login]:
    """Makes the function that finds the login which a user has stored for one of `names`.

    `names`: what the configuration calls the mount's domain or server. Names that servers have given don't count: a
    server could choose by them which password it is sent.
    """

    def find(who: Caller) -> Login:
        """The stored login of a user. Raises: SmbError: there is none; ForeignCaller: the process is in a container."""
        root_seen_by(who)
        try:
            with as_user(Account(who.uid, who.gid)):
                for name in names:
                    if (login := keyring.load(name)) is not None:
                        return login
        except OSError as error:
            raise PosixError(error.errno or errno.EIO, f"reading stored logins: {error.strerror}") from None
        text = f"finding a login of {_name_of(who.uid)} (`dfsfs login //{names[0]}` stores one)"
        raise SmbError(NtStatus.LOGON_FAILURE, text)

    return find


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"

"""What is asked of the process of a user who is to be logged in: whether it lives on this computer, which ticket cache
it names, and through whose eyes that name is to be read.

The kernel knows users by numbers. In a container somebody else may have alice's number, and must not get her tickets
for it. So a process is refused that has another root folder or another user namespace than dfsfs: the numbers of a
container may mean others, and with those that a user namespace hands out one person is as many users as he likes. What
has only a mount namespace of its own (a service with PrivateTmp=) is of this computer, and its caches are looked for
where it would find them itself.

The environment of a process is what whoever started it wrote, who may be another user (sudo). It names no more than
a cache of that very user: a file that is the user's (ticketcaches.py), or what the kernel or KCM keep for the user's
number.

All of it may wait for the caller: only in threads.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from dfsfs.errors import ForeignCaller, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.ticketcaches import RootFolder

if TYPE_CHECKING:
    from dfsfs.acting import Caller

ENVIRONMENT_MAX = 256 * 1024
"""Bytes of an environment that are looked at."""
_FILES = re.compile(r"(FILE:|DIR::?)(/.*)", re.DOTALL)


def root_seen_by(who: Caller) -> RootFolder | None:
    """Where the caller's paths begin, if they may lead elsewhere than ours; None if not, or if the process has ended.

    Raises:
        ForeignCaller: it is in a container, or can't be seen.
    """
    if who.pid == 0:
        raise ForeignCaller(who.pid, who.uid, "it can't be seen from where dfsfs runs")
    try:
        if not _shares(who.pid, "ns/user"):
            raise ForeignCaller(who.pid, who.uid, "it has a user namespace of its own")
        if not _shares(who.pid, "root"):
            raise ForeignCaller(who.pid, who.uid, "it has a root folder of its own")
        return None if _shares(who.pid, "ns/mnt") else RootFolder(f"/proc/{who.pid}/root")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise ForeignCaller(who.pid, who.uid, f"it can't be looked at: {error.strerror}") from None


def named_cache(who: Caller) -> str:
    """The ticket cache that the environment of the caller names, KRB5CCNAME; empty if it names none, or if the process
    is not of that user (set-user-ID) or has ended.

    Raises:
        SmbError: LOGON_FAILURE, it is of a kind of which nobody knows whose it is.
    """
    try:
        with open(f"/proc/{who.pid}/environ", "rb") as file:
            if os.fstat(file.fileno()).st_uid != who.uid:
                return ""
            environment = file.read(ENVIRONMENT_MAX)
    except OSError:
        return ""
    for setting in environment.split(b"\0"):
        if setting.startswith(b"KRB5CCNAME="):
            return usable_cache(setting.partition(b"=")[2].decode("utf-8", "surrogateescape"), who.uid)
    return ""


def usable_cache(name: str, uid: int) -> str:
    """A cache as a user names it, with its kind, if it is of a kind that belongs to somebody.

    MEMORY is this very process's, and has the tickets of others. Of the keyrings only the persistent one is the user's:
    `session`, `process` and `thread` are this process's, and `user` is that of the real user, which is root
    (identity.py).

    Raises:
        SmbError: LOGON_FAILURE, it is of another kind.
    """
    if not name or name.startswith("/"):
        return f"FILE:{name}" if name else ""
    keyring = f"KEYRING:persistent:{uid}"
    if _FILES.fullmatch(name) or name == keyring or name.startswith(("KCM:", f"{keyring}:")):
        return name
    raise SmbError(NtStatus.LOGON_FAILURE, f"using the ticket cache that KRB5CCNAME names ({name!r}) for user {uid}")


def has_our_users(pid: int) -> bool:
    """Whether a process, or thread, is in the user namespace of dfsfs. Raises OSError."""
    return _shares(pid, "ns/user")


def _shares(pid: int, what: str) -> bool:
    """Whether a process has the same namespace, or root, as this one."""
    theirs, ours = (os.stat(f"/proc/{process}/{what}") for process in (pid, "self"))
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)

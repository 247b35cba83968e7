"""What is read of the process of a user who is to be logged in: whether it is in a container, the ticket cache that its
environment names, and the mount namespace in which that name is to be looked up.

The kernel identifies users by ids. In a container another person may have alice's id, and must not get her tickets. So
a process is refused that has another root directory or another user namespace than dfsfs: the ids of a container may
belong to others, and in a user namespace one person may use many ids. A process that has only a mount namespace of its
own (a service with PrivateTmp=) is accepted, and its caches are looked up in that namespace.

The environment of a process was written by the process that started it, possibly of another user (sudo). It can only
name a cache of the user: a file that belongs to the user (ticketcaches.py), or a cache that the kernel or KCM keep for
the user's id.

All of this may block on the caller's files and memory: to be called only in threads.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from dfsfs.errors import ForeignCaller, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.ticketcaches import RootDirectory

if TYPE_CHECKING:
    from dfsfs.caller import Caller

ENVIRONMENT_MAX = 256 * 1024
"""Bytes of an environment that are read."""
_FILES = re.compile(r"(FILE:|DIR::?)(/.*)", re.DOTALL)


def open_caller_root(who: Caller) -> RootDirectory | None:
    """Opens the root directory of the caller's mount namespace; None if that is ours, or if the process has ended.

    Raises:
        ForeignCaller: the process is in a container, or its namespaces can't be read.
    """
    if who.pid == 0:
        raise ForeignCaller(who.pid, who.uid, "it can't be seen from where dfsfs runs")
    try:
        if not _shares(who.pid, "ns/user"):
            raise ForeignCaller(who.pid, who.uid, "it has a user namespace of its own")
        if not _shares(who.pid, "root"):
            raise ForeignCaller(who.pid, who.uid, "it has a root folder of its own")
        return None if _shares(who.pid, "ns/mnt") else RootDirectory(f"/proc/{who.pid}/root")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise ForeignCaller(who.pid, who.uid, f"it can't be looked at: {error.strerror}") from None


def read_cache_name(who: Caller) -> str:
    """The ticket cache in KRB5CCNAME of the caller's environment; empty if there is none, or if the process does not
    belong to that user (set-user-ID) or has ended.

    Raises:
        SmbError: LOGON_FAILURE, see check_cache_name.
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
            return check_cache_name(setting.partition(b"=")[2].decode("utf-8", "surrogateescape"), who.uid)
    return ""


def check_cache_name(name: str, uid: int) -> str:
    """Returns the name of a cache with its kind, if caches of that kind belong to one user.

    MEMORY is in this process, and has the tickets of other users. Of the keyrings only the persistent one is the
    user's: `session`, `process` and `thread` are those of this process, and `user` is that of the real user, which is
    root (identity.py).

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
    """Whether a process, or thread, is in the user namespace of dfsfs. Raises: OSError: it has ended, or may not be
    read.
    """
    return _shares(pid, "ns/user")


def _shares(pid: int, what: str) -> bool:
    """Whether a process has the same namespace, or root, as this one."""
    theirs, ours = (os.stat(f"/proc/{process}/{what}") for process in (pid, "self"))
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)

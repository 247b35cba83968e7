"""Ticket caches in files of users (FILE, DIR), copied before the Kerberos library reads them.

A name that a user gives may lead to a pipe, to a device, to what is open in this very process (/proc/self/fd) or to
the cache of somebody else; and the library opens it as it is and waits for locks on it. So a cache is opened here,
once, as the user (identity.py) and without waiting, has to be a regular file that belongs to the user, and is copied to
a file in memory, which the library uses in its place. Tickets that it gets there are not kept in the user's cache.

Only in threads, all the same: a file can be on a server that does not answer.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.smb.auth.credentials import KerberosCredentials

CACHE_MAX = 1024 * 1024
"""Bytes of a cache. One with a hundred tickets has 200 KiB."""
_FIRST = "tkt"
"""The cache of a DIR collection that is used unless its file `primary` names another."""


class CacheError(Exception):
    """A ticket cache can't be used. The text says which and why."""


class RootFolder:
    """The root of the paths of a process that has a mount namespace of its own, held open.

    Closed when nobody has it any more: a thread that is stuck may use its number after everybody else has gone.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        """Raises: OSError: there is no such process, or we may not."""
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY)

    @property
    def path(self) -> str:
        """What to put in front of a path of that process."""
        return f"/proc/self/fd/{self._fd}"

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


class Copy:
    """A copy of a cache, in memory. `name` is what the Kerberos library calls it, for as long as this object is there;
    `original` what it calls the file that was copied.
    """

    __slots__ = ("_fd", "original")

    def __init__(self, content: bytes, original: str) -> None:
        self.original = original
        self._fd = os.memfd_create("tickets")
        os.fchmod(self._fd, stat.S_IRUSR | stat.S_IWUSR)  # of the user that this thread acts as
        os.pwrite(self._fd, content, 0)

    @property
    def name(self) -> str:
        return f"FILE:/proc/self/fd/{self._fd}"

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


def copied(credentials: KerberosCredentials) -> Copy | None:
    """A copy of the cache of a user of this computer, as whom this thread acts; None if it is in no file, or if it is
    that of whoever runs this process, who has named it to himself.

    Raises:
        CacheError: there is none, or it can't be used.
    """
    kind, _, place = credentials.ccache.partition(":")
    if credentials.account is None or kind not in ("FILE", "DIR"):
        return None
    root = credentials.root.path if credentials.root else ""
    path = place if kind == "FILE" else _chosen(root, place)
    return Copy(_content(root, path), f"FILE:{root}{path}")


def _chosen(root: str, place: str) -> str:
    """The file that a DIR cache is about: the primary one of a collection (`/folder`), or what is named (`:/file`)."""
    if place.startswith(":"):
        return place[1:]
    try:
        name = _content(root, f"{place}/primary").decode("ascii", "replace").split("\n")[0]
    except CacheError:
        name = _FIRST
    if not re.fullmatch(rf"{_FIRST}[^/\0]*", name):
        raise CacheError(f"{place}/primary names no ticket cache")
    return f"{place}/{name}"


def _content(root: str, path: str) -> bytes:
    """The content of a regular file of the user that this thread acts as.

    It is looked at before it is opened: to open a device does something, and to open a pipe waits.
    """
    try:
        found = os.open(root + path, os.O_PATH)
        try:
            known = os.fstat(found)
            if not stat.S_ISREG(known.st_mode):
                raise CacheError(f"the ticket cache {path} is no regular file")
            if known.st_uid != os.geteuid():
                raise CacheError(f"the ticket cache {path} belongs to another user")
            with open(f"/proc/self/fd/{found}", "rb", opener=_without_waiting) as file:
                content = file.read(CACHE_MAX + 1)
        finally:
            os.close(found)
    except FileNotFoundError:
        raise CacheError(f"No credentials cache found (filename: {path})") from None
    except (OSError, ValueError) as error:
        raise CacheError(f"the ticket cache {path} can't be read: {error}") from None
    if len(content) > CACHE_MAX:
        raise CacheError(f"the ticket cache {path} has more than {CACHE_MAX} bytes")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)

"""Ticket caches in files of users (FILE, DIR), copied before the Kerberos library reads them.

A name from a user may lead to a pipe, to a device, to an open file of this process (/proc/self/fd) or to the cache of
another user; the library would open it all the same, and wait for locks on it. So a cache is opened here, once, as the
user (identity.py) and without waiting. It has to be a regular file of the user, and is copied to a file in memory,
which the library uses instead. Tickets that the library adds to the copy are not stored in the user's cache.

To be called only in threads all the same: the file may be on a server that does not answer.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.smb.auth.credentials import KerberosCredentials

CACHE_MAX = 1024 * 1024
"""Bytes of the largest cache that is accepted. One with a hundred tickets has 200 KiB."""
_DEFAULT_CACHE_FILE = "tkt"
"""The file of a DIR collection that is used if there is no file `primary`."""


class CacheError(Exception):
    """A ticket cache can't be used. The message says which and why."""


class RootDirectory:
    """The root directory of a process with a mount namespace of its own, held open.

    It is closed with the last reference, since a thread that is stuck may still use the descriptor.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        """Raises: OSError: there is no such process, or it may not be opened."""
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY)

    @property
    def path(self) -> str:
        """The prefix for absolute paths of that process."""
        return f"/proc/self/fd/{self._fd}"

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


class CacheCopy:
    """A copy of a cache in memory, which exists as long as this object. `name` and `original` are the names of the copy
    and of the copied cache for the Kerberos library.
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


def copy_cache(credentials: KerberosCredentials) -> CacheCopy | None:
    """Copies the cache of `credentials.account`, as whom this thread has to run. None if the cache is not in a file, or
    if there is no account: then the user of this process has named it.

    Raises:
        CacheError: there is none, or it can't be used.
    """
    kind, _, place = credentials.ccache.partition(":")
    if credentials.account is None or kind not in ("FILE", "DIR"):
        return None
    root = credentials.root.path if credentials.root else ""
    path = place if kind == "FILE" else _find_cache_file(root, place)
    return CacheCopy(_read_cache(root, path), f"FILE:{root}{path}")


def _find_cache_file(root: str, place: str) -> str:
    """The file of a DIR cache: the primary one of a collection (`/directory`), or the given one (`:/file`)."""
    if place.startswith(":"):
        return place[1:]
    try:
        name = _read_cache(root, f"{place}/primary").decode("ascii", "replace").split("\n")[0]
    except CacheError:
        name = _DEFAULT_CACHE_FILE
    if not re.fullmatch(rf"{_DEFAULT_CACHE_FILE}[^/\0]*", name):
        raise CacheError(f"{place}/primary names no ticket cache")
    return f"{place}/{name}"


def _read_cache(root: str, path: str) -> bytes:
    """The content of a regular file of the thread's effective user.

    Its type is checked before it is opened: opening a device may have effects, opening a pipe waits.

    Raises:
        CacheError: there is none, or it can't be used.
    """
    try:
        found = os.open(root + path, os.O_PATH)
        try:
            known = os.fstat(found)
            if not stat.S_ISREG(known.st_mode):
                raise CacheError(f"the ticket cache {path} is no regular file")
            if known.st_uid != os.geteuid():
                raise CacheError(f"the ticket cache {path} belongs to another user")
            with open(f"/proc/self/fd/{found}", "rb", opener=_open_nonblocking) as file:
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


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)

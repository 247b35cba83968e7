"""RenameDetector: whether the lookup of a name is part of a rename(2) that changes the case of a file's name.

`mv a A` has to work where names differing in case lead to the same file. But the kernel looks the new name up first,
and when that leads to the file that is renamed, it takes the two names for hard links and does nothing. So the new name
of such a rename must not be found. A FUSE request does not say what it is for; but the calling thread, which is waiting
in its system call, can be inspected. That is done only for names that differ from the existing one in case alone.

The caller controls its memory, and may have mapped a file on this very mount: then reading the memory waits for the
event loop. So it is read in a thread (dfsfs/threads.py), for at most LOOK seconds. Most callers are not in rename(2),
which the number of their system call says, and of these no memory is read. In a user namespace one person has thousands
of user ids, so all users in such namespaces share one quota of threads.

If the caller can't be inspected (another PID namespace, io_uring, an architecture that is not listed, a mount that is
not root's on a system where Yama forbids it, all threads of that user stuck), the rename does nothing, as on other file
systems of this kind. If it is known to be a rename, and its names can't be read in time, it fails with EBUSY and
changes nothing: reading the names of an honest program does not take that long.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from dfsfs.errors import PosixError
from dfsfs.smb.auth.callers import has_our_users
from dfsfs.threads import Threads

LOOK = 0.1
"""Seconds that the inspection of a caller may take. It takes 0.0001."""
EACH, TOTAL = 2, 16
"""Threads that inspect callers of one user, and of all users, at most."""
FOREIGN = -1
"""The user id that all users of other user namespaces count as."""
_RENAMES: dict[str, dict[int, tuple[int, int]]] = {
    # Number of the system call -> indexes of its arguments that are the old and the new path: rename, renameat,
    # renameat2.
    "x86_64": {82: (0, 1), 264: (1, 3), 316: (1, 3)},
    "aarch64": {38: (1, 3), 276: (1, 3)},
}
_PATH_MAX = 4096
_PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class RenameDetector:
    """Inspects callers, in threads."""

    def __init__(self) -> None:
        self._threads = Threads(EACH, TOTAL)
        self._counting = Threads(EACH, TOTAL)
        """Threads for `get_quota_user`, which does not get stuck."""

    async def renames_to(self, uid: int, thread: int, old: bytes, new: bytes) -> bool:
        """Whether a thread is in rename(2), renameat(2) or renameat2(2), from the name `old` to the name `new`.

        Raises:
            PosixError: EBUSY, it is in one of them, and its names can't be read in time.
        """
        if thread == 0:
            return False  # it is in another PID namespace
        look = _Look(thread)
        try:
            counted = await self._counting.run(uid, partial(get_quota_user, uid, thread), LOOK)
            return await self._threads.run(counted, partial(look.see, old, new), LOOK)
        except trio.TooSlowError:
            if not look.in_rename:
                return False
        raise PosixError(errno.EBUSY, f"the names that thread {thread} renames can't be read")


def get_quota_user(uid: int, thread: int) -> int:
    """The user whose quota of threads is used to inspect a thread of the user `uid`."""
    try:
        return uid if has_our_users(thread) else FOREIGN
    except OSError:
        return FOREIGN  # it has ended, or can't be inspected


@dataclass(slots=True, eq=False)
class _Look:
    """The inspection of one thread. `see` may never return."""

    thread: int
    in_rename: bool = False

    def see(self, old: bytes, new: bytes) -> bool:
        try:
            words = Path(f"/proc/{self.thread}/syscall").read_text(encoding="ascii").split()
            arguments = _RENAMES.get(platform.machine(), {}).get(int(words[0]))
            if arguments is None:
                return False
            self.in_rename = True
            paths = [_string_at(self.thread, int(words[1 + index], 16)) for index in arguments]
        except (OSError, ValueError, IndexError):
            return False
        return [_last(path) for path in paths] == [old, new]


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _string_at(thread: int, address: int) -> bytes:
    """Reads a string in a thread's memory. It may end shortly before a page that can't be read.

    It is read by process_vm_readv(2), as a thread that waits for a page in that can be killed. One that waits in a read
    of /proc/PID/mem can't be, and the process of such a thread keeps its mount, which the page may come from.

    Raises:
        OSError: the memory can't be read.
    """
    text = b""
    page = ctypes.create_string_buffer(_PAGE)
    while len(text) < _PATH_MAX and b"\0" not in text:
        at = address + len(text)
        local, remote = (_Vector(start, _PAGE - at % _PAGE) for start in (ctypes.addressof(page), at))
        got = _libc.process_vm_readv(
            thread, ctypes.byref(local), ctypes.c_ulong(1), ctypes.byref(remote), ctypes.c_ulong(1), ctypes.c_ulong(0)
        )
        if got <= 0:
            failure = ctypes.get_errno() or errno.EFAULT
            raise OSError(failure, os.strerror(failure))
        text += page.raw[:got]
    return text.split(b"\0")[0]


def _last(path: bytes) -> bytes:
    return path.rstrip(b"/").rsplit(b"/", 1)[-1]

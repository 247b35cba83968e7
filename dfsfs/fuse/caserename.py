"""What a program is about: whether the lookup of a name is for rename(2) to give something that name.

`mv a A` has to work where names are the same without regard to case. But the kernel looks the new name up first, and
when that leads to the file that is renamed, it takes the two names for hard links and does nothing. So the new name of
such a rename must not be found. Nothing in a FUSE request says what it is for; the caller, who is waiting in the system
call, can be looked at. That is done only for names that differ from what is there in nothing but case.

A caller's memory belongs to the caller, who may have put a page of a file on this very mount there: to read it is to
wait for the loop. So a thread looks (dfsfs/threads.py), and no longer than LOOK seconds. Most callers are not in
rename(2), which the number of their system call says, and of these no memory is read. A user namespace gives one person
numbers by the thousand, so all that are in one count as a single user.

If the caller can't be looked at (another PID namespace, io_uring, an architecture that is not listed, a mount that is
not root's on a system where Yama forbids it, all threads of that user stuck in earlier looks), the rename does what it
does on other file systems of this kind: nothing. If it is known to be a rename, and its names can't be read in time, it
fails with EBUSY: no honest program's name takes that long, and nothing is changed.
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
"""Seconds that a look at a caller may take. It takes 0.0001."""
EACH, TOTAL = 2, 16
"""Threads that look: for one user, and for all."""
FOREIGN = -1
"""Stands for the users of all other user namespaces."""
_RENAMES: dict[str, dict[int, tuple[int, int]]] = {
    # Number of the system call -> which of its arguments are the old and the new path: rename, renameat, renameat2.
    "x86_64": {82: (0, 1), 264: (1, 3), 316: (1, 3)},
    "aarch64": {38: (1, 3), 276: (1, 3)},
}
_PATH_MAX = 4096
_PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class Callers:
    """Looks at callers, in threads."""

    def __init__(self) -> None:
        self._threads = Threads(EACH, TOTAL)
        self._counting = Threads(EACH, TOTAL)
        """Others, as what is done in them does not get stuck."""

    async def renames_to(self, uid: int, thread: int, old: bytes, new: bytes) -> bool:
        """Whether a thread is in rename(2), or a relative of it, of the name `old` to the name `new`.

        Raises:
            PosixError: EBUSY, it is in one, and of which names can't be read in time.
        """
        if thread == 0:
            return False  # it can't be seen from here
        look = _Look(thread)
        try:
            counted = await self._counting.run(uid, partial(counted_as, uid, thread), LOOK)
            return await self._threads.run(counted, partial(look.see, old, new), LOOK)
        except trio.TooSlowError:
            if not look.in_rename:
                return False
        raise PosixError(errno.EBUSY, f"the names that thread {thread} renames can't be read")


def counted_as(uid: int, thread: int) -> int:
    """Whose threads are taken for a look at a thread."""
    try:
        return uid if has_our_users(thread) else FOREIGN
    except OSError:
        return FOREIGN  # it has ended, or can't be looked at


@dataclass(slots=True, eq=False)
class _Look:
    """One look at a thread; its functions may wait for ever."""

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
    """A string in a thread's memory. It may end shortly before a page that can't be read.

    By process_vm_readv(2), because a thread that waits for a page in there can be killed. One that waits in a read of
    /proc/PID/mem can't be, and a process whose thread can't be killed keeps its mount, which the page may come from.
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

"""What a program is about: whether the lookup of a name is for rename(2) to give something that name.

`mv a A` has to work where names are the same without regard to case. But the kernel looks the new name up first, and
when that leads to the file that is renamed, it takes the two names for hard links and does nothing. So the new name of
such a rename must not be found. Nothing in a FUSE request says what it is for; the caller, who is waiting in the system
call, can be looked at. That is done only for names that differ from what is there in nothing but case.

If the caller can't be looked at (another PID namespace, io_uring, an architecture that is not listed, a mount that is
not root's on a system where Yama forbids it), the rename does what it does on other file systems of this kind: nothing.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

_RENAMES: dict[str, dict[int, tuple[int, int]]] = {
    # Number of the system call -> which of its arguments are the old and the new path: rename, renameat, renameat2.
    "x86_64": {82: (0, 1), 264: (1, 3), 316: (1, 3)},
    "aarch64": {38: (1, 3), 276: (1, 3)},
}
_PATH_MAX = 4096
_PAGE = 4096


def renames_to(thread: int, old: bytes, new: bytes) -> bool:
    """Whether a thread is in rename(2), or a relative of it, of the name `old` to the name `new`."""
    try:
        words = Path(f"/proc/{thread}/syscall").read_text(encoding="ascii").split()
        arguments = _RENAMES.get(platform.machine(), {}).get(int(words[0]))
        if arguments is None:
            return False
        paths = [_string_at(thread, int(words[1 + index], 16)) for index in arguments]
    except (OSError, ValueError, IndexError):
        return False
    return [_last(path) for path in paths] == [old, new]


def _string_at(thread: int, address: int) -> bytes:
    """A string in a thread's memory. It may end shortly before a page that can't be read."""
    text = b""
    memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY)
    try:
        while len(text) < _PATH_MAX and b"\0" not in text:
            at = address + len(text)
            text += os.pread(memory, _PAGE - at % _PAGE, at)
    finally:
        os.close(memory)
    return text.split(b"\0")[0]


def _last(path: bytes) -> bytes:
    return path.rstrip(b"/").rsplit(b"/", 1)[-1]

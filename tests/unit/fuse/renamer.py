"""A program that renames, and does something to the page with the new name while it waits for that.

`python -m tests.unit.fuse.renamer OLD NEW FILE`, where FILE is what to put in the page's place: a file, or `-` for a
page that never comes (userfaultfd(2), which takes root). Says `renaming`; waits for a line on standard input; says
`swapped`; then with which errno rename(2) has come back, by name, or `done`. It ends with its standard input.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
import sys
import threading

PAGE = 4096
MAP_FIXED = 0x10
_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_UFFDIO_API, _UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
_REGISTER_MISSING = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


def mapped(address: int | None, protection: int, flags: int, file: int = -1) -> int:
    found = _libc.mmap(address, PAGE, protection, mmap.MAP_PRIVATE | flags, file, 0)
    if found == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return int(found)


def take_away(page: int) -> None:
    """Makes `page` one that whoever touches it waits for; nobody ever serves it."""
    handler: int = _libc.syscall(ctypes.c_long(_USERFAULTFD[platform.machine()]), ctypes.c_int(os.O_CLOEXEC))
    if handler < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    fcntl.ioctl(handler, _UFFDIO_API, struct.pack("=3Q", 0xAA, 0, 0))
    mapped(page, mmap.PROT_READ | mmap.PROT_WRITE, MAP_FIXED | mmap.MAP_ANONYMOUS)
    fcntl.ioctl(handler, _UFFDIO_REGISTER, struct.pack("=4Q", page, PAGE, _REGISTER_MISSING, 0))


def main(old: str, new: str, file: str) -> None:
    # Not later: the folder of the names is locked while the rename is under way.
    opened = -1 if file == "-" else os.open(file, os.O_RDONLY)
    page = mapped(None, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_ANONYMOUS)
    ctypes.memmove(page, new.encode() + b"\0", len(new) + 1)

    def rename() -> None:
        result = _libc.rename(old.encode(), ctypes.c_void_p(page))
        print("done" if result == 0 else errno.errorcode[ctypes.get_errno()], flush=True)

    waiting = threading.Thread(target=rename)
    print("renaming", flush=True)
    waiting.start()
    sys.stdin.readline()
    if opened < 0:
        take_away(page)
    else:
        mapped(page, mmap.PROT_READ, MAP_FIXED, opened)
    print("swapped", flush=True)
    waiting.join()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])

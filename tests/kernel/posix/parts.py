"""Cases of the calls on parts of files, on locks and on what is asked of a descriptor, which loop=pyfuse3 has not."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.kernel.posix.harness import case, make, outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEEP, PUNCH, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
"""The modes of fallocate(2), without FALLOC_FL_."""
LENGTH = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(file: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(file, mode, ctypes.c_int64(offset), ctypes.c_int64(length)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def filled(top: Path, flags: int = os.O_RDWR) -> int:
    """A descriptor of a file of LENGTH bytes."""
    (top / "file").write_bytes(b"content of the file, and so on. " * (LENGTH // 32))
    return os.open(top / "file", flags)


# -- fallocate --------------------------------------------------------------------------------------------------------

for _mode, _about in (
    (0, "allocate"),
    (PUNCH | KEEP, "punch a hole"),
    (ZERO, "zero a range"),
    (ZERO | KEEP, "zero a range, keep the size"),
):
    for _offset, _count in ((0, 4096), (4096, 8192), (1000, 500), (LENGTH - 100, 300), (LENGTH + 5000, 4096)):

        @case("fallocate", f"{_about}: {_count} bytes from {_offset} on")
        def _(top: Path, mode: int = _mode, offset: int = _offset, count: int = _count) -> Any:
            file = filled(top)
            done = outcome(lambda: fallocate(file, mode, offset, count))
            inside, size = os.pread(file, 2 * LENGTH, 0), os.fstat(file).st_size
            os.close(file)
            return done, size, inside == (top / "file").read_bytes(), hash(inside)


for _mode, _about in (
    (COLLAPSE, "collapse a range"),
    (INSERT, "insert a range"),
    (PUNCH, "punch without keeping the size"),
    (1 << 20, "a mode that there is not"),
):

    @case("fallocate", f"errors: {_about}")
    def _(top: Path, mode: int = _mode) -> Any:
        file = filled(top)
        done = outcome(lambda: fallocate(file, mode, 4096, 4096))
        os.close(file)
        return done, (top / "file").stat().st_size


@case("fallocate", "errors: EINVAL for a length of 0, EBADF where nothing may be written")
def _(top: Path) -> Any:
    file = filled(top)
    reading = os.open(top / "file", os.O_RDONLY)
    results = [
        outcome(lambda: fallocate(file, 0, 0, 0)),
        outcome(lambda: fallocate(file, 0, -1, 10)),
        outcome(lambda: fallocate(reading, 0, 0, 10)),
        outcome(lambda: fallocate(reading, PUNCH | KEEP, 0, 10)),
    ]
    os.close(file)
    os.close(reading)
    return results


# -- lseek ------------------------------------------------------------------------------------------------------------


@case("lseek", "SEEK_DATA and SEEK_HOLE of a file without holes")
def _(top: Path) -> Any:
    file = filled(top)
    found = [
        outcome(partial(os.lseek, file, at, how))
        for at in (0, 10, LENGTH - 1, LENGTH, LENGTH + 1, -1)
        for how in (os.SEEK_DATA, os.SEEK_HOLE)
    ]
    os.close(file)
    return found


@case("lseek", "a hole that was punched is found")
def _(top: Path) -> Any:
    file = filled(top)
    fallocate(file, PUNCH | KEEP, 16384, 16384)
    found = [
        outcome(partial(os.lseek, file, at, how))
        for at in (0, 16384, 20000, 32768)
        for how in (os.SEEK_DATA, os.SEEK_HOLE)
    ]
    os.close(file)
    return found


@case("lseek", "what was written a moment ago is data")
def _(top: Path) -> Any:
    file = filled(top)
    fallocate(file, PUNCH | KEEP, 0, LENGTH)
    os.pwrite(file, b"x" * 4096, 8192)
    found = [os.lseek(file, 0, os.SEEK_DATA), os.lseek(file, 8192, os.SEEK_HOLE)]
    os.close(file)
    return found


# -- copy_file_range --------------------------------------------------------------------------------------------------


def copied(top: Path, act: Callable[[int, int], Any]) -> Any:
    """What an action on two descriptors, of a full file and of an empty one, returns, and what the second has then."""
    source = filled(top)
    target = os.open(top / "target", os.O_CREAT | os.O_RDWR)
    done = outcome(lambda: act(source, target))
    os.close(source)
    os.close(target)
    return done, hash((top / "target").read_bytes()), (top / "target").stat().st_size


for _about, _act in {
    "all": lambda source, target: os.copy_file_range(source, target, LENGTH),
    "a part, to an offset": lambda source, target: os.copy_file_range(source, target, 1000, 500, 2000),
    "more than there is": lambda source, target: os.copy_file_range(source, target, 10 * LENGTH, LENGTH - 10),
    "from the end": lambda source, target: os.copy_file_range(source, target, 10, LENGTH),
    "nothing": lambda source, target: os.copy_file_range(source, target, 0),
    "what was written a moment ago": lambda source, target: (
        os.pwrite(source, b"new", 0),
        os.copy_file_range(source, target, LENGTH, 0, 0),
    ),
    "over what is there": lambda source, target: (
        os.pwrite(target, b"old" * 1000, 0),
        os.copy_file_range(source, target, 300, 0, 500),
        os.pread(target, 10_000, 0),
    ),
    "EINVAL: onto itself": lambda source, _: os.copy_file_range(source, source, 100, 0, 50),
    "within a file": lambda source, _: (os.copy_file_range(source, source, 100, 0, 200), os.pread(source, 1000, 0)),
}.items():
    case("copy_file_range", _about)(partial(lambda act, top: copied(top, act), _act))


@case("copy_file_range", "EBADF: nothing may be read, or written")
def _(top: Path) -> Any:
    reading = filled(top, os.O_RDONLY)
    writing = os.open(top / "target", os.O_CREAT | os.O_WRONLY)
    results = [
        outcome(lambda: os.copy_file_range(writing, reading, 10)),
        outcome(lambda: os.copy_file_range(reading, reading, 10, 0, 100)),
        outcome(lambda: os.copy_file_range(writing, writing, 10, 0, 100)),
    ]
    os.close(reading)
    os.close(writing)
    return results


@case("copy_file_range", "EISDIR: a folder")
def _(top: Path) -> Any:
    file, folder = filled(top), os.open(top, os.O_RDONLY)
    done = outcome(lambda: os.copy_file_range(folder, file, 10))
    os.close(file)
    os.close(folder)
    return done


# -- locks ------------------------------------------------------------------------------------------------------------

PROGRAM = """
import fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_RDWR)
for number in range(0, 60, 10):
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, number)
        print("free", end=" ")
    except OSError as error:
        print(error.errno, end=" ")
asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
print(kind, start, length, pid == os.getppid(), end=" ")
try:
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_SH | fcntl.LOCK_NB)
    print("shared")
except OSError as error:
    print(error.errno)
"""


def seen_by_another(path: Path) -> str:
    """Which of six ranges of ten bytes another program may lock, what F_GETLK tells it, and how flock ends."""
    done = subprocess.run(
        ["python3", "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def _lock(kind: int, *ranges: tuple[int, int]) -> Callable[[int], None]:
    def lock(file: int) -> None:
        for length, start in ranges:
            fcntl.lockf(file, kind, length, start)

    return lock


_PLACES: dict[str, tuple[Callable[[int], Any], ...]] = {
    "a range": (_lock(fcntl.LOCK_EX, (10, 20)),),
    "a shared range": (_lock(fcntl.LOCK_SH, (10, 20)),),
    "the whole file": (_lock(fcntl.LOCK_EX, (0, 0)),),
    "a hole in a range": (_lock(fcntl.LOCK_EX, (60, 0)), _lock(fcntl.LOCK_UN, (20, 20))),
    "ranges that join": (_lock(fcntl.LOCK_EX, (10, 0), (10, 10), (10, 30)),),
    "a part that is made shared": (_lock(fcntl.LOCK_EX, (60, 0)), _lock(fcntl.LOCK_SH, (20, 20))),
    "flock, exclusive": (lambda file: fcntl.flock(file, fcntl.LOCK_EX),),
    "flock, shared": (lambda file: fcntl.flock(file, fcntl.LOCK_SH),),
    "flock, given back": (lambda file: fcntl.flock(file, fcntl.LOCK_EX), lambda file: fcntl.flock(file, fcntl.LOCK_UN)),
    "of an open file description": (
        lambda file: fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 20, 10, 0)),
    ),
}
for _about, _acts in _PLACES.items():

    @case("lock", f"{_about}: while it is open, and after close")
    def _(top: Path, acts: tuple[Callable[[int], Any], ...] = _acts) -> Any:
        make(top, "file")
        file = os.open(top / "file", os.O_RDWR)
        for act in acts:
            act(file)
        before = seen_by_another(top / "file")
        os.close(file)
        return before.replace(" False", " pid"), seen_by_another(top / "file")


@case("lock", "any close of the file by the process ends its ranges")
def _(top: Path) -> Any:
    make(top, "file")
    file = os.open(top / "file", os.O_RDWR)
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
    os.close(os.open(top / "file", os.O_RDONLY))
    after = seen_by_another(top / "file")
    os.close(file)
    return after


@case("lock", "EBADF: the wrong way to open it")
def _(top: Path) -> Any:
    make(top, "file")
    reading, writing = os.open(top / "file", os.O_RDONLY), os.open(top / "file", os.O_WRONLY)
    results = [
        outcome(lambda: fcntl.lockf(reading, fcntl.LOCK_EX | fcntl.LOCK_NB)),
        outcome(lambda: fcntl.lockf(writing, fcntl.LOCK_SH | fcntl.LOCK_NB)),
    ]
    os.close(reading)
    os.close(writing)
    return results


# -- what is asked of a descriptor ------------------------------------------------------------------------------------


@case("statx", "a birth time that a write does not move")
def _(top: Path) -> Any:
    make(top, "file")
    born = [subprocess.check_output(["stat", "-c", "%W", str(top / "file")])]
    (top / "file").write_text("more")
    os.utime(top / "file", (1, 1))
    born.append(subprocess.check_output(["stat", "-c", "%W", str(top / "file")]))
    return born[0] == born[1], abs(int(born[0]) - time.time()) < 600


@case("poll", "a file is always ready")
def _(top: Path) -> Any:
    file = filled(top)
    poller = select.poll()
    poller.register(file, select.POLLIN | select.POLLOUT)
    ready = [events for _, events in poller.poll(1000)]
    os.close(file)
    return ready


@case("ioctl", "ENOTTY: of terminals")
def _(top: Path) -> Any:
    file = filled(top)
    done = outcome(lambda: fcntl.ioctl(file, 0x5401, bytes(64)))
    os.close(file)
    return done == errno.errorcode[errno.ENOTTY]

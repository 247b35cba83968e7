"""Programs that each make one system call on a mount, when they are told to: `python -m tests.kernel.calls FOLDER HOW
KIND...`.

    HOW     `default`: signals end them. `handle`: SIGINT is a KeyboardInterrupt, as in any Python program. `timer`: as
            git does while it shows its progress, there is a SIGALRM every 0.01 s, with a handler and SA_RESTART.

Says `made` when FOLDER has what the calls need, and waits for a line. Then one process for each KIND opens what its
call needs, and says `ready PID KIND`. On a line for each of them they make their calls: they say `going PID` before it,
and after it `ended PID OUTCOME`: what the call has given, the name of its errno, or KeyboardInterrupt.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], object]

WRITES = ("write", "write_sync", "write_direct", "fsync", "close")
KINDS = (
    *("lookup", "open", "create", "read", "read_direct", *WRITES, "readdir", "rename", "mkdir", "symlink", "unlink"),
    *("truncate", "utimens", "statfs", "getxattr"),
)
MAPS = ("map", "map_random", "map_write")
"""Page faults: with read-ahead, without, and in a system call that has other things to do."""
LARGE = 3 << 20
"""Bytes of what is read: more than comes along with an open."""
MANY = 20
"""Names in a folder that is listed."""
PIECE = b"x" * 4096


def content(place: Path) -> bytes:
    """What a file has before it is read."""
    return hashlib.sha256(place.name.encode()).digest() * (LARGE // 32)


def make_places(folder: Path, kinds: list[str]) -> list[Path]:
    """A folder for each of the calls, with what it needs."""
    places = [folder / f"{number}-{kind}" for number, kind in enumerate(kinds)]
    for place, kind in zip(places, kinds, strict=True):
        place.mkdir()
        if kind in ("read", "read_direct", *MAPS):
            (place / "file").write_bytes(content(place))
        elif kind == "readdir":
            (place / "folder").mkdir()
            for number in range(MANY):
                (place / "folder" / f"name-{number:03}").touch()
        else:
            (place / "file").write_bytes(b"before")
        if kind == "getxattr":
            os.setxattr(place / "file", "user.colour", b"blue")
    return places


def prepare(place: Path, kind: str) -> Call:
    """Opens what a call needs, and returns the call."""
    file, other = place / "file", place / "other"
    file.exists(), other.exists()  # what the kernel knows, it does not look up
    if kind in MAPS:
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), LARGE, prot=mmap.PROT_READ)
        if kind != "map":
            mapped.madvise(mmap.MADV_RANDOM)
        return lambda: see(mapped, os.pipe() if kind == "map_write" else None) == content(place)[:4096]
    if kind in ("read", "read_direct"):
        descriptor = os.open(file, os.O_RDONLY | (os.O_DIRECT if kind == "read_direct" else 0))
        return lambda: read(descriptor, place)
    if kind in WRITES:
        flags = {"write_sync": os.O_SYNC, "write_direct": os.O_DIRECT}.get(kind, 0)
        descriptor = os.open(file, os.O_WRONLY | flags)
        pieces, data = (64, PIECE * 256) if kind == "write" else (1, PIECE)
        end = {"fsync": os.fsync, "close": os.close}.get(kind)
        return lambda: write(descriptor, pieces, data, end)
    if kind == "readdir":
        listed = os.open(place / "folder", os.O_DIRECTORY)
        return lambda: len(os.listdir(listed))
    return {
        "lookup": lambda: (place / "FILE").exists(),  # of what was made here only this has to be asked for
        "open": lambda: os.open(file, os.O_RDONLY),
        "create": lambda: os.open(other, os.O_WRONLY | os.O_CREAT),
        "rename": lambda: file.rename(other),
        "mkdir": lambda: other.mkdir(),
        "symlink": lambda: other.symlink_to("file"),
        "unlink": file.unlink,
        "truncate": lambda: os.truncate(file, 1),
        "utimens": lambda: os.utime(file, (1, 1)),
        "statfs": lambda: os.statvfs(place).f_namemax,
        "getxattr": lambda: os.getxattr(file, "user.colour"),
    }[kind]


def see(mapped: mmap.mmap, pipe: tuple[int, int] | None) -> bytes:
    """The first page of a map, through a pipe if there is one."""
    if pipe is None:
        return mapped[:4096]
    os.write(pipe[1], memoryview(mapped)[:4096])
    return os.read(pipe[0], 4096)


def read(descriptor: int, place: Path) -> bool:
    """Whether a file is as it was made. Into whole pages, as O_DIRECT wants it."""
    with mmap.mmap(-1, LARGE) as pages:
        return os.preadv(descriptor, [pages], 0) == LARGE and pages[:] == content(place)


def write(descriptor: int, pieces: int, data: bytes, end: Callable[[int], object] | None) -> int:
    """Writes, from whole pages, and notes what was taken. Returns how many bytes that is."""
    with mmap.mmap(-1, len(data)) as pages:
        pages[:] = data
        for _ in range(pieces):
            taken["bytes"] += os.write(descriptor, pages)
        if end is not None:
            end(descriptor)
    return taken["bytes"]


taken = {"bytes": 0}
"""What the writes of this program have taken."""


def set_signals(how: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler if how == "handle" else signal.SIG_DFL)
    if how == "timer":
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def work(place: Path, kind: str, how: str) -> None:
    """One program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    call = prepare(place, kind)
    say(f"ready {os.getpid()} {kind}")
    os.read(0, 1)
    set_signals(how)
    try:
        say(f"going {os.getpid()}")
        outcome = str(call())
    except OSError as error:
        outcome = errno.errorcode[error.errno or 0]
    except KeyboardInterrupt:
        outcome = f"KeyboardInterrupt, {taken['bytes']} taken" if kind in WRITES else "KeyboardInterrupt"
    signal.setitimer(signal.ITIMER_REAL, 0)
    say(f"ended {os.getpid()} {outcome}")


def main(folder: Path, how: str, kinds: list[str]) -> None:
    places = make_places(folder, kinds)
    say("made")
    os.read(0, 1)
    for place, kind in zip(places, kinds, strict=True):
        if os.fork() == 0:
            try:
                work(place, kind, how)
            finally:
                os._exit(0)
    os.close(0)  # so that they have it alone
    for _ in kinds:
        os.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])

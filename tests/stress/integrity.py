"""Integrity: random work on one file of a mount and on a local twin, with every byte compared.

Reads, writes, appends, truncations, memory maps, fsyncs and reopens at random places, many at the edges of pages and
of the file. Whatever is read from the mount has to be what the twin says. At the first difference it stops and
says where it is, with the last operations and the seed that repeats them.

With a lock file, several of these may work on the same file through different mounts: each takes the lock for a turn,
opens the file, works, and closes it, which is when the others have to see it.

    python -m tests.stress.integrity MOUNTED_FILE LOCAL_FILE [--seconds N] [--seed N] [--lock FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import mmap
import os
import random
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LARGEST = 4 * 1024 * 1024
"""Bytes that the file may grow to."""
PAGE = 4096
EDGES = (1, 511, PAGE - 1, PAGE, PAGE + 1, 65536, 128 * 1024, 1024 * 1024)
TURN = 20
"""Operations between two looks at the whole file, and of one turn under the lock."""
HISTORY = 60


class Difference(AssertionError):
    """The mount has something else than the twin."""


class Exerciser:
    """Works on `mounted` and `twin`, which has to be its equal at the start. `random` decides everything."""

    def __init__(self, mounted: Path, twin: Path, chance: random.Random) -> None:
        self.steps = 0
        self._paths = (mounted, twin)
        self._chance = chance
        self._history: deque[str] = deque(maxlen=HISTORY)
        self._files: tuple[int, int] = (-1, -1)
        self._operations: tuple[Callable[[], str], ...] = (
            *(self._read,) * 6,
            *(self._write,) * 6,
            *(self._map_read,) * 2,
            *(self._map_write,) * 2,
            *(self._append,) * 2,
            *(self._truncate,) * 2,
            self._truncate_by_name,
            self._reopen,
            self._sync,
        )

    def turn(self, count: int = TURN) -> None:
        """Opens the file, does `count` random operations, looks at all of it, and closes it.

        Raises:
            Difference: the mount has something else than the twin.
        """
        self._open()
        try:
            for _ in range(count):
                self._history.append(self._chance.choice(self._operations)())
                self.steps += 1
                self._same_size()
            self._compare(0, LARGEST)
        finally:
            self._close()

    def _open(self) -> None:
        mounted, twin = self._paths
        self._files = os.open(mounted, os.O_RDWR | os.O_CREAT), os.open(twin, os.O_RDWR | os.O_CREAT)

    def _close(self) -> None:
        for file in self._files:
            os.close(file)

    # -- operations: each says what it was ----------------------------------------------------------------------------

    def _read(self) -> str:
        offset, size = self._range(self._size())
        self._compare(offset, size)
        return f"read {size} at {offset}"

    def _write(self) -> str:
        offset, size = self._range(LARGEST)
        data = self._data(min(size, LARGEST - offset))
        for file in self._files:
            _write_all(file, data, offset)
        return f"write {len(data)} at {offset}"

    def _append(self) -> str:
        data = self._data(min(self._length(), max(0, LARGEST - self._size())))
        for path in self._paths:
            with path.open("ab", buffering=0) as file:
                written = file.write(data) if data else 0
                if written != len(data):
                    raise self._difference(f"appended {written} of {len(data)} bytes")
        return f"append {len(data)}"

    def _truncate(self) -> str:
        size = self._place(LARGEST)
        for file in self._files:
            os.ftruncate(file, size)
        return f"ftruncate to {size}"

    def _truncate_by_name(self) -> str:
        size = self._place(self._size() or 1)
        for path in self._paths:
            os.truncate(path, size)
        return f"truncate to {size}"

    def _map_read(self) -> str:
        size = self._size()
        if not size:
            return "map nothing"
        offset, length = self._range(size)
        length = min(length, size - offset)
        pieces = []
        for file in self._files:
            with mmap.mmap(file, size, access=mmap.ACCESS_READ) as memory:
                pieces.append(memory[offset : offset + length])
        self._equal(pieces[0], pieces[1], offset, "mapped")
        return f"map read {length} at {offset}"

    def _map_write(self) -> str:
        size = self._size()
        if not size:
            return "map nothing"
        offset, length = self._range(size)
        data = self._data(min(length, size - offset))
        for file in self._files:
            with mmap.mmap(file, size) as memory:
                memory[offset : offset + len(data)] = data
                memory.flush()
        return f"map write {len(data)} at {offset}"

    def _reopen(self) -> str:
        self._close()
        self._open()
        return "reopen"

    def _sync(self) -> str:
        os.fsync(self._files[0])
        return "fsync"

    # -- chance -----------------------------------------------------------------------------------------------------

    def _place(self, limit: int) -> int:
        """An offset below `limit`, often at an edge."""
        place = self._chance.randrange(limit)
        if self._chance.random() < 0.3:
            place -= place % self._chance.choice(EDGES)
        return place

    def _length(self) -> int:
        edge = self._chance.choice(EDGES)
        return edge if self._chance.random() < 0.3 else 1 + self._chance.randrange(edge)

    def _range(self, limit: int) -> tuple[int, int]:
        return self._place(limit or 1), self._length()

    def _data(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    # -- comparing --------------------------------------------------------------------------------------------------

    def _size(self) -> int:
        return os.fstat(self._files[1]).st_size

    def _same_size(self) -> None:
        for sizes in (map(_size_of, self._files), (path.stat().st_size for path in self._paths)):
            mounted, twin = sizes
            if mounted != twin:
                raise self._difference(f"the size is {mounted} and should be {twin}")

    def _compare(self, offset: int, size: int) -> None:
        mounted, twin = (os.pread(file, size, offset) for file in self._files)
        self._equal(mounted, twin, offset, "read")

    def _equal(self, mounted: bytes, twin: bytes, offset: int, how: str) -> None:
        if mounted == twin:
            return
        if len(mounted) != len(twin):
            raise self._difference(f"{how} {len(mounted)} bytes at {offset} and should be {len(twin)}")
        wrong = [index for index in range(len(twin)) if mounted[index] != twin[index]]
        text = f"{how} at {offset}: {len(wrong)} wrong bytes from {offset + wrong[0]} to {offset + wrong[-1]}"
        raise self._difference(f"{text}; the first is {mounted[wrong[0]]:#x} and should be {twin[wrong[0]]:#x}")

    def _difference(self, text: str) -> Difference:
        return Difference("\n".join((*self._history, f"step {self.steps}: {text}")))


def _size_of(file: int) -> int:
    return os.fstat(file).st_size


def _write_all(file: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


@contextlib.contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def exercise(mounted: Path, twin: Path, *, seconds: float, seed: int, lock: Path | None = None) -> int:
    """Works for so many seconds. Returns how many operations that were.

    Raises:
        Difference: the mount has something else than the twin.
    """
    exerciser = Exerciser(mounted, twin, random.Random(seed))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with _locked(lock):
            exerciser.turn()
    return exerciser.steps


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress.integrity", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("mounted", type=Path)
    parser.add_argument("twin", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--lock", type=Path)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    try:
        steps = exercise(options.mounted, options.twin, seconds=options.seconds, seed=options.seed, lock=options.lock)
    except Difference as difference:
        print(difference)
        return 1
    print(f"{steps} operations, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())

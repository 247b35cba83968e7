"""What the processes of a storm share: what each file has to hold, what was counted, whether the server may be away.

Everything lies in one anonymous shared map, which is made before the processes are forked. A file of `World.files`
belongs to whoever has its lock; all other values have one writer each.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import multiprocessing
import os
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LARGEST = 96 * 1024
"""Bytes that an owned file may have."""
NOTES, NOTE = 30, 150
"""How many of the last operations on a file are remembered, and the bytes of each."""
LOGS, CONFS, RECORDS = 4, 4, 32
WORKERS = 32
"""The most processes that may work."""
KINDS = (
    *(
        "open",
        "create",
        "close",
        "read",
        "write",
        "append",
        "direct write",
        "truncate",
        "map read",
        "map write",
        "fsync",
    ),
    *("stat", "fstat", "utime", "rename", "replace", "link", "unlink", "mkdir", "rmdir", "list"),
    *("look", "excused", "difference"),
)
"""What is counted. A look is one of an onlooker; excused are errors while the server was away."""
NO_OPERATIONS = ("look", "excused", "difference")
"""Kinds that are no operation of a worker."""
AWAY = frozenset(
    {
        *(errno.EIO, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.ETIMEDOUT, errno.ENOTCONN, errno.ENETDOWN, errno.ENETUNREACH, errno.ESTALE),
    }
)
"""Errors that say that a server was away. ESTALE: the file was opened again by its name, and is another one now."""
GRACE = 12.0
"""Seconds after its return in which a server may still be taken for dead."""
RETURN = 90.0
"""Seconds within which everything has to work again after an error for which the server was the reason."""


_Result = TypeVar("_Result")


class Difference(AssertionError):
    """The mount did something else than it had to."""


class File(ctypes.Structure):
    """An owned file as it has to be. `identity` is another number once the name leads to another file; `mount` and
    `outage` are those of its last change.
    """

    exists: bool
    name: int
    size: int
    mtime: int
    inode: int
    identity: int
    mount: int
    outage: int
    notes: int
    _fields_ = [
        ("exists", ctypes.c_bool),
        ("name", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("mtime", ctypes.c_int64),
        ("inode", ctypes.c_uint64),
        ("identity", ctypes.c_uint64),
        ("mount", ctypes.c_uint32),
        ("outage", ctypes.c_uint64),
        ("notes", ctypes.c_uint64),
        ("ring", (ctypes.c_char * NOTE) * NOTES),
        ("content", ctypes.c_ubyte * LARGEST),
    ]

    def held(self) -> bytes | None:
        """Its content; None if there must be no such file."""
        return bytes(memoryview(self.content)[: self.size]) if self.exists else None

    def becomes(self, content: bytes | None) -> None:
        self.exists = content is not None
        self.size = len(content or b"")
        memoryview(self.content).cast("B")[: self.size] = content or b""

    def note(self, text: str) -> None:
        """Remembers an operation for the message about a difference."""
        self.ring[self.notes % NOTES].value = text.encode()[: NOTE - 1]
        self.notes += 1

    def history(self) -> list[str]:
        first = max(0, self.notes - NOTES)
        return [self.ring[number % NOTES].value.decode(errors="replace") for number in range(first, self.notes)]


class _Common(ctypes.Structure):
    _fields_ = [
        ("counts", (ctypes.c_uint64 * len(KINDS)) * (2 * WORKERS)),
        ("busy", ctypes.c_double * (2 * WORKERS)),
        ("doing", (ctypes.c_char * NOTE) * (2 * WORKERS)),
        ("stopped", ctypes.c_bool),
        ("log_lines", (ctypes.c_uint64 * LOGS) * WORKERS),
        ("log_unsure", (ctypes.c_uint64 * LOGS) * WORKERS),
        ("log_round", ctypes.c_uint64 * LOGS),
        ("conf_announced", ctypes.c_uint64 * CONFS),
        ("conf_published", ctypes.c_uint64 * CONFS),
        ("record_epoch", ctypes.c_uint64 * WORKERS),
        ("record_announced", (ctypes.c_uint64 * RECORDS) * WORKERS),
        ("record_published", (ctypes.c_uint64 * RECORDS) * WORKERS),
    ]


class Settings(NamedTuple):
    """What a storm is told. `tops` is one directory, through one mount or several."""

    tops: Sequence[Path]
    seed: int
    processes: int
    files: int
    go_on: bool
    """Whether a difference is counted and what is there taken for right, instead of an end."""
    outages: Path | None
    """A file of 16 bytes: how often the server went and came (odd: it is away), and when that was last."""


class World:
    """See the module's text."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        files = File * settings.files
        self._memory = mmap.mmap(-1, ctypes.sizeof(files) + ctypes.sizeof(_Common))
        self.files = files.from_buffer(self._memory)
        self.common: Any = _Common.from_buffer(self._memory, ctypes.sizeof(files))
        fork = multiprocessing.get_context("fork")
        self.locks = [fork.Lock() for _ in range(settings.files)]
        self.conf_locks = [fork.Lock() for _ in range(CONFS)]
        self._outages: Any = None
        if settings.outages is not None:
            with settings.outages.open("r+b") as file:
                self._outages = Outages.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Outages)))

    @property
    def maps(self) -> bool:
        """Whether files may be mapped. A page that can't be read is SIGBUS, so not while servers die."""
        return self._outages is None

    @property
    def stopped(self) -> bool:
        return bool(self.common.stopped)

    def stop(self) -> None:
        self.common.stopped = True

    def outage(self) -> int:
        """How often the server went or came so far. What began with the same number and ended with it, in a calm, was
        under way while the server was there.
        """
        return int(self._outages.number) if self._outages is not None else 0

    def is_calm(self) -> bool:
        """Whether the server is there, and was for GRACE seconds."""
        if self._outages is None or self._outages.number == 0:
            return True
        return bool(self._outages.number % 2 == 0 and time.monotonic() - self._outages.moment > GRACE)

    def total(self) -> dict[str, int]:
        """What was counted, of all processes together."""
        counts = self.common.counts
        sums = {kind: sum(line[index] for line in counts) for index, kind in enumerate(KINDS)}
        return {kind: count for kind, count in sums.items() if count}


class Outages(ctypes.Structure):
    """What whoever stops the server writes."""

    number: int
    moment: float
    _fields_ = [("number", ctypes.c_uint64), ("moment", ctypes.c_double)]

    def changed(self) -> None:
        self.moment = time.monotonic()
        self.number += 1


class Process:
    """One process of a storm: its chance, its mount, and system calls that are counted.

    Every method that is named after a system call counts it, and raises what it raises.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.mount = number % len(world.settings.tops)
        self.top = world.settings.tops[self.mount]
        self.chance = random.Random(f"{world.settings.seed}-{number}")
        self._counts = world.common.counts[number]

    def begin(self, kind: str, what: object = "") -> None:
        """Counts a call that is about to be made; the watchdog may show it."""
        self._counts[KINDS.index(kind)] += 1
        self.world.common.busy[self.number] = time.monotonic()
        self.world.common.doing[self.number].value = f"{kind} {what}".encode()[: NOTE - 1]

    def differs(self, text: str, history: Sequence[str] = ()) -> NoReturn:
        lines = (f"seed {self.world.settings.seed}, process {self.number} in {self.top}:", *history, f"=> {text}")
        raise Difference("\n    ".join(lines))

    def excuses(self, error: OSError, since: int) -> bool:
        """Whether an error of something that began at outage `since` may come from a server that was away."""
        if error.errno in AWAY and (not self.world.is_calm() or self.world.outage() != since):
            self.begin("excused", error)
            return True
        return False

    def is_alone(self) -> bool:
        """Whether there is one mount only."""
        return len(self.world.settings.tops) == 1

    def open(self, path: Path, flags: int) -> int:
        self.begin("create" if flags & os.O_CREAT else "open", path)
        return os.open(path, flags, 0o644)

    def close(self, file: int) -> None:
        self.begin("close", file)
        os.close(file)

    def write(self, file: int, data: bytes | mmap.mmap, offset: int | None = None, kind: str = "write") -> None:
        """All of it, at the file's position or at `offset`."""
        self.begin(kind, f"{len(data)} at {offset}")
        written = os.write(file, data) if offset is None else os.pwrite(file, data, offset)
        if written != len(data):
            self.differs(f"a write of {len(data)} bytes wrote {written}")

    def read(self, file: int, size: int, offset: int) -> bytes:
        self.begin("read", f"{size} at {offset}")
        pieces = []
        while piece := os.pread(file, size, offset):
            pieces.append(piece)
            size, offset = size - len(piece), offset + len(piece)
            if not size:
                break
        return b"".join(pieces)

    def read_all(self, path: Path) -> bytes:
        file = self.open(path, os.O_RDONLY)
        try:
            return self.read(file, 2 * LARGEST, 0)
        finally:
            self.close(file)

    def stat(self, path: Path) -> os.stat_result:
        self.begin("stat", path)
        return os.stat(path)

    def fstat(self, file: int) -> os.stat_result:
        self.begin("fstat", file)
        return os.fstat(file)

    def rename(self, old: Path, new: Path) -> None:
        self.begin("rename", f"{old} {new}")
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        self.begin("unlink", path)
        os.unlink(path)

    def list(self, path: Path) -> set[str]:
        self.begin("list", path)
        names = os.listdir(path)
        if len(names) != len(set(names)):
            self.differs(f"a name is listed twice: {sorted(names)}")
        return set(names)

    def recover(self, action: Callable[[], _Result]) -> _Result:
        """Does something after an error that was excused: again and again until the server is there."""
        deadline = time.monotonic() + RETURN
        while True:
            try:
                return action()
            except OSError as error:
                if error.errno not in AWAY:
                    raise
                if time.monotonic() > deadline:
                    self.differs(f"{RETURN:g} seconds after an outage still {error!r}")
                time.sleep(0.1)

"""What several processes of a storm work on at the same time, each kind with a rule that holds at any moment.

- Logs: every line that somebody appended is there, once and whole, in the order of whoever wrote it.
- Replaced files: an open by name gives a whole one, and not an older one than was last in place before that open.
- Records: one process writes them, with numbers that grow; a read gives no older one than was written before it.
- Directories of one process each: a listing has the names that are in it, and rm -r works.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import zlib
from typing import TYPE_CHECKING

from tests.stress.world import CONFS, LARGEST, LOGS, RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stress.world import Process

LONGEST_LOG = 48 * 1024
"""Bytes after which a log is looked at and begun anew."""
RECORD, PAGE = 512, mmap.PAGESIZE
BROKEN, EMPTY = -1, -2
TRIES = 200
"""How often a record is read again that was caught while it was written: read(2) promises no atomicity anywhere."""


class Logs:
    """Appends lines, and checks a log when it is long. Each log belongs to the processes of one mount: SMB has no
    O_APPEND between clients (docs/semantics.md).
    """

    def __init__(self, process: Process, locks: Path) -> None:
        self._process = process
        self._locks = locks
        self._common = process.world.common
        self._open: dict[int, tuple[int, int]] = {}
        """Descriptors that stay open, and the round of the log that they belong to."""

    def step(self) -> None:
        mounts = len(self._process.world.settings.tops)
        mine = [log for log in range(LOGS) if log % mounts == self._process.mount]
        log = self._process.chance.choice(mine)
        path = self._process.top / f"log{log}"
        with (self._locks / f"log{log}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            length = self._append(log, path)
            if length > LONGEST_LOG:
                fcntl.flock(lock, fcntl.LOCK_UN)
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.check(log, path)
                self._begin_anew(log, path)

    def _append(self, log: int, path: Path) -> int:
        """One line, as a shell does it or through a descriptor that stays open. Returns the size of the log then."""
        process = self._process
        number = self._common.log_lines[process.number][log]
        text = f"{process.number} {number} {'x' * process.chance.randrange(60)}"
        line = f"{text} {zlib.crc32(text.encode()):08x}\n".encode()
        stays = process.chance.random() < 0.5
        since = process.world.outage()
        descriptor = -1
        try:
            descriptor = self._descriptor(log, path, stays)
            process.write(descriptor, line, None, "append")
            length = process.fstat(descriptor).st_size
            if stays:
                process.begin("fsync", path)
                os.fsync(descriptor)
            else:
                process.close(descriptor)
        except OSError as error:
            if not process.excuses(error, since):
                process.differs(f"append to {path.name}: {error!r}")
            self._common.log_unsure[process.number][log] += 1
            self._forget(log, descriptor)
            return 0
        finally:
            self._common.log_lines[process.number][log] += 1
        if length < len(line):
            process.differs(f"{path.name} has {length} bytes after a line of {len(line)} was appended")
        return length

    def _descriptor(self, log: int, path: Path, stays: bool) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        if not stays:
            return self._process.open(path, flags)
        this_round = self._common.log_round[log]
        descriptor, opened_in = self._open.get(log, (-1, -1))
        if opened_in == this_round:
            return descriptor
        self._forget(log, descriptor)
        descriptor = self._process.open(path, flags)
        self._open[log] = (descriptor, this_round)
        return descriptor

    def _forget(self, log: int, descriptor: int) -> None:
        if self._open.get(log, (-1, -1))[0] == descriptor:
            self._open.pop(log, None)
        if descriptor != -1:
            with contextlib.suppress(OSError):  # told already, or a descriptor whose close has failed
                os.close(descriptor)

    def check(self, log: int, path: Path) -> None:
        """All lines, with nobody writing."""
        process = self._process
        since = process.world.outage()
        while True:
            try:
                content = process.read_all(path)
                size = process.stat(path).st_size
                break
            except FileNotFoundError:
                content, size = b"", 0
                break
            except OSError as error:
                if not process.excuses(error, since):
                    process.differs(f"reading {path.name}: {error!r}")
                process.recover(lambda: process.list(process.top))
        unsure = sum(lines[log] for lines in self._common.log_unsure)
        written = [lines[log] for lines in self._common.log_lines]
        try:
            if size != len(content):
                process.differs(f"{path.name} has {len(content)} bytes, and stat says {size}")
            self._check_lines(path, content, written, unsure)
        finally:
            for lines in (*self._common.log_lines, *self._common.log_unsure):
                lines[log] = 0

    def _check_lines(self, path: Path, content: bytes, written: list[int], unsure: int) -> None:
        """`unsure` are lines whose append has failed: they may be there or not, or be holes."""
        seen: list[list[int]] = [[] for _ in written]
        broken = []
        for line in content.replace(b"\0", b"" if unsure else b"\0").decode(errors="replace").splitlines():
            text, _, checksum = line.rpartition(" ")
            if checksum != f"{zlib.crc32(text.encode()):08x}":
                broken.append(line)
            else:
                who, number, *_ = text.split()
                seen[int(who)].append(int(number))
        missing = {
            who: lost[:10] for who, count in enumerate(written) if (lost := sorted(set(range(count)) - set(seen[who])))
        }
        count = sum(count - len(set(seen[who])) for who, count in enumerate(written))
        if count > unsure or len(broken) > unsure:
            total = sum(written)
            text = (
                f"{path.name}: {count} of {total} lines are missing, the first by writer {missing}; broken {broken[:5]}"
            )
            self._process.differs(text)
        if any(numbers != sorted(set(numbers)) for numbers in seen) and not unsure:
            self._process.differs(f"{path.name}: lines twice or in another order: {seen}")

    def _begin_anew(self, log: int, path: Path) -> None:
        """As logrotate does it, in one of its ways. Descriptors stay good only after a truncation."""
        process = self._process
        since = process.world.outage()
        way = process.chance.choice(("truncate", "rename", "unlink"))
        try:
            if way == "truncate":
                process.begin("truncate", path)
                os.truncate(path, 0)
            elif way == "rename":
                process.rename(path, path.with_name(f"{path.name}.1"))
            else:
                process.unlink(path)
            if way != "truncate":
                self._common.log_round[log] += 1
        except OSError as error:
            if not process.excuses(error, since):
                process.differs(f"{way} of {path.name}: {error!r}")
            process.recover(lambda: path.unlink(missing_ok=True))
            self._common.log_round[log] += 1


def conf_content(number: int) -> bytes:
    """A replaced file of that number."""
    return b"%08d " % number * (60 + number * 37 % 900)


class Confs:
    """Replaces whole files, and reads them."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._common = process.world.common

    def step(self) -> None:
        conf = self._process.chance.randrange(CONFS)
        if self._process.chance.random() < 0.4:
            with _if_free(self._process.world.conf_locks[conf]) as mine:
                if mine:
                    self._replace(conf)
        else:
            self._read(conf)

    def _path(self, conf: int) -> Path:
        return self._process.top / f"conf{conf}"

    def _replace(self, conf: int) -> None:
        process, path = self._process, self._path(conf)
        since = process.world.outage()
        temporary = path.with_name(f"{path.name}.{process.chance.randrange(3)}.tmp")
        number = self._common.conf_announced[conf] + 1
        self._common.conf_announced[conf] = number
        try:
            descriptor = process.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                process.write(descriptor, conf_content(number))
            finally:
                process.close(descriptor)
            process.begin("replace", path)
            os.rename(temporary, path)
        except OSError as error:
            if not process.excuses(error, since):
                process.differs(f"replacing {path.name}: {error!r}")
            process.recover(lambda: temporary.unlink(missing_ok=True))
            return
        self._common.conf_published[conf] = number

    def _read(self, conf: int) -> None:
        """In two pieces, between which it may be replaced."""
        process, path = self._process, self._path(conf)
        since = process.world.outage()
        oldest = self._common.conf_published[conf] if len(process.world.settings.tops) == 1 else 0
        if self._common.conf_published[conf] == 0:
            return
        try:
            descriptor = process.open(path, os.O_RDONLY)
            try:
                head = process.read(descriptor, process.chance.choice((9, 500, LARGEST)), 0)
                content = head + process.read(descriptor, LARGEST, len(head))
                size = process.fstat(descriptor).st_size
            finally:
                process.close(descriptor)
        except OSError as error:
            if not process.excuses(error, since):
                process.differs(f"reading {path.name} while it is replaced: {error!r}")
            process.recover(lambda: process.list(process.top))
            return
        number = int(content[:8]) if content[:8].isdigit() else -1
        if content != conf_content(number) or size != len(content):
            process.differs(f"{path.name} is torn: {len(content)} bytes, fstat {size}, {content[:40]!r}")
        if not oldest <= number <= self._common.conf_announced[conf]:
            newest = self._common.conf_announced[conf]
            process.differs(f"{path.name} has number {number}; it has to be one of {oldest} to {newest}")


def record(index: int, number: int, size: int) -> bytes:
    head = b"%d %d " % (index, number)
    return head + b"%08x" % zlib.crc32(head) + bytes([number % 255 + 1]) * (size - len(head) - 8)


class Records:
    """Writes its own file, and reads those of others. Some files are written with O_DIRECT, some shrink and grow."""

    def __init__(self, process: Process, workers: int) -> None:
        self._process = process
        self._common = process.world.common
        mounts = len(process.world.settings.tops)
        self._readable = [number for number in range(workers) if number % mounts == process.mount]
        self._maps = process.world.maps
        self._file: tuple[int, int] = (-1, -1)
        """The descriptor through which it writes, and the outage since which it is open."""

    def step(self) -> None:
        process = self._process
        since = process.world.outage()
        try:
            if process.chance.random() < 0.4:
                self._write()
            else:
                self._read(process.chance.choice(self._readable))
        except OSError as error:
            if not process.excuses(error, min(since, self._file[1]) if self._file[0] != -1 else since):
                process.differs(f"records: {error!r}")
            process.recover(lambda: process.list(process.top))
            self._recover()

    @staticmethod
    def _kind(number: int) -> str:
        return ("mapped", "shrinking", "direct", "mapped")[number % 4]

    def _size(self, number: int) -> int:
        return PAGE if self._kind(number) == "direct" else RECORD

    def _path(self, number: int) -> Path:
        return self._process.top / f"records{number}"

    def _descriptor(self) -> int:
        process = self._process
        descriptor, since = self._file
        if descriptor != -1 and process.chance.random() < 0.1:
            self._file = (-1, -1)
            process.close(descriptor)
            descriptor = -1
        if descriptor == -1:
            direct = os.O_DIRECT if self._kind(process.number) == "direct" else 0
            since = process.world.outage()
            descriptor = process.open(self._path(process.number), os.O_RDWR | os.O_CREAT | direct)
            self._file = (descriptor, since)
        return descriptor

    def _write(self) -> None:
        process, me = self._process, self._process.number
        descriptor, size, kind = self._descriptor(), self._size(me), self._kind(me)
        if kind == "shrinking" and process.chance.random() < 0.05:
            self._shrink(descriptor)
            return
        index = process.chance.randrange(RECORDS)
        number = self._common.record_announced[me][index] + 1
        self._common.record_announced[me][index] = number
        data = record(index, number, size)
        if kind == "mapped" and self._maps and process.chance.random() < 0.3:
            self._write_map(descriptor, index, data)
        elif kind == "direct":
            with mmap.mmap(-1, size) as buffer:
                buffer.write(data)
                process.write(descriptor, buffer, index * size, "direct write")
        else:
            process.write(descriptor, data, index * size)
        self._common.record_published[me][index] = number
        self._check_own(descriptor, (index + 1) * size)

    def _write_map(self, descriptor: int, index: int, data: bytes) -> None:
        end = (index + 1) * len(data)
        if self._process.fstat(descriptor).st_size < end:
            self._process.write(descriptor, data, index * len(data))
            return
        self._process.begin("map write", index)
        try:
            with mmap.mmap(descriptor, end) as memory:
                memory[index * len(data) : end] = data
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            self._maps = False
            self._process.write(descriptor, data, index * len(data))

    def _check_own(self, descriptor: int, end: int) -> None:
        """Nobody else writes: its size is known, at the least."""
        size = self._process.fstat(descriptor).st_size
        if size < end:
            self._process.differs(
                f"{self._path(self._process.number).name} was written up to {end} and has {size} bytes"
            )

    def _shrink(self, descriptor: int) -> None:
        process, me = self._process, self._process.number
        left = process.chance.randrange(RECORDS)
        self._common.record_epoch[me] += 1
        for index in range(left, RECORDS):
            self._common.record_published[me][index] = 0
        process.begin("truncate", left * RECORD)
        os.ftruncate(descriptor, left * RECORD)
        self._common.record_epoch[me] += 1

    def _recover(self) -> None:
        """After an error: what was written last may be there or not; begins a file anew if it was shrinking."""
        descriptor, _ = self._file
        self._file = (-1, -1)
        if descriptor != -1:
            with contextlib.suppress(OSError):  # what its close says was told by the call before
                os.close(descriptor)
        if self._common.record_epoch[self._process.number] % 2:
            self._common.record_epoch[self._process.number] += 1

    def _read(self, other: int) -> None:
        process, size = self._process, self._size(other)
        index = process.chance.randrange(RECORDS)
        epoch = self._common.record_epoch[other]
        oldest = self._common.record_published[other][index]
        if not oldest or epoch % 2:
            return
        descriptor = process.open(self._path(other), os.O_RDONLY)
        try:
            number = self._number(descriptor, index, size, other)
        finally:
            process.close(descriptor)
        newest = self._common.record_announced[other][index]
        if self._common.record_epoch[other] != epoch or oldest <= number <= newest:
            return
        if process.world.outage() and number != BROKEN and number < oldest:
            return  # nobody synced it, so a server that dies may lose it; who wrote it is told
        text = f"record {index} of {self._path(other).name} ({self._kind(other)}) has number {number}"
        process.differs(f"{text}; it has to be one of {oldest} to {newest}")

    def _number(self, descriptor: int, index: int, size: int, other: int) -> int:
        """The number of a record, read by read(2) or through a map; else BROKEN if it stays so, or EMPTY."""
        process = self._process
        mapped = process.world.maps and self._kind(other) == "mapped" and process.chance.random() < 0.3
        for _ in range(TRIES):
            if mapped:
                process.begin("map read", index)
                prot = mmap.PROT_READ
                with mmap.mmap(descriptor, (index + 1) * size, flags=mmap.MAP_PRIVATE, prot=prot) as memory:
                    data = memory[index * size :]
            else:
                data = process.read(descriptor, size, index * size)
            words = data.split(b" ", 2)
            if len(words) == 3 and words[1].isdigit() and data == record(index, int(words[1]), size):
                return int(words[1])
        return EMPTY if not data.strip(b"\0") else BROKEN


class Names:
    """A directory of its own, in which names come and go."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._place = process.top / f"names{process.number}"
        self._there: set[str] = set()
        self._made = False

    def step(self) -> None:
        process = self._process
        since = process.world.outage()
        before = set(self._there)
        try:
            if not self._made:
                process.begin("mkdir", self._place)
                self._place.mkdir()
                self._made = True
            self._change()
            listed = process.list(self._place)
        except OSError as error:
            if not process.excuses(error, since):
                process.differs(f"in {self._place.name} with {sorted(before)}: {error!r}")
            process.recover(self._remove_all)
            return
        if listed != self._there:
            text = f"{self._place.name}: listed {sorted(listed)}, and {sorted(self._there)} it has to be"
            self._there = listed
            process.differs(text)

    def _remove_all(self) -> None:
        if self._place.exists():
            shutil.rmtree(self._place)
        self._made, self._there = False, set()

    def _change(self) -> None:
        process, chance = self._process, self._process.chance
        name = f"{chance.choice('fd')}{chance.randrange(6)}"
        path = self._place / name
        if name not in self._there:
            self._make(path)
            self._there.add(name)
            return
        if path.name.startswith("f"):
            process.read_all(path)  # a handle of it is kept now
        if chance.random() < 0.4:
            new = path.with_name(f"{name[0]}{chance.randrange(6)}")
            if new.name not in self._there:
                process.rename(path, new)
                self._there ^= {name, new.name}
        elif path.name.startswith("f"):
            process.unlink(path)
            self._there.remove(name)
        else:
            process.begin("rmdir", path)
            shutil.rmtree(path)
            self._there.remove(name)

    def _make(self, path: Path) -> None:
        process = self._process
        if path.name.startswith("f"):
            descriptor = process.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            process.write(descriptor, path.name.encode() * 50)
            process.close(descriptor)
            return
        process.begin("mkdir", path)
        (path / "deep").mkdir(parents=True)
        for name in ("one", "deep/two"):
            (path / name).write_bytes(b"data")
            if process.read_all(path / name) != b"data":
                process.differs(f"{path / name} was written and reads otherwise")


@contextlib.contextmanager
def _if_free(lock: object) -> Iterator[bool]:
    """A lock, if nobody else has it."""
    mine: bool = lock.acquire(block=False)  # type: ignore[attr-defined]
    try:
        yield mine
    finally:
        if mine:
            lock.release()  # type: ignore[attr-defined]

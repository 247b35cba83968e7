"""The changes that a process of a storm makes to a file of which it knows every byte."""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.stress.world import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.stress.world import File, Process

PAGE = mmap.PAGESIZE


@dataclass
class Change:
    """Something to be done with a file, and what it holds then: None if there is none any more."""

    text: str
    after: bytes | None
    action: Callable[[], None]
    name: int
    """Which of its two names it has then."""
    writes: bool = True
    """Whether its time has to be a new one."""
    replaces: bool = False
    """Whether it is another file then."""
    time: int | None = None
    """The time that it has to have."""


class Changes:
    """Makes changes by chance, and looks at what can only be seen while they are made."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._chance = process.chance
        self._seen: os.stat_result | None = None
        """What fstat said after the last write and before close, if that was asked."""
        self._maps = process.world.maps
        """Whether shared maps are possible; not with cache=none."""
        self._kinds: Sequence[Callable[[File, int, bytes], Change | None]] = (
            *(self._rewrite, self._append, self._append, self._overwrite, self._overwrite, self._truncate),
            *(self._truncate_by_name, self._replace, self._replace, self._map, self._map, self._map_private),
            *(self._grow_and_map, self._rename, self._remove, self._link, self._utime, self._direct),
        )

    def some(self, file: File, index: int, content: bytes | None) -> Change | None:
        """Some change to a file that has this content; None if the one that chance chose is impossible."""
        if content is None:
            return self._create(file, index)
        return self._chance.choice(self._kinds)(file, index, content)

    def _path(self, index: int, file: File, name: int | None = None) -> Path:
        return self._process.top / f"f{index:03}-{'ab'[file.name if name is None else name]}"

    def _temporary(self, index: int) -> Path:
        return self._process.top / f"f{index:03}.tmp"

    def _check_content(self, file: File, got: bytes, what: str) -> None:
        expected = file.held() or b""
        if got == expected:
            return
        text = f"{what}: {len(got)} bytes, and {len(expected)} it has to be"
        wrong = [place for place, (one, other) in enumerate(zip(got, expected, strict=False)) if one != other]
        if wrong:
            text += f"; {len(wrong)} wrong ones from {wrong[0]} to {wrong[-1]}"
            text += f", the first {got[wrong[0] : wrong[0] + 8].hex()} for {expected[wrong[0] : wrong[0] + 8].hex()}"
        self._differs(file, text)

    def _differs(self, file: File, text: str) -> None:
        self._process.differs(text, file.history())

    # -- changes --------------------------------------------------------------------------------------------------

    def _data(self, largest: int = 20_000) -> bytes:
        size = self._chance.choice((1, 10, 100, 511, 3000, PAGE, PAGE + 1, largest))
        return self._chance.randbytes(self._chance.randint(1, min(size, largest)))

    def _write(self, path: Path, flags: int, data: bytes, offset: int | None = None) -> None:
        """Opens, writes in some pieces, asks now and then what it has become, and closes."""
        kind = "append" if flags & os.O_APPEND else "write"
        pieces = self._chance.choice((1, 1, 2, 3))
        step = -(-len(data) // pieces)
        descriptor = self._process.open(path, flags)
        try:
            for start in range(0, len(data), step):
                piece = data[start : start + step]
                self._process.write(descriptor, piece, None if offset is None else offset + start, kind)
            if self._chance.random() < 0.1:
                self._process.begin("fsync", path)
                os.fsync(descriptor)
            self._ask(descriptor)
        finally:
            self._process.close(descriptor)

    def _ask(self, descriptor: int) -> None:
        if self._chance.random() < 0.5:
            self._seen = self._process.fstat(descriptor)

    def _create(self, file: File, index: int) -> Change:
        path, data = self._path(index, file), self._data()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        return Change(
            f"create with {len(data)}", data, lambda: self._write(path, flags, data), file.name, replaces=True
        )

    def _rewrite(self, file: File, index: int, _: bytes) -> Change:
        path, data = self._path(index, file), self._data()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return Change(f"rewrite with {len(data)}", data, lambda: self._write(path, flags, data), file.name)

    def _append(self, file: File, index: int, content: bytes) -> Change | None:
        path, data = self._path(index, file), self._data()
        if len(content) + len(data) > LARGEST:
            return self._rewrite(file, index, content)
        flags = os.O_WRONLY | os.O_APPEND
        return Change(f"append {len(data)}", content + data, lambda: self._write(path, flags, data), file.name)

    def _overwrite(self, file: File, index: int, content: bytes) -> Change:
        path, data = self._path(index, file), self._data()
        offset = self._chance.randrange(min(len(content) + 10_000, LARGEST - len(data)) + 1)
        after = content.ljust(offset, b"\0")[:offset] + data + content[offset + len(data) :]
        text = f"write {len(data)} at {offset}"
        return Change(text, after, lambda: self._write(path, os.O_RDWR, data, offset), file.name)

    def _direct(self, file: File, index: int, content: bytes) -> Change:
        """With O_DIRECT, which takes whole pages."""
        path, pages = self._path(index, file), self._chance.randint(1, 3)
        offset = self._chance.randrange(min(len(content), LARGEST - pages * PAGE) // PAGE + 1) * PAGE
        data = self._chance.randbytes(pages * PAGE)
        after = content.ljust(offset, b"\0")[:offset] + data + content[offset + len(data) :]

        def action() -> None:
            descriptor = self._process.open(path, os.O_RDWR | os.O_DIRECT)
            try:
                with mmap.mmap(-1, len(data)) as buffer:
                    buffer.write(data)
                    self._process.write(descriptor, buffer, offset, "direct write")
                self._ask(descriptor)
            finally:
                self._process.close(descriptor)

        return Change(f"write {len(data)} at {offset} with O_DIRECT", after, action, file.name)

    def _other_size(self, content: bytes) -> int:
        size = self._chance.choice(
            (0, 1, PAGE, self._chance.randrange(LARGEST), self._chance.randrange(len(content) + 1))
        )
        return size if size != len(content) else len(content) + 1 if len(content) < LARGEST else 0

    def _truncate(self, file: File, index: int, content: bytes) -> Change:
        path, size = self._path(index, file), self._other_size(content)

        def action() -> None:
            descriptor = self._process.open(path, os.O_RDWR)
            try:
                self._process.begin("truncate", size)
                os.ftruncate(descriptor, size)
                self._ask(descriptor)
            finally:
                self._process.close(descriptor)

        return Change(f"ftruncate to {size}", content[:size].ljust(size, b"\0"), action, file.name)

    def _truncate_by_name(self, file: File, index: int, content: bytes) -> Change:
        path, size = self._path(index, file), self._other_size(content)

        def action() -> None:
            self._process.begin("truncate", size)
            os.truncate(path, size)

        return Change(f"truncate to {size}", content[:size].ljust(size, b"\0"), action, file.name)

    def _replace(self, file: File, index: int, _: bytes) -> Change:
        """As editors save."""
        path, data = self._path(index, file), self._data()
        temporary = self._temporary(index)

        def action() -> None:
            self._write(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, data)
            self._process.begin("replace", path)
            os.rename(temporary, path)

        return Change(f"replace with {len(data)}", data, action, file.name, replaces=True)

    def _map(self, file: File, index: int, content: bytes) -> Change | None:
        if not content or not self._maps:
            return None
        path, data = self._path(index, file), self._data(min(len(content), 20_000))
        offset = self._chance.randrange(len(content) - len(data) + 1)
        after = content[:offset] + data + content[offset + len(data) :]
        flush = self._chance.random() < 0.5

        def action() -> None:
            descriptor = self._process.open(path, os.O_RDWR)
            try:
                self._process.begin("map write", f"{len(data)} at {offset}")
                with mmap.mmap(descriptor, len(content)) as memory:
                    if memory[:] != content:
                        self._check_content(file, memory[:], "a shared map")
                    memory[offset : offset + len(data)] = data
                    if flush:
                        memory.flush()
                    got = self._process.read(descriptor, len(data), offset)
                    if got != data:
                        self._differs(file, f"written through a map at {offset}, and read(2) says something else")
            finally:
                self._process.close(descriptor)

        if not self._can_map(path):
            return None
        text = f"write {len(data)} at {offset} of a map, {'msync' if flush else 'no msync'}"
        return Change(text, after, action, file.name)

    def _can_map(self, path: Path) -> bool:
        """Whether there are shared maps: a mount with cache=none says ENODEV."""
        descriptor = self._process.open(path, os.O_RDWR)
        try:
            mmap.mmap(descriptor, 1).close()
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            self._maps = False
        finally:
            self._process.close(descriptor)
        return self._maps

    def _map_private(self, file: File, index: int, content: bytes) -> Change | None:
        """What is written to a private map changes nothing."""
        if not content or not self._process.world.maps:
            return None
        path = self._path(index, file)

        def action() -> None:
            descriptor = self._process.open(path, os.O_RDONLY)
            try:
                self._process.begin("map read", path)
                with mmap.mmap(
                    descriptor, len(content), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
                ) as memory:
                    self._check_content(file, memory[:], "a private map")
                    memory[:1] = b"?"
            finally:
                self._process.close(descriptor)

        return Change("write to a private map", content, action, file.name, writes=False)

    def _grow_and_map(self, file: File, index: int, content: bytes) -> Change | None:
        """A map of what was just appended: nobody who looks on may make the kernel take the new pages away."""
        path, data = self._path(index, file), self._data()
        if len(content) + len(data) > LARGEST or not self._process.world.maps:
            return None
        after = content + data

        def action() -> None:
            descriptor = self._process.open(path, os.O_RDWR)
            try:
                self._process.write(descriptor, data, len(content))
                self._process.begin("map read", path)
                with mmap.mmap(descriptor, len(after), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as memory:
                    if memory[:] != after:
                        self._differs(file, "a map of the file that was just written has other bytes")
                self._ask(descriptor)
            finally:
                self._process.close(descriptor)

        return Change(f"append {len(data)} and map all", after, action, file.name)

    def _rename(self, file: File, index: int, content: bytes) -> Change:
        old, new = self._path(index, file), self._path(index, file, 1 - file.name)

        def action() -> None:
            self._process.rename(old, new)
            if old.exists():
                self._differs(file, f"{old.name} was renamed and is still there")

        return Change(f"rename to {new.name}", content, action, 1 - file.name, writes=False)

    def _link(self, file: File, index: int, content: bytes) -> Change:
        """A second name, and away with one of both."""
        old, new = self._path(index, file), self._path(index, file, 1 - file.name)

        def action() -> None:
            self._process.begin("link", f"{old} {new}")
            os.link(old, new)
            for path in (old, new):
                links = self._process.stat(path).st_nlink
                if links != 2:
                    self._differs(file, f"{path.name} has two names and st_nlink {links}")
            self._check_content(file, self._process.read_all(new), "read by the second name")
            self._process.unlink(old)

        return Change(f"link as {new.name}, unlink {old.name}", content, action, 1 - file.name, writes=False)

    def _remove(self, file: File, index: int, content: bytes) -> Change:
        path = self._path(index, file)
        holds = self._chance.random() < 0.4

        def action() -> None:
            if not holds:
                self._process.unlink(path)
                return
            descriptor = self._process.open(path, os.O_RDONLY)
            try:
                self._process.unlink(path)
                self._check_content(file, self._process.read(descriptor, 2 * LARGEST, 0), "read after unlink")
                links = self._process.fstat(descriptor).st_nlink
                if links:
                    self._differs(file, f"removed and open, and st_nlink is {links}")
            finally:
                self._process.close(descriptor)

        return Change("unlink, while it is open" if holds else "unlink", None, action, file.name)

    def _utime(self, file: File, index: int, content: bytes) -> Change:
        path = self._path(index, file)
        moment = self._chance.randrange(10**9, 2 * 10**9) * 10**9 + self._chance.randrange(10**7) * 100

        def action() -> None:
            self._process.begin("utime", path)
            os.utime(path, ns=(moment, moment))

        return Change(f"utime {moment}", content, action, file.name, writes=False, time=moment)

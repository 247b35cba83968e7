"""Any sequence of calls on two open files, each compared with what the files have to be: data, sizes, holes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from dfsfs.errors import DfsfsError
from dfsfs.vfs.data.ranges import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import AttributeChanges

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from dfsfs.vfs.filesystem import FileSystem

CLUSTER = 4096
LARGEST = 40 * CLUSTER
"""Bytes of the largest file."""


class RandomCalls:
    """See the module's text. `play` does one call. `trace` has what was done."""

    def __init__(self, fs: FileSystem, chance: random.Random) -> None:
        self._fs = fs
        self._chance = chance
        self._names = ("one", "two")
        self._handles: list[int] = []
        self._inodes: list[int] = []
        self._content = [bytearray(), bytearray()]
        self.trace: list[str] = []
        self._calls: tuple[Callable[[int], Awaitable[None]], ...] = (
            *(self._write, self._write, self._truncate, self._punch, self._punch, self._zero, self._allocate),
            *(self._copy, self._copy, self._look, self._seek, self._reopen),
        )

    async def begin(self) -> None:
        """Makes the files."""
        for name in self._names:
            opened, attributes = await self._fs.create(ROOT, name.encode(), 0o644, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._handles.append(opened.handle)
            self._inodes.append(attributes.ino)

    async def play(self) -> None:
        """One call on one of the files."""
        await self._chance.choice(self._calls)(self._chance.randrange(2))

    async def check(self) -> None:
        """Both files are what they have to be."""
        for which in (0, 1):
            await self._compare(which, 0, LARGEST + 1)
            await self._look(which)
            await self._walk(which)

    async def end(self) -> None:
        """Closes the files."""
        for handle in self._handles:
            await self._fs.flush(handle)
            await self._fs.release(handle)

    def content(self, name: str) -> bytes:
        """What a file has to be."""
        return bytes(self._content[self._names.index(name)])

    # -- calls --------------------------------------------------------------------------------------------------------

    def _range(self) -> tuple[int, int]:
        """An offset and a length, which are often whole clusters."""
        unit = self._chance.choice((1, CLUSTER))
        offset = self._chance.randrange(LARGEST // unit) * unit
        length = self._chance.randint(1, min(12, (LARGEST - offset) // unit)) * unit if unit > 1 else 0
        return offset, length or self._chance.randint(1, min(3 * CLUSTER, LARGEST - offset))

    def _note(self, text: str) -> None:
        self.trace.append(text)

    def _patch(self, which: int, offset: int, data: bytes) -> None:
        content = self._content[which]
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    async def _write(self, which: int) -> None:
        offset, length = self._range()
        data = self._chance.randbytes(length)
        self._note(f"write {which} {offset}+{length}")
        assert await self._fs.write(self._handles[which], offset, data) == length
        self._patch(which, offset, data)

    async def _truncate(self, which: int) -> None:
        size = self._range()[0]
        self._note(f"truncate {which} {size}")
        await self._fs.setattr(self._inodes[which], AttributeChanges(size=size), self._handles[which])
        content = self._content[which]
        del content[size:]
        content.extend(bytes(size - len(content)))

    async def _punch(self, which: int) -> None:
        offset, length = self._range()
        self._note(f"punch {which} {offset}+{length}")
        await self._fs.fallocate(self._handles[which], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
        self._clear(which, offset, length)

    def _clear(self, which: int, offset: int, length: int) -> None:
        length = max(0, min(offset + length, len(self._content[which])) - offset)
        if length:
            self._patch(which, offset, bytes(length))

    async def _zero(self, which: int) -> None:
        offset, length = self._range()
        keeps = self._chance.choice((0, FALLOC_FL_KEEP_SIZE))
        self._note(f"zero {which} {offset}+{length} {keeps}")
        await self._fs.fallocate(self._handles[which], FALLOC_FL_ZERO_RANGE | keeps, offset, length)
        if keeps:
            self._clear(which, offset, length)
        else:
            self._patch(which, offset, bytes(length))

    async def _allocate(self, which: int) -> None:
        offset, length = self._range()
        self._note(f"allocate {which} {offset}+{length}")
        await self._fs.fallocate(self._handles[which], 0, offset, length)
        content = self._content[which]
        content.extend(bytes(max(0, offset + length - len(content))))

    async def _copy(self, which: int) -> None:
        source = self._chance.randrange(2)
        (offset_in, length), (offset_out, _) = self._range(), self._range()
        length = min(length, LARGEST - offset_out)
        self._note(f"copy {source} {offset_in}+{length} to {which} {offset_out}")
        copying = self._fs.copy_file_range(self._handles[source], offset_in, self._handles[which], offset_out, length)
        if source == which and abs(offset_in - offset_out) < length:
            await self._fails(errno.EINVAL, copying)
            return
        data = bytes(self._content[source][offset_in : offset_in + length])
        assert await copying == len(data)
        if data:
            self._patch(which, offset_out, data)

    async def _reopen(self, which: int) -> None:
        self._note(f"reopen {which}")
        await self._fs.flush(self._handles[which])
        await self._fs.release(self._handles[which])
        self._handles[which] = (await self._fs.open(self._inodes[which], os.O_RDWR)).handle

    # -- what is seen -------------------------------------------------------------------------------------------------

    async def _look(self, which: int) -> None:
        assert (await self._fs.getattr(self._inodes[which])).size == len(self._content[which])
        await self._compare(which, *self._range())

    async def _compare(self, which: int, offset: int, length: int) -> None:
        found = bytes(await self._fs.read(self._handles[which], offset, length))
        assert found == self._content[which][offset : offset + length]

    async def _seek(self, which: int) -> None:
        """What is said to be no data is zeros."""
        content, handle, offset = self._content[which], self._handles[which], self._range()[0]
        self._note(f"seek {which} {offset}")
        if offset >= len(content):
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                await self._fails(errno.ENXIO, self._fs.lseek(handle, offset, whence))
            return
        hole = await self._fs.lseek(handle, offset, os.SEEK_HOLE)
        assert offset <= hole <= len(content)
        data = await self._find_data(which, offset)
        assert not any(content[offset:data])
        assert (hole == offset) != (data == offset)

    async def _walk(self, which: int) -> None:
        """A copy of what is said to be data is a copy of the file."""
        content, handle = self._content[which], self._handles[which]
        copied, at = bytearray(len(content)), 0
        while at < len(content):
            if (start := await self._find_data(which, at)) == len(content):
                break
            at = await self._fs.lseek(handle, start, os.SEEK_HOLE)
            assert start < at <= len(content)
            copied[start:at] = content[start:at]
        assert copied == content

    async def _find_data(self, which: int, offset: int) -> int:
        """Where the next data is; the size of the file, if none comes any more."""
        try:
            return await self._fs.lseek(self._handles[which], offset, os.SEEK_DATA)
        except DfsfsError as error:
            if error.errno != errno.ENXIO:
                raise
        return len(self._content[which])

    async def _fails(self, code: int, action: Awaitable[object]) -> None:
        with pytest.raises(DfsfsError) as raised:
            await action
        assert errno.errorcode[raised.value.errno] == errno.errorcode[code]

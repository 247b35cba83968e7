"""FileRanges: holes of open files, and room for them: lseek(2) with SEEK_DATA and SEEK_HOLE, fallocate(2).

Holes. A server knows the holes of files that are sparse for it (FILE_ATTRIBUTE_SPARSE_FILE), so of others nothing is
asked: they are data up to their end, as every file may be (lseek(2)). Samba says of a file with holes that nobody has
made sparse over SMB that it has none. Programs ask for one hole after the other, so an answer is kept with the handle.
It is believed for as long as attributes are, while nothing changes the file here, and its size and times are the same.

Room. SMB has no request that allocates a range. A size of the allocation can be set, which Windows keeps to, and Samba
with `strict allocate`. If the file's allocation says after that that the room is there, it is. If not, what happens
depends on what was asked for:

    allocate               the file is made longer if the volume has room for it now, as file systems do that copy on
                           write: a later write may fail with ENOSPC all the same
    allocate, keep size    EOPNOTSUPP: nothing of it can be done

Zeros. A hole is punched in a sparse file, so the file is made one. Zeroing a range leaves the file as it is, and
allocates nothing: what a server frees by it is free.

Sizes. A size can be set on the server only if that can't cut off what another client has just written behind it: if a
lease says that none has the file open. Otherwise a file is made longer by a zero at its new end.

Order. What was written here is sent first, and writes that come meanwhile wait. Each change is one of ordering.py: what
is read ahead, attributes and answers that are under way are good no more. The kernel drops its own pages of the range.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from dfsfs.errors import PosixError, SmbError
from dfsfs.smb.tree import ranges
from dfsfs.smb.wire.constants import Access, FileAttributes
from dfsfs.smb.wire.fscc import MAX_SIZE
from dfsfs.smb.wire.ranges import ByteRange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.tree.ranges import Allocated
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.caching import FileLeases
    from dfsfs.vfs.data.dirtydata import DirtyData
    from dfsfs.vfs.data.filerunner import FileRunner
    from dfsfs.vfs.data.filetable import OpenFileTable
    from dfsfs.vfs.data.localattrs import LocalAttributes
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup
    from dfsfs.vfs.names.ordering import LocalWrites

    Change = Callable[[RemoteFile], Awaitable[FileStat]]
    """Changes a file through a handle and returns its stat afterwards."""

FALLOC_FL_KEEP_SIZE: Final = 0x01
FALLOC_FL_PUNCH_HOLE: Final = 0x02
FALLOC_FL_ZERO_RANGE: Final = 0x10
"""Modes of fallocate(2), from linux/falloc.h."""
_PUNCH: Final = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
MODES: Final = frozenset(
    {0, FALLOC_FL_KEEP_SIZE, _PUNCH, FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE}
)
"""The modes that there are here. Nothing in SMB collapses, inserts or unshares ranges."""
SMALLEST_PART: Final = 32 * 1024 * 1024
"""Bytes of the smallest part of a file that is asked about: if clusters have 4 KiB, the answer always has room."""
QUESTIONS: Final = 64
"""Times that one lseek asks a server: then the rest of the file is data."""
KEPT: Final = 512
"""Ranges of one answer that are kept."""
_SPARSE: Final = int(FileAttributes.FILE_ATTRIBUTE_SPARSE_FILE)


@dataclass(frozen=True, slots=True)
class KnownRanges:
    """What a server said of a file's holes. `asked`: the moment (ordering.py); `expires`: in seconds of the clock."""

    start: int
    """Where the part begins that it is about, in bytes; its end is `answer.known_to`."""
    answer: Allocated
    asked: int
    breaks: int
    expires: float


class FileRanges:
    """See the module's text."""

    def __init__(
        self,
        lookup: Lookup,
        table: OpenFileTable,
        runner: FileRunner,
        dirty: DirtyData,
        local: LocalAttributes,
        leases: FileLeases,
    ) -> None:
        self._lookup = lookup
        self._table = table
        self._runner = runner
        self._dirty = dirty
        self._local = local
        self._leases = leases

    # -- holes ------------------------------------------------------------------------------------------------------

    async def seek(self, handle: int, offset: int, whence: int) -> int:
        """The offset of the next data (`whence` SEEK_DATA) or hole (SEEK_HOLE) at `offset` or behind it, in bytes. The
        end of a file is a hole.

        Raises:
            PosixError: ENXIO, `offset` is not before the end, or no data comes any more; EINVAL, another `whence`.
            DfsfsError: the server's answer.
        """
        file = self._table.get(handle)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise PosixError(errno.EINVAL, f"lseek with whence {whence}")
        inode = file.inode
        if offset < 0:
            raise PosixError(errno.ENXIO, f"{inode.name} has no offset {offset}")
        await self._dirty.write_back(inode)
        size = self._size_without_holes(inode)
        if size is not None:
            found = offset if whence == os.SEEK_DATA else size
        else:
            readable = file if file.access & Access.FILE_READ_DATA else self._table.find_readable(inode)
            found, size = await self._ask(readable or file, offset, whence)
        if offset >= size or (whence == os.SEEK_DATA and found >= size):
            raise PosixError(errno.ENXIO, f"{inode.name}: nothing comes behind {offset} of {size} bytes")
        return found

    def _size_without_holes(self, inode: Inode) -> int | None:
        """The size of a file that is known to have no holes, in bytes; None if it is not known."""
        attributes = self._lookup.attributes
        if not attributes.is_fresh(inode) or inode.stat is None or inode.stat.attributes & _SPARSE:
            return None
        if inode.local_writes is not None and inode.local_writes.is_size_unsure:
            return None
        return attributes.get(inode).size

    async def _ask(self, file: OpenFile, offset: int, whence: int) -> tuple[int, int]:
        """What `seek` finds, and the size of the file, both in bytes. Raises DfsfsError.

        The question is about the whole rest of the file first. If the answer has no room for all its ranges, it is
        about smaller parts, one after the other.
        """
        inode, at = file.inode, min(offset, MAX_SIZE - 1)
        part, size = MAX_SIZE, 0
        for _ in range(QUESTIONS):
            answer = self._get_known(file, at) or await self._query(file, ByteRange(at, min(MAX_SIZE, at + part)))
            size = self._lookup.attributes.get(inode).size
            found = find(answer, at, whence)
            if found is not None or answer.known_to >= size:
                return size if found is None else min(found, size), size
            if answer.known_to > at:
                at, part = answer.known_to, 2 * part
            elif part > SMALLEST_PART:
                part = max(SMALLEST_PART, min(part, size - at) // 8)
            else:
                break
        return at if whence == os.SEEK_DATA else size, size

    async def _query(self, file: OpenFile, part: ByteRange) -> Allocated:
        inode, attributes, now = file.inode, self._lookup.attributes, self._lookup.clock()
        asked, breaks = self._lookup.table.version, inode.page_cache.breaks

        async def query(attempt: Attempt | None) -> Allocated:
            return await ranges.query_allocated(await file.get_handle(attempt), part)

        answer = await self._runner.run(file, query)
        file.allocated = None
        if attributes.update(inode, answer.stat, asked, by_name=False):
            file.allocated = KnownRanges(part.start, _cut(answer), asked, breaks, now + attributes.lifetimes.files)
        return answer

    def _get_known(self, file: OpenFile, at: int) -> Allocated | None:
        """What was said of a part that begins at or before `at`, if that is still to be believed."""
        known, inode = file.allocated, file.inode
        if known is None or not known.start <= at < known.answer.known_to:
            return None
        if inode.has_changed_since(known.asked) or inode.page_cache.breaks != known.breaks:
            return None
        is_old = self._lookup.clock() >= known.expires or _changes(inode.stat) != _changes(known.answer.stat)
        return None if is_old else known.answer

    # -- room and zeros ---------------------------------------------------------------------------------------------

    async def allocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2) of `length` bytes at `offset`. The module's text says what can be promised.

        Raises:
            PosixError: EOPNOTSUPP, the mode is none of MODES, or the server can't do it; EBADF, the file is not open
                for writing; EINVAL, EFBIG, the range; ENOSPC, the volume has no room.
            DfsfsError: the server's answer.
        """
        if mode not in MODES:
            raise PosixError(errno.EOPNOTSUPP, f"fallocate with mode {mode:#x}")
        if offset < 0 or length <= 0:
            raise PosixError(errno.EINVAL, f"fallocate of {length} bytes at {offset}")
        if offset + length > MAX_SIZE:
            raise PosixError(errno.EFBIG, f"fallocate of {length} bytes at {offset}")
        file = self._table.get(handle)
        inode, own = file.inode, file.inode.local_writes
        if not file.writable or own is None:
            raise PosixError(errno.EBADF, f"{inode.name} is not open to be written")
        part = ByteRange(offset, offset + length)
        async with self._dirty.resizing(inode):
            if own.is_size_unsure or not inode.is_exclusive:
                await self._local.refresh_size(file, own)
            if mode == _PUNCH:
                await self._change(file, own, partial(ranges.zero, part=part, makes_sparse=True))
                return
            if mode & FALLOC_FL_ZERO_RANGE:
                await self._change(file, own, partial(ranges.zero, part=part, makes_sparse=False))
            else:
                await self._reserve(file, own, part.end, keeps_size=bool(mode))
            if mode & FALLOC_FL_KEEP_SIZE:
                return
            if part.end > own.size:
                await self._change(file, own, partial(_extend, inode, part.end))
            self._local.note_kernel_size(inode, max(inode.kernel_size, part.end))

    async def _reserve(self, file: OpenFile, own: LocalWrites, end: int, *, keeps_size: bool) -> None:
        """Sees to it that there is room for the file's first `end` bytes.

        Raises:
            PosixError: ENOSPC, there is not; EOPNOTSUPP, with `keeps_size`: the server allocates nothing.
            DfsfsError: the server's answer.
        """
        inode, room = file.inode, 0

        async def reserve(remote: RemoteFile, *, changes: bool) -> FileStat:
            nonlocal room
            stat, volume = await ranges.reserve(remote, end if changes and inode.is_exclusive else None)
            room = volume.caller_free
            return stat

        async def look(attempt: Attempt | None) -> FileStat:
            return await reserve(await file.get_handle(attempt), changes=False)

        if end > own.size and inode.is_exclusive:
            stat = await self._change(file, own, partial(reserve, changes=True))
        else:
            stat = await self._runner.run(file, look)
        if stat.allocated >= end and not stat.attributes & _SPARSE:
            return
        if keeps_size:
            raise PosixError(errno.EOPNOTSUPP, f"{inode.name}: its server allocates nothing in advance")
        if end - min(end, stat.allocated) > room:
            raise PosixError(errno.ENOSPC, f"{inode.name}: there are {room} bytes left")

    async def _change(self, file: OpenFile, own: LocalWrites, change: Change) -> FileStat:
        """Carries out a change of a file's data or size. Returns the server's stat afterwards.

        Raises:
            PosixError: EOPNOTSUPP, the server has no such change.
            DfsfsError: the server's answer.
        """
        inode, table = file.inode, self._lookup.table
        begun, alone = table.begin_change(inode), False

        async def operation(attempt: Attempt | None) -> FileStat:
            return await change(await file.get_handle(attempt))

        try:
            stat = await self._runner.run(file, operation)
        except BaseException as error:
            if isinstance(error, SmbError) and error.status in ranges.UNSUPPORTED:
                raise PosixError(errno.EOPNOTSUPP, str(error)) from error
            if not isinstance(error, PosixError):
                self._dirty.note_lost(inode)
                self._leases.invalidate_soon(inode)  # a part may be done, and the kernel drops nothing by itself then
            raise
        finally:
            alone = table.end_change(inode, begun)
        file.note_write()
        own.size = stat.size if alone else max(own.size, stat.size)
        own.bytes_written = 0  # the server has all of it, and says what it takes
        self._local.note_write_time(file, own)
        if alone:
            self._lookup.attributes.update(inode, stat, table.version, by_name=False)
        return stat


async def _extend(inode: Inode, size: int, file: RemoteFile) -> FileStat:
    """Makes a file `size` bytes long, or lets it be longer if other clients may have written to it."""
    # Looked at when nothing is waited for any more: what gives the lease back is sent behind this.
    return await (ranges.set_end if inode.is_exclusive else ranges.extend)(file, size)


def _changes(stat: FileStat | None) -> tuple[int, ...]:
    """What is another after another client has written to a file."""
    return () if stat is None else (stat.size, stat.written, stat.changed)


def _cut(answer: Allocated) -> Allocated:
    """The beginning of an answer, with KEPT ranges at most."""
    if answer.ranges is None or len(answer.ranges) <= KEPT:
        return answer
    return replace(answer, ranges=answer.ranges[:KEPT], known_to=answer.ranges[KEPT - 1].end)


def find(answer: Allocated, offset: int, whence: int) -> int | None:
    """The next data or hole at `offset` or behind it; None if there is none before `answer.known_to`."""
    if answer.ranges is None:
        return offset if whence == os.SEEK_DATA else answer.known_to
    if whence == os.SEEK_DATA:
        return next((max(part.start, offset) for part in answer.ranges if part.end > offset), None)
    end = next((part.end for part in answer.ranges if part.start <= offset < part.end), offset)
    return end if end < answer.known_to else None

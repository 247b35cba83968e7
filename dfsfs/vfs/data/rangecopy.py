"""RangeCopy: copies from one open file to another one that stay on the server: copy_file_range(2), `dfsfs cp`.

    one session         FSCTL_SRV_COPYCHUNK, LARGEST bytes at most each time
    one volume besides  FSCTL_DUPLICATE_EXTENTS_TO_FILE, if the volume says that its files can share blocks; what it
                        refuses is copied
    anything else       EXDEV: the program reads and writes

What was written here to either file is sent first; writes to the target that come meanwhile wait. A copy changes its
target as any write does: ordering.py. Signals come through between two calls, so each does a bounded part of the work.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Final

from dfsfs.errors import DfsfsError, Disposition, PosixError, SmbError
from dfsfs.smb.tree import ranges
from dfsfs.smb.wire.constants import Access, FileSystemAttributes
from dfsfs.smb.wire.copychunk import CHUNK, CHUNKS, Range
from dfsfs.smb.wire.fscc import MAX_SIZE

if TYPE_CHECKING:
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.unc import UncPath
    from dfsfs.vfs.data.caching import FileLeases
    from dfsfs.vfs.data.dirtydata import DirtyData
    from dfsfs.vfs.data.filerunner import FileRunner
    from dfsfs.vfs.data.filetable import OpenFileTable
    from dfsfs.vfs.data.localattrs import LocalAttributes
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

LARGEST: Final = CHUNK * CHUNKS
"""Bytes that one request copies at most."""
LARGEST_CLONE: Final = 1 << 30
"""Bytes that one request clones at most. ReFS takes less than 4 GiB at once (MS-FSCC 2.3.9)."""
CLONE_UNIT: Final = 64 * 1024
"""Offsets and lengths of a clone are multiples of this: the largest clusters of file systems that clone."""
_REFUSALS: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT})
"""Errnos of servers that can't copy, or not between these two files."""
_TRIES: Final = 3
"""Times that a copy is begun while the source's connection is lost before the target's."""


class RangeCopy:
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
        self._without_clones: set[UncPath] = set()
        """Volumes that have refused to clone, whatever they say of themselves."""

    async def copy_by_handle(
        self, handle_in: int, offset_in: int, handle_out: int, offset_out: int, length: int
    ) -> int:
        """copy_file_range(2): returns how many bytes were copied, 0 at the end of the source.

        Raises:
            PosixError: EXDEV, the server can't do it; EBADF, a file is not open as it has to be; EINVAL, the ranges are
                of one file and overlap, or make no sense; EFBIG, the target would be too large.
            DfsfsError: the server's answer.
        """
        reader, writer = self._table.get(handle_in), self._table.get(handle_out)
        if not reader.access & Access.FILE_READ_DATA or not writer.writable:
            raise PosixError(errno.EBADF, f"{reader.inode.name} is not open to be read, or {writer.inode.name} written")
        if min(offset_in, offset_out, length) < 0:
            raise PosixError(errno.EINVAL, f"a copy of {length} bytes from {offset_in} to {offset_out}")
        if offset_out + length > MAX_SIZE:
            raise PosixError(errno.EFBIG, f"a copy of {length} bytes to {offset_out}")
        if _is_same(reader.inode, writer.inode) and abs(offset_in - offset_out) < length:
            raise PosixError(errno.EINVAL, f"a copy within {writer.inode.name} that overlaps itself")
        return await self.copy(reader, writer, Range(offset_in, offset_out, length)) if length else 0

    async def copy(self, reader: OpenFile, writer: OpenFile, wanted: Range) -> int:
        """Copies from the beginning of a range, LARGEST bytes at most or more if that moves no data. Returns how many
        bytes were copied, 0 at the end of the source. Raises as `copy_by_handle`.
        """
        async with self._dirty.resizing(writer.inode):
            await self._dirty.write_back(reader.inode)
            for _ in range(_TRIES):
                await self._runner.run(reader, reader.check_target)
                source = reader.remote[0]
                try:
                    return await self._copy(source, writer, wanted)
                except DfsfsError as error:
                    if source.alive or error.disposition is not Disposition.RETURN:
                        raise
            raise PosixError(errno.EXDEV, f"the connection of {source.path} is lost again and again")

    async def _copy(self, source: RemoteFile, writer: OpenFile, wanted: Range) -> int:
        inode, own, table = writer.inode, writer.inode.local_writes, self._lookup.table
        try:
            with table.changing(inode):
                copied = await self._runner.run(writer, partial(self._copy_on_server, source, writer, wanted))
        except BaseException as error:
            if isinstance(error, SmbError) and error.errno in _REFUSALS:
                raise PosixError(errno.EXDEV, str(error)) from error
            if not isinstance(error, PosixError):
                self._dirty.note_lost(inode)
                self._leases.invalidate_soon(inode)  # a part may have been copied, and a cancelled task can't wait
            raise
        if copied:
            writer.note_write()
            end = wanted.target + copied
            self._local.note_kernel_size(inode, max(inode.kernel_size, end))
            if own is not None:
                own.size = max(own.size, end)
                self._local.note_write_time(writer, own)
        return copied

    async def _copy_on_server(
        self, source: RemoteFile, writer: OpenFile, wanted: Range, attempt: Attempt | None
    ) -> int:
        target = await writer.get_handle(attempt)
        if (
            source.tree.connection is not target.tree.connection
            or source.tree.route.session_id != target.tree.route.session_id
        ):
            raise PosixError(errno.EXDEV, f"{source.path} and {target.path} are not on one server")
        clone = await self._find_clone(source, target, wanted, attempt)
        if clone is not None and await self._clone(source, target, clone, writer.inode):
            return clone.length
        return await ranges.copy_chunks(
            target, source, Range(wanted.source, wanted.target, min(LARGEST, wanted.length))
        )

    # -- clones -----------------------------------------------------------------------------------------------------

    async def _find_clone(
        self, source: RemoteFile, target: RemoteFile, wanted: Range, attempt: Attempt | None
    ) -> Range | None:
        """The part of the range that may be cloned; None if nothing may. Raises DfsfsError."""
        volume = target.tree.volume
        length = min(wanted.length, LARGEST_CLONE) // CLONE_UNIT * CLONE_UNIT
        if attempt is None or not length or wanted.source % CLONE_UNIT or wanted.target % CLONE_UNIT:
            return None
        if volume in self._without_clones or source.tree.volume != volume:
            return None
        if not await attempt.tree.xattrs.query_features() & FileSystemAttributes.FILE_SUPPORTS_BLOCK_REFCOUNTING:
            self._without_clones.add(volume)
            return None
        size = (await source.query()).size
        length = min(length, max(0, size - wanted.source) // CLONE_UNIT * CLONE_UNIT)
        return Range(wanted.source, wanted.target, length) if length else None

    async def _clone(self, source: RemoteFile, target: RemoteFile, clone: Range, inode: Inode) -> bool:
        """Whether the server has cloned a range; False: it has to be copied. Raises DfsfsError."""
        own, end, ends = inode.local_writes, clone.target + clone.length, None
        if own is None or end > own.size:
            # A clone needs the target to be as long already. A size that is set cuts off what others have appended.
            if own is None or own.is_size_unsure or not inode.is_exclusive:
                return False
            ends = (end, own.size)
        try:
            await ranges.duplicate(target, source, clone, ends=ends)
        except SmbError as error:
            if error.disposition is not Disposition.RETURN:
                raise
            if error.status in ranges.UNSUPPORTED:
                self._without_clones.add(target.tree.volume)
            return False
        return True


def _is_same(one: Inode, other: Inode) -> bool:
    """Whether two inodes are of one file: it may be known by two DFS links."""
    return one is other or (bool(one.file_id) and (one.share, one.file_id) == (other.share, other.file_id))

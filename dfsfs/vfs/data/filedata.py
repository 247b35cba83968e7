"""FileData: reading and writing open files, by the number of the handle.

A write returns as soon as its data is taken; it is sent in larger pieces, several at once (dirtydata.py). flush, which
is what close(2) waits for, returns when the server has everything. An error is given to the program once, by the write,
flush or fsync that comes next. fsync also has the server write to its disk.

A write is sent, and waited for, at once if the file was opened with O_SYNC, O_DSYNC or O_DIRECT, or if other clients
have it open.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import PosixError, SmbError
from dfsfs.smb.tree.lockedranges import is_lock_conflict
from dfsfs.smb.wire.constants import Access, LeaseState
from dfsfs.unanswered import watch
from dfsfs.vfs.data.caching import CacheMode
from dfsfs.vfs.data.dirtydata import raise_writeback_error

if TYPE_CHECKING:
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.data.caching import FileLeases
    from dfsfs.vfs.data.dirtydata import DirtyData
    from dfsfs.vfs.data.filerunner import FileRunner
    from dfsfs.vfs.data.filetable import OpenFileTable
    from dfsfs.vfs.data.localattrs import LocalAttributes
    from dfsfs.vfs.data.lockedfiles import LockedFiles
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.data.pending import PendingOperations
    from dfsfs.vfs.data.readahead import ReadAhead
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup
    from dfsfs.vfs.names.ordering import LocalWrites

# Bound once: each read and write looks at one of them.
_READ_CACHING, _WRITE_CACHING = LeaseState.SMB2_LEASE_READ_CACHING, LeaseState.SMB2_LEASE_WRITE_CACHING

INVALIDATE_TIMEOUT = 0.2
"""Seconds for which a direct write waits for the kernel to drop pages that readers have got meanwhile. If writes fill
the queue of requests that the kernel does not wait for, reads are behind them, and the kernel waits for those reads.
"""


class FileData:
    """See the module's text."""

    def __init__(
        self,
        lookup: Lookup,
        table: OpenFileTable,
        runner: FileRunner,
        dirty: DirtyData,
        local: LocalAttributes,
        leases: FileLeases,
        read_ahead: ReadAhead,
        locks: LockedFiles,
        pending: PendingOperations,
    ) -> None:
        self._lookup = lookup
        self._table = table
        self._runner = runner
        self._dirty = dirty
        self._local = local
        self._leases = leases
        self._read_ahead = read_ahead
        self._locks = locks
        self._pending = pending

    # -- reading ----------------------------------------------------------------------------------------------------

    async def read(self, handle: int, offset: int, size: int) -> Buffer:
        """Up to `size` bytes; fewer only at the end of the file. Raises DfsfsError."""
        file = self._table.get(handle)
        if file.has_inline and (known := file.read_inline(offset, size, self._lookup.clock())) is not None:
            return known
        if file.inode.writers:
            await self._dirty.write_back(file.inode)
        if self._leases.needs_renewal(file.inode, _READ_CACHING):
            await self._runner.run(file, lambda attempt: self._leases.renew(file.inode, attempt, _READ_CACHING))
        self._leases.note_read(file.inode)
        found = file.read_ahead(self._read_ahead, offset, size) if file.reads_ahead else None
        if found is not None and (data := await found.data()) is not None:
            return data
        try:
            return await self._runner.run(file, lambda attempt: file.read(attempt, offset, size))
        except SmbError as error:
            if is_lock_conflict(error):
                self._locks.note_conflict(file.inode)
            raise

    # -- writing ----------------------------------------------------------------------------------------------------

    async def write(self, handle: int, offset: int, data: Buffer) -> int:
        """Takes all of `data` and returns its size in bytes. The module's text says when the server has it.

        Raises:
            PosixError: EBADF, the file is not open for writing.
            DfsfsError: the server's answer, to this write or to an earlier one.
        """
        file = self._table.get(handle)
        inode = file.inode
        for other in self._table.get_files(inode):
            if other is not file and other.writeback.is_dirty:
                await self._dirty.drain(other)
        own = inode.local_writes
        if not file.writable or own is None:
            raise PosixError(errno.EBADF, f"{inode.name} is not open to be written")
        await self._pending.wait_resizes(inode)
        if own.is_size_unsure or (file.appends and self._is_shared(inode)):
            await self._local.refresh_size(file, own)
        offset = self._find_offset(file, own, offset, len(data))
        begun = self._lookup.table.begin_change(inode, keeps_attributes=True)
        own.reserved = max(own.reserved, offset + len(data))  # at once: what another program appends goes behind it
        with watch() as unanswered:
            try:
                if not (await self._may_buffer(file) and await self._dirty.buffer(file, offset, data)):
                    await self._write_through(file, offset, data)
            except BaseException:
                self._dirty.note_lost(inode)
                raise
            finally:
                self._lookup.table.end_change(inode, begun, keeps_attributes=True, unanswered=unanswered)
        own.size, own.bytes_written = max(own.size, offset + len(data)), own.bytes_written + len(data)
        self._local.note_write_time(file, own)
        return len(data)

    def _is_shared(self, inode: Inode) -> bool:
        """Whether other clients may have the file open, and so may have appended to it."""
        return not inode.is_exclusive and self._leases.mode is not CacheMode.LOOSE

    def _find_offset(self, file: OpenFile, own: LocalWrites, offset: int, size: int) -> int:
        """Where data goes that the kernel wants at `offset`: to the end of a file that was opened with O_APPEND."""
        inode = file.inode
        believed = max(inode.kernel_size, offset + size)
        if file.appends and offset != own.append_offset and not file.is_from_map(offset, size):
            offset = own.append_offset
            self._leases.invalidate_soon(inode)  # the kernel has put the data where it believes the end to be
        self._local.note_kernel_size(inode, believed)
        return offset

    async def _may_buffer(self, file: OpenFile) -> bool:
        """Whether data may wait here. It may not if the program or other clients have to see it on the server at once;
        then everything that was written through this handle is there when this returns.

        Raises:
            DfsfsError: the error of something that was written before.
        """
        if file.synchronous:
            return False
        if not self._leases.writes_through(file.inode):
            return True
        if self._leases.needs_renewal(file.inode, _WRITE_CACHING):
            await self._runner.run(file, lambda attempt: self._leases.renew(file.inode, attempt, _WRITE_CACHING))
            if not self._leases.writes_through(file.inode):
                return True
        await self._dirty.drain_or_raise(file)
        return False

    async def _write_through(self, file: OpenFile, offset: int, data: Buffer) -> None:
        """Has the server write data, and waits for it."""
        # The kernel drops pages of that range before the write, but not those that readers got during one that is
        # asynchronous.
        invalidates = file.is_direct and any(not other.is_direct for other in self._table.get_files(file.inode))
        try:
            await self._runner.run(file, lambda attempt: file.write(attempt, offset, data))
            if invalidates:
                with trio.move_on_after(INVALIDATE_TIMEOUT):
                    await self._leases.kernel.invalidate(file.inode.ino)
        except BaseException:
            if invalidates:
                self._leases.invalidate_soon(file.inode)  # it may have been written
            raise

    # -- durability -------------------------------------------------------------------------------------------------

    async def flush(self, handle: int) -> None:
        """Returns when everything that was written has reached the server, and not one that the file has left.

        Raises:
            DfsfsError: something has not.
        """
        file = self._table.get(handle)
        await self._dirty.drain_or_raise(file)
        if file.close_moves_times and file.access & Access.FILE_READ_DATA:
            # It may have been mapped, and the kernel does not drop attributes for what it writes back of a map.
            await self._leases.kernel.invalidate_attributes(file.inode.ino)
        if (file.unsynced or file.poisoned) and not file.is_current:
            await self._runner.run(file, file.check_target)

    async def fsync(self, handle: int) -> None:
        """Has the server write the file to its disk. Raises DfsfsError."""
        file: OpenFile | None = self._table.get(handle)
        assert file is not None
        await self._dirty.write_back(file.inode)
        raise_writeback_error(file)
        if not file.writable:
            # A server refuses FLUSH on such a handle (MS-SMB2 3.3.5.11); what else this mount wrote still counts.
            file = self._table.find_writable(file.inode)
        if file is not None:
            await self._runner.run(file, file.flush)

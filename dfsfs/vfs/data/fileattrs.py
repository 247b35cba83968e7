"""FileAttributes: asking for and setting what a server knows of a file that may be open here."""

from __future__ import annotations

import errno
from itertools import islice
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, PosixError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Access
from dfsfs.unanswered import watch

if TYPE_CHECKING:
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.dirtydata import DirtyData
    from dfsfs.vfs.data.filerunner import FileRunner
    from dfsfs.vfs.data.filetable import OpenFileTable
    from dfsfs.vfs.data.localattrs import LocalAttributes
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.data.pending import PendingOperations
    from dfsfs.vfs.data.serverhandles import ServerHandles
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup


class FileAttributes:
    """See the module's text. Changes go through the caller's handles where there are any, else by the file's name."""

    def __init__(
        self,
        lookup: Lookup,
        table: OpenFileTable,
        runner: FileRunner,
        dirty: DirtyData,
        local: LocalAttributes,
        on_server: ServerHandles,
        pending: PendingOperations,
    ) -> None:
        self._lookup = lookup
        self._table = table
        self._runner = runner
        self._dirty = dirty
        self._local = local
        self._on_server = on_server
        self._pending = pending

    async def query(self, inode: Inode) -> bool:
        """Asks for a file's attributes through an open handle: the way for one that has no name any more. Returns
        whether no change made here has overtaken the answer.

        Raises:
            PosixError: ESTALE, nothing is open.
            DfsfsError: the server's answer.
        """
        while files := self._table.get_files(inode):
            file = next((file for file in files if file.alive), files[0])
            try:
                return await self.query_through(file)
            except DfsfsError:
                if file in self._table.get_files(inode):
                    raise  # else a program has closed it in the meantime, and another one may have it open
        raise PosixError(errno.ESTALE, f"{inode.name} is gone")

    async def query_through(self, file: OpenFile) -> bool:
        """Asks for a file's attributes through a handle. Result and errors as in `query`."""
        inode = file.inode
        await self._dirty.write_back(inode)
        asked = self._lookup.table.version
        return self._lookup.attributes.update(inode, await self._runner.run(file, file.query), asked, by_name=False)

    # -- size -------------------------------------------------------------------------------------------------------

    async def set_size(self, inode: Inode, handle: int | None, size: int) -> None:
        """Truncates or extends a file to `size` bytes, through `handle` if that may write. Raises DfsfsError."""
        async with self._dirty.resizing(inode):
            file = self._table.find(handle)
            if file is None or not file.writable:
                file = self._table.find_writable(inode)
            await (self._set_size_by_name(inode, size) if file is None else self._set_size_on(file, size, handle))
        self._local.note_kernel_size(inode, size)

    async def _set_size_on(self, file: OpenFile, size: int, handle: int | None) -> None:
        """Sets the size through an open file. If `handle` is None, another program may close that meanwhile."""
        inode, table = file.inode, self._lookup.table
        begun = table.begin_change(inode, keeps_attributes=True)
        with watch() as unanswered:
            try:
                await self._runner.run(file, lambda attempt: file.set_size(attempt, size))
            except SmbError as error:
                if error.status != NtStatus.FILE_CLOSED or handle is not None:
                    raise
                await self._set_size_by_name(inode, size)
            finally:
                table.end_change(inode, begun, keeps_attributes=True, unanswered=unanswered)
        if inode.local_writes is not None:
            self._lookup.attributes.note_size_set(inode, size)
            self._local.note_write_time(file, inode.local_writes)

    async def _set_size_by_name(self, inode: Inode, size: int) -> None:
        moves_time = inode.stat is None or inode.stat.size != size or inode.local_writes is not None

        async def operation(attempt: Attempt) -> FileStat:
            written = attempt.tree.server_time() if moves_time else None
            return await attempt.tree.set_size(attempt.path, size, written)

        self._on_server.close_deferred(inode)
        table = self._lookup.table
        begun, alone = table.begin_change(inode), False
        with watch() as unanswered:
            try:
                stat = await self._lookup.change_by_name(inode, operation)
            finally:
                alone = table.end_change(inode, begun, unanswered=unanswered)
        if moves_time:
            self._local.note_time_set(inode)
        if inode.local_writes is not None:  # a program that had it open for writing is just closing it
            self._lookup.attributes.note_size_set(inode, size)
            inode.local_writes.written = stat.written
        if alone:
            self._lookup.attributes.update(inode, stat, table.version)

    # -- times and attributes ---------------------------------------------------------------------------------------

    async def set_basic(self, inode: Inode, info: bytes) -> FileStat | None:
        """Sets attributes, but no last write time (FILE_BASIC_INFORMATION, MS-FSCC 2.4.7). Returns what the server
        knows of the file then, None if it was not asked. Raises DfsfsError.

        It is done through every handle of the caller that has written, as the close of such a one sets times again. If
        none has, one that may do it saves an open and a close.
        """
        await self._dirty.write_back(inode)
        files = self._table.get_files_of_caller(inode)
        able = (file for file in files if file.access & Access.FILE_WRITE_ATTRIBUTES and file.is_current)
        through = [file for file in files if file.has_written] or list(islice(able, 1))
        stat: FileStat | None = None
        for file in through:
            try:
                stat = await self._set_basic_on(file, info)
            except DfsfsError:
                if file in self._table.get_files(inode):
                    raise  # else another program has closed it in the meantime
        if stat is None:
            stat = await self._lookup.change_by_name(inode, lambda attempt: _set_basic(attempt, inode, info))
        return stat

    async def set_times(self, inode: Inode, info: bytes) -> FileStat | None:
        """As `set_basic`, with a last write time, which no close of a handle here moves any more."""
        async with self._pending.setting_times(inode):
            stat = await self.set_basic(inode, info)
            self._local.note_time_set(inode)
            if inode.local_writes is not None:
                inode.local_writes.written = 0
            for file in self._table.get_files(inode):
                file.close_moves_times = False
        return stat

    async def _set_basic_on(self, file: OpenFile, info: bytes) -> FileStat:
        return await self._runner.run(file, lambda attempt: file.set_basic(attempt, info))


async def _set_basic(attempt: Attempt, inode: Inode, info: bytes) -> FileStat | None:
    """Sets times and attributes by name. Returns what the server says of the file then, None if it was not asked."""
    if inode.is_reparse_point:
        await attempt.tree.special.set_basic(attempt.path, info)
        return None
    return await attempt.tree.set_basic(attempt.path, info)

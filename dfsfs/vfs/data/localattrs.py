"""LocalAttributes: size and last write time of files that are open for writing here.

From the first open for writing to the last close, what programs of this mount write says how large a file is and when
it was written (`Inode.local_writes`, LocalWrites): the server hears of it later. Where a write was lost, or other
clients may have written, the server is asked for the size (`refresh_size`).

Left to itself, a server sets the last write time when the handle is closed, which is after programs have been shown
another one, or leaves it where a program has set it before. So a handle is closed with the time that programs were
shown (`find_close_time`), unless another client has written later. While a lease says that no other client has the file
open, that need not be asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError
from dfsfs.vfs.data.dirtydata import raise_writeback_error
from dfsfs.vfs.names.inodetable import NEVER
from dfsfs.vfs.names.ordering import ASKS, LocalWrites

if TYPE_CHECKING:
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.dirtydata import DirtyData
    from dfsfs.vfs.data.filerunner import FileRunner
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.data.pending import PendingOperations
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup
    from dfsfs.vfs.names.mapping import Attributes

CLOSE_FIELDS = ("created", "accessed", "written", "changed", "attributes", "size", "allocated")
"""Fields of FileStat that the answer to a CLOSE has (MS-SMB2 2.2.16)."""


class LocalAttributes:
    """See the module's text."""

    def __init__(self, lookup: Lookup, runner: FileRunner, dirty: DirtyData, pending: PendingOperations) -> None:
        self._lookup = lookup
        self._runner = runner
        self._dirty = dirty
        self._pending = pending

    async def begin(self, file: OpenFile) -> None:
        """A file was opened for writing. Raises DfsfsError: the server can't say how large it is."""
        inode = file.inode
        known = not inode.has_changed_since(file.asked)
        size = file.opened.size if known else await self._query_size(file)
        if inode.local_writes is None:
            inode.local_writes = LocalWrites(size)
        elif known:
            inode.local_writes.set_size(size)
        elif file.close_moves_times or file.opened.size > inode.local_writes.append_offset:
            # Truncated by this open, and written at the same time; or another client has made it longer, when the last
            # handle here was just closed: what is appended has to go behind that.
            inode.local_writes.is_size_unsure = True
        if file.close_moves_times:
            self.note_write_time(file, inode.local_writes)

    def note_reply(self, inode: Inode, attributes: Attributes) -> None:
        """The kernel is told attributes: it believes their size, and programs see their last write time."""
        inode.kernel_size = attributes.size
        if inode.local_writes is not None:
            inode.local_writes.shown = attributes.mtime_ns

    def note_kernel_size(self, inode: Inode, size: int) -> None:
        """The kernel believes in a size, in bytes, after a request of its own: a write, or a truncation."""
        inode.kernel_size = size

    def note_time_set(self, inode: Inode) -> None:
        """This mount has set the times of a file: see Inode.time_was_set."""
        inode.time_was_set = True

    def end(self, inode: Inode, stat: FileStat | None) -> None:
        """The last handle that may write is closed: from now on the server says what the file is.

        `stat` is what it said at that close, None if that is not to be believed. Samba gives times there as they were
        just before, unless they were set. A close does not say everything, so it makes nothing true that was overtaken.
        """
        own, inode.local_writes = inode.local_writes, None
        if stat is not None and inode.stat is not None and inode.expires != NEVER:
            said = {field: getattr(stat, field) for field in CLOSE_FIELDS}
            self._lookup.attributes.update(
                inode, replace(inode.stat, **said), self._lookup.table.version, by_name=False
            )
        elif own is None or own.written or own.is_size_unsure or inode.stat is None or inode.stat.size != own.size:
            inode.expire_attributes()

    # -- size -------------------------------------------------------------------------------------------------------

    async def refresh_size(self, file: OpenFile, own: LocalWrites) -> None:
        """Asks the server how large a file is that other clients may have written to, or whose size is doubtful.

        Raises:
            DfsfsError: the server's answer, or the error of something that was written before.
        """
        for _ in range(ASKS):
            await self._dirty.write_back(file.inode)
            raise_writeback_error(file)
            asked = self._lookup.table.version
            stat = await self._runner.run(file, file.query)
            if self._lookup.attributes.update(file.inode, stat, asked, by_name=False) or not own.is_size_unsure:
                break
            await self._pending.wait_opens(file.inode)
        if own.is_size_unsure:
            own.set_size(stat.size)
        own.reserved = max(own.reserved, stat.size)

    async def _query_size(self, file: OpenFile) -> int:
        """The size in bytes that the server has of a file, with everything that was written here."""
        for _ in range(ASKS):
            if file.inode.local_writes is not None:
                return file.inode.local_writes.size
            await self._dirty.write_back(file.inode)
            asked = self._lookup.table.version
            stat = await self._runner.run(file, file.query)
            if not file.inode.has_changed_since(asked):
                break
        return stat.size

    # -- last write time --------------------------------------------------------------------------------------------

    def note_write_time(self, file: OpenFile, own: LocalWrites) -> None:
        """Something was written: the file's last write time is now, by the server's clock."""
        stat = file.inode.stat or file.opened
        own.add_write(file.remote[0].tree.server_time(), stat.written)

    def forget_write_time(self, inode: Inode) -> None:
        """A close is about to set the last write time: no program is shown one before the server has said which."""
        inode.expire_attributes()
        if inode.local_writes is not None:
            inode.local_writes.written = 0

    async def find_close_time(self, file: OpenFile) -> int | None:
        """The last write time, in ns since 1970, that a handle is to be closed with; None to leave it to the server."""
        inode, own = file.inode, file.inode.local_writes
        if not file.close_moves_times or own is None or not own.written:
            return None
        try:
            if not (inode.is_exclusive or inode.time_was_set or await self._was_last_writer(file, own)):
                return None
        except DfsfsError:
            return None
        self.note_time_set(inode)
        return own.written

    async def _was_last_writer(self, file: OpenFile, own: LocalWrites) -> bool:
        """Whether programs were shown the time of a write of this mount, and no other client has written since."""
        return bool(own.shown) and not own.is_later((await self._runner.run(file, file.query)).written)

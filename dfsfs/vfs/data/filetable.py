"""FileTable: the files that programs of a mount have open, and what has to be done with all handles on one of them.

`write_back` sends what was written and waits for the server. Whoever removes or replaces a file keeps others from
opening it (`opens_blocked`), has its handles closed for a moment (`closed_on_server`), or asks what is in the way
(`close_unused`). What is done through a handle is done by `_run`: for the user who opened it, where its inode is now.
"""

from __future__ import annotations

import errno
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dfsfs.caller import current_caller, override_caller
from dfsfs.errors import DfsfsError, Disposition, PosixError
from dfsfs.smb.wire.constants import Access
from dfsfs.vfs.data.caching import FileLeases
from dfsfs.vfs.data.pending import PendingOperations
from dfsfs.vfs.data.prefetch import Prefetch
from dfsfs.vfs.data.readahead import ReadAhead
from dfsfs.vfs.names.dirrenames import is_within
from dfsfs.vfs.names.inodetable import NEVER
from dfsfs.vfs.names.ordering import ASKS, LocalWrites

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from dfsfs.caller import Caller
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.caching import Caching, KernelCache
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.data.writeback import Rewrite
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup
    from dfsfs.vfs.names.mapping import Attributes

log = logging.getLogger("dfsfs.vfs")

T = TypeVar("T")

CLOSE_FIELDS = ("created", "accessed", "written", "changed", "attributes", "size", "allocated")


class FileTable:
    """See the module's text."""

    def __init__(self, lookup: Lookup, kernel: KernelCache, caching: Caching) -> None:
        self._lookup = lookup
        self._leases = FileLeases(lookup, kernel, caching, self.write_back)
        self._handles: dict[int, OpenFile] = {}
        self._by_inode: dict[Inode, list[OpenFile]] = {}
        self._read_ahead = ReadAhead(caching.read_ahead)
        self._prefetch = Prefetch(lookup)
        self._pending = PendingOperations()
        lookup.handle_limit.give_back = self._leases.deferred.give_back

    def give_back(self) -> None:
        """Drops what was listed, fetched or asked for ahead, and nobody has asked for of late."""
        now = self._lookup.clock()
        self._lookup.attributes.dircache.drop_old(now)
        self._read_ahead.drop_old(now)
        self._prefetch.drop_old()
        for file in self._handles.values():
            file.drop_old_inline(now)

    @property
    def count(self) -> int:
        """How many files are open."""
        return len(self._handles)

    async def write_back(self, inode: Inode) -> None:
        """Returns when the server has everything that was written to a file. An error is kept for who wrote it."""
        for file in tuple(self._by_inode.get(inode, ())):
            if file.writeback.pending:
                await self._drain(file)

    async def write_back_name(self, folder: Inode, name: str) -> None:
        """Like `write_back`, for what is known under a (wire) name in a folder."""
        if (known := self._lookup.table.child(folder, name)) is not None:
            await self.write_back(known)

    async def _drain_or_raise(self, file: OpenFile) -> None:
        if file.writeback.pending:
            await self._drain(file)
        raise_writeback_error(file)

    async def _drain(self, file: OpenFile) -> None:
        await file.drain(self._rewrite(file))
        self._note_answered_write(file)

    def _note_answered_write(self, file: OpenFile) -> None:
        """Something that was written has been acknowledged, or refused."""
        if file.dirty_since is not None and not file.writeback.pending:
            self._lookup.table.end_change(file.inode, file.dirty_since, keeps_attributes=True)
            file.dirty_since = None
            if file.writeback.failed:
                self._note_lost_write(file.inode)

    def _note_lost_write(self, inode: Inode) -> None:
        """Something that was to be written has perhaps not been."""
        self._lookup.table.invalidate(inode)
        if inode.local_writes is not None:
            inode.local_writes.is_size_unsure = True

    def _rewrite(self, file: OpenFile) -> Rewrite:
        return lambda offset, data: self._run(file, lambda attempt: file.write(attempt, offset, data))

    def is_open(self, inode: Inode) -> bool:
        return inode in self._by_inode

    def in_use(self, inode: Inode) -> bool:
        """Whether the file is open here, or just being opened or closed."""
        return inode in self._by_inode or self._pending.is_busy(inode)

    async def wait_opens(self, inode: Inode) -> None:
        """Returns when no handle on a file is just being opened or closed, or after some time."""
        await self._pending.wait_opens(inode)

    def opens_blocked(self, inode: Inode) -> AbstractAsyncContextManager[None]:
        """While a file is removed or renamed, nobody begins to open it: see pending.py."""
        return self._pending.opens_blocked(inode)

    @asynccontextmanager
    async def closed_on_server(self, inode: Inode) -> AsyncIterator[None]:
        """The server has closed all handles on a file, and none is opened again before this ends."""
        self.close_deferred(inode)
        async with AsyncExitStack() as stack:
            for file in tuple(self._by_inode.get(inode, ())):
                await stack.enter_async_context(file.closed_on_server(partial(self._drain, file)))
                self._leases.ended(inode, file.lease)
            yield

    async def close_unused(self, inode: Inode) -> bool:
        """Closes what nobody uses of a file, waits for what is under way. Whether anything was, or is, in the way."""
        found = self._leases.deferred.drop(inode)
        found = self._prefetch.drop(inode) or found or self._pending.is_busy(inode)
        await self._pending.wait_opens(inode)
        return found or inode in self._by_inode

    def close_deferred(self, inode: Inode) -> None:
        """Closes handles that nobody uses on a file, or on what is below a folder, before it is changed by its name."""
        self._leases.deferred.drop(inode)

    async def ensure_open_on_server(self, inode: Inode) -> None:
        """Makes sure that the server knows that a file is open: it may have been closed there after it was read along
        with its open, or by the loss of a connection.

        Raises:
            DfsfsError: it can't be opened again.
        """
        for file in tuple(self._by_inode.get(inode, ())):
            try:
                if not file.alive:
                    await self._run(file, file.query)
            except DfsfsError:
                if file in self._by_inode.get(inode, ()):
                    raise  # else it was closed in the meantime

    async def close_within_on_server(self, folder: Inode) -> None:
        """Closes the files that are open in a folder and below it for now, so that its server lets it be renamed. The
        folder is held (dirrenames.py): nothing but what is to be written is under way to them.

        Raises:
            DfsfsError: something written to one of them did not reach the server.
        """
        self.close_deferred(folder)
        await self._prefetch.drop_within(folder)
        files = [
            file for inode, files in self._by_inode.items() if is_within(inode.parent, (folder,)) for file in files
        ]
        with self._lookup.directory_renames.running(folder):
            for file in files:
                await self._drain_or_raise(file)
                await file.close_on_server()
                self._leases.ended(file.inode, file.lease)

    def _file(self, handle: int) -> OpenFile:
        file = self._handles.get(handle)
        if file is None:
            raise PosixError(errno.EBADF, f"there is no open file {handle}")
        return file

    def readable(self, inode: Inode) -> OpenFile | None:
        """A handle of the caller on a file that may read, if there is one."""
        return next((file for file in self._handles_of_caller(inode) if file.access & Access.FILE_READ_DATA), None)

    def writable(self, inode: Inode) -> OpenFile | None:
        """A handle of the caller on a file that may write, if there is one."""
        return next((file for file in self._handles_of_caller(inode) if file.writable), None)

    def _handles_of_caller(self, inode: Inode) -> list[OpenFile]:
        """The caller's handles on a file: what others may do with it, they may not."""
        uid = current_caller().uid
        return [file for file in self._by_inode.get(inode, ()) if file.user.uid == uid]

    async def write_back_user(self, uid: int) -> None:
        """Waits until what a user has written is on its server. What goes wrong is told to whoever closes the file."""
        for file in list(self._handles.values()):
            if file.user.uid == uid and file.writeback.pending:
                await self._drain(file)

    def has_open(self, uid: int) -> bool:
        """Whether a user has any file open."""
        return any(file.user.uid == uid for file in self._handles.values())

    def opener(self, inode: Inode) -> Caller | None:
        """A user who has the file open."""
        return next((file.user for file in self._by_inode.get(inode, ())), None)

    async def query(self, inode: Inode) -> bool:
        """Asks for a file's attributes through an open handle: the way for one that has no name any more. Whether no
        change made here has overtaken the answer.

        Raises:
            PosixError: ESTALE, nothing is open.
            DfsfsError: the server's answer.
        """
        files = self._by_inode.get(inode)
        if not files:
            raise PosixError(errno.ESTALE, f"{inode.name} is gone")
        file = next((file for file in files if file.alive), files[0])
        await self.write_back(inode)
        asked = self._lookup.table.version
        return self._lookup.attributes.update(inode, await self._run(file, file.query), asked, by_name=False)

    async def _begin_local_writes(self, file: OpenFile) -> None:
        """From now on what is written here says how large a file is, and when it was changed. See LocalWrites."""
        inode = file.inode
        known = not inode.has_changed_since(file.asked)
        size = file.opened.size if known else await self._ask_size(file)
        if inode.local_writes is None:
            inode.local_writes = LocalWrites(size)
        elif known:
            inode.local_writes.set_size(size)
        elif file.close_moves_times:
            inode.local_writes.is_size_unsure = True  # cut, and written at the same time
        if file.close_moves_times:
            self._note_write_time(file, inode.local_writes)

    async def _ask_size(self, file: OpenFile) -> int:
        """The size of a file as its server has it, in bytes, with all that was written here."""
        for _ in range(ASKS):
            if file.inode.local_writes is not None:
                return file.inode.local_writes.size
            await self.write_back(file.inode)
            asked = self._lookup.table.version
            stat = await self._run(file, file.query)
            if not file.inode.has_changed_since(asked):
                break
        return stat.size

    def _note_write_time(self, file: OpenFile, own: LocalWrites) -> None:
        """Something was written: the time of that is known here at once."""
        stat = file.inode.stat or file.opened
        own.add_write(file.remote[0].tree.server_time(), stat.written)

    def _remove(self, file: OpenFile) -> None:
        """A handle is nobody's any more; what was written through it is on the server, or lost."""
        files = self._by_inode.get(file.inode, [])
        if file in files:
            files.remove(file)
        if not files:
            self._by_inode.pop(file.inode, None)
        if file.dirty_since is not None:
            self._lookup.table.end_change(file.inode, file.dirty_since, keeps_attributes=True)
            file.dirty_since = None
            self._note_lost_write(file.inode)
        if (error := file.writeback.take_error()) is not None:
            log.warning("closing %s: %s", file.inode.name, error)

    async def _find_close_time(self, file: OpenFile) -> int | None:
        """The last write time that a file is to have when a handle is closed through which it was written.

        Left to itself, a server moves it to the time of the close, after programs were shown another one, or leaves it
        where somebody has set it before. But if somebody else has written later, that is the time. While a lease says
        that nobody else has the file open that need not be asked.
        """
        inode, own = file.inode, file.inode.local_writes
        if not file.close_moves_times or own is None or not own.written:
            return None
        try:
            if not (inode.is_exclusive or inode.time_was_set or await self._was_last(file, own)):
                return None
        except DfsfsError:
            return None
        self._note_time_set(inode)
        return own.written

    def note_reply(self, inode: Inode, attributes: Attributes) -> None:
        """The kernel is told attributes: it believes their size, and programs see their last write time."""
        inode.kernel_size = attributes.size
        if inode.local_writes is not None:
            inode.local_writes.shown = attributes.mtime_ns

    def _note_kernel_size(self, inode: Inode, size: int) -> None:
        """The kernel believes in a size, in bytes, after a request of its own: a write, or a truncation."""
        inode.kernel_size = size

    def _note_time_set(self, inode: Inode) -> None:
        """This mount has set the times of a file: see Inode.time_was_set."""
        inode.time_was_set = True

    def _forget_write_time(self, inode: Inode) -> None:
        """A close is about to move the last write time of a file: nobody is shown one before it is done."""
        inode.expire_attributes()
        if inode.local_writes is not None:
            inode.local_writes.written = 0

    async def _was_last(self, file: OpenFile, own: LocalWrites) -> bool:
        """Whether programs were shown when a file was written here, and nobody else has written to it since."""
        return bool(own.shown) and not own.is_later((await self._run(file, file.query)).written)

    def _end_local_writes(self, inode: Inode, stat: FileStat | None) -> None:
        """No program here writes to a file any more: what it is, its server says. `stat`: what it said at the close of
        the last handle, if that is true: Samba names times as they were just before, unless they were set. It does not
        say everything, so it makes nothing true that was overtaken.
        """
        own, inode.local_writes = inode.local_writes, None
        if stat is not None and inode.stat is not None and inode.expires != NEVER:
            said = {field: getattr(stat, field) for field in CLOSE_FIELDS}
            self._lookup.attributes.update(
                inode, replace(inode.stat, **said), self._lookup.table.version, by_name=False
            )
        elif own is None or own.written or own.is_size_unsure or inode.stat is None or inode.stat.size != own.size:
            inode.expire_attributes()

    async def _refresh_size(self, file: OpenFile, own: LocalWrites) -> None:
        """Asks how large a file is of which that is not known for sure."""
        for _ in range(ASKS):
            await self.write_back(file.inode)
            raise_writeback_error(file)
            asked = self._lookup.table.version
            stat = await self._run(file, file.query)
            if self._lookup.attributes.update(file.inode, stat, asked, by_name=False) or not own.is_size_unsure:
                break
            await self.wait_opens(file.inode)
        if own.is_size_unsure:
            own.set_size(stat.size)
        own.reserved = max(own.reserved, stat.size)

    async def _run(self, file: OpenFile, operation: Callable[[Attempt | None], Awaitable[T]]) -> T:
        """Awaits an operation of an open file; without the namespace if the file has no place any more, and as long as
        that works if its handle is on a target that the namespace has left.
        """
        with override_caller(file.user):
            return await self._run_as_opener(file, operation)

    async def _run_as_opener(self, file: OpenFile, operation: Callable[[Attempt | None], Awaitable[T]]) -> T:
        if file.inode.location is None:
            return await operation(None)
        if file.is_on_former_target:
            try:
                return await operation(None)
            except DfsfsError as error:
                if error.disposition is Disposition.RETURN:
                    raise
                file.leave_target()
        return await self._lookup.run(file.inode, operation)


def raise_writeback_error(file: OpenFile) -> None:
    """Raises: DfsfsError: the error of something that was written before, which nobody has been told of."""
    if (error := file.writeback.take_error()) is not None:
        raise error

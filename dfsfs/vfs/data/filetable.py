"""FileTable: the files that programs of a mount have open, and what has to be done with all handles on one of them.

`settle` sends what was written and waits for the server. Whoever removes or replaces a file keeps others from opening
it (`barred`), has its handles closed for a moment (`parked`), or asks what is in the way (`clear_way`). What is done
through a handle is done by `_on`: for the user who opened it, where its inode is now.
"""

from __future__ import annotations

import errno
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dfsfs.acting import as_caller, caller
from dfsfs.errors import DfsfsError, Disposition, PosixError
from dfsfs.smb.wire.constants import Access
from dfsfs.vfs.data.caching import LeaseCaching
from dfsfs.vfs.data.pending import PendingOperations
from dfsfs.vfs.data.prefetch import Prefetch
from dfsfs.vfs.data.readahead import ReadAhead
from dfsfs.vfs.names.dirrenames import is_within
from dfsfs.vfs.names.inodetable import NEVER
from dfsfs.vfs.names.ordering import ASKS, LocalWrites

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from dfsfs.acting import Caller
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.caching import Caching, KernelCache
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.data.writeback import Rewrite
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

T = TypeVar("T")

SAID_BY_CLOSE = ("created", "accessed", "written", "changed", "attributes", "size", "allocated")


class FileTable:
    """See the module's text."""

    def __init__(self, lookup: Lookup, kernel: KernelCache, caching: Caching) -> None:
        self._lookup = lookup
        self._leases = LeaseCaching(lookup, kernel, caching, self.settle)
        self._handles: dict[int, OpenFile] = {}
        self._by_inode: dict[Inode, list[OpenFile]] = {}
        self._ahead = ReadAhead(caching.read_ahead)
        self._prefetch = Prefetch(lookup)
        self._under_way = PendingOperations()
        lookup.handles.give_back = self._leases.kept.give_back

    def give_back(self) -> None:
        """Drops what was listed, fetched or asked for ahead, and nobody has asked for of late."""
        now = self._lookup.clock()
        self._lookup.views.drop_old(now)
        self._ahead.drop_old(now)
        self._prefetch.drop_old()
        for file in self._handles.values():
            file.drop_old_head(now)

    @property
    def count(self) -> int:
        """How many files are open."""
        return len(self._handles)

    async def settle(self, inode: Inode) -> None:
        """Returns when the server has everything that was written to a file. An error is kept for who wrote it."""
        for file in tuple(self._by_inode.get(inode, ())):
            if file.behind.pending:
                await self._drain(file)

    async def settle_name(self, folder: Inode, name: str) -> None:
        """Like `settle`, for what is known under a (wire) name in a folder."""
        if (known := self._lookup.table.child(folder, name)) is not None:
            await self.settle(known)

    async def _drained(self, file: OpenFile) -> None:
        if file.behind.pending:
            await self._drain(file)
        raise_kept(file)

    async def _drain(self, file: OpenFile) -> None:
        await file.drain(self._rewrite(file))
        self._landed(file)

    def _landed(self, file: OpenFile) -> None:
        """Something that was written has been acknowledged, or refused."""
        if file.begun is not None and not file.behind.pending:
            self._lookup.table.end(file.inode, file.begun, keeps_known=True)
            file.begun = None
            if file.behind.failed:
                self._lost(file.inode)

    def _lost(self, inode: Inode) -> None:
        """Something that was to be written has perhaps not been."""
        self._lookup.table.doubt(inode)
        if inode.own is not None:
            inode.own.unsure = True

    def _rewrite(self, file: OpenFile) -> Rewrite:
        return lambda offset, data: self._on(file, lambda attempt: file.write(attempt, offset, data))

    def is_open(self, inode: Inode) -> bool:
        return inode in self._by_inode

    def in_use(self, inode: Inode) -> bool:
        """Whether the file is open here, or just being opened or closed."""
        return inode in self._by_inode or self._under_way.is_busy(inode)

    async def until_quiet(self, inode: Inode) -> None:
        """Returns when no handle on a file is just being opened or closed, or after some time."""
        await self._under_way.quiet(inode)

    def barred(self, inode: Inode) -> AbstractAsyncContextManager[None]:
        """While a file is removed or renamed, nobody begins to open it: see pending.py."""
        return self._under_way.barred(inode)

    @asynccontextmanager
    async def parked(self, inode: Inode) -> AsyncIterator[None]:
        """The server has closed all handles on a file, and none is opened again before this ends."""
        self.let_go(inode)
        async with AsyncExitStack() as stack:
            for file in tuple(self._by_inode.get(inode, ())):
                await stack.enter_async_context(file.parked(partial(self._drain, file)))
                self._leases.ended(inode, file.lease)
            yield

    async def clear_way(self, inode: Inode) -> bool:
        """Closes what nobody uses of a file, waits for what is under way. Whether anything was, or is, in the way."""
        found = self._leases.kept.drop(inode)
        found = self._prefetch.drop(inode) or found or self._under_way.is_busy(inode)
        await self._under_way.quiet(inode)
        return found or inode in self._by_inode

    def let_go(self, inode: Inode) -> None:
        """Closes handles that nobody uses on a file, or on what is below a folder, before it is changed by its name."""
        self._leases.kept.drop(inode)

    async def hold_open(self, inode: Inode) -> None:
        """Makes sure that the server knows that a file is open: it may have been closed there after it was read along
        with its open, or by the loss of a connection.

        Raises:
            DfsfsError: it can't be opened again.
        """
        for file in tuple(self._by_inode.get(inode, ())):
            try:
                if not file.alive:
                    await self._on(file, file.query)
            except DfsfsError:
                if file in self._by_inode.get(inode, ()):
                    raise  # else it was closed in the meantime

    async def park_within(self, folder: Inode) -> None:
        """Closes the files that are open in a folder and below it for now, so that its server lets it be renamed. The
        folder is held (dirrenames.py): nothing but what is to be written is under way to them.

        Raises:
            DfsfsError: something written to one of them did not reach the server.
        """
        self.let_go(folder)
        await self._prefetch.drop_within(folder)
        files = [
            file for inode, files in self._by_inode.items() if is_within(inode.parent, (folder,)) for file in files
        ]
        with self._lookup.moving.running(folder):
            for file in files:
                await self._drained(file)
                await file.park()
                self._leases.ended(file.inode, file.lease)

    def _file(self, handle: int) -> OpenFile:
        file = self._handles.get(handle)
        if file is None:
            raise PosixError(errno.EBADF, f"there is no open file {handle}")
        return file

    def readable(self, inode: Inode) -> OpenFile | None:
        """A handle of the caller on a file that may read, if there is one."""
        return next((file for file in self._own(inode) if file.access & Access.FILE_READ_DATA), None)

    def writable(self, inode: Inode) -> OpenFile | None:
        """A handle of the caller on a file that may write, if there is one."""
        return next((file for file in self._own(inode) if file.writable), None)

    def _own(self, inode: Inode) -> list[OpenFile]:
        """The caller's handles on a file: what others may do with it, they may not."""
        uid = caller().uid
        return [file for file in self._by_inode.get(inode, ()) if file.user.uid == uid]

    async def settle_of(self, uid: int) -> None:
        """Waits until what a user has written is on its server. What goes wrong is told to whoever closes the file."""
        for file in list(self._handles.values()):
            if file.user.uid == uid and file.behind.pending:
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
        await self.settle(inode)
        asked = self._lookup.table.moment
        return self._lookup.note(inode, await self._on(file, file.query), asked, by_name=False)

    async def _take_over(self, file: OpenFile) -> None:
        """From now on what is written here says how large a file is, and when it was changed. See LocalWrites."""
        inode = file.inode
        known = not inode.overtakes(file.asked)
        size = file.opened.size if known else await self._ask_size(file)
        if inode.own is None:
            inode.own = LocalWrites(size)
        elif known:
            inode.own.cut(size)
        elif file.times_moved:
            inode.own.unsure = True  # cut, and written at the same time
        if file.times_moved:
            self._moved_times(file, inode.own)

    async def _ask_size(self, file: OpenFile) -> int:
        """The size of a file as its server has it, in bytes, with all that was written here."""
        for _ in range(ASKS):
            if file.inode.own is not None:
                return file.inode.own.size
            await self.settle(file.inode)
            asked = self._lookup.table.moment
            stat = await self._on(file, file.query)
            if not file.inode.overtakes(asked):
                break
        return stat.size

    def _moved_times(self, file: OpenFile, own: LocalWrites) -> None:
        """Something was written: the time of that is known here at once."""
        stat = file.inode.stat or file.opened
        own.wrote(file.remote[0].tree.server_time(), stat.written)

    def _is_closing(self, file: OpenFile) -> None:
        """A handle is nobody's any more; what was written through it is on the server, or lost."""
        files = self._by_inode.get(file.inode, [])
        if file in files:
            files.remove(file)
        if not files:
            self._by_inode.pop(file.inode, None)
        if file.begun is not None:
            self._lookup.table.end(file.inode, file.begun, keeps_known=True)
            file.begun = None
            self._lost(file.inode)
        if (error := file.behind.take_error()) is not None:
            log.warning("closing %s: %s", file.inode.name, error)

    async def _time_to_leave(self, file: OpenFile) -> int | None:
        """The last write time that a file is to have when a handle is closed through which it was written.

        Left to itself, a server moves it to the time of the close, after programs were shown another one, or leaves it
        where somebody has set it before. But if somebody else has written later, that is the time. While a lease says
        that nobody else has the file open that need not be asked.
        """
        inode, own = file.inode, file.inode.own
        if not file.times_moved or own is None or not own.written:
            return None
        try:
            if not (inode.is_exclusive or inode.time_was_set or await self._was_last(file, own)):
                return None
        except DfsfsError:
            return None
        inode.time_was_set = True
        return own.written

    def _leave_time_to_server(self, inode: Inode) -> None:
        """A close is about to move the last write time of a file: nobody is shown one before it is done."""
        inode.expires = NEVER
        if inode.own is not None:
            inode.own.written = 0

    async def _was_last(self, file: OpenFile, own: LocalWrites) -> bool:
        """Whether programs were shown when a file was written here, and nobody else has written to it since."""
        return bool(own.shown) and not own.is_later((await self._on(file, file.query)).written)

    def _give_back(self, inode: Inode, stat: FileStat | None) -> None:
        """No program here writes to a file any more: what it is, its server says. `stat`: what it said at the close of
        the last handle, if that is true: Samba names times as they were just before, unless they were set. It does not
        say everything, so it makes nothing true that was overtaken.
        """
        own, inode.own = inode.own, None
        if stat is not None and inode.stat is not None and inode.expires != NEVER:
            said = {field: getattr(stat, field) for field in SAID_BY_CLOSE}
            self._lookup.note(inode, replace(inode.stat, **said), self._lookup.table.moment, by_name=False)
        elif own is None or own.written or own.unsure or inode.stat is None or inode.stat.size != own.size:
            inode.expires = NEVER

    async def _make_sure(self, file: OpenFile, own: LocalWrites) -> None:
        """Asks how large a file is of which that is not known for sure."""
        for _ in range(ASKS):
            await self.settle(file.inode)
            raise_kept(file)
            asked = self._lookup.table.moment
            stat = await self._on(file, file.query)
            if self._lookup.note(file.inode, stat, asked, by_name=False) or not own.unsure:
                break
            await self.until_quiet(file.inode)
        if own.unsure:
            own.cut(stat.size)
        own.reserved = max(own.reserved, stat.size)

    async def _on(self, file: OpenFile, operation: Callable[[Attempt | None], Awaitable[T]]) -> T:
        """Awaits an operation of an open file; without the namespace if the file has no place any more, and as long as
        that works if its handle is on a target that the namespace has left.
        """
        with as_caller(file.user):
            return await self._on_own(file, operation)

    async def _on_own(self, file: OpenFile, operation: Callable[[Attempt | None], Awaitable[T]]) -> T:
        if file.inode.location is None:
            return await operation(None)
        if file.stays_behind:
            try:
                return await operation(None)
            except DfsfsError as error:
                if error.disposition is Disposition.RETURN:
                    raise
                file.leave()
        return await self._lookup.run(file.inode, operation)


def raise_kept(file: OpenFile) -> None:
    """Raises: DfsfsError: the error of something that was written before, which nobody has been told of."""
    if (error := file.behind.take_error()) is not None:
        raise error

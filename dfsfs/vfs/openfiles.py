"""OpenFiles: the files that programs of a mount have open, and what has to be done with all handles on one of them.

`settle` sends what was written and waits for the server. Whoever removes or replaces a file keeps others from opening
it (`barred`), has its handles closed for a moment (`parked`), or asks what is in the way (`clear_way`). What is done
through a handle is done by `_on`: for the user who opened it, where its node is now.
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
from dfsfs.smb.constants import Access
from dfsfs.vfs.ahead import ReadAhead
from dfsfs.vfs.known import ASKS, LocalWrites
from dfsfs.vfs.leases import Leases
from dfsfs.vfs.moving import is_within
from dfsfs.vfs.nodes import NEVER
from dfsfs.vfs.prefetch import Prefetch
from dfsfs.vfs.underway import UnderWay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from dfsfs.acting import Caller
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.fscc import FileStat
    from dfsfs.vfs.handles import OpenFile
    from dfsfs.vfs.leases import Caching, KernelCache
    from dfsfs.vfs.nodes import Node
    from dfsfs.vfs.places import Places
    from dfsfs.vfs.writebehind import Rewrite

log = logging.getLogger("dfsfs.vfs")

T = TypeVar("T")

SAID_BY_CLOSE = ("created", "accessed", "written", "changed", "attributes", "size", "allocated")


class OpenFiles:
    """See the module's text."""

    def __init__(self, places: Places, kernel: KernelCache, caching: Caching) -> None:
        self._places = places
        self._leases = Leases(places, kernel, caching, self.settle)
        self._handles: dict[int, OpenFile] = {}
        self._by_node: dict[Node, list[OpenFile]] = {}
        self._ahead = ReadAhead(caching.read_ahead)
        self._prefetch = Prefetch(places)
        self._under_way = UnderWay()
        places.handles.give_back = self._leases.kept.give_back

    def give_back(self) -> None:
        """Drops what was listed, fetched or asked for ahead, and nobody has asked for of late."""
        now = self._places.clock()
        self._places.views.drop_old(now)
        self._ahead.drop_old(now)
        self._prefetch.drop_old()
        for file in self._handles.values():
            file.drop_old_head(now)

    @property
    def count(self) -> int:
        """How many files are open."""
        return len(self._handles)

    async def settle(self, node: Node) -> None:
        """Returns when the server has everything that was written to a file. An error is kept for who wrote it."""
        for file in tuple(self._by_node.get(node, ())):
            if file.behind.pending:
                await self._drain(file)

    async def settle_name(self, folder: Node, name: str) -> None:
        """Like `settle`, for what is known under a (wire) name in a folder."""
        if (known := self._places.table.child(folder, name)) is not None:
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
            self._places.table.end(file.node, file.begun, keeps_known=True)
            file.begun = None
            if file.behind.failed:
                self._lost(file.node)

    def _lost(self, node: Node) -> None:
        """Something that was to be written has perhaps not been."""
        self._places.table.doubt(node)
        if node.own is not None:
            node.own.unsure = True

    def _rewrite(self, file: OpenFile) -> Rewrite:
        return lambda offset, data: self._on(file, lambda attempt: file.write(attempt, offset, data))

    def is_open(self, node: Node) -> bool:
        return node in self._by_node

    def in_use(self, node: Node) -> bool:
        """Whether the file is open here, or just being opened or closed."""
        return node in self._by_node or self._under_way.is_busy(node)

    async def until_quiet(self, node: Node) -> None:
        """Returns when no handle on a file is just being opened or closed, or after some time."""
        await self._under_way.quiet(node)

    def barred(self, node: Node) -> AbstractAsyncContextManager[None]:
        """While a file is removed or renamed, nobody begins to open it: see underway.py."""
        return self._under_way.barred(node)

    @asynccontextmanager
    async def parked(self, node: Node) -> AsyncIterator[None]:
        """The server has closed all handles on a file, and none is opened again before this ends."""
        self.let_go(node)
        async with AsyncExitStack() as stack:
            for file in tuple(self._by_node.get(node, ())):
                await stack.enter_async_context(file.parked(partial(self._drain, file)))
                self._leases.ended(node, file.lease)
            yield

    async def clear_way(self, node: Node) -> bool:
        """Closes what nobody uses of a file, waits for what is under way. Whether anything was, or is, in the way."""
        found = self._leases.kept.drop(node)
        found = self._prefetch.drop(node) or found or self._under_way.is_busy(node)
        await self._under_way.quiet(node)
        return found or node in self._by_node

    def let_go(self, node: Node) -> None:
        """Closes handles that nobody uses on a file, or on what is below a folder, before it is changed by its name."""
        self._leases.kept.drop(node)

    async def hold_open(self, node: Node) -> None:
        """Makes sure that the server knows that a file is open: it may have been closed there after it was read along
        with its open, or by the loss of a connection.

        Raises:
            DfsfsError: it can't be opened again.
        """
        for file in tuple(self._by_node.get(node, ())):
            try:
                if not file.alive:
                    await self._on(file, file.query)
            except DfsfsError:
                if file in self._by_node.get(node, ()):
                    raise  # else it was closed in the meantime

    async def park_within(self, folder: Node) -> None:
        """Closes the files that are open in a folder and below it for now, so that its server lets it be renamed. The
        folder is held (moving.py): nothing but what is to be written is under way to them.

        Raises:
            DfsfsError: something written to one of them did not reach the server.
        """
        self.let_go(folder)
        await self._prefetch.drop_within(folder)
        files = [file for node, files in self._by_node.items() if is_within(node.parent, (folder,)) for file in files]
        with self._places.moving.running(folder):
            for file in files:
                await self._drained(file)
                await file.park()
                self._leases.ended(file.node, file.lease)

    def _file(self, handle: int) -> OpenFile:
        file = self._handles.get(handle)
        if file is None:
            raise PosixError(errno.EBADF, f"there is no open file {handle}")
        return file

    def readable(self, node: Node) -> OpenFile | None:
        """A handle of the caller on a file that may read, if there is one."""
        return next((file for file in self._own(node) if file.access & Access.FILE_READ_DATA), None)

    def writable(self, node: Node) -> OpenFile | None:
        """A handle of the caller on a file that may write, if there is one."""
        return next((file for file in self._own(node) if file.writable), None)

    def _own(self, node: Node) -> list[OpenFile]:
        """The caller's handles on a file: what others may do with it, they may not."""
        uid = caller().uid
        return [file for file in self._by_node.get(node, ()) if file.user.uid == uid]

    async def settle_of(self, uid: int) -> None:
        """Waits until what a user has written is on its server. What goes wrong is told to whoever closes the file."""
        for file in list(self._handles.values()):
            if file.user.uid == uid and file.behind.pending:
                await self._drain(file)

    def has_open(self, uid: int) -> bool:
        """Whether a user has any file open."""
        return any(file.user.uid == uid for file in self._handles.values())

    def opener(self, node: Node) -> Caller | None:
        """A user who has the file open."""
        return next((file.user for file in self._by_node.get(node, ())), None)

    async def query(self, node: Node) -> bool:
        """Asks for a file's attributes through an open handle: the way for one that has no name any more. Whether no
        change made here has overtaken the answer.

        Raises:
            PosixError: ESTALE, nothing is open.
            DfsfsError: the server's answer.
        """
        files = self._by_node.get(node)
        if not files:
            raise PosixError(errno.ESTALE, f"{node.name} is gone")
        file = next((file for file in files if file.alive), files[0])
        await self.settle(node)
        asked = self._places.table.moment
        return self._places.note(node, await self._on(file, file.query), asked, by_name=False)

    async def _take_over(self, file: OpenFile) -> None:
        """From now on what is written here says how large a file is, and when it was changed. See LocalWrites."""
        node = file.node
        known = not node.overtakes(file.asked)
        size = file.opened.size if known else await self._ask_size(file)
        if node.own is None:
            node.own = LocalWrites(size)
        elif known:
            node.own.cut(size)
        elif file.times_moved:
            node.own.unsure = True  # cut, and written at the same time
        if file.times_moved:
            self._moved_times(file, node.own)

    async def _ask_size(self, file: OpenFile) -> int:
        """The size of a file as its server has it, in bytes, with all that was written here."""
        for _ in range(ASKS):
            if file.node.own is not None:
                return file.node.own.size
            await self.settle(file.node)
            asked = self._places.table.moment
            stat = await self._on(file, file.query)
            if not file.node.overtakes(asked):
                break
        return stat.size

    def _moved_times(self, file: OpenFile, own: LocalWrites) -> None:
        """Something was written: the time of that is known here at once."""
        stat = file.node.stat or file.opened
        own.wrote(file.remote[0].tree.server_time(), stat.written)

    def _is_closing(self, file: OpenFile) -> None:
        """A handle is nobody's any more; what was written through it is on the server, or lost."""
        files = self._by_node.get(file.node, [])
        if file in files:
            files.remove(file)
        if not files:
            self._by_node.pop(file.node, None)
        if file.begun is not None:
            self._places.table.end(file.node, file.begun, keeps_known=True)
            file.begun = None
            self._lost(file.node)
        if (error := file.behind.take_error()) is not None:
            log.warning("closing %s: %s", file.node.name, error)

    async def _time_to_leave(self, file: OpenFile) -> int | None:
        """The last write time that a file is to have when a handle is closed through which it was written.

        Left to itself, a server moves it to the time of the close, after programs were shown another one, or leaves it
        where somebody has set it before. But if somebody else has written later, that is the time. While a lease says
        that nobody else has the file open that need not be asked.
        """
        node, own = file.node, file.node.own
        if not file.times_moved or own is None or not own.written:
            return None
        try:
            if not (node.is_exclusive or node.time_was_set or await self._was_last(file, own)):
                return None
        except DfsfsError:
            return None
        node.time_was_set = True
        return own.written

    def _leave_time_to_server(self, node: Node) -> None:
        """A close is about to move the last write time of a file: nobody is shown one before it is done."""
        node.expires = NEVER
        if node.own is not None:
            node.own.written = 0

    async def _was_last(self, file: OpenFile, own: LocalWrites) -> bool:
        """Whether programs were shown when a file was written here, and nobody else has written to it since."""
        return bool(own.shown) and not own.is_later((await self._on(file, file.query)).written)

    def _give_back(self, node: Node, stat: FileStat | None) -> None:
        """No program here writes to a file any more: what it is, its server says. `stat`: what it said at the close of
        the last handle, if that is true: Samba names times as they were just before, unless they were set. It does not
        say everything, so it makes nothing true that was overtaken.
        """
        own, node.own = node.own, None
        if stat is not None and node.stat is not None and node.expires != NEVER:
            said = {field: getattr(stat, field) for field in SAID_BY_CLOSE}
            self._places.note(node, replace(node.stat, **said), self._places.table.moment, by_name=False)
        elif own is None or own.written or own.unsure or node.stat is None or node.stat.size != own.size:
            node.expires = NEVER

    async def _make_sure(self, file: OpenFile, own: LocalWrites) -> None:
        """Asks how large a file is of which that is not known for sure."""
        for _ in range(ASKS):
            await self.settle(file.node)
            raise_kept(file)
            asked = self._places.table.moment
            stat = await self._on(file, file.query)
            if self._places.note(file.node, stat, asked, by_name=False) or not own.unsure:
                break
            await self.until_quiet(file.node)
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
        if file.node.location is None:
            return await operation(None)
        if file.stays_behind:
            try:
                return await operation(None)
            except DfsfsError as error:
                if error.disposition is Disposition.RETURN:
                    raise
                file.leave()
        return await self._places.run(file.node, operation)


def raise_kept(file: OpenFile) -> None:
    """Raises: DfsfsError: the error of something that was written before, which nobody has been told of."""
    if (error := file.behind.take_error()) is not None:
        raise error

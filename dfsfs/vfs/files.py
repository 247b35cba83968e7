"""Files: the verbs on open files. How a file is opened is in opening.py, what a handle does when its connection is lost
in handles.py, and what is kept of a file, when and for how long, in leases.py.

A write returns as soon as its data is taken; it is sent in larger pieces, several at once, see writebehind.py. flush,
which is what close(2) waits for, returns when the server has everything, and so does whatever asks the server about the
file: a read, stat, truncation or another open. An error is given to the program once, by the write, flush or fsync that
comes next. fsync also has the server write to its disk. Of a file opened with O_SYNC or O_DSYNC each write waits until
its data is there. What a program leaves unsent is sent after LINGER seconds.

A file that is removed while it is open is renamed by entries.py to a hidden name; the last release removes it.
"""

from __future__ import annotations

import errno
import logging
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.acting import as_caller, caller
from dfsfs.errors import DfsfsError, Disposition, PosixError
from dfsfs.smb.leases import LeaseState
from dfsfs.smb.wire import Access
from dfsfs.vfs.ahead import ReadAhead
from dfsfs.vfs.leases import CacheMode, Leases
from dfsfs.vfs.opening import Opener
from dfsfs.vfs.prefetch import Prefetch
from dfsfs.vfs.writebehind import Budget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.copychunk import Range
    from dfsfs.smb.fscc import FileStat
    from dfsfs.smb.wire import Buffer
    from dfsfs.vfs.handles import OpenFile
    from dfsfs.vfs.leases import Caching, KernelCache
    from dfsfs.vfs.nodes import Node
    from dfsfs.vfs.places import Places
    from dfsfs.vfs.writebehind import Rewrite

log = logging.getLogger("dfsfs.vfs")

T = TypeVar("T")

PAGE = mmap.PAGESIZE
"""Bytes of the kernel's pages."""
LINGER = 1.0
"""Seconds that data may lie here before it is sent although it is little."""


@dataclass(frozen=True, slots=True)
class OpenResult:
    """`handle` is the number for later calls; `keep_cache`: whether data that the kernel has of the file is good;
    `direct`: whether it must keep none.
    """

    handle: int
    keep_cache: bool
    direct: bool


class Files:
    """The open files of a mount, by handle number."""

    def __init__(self, places: Places, kernel: KernelCache, caching: Caching) -> None:
        self._places = places
        self._leases = Leases(places, kernel, caching, self.settle)
        self._handles: dict[int, OpenFile] = {}
        self._by_node: dict[Node, list[OpenFile]] = {}
        self._next = 1
        self._written = trio.Event()
        self._prefetch = Prefetch(places)
        self._ahead = ReadAhead(caching.read_ahead)
        self._opener = Opener(places, self._leases, self._prefetch, Budget())

    async def serve(self) -> None:
        """Sends what programs leave unsent, answers lease breaks. Runs until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leases.serve)
            nursery.start_soon(self._prefetch.serve)
            while True:
                await self._written.wait()
                await trio.sleep(LINGER)
                self._written = trio.Event()
                for file in self._handles.values():
                    if file.behind.pending:
                        nursery.start_soon(self._drain, file)

    # -- opening and closing ----------------------------------------------------------------------------------------

    async def open(self, ino: int, flags: int) -> OpenResult:
        """Opens a file.

        Raises:
            PosixError: EISDIR, it is a folder; ESTALE, another file has its name.
            DfsfsError: the server's answer.
        """
        node = self._places.node(ino)
        if node.is_directory:
            raise PosixError(errno.EISDIR, f"{node.name} is a directory")
        await self.settle(node)
        return self._register(await self._opener.open(node, flags))

    async def create(self, parent: Node, name: str, mode: int, flags: int) -> tuple[OpenResult, Node]:
        """Makes and opens a file, or opens the one that is there unless O_EXCL is given. Counts no lookup.

        Raises:
            PosixError: EEXIST or EISDIR, the name is a DFS link; EIO, see opening.py.
            DfsfsError: the server's answer.
        """
        await self.settle_name(parent, name)
        file = await self._opener.create(parent, name, mode, flags)
        return self._register(file), file.node

    def _register(self, file: OpenFile) -> OpenResult:
        node, stat = file.node, file.opened
        self._places.table.hold(node)
        node.end = max(node.end, stat.size) if self.has_unwritten(node) else stat.size
        self._by_node.setdefault(node, []).append(file)
        handle, self._next = self._next, self._next + 1
        self._handles[handle] = file
        node.writers += file.writable
        keep_cache = self._leases.opened(node, stat, file.remote[1].tree.server_time())
        return OpenResult(handle, keep_cache, direct=self._leases.mode is CacheMode.NONE)

    async def release(self, handle: int) -> None:
        """Closes a file. Nobody hears of an error any more, so it goes to the log."""
        file = self._handles.pop(handle, None)
        if file is None:
            return
        if file.ahead is not None:
            file.ahead.clear()
        node = file.node
        files = self._by_node[node]
        files.remove(file)
        if not files:
            del self._by_node[node]
        try:
            await self._drained(file)
            if not self._keep(file):
                await file.close()
            if node.hidden is not None and node not in self._by_node:
                await self._remove_hidden(node, *node.hidden)
        except DfsfsError as error:
            log.warning("closing %s: %s", node.name, error)
        finally:
            node.writers -= file.writable
            self._leases.ended(node, file.lease)
            self._places.table.release(node)

    async def _remove_hidden(self, node: Node, folder: Node, name: str) -> None:
        """Removes a file, or the one of its names, that was removed here while it was open."""
        with as_caller(node.remover):
            await self._places.run_in(folder, name, lambda attempt: attempt.tree.remove_file(attempt.path))
        node.hidden = None
        self._places.table.entry_changed(folder, name)
        self._places.table.drop_name(folder, name)

    def _keep(self, file: OpenFile) -> bool:
        """Whether the handle stays open for the next program that opens the file."""
        node = file.node
        if file.writable or node.hidden is not None or not file.is_current or node.location is None:
            return False
        if node.lease is not file.lease or not node.is_covered:
            return False
        return self._leases.kept.put(node, file.access, *file.remote)

    async def close_all(self) -> None:
        """Closes everything that is still open, at the end of the mount."""
        self._prefetch.clear()
        self._leases.kept.clear()
        for handle in list(self._handles):
            await self.release(handle)
        self._leases.kept.clear()

    @property
    def count(self) -> int:
        """How many files are open."""
        return len(self._handles)

    # -- data -------------------------------------------------------------------------------------------------------

    async def read(self, handle: int, offset: int, size: int) -> Buffer:
        """Up to `size` bytes; fewer only at the end of the file. Raises DfsfsError."""
        file = self._file(handle)
        if (known := file.in_head(offset, size, self._places.clock())) is not None:
            return known
        await self.settle(file.node)
        if self._leases.is_due(file.node, LeaseState.READ):
            await self._on(file, lambda attempt: self._leases.renew(file.node, attempt, LeaseState.READ))
        self._leases.reads(file.node)
        found = file.read_ahead(self._ahead, offset, size) if file.reads_ahead else None
        if found is not None and (data := await found.data()) is not None:
            return data
        return await self._on(file, lambda attempt: file.read(attempt, offset, size))

    async def write(self, handle: int, offset: int, data: Buffer) -> int:
        """Takes all of `data`; see the module's text for when the server has it. Raises DfsfsError."""
        file = self._file(handle)
        node = file.node
        for other in tuple(self._by_node[node]):
            if other is not file and other.behind.pending:
                await self._drain(other)
        if file.appends and not _is_of_a_map(node, offset, len(data)):
            offset = node.end
        if file.synchronous or await self._writes_through(file) or not await self._taken(file, offset, data):
            await self._on(file, lambda attempt: file.write(attempt, offset, data))
        node.end = node.told = max(node.end, offset + len(data))
        self._places.table.changed(node)
        return len(data)

    async def _writes_through(self, file: OpenFile) -> bool:
        """Whether others have the file open and must see what is written at once."""
        if not self._leases.writes_through(file.node):
            return False
        if self._leases.is_due(file.node, LeaseState.WRITE):
            await self._on(file, lambda attempt: self._leases.renew(file.node, attempt, LeaseState.WRITE))
            if not self._leases.writes_through(file.node):
                return False
        await self._drained(file)
        return True

    async def _taken(self, file: OpenFile, offset: int, data: Buffer) -> bool:
        """Whether data was taken to be written behind the program's back, perhaps after waiting for room."""
        while True:
            _raise_kept(file)
            if file.write_behind(offset, data):
                self._written.set()
                return True
            if not file.behind.pending:
                return False
            await file.land_one(self._rewrite(file))

    async def flush(self, handle: int) -> None:
        """Says whether what was written has reached the server and is not lost. Raises DfsfsError if not."""
        file = self._file(handle)
        await self._drained(file)
        if (file.unsynced or file.poisoned) and not file.is_current:
            await self._on(file, file.check)

    async def fsync(self, handle: int) -> None:
        """Has the server write the file to its disk. Raises DfsfsError."""
        file: OpenFile | None = self._file(handle)
        assert file is not None
        await self.settle(file.node)
        _raise_kept(file)
        if not file.writable:
            # A server refuses FLUSH on such a handle (MS-SMB2 3.3.5.11); what else this mount wrote still counts.
            file = self.writable(file.node)
        if file is not None:
            await self._on(file, file.flush)

    async def copy(self, reader: OpenFile, writer: OpenFile, wanted: Range) -> None:
        """Has the server copy a part of one open file into another one. Raises DfsfsError, EXDEV on two servers."""
        await self._on(reader, reader.check)
        source, node = reader.remote[0], writer.node
        try:
            await self._on(writer, lambda attempt: writer.copy_from(attempt, source, wanted))
        finally:
            self._places.table.changed(node)
            await self._leases.kernel.forget(node.ino)
        node.end = node.told = max(node.end, wanted.target + wanted.length)

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
        _raise_kept(file)

    async def _drain(self, file: OpenFile) -> None:
        await file.drain(self._rewrite(file))

    def _rewrite(self, file: OpenFile) -> Rewrite:
        return lambda offset, data: self._on(file, lambda attempt: file.write(attempt, offset, data))

    # -- for the other verbs ----------------------------------------------------------------------------------------

    def is_open(self, node: Node) -> bool:
        return node in self._by_node

    def has_unwritten(self, node: Node) -> bool:
        """Whether something that was written to the file is not on the server yet."""
        return any(file.behind.pending for file in self._by_node.get(node, ()))

    def let_go(self, node: Node) -> None:
        """Closes handles that nobody uses on a file, or on what is below a folder, before it is changed by its name."""
        self._leases.kept.drop(node)

    async def hold_open(self, node: Node) -> None:
        """Makes sure that the server knows that a file is open: it may have been closed there after it was read along
        with its open, or by the loss of a connection.

        Raises:
            DfsfsError: it can't be opened again.
        """
        for file in self._by_node.get(node, ()):
            if not file.alive:
                await self._on(file, file.query)

    async def park_below(self, folder: Node) -> bool:
        """Closes the files that are open below a folder for now, so that its server lets it be renamed.

        Returns whether there was any.

        Raises:
            DfsfsError: something written to one of them did not reach the server.
        """
        files = [
            file
            for node, files in self._by_node.items()
            if node is not folder and folder in self._places.table.above(node)
            for file in files
        ]
        for file in files:
            await self._drained(file)
            await file.park()
            self._leases.ended(file.node, file.lease)
        return bool(files)

    async def query(self, node: Node) -> None:
        """Asks for a file's attributes through an open handle: the way for one that has no name any more.

        Raises:
            PosixError: ESTALE, nothing is open.
            DfsfsError: the server's answer.
        """
        files = self._by_node.get(node)
        if not files:
            raise PosixError(errno.ESTALE, f"{node.name} is gone")
        file = next((file for file in files if file.alive), files[0])
        await self.settle(node)
        changes = node.changes
        self._places.note(node, await self._on(file, file.query), changes)

    async def set_size(self, node: Node, handle: int | None, size: int) -> None:
        """Cuts or extends a file, through a handle if one may write. Raises DfsfsError."""
        await self.settle(node)
        file = self._handles.get(handle) if handle is not None else None
        if file is None or not file.writable:
            file = self.writable(node)
        if file is not None:
            opened = file
            await self._on(opened, lambda attempt: opened.set_size(attempt, size))
        else:
            self.let_go(node)
            await self._places.run(node, lambda attempt: attempt.tree.set_size(attempt.path, size))
        node.end = node.told = size
        self._places.table.changed(node)

    async def set_basic(self, node: Node, info: bytes) -> FileStat | None:
        """Sets times and attributes. Through every handle that has written, or else its close sets the times again.

        Returns what the server knows of the file then, if it was asked.
        """
        await self.settle(node)
        written = [file for file in self._own(node) if file.written]
        if not written:
            return await self._places.run(node, lambda attempt: _set_basic(attempt, node, info))
        stat: FileStat | None = None
        for file in written:
            stat = await self._set_basic_on(file, info)
        return stat

    async def _set_basic_on(self, file: OpenFile, info: bytes) -> FileStat:
        return await self._on(file, lambda attempt: file.set_basic(attempt, info))

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _file(self, handle: int) -> OpenFile:
        file = self._handles.get(handle)
        if file is None:
            raise PosixError(errno.EBADF, f"there is no open file {handle}")
        return file

    def readable(self, node: Node) -> OpenFile | None:
        """A handle of the caller on a file that may read, if there is one."""
        return next((file for file in self._own(node) if file.access & Access.READ_DATA), None)

    def writable(self, node: Node) -> OpenFile | None:
        """A handle of the caller on a file that may write, if there is one."""
        return next((file for file in self._own(node) if file.writable), None)

    def _own(self, node: Node) -> list[OpenFile]:
        """The caller's handles on a file: what others may do with it, they may not."""
        uid = caller().uid
        return [file for file in self._by_node.get(node, ()) if file.user.uid == uid]

    def has_open(self, uid: int) -> bool:
        """Whether a user has any file open."""
        return any(file.user.uid == uid for file in self._handles.values())

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


async def _set_basic(attempt: Attempt, node: Node, info: bytes) -> FileStat | None:
    """The operation that sets times and attributes by name. What the server says of the file then, if it was asked."""
    if node.is_reparse_point:
        await attempt.tree.set_basic_special(attempt.path, info)
        return None
    return await attempt.tree.set_basic(attempt.path, info)


def _is_of_a_map(node: Node, offset: int, size: int) -> bool:
    """Whether data that comes by way of a file opened with O_APPEND was written to a memory map of it.

    That belongs where it says. The kernel writes maps back in pages, inside of the size that it believes in, and has
    appended data begin at that size.
    """
    return offset % PAGE == 0 and offset + size <= node.end and offset != node.told


def _raise_kept(file: OpenFile) -> None:
    if (error := file.behind.take_error()) is not None:
        raise error

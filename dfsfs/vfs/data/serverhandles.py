"""ServerHandles: which handles the server has on a file, and how they get out of the way.

A server refuses to remove, replace or rename what is open, and does not rename a directory in which a file is open. So
before such a request

    `opens_blocked`           no program here begins to open the file
    `close_deferred`          handles that no program uses any more are closed
    `close_unused`            the same, and prefetches are given up and opens under way are waited for
    `closed_on_server`        the programs' own handles are closed, too, until the block ends
    `close_within_on_server`  the same for all files in a directory and below it

A program notices nothing of that: its file is opened again by its next operation, see openfile.py.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError
from dfsfs.vfs.names.dirrenames import is_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from dfsfs.vfs.data.caching import FileLeases
    from dfsfs.vfs.data.dirtydata import DirtyData
    from dfsfs.vfs.data.filerunner import FileRunner
    from dfsfs.vfs.data.filetable import OpenFileTable
    from dfsfs.vfs.data.pending import PendingOperations
    from dfsfs.vfs.data.prefetch import Prefetch
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup


class ServerHandles:
    """See the module's text."""

    def __init__(
        self,
        lookup: Lookup,
        table: OpenFileTable,
        runner: FileRunner,
        dirty: DirtyData,
        leases: FileLeases,
        prefetch: Prefetch,
        pending: PendingOperations,
    ) -> None:
        self._lookup = lookup
        self._table = table
        self._runner = runner
        self._dirty = dirty
        self._leases = leases
        self._prefetch = prefetch
        self._pending = pending

    # -- what is in the way -----------------------------------------------------------------------------------------

    def in_use(self, inode: Inode) -> bool:
        """Whether a program has the file open, or is just opening or closing it."""
        return self._table.is_open(inode) or self._pending.is_busy(inode)

    async def wait_opens(self, inode: Inode) -> None:
        """Returns when no handle on the file is just being opened or closed, or after `pending.PATIENCE` seconds."""
        await self._pending.wait_opens(inode)

    async def wait_closes(self, inode: Inode) -> None:
        """`wait_opens` if the close of a handle that was written through is under way. What is sent before its answer
        would have to be asked again: a close moves times.
        """
        if inode.pending_changes:
            await self._pending.wait_opens(inode)

    def opens_blocked(self, inode: Inode) -> AbstractAsyncContextManager[None]:
        """While the block runs, opens of the file wait; those under way are waited for before it begins."""
        return self._pending.opens_blocked(inode)

    # -- getting it out of the way ----------------------------------------------------------------------------------

    def close_deferred(self, inode: Inode) -> None:
        """Closes the handles that are only kept for the next open, of a file or of what is in a directory and below."""
        self._leases.deferred.drop(inode)

    async def close_unused(self, inode: Inode) -> bool:
        """Closes the handles that no program uses, and waits for opens under way. Returns whether there was anything,
        or a program has the file open.
        """
        found = self._leases.deferred.drop(inode)
        found = self._prefetch.drop(inode) or found or self._pending.is_busy(inode)
        await self._pending.wait_opens(inode)
        return found or self._table.is_open(inode)

    @asynccontextmanager
    async def closed_on_server(self, inode: Inode) -> AsyncIterator[None]:
        """While the block runs, the server has no handle on the file, and operations that need one wait."""
        self.close_deferred(inode)
        async with AsyncExitStack() as stack:
            for file in self._table.get_files(inode):
                await stack.enter_async_context(file.closed_on_server(partial(self._dirty.drain, file)))
                self._leases.note_close(inode, file.lease)
            yield

    async def close_within_on_server(self, directory: Inode) -> None:
        """Closes the handles that the server has on files in a directory and below it. The caller holds the directory
        (dirrenames.py), so that nothing but writeback is under way there.

        Raises:
            DfsfsError: something written to one of the files did not reach the server.
        """
        self.close_deferred(directory)
        await self._prefetch.drop_within(directory)
        inside = [inode for inode in self._table.get_inodes() if is_within(inode.parent, (directory,))]
        with self._lookup.directory_renames.running(directory):
            for file in [file for inode in inside for file in self._table.get_files(inode)]:
                await self._dirty.drain_or_raise(file)
                await file.close_on_server()
                self._leases.note_close(file.inode, file.lease)

    async def ensure_open(self, inode: Inode) -> None:
        """Makes sure that the server has a handle for each one that programs have on a file. It may have been closed
        there after the file was read along with its open, or by the loss of a connection.

        Raises:
            DfsfsError: it can't be opened again.
        """
        for file in self._table.get_files(inode):
            try:
                if not file.alive:
                    await self._runner.run(file, file.query)
            except DfsfsError:
                if file in self._table.get_files(inode):
                    raise  # else the program has closed it in the meantime

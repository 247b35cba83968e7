"""DirtyData: what programs have written to open files and no server has acknowledged yet.

`buffer` takes data without waiting for its answer; writeback.py gathers it for each file. `write_back` sends what is
dirty of an inode and waits for the server; whatever asks the server about a file does that first. `serve` sends what a
program leaves unsent for LINGER seconds.

An error of the server is kept in the file and raised once, to the program that wrote, by `drain_or_raise`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.background import contain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.data.filerunner import FileRunner
    from dfsfs.vfs.data.filetable import OpenFileTable
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.data.pending import PendingOperations
    from dfsfs.vfs.data.writeback import Rewrite
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

LINGER = 1.0
"""Seconds for which less data than fills a WRITE may stay unsent."""


class DirtyData:
    """See the module's text."""

    def __init__(self, lookup: Lookup, table: OpenFileTable, runner: FileRunner, pending: PendingOperations) -> None:
        self._lookup = lookup
        self._table = table
        self._runner = runner
        self._pending = pending
        self._buffered = trio.Event()
        """Set when `buffer` has taken data since `serve` looked last."""

    async def serve(self, nursery: trio.Nursery) -> None:
        """Sends what programs leave unsent, in tasks of `nursery`. Runs until it is cancelled."""
        while True:
            await self._buffered.wait()
            await trio.sleep(LINGER)
            self._buffered = trio.Event()
            for file in self._table.files:
                if file.writeback.is_dirty:
                    nursery.start_soon(contain, "writes", partial(self.drain, file))

    # -- taking data ------------------------------------------------------------------------------------------------

    async def buffer(self, file: OpenFile, offset: int, data: Buffer) -> bool:
        """Takes data to be sent later, after waiting for room if necessary. False: it has to be written directly.

        Raises:
            DfsfsError: the error of something that was written before.
        """
        while True:
            raise_writeback_error(file)
            if file.buffer_write(offset, data):
                if file.dirty_since is None:
                    file.dirty_since = self._lookup.table.begin_change(file.inode, keeps_attributes=True)
                self._buffered.set()
                return True
            if not file.writeback.is_dirty:
                return False
            await file.wait_oldest(self._make_rewrite(file))
            self._note_answer(file)

    @asynccontextmanager
    async def resizing(self, inode: Inode) -> AsyncIterator[None]:
        """While the size of a file is set, nothing new is written to it, and what was written is on the server."""
        with self._pending.resizing(inode):
            await self.write_back(inode)
            yield

    # -- sending it -------------------------------------------------------------------------------------------------

    async def write_back(self, inode: Inode) -> None:
        """Returns when the server has everything that was written to a file, through whichever handle. Errors are kept
        for the programs that wrote.
        """
        for file in self._table.get_files(inode):
            if file.writeback.is_dirty:
                await self.drain(file)

    async def write_back_name(self, directory: Inode, name: str) -> None:
        """`write_back` for the file that is known under a (wire) name in a directory, if there is one."""
        if (known := self._lookup.table.child(directory, name)) is not None:
            await self.write_back(known)

    async def write_back_user(self, uid: int) -> None:
        """`write_back` for all files that a user has open."""
        for file in self._table.files:
            if file.user.uid == uid and file.writeback.is_dirty:
                await self.drain(file)

    async def drain(self, file: OpenFile) -> None:
        """Returns when the server has answered everything that was written through one handle. An error is kept."""
        await file.drain(self._make_rewrite(file))
        self._note_answer(file)

    async def drain_or_raise(self, file: OpenFile) -> None:
        """`drain`, and raises the error that was kept. Raises: DfsfsError."""
        if file.writeback.is_dirty:
            await self.drain(file)
        raise_writeback_error(file)

    # -- the outcome ------------------------------------------------------------------------------------------------

    def note_lost(self, inode: Inode) -> None:
        """Something that was to be written may not be on the server: the size that is known is doubtful."""
        self._lookup.table.invalidate(inode)
        if inode.local_writes is not None:
            inode.local_writes.is_size_unsure = True

    def discard(self, file: OpenFile) -> None:
        """Gives up what is still dirty of a file that is being closed. After `drain` there is nothing."""
        file.writeback.discard()
        if file.dirty_since is not None:
            self._lookup.table.end_change(file.inode, file.dirty_since, keeps_attributes=True)
            file.dirty_since = None
            self.note_lost(file.inode)

    def _note_answer(self, file: OpenFile) -> None:
        """The server has acknowledged or refused something that was written."""
        if file.dirty_since is not None and not file.writeback.is_dirty:
            self._lookup.table.end_change(file.inode, file.dirty_since, keeps_attributes=True)
            file.dirty_since = None
            if file.writeback.has_failed:
                self.note_lost(file.inode)

    def _make_rewrite(self, file: OpenFile) -> Rewrite:
        return lambda offset, data: self._runner.run(file, lambda attempt: file.write(attempt, offset, data))


def raise_writeback_error(file: OpenFile) -> None:
    """Raises the error of something that was written before, if there is one that no program has been given yet.

    Raises:
        DfsfsError
    """
    if (error := file.writeback.take_error()) is not None:
        raise error

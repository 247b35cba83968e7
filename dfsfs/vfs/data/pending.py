"""PendingOperations: which files are just being opened, closed or changed here, and which ones may not be opened.

A server refuses to replace or remove a file that is open. Between sending a CREATE and knowing its handle, and between
a program's close and the answer to the CLOSE, a file may be open on the server though the table of open files does not
have it. So before a file is removed or replaced, opens of it are blocked: those that come wait, those under way are
waited for, and then the table has everything that is open. Writes wait while the size of their file is set. The close
of a handle that was written through moves the file's time, and a server may take it and what is sent after it in any
order: so times are set when no close is under way, and closes wait while they are set.

No deadlock: an open counts as under way only after it has waited for the block, and then waits for nothing that a task
with a block holds. Blocks do not wait for each other.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dfsfs.vfs.names.inodetable import Inode

PATIENCE = 5.0
"""Seconds for which a removal waits for opens and closes under way: their server may be waiting for another client."""


class PendingOperations:
    """See the module's text."""

    def __init__(self) -> None:
        self._busy: dict[Inode, int] = {}
        self._blocked: dict[Inode, int] = {}
        self._resizes: dict[Inode, int] = {}
        self._times: dict[Inode, int] = {}
        self._changed = trio.Event()
        """Set, and replaced, whenever a count falls to 0."""

    def is_busy(self, inode: Inode) -> bool:
        """Whether the file is just being opened or closed."""
        return inode in self._busy

    def are_opens_blocked(self, inode: Inode) -> bool:
        return inode in self._blocked

    @asynccontextmanager
    async def opening(self, inode: Inode) -> AsyncIterator[None]:
        """Counts an open as under way while the block runs. Waits first while opens of the file are blocked."""
        while inode in self._blocked:
            await self._changed.wait()
        with self._counted(self._busy, inode):
            yield

    @contextmanager
    def closing(self, inode: Inode) -> Iterator[None]:
        """Counts a close as under way while the block runs."""
        with self._counted(self._busy, inode):
            yield

    @contextmanager
    def resizing(self, inode: Inode) -> Iterator[None]:
        """Counts a change of the size as under way while the block runs."""
        with self._counted(self._resizes, inode):
            yield

    async def wait_resizes(self, inode: Inode) -> None:
        """Returns when no change of the file's size is under way."""
        while inode in self._resizes:
            await self._changed.wait()

    @asynccontextmanager
    async def setting_times(self, inode: Inode) -> AsyncIterator[None]:
        """Counts a change of the file's times as under way while the block runs. Closes are waited for first."""
        await self.wait_opens(inode)
        with self._counted(self._times, inode):
            yield

    async def wait_times(self, inode: Inode) -> None:
        """Returns when no change of the file's times is under way. The caller may count as closing it."""
        while inode in self._times:
            await self._changed.wait()

    @asynccontextmanager
    async def opens_blocked(self, inode: Inode) -> AsyncIterator[None]:
        """While the block runs, opens of the file wait. Those under way are waited for first, for PATIENCE at most."""
        with self._counted(self._blocked, inode):
            await self.wait_opens(inode)
            yield

    async def wait_opens(self, inode: Inode) -> None:
        """Returns when no open or close of the file is under way, or after PATIENCE."""
        with trio.move_on_after(PATIENCE):
            while inode in self._busy:
                await self._changed.wait()

    @contextmanager
    def _counted(self, counts: dict[Inode, int], inode: Inode) -> Iterator[None]:
        counts[inode] = counts.get(inode, 0) + 1
        try:
            yield
        finally:
            counts[inode] -= 1
            if not counts[inode]:
                del counts[inode]
                moved, self._changed = self._changed, trio.Event()
                moved.set()

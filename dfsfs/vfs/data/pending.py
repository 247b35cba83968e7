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

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

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

    def opening(self, inode: Inode) -> AbstractAsyncContextManager[None]:
        """Counts an open as under way while the block runs. Waits first while opens of the file are blocked."""
        return _Opening(self, self._busy, inode)

    def closing(self, inode: Inode) -> AbstractContextManager[None]:
        """Counts a close as under way while the block runs."""
        return _Counted(self, self._busy, inode)

    def resizing(self, inode: Inode) -> AbstractContextManager[None]:
        """Counts a change of the size as under way while the block runs."""
        return _Counted(self, self._resizes, inode)

    async def wait_resizes(self, inode: Inode) -> None:
        """Returns when no change of the file's size is under way."""
        while inode in self._resizes:
            await self._changed.wait()

    @asynccontextmanager
    async def setting_times(self, inode: Inode) -> AsyncIterator[None]:
        """Counts a change of the file's times as under way while the block runs. Closes are waited for first."""
        await self.wait_opens(inode)
        with _Counted(self, self._times, inode):
            yield

    async def wait_times(self, inode: Inode) -> None:
        """Returns when no change of the file's times is under way. The caller may count as closing it."""
        while inode in self._times:
            await self._changed.wait()

    @asynccontextmanager
    async def opens_blocked(self, inode: Inode) -> AsyncIterator[None]:
        """While the block runs, opens of the file wait. Those under way are waited for first, for PATIENCE at most."""
        with _Counted(self, self._blocked, inode):
            await self.wait_opens(inode)
            yield

    async def wait_opens(self, inode: Inode) -> None:
        """Returns when no open or close of the file is under way, or after PATIENCE."""
        with trio.move_on_after(PATIENCE):
            while inode in self._busy:
                await self._changed.wait()

    async def _wait_unblocked(self, inode: Inode) -> None:
        while inode in self._blocked:
            await self._changed.wait()

    def _note_end(self) -> None:
        """A count has fallen to 0."""
        moved, self._changed = self._changed, trio.Event()
        moved.set()


class _Counted:
    """A block that is counted for an inode. No generator, as it is entered for each open and close."""

    __slots__ = ("_counts", "_inode", "_pending")

    def __init__(self, pending: PendingOperations, counts: dict[Inode, int], inode: Inode) -> None:
        self._pending = pending
        self._counts = counts
        self._inode = inode

    def __enter__(self) -> None:
        self._counts[self._inode] = self._counts.get(self._inode, 0) + 1

    def __exit__(self, *exception: object) -> None:
        self._counts[self._inode] -= 1
        if not self._counts[self._inode]:
            del self._counts[self._inode]
            self._pending._note_end()


class _Opening(_Counted):
    """The same, after the inode's opens are not blocked any more."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        await self._pending._wait_unblocked(self._inode)
        self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__()

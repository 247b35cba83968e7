"""PendingOperations: which files are just being opened, closed or resized here, and who wants nobody to begin for a
moment.

A server refuses to replace or remove a file that is open, and between the CREATE that is sent and the handle that is
known lies a moment in which nothing shows that it is: the same between a program's close and the server's answer to
the CLOSE. So whoever removes or replaces a file bars it: opens that come now wait, those under way are waited for, and
then what is known to be open is all that is open. What is to be written to a file waits while its size is changed.

No deadlock: an open counts as under way only once it has passed the bar, and waits for nothing that a holder of a bar
has; bars do not wait for each other.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dfsfs.vfs.names.inodetable import Inode

PATIENCE = 5.0
"""Seconds that an open or close may keep a removal waiting: its server may be waiting for somebody else's."""


class PendingOperations:
    """See the module's text."""

    def __init__(self) -> None:
        self._busy: dict[Inode, int] = {}
        self._bars: dict[Inode, int] = {}
        self._resized: dict[Inode, int] = {}
        self._moved = trio.Event()
        """Set, and replaced, whenever a count falls to 0."""

    def is_busy(self, inode: Inode) -> bool:
        """Whether the file is just being opened or closed."""
        return inode in self._busy

    def is_barred(self, inode: Inode) -> bool:
        return inode in self._bars

    @asynccontextmanager
    async def opening(self, inode: Inode) -> AsyncIterator[None]:
        """Around an open: waits while the file is barred."""
        while inode in self._bars:
            await self._moved.wait()
        with self._counted(self._busy, inode):
            yield

    @contextmanager
    def closing(self, inode: Inode) -> Iterator[None]:
        """Around the close of a handle."""
        with self._counted(self._busy, inode):
            yield

    @contextmanager
    def resizing(self, inode: Inode) -> Iterator[None]:
        """Around a change of a file's size."""
        with self._counted(self._resized, inode):
            yield

    async def until_sized(self, inode: Inode) -> None:
        """Returns when nothing is changing the file's size."""
        while inode in self._resized:
            await self._moved.wait()

    @asynccontextmanager
    async def barred(self, inode: Inode) -> AsyncIterator[None]:
        """Nobody begins to open the file, and whoever had begun is done, or takes longer than PATIENCE."""
        with self._counted(self._bars, inode):
            await self.quiet(inode)
            yield

    async def quiet(self, inode: Inode) -> None:
        """Returns when nothing is under way on the file, at once if so, or after PATIENCE."""
        with trio.move_on_after(PATIENCE):
            while inode in self._busy:
                await self._moved.wait()

    @contextmanager
    def _counted(self, counts: dict[Inode, int], inode: Inode) -> Iterator[None]:
        counts[inode] = counts.get(inode, 0) + 1
        try:
            yield
        finally:
            counts[inode] -= 1
            if not counts[inode]:
                del counts[inode]
                moved, self._moved = self._moved, trio.Event()
                moved.set()

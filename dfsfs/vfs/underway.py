"""UnderWay: which files are just being opened, closed or resized here, and who wants nobody to begin for a moment.

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

    from dfsfs.vfs.nodes import Node

PATIENCE = 5.0
"""Seconds that an open or close may keep a removal waiting: its server may be waiting for somebody else's."""


class UnderWay:
    """See the module's text."""

    def __init__(self) -> None:
        self._busy: dict[Node, int] = {}
        self._bars: dict[Node, int] = {}
        self._resized: dict[Node, int] = {}
        self._moved = trio.Event()
        """Set, and replaced, whenever a count falls to 0."""

    def is_busy(self, node: Node) -> bool:
        """Whether the file is just being opened or closed."""
        return node in self._busy

    def is_barred(self, node: Node) -> bool:
        return node in self._bars

    @asynccontextmanager
    async def opening(self, node: Node) -> AsyncIterator[None]:
        """Around an open: waits while the file is barred."""
        while node in self._bars:
            await self._moved.wait()
        with self._counted(self._busy, node):
            yield

    @contextmanager
    def closing(self, node: Node) -> Iterator[None]:
        """Around the close of a handle."""
        with self._counted(self._busy, node):
            yield

    @contextmanager
    def resizing(self, node: Node) -> Iterator[None]:
        """Around a change of a file's size."""
        with self._counted(self._resized, node):
            yield

    async def until_sized(self, node: Node) -> None:
        """Returns when nothing is changing the file's size."""
        while node in self._resized:
            await self._moved.wait()

    @asynccontextmanager
    async def barred(self, node: Node) -> AsyncIterator[None]:
        """Nobody begins to open the file, and whoever had begun is done, or takes longer than PATIENCE."""
        with self._counted(self._bars, node):
            await self.quiet(node)
            yield

    async def quiet(self, node: Node) -> None:
        """Returns when nothing is under way on the file, at once if so, or after PATIENCE."""
        with trio.move_on_after(PATIENCE):
            while node in self._busy:
                await self._moved.wait()

    @contextmanager
    def _counted(self, counts: dict[Node, int], node: Node) -> Iterator[None]:
        counts[node] = counts.get(node, 0) + 1
        try:
            yield
        finally:
            counts[node] -= 1
            if not counts[node]:
                del counts[node]
                moved, self._moved = self._moved, trio.Event()
                moved.set()

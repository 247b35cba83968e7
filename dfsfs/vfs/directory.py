"""Listing: an open directory, read from the server as far as the kernel has asked for it.

The kernel reads a directory in pieces and names the offset at which it wants to go on. What the server has delivered so
far is kept, an offset is an index into that, and so the same offset is the same entry as long as the directory is open.
Offset 0 starts from nothing again (rewinddir).

If the connection or the target is lost halfway, the listing is read once more from the start, and names that were
delivered already are passed over: no name comes twice, as POSIX wants it.

Concurrency: one task at a time reads from the server, under `_lock`. The stream of batches is begun and continued in
different tasks; it holds no scope across a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dfsfs.acting import caller
from dfsfs.unc import fold_name
from dfsfs.vfs.leftovers import is_hidden_name, remove_leftover
from dfsfs.vfs.looks import looked_at
from dfsfs.vfs.views import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.fscc import DirEntry
    from dfsfs.vfs.nodes import Node
    from dfsfs.vfs.places import Places


class Listing:
    """The entries of one open directory."""

    def __init__(self, places: Places, node: Node) -> None:
        self.node = node
        self._places = places
        self._lock = trio.Lock()
        self._stream: AsyncIterator[list[DirEntry]] | None = None
        self._attempt: Attempt | None = None
        self._epoch = 0
        self._entries: list[tuple[DirEntry, Origin]] = []
        self._seen: set[str] = set()
        self._complete = False

    async def rewind(self) -> None:
        """Forgets what was read, so that it will be read again."""
        async with self._lock:
            await self._stop()
            self._entries, self._seen, self._complete = [], set(), False

    async def entry(self, index: int) -> tuple[bytes, Node | None] | None:
        """Name and node at an index, or None behind the last one. No node: an entry that is not to be shown.

        Raises:
            DfsfsError: the directory can't be read.
        """
        if self.node.detached:
            return None  # a folder that was removed is empty
        if index >= len(self._entries) and not self._complete:
            async with self._lock:
                while index >= len(self._entries) and not self._complete:
                    batch, origin = await self._places.run(self.node, self._next_batch)
                    self._keep(batch, origin)
                    for entry in batch or ():
                        if is_hidden_name(entry.name):
                            await remove_leftover(self._places, self.node, entry.name)
        if index >= len(self._entries):
            return None
        entry, origin = self._entries[index]
        name = self._places.names.from_wire(entry.name)
        if name is None:
            return b"", None
        return name, self._places.listed(self.node, entry, origin, changes=self.node.changes)

    async def close(self) -> None:
        await self._stop()

    def _keep(self, batch: list[DirEntry] | None, origin: Origin) -> None:
        if batch is None:
            self._complete = True
            self._stream = None
            first = self._entries[0][1] if self._entries else origin
            self._places.views.keep(self.node, (entry for entry, _ in self._entries), first)
            return
        for entry in batch:
            folded = fold_name(entry.name)
            if folded not in self._seen and not is_hidden_name(entry.name):
                self._seen.add(folded)
                self._entries.append((entry, origin))

    async def _next_batch(self, attempt: Attempt) -> tuple[list[DirEntry] | None, Origin]:
        """The operation that reads on, or starts again if the attempt is on another tree than the last one."""
        if self._stream is None or self._attempt is None or self._attempt.tree is not attempt.tree:
            await self._stop()
            self._epoch = self._places.table.epoch
            self._stream, self._attempt = aiter(attempt.tree.list(attempt.path)), attempt
        try:
            batch = await anext(self._stream, None)
            if batch is not None:
                batch = await looked_at(self._places.table, attempt, self.node, batch)
        except BaseException:
            # A stream that has raised is at its end; the next attempt needs another one.
            self._stream = None
            raise
        return batch, Origin(attempt.tree.volume, self._epoch, self._places.clock(), caller().uid)

    async def _stop(self) -> None:
        stream, self._stream = self._stream, None
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()

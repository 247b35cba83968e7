"""Listing: an open directory, read from the server as far as the kernel has asked for it.

The kernel reads a directory in pieces and names the offset at which it wants to go on. An offset is an index into what
the server has delivered. The last entries of that are kept, HELD at most, so that the same offset is the same entry as
long as the directory is open; a program that goes back to before them, in a larger directory, has it read from the
start once more. Offset 0 starts from nothing again (rewinddir).

Entries are handed on as they come: an answer to the kernel does not wait for the server once there is something in it.

If the connection or the target is lost halfway, the listing is read once more from the start, and names that were
delivered already are passed over: no name comes twice, as POSIX wants it. How long a server may go on, and how long
without a new name, is bounded: bounds.py.

The kernel takes the attributes of an entry for newer than all that it knows, and cuts what it has of the file to its
size. So an entry that a change made here has overtaken since it was read (ordering.py) is asked for once more before it
is handed on.

A program that jumps about (seekdir, or a removal that makes it start again) wants few entries from where it has gone
to, and the kernel asks for as many as fit into its buffer. So an answer that does not go on where the last one has
ended is a short one, and those that go on from there are twice as long each: see `answer`.

Concurrency: one task at a time reads from the server, under `_lock`. The stream of batches is begun and continued in
different tasks; it holds no scope across a batch.
"""

from __future__ import annotations

import errno
import logging
import math
from typing import TYPE_CHECKING

import trio

from dfsfs.acting import caller
from dfsfs.errors import DfsfsError, EndlessAnswer
from dfsfs.smb.tree.bounds import MAX_ENTRIES, Novelty
from dfsfs.vfs.names.dircache import Origin
from dfsfs.vfs.names.direntries import DirEntries, Names
from dfsfs.vfs.names.hiddennames import is_hidden_name, remove_leftover
from dfsfs.vfs.names.inodetable import NEVER
from dfsfs.vfs.names.ordering import ASKS
from dfsfs.vfs.names.specialentries import looked_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

SHORT = 16
"""Entries of an answer after a jump."""
HELD = 32_768
"""Entries that are kept of one listing: as many as come in the second for which views are believed, unless `actimeo=`
makes that longer."""
SLICE = 1024
"""Entries of an answer that are looked at and handed on at once: each of them may take a request of its own."""

TIDYING = 3.0
"""Seconds of a listing in which what others have left behind is put right. The next listing goes on."""


class Listing:
    """The entries of one open directory."""

    def __init__(self, lookup: Lookup, inode: Inode) -> None:
        self.inode = inode
        self.user = caller()
        """Who has opened it: it is read for them."""
        self._lookup = lookup
        self._lock = trio.Lock()
        self._stream: AsyncIterator[list[DirEntry]] | None = None
        self._attempt: Attempt | None = None
        self._asked = 0
        self._received = 0.0
        self._rest: list[DirEntry] = []
        """What has come from the server and was not looked at yet."""
        self._novelty = Novelty(f"the listing of {inode.name}")
        self._entries = DirEntries()
        self._seen = Names()
        self._complete = False
        self._endless: EndlessAnswer | None = None
        """What has ended it, if the server did not."""
        self._next = 0
        self._length = math.inf
        self._begun = NEVER
        self._tidied = 0.0
        """Seconds that went into what others have left here."""

    async def begin(self) -> None:
        """In a mount of many users, whose modes say nothing of who may list a folder, reads the first entries now: who
        may not hears of it at the open. What is read first starts with them, if that comes soon.

        Raises:
            DfsfsError: the directory can't be read.
        """
        if self._lookup.proofs.needed and not self.inode.detached:
            self._begun = self._lookup.clock()
            async with self._lock:
                await self._read_on()

    def answer(self, offset: int) -> float:
        """How many entries to hand on at most from an offset on."""
        if offset == 0:
            self._length = math.inf
        else:
            self._length = self._length * 2 if offset == self._next else SHORT
        return self._length

    def handed_on(self, offset: int) -> None:
        """Everything before an offset has been handed on."""
        self._next = offset

    async def rewind(self) -> None:
        """Forgets what was read, so that it will be read again."""
        begun, self._begun = self._begun, NEVER
        if self._lookup.clock() - begun < self._lookup.lifetimes.folders and not self.inode.overtakes(self._asked):
            return
        async with self._lock:
            await self._forget()

    async def _forget(self) -> None:
        await self._stop()
        self._entries, self._seen, self._complete = DirEntries(), Names(), False
        self._endless = None

    def is_at_hand(self, index: int) -> bool:
        """Whether what is at an index can be said without asking the server."""
        return self._complete or self._entries.begin <= index < self._entries.end

    async def entry(self, index: int) -> tuple[bytes, Inode | None] | None:
        """Name and inode at an index, or None behind the last one. No inode: an entry that is not to be shown.

        Raises:
            DfsfsError: the directory can't be read.
            EndlessAnswer: the server does not come to an end.
        """
        if self.inode.detached:
            return None  # a folder that was removed is empty
        if index < self._entries.begin or (index >= self._entries.end and not self._complete):
            async with self._lock:
                if index < self._entries.begin:
                    await self._forget()
                while index >= self._entries.end and not self._complete:
                    await self._read_on()
        if not self._entries.begin <= index < self._entries.end:
            return None
        entry, origin = self._entries[index]
        name = self._lookup.names.from_wire(entry.name)
        if name is None:
            return b"", None
        return name, await self._current(entry, origin)

    async def _read_on(self) -> None:
        """Takes one answer of the server, or a part of it. Raises as `entry`."""
        if self._endless is not None:
            raise self._endless.with_traceback(None)
        try:
            batch, origin = await self._lookup.run(self.inode, self._next_batch)
            self._keep(batch, origin)
        except EndlessAnswer as error:
            log.warning("%s; it is given up", error)
            self._endless = error
            await self._stop()
            raise
        for entry in batch or ():
            if is_hidden_name(entry.name):
                await self._tidy(entry.name)

    async def _tidy(self, name: str) -> None:
        """Deals with a hidden name, unless that has taken long enough: whoever may write here can make many, and have
        the server wait for each.
        """
        begun = self._lookup.clock()
        if self._tidied < TIDYING:
            await remove_leftover(self._lookup, self.inode, name)
            self._tidied += self._lookup.clock() - begun

    async def _current(self, entry: DirEntry, origin: Origin) -> Inode | None:
        """The inode of an entry, with attributes that are true now; None if it is gone."""
        lookup, table, folder = self._lookup, self._lookup.table, self.inode
        try:
            if table.name_overtaken(folder, entry.name, origin.asked):
                return await lookup.look_up(folder, entry.name)
            await lookup.check_ids(folder, entry, origin)
            inode = lookup.listed(folder, entry, origin)
            if inode.own is None and not inode.is_link and inode.overtakes(origin.asked):
                for _ in range(ASKS):
                    if await lookup.refresh(inode):
                        break
        except DfsfsError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return None
            raise
        return inode

    async def close(self) -> None:
        """Closes the directory on its server, unless somebody waits for an answer about it. Who reads on has it opened
        again, as after a loss of the connection.
        """
        if not getattr(self._stream, "ag_running", False):
            await self._stop()

    def _keep(self, batch: list[DirEntry] | None, origin: Origin) -> None:
        if batch is None:
            self._complete = True
            self._forget_stream()
            self._keep_view(self._entries.origin or origin)
            return
        found = [entry for entry in batch if not is_hidden_name(entry.name) and self._seen.add(entry.name)]
        self._entries.add(found, origin)
        new = len(found)
        self._novelty.take(new, len(batch) - new, self._lookup.clock())
        if len(self._seen) > MAX_ENTRIES:
            raise EndlessAnswer(f"the listing of {self.inode.name} does not end: {len(self._seen)} names so far")
        if self._entries.end - self._entries.begin > HELD:
            self._entries.drop_before(self._entries.end - HELD // 2)

    def _keep_view(self, origin: Origin) -> None:
        """The directory has been read: what came with its first entries is the oldest of it."""
        views, entries = self._lookup.views, self._entries
        if entries.begin or not views.is_worth(entries.end, origin, self._lookup.clock()):
            views.supersede(self.inode, entries.end)
        else:
            views.keep_named(self.inode, entries.by_name(), origin)

    async def _next_batch(self, attempt: Attempt) -> tuple[list[DirEntry] | None, Origin]:
        """The operation that reads on, or starts again if the attempt is on another tree than the last one."""
        if self._stream is None or self._attempt is None or self._attempt.tree is not attempt.tree:
            await self._stop()
            self._asked = self._lookup.table.moment
            self._stream, self._attempt = aiter(attempt.tree.list(attempt.path)), attempt
            self._lookup.moving.directories.add(self)
            self._novelty.restart(len(self._seen))
        batch: list[DirEntry] | None = None
        try:
            if not self._rest:
                answer = await anext(self._stream, None)
                self._received = self._lookup.clock()
                self._rest = answer or []
                batch = None if answer is None else []
            if self._rest:
                batch = await looked_at(self._lookup.table, attempt, self.inode, self._rest[:SLICE])
                del self._rest[:SLICE]
        except BaseException:
            await (
                self._stop()
            )  # a stream that has raised is at its end, and one whose entries were not looked at is not
            raise
        return batch, Origin(attempt.tree.volume, self._asked, self._received, caller().uid)

    async def _stop(self) -> None:
        stream = self._forget_stream()
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()

    def _forget_stream(self) -> AsyncIterator[list[DirEntry]] | None:
        self._lookup.moving.directories.discard(self)
        stream, self._stream, self._rest = self._stream, None, []
        return stream

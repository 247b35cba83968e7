"""Listing: an open directory, read from the server as far as the kernel has asked for it.

The kernel reads a directory in pieces and names the offset at which it wants to go on. An offset is an index into what
the server has delivered. The last ENTRIES_HELD of that are kept, so that the same offset is the same entry as long as
the directory is open; if a program goes back to before them, in a larger directory, it is read from the start once
more. Offset 0 starts from nothing again (rewinddir).

Entries are handed on as they come: a reply to the kernel does not wait for the server once there is an entry in it.

If the connection or the target is lost halfway, the listing is read once more from the start, and names that were
delivered already are left out: no name comes twice, as POSIX wants it. How long a server may go on, and how long
without a new name, is bounded: smb/tree/bounds.py.

The kernel takes the attributes of an entry for newer than all that it knows, and cuts its cached data of the file to
that size. So an entry that a change made here has overtaken since it was read (ordering.py) is asked for once more
before it is handed on.

A program that jumps about (seekdir, or a removal that makes it start again) wants few entries from the new position,
and the kernel asks for as many as fit into its buffer. So the reply after a jump is short, and each reply that goes on
from there may be twice as long: see `limit_entries`.

Concurrency: one task at a time reads from the server, under `_lock`. The stream of batches is begun and continued in
different tasks; it holds no cancel scope across a batch.
"""

from __future__ import annotations

import errno
import logging
import math
from typing import TYPE_CHECKING

import trio

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError, EndlessAnswer
from dfsfs.smb.tree.bounds import MAX_ENTRIES, ListingProgress
from dfsfs.vfs.names.dircache import Origin
from dfsfs.vfs.names.direntries import DirEntries, NameSet
from dfsfs.vfs.names.hiddennames import clean_up_hidden_name, is_hidden_name
from dfsfs.vfs.names.inodetable import NEVER
from dfsfs.vfs.names.ordering import ASKS
from dfsfs.vfs.names.specialentries import resolve_special_entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

ENTRIES_AFTER_SEEK = 16
"""Entries of an answer after a jump."""
ENTRIES_HELD = 32_768
"""Entries that are kept of one listing: as many as come in the second for which views are believed, unless `actimeo=`
makes that longer."""
ENTRIES_PER_SLICE = 1024
"""Entries of an answer that are looked at and handed on at once: each of them may take a request of its own."""

CLEAN_UP_MAX = 3.0
"""Seconds of a listing in which what others have left behind is put right. The next listing goes on."""


class Listing:
    """The entries of one open directory."""

    def __init__(self, lookup: Lookup, inode: Inode) -> None:
        self.inode = inode
        self.user = current_caller()
        """Who has opened it: it is read for them."""
        self._lookup = lookup
        self._lock = trio.Lock()
        self._stream: AsyncIterator[list[DirEntry]] | None = None
        self._attempt: Attempt | None = None
        self._asked = 0
        self._received = 0.0
        self._rest: list[DirEntry] = []
        """What has come from the server and was not looked at yet."""
        self._novelty = ListingProgress(f"the listing of {inode.name}")
        self._entries = DirEntries()
        self._names = NameSet()
        self._complete = False
        self._error: EndlessAnswer | None = None
        """What has ended it, if the server did not."""
        self._next = 0
        self._length = math.inf
        self._begun = NEVER
        self._cleaned_up = 0.0
        """Seconds that went into what others have left here."""

    async def begin(self) -> None:
        """In a mount of many users, whose modes say nothing of who may list a directory, reads the first entries now:
        who may not hears of it at the open. What is read first starts with them, if that comes soon.

        Raises:
            DfsfsError: the directory can't be read.
        """
        if self._lookup.attributes.access.is_needed and not self.inode.detached:
            self._begun = self._lookup.clock()
            async with self._lock:
                await self._read_batch()

    def limit_entries(self, offset: int) -> float:
        """How many entries to hand on at most from an offset on."""
        if offset == 0:
            self._length = math.inf
        else:
            self._length = self._length * 2 if offset == self._next else ENTRIES_AFTER_SEEK
        return self._length

    def set_position(self, offset: int) -> None:
        """Everything before an offset has been handed on."""
        self._next = offset

    async def rewind(self) -> None:
        """Forgets what was read, so that it will be read again."""
        begun, self._begun = self._begun, NEVER
        age, lifetime = self._lookup.clock() - begun, self._lookup.attributes.lifetimes.directories
        if age < lifetime and not self.inode.has_changed_since(self._asked):
            return
        async with self._lock:
            await self._forget()

    async def _forget(self) -> None:
        await self._stop()
        self._entries, self._names, self._complete = DirEntries(), NameSet(), False
        self._error = None

    def is_loaded(self, index: int) -> bool:
        """Whether what is at an index can be said without asking the server."""
        return self._complete or self._entries.start <= index < self._entries.stop

    async def entry(self, index: int) -> tuple[bytes, Inode | None] | None:
        """Name and inode at an index, or None behind the last one. No inode: an entry that is not to be shown.

        Raises:
            DfsfsError: the directory can't be read.
            EndlessAnswer: the server does not come to an end.
        """
        if self.inode.detached:
            return None  # a directory that was removed is empty
        if index < self._entries.start or (index >= self._entries.stop and not self._complete):
            async with self._lock:
                if index < self._entries.start:
                    await self._forget()
                while index >= self._entries.stop and not self._complete:
                    await self._read_batch()
        if not self._entries.start <= index < self._entries.stop:
            return None
        entry, origin = self._entries[index]
        name = self._lookup.name_mapping.from_wire(entry.name)
        if name is None:
            return b"", None
        return name, await self._get_current_inode(entry, origin)

    async def _read_batch(self) -> None:
        """Takes one answer of the server, or a part of it. Raises as `entry`."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            batch, origin = await self._lookup.run(self.inode, self._next_batch)
            self._add_batch(batch, origin)
        except EndlessAnswer as error:
            log.warning("%s; it is given up", error)
            self._error = error
            await self._stop()
            raise
        for entry in batch or ():
            if is_hidden_name(entry.name):
                await self._clean_up(entry.name)

    async def _clean_up(self, name: str) -> None:
        """Deals with a hidden name, unless that has taken long enough: whoever may write here can make many, and have
        the server wait for each.
        """
        begun = self._lookup.clock()
        if self._cleaned_up < CLEAN_UP_MAX:
            await clean_up_hidden_name(self._lookup, self.inode, name)
            self._cleaned_up += self._lookup.clock() - begun

    async def _get_current_inode(self, entry: DirEntry, origin: Origin) -> Inode | None:
        """The inode of an entry, with attributes that are true now; None if it is gone."""
        lookup, table, directory = self._lookup, self._lookup.table, self.inode
        try:
            if table.has_name_changed_since(directory, entry.name, origin.asked):
                return await lookup.look_up(directory, entry.name)
            await lookup.check_ids(directory, entry, origin)
            inode = lookup.update_from_listing(directory, entry, origin)
            if inode.local_writes is None and not inode.is_link and inode.has_changed_since(origin.asked):
                for _ in range(ASKS):
                    if await lookup.revalidate(inode):
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

    def _add_batch(self, batch: list[DirEntry] | None, origin: Origin) -> None:
        if batch is None:
            self._complete = True
            self._forget_stream()
            self._cache_listing(self._entries.origin or origin)
            return
        found = [entry for entry in batch if not is_hidden_name(entry.name) and self._names.add(entry.name)]
        self._entries.add(found, origin)
        new = len(found)
        self._novelty.take(new, len(batch) - new, self._lookup.clock())
        if len(self._names) > MAX_ENTRIES:
            raise EndlessAnswer(f"the listing of {self.inode.name} does not end: {len(self._names)} names so far")
        if self._entries.stop - self._entries.start > ENTRIES_HELD:
            self._entries.drop_before(self._entries.stop - ENTRIES_HELD // 2)

    def _cache_listing(self, origin: Origin) -> None:
        """The directory has been read: what came with its first entries is the oldest of it."""
        views, entries = self._lookup.attributes.dircache, self._entries
        if entries.start or not views.is_worth_caching(entries.stop, origin, self._lookup.clock()):
            views.supersede(self.inode, entries.stop)
        else:
            views.add_named(self.inode, entries.by_name(), origin)

    async def _next_batch(self, attempt: Attempt) -> tuple[list[DirEntry] | None, Origin]:
        """The operation that reads on, or starts again if the attempt is on another tree than the last one."""
        if self._stream is None or self._attempt is None or self._attempt.tree is not attempt.tree:
            await self._stop()
            self._asked = self._lookup.table.version
            self._stream, self._attempt = aiter(attempt.tree.list(attempt.path)), attempt
            self._lookup.directory_renames.open_directories.add(self)
            self._novelty.restart(len(self._names))
        batch: list[DirEntry] | None = None
        try:
            if not self._rest:
                answer = await anext(self._stream, None)
                self._received = self._lookup.clock()
                self._rest = answer or []
                batch = None if answer is None else []
            if self._rest:
                batch = await resolve_special_entries(
                    self._lookup.table, attempt, self.inode, self._rest[:ENTRIES_PER_SLICE]
                )
                del self._rest[:ENTRIES_PER_SLICE]
        except BaseException:
            await (
                self._stop()
            )  # a stream that has raised is at its end, and one whose entries were not looked at is not
            raise
        return batch, Origin(attempt.tree.volume, self._asked, self._received, current_caller().uid)

    async def _stop(self) -> None:
        stream = self._forget_stream()
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()

    def _forget_stream(self) -> AsyncIterator[list[DirEntry]] | None:
        self._lookup.directory_renames.open_directories.discard(self)
        stream, self._stream, self._rest = self._stream, None, []
        return stream

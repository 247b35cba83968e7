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
from dfsfs.vfs.names.direntries import DirEntries, EntryPage, NameSet
from dfsfs.vfs.names.hiddennames import clean_up_hidden_name, is_hidden_name
from dfsfs.vfs.names.inodetable import NEVER
from dfsfs.vfs.names.ordering import ASKS
from dfsfs.vfs.names.specialentries import resolve_special_entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

ENTRIES_AFTER_SEEK = 16
"""Entries of a reply after a jump to another offset."""
ENTRIES_HELD = 32_768
"""Entries that are kept of one listing: about as many as arrive in the second for which a cached listing is believed
by default (actimeo)."""
ENTRIES_PER_SLICE = 2048
"""Entries of an answer that are resolved and handed on together: each of them may take a request of its own."""

CLEAN_UP_MAX = 3.0
"""Seconds of one listing that are spent on cleaning up hidden names. The next listing goes on."""


class Listing:
    """The entries of one open directory."""

    def __init__(self, lookup: Lookup, inode: Inode) -> None:
        self.inode = inode
        self.user = current_caller()
        """The user who has opened it, for whom it is read."""
        self._lookup = lookup
        self._lock = trio.Lock()
        self._stream: AsyncIterator[Sequence[DirEntry]] | None = None
        self._attempt: Attempt | None = None
        self._asked = 0
        self._received = 0.0
        self._rest: Sequence[DirEntry] = ()
        """Entries that were received and not resolved yet (specialentries.py)."""
        self._novelty = ListingProgress(f"the listing of {inode.name}")
        self._entries = DirEntries()
        self._names = NameSet()
        self._complete = False
        self._error: EndlessAnswer | None = None
        """Why the listing was given up, if the server does not end it."""
        self._next = 0
        self._length = math.inf
        self._begun = NEVER
        self._cleaned_up = 0.0
        """Seconds that went into cleaning up."""

    async def begin(self) -> None:
        """With `multiuser` modes do not say who may list a directory: reads the first entries now, so that the open
        fails for a user who may not. The first `readdir` uses them if it follows within a lifetime.

        Raises:
            DfsfsError: the directory can't be read.
        """
        if self._lookup.attributes.access.is_needed and not self.inode.detached:
            self._begun = self._lookup.clock()
            async with self._lock:
                await self._read_batch()

    def limit_entries(self, offset: int) -> float:
        """The number of entries of a reply that begins at `offset`, at most; `math.inf`: as many as fit."""
        if offset == 0:
            self._length = math.inf
        else:
            self._length = self._length * 2 if offset == self._next else ENTRIES_AFTER_SEEK
        return self._length

    def set_position(self, offset: int) -> None:
        """Everything before `offset` has been handed on."""
        self._next = offset

    async def rewind(self) -> None:
        """Forgets what was read, so that the directory is read again, unless `begin` has just read it."""
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
        """Whether the entry at an index, or that there is none, is known without asking the server."""
        return self._complete or self._entries.start <= index < self._entries.stop

    async def entry(self, index: int) -> tuple[bytes, Inode | None] | None:
        """The name and inode of an entry; None behind the last one. An inode of None: the entry is left out.

        Raises:
            DfsfsError: the directory can't be read.
            EndlessAnswer: the server does not come to an end.
        """
        if self.inode.detached:
            return None  # a removed directory is empty
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
        """Reads one answer of the server, or takes the rest of it. Raises as `entry`."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            page, is_end = await self._lookup.run(self.inode, self._next_page)
            hidden = self._end(page.origin) if is_end else self._add_page(page)
        except EndlessAnswer as error:
            log.warning("%s; it is given up", error)
            self._error = error
            await self._stop()
            raise
        for name in hidden:
            await self._clean_up(name)

    async def _clean_up(self, name: str) -> None:
        """Cleans up a hidden name, unless that has taken CLEAN_UP_MAX: a user may create many, and the server may be
        slow with each.
        """
        begun = self._lookup.clock()
        if self._cleaned_up < CLEAN_UP_MAX:
            await clean_up_hidden_name(self._lookup, self.inode, name)
            self._cleaned_up += self._lookup.clock() - begun

    async def _get_current_inode(self, entry: DirEntry, origin: Origin) -> Inode | None:
        """The inode of an entry, with attributes that no change made here has overtaken; None if it is gone."""
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
        """Closes the directory on its server, unless an answer is awaited. Reading on opens it again, as after a lost
        connection.
        """
        if not getattr(self._stream, "ag_running", False):
            await self._stop()

    def _add_page(self, page: EntryPage) -> list[str]:
        """Adds the entries of a page but for hidden ones, of which the names are returned, and those that were
        known.
        """
        names, hidden = list(page.names()), list[str]()
        new = [index for index, name in enumerate(names) if not is_hidden_name(name) and self._names.add(name)]
        if len(new) < len(names):
            hidden = [name for name in names if is_hidden_name(name)]
            page = EntryPage([page.entry(index) for index in new], page.origin)
        self._entries.add(page)
        self._novelty.take(len(new), len(names) - len(new), self._lookup.clock())
        if len(self._names) > MAX_ENTRIES:
            raise EndlessAnswer(f"the listing of {self.inode.name} does not end: {len(self._names)} names so far")
        if self._entries.stop - self._entries.start > ENTRIES_HELD:
            self._entries.drop_before(self._entries.stop - ENTRIES_HELD // 2)
        return hidden

    def _end(self, origin: Origin) -> list[str]:
        """The listing is complete: it is cached, unless it took so long that it is too old. No hidden name came."""
        self._complete = True
        self._forget_stream()
        dircache, entries = self._lookup.attributes.dircache, self._entries
        dircache.note_size(self.inode, entries.stop)
        pages = entries.pages or [EntryPage((), origin)]
        if not entries.start and self._lookup.clock() - pages[0].origin.time < dircache.lifetime:
            dircache.add_pages(self.inode, pages)
        return []

    async def _next_page(self, attempt: Attempt) -> tuple[EntryPage, bool]:
        """The operation that reads on; from the start if the attempt is on another tree than the last one. A page, and
        whether it is the end, and has no entries.
        """
        if self._stream is None or self._attempt is None or self._attempt.tree is not attempt.tree:
            await self._stop()
            self._asked = self._lookup.table.version
            self._stream, self._attempt = aiter(attempt.tree.list(attempt.path)), attempt
            self._lookup.directory_renames.open_directories.add(self)
            self._novelty.restart(len(self._names))
        try:
            answer: Sequence[DirEntry] | None = self._rest
            if not self._rest:
                answer = await anext(self._stream, None)
                self._rest, self._received = answer or (), self._lookup.clock()
            batch, rest = self._rest[:ENTRIES_PER_SLICE], self._rest[ENTRIES_PER_SLICE:]
            replaced = await resolve_special_entries(self._lookup.table, attempt, self.inode, batch)
            self._rest = rest
        except BaseException:
            await self._stop()  # a stream that has raised has ended, and one with unresolved entries is read again
            raise
        origin = Origin(attempt.tree.volume, self._asked, self._received, current_caller().uid)
        return EntryPage(batch, origin, replaced), answer is None

    async def _stop(self) -> None:
        stream = self._forget_stream()
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()

    def _forget_stream(self) -> AsyncIterator[Sequence[DirEntry]] | None:
        self._lookup.directory_renames.open_directories.discard(self)
        stream, self._stream, self._rest = self._stream, None, ()
        return stream

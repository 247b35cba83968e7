"""NameReaders: list directories as far as the names need that are looked up in them.

A name that has to be asked for is one request of three messages. When names of one directory are looked up one after
the other, its listing has them at a hundredth of that, so it is read, page by page, and each page answers for its names
while it is believed (dircache.py). lookuprate.py decides when a listing is begun and how far it is read: a program that
goes on in the order of the listing has the next page read when it needs it, so in a directory of any size a name costs
what it costs in a small one, and no more than what is believed of the listing is held in memory.

Pages are read by the look-ups that need them. Others wait for one page at most, and then ask for their name alone. A
page carries the version at which its listing was begun, as those of open directories do: what was changed here since
then is asked for (ordering.py).

Between two pages the directory is open on its server: until its end, until it was of no use for a lifetime, and no
longer than until it is renamed or removed here (dirrenames.py). Any error ends a listing, and the name that it was read
for is asked for alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError
from dfsfs.vfs.names.dircache import Origin, Place
from dfsfs.vfs.names.direntries import EntryPage
from dfsfs.vfs.names.lookuprate import AT_ONCE
from dfsfs.vfs.names.specialentries import resolve_special_entries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.vfs.names.attrcache import AttributeCache
    from dfsfs.vfs.names.dircache import CachedDirectory
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookuprate import LookupRate
    from dfsfs.vfs.names.routing import Router

FIRST_PAGE = 64 * 1024
"""Bytes of the first page after those with which a directory is opened: some 450 entries."""
SMALLEST_PAGE, LARGEST_PAGE = 4096, 512 * 1024
"""Bytes of the smallest pages, 28 entries, and of the largest, which take 3 ms of the loop."""
WAIT_MAX = 0.5
"""Seconds after which one look-up reads no further page."""
IDLE_MAX = 10.0
"""Seconds for which a directory stays open on its server without being of use, at most."""
QUICK, SLOW = 0.125, 0.5
"""The parts of a lifetime within which a page is used up that is followed by a larger one, and by none that is smaller:
who looks at the entries of a page is to be through before it is too old.
"""


class NameReaders:
    """See the module's text. `clock`: seconds of the file system's clock."""

    def __init__(self, router: Router, attributes: AttributeCache, clock: Callable[[], float]) -> None:
        self._router = router
        self._attributes = attributes
        self._clock = clock
        self._readers: dict[Inode, NameReader] = {}
        self._begun = trio.Event()

    async def read_for(self, directory: Inode, name: str) -> bool:
        """Lists a directory, or reads on in its listing, if that is likely to have a name that has to be asked for, or
        others that will be. Whether something was read.
        """
        now, lifetime = self._clock(), self._attributes.lifetimes.directories
        cached = self._attributes.get_cached_directory(directory)
        if lifetime <= 0 or (cached is not None and cached.complete):
            return False
        rate = self._attributes.dircache.use_rate(directory)
        reader = self._readers.get(directory)
        if reader is not None and reader.is_reading:
            await reader.wait_for_page()
            return True
        rate.add_lookup(now, lifetime)
        is_due = rate.is_due()
        if reader is not None and reader.user.uid == current_caller().uid:
            place = reader.cached.place(name)
            if place is Place.NEXT or (place is Place.UNKNOWN and rate.is_worth_reading(now, lifetime)):
                return await self._read(reader, rate, name)
            if place is Place.PASSED:  # a program that takes its time: else it goes on at the next page
                is_due = reader.cached.is_worth_repeating
        if not is_due:
            return False
        before, reader = reader, NameReader(self._router, self._attributes, self._clock, directory)
        rate.begin(reader.cached, now, lifetime)
        self._readers[directory] = reader
        self._begun.set()
        try:
            if before is not None:
                await before.close()
        except BaseException:
            await self._end(reader)
            raise
        return await self._read(reader, rate, name)

    async def _read(self, reader: NameReader, rate: LookupRate, name: str) -> bool:
        """Reads on until a name has come, or is not likely to come. Whether anything was read."""
        lifetime, cached = self._attributes.lifetimes.directories, reader.cached
        begun, started, found = cached.taken, self._clock(), False
        try:
            while (page := await reader.read_page()) is not None:
                rate.note_page(len(page), self._clock() - page.origin.time)
                found, now = found or page.has(name), self._clock()
                is_enough = cached.taken >= AT_ONCE and (found or not rate.is_worth_reading(now, lifetime))
                if is_enough or now - started > WAIT_MAX:
                    return True
        except DfsfsError:
            await self._end(reader)
            return cached.taken > begun
        except BaseException:
            await self._end(reader)
            raise
        rate.size = 0
        await self._end(reader)
        return True

    async def _end(self, reader: NameReader) -> None:
        """Ends a listing."""
        if self._readers.get(reader.inode) is reader:
            del self._readers[reader.inode]
        rate = self._attributes.dircache.use_rate(reader.inode)
        rate.size = max(rate.size, reader.cached.taken)
        await reader.close()

    async def close(self) -> None:
        """Closes all directories."""
        for reader in list(self._readers.values()):
            await self._end(reader)

    async def serve(self) -> None:
        """Closes directories that are not read on. Runs until it is cancelled."""
        while True:
            await self._begun.wait()
            while self._readers:
                await trio.sleep(min(max(self._attributes.lifetimes.directories, 1.0), IDLE_MAX))
                for reader in list(self._readers.values()):
                    if reader.is_idle():
                        await self._end(reader)
            self._begun = trio.Event()


class NameReader:
    """The listing of a directory while it is read. The task that makes it is to read its first page."""

    def __init__(
        self, router: Router, attributes: AttributeCache, clock: Callable[[], float], directory: Inode
    ) -> None:
        self.inode = directory
        self.user = current_caller()
        self.cached: CachedDirectory = attributes.dircache.begin(directory, self.user.uid)
        self.is_reading = True
        self._used = clock()
        """When a page was read last."""
        self._router = router
        self._attributes = attributes
        self._clock = clock
        self._stream: AsyncGenerator[Sequence[DirEntry], None] | None = None
        self._attempt: Attempt | None = None
        self._asked = 0
        self._output_size = FIRST_PAGE
        self._was_used = (-1, -1)
        self._page_read = trio.Event()

    async def wait_for_page(self) -> None:
        """Returns when a page was read, or none will be."""
        await self._page_read.wait()

    async def read_page(self) -> EntryPage | None:
        """The next page, which is cached. None: the listing has come to its end.

        Raises:
            DfsfsError: the directory can't be read, or not from where the listing was.
        """
        self.is_reading = True
        self._choose_size()
        try:
            page, is_end = await self._router.run(self.inode, self._next_page)
            if page is None:
                raise DfsfsError(f"the listing of {self.inode.name} was closed")
            page.build_index()
            if is_end:
                self.cached.end()
            if page or (is_end and not self.cached.taken):
                self._attributes.dircache.add_page(self.inode, self.cached, page)
            return None if is_end else page
        finally:
            self.is_reading, self._used = False, self._clock()
            self._wake()

    def is_idle(self) -> bool:
        """Whether it was of no use since this was asked last."""
        used = (self.cached.taken, self.cached.hits)
        was, self._was_used = self._was_used, used
        return not self.is_reading and was == used

    def _choose_size(self) -> None:
        taken, lifetime = self._clock() - self._used, self._attributes.lifetimes.directories
        if taken < QUICK * lifetime:
            self._output_size = min(2 * self._output_size, LARGEST_PAGE)
        elif taken > SLOW * lifetime:
            self._output_size = max(self._output_size // 4, SMALLEST_PAGE)

    async def _next_page(self, attempt: Attempt) -> tuple[EntryPage | None, bool]:
        """The operation that reads on: a page, and whether it is the end, and has no entries. No page: the listing was
        closed meanwhile, or is on another tree.
        """
        table, time = self._attributes.table, self._clock()
        if self._stream is None and not self.cached.taken:
            self._asked, self._attempt = table.version, attempt
            self._stream = attempt.tree.list(attempt.path, lambda: self._output_size)
            self._router.directory_renames.open_directories.add(self)
        if self._stream is None or self._attempt is None or self._attempt.tree is not attempt.tree:
            return None, False
        try:
            answer = await anext(self._stream, None)
            batch = answer or ()
            replaced = await resolve_special_entries(table, attempt, self.inode, batch)
        except BaseException:
            await self._stop()
            raise
        origin = Origin(attempt.tree.volume, self._asked, time, self.user.uid)
        return EntryPage(batch, origin, replaced), answer is None

    async def close(self) -> None:
        """Closes the directory on its server, unless an answer is awaited: then it was removed by another user, and
        the answer is the last.
        """
        self._wake()
        if not getattr(self._stream, "ag_running", False):
            await self._stop()

    async def _stop(self) -> None:
        self._router.directory_renames.open_directories.discard(self)
        stream, self._stream, self._attempt = self._stream, None, None
        self.cached.forget_place()
        if stream is not None:
            await stream.aclose()

    def _wake(self) -> None:
        woken, self._page_read = self._page_read, trio.Event()
        woken.set()

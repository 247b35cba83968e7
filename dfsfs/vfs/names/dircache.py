"""DirCache: what the last listings of directories say, so that names in them need not be asked for one by one.

A listing is kept in pages, one for each answer of the server, and each page is believed until it is too old. So a
listing of any size answers for what came last of it, also while it is still being read (namereader.py). One that is
complete, with no page too old, answers as well for names that it lacks: that there are none. Of a name that it lacks,
but has in another case, it says nothing: only the server knows whether the two are one. A change that was made here
since the listing was asked for overtakes it, name by name (ordering.py).

Pure: the time is an argument. All listings together take some MAX_BYTES at most; the oldest pages go first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from dfsfs.unc import fold_name
from dfsfs.vfs.names.direntries import EntryPage, key_of_name
from dfsfs.vfs.names.lookuprate import AT_ONCE, ENTRIES_PER_LOOKUP, LookupRate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inode import ListingState

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of all cached listings together: some 400,000 entries with names of 20 characters."""
DIRECTORY_SIZE = 1000
"""Bytes that a listing takes besides its pages, about."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and when entries come from."""

    share: UncPath
    """The share that their file ids belong to."""
    asked: int
    """The version (InodeTable.version) at which the listing was asked for."""
    time: float
    """When the first of them were received, in seconds of the clock."""
    user: int = 0
    """The uid of the user who asked for them. Another user may see less, or more."""


class Place(Enum):
    """Where a name is that a listing has no answer for, seen from the end of what was read of it."""

    NEXT = auto()
    """Just behind it, as it seems: a program has been told many names of the newest page, and goes on from there."""
    PASSED = auto()
    """In a page that is too old to be believed."""
    UNKNOWN = auto()


class CachedDirectory:
    """What is known of a directory's entries: pages of one listing, in its order, the oldest first."""

    __slots__ = (
        "_is_cut",
        "_last",
        "_newest",
        "_passed",
        "_passed_by",
        "complete",
        "hits",
        "newest_hits",
        "pages",
        "size",
        "taken",
        "user",
    )

    def __init__(self, user: int) -> None:
        self.user = user
        self.pages: deque[EntryPage] = deque()
        self.complete = False
        """Whether all entries are there."""
        self.taken = 0
        """Entries of all pages that were added."""
        self.hits = 0
        """Names for which it had an answer, if only that there are none."""
        self.newest_hits = 0
        """Those of them that are in the newest page."""
        self.size = DIRECTORY_SIZE
        self._newest: EntryPage | None = None
        self._passed_by = 0
        """Names in the newest page that were asked for when it was too old."""
        self._passed: EntryPage | None = None
        """The page that was dropped last: it still tells where a program is."""
        self._is_cut = False
        """Whether a page was dropped."""
        self._last: EntryPage | None = None
        """The page that had the name that was asked for last."""

    def __len__(self) -> int:
        return sum(map(len, self.pages))

    def __iter__(self) -> Iterator[DirEntry]:
        return (page.entry(index) for page in self.pages for index in range(len(page)))

    @property
    def origin(self) -> Origin:
        """That of the oldest page. There has to be one."""
        return self.pages[0].origin

    def find(self, name: str) -> tuple[DirEntry, Origin] | None:
        """The entry of a name, and where and when it comes from; None if no page has it."""
        key = key_of_name(name)
        last = self._last
        if last is not None and (entry := last.find(key, name)) is not None:
            return self._hit(last, entry)
        for page in reversed(self.pages):
            if page is not last and (entry := page.find(key, name)) is not None:
                self._last = page
                return self._hit(page, entry)
        return None

    def _hit(self, page: EntryPage, entry: DirEntry) -> tuple[DirEntry, Origin]:
        self.hits += 1
        if page is self._newest:
            self.newest_hits += 1
        return entry, page.origin

    def lacks(self, name: str) -> bool:
        """Whether there is no such name for certain: also none that differs from it in case only."""
        if not self.complete or next(self.find_spellings(name), None) is not None:
            return False
        self.hits += 1
        return True

    def find_spellings(self, name: str) -> Iterator[tuple[DirEntry, Origin]]:
        """The entries of a name in any case, and where and when they come from."""
        key, folded = key_of_name(name), fold_name(name)
        return ((entry, page.origin) for page in self.pages for entry in page.find_spellings(key, folded))

    def place(self, name: str) -> Place:
        """Where a name is that it has no answer for."""
        if self._passed is not None and self._passed.has(name):
            self._passed_by += self._passed is self._newest
            return Place.PASSED
        newest, used = self._newest, self.newest_hits + self._passed_by
        return Place.NEXT if newest is not None and used * ENTRIES_PER_LOOKUP >= len(newest) else Place.UNKNOWN

    @property
    def is_worth_repeating(self) -> bool:
        """Whether the newest page alone has had answers for as many names as would cost as much as all that was
        read.
        """
        return self._newest is not None and self.newest_hits * ENTRIES_PER_LOOKUP >= self.taken

    def add(self, page: EntryPage) -> None:
        """Adds a page."""
        self.pages.append(page)
        self.taken += len(page)
        self.size += page.size
        self._newest, self.newest_hits, self._passed_by = page, 0, 0

    def end(self) -> None:
        """There are no more pages."""
        self.complete = not self._is_cut
        self._newest = None

    def drop_oldest(self) -> None:
        """Drops the oldest page."""
        page = self.pages.popleft()
        self.size -= page.size
        self.complete, self._is_cut = False, True
        if self._newest is not None:
            self._passed = page
        if page is self._last:
            self._last = None

    def drop_all(self) -> None:
        """Drops all pages."""
        self.pages.clear()
        self.size, self.complete, self._is_cut, self._last = DIRECTORY_SIZE, False, True, None

    def forget_place(self) -> None:
        """It is not read on."""
        self._newest = self._passed = None


class DirectoryInode(Protocol):
    """What the cache needs of a directory's inode."""

    listing: ListingState | None

    @property
    def detached(self) -> bool: ...

    def use_listing(self) -> ListingState: ...


class DirCache:
    """The cached listings of a mount's directories. `lifetime`: for how many seconds each page is believed."""

    def __init__(self, lifetime: float, limit: int = MAX_BYTES) -> None:
        self.lifetime = lifetime
        self._limit = limit
        self._directories: OrderedDict[DirectoryInode, CachedDirectory] = OrderedDict()
        """Those whose oldest page is the oldest come first, about."""
        self._size = 0

    def add(self, directory: DirectoryInode, entries: Sequence[DirEntry], origin: Origin) -> None:
        """Caches a complete listing that came in one answer."""
        self.add_pages(directory, [EntryPage(entries, origin)])

    def add_pages(self, directory: DirectoryInode, pages: Iterable[EntryPage]) -> None:
        """Caches a complete listing, of one page at least."""
        pages = list(pages)
        cached = self.begin(directory, pages[0].origin.user)
        for page in pages:
            self.add_page(directory, cached, page)
        cached.end()

    def use_rate(self, directory: DirectoryInode) -> LookupRate:
        """How many names of a directory are looked up one by one, to be counted."""
        state = directory.use_listing()
        state.lookup_rate = state.lookup_rate or LookupRate()
        return state.lookup_rate

    def note_size(self, directory: DirectoryInode, count: int) -> None:
        """A listing has shown how many entries a directory has. What was known before is dropped."""
        self.drop(directory)
        if count >= AT_ONCE or (directory.listing is not None and directory.listing.lookup_rate is not None):
            self.use_rate(directory).size = count

    def begin(self, directory: DirectoryInode, user: int) -> CachedDirectory:
        """Drops what is cached of a directory, for a new listing, which is cached with its first page."""
        self.drop(directory)
        return CachedDirectory(user)

    def add_page(self, directory: DirectoryInode, cached: CachedDirectory, page: EntryPage) -> None:
        """Adds a page to a directory's listing, unless a later listing is cached or the directory is detached."""
        if directory.detached:
            return
        current = self._directories.setdefault(directory, cached)
        if current is not cached:
            return
        if directory.use_listing().cached is cached:
            self._size -= cached.size
        directory.use_listing().cached = cached
        cached.add(page)
        self._size += cached.size
        self.drop_old(page.origin.time)
        while self._size > self._limit and self._directories:
            self._drop_oldest_page(next(iter(self._directories)))

    def drop_old(self, now: float) -> None:
        """Drops pages that are too old."""
        while self._directories:
            directory, cached = next(iter(self._directories.items()))
            if not self._drop_old_pages(directory, cached, now):
                return
            if directory in self._directories:
                self._directories.move_to_end(directory)

    def _drop_old_pages(self, directory: DirectoryInode, cached: CachedDirectory, now: float) -> bool:
        """Drops the pages of a listing that are too old, and with the last one the listing. Whether there were any."""
        found = False
        while cached.pages and cached.origin.time <= now - self.lifetime:
            self._drop_oldest_page(directory)
            found = True
        return found

    def _drop_oldest_page(self, directory: DirectoryInode) -> None:
        """Drops the oldest page of a listing, and with the last one the listing."""
        cached = self._directories[directory]
        self._size -= cached.size
        cached.drop_oldest()
        self._size += cached.size
        if not cached.pages:
            self.drop(directory)

    def drop(self, directory: DirectoryInode) -> None:
        """Drops a directory's listing."""
        cached = self._directories.pop(directory, None)
        if cached is not None:
            self._size -= cached.size
            cached.drop_all()
        if directory.listing is not None:
            directory.listing.cached = None

    def get(self, directory: DirectoryInode, now: float, user: int = 0) -> CachedDirectory | None:
        """The directory's listing, unless it was asked for by another user; what of it is too old is dropped."""
        cached = directory.listing.cached if directory.listing is not None else None
        if cached is None or cached.user != user:
            return None
        if cached.pages and now - cached.origin.time >= self.lifetime:
            self._drop_old_pages(directory, cached, now)
        return cached if cached.pages else None

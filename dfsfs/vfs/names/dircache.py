"""DirCache: the last listings of directories, so that names in them need not be asked for one by one.

A cached listing answers for a name until it is too old: with its entry, or that there is none. Of a name that it lacks,
but has in another case, it says nothing: only the server knows whether the two are one. A change that was made here
since the listing was asked for overtakes it, name by name (ordering.py). A directory in which many names are asked for
one after the other is listed instead: see `LookupRate`.

Pure: the time is an argument. All listings together hold at most MAX_ENTRIES entries; the oldest go first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inode import ListingState

MAX_ENTRIES = 100_000
"""Entries of all cached listings together; some 500 bytes each."""
LOOKUPS_MIN = 3
"""Names that are looked up alone, within the lifetime of a listing, before a directory of unknown size is listed."""
ENTRIES_PER_LOOKUP = 50
"""So many entries more need one look-up more before the directory is listed: a listing takes longer, the more there
are."""


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


@dataclass(slots=True, eq=False)
class CachedDirectory:
    """A complete listing: all entries of a directory, by their exact names."""

    origin: Origin
    entries: Mapping[str, DirEntry]
    _folded: set[str] | None = None

    def has_other_case(self, name: str) -> bool:
        """Whether a name that is not in the listing differs from one that is in case only."""
        if self._folded is None:
            self._folded = {fold_name(known) for known in self.entries}
        return fold_name(name) in self._folded


@dataclass(slots=True)
class LookupRate:
    """How many names of a directory are looked up one by one."""

    size: int = 0
    """Entries at the last listing; 0: not known."""
    since: float = float("-inf")
    """When counting began, in seconds of the clock."""
    count: int = 0
    """Names since then."""
    is_listing: bool = False
    """Whether the directory is just being listed for its names."""
    is_too_large: bool = False
    """Whether the directory has more entries than are listed for the sake of single names."""

    def add_lookup(self, now: float, lifetime: float) -> bool:
        """Counts a name that has to be asked for. Whether the directory should be listed instead. Times in seconds."""
        if now - self.since >= lifetime:
            self.since, self.count = now, 0
        self.count += 1
        worth = self.count > max(LOOKUPS_MIN, self.size // ENTRIES_PER_LOOKUP)
        return worth and lifetime > 0 and not self.is_listing and not self.is_too_large


class DirectoryInode(Protocol):
    """What the cache needs of a directory's inode."""

    listing: ListingState | None

    @property
    def detached(self) -> bool: ...

    def use_listing(self) -> ListingState: ...


class DirCache:
    """The cached listings of a mount's directories. `lifetime`: for how many seconds each is believed."""

    def __init__(self, lifetime: float, limit: int = MAX_ENTRIES) -> None:
        self.lifetime = lifetime
        self._limit = limit
        self._directories: OrderedDict[DirectoryInode, CachedDirectory] = OrderedDict()
        self._size = 0

    def add(self, directory: DirectoryInode, entries: Iterable[DirEntry], origin: Origin) -> None:
        """Caches a complete listing."""
        self.add_named(directory, {entry.name: entry for entry in entries}, origin)

    def add_named(self, directory: DirectoryInode, entries: Mapping[str, DirEntry], origin: Origin) -> None:
        """Caches a complete listing, its entries by their names, if it is not too large and the directory is
        attached.
        """
        self.supersede(directory, len(entries))
        cached = CachedDirectory(origin, entries)
        if len(cached.entries) > self._limit or directory.detached:
            return
        directory.use_listing().cached = self._directories[directory] = cached
        self._size += len(cached.entries)
        while self._size > self._limit:
            self.drop(next(iter(self._directories)))
        self.drop_old(origin.time)

    def count_lookup(self, directory: DirectoryInode, now: float) -> LookupRate | None:
        """Counts a name of a directory that has to be asked for; `now` in seconds. Returns the directory's rate if it
        is to be listed instead, else None.
        """
        state = directory.use_listing()
        rate = state.lookup_rate = state.lookup_rate or LookupRate()
        return rate if rate.add_lookup(now, self.lifetime) else None

    def supersede(self, directory: DirectoryInode, count: int) -> None:
        """Drops a directory's listing: a newer one, of `count` entries, was received."""
        self.drop(directory)
        if directory.listing is not None and directory.listing.lookup_rate is not None:
            directory.listing.lookup_rate.size = count

    def is_worth_caching(self, count: int, origin: Origin, now: float) -> bool:
        """Whether a listing of `count` entries is worth caching: one that took longer than a lifetime is too old."""
        return count <= self._limit and now - origin.time < self.lifetime

    def drop_old(self, now: float) -> None:
        """Drops listings that are too old."""
        while self._oldest() <= now - self.lifetime:
            self.drop(next(iter(self._directories)))

    def _oldest(self) -> float:
        return next(iter(self._directories.values())).origin.time if self._directories else math.inf

    def drop(self, directory: DirectoryInode) -> None:
        """Drops a directory's listing."""
        cached = self._directories.pop(directory, None)
        if cached is not None:
            self._size -= len(cached.entries)
        if directory.listing is not None:
            directory.listing.cached = None

    def get(self, directory: DirectoryInode, now: float, user: int = 0) -> CachedDirectory | None:
        """The directory's listing, unless it was asked for by another user or is too old; then it is dropped."""
        cached = directory.listing.cached if directory.listing is not None else None
        if cached is not None and cached.origin.user != user:
            return None
        if cached is not None and now - cached.origin.time >= self.lifetime:
            self.drop(directory)
            return None
        return cached

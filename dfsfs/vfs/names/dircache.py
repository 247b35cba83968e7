"""CachedDirectory: what the last listing of a folder said, so that names in it need not be asked for one by one.

A view answers for a name until it is too old: with its entry, or that there is none. Of a name that is not in it, but
another spelling of it, it knows nothing: only the server can say whether the two are one. What was changed here since
the listing was asked for has overtaken it (ordering.py), name by name. A folder in which many names are asked for one
after the other is worth a listing of its own: see `LookupRate`.

Pure: the time is an argument. Views hold at most MAX_ENTRIES entries together; the oldest go first.
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
    from dfsfs.vfs.names.inode import DirectoryState

MAX_ENTRIES = 100_000
"""Entries of all views together; some 500 bytes each."""
LOOKUPS_MIN = 3
"""Names asked for within the lifetime of a view that make a listing worth its while, in a folder of unknown size."""
ENTRIES_PER_LOOKUP = 50
"""Entries of a folder for which one more of them has to be asked for: a listing takes longer, the more there are."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and when entries come from."""

    share: UncPath
    """The share that their file ids belong to."""
    asked: int
    """The moment at which the listing was asked for."""
    time: float
    """When they were received."""
    user: int = 0
    """Who asked for them. Others may see less, or more."""


@dataclass(slots=True, eq=False)
class CachedDirectory:
    """All entries of a folder, by their exact names, as of its listing."""

    origin: Origin
    entries: Mapping[str, DirEntry]
    _folded: set[str] | None = None

    def has_other_case(self, name: str) -> bool:
        """Whether a name that is not in the view may be another spelling of one that is."""
        if self._folded is None:
            self._folded = {fold_name(known) for known in self.entries}
        return fold_name(name) in self._folded


@dataclass(slots=True)
class LookupRate:
    """How much names of a folder are asked for."""

    size: int = 0
    """Entries at the last listing."""
    since: float = float("-inf")
    count: int = 0
    is_listing: bool = False
    """Whether somebody lists the folder."""
    is_too_large: bool = False
    """Whether it is too large for that."""

    def add_lookup(self, now: float, lifetime: float) -> bool:
        """Takes note of a name that had to be asked for; whether the folder should be listed instead."""
        if now - self.since >= lifetime:
            self.since, self.count = now, 0
        self.count += 1
        worth = self.count > max(LOOKUPS_MIN, self.size // ENTRIES_PER_LOOKUP)
        return worth and lifetime > 0 and not self.is_listing and not self.is_too_large


class DirectoryInode(Protocol):
    """What the cache needs of a directory's inode."""

    directory: DirectoryState | None

    @property
    def detached(self) -> bool: ...

    def use_directory(self) -> DirectoryState: ...


class DirCache:
    """The views of a mount's folders. `lifetime` is for how many seconds each is believed."""

    def __init__(self, lifetime: float, limit: int = MAX_ENTRIES) -> None:
        self.lifetime = lifetime
        self._limit = limit
        self._directories: OrderedDict[DirectoryInode, CachedDirectory] = OrderedDict()
        self._size = 0

    def add(self, folder: DirectoryInode, entries: Iterable[DirEntry], origin: Origin) -> None:
        """Takes a complete listing."""
        self.add_named(folder, {entry.name: entry for entry in entries}, origin)

    def add_named(self, folder: DirectoryInode, entries: Mapping[str, DirEntry], origin: Origin) -> None:
        """Takes a complete listing, by its names."""
        self.supersede(folder, len(entries))
        view = CachedDirectory(origin, entries)
        if len(view.entries) > self._limit or folder.detached:
            return
        folder.use_directory().cached = self._directories[folder] = view
        self._size += len(view.entries)
        while self._size > self._limit:
            self.drop(next(iter(self._directories)))
        self.drop_old(origin.time)

    def count_lookup(self, folder: DirectoryInode, now: float) -> LookupRate | None:
        """Counts a name of a directory that has to be asked for. The directory's rate if it is to be listed instead."""
        state = folder.use_directory()
        rate = state.lookup_rate = state.lookup_rate or LookupRate()
        return rate if rate.add_lookup(now, self.lifetime) else None

    def supersede(self, folder: DirectoryInode, count: int) -> None:
        """There is a newer listing of a folder, with so many entries."""
        self.drop(folder)
        if folder.directory is not None and folder.directory.lookup_rate is not None:
            folder.directory.lookup_rate.size = count

    def is_worth_caching(self, count: int, origin: Origin, now: float) -> bool:
        """Whether a listing with so many entries is to be kept: a long one is too old when its end has come."""
        return count <= self._limit and now - origin.time < self.lifetime

    def drop_old(self, now: float) -> None:
        """Forgets what is not believed any more."""
        while self._oldest() <= now - self.lifetime:
            self.drop(next(iter(self._directories)))

    def _oldest(self) -> float:
        return next(iter(self._directories.values())).origin.time if self._directories else math.inf

    def drop(self, folder: DirectoryInode) -> None:
        """Forgets a folder's view."""
        view = self._directories.pop(folder, None)
        if view is not None:
            self._size -= len(view.entries)
        if folder.directory is not None:
            folder.directory.cached = None

    def get(self, folder: DirectoryInode, now: float, user: int = 0) -> CachedDirectory | None:
        """The folder's view, unless it is too old, or another user's."""
        view = folder.directory.cached if folder.directory is not None else None
        if view is not None and view.origin.user != user:
            return None
        if view is not None and now - view.origin.time >= self.lifetime:
            self.drop(folder)
            return None
        return view

"""Prefetch: fetches small files before a program opens them.

prefetch_policy.py guesses which ones, from the last listing of their directory. A file that was fetched is opened
without a request if the answer is no older than actimeo, nothing was changed here since, and the directory is still on
the same target. Otherwise, and after any failure, it is opened as if it had not been fetched, and the open gets the
error.

No more than BUDGET bytes are on their way or waiting to be opened; what is not opened in time is abandoned.
"""

from __future__ import annotations

import stat as posix
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError
from dfsfs.vfs.data.prefetch_policy import Walk
from dfsfs.vfs.names.dirrenames import is_within

if TYPE_CHECKING:
    from dfsfs.namespace.junction import TargetBinding
    from dfsfs.smb.tree.file import PendingFetch, RemoteFile
    from dfsfs.vfs.names.dircache import CachedDirectory
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

INLINE_SIZE = 65536
"""Bytes of the largest file whose data comes along with its open: what one credit pays for (MS-SMB2 3.2.4.1.5)."""
BUDGET = 16 * 1024 * 1024
"""Bytes of all files that are fetched and not opened yet, at most."""
ENTRIES_MAX = 100_000
"""Entries of the largest directory in which it is guessed what comes next: it takes an object for each."""
WALKS_MAX = 16
"""Directories for which guesses are kept at most."""


@dataclass(slots=True)
class _Fetch:
    pending: PendingFetch
    binding: TargetBinding
    size: int
    asked: float
    moment: int
    """The moment (ordering.py) at which it was asked for."""


class Prefetch:
    """The prefetched files of a mount. Only `take` and `drop_within` wait."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._walks: OrderedDict[Inode, tuple[CachedDirectory, Walk]] = OrderedDict()
        self._fetches: dict[tuple[Inode, str], _Fetch] = {}
        self._size = 0
        self._filled = trio.Event()

    async def serve(self) -> None:
        """Abandons what is not opened in time. Runs until it is cancelled."""
        while True:
            await self._filled.wait()
            while self._fetches:
                await trio.sleep(self._lookup.attributes.lifetimes.files)
                self._abandon_old()
            self._filled = trio.Event()

    async def take(self, inode: Inode) -> tuple[RemoteFile, TargetBinding, float, int] | None:
        """Takes out a fetched file, after waiting for it: with a handle that is closed already, the target that it is
        from, and the time (in seconds of the file system's clock) and the moment (ordering.py) at which it was asked
        for. None if it was not fetched, or may not be used any more.
        """
        fetch = self._pop((inode.parent, inode.name)) if inode.parent is not None else None
        if fetch is None:
            return None
        if not self._is_valid(fetch, inode):
            fetch.pending.abandon()
            return None
        try:
            remote = await fetch.pending.outcome()
        except DfsfsError:
            return None
        return (remote, fetch.binding, fetch.asked, fetch.moment) if self._is_valid(fetch, inode) else None

    def drop(self, inode: Inode) -> bool:
        """Abandons the fetch of a file. Returns whether there was one, for which the server may still have it open."""
        fetch = self._pop((inode.parent, inode.name)) if inode.parent is not None else None
        if fetch is not None:
            fetch.pending.abandon()
        return fetch is not None

    async def drop_within(self, directory: Inode) -> None:
        """Abandons all fetches in a directory and below, and waits until the server has the files closed."""
        for key in [key for key in self._fetches if is_within(key[0], (directory,))]:
            if (fetch := self._pop(key)) is not None:
                with suppress(DfsfsError):
                    await fetch.pending.outcome()

    def note_open(self, inode: Inode) -> None:
        """A program has opened a file for reading: begins to fetch those that it may open next."""
        directory = inode.parent
        if directory is None:
            return
        self._abandon_old()
        walk = self._get_walk(directory)
        if walk is None:
            return
        for entry in walk.note_open(inode.name):
            if not self._start_fetch(directory, entry.name, entry.stat.size):
                return

    def drop_old(self) -> None:
        """Abandons what was not opened in time, and drops guesses from listings that are not cached any more."""
        self._abandon_old()
        old = [directory for directory, (view, _) in self._walks.items() if directory.cached_directory is not view]
        for directory in old:
            del self._walks[directory]

    def clear(self) -> None:
        """Abandons everything."""
        for key in list(self._fetches):
            fetch = self._pop(key)
            if fetch is not None:
                fetch.pending.abandon()
        self._walks.clear()

    def _get_walk(self, directory: Inode) -> Walk | None:
        known = self._walks.get(directory)
        view = directory.cached_directory
        if known is not None and (view is None or known[0] is view):
            return known[1]
        if view is None or len(view) > ENTRIES_MAX:
            return None
        small = [entry for entry in view if entry.stat.kind == posix.S_IFREG and entry.stat.size <= INLINE_SIZE]
        walk = Walk(small)
        if known is not None:
            walk.resume(known[1])
        self._walks[directory] = view, walk
        self._walks.move_to_end(directory)
        if len(self._walks) > WALKS_MAX:
            self._walks.popitem(last=False)
        return walk

    def _start_fetch(self, directory: Inode, name: str, size: int) -> bool:
        """Begins to fetch a file. Returns False if no more can be fetched now."""
        location, key = directory.location, (directory, name)
        known = self._lookup.table.child(directory, name)
        if location is None or (binding := location.junction.for_caller().binding) is None or not binding.tree.alive:
            return False
        if key in self._fetches or (known is not None and known.open_count):
            return True
        if self._size + size > BUDGET or self._lookup.directory_renames.is_held(directory):
            return False
        path = binding.target.join((*location.components, name))
        try:
            pending = binding.tree.at(location.snapshot_time).start_fetch(path, INLINE_SIZE)
        except DfsfsError:
            return False
        self._fetches[key] = _Fetch(pending, binding, size, self._lookup.clock(), self._lookup.table.version)
        self._size += size
        self._filled.set()
        return True

    def _pop(self, key: tuple[Inode, str]) -> _Fetch | None:
        fetch = self._fetches.pop(key, None)
        if fetch is not None:
            self._size -= fetch.size
        return fetch

    def _is_valid(self, fetch: _Fetch, inode: Inode) -> bool:
        """Whether a program that opens the file may be given what was fetched."""
        location = inode.location
        leads_there = location is not None and location.junction.for_caller().binding is fetch.binding
        if not leads_there or inode.parent is None or self._is_old(fetch):
            return False
        if inode.has_changed_since(fetch.moment):
            return False
        return not self._lookup.table.has_name_changed_since(inode.parent, inode.name, fetch.moment)

    def _is_old(self, fetch: _Fetch) -> bool:
        return self._lookup.clock() - fetch.asked >= self._lookup.attributes.lifetimes.files

    def _abandon_old(self) -> None:
        """Abandons fetches older than actimeo. They are in the order in which they were begun."""
        while self._fetches:
            key, fetch = next(iter(self._fetches.items()))
            if not self._is_old(fetch):
                return
            self._pop(key)
            fetch.pending.abandon()

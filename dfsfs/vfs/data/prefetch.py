"""Prefetch: small files that are on their way before a program asks for them.

Which ones is the guess of prefetch_policy.py, on the last listing of their folder. A file that was fetched is opened
without a request if the answer is no older than actimeo, nothing was changed here since, and its folder leads where it
led then; otherwise it is as if nobody had fetched it. So is every failure: whoever opens the file will hear of it.

No more than BUDGET bytes are on their way or waiting to be opened; what is not wanted in time is given up.
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
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.tree.tree import PendingFetch
    from dfsfs.vfs.names.dircache import CachedDirectory
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

INLINE_SIZE = 65536
"""Bytes of a file that come along with its open: what one credit pays for."""
BUDGET = 16 * 1024 * 1024
WALKS_MAX = 16
"""Folders whose programs are followed at the same time."""


@dataclass(slots=True)
class _Fetch:
    pending: PendingFetch
    binding: TargetBinding
    size: int
    asked: float
    moment: int
    """That of the mount's logical clock when it was asked for: see ordering.py."""


class Prefetch:
    """The prefetched files of a mount. Its methods never wait, but for `take`."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._walks: OrderedDict[Inode, tuple[CachedDirectory, Walk]] = OrderedDict()
        self._fetches: dict[tuple[Inode, str], _Fetch] = {}
        self._size = 0
        self._filled = trio.Event()

    async def serve(self) -> None:
        """Gives up what nobody has opened in time. Runs until it is cancelled."""
        while True:
            await self._filled.wait()
            while self._fetches:
                await trio.sleep(self._lookup.attributes.lifetimes.files)
                self._abandon_old()
            self._filled = trio.Event()

    async def take(self, inode: Inode) -> tuple[RemoteFile, TargetBinding, float, int] | None:
        """The file as it was fetched, closed already, where from, and the time and the moment at which it was asked
        for; None if it was not.
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
        """Gives up what is on its way under a file's name. Whether there was any: it is open there for a moment."""
        fetch = self._pop((inode.parent, inode.name)) if inode.parent is not None else None
        if fetch is not None:
            fetch.pending.abandon()
        return fetch is not None

    async def drop_within(self, folder: Inode) -> None:
        """Gives up what is on its way in a folder or below it, and waits until it is not open there any more."""
        for key in [key for key in self._fetches if is_within(key[0], (folder,))]:
            if (fetch := self._pop(key)) is not None:
                with suppress(DfsfsError):
                    await fetch.pending.outcome()

    def opened(self, inode: Inode) -> None:
        """A program has opened a file to read it: fetches those that it may open next."""
        folder = inode.parent
        if folder is None:
            return
        self._abandon_old()
        walk = self._get_walk(folder)
        if walk is None:
            return
        for entry in walk.opened(inode.name):
            if not self._start_fetch(folder, entry.name, entry.stat.size):
                return

    def drop_old(self) -> None:
        """Gives up what was not opened in time, and the guesses that are about a listing which is not kept any more."""
        self._abandon_old()
        for folder in [folder for folder, (view, _) in self._walks.items() if folder.cached_directory is not view]:
            del self._walks[folder]

    def clear(self) -> None:
        """Gives everything up."""
        for key in list(self._fetches):
            fetch = self._pop(key)
            if fetch is not None:
                fetch.pending.abandon()
        self._walks.clear()

    def _get_walk(self, folder: Inode) -> Walk | None:
        known = self._walks.get(folder)
        view = folder.cached_directory
        if known is not None and (view is None or known[0] is view):
            return known[1]
        if view is None:
            return None
        small = [
            entry
            for entry in view.entries.values()
            if entry.stat.kind == posix.S_IFREG and entry.stat.size <= INLINE_SIZE
        ]
        walk = Walk(small)
        if known is not None:
            walk.resume(known[1])
        self._walks[folder] = view, walk
        self._walks.move_to_end(folder)
        if len(self._walks) > WALKS_MAX:
            self._walks.popitem(last=False)
        return walk

    def _start_fetch(self, folder: Inode, name: str, size: int) -> bool:
        """Whether a file is on its way now."""
        location, key = folder.location, (folder, name)
        known = self._lookup.table.child(folder, name)
        if location is None or (binding := location.junction.binding) is None or not binding.tree.alive:
            return False
        if key in self._fetches or (known is not None and known.open_count):
            return True
        if self._size + size > BUDGET or self._lookup.directory_renames.is_held(folder):
            return False
        path = binding.target.join((*location.components, name))
        try:
            pending = binding.tree.at(location.moment).start_fetch(path, INLINE_SIZE)
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
        leads_there = location is not None and location.junction.binding is fetch.binding
        if not leads_there or inode.parent is None or self._is_old(fetch):
            return False
        table = self._lookup.table
        return not inode.has_changed_since(fetch.moment) and not table.has_name_changed_since(
            inode.parent, inode.name, fetch.moment
        )

    def _is_old(self, fetch: _Fetch) -> bool:
        return self._lookup.clock() - fetch.asked >= self._lookup.attributes.lifetimes.files

    def _abandon_old(self) -> None:
        """What was asked for first is the oldest."""
        while self._fetches:
            key, fetch = next(iter(self._fetches.items()))
            if not self._is_old(fetch):
                return
            self._pop(key)
            fetch.pending.abandon()

"""Snapshots: the directory `.snapshots` in every directory whose server keeps previous versions of it.

It is in no listing, but can be entered by its name, unless the server has a file of that name. In it are the previous
versions of its directory, by the names that servers give them, `@GMT-2024.02.29-12.00.00` in UTC. Everything below is
read only. In a snapshot there is no `.snapshots`.
"""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError, PosixError
from dfsfs.filetime import parse_gmt_token

if TYPE_CHECKING:
    from dfsfs.namespace.junction import Attempt
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

NAME = ".snapshots"


class Snapshots:
    """See the module's text."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def observe_directory(self, directory: Inode) -> Inode:
        """The directory `.snapshots` in a directory. Counts no lookup.

        Raises:
            PosixError: ENOENT, the server has no snapshots of it.
        """
        if directory.is_in_snapshot or not await self._names(directory):
            raise PosixError(errno.ENOENT, f"there are no snapshots of {directory.name}")
        inode = self._lookup.table.observe_snapshots(directory, NAME)
        self._lookup.attributes.set_permanent(inode, directory.stat)
        return inode

    async def look_up(self, snapshots: Inode, name: str) -> Inode:
        """A snapshot by its name in `.snapshots`. Counts no lookup.

        Raises:
            PosixError: ENOENT, there is none of that name.
        """
        if name not in await self._names(self._parent(snapshots)):
            raise PosixError(errno.ENOENT, f"there is no snapshot {name}")
        return self._observe(snapshots, name)

    async def open_listing(self, snapshots: Inode) -> SnapshotListing:
        """Opens `.snapshots` to be listed."""
        names = await self._names(self._parent(snapshots))
        return SnapshotListing(snapshots, [(name.encode(), self._observe(snapshots, name)) for name in names])

    def _parent(self, snapshots: Inode) -> Inode:
        if snapshots.parent is None:
            raise PosixError(errno.ESTALE, "the folder of these snapshots is gone")
        return snapshots.parent

    def _observe(self, snapshots: Inode, name: str) -> Inode:
        location, moment = self._lookup.get_location(self._parent(snapshots)), parse_gmt_token(name)
        assert moment is not None, "only such names come from servers"
        return self._lookup.table.observe_snapshot(snapshots, name, location.at(moment))

    async def _names(self, directory: Inode) -> list[str]:
        async def operation(attempt: Attempt) -> list[str]:
            return await attempt.tree.snapshots.list(attempt.path)

        try:
            return await self._lookup.run(directory, operation)
        except DfsfsError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return []
            raise


class SnapshotListing:
    """The open directory `.snapshots`, with the methods of opendir.Listing."""

    def __init__(self, inode: Inode, entries: list[tuple[bytes, Inode]]) -> None:
        self.inode = inode
        self.user = current_caller()
        self._entries = entries

    async def begin(self) -> None:
        """Does nothing: the names were asked for already."""

    def limit_entries(self, offset: int) -> float:
        """As many entries as fit."""
        return math.inf

    def set_position(self, offset: int) -> None:
        """Does nothing: all entries are kept."""

    async def rewind(self) -> None:
        """Does nothing: an open directory has the same snapshots all the time."""

    def is_loaded(self, index: int) -> bool:
        """Always true."""
        return True

    async def entry(self, index: int) -> tuple[bytes, Inode] | None:
        """Name and inode at an index, or None behind the last one."""
        return self._entries[index] if index < len(self._entries) else None

    async def close(self) -> None:
        """Does nothing: nothing is open on the server."""

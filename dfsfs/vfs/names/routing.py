"""Router: sends operations to where an inode or a name is, and finds DFS links on the way.

Every request of the file system goes through `run` (at an inode) or `run_in` (at a name in a directory), and those go
through `Namespace.run`. What they add is the discovery of DFS links: a server says PATH_NOT_COVERED, the namespace
finds out which link that is about and raises PathNotCovered with the link's path, which is

    the name that was asked for    raised by `run_in`: lookup.py makes a link of it, other operations refuse it
    the inode itself               it becomes a link in place, and `run` tries once more, behind the link
    a directory above it           it becomes a link in place; ESTALE, so that the kernel walks the path once more
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVar

from dfsfs.errors import PosixError
from dfsfs.namespace.junction import Location, PathNotCovered
from dfsfs.vfs.names.dirrenames import DirectoryRenames
from dfsfs.vfs.names.handlelimit import HandleLimit
from dfsfs.vfs.names.queries import stat_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Attempt
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inodetable import Inode, InodeTable
    from dfsfs.vfs.names.offline import OfflineDirectories

T = TypeVar("T")


class Router:
    """See the module's text. `offline` is told of each DFS link that was entered."""

    def __init__(self, namespace: Namespace, table: InodeTable, offline: OfflineDirectories) -> None:
        self.handle_limit = HandleLimit()
        self.directory_renames = DirectoryRenames()
        self._namespace = namespace
        self._table = table
        self._offline = offline

    def get_location(self, inode: Inode) -> Location:
        """Raises: PosixError: ESTALE, the inode is detached."""
        location = inode.location
        if location is None:
            raise PosixError(errno.ESTALE, f"{inode.name} is not where it was")
        return location

    async def run(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` at the inode's location; for a DFS link that is in its target.

        Raises:
            PosixError: ESTALE, the inode is detached, or below a directory that has become a DFS link.
            DfsfsError: what the operation or the way to a target came to.
        """
        try:
            return await self.run_once(inode, operation)
        except PathNotCovered:
            pass
        try:
            return await self.run_once(inode, operation)
        except PathNotCovered as link:
            raise self._make_link_error(link) from None

    async def run_once(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run`, but raises PathNotCovered if the inode has just become a DFS link."""
        await self.directory_renames.wait_until_free(inode)
        try:
            with self.directory_renames.running(inode):
                result = await self._send(self.get_location(inode), operation)
            if inode.is_link:
                self._offline.add_link(inode)
            return result
        except PathNotCovered as link:
            if self._convert_to_link(inode, link.prefix):
                raise
            raise self._make_link_error(link) from None

    async def run_in(self, directory: Inode, name: str, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` at the (wire) name in a directory.

        Raises:
            PathNotCovered: the name is a DFS link.
            PosixError: ESTALE, the directory is detached, or has become, or is below, a DFS link.
            DfsfsError: what the operation or the way to a target came to.
        """
        await self.directory_renames.wait_until_free(directory)
        location = self.get_location(directory).child(name)
        try:
            with self.directory_renames.running(directory):
                result = await self._send(location, operation)
            if directory.is_link:
                self._offline.add_link(directory)
            return result
        except PathNotCovered as link:
            if link.prefix == location.unc:
                if self._table.child(directory, name) is not None:
                    self._table.prune(self.get_link_inode(directory, name, link.prefix))
                raise
            self._convert_to_link(directory, link.prefix)
            raise self._make_link_error(link) from None

    def _send(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Awaitable[T]:
        """Sends an operation. A stat may be asked of more than one server (run_hedged), as it changes nothing."""
        send = self._namespace.run_hedged if operation is stat_of else self._namespace.run
        return send(location, self.handle_limit.retry_with_fewer_handles(operation))

    def _convert_to_link(self, inode: Inode, prefix: UncPath) -> bool:
        """Makes a DFS link of what is at `prefix`, the inode or one above it. Whether that was the inode itself."""
        for above in self._table.iter_ancestors(inode):
            if above.parent is None:
                anchor = above.location
                if anchor is not None and prefix.is_prefix_of(anchor.unc):
                    rest = prefix.rest_of(anchor.unc)
                    moved = Location(self._namespace.junction(prefix), rest, anchor.snapshot_time)
                    if above.anchor != moved:  # else a request that was sent earlier has found it out as well
                        self._table.move_anchor(above, moved)
                    return above is inode
                return False
            place = above.name_location
            if place is not None and place.unc == prefix:
                self.get_link_inode(above.parent, above.name, prefix)
                if above is inode:
                    return True
                self._table.prune(above)
                return False
        return False

    def _make_link_error(self, link: PathNotCovered) -> PosixError:
        return PosixError(errno.ESTALE, f"{link.prefix} has become a DFS link")

    def get_link_inode(self, parent: Inode, name: str, prefix: UncPath) -> Inode:
        """The inode of the DFS link `name` in a directory; `prefix` is its namespace path."""
        location = parent.location
        moment = location.snapshot_time if location is not None else None
        return self._table.observe_link(parent, name, Location(self._namespace.junction(prefix), (), moment))

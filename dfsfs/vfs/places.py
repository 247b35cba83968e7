"""Places: from a node to the server and back: finds nodes by name, runs operations there, keeps what was learnt.

Everything that the file system does on a server goes through `run` (at a node) or `run_in` (at a name in a folder),
and those through `Namespace.run`. What they add is the discovery of DFS links. A server says PATH_NOT_COVERED, the
namespace finds out which link that is about, and raises Covered with its path:

    the name that was asked for     `look_up` makes a link node of it; for other operations it is a refusal
    the node itself                 it turns into a link in place, and the operation goes on behind it
    a folder above                  it turns into a link in place; ESTALE, so that the kernel walks the path once more

A link is looked at without touching its target: what it shows is made up, with the times that the listing of its folder
gave, until somebody enters it. While it is bound to a living target and its referral is good, its name is not asked for
again: it works while the namespace server is down. So do the folders on the way to such a link: unreached.py.

Many users (multiuser): nodes are the same for all of them, so that a folder keeps its number whoever is in it. Who
may be
told what is known of them is in proofs.py; what one user is told to be missing is not taken from the others.

Staleness: what a server said is believed for its lifetime, minus what was done here in the meantime:
`Node.changes` is read before a request and an answer is not kept if it has moved on, as it may be older than the
change.
"""

from __future__ import annotations

import errno
import math
import stat as posix
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from dfsfs.acting import caller
from dfsfs.errors import DfsfsError, PosixError
from dfsfs.namespace.junction import Covered, Location
from dfsfs.unc import fold_name
from dfsfs.vfs.looks import looked_at
from dfsfs.vfs.nodes import NEVER, Node, NodeTable
from dfsfs.vfs.proofs import Proofs
from dfsfs.vfs.unreached import Unreached
from dfsfs.vfs.views import Demand, FolderView, Origin, Views

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.fscc import DirEntry, FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.mapping import Attributes, NameMapping, Ownership

T = TypeVar("T")

LOOK_AROUND = 20_000
"""Entries of a folder above which it is not listed for the sake of single names."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how many seconds attributes and names are believed: of files, and of folders and links."""

    files: float = 1.0
    folders: float = 1.0


class Places:
    """See the module's text. `root` is the mount's root.

    `follow_links` False: DFS links are left alone, and everything that leads through one fails.
    """

    def __init__(
        self,
        namespace: Namespace,
        root: Location,
        *,
        names: NameMapping,
        ownership: Ownership,
        lifetimes: Lifetimes,
        clock: Callable[[], float],
        follow_links: bool,
        many_users: bool = False,
    ) -> None:
        self.follow_links = follow_links
        self.proofs = Proofs(many_users, clock, self.lifetime)
        self.table = NodeTable(root)
        self.views = Views(lifetimes.folders)
        self.names = names
        self.ownership = ownership
        self.lifetimes = lifetimes
        self.clock = clock
        self._namespace = namespace
        self._unreached = Unreached(clock, self._is_live)

    # -- nodes by number --------------------------------------------------------------------------------------------

    def node(self, ino: int) -> Node:
        """Raises: PosixError: ESTALE, there is no such node."""
        node = self.table.get(ino)
        if node is None:
            raise PosixError(errno.ESTALE, f"there is no node {ino}")
        return node

    def folder(self, ino: int) -> Node:
        """Raises: PosixError: ESTALE, there is no such node; ENOTDIR, it is a file."""
        node = self.node(ino)
        if not node.is_directory:
            raise PosixError(errno.ENOTDIR, f"{node.name} is not a directory")
        return node

    def location(self, node: Node) -> Location:
        """Raises: PosixError: ESTALE, the node has no place any more."""
        location = node.location
        if location is None:
            raise PosixError(errno.ESTALE, f"{node.name} is not where it was")
        return location

    # -- operations -------------------------------------------------------------------------------------------------

    async def run(self, node: Node, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` where the node is; for a link that is its target's root.

        Raises:
            PosixError: ESTALE, the node has no place any more.
            DfsfsError: what the operation or the way to a target came to.
        """
        try:
            return await self._run_here(node, operation)
        except Covered:
            pass
        try:
            return await self._run_here(node, operation)
        except Covered as link:
            raise self._turned(link) from None

    async def _run_here(self, node: Node, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run`, but raises Covered when the node has just turned into a link, and goes no further."""
        try:
            return await self._namespace.run(self.location(node), operation)
        except Covered as link:
            if self._uncover(node, link.prefix):
                raise
            raise self._turned(link) from None

    async def run_in(self, folder: Node, name: str, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` at the (wire) name in a folder.

        Raises:
            Covered: the name is a DFS link, now at least.
            PosixError: ESTALE, the folder has no place any more.
            DfsfsError: what the operation or the way to a target came to.
        """
        location = self.location(folder).child(name)
        try:
            return await self._namespace.run(location, operation)
        except Covered as link:
            if link.prefix == location.unc:
                if self.table.child(folder, name) is not None:
                    self.table.prune(self.link_node(folder, name, link.prefix))
                raise
            self._uncover(folder, link.prefix)
            raise self._turned(link) from None

    def _uncover(self, node: Node, prefix: UncPath) -> bool:
        """Turns what lies at `prefix`, the node or one above it, into a link. Whether that was the node itself."""
        for above in self.table.above(node):
            if above.parent is None:
                anchor = above.location
                if anchor is not None and prefix.is_prefix_of(anchor.unc):
                    rest = prefix.rest_of(anchor.unc)
                    self.table.move_anchor(above, Location(self._namespace.junction(prefix), rest, anchor.moment))
                    return above is node
                return False
            place = above.place
            if place is not None and place.unc == prefix:
                self.link_node(above.parent, above.name, prefix)
                if above is node:
                    return True
                self.table.prune(above)
                return False
        return False

    def _turned(self, link: Covered) -> PosixError:
        return PosixError(errno.ESTALE, f"{link.prefix} has become a DFS link")

    def link_node(self, parent: Node, name: str, prefix: UncPath) -> Node:
        """The node of the link `name` in a folder; `prefix` is its namespace path."""
        location = parent.location
        moment = location.moment if location is not None else None
        return self.table.observe_link(parent, name, Location(self._namespace.junction(prefix), (), moment))

    # -- names ------------------------------------------------------------------------------------------------------

    async def look_up(self, parent: Node, name: str) -> Node:
        """The node of a (wire) name in a folder, from what is known or from the server. Counts no lookup.

        Raises:
            DfsfsError: the server's answer, ENOENT if there is no such name.
        """
        if (found := self.known(parent, name)) is not None:
            return found
        if await self._look_around(parent) and (found := self.known(parent, name)) is not None:
            return found
        known = self.table.child(parent, name)
        changes = (parent.changes, known.changes if known else 0)
        try:
            stat, share = await self.run_in(parent, name, stat_of)
        except Covered as link:
            node = self.link_node(parent, name, link.prefix)
            # What a bound link shows is its target's root, and that was not asked yet.
            node.expires = NEVER if self._is_live(node) else self.clock() + self.lifetime(node)
            self.proofs.note(node)
            return node
        except DfsfsError as error:
            if known is not None and known is self.table.child(parent, name):
                if error.errno == errno.ENOENT:
                    self._missed(parent, name)
                elif self._unreached.note(known, error):
                    return known
            raise
        node = self.table.observe(parent, name, stat, share)
        unchanged = changes == (parent.changes, node.changes)
        self.note(node, stat, node.changes if unchanged else -1)
        return node

    def known(self, folder: Node, name: str) -> Node | None:
        """The node of a (wire) name, if that can be said without asking. Counts no lookup.

        Raises:
            PosixError: ENOENT, there is no such name.
        """
        folded = fold_name(name)
        known = folder.children.get(folded)
        if known is not None:
            if known.is_hidden_as(folder, name):
                raise PosixError(errno.ENOENT, f"{name} was removed")
            if self.is_valid(known) or self._unreached.covers(known):
                return known
        view = self._view(folder)
        if view is None or not view.knows(folded):
            return None
        entry = view.entries.get(folded)
        if entry is None:
            self._missed(folder, name)
            raise PosixError(errno.ENOENT, f"{name} is not in the folder")
        node = self.listed(folder, entry, view.origin, changes=view.origin.epoch)
        if node.is_link and node.stat is entry.stat and self._is_live(node):
            node.expires = NEVER  # what a bound link shows is its target's root, and that was not asked yet
        return node if self.is_valid(node) else None

    async def _look_around(self, folder: Node) -> bool:
        """Lists a folder for its view if so many of its names are asked for. Whether it did; if not, it is no harm."""
        if self._view(folder) is not None:
            return False
        demand = folder.demand = folder.demand or Demand()
        if not demand.asked(self.clock(), self.lifetimes.folders):
            return False
        epoch = self.table.epoch
        begun = self.clock()

        async def entries(attempt: Attempt) -> tuple[list[DirEntry], UncPath]:
            found: list[DirEntry] = []
            async with aclosing(attempt.tree.list(attempt.path)) as listing:
                async for batch in listing:
                    found += await looked_at(self.table, attempt, folder, batch)
                    if len(found) > LOOK_AROUND:
                        break
            return found, attempt.tree.volume

        demand.busy, folder.listing = True, set[str]()
        try:
            found, share = await self.run(folder, entries)
        except DfsfsError:
            return False
        finally:
            demand.busy = False
            unknown, folder.listing = folder.listing, None
        if len(found) > LOOK_AROUND:
            demand.hopeless = True
            return False
        self.views.keep(folder, found, Origin(share, epoch, begun, caller().uid), unknown)
        return True

    def listed(self, folder: Node, entry: DirEntry, origin: Origin, changes: int) -> Node:
        """The node of a listed entry. `changes` is the epoch of the last change here that may be about its name.

        Of an open file the listing may say what was true before the last write.
        """
        known = self.table.child(folder, entry.name)
        is_hidden = known is not None and known.is_hidden_as(folder, entry.name)
        if known is not None and (known.is_link or is_hidden) and entry.stat.is_directory == known.is_directory:
            if known.stat is None or known.stat.is_dfs_link:  # else it shows what is behind it
                known.stat = entry.stat
                if known.is_link:
                    known.expires = origin.time + self.lifetime(known)
            self.proofs.note(known)
            return known
        if self.follow_links and entry.stat.is_marked_link:
            node = self.link_node(folder, entry.name, self.location(folder).child(entry.name).unc)
            node.stat, node.expires = entry.stat, origin.time + self.lifetime(node)
            self.proofs.note(node)
            return node
        node = self.table.observe(folder, entry.name, entry.stat, origin.share)
        if node.is_directory or not node.handles:
            # What was changed here since the listing was asked for it may not know.
            current = max(node.changes, changes) <= origin.epoch
            before, node.stat = node.stat, entry.stat
            if before is not None and before.links > 1:
                # A listing does not say how many names a file has, and that may have changed.
                node.stat = replace(entry.stat, links=before.links)
                current = False
            node.expires = origin.time + self.lifetime(node) if current else NEVER
        self.proofs.note(node)
        return node

    def is_valid(self, node: Node) -> bool:
        """Whether the node can be answered for without asking: for a link, that it is there and where it leads."""
        if node.is_link and self._is_live(node):
            return True
        return (
            self._named_until(node) > self.clock() and (node.stat is not None or node.is_link) and self.proofs.has(node)
        )

    def _named_until(self, node: Node) -> float:
        """Until when the node's name may be believed."""
        return node.expires if node.expires != math.inf else node.seen + self.lifetime(node)

    def _is_live(self, link: Node) -> bool:
        """Whether a link is bound to a living target by a referral that is still good."""
        assert link.anchor is not None
        junction = link.anchor.junction
        return junction.binding is not None and junction.binding.tree.alive and self.clock() < junction.refresh_at

    def is_fresh(self, node: Node) -> bool:
        """Whether what is known of a node's attributes may be believed."""
        return node.stat is not None and node.expires > self.clock() and self.proofs.has(node)

    # -- who may be told, in a mount of many users ---------------------------------------------------------------------

    def _view(self, folder: Node) -> FolderView | None:
        """What a listing of the caller's own said of a folder not long ago."""
        return self.views.current(folder, self.clock(), caller().uid)

    def _missed(self, folder: Node, name: str) -> None:
        """A server says that there is no such name. To others it may say something else; if not, they will find out."""
        node = self.table.child(folder, name)
        if node is None or not self.proofs.refute(node):
            self.table.drop_name(folder, name)

    def is_bound(self, link: Node) -> bool:
        """Whether somebody has entered a link, and its target is still there."""
        assert link.anchor is not None
        binding = link.anchor.junction.binding
        return binding is not None and binding.tree.alive

    def set_lifetimes(self, lifetimes: Lifetimes) -> None:
        """From now on attributes and names are believed for so long."""
        self.lifetimes = lifetimes
        self.views.lifetime = lifetimes.folders

    # -- attributes -------------------------------------------------------------------------------------------------

    def note(self, node: Node, stat: FileStat, changes: int) -> None:
        """Keeps what a server said; `changes` is what `node.changes` was before it was asked."""
        node.stat, node.seen = stat, self.clock()
        self.proofs.note(node)
        if node.changes != changes:
            node.expires = NEVER
        else:
            node.expires = math.inf if node.is_covered else self.clock() + self.lifetime(node)

    def attributes(self, node: Node) -> Attributes:
        """What is known of the node, however old."""
        stat = node.stat
        if stat is None or stat.is_dfs_link:
            return self.ownership.link_attributes(node.ino, stat)
        attributes = self.ownership.attributes(node.ino, stat)
        node.told = stat.size
        if stat.kind == posix.S_IFLNK:
            attributes = replace(attributes, size=len(self.target_of(stat)))
        return attributes if node.hidden is None else replace(attributes, nlink=attributes.nlink - 1)

    def target_of(self, stat: FileStat) -> bytes:
        """The target of a symbolic link."""
        return b"" if stat.special is None else self.names.link_from_wire(stat.special)

    def remaining(self, node: Node) -> tuple[float, float]:
        """For how many seconds the node's name and its attributes may be believed."""
        now, lifetime = self.clock(), self.lifetime(node)
        attributes = max(0.0, min(lifetime, node.expires - now))
        name = lifetime if node.is_link else max(0.0, min(lifetime, self._named_until(node) - now))
        return name, attributes

    def absence(self, folder: Node) -> float:
        """For how many seconds it may be believed that a name, just looked up, is not in a folder."""
        view = self._view(folder)
        asked = self.clock() if view is None else view.origin.time
        return max(0.0, asked + self.lifetimes.folders - self.clock())

    def lifetime(self, node: Node) -> float:
        """For how many seconds something that was learnt of the node this moment may be believed."""
        return self.lifetimes.folders if node.is_directory else self.lifetimes.files

    async def refresh(self, node: Node) -> None:
        """Asks for the node's attributes if they are too old.

        Of a link nothing is asked unless it is bound, and then once; if its target fails, it shows what it did before.

        Raises:
            PosixError: ESTALE, the node is gone or another file has its name.
            DfsfsError: the server's answer.
        """
        if self.is_fresh(node):
            return
        if node.is_link:
            await self._refresh_link(node)
            return
        if self._unreached.covers(node):
            return
        changes = node.changes
        try:
            stat, share = await self._run_here(node, stat_of)
        except Covered:
            if node is not self.table.root:
                await self._refresh_link(node)
                return
            stat, share = await self.run(node, stat_of)
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                raise self.gone(node) from error
            if self._unreached.note(node, error):
                return
            raise
        self.accept(node, stat, share, changes)

    def made(self, folder: Node, name: str, stat: FileStat) -> None:
        """Takes note that a name was made in a folder. `stat` is what the server said of it at once.

        The kernel asks for the folder's attributes after each name that is made in it. Its times are those at which the
        new file was last changed, by the same server's clock, so that need not be asked.
        """
        before, expires = folder.stat, folder.expires
        known = before is not None and expires > self.clock()
        self.table.entry_changed(folder, name)
        if known and before is not None:
            moment = max(before.written, stat.changed)
            folder.stat, folder.expires = replace(before, written=moment, changed=moment), expires

    def accept(self, node: Node, stat: FileStat, share: UncPath, changes: int) -> None:
        """Keeps what a server said of the node's place.

        Raises:
            PosixError: ESTALE, it is not the node's file any more.
        """
        if node.parent is not None and not node.is_link:
            if not self.table.same_file(node, stat, share):
                raise self.gone(node)
            node.share, node.file_id = share, stat.file_id
        self.note(node, stat, changes)

    def gone(self, node: Node) -> PosixError:
        """Takes a node off the name by which it was asked for, as it has turned out to be gone or replaced."""
        if node.parent is not None:
            self._missed(node.parent, node.name)
        return PosixError(errno.ESTALE, f"{node.name} is gone, or is another file now")

    async def _refresh_link(self, link: Node) -> None:
        assert link.anchor is not None
        binding = link.anchor.junction.binding
        changes = link.changes
        if binding is not None and binding.tree.alive:
            try:
                path = binding.target.join(link.anchor.components)
                self.note(link, await binding.tree.at(link.anchor.moment).stat(path), changes)
                return
            except DfsfsError:
                pass  # whoever enters the link will hear of it
        link.expires = self.clock() + self.lifetime(link)


async def stat_of(attempt: Attempt) -> tuple[FileStat, UncPath]:
    """The operation that asks what is at a place, and on which share that is."""
    return await attempt.tree.stat(attempt.path), attempt.tree.volume

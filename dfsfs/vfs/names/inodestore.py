"""InodeStore: holds the inodes of a mount, and lets go of those without references. inodetable.py says what they are.

The kernel counts how often it was told of an inode (lookups, FUSE's nlookup) and gives these back (forget). An inode
stays while it has lookups, children, or is held by something that is open.

Beyond `unpacked_max` inodes, the oldest that only the table refers to, as their reference counts show, are packed
(packedinodes.py). An inode that is asked for is unpacked first, so there is never more than one object for an inode.
`children` has no packed inodes; what needs all children unpacks them first.

Pure.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from dfsfs.unc import fold_name
from dfsfs.vfs.names.inode import ROOT, Inode, InodeStatistics
from dfsfs.vfs.names.ordering import EvictedInodes
from dfsfs.vfs.names.packedinodes import PackedInodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfsfs.namespace.junction import Location
    from dfsfs.unc import UncPath

SPELLINGS = 1000
"""Other spellings of names in one directory that are remembered."""
UNPACKED_MAX = 16_384
"""Inodes that are held as objects, some 17 MiB; beyond that, those without other references are packed."""
PACK_FRACTION = 64
"""The part of UNPACKED_MAX by which the number of objects may exceed it before some are packed: one in 64."""


def _count_unused_references() -> int:
    """What sys.getrefcount returns for an inode to which only a local variable, the table (by number) and its directory
    (by name) refer. It depends on the interpreter, so it is measured.
    """
    inode, table = object(), list[object]()
    table += [inode, inode]
    return sys.getrefcount(inode)


_UNUSED = _count_unused_references()


class InodeStore:
    """See the module's text. `root` is where the mount's root directory is."""

    def __init__(self, root: Location) -> None:
        self.root = Inode(ino=ROOT, name="", is_directory=True, anchor=root, lookups=1)
        self._inodes: OrderedDict[int, Inode] = OrderedDict({ROOT: self.root})
        self._packed = PackedInodes()
        self._evicted = EvictedInodes()
        self.unpacked_max = UNPACKED_MAX
        self._has_packed = False
        self._not_packed = 0
        """The number that was asked for last, if it is that of no packed inode: a new file is asked for twice."""
        self._name_not_packed: tuple[str, Inode] | None = None
        """The same for a name in a directory."""

    def get(self, ino: int) -> Inode | None:
        inode = self._inodes.get(ino)
        if inode is None and self._has_packed and ino != self._not_packed:
            inode = self._add_unpacked(self._packed.unpack(ino, self._inodes))
            self._not_packed = ino if inode is None else 0
        return inode

    def child(self, parent: Inode, name: str) -> Inode | None:
        """The inode known in a directory under a wire name, or another spelling of it."""
        inode = self._get_exact(parent, name)
        if inode is None and parent.spellings is not None:
            inode = self._get_exact(parent, parent.spellings.get(name, ""))
        return inode

    def _get_exact(self, parent: Inode, name: str) -> Inode | None:
        inode = parent.children.get(name)
        if inode is None and parent.packed_children and (name, parent) != self._name_not_packed:
            inode = self._add_unpacked(self._packed.unpack_name(parent, name, self._inodes))
            self._name_not_packed = (name, parent) if inode is None else None
        return inode

    def get_exact_name(self, parent: Inode, name: str) -> str:
        """The exact name that a spelling leads to; the name itself if that is not known."""
        if parent.spellings is None or self._get_exact(parent, name) is not None:
            return name
        return parent.spellings.get(name, name)

    def iter_ancestors(self, inode: Inode) -> Iterator[Inode]:
        """Yields the inode itself and those above it, up to the root."""
        at: Inode | None = inode
        while at is not None:
            yield at
            at = at.parent

    def _add(self, inode: Inode) -> Inode:
        assert inode.parent is not None
        inode.parent.children[inode.name] = inode
        self._inodes[inode.ino] = inode
        self._pack_oldest()
        return inode

    def _add_spelling(self, directory: Inode, spelling: str, name: str) -> None:
        """Remembers that a server led a spelling to a name in a directory."""
        if directory.spellings is None or len(directory.spellings) >= SPELLINGS:
            directory.spellings = {}
        directory.spellings[spelling] = name

    def _forget_spellings(self, directory: Inode, name: str) -> None:
        """Forgets the spellings that differ from a name in case only: where they lead has to be asked for again."""
        if directory.spellings is not None:
            folded = fold_name(name)
            directory.spellings = {
                spelling: known for spelling, known in directory.spellings.items() if fold_name(spelling) != folded
            } or None

    # -- references, the kernel's and ours ---------------------------------------------------------------------------

    def count_lookup(self, inode: Inode) -> None:
        if not inode.lookups:
            inode.has_moved = False
        inode.lookups += 1

    def forget(self, ino: int, count: int) -> None:
        """Gives back `count` lookups of an inode."""
        inode = self._inodes.get(ino)
        if inode is None:
            self._forget_packed(ino, count)
        elif inode is not self.root:
            inode.lookups = max(0, inode.lookups - count)
            self._drop_unused(inode)

    def _forget_packed(self, ino: int, count: int) -> None:
        gone = self._packed.forget(ino, count) if self._has_packed else None
        if gone is None:
            return
        key = (gone.share, gone.file_id) if gone.file_id else None
        self._evicted.add(key, gone.changed)
        if key is not None:
            self._evicted.add_facts(key, time_was_set=gone.time_was_set, links=gone.links)
        parent = self._inodes[gone.parent]
        parent.packed_children -= 1
        self._drop_unused(parent)

    def hold(self, inode: Inode) -> None:
        """Holds an inode in the table until `release`."""
        inode.open_count += 1

    def _unhold(self, inode: Inode) -> None:
        """Undoes `hold`, and leaves the inode in the table whether something else holds it or not."""
        inode.open_count -= 1

    def release(self, inode: Inode) -> None:
        """Undoes `hold`."""
        inode.open_count -= 1
        self._drop_unused(inode)
        self._pack_oldest()

    def prune(self, inode: Inode) -> None:
        """Drops an inode that was made for an answer, unless something holds it."""
        self._drop_unused(inode)

    # -- packed inodes -------------------------------------------------------------------------------------------------

    def _is_taken(self, ino: int) -> bool:
        if ino in self._inodes:
            return True
        return self._has_packed and ino != self._not_packed and self._packed.has(ino)

    def _add_unpacked(self, inode: Inode | None) -> Inode | None:
        """Adds an inode that was just unpacked."""
        if inode is None:
            return None
        assert inode.parent is not None
        inode.parent.packed_children -= 1
        return self._add(inode)

    def _unpack_children(self, directory: Inode) -> None:
        if directory.packed_children:
            for inode in self._packed.unpack_children(directory, self._inodes):
                directory.children[inode.name] = self._inodes[inode.ino] = inode
            directory.packed_children = 0

    def _pack_oldest(self) -> None:
        """Packs some of the oldest inodes, as far as nothing else refers to them, if there are more than
        `unpacked_max`.
        """
        inodes, slack = self._inodes, self.unpacked_max // PACK_FRACTION
        if len(inodes) <= self.unpacked_max + slack:
            return
        self._not_packed, self._name_not_packed, self._has_packed = 0, None, True
        for _ in range(min(2 * slack + 2, len(inodes))):
            if len(inodes) <= self.unpacked_max:
                return
            inode = inodes[next(iter(inodes))]
            directory = inode.parent
            if (
                directory is None
                or sys.getrefcount(inode) != _UNUSED
                or directory.spellings
                or not self._packed.pack(inode)
            ):
                inodes.move_to_end(inode.ino)
            else:
                del inodes[inode.ino], directory.children[inode.name]
                directory.packed_children += 1

    # -- the end of an inode ------------------------------------------------------------------------------------------

    def _drop_unused(self, inode: Inode | None) -> None:
        """Takes an inode that nothing holds out of the table, then the directories that only it has held."""
        waiting = [inode]
        while waiting:
            inode = waiting.pop()
            if inode is None or inode is self.root or inode.lookups or inode.children or inode.open_count:
                continue
            if inode.packed_children or self._inodes.pop(inode.ino, None) is None:
                continue
            key = key_of(inode)
            self._evicted.add(
                key, max(inode.changed_at, inode.changed_names.last if inode.changed_names is not None else 0)
            )
            if key is not None:
                links = 0 if inode.stat is None else inode.stat.links
                self._evicted.add_facts(key, time_was_set=inode.time_was_set, links=links)
            dentries = inode.dentries
            inode.drop()
            for directory, name in dentries:
                self._forget_spellings(directory, name)
                waiting.append(directory)

    # -- figures, and for tests ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._inodes) + len(self._packed)

    def statistics(self) -> InodeStatistics:
        inodes = self._inodes.values()
        links, detached = sum(inode.is_link for inode in inodes), sum(inode.detached for inode in inodes)
        lookups = self._packed.lookups + sum(inode.lookups for inode in inodes)
        return InodeStatistics(len(self), links, detached, lookups, packed=len(self._packed))


def key_of(inode: Inode) -> tuple[UncPath, int] | None:
    """The share and file id of an inode; None if they are not known."""
    return (inode.share, inode.file_id) if inode.share is not None and inode.file_id else None

"""NodeTable: which node number stands for which place in the namespace.

A Node is a name below another node, as in a path; names compare without case. Two nodes have an anchor, a Location of
their own: the root, and every DFS link, which stands for its junction and not for the place where the link was found.
A node's location is the nearest anchor above it and the names from there on. So a rename moves one pointer and with it
everything below, and nothing here knows a server: a failover changes no node.

Numbers. A node's number (inode number and FUSE node id in one) is a hash of the share and the server's file id, so that
it is the same after a remount. If that is taken, by the same file seen through another DFS link, it is a hash of its
parent's number and its name. It never changes, also if the file has another id on the next target.

Hard links. A file may have several names; they are the same node, as the kernel expects. One of them, `parent` and
`name`, is the one that the file is asked for by; `more` has the others. Names are of the same file if the server gives
the same file id on the same share, and the same time of creation, as ids may not be unique where a share has several
volumes. A file that turns up under another name, and has only one, was renamed by somebody else: its node moves.

Identity. The same name is the same node as long as the server answers with the same file id on the same share. With
another id it is another file: the old node is detached and a new one takes its place. Answers from another share, after
a failover, say nothing of identity; the node takes the new id over.

Life. The kernel counts how often it was told of a node (lookups) and gives them back (forget). A node stays while it
has lookups, children or handles. A detached node has no place any more: it can't be reached or asked for by path, its
children neither, and it stays only for the kernel's references and for files that are open.

Invariants (check_invariants): every attached node is its parents' child under its folded names and reaches the root; a
number belongs to one node; the root is ROOT and never goes; a node that nothing holds is not in the table.

Pure code: no lock, clock or request.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.acting import ROOT as ROOT_USER
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dfsfs.acting import Caller
    from dfsfs.namespace.junction import Location
    from dfsfs.smb.fscc import FileStat
    from dfsfs.smb.leases import Lease
    from dfsfs.vfs.views import Demand, FolderView

ROOT = 1
"""The root's number, fixed by FUSE."""
NUMBER_MASK = (1 << 63) - 1
"""Numbers have 63 bits: some programs read st_ino into a signed integer."""
FILE_ID_MASK = (1 << 64) - 1
FIRST_NUMBER = 2
NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Node:
    """A file, folder or DFS link of the mount. Only NodeTable changes the fields of the first group."""

    ino: int
    name: str
    """As on the wire, in the case in which it was last seen."""
    is_directory: bool
    parent: Node | None = None
    more: tuple[tuple[Node, str], ...] = ()
    """Other folders and names that the file is in: hard links."""
    anchor: Location | None = None
    """The root's or the link's own location."""
    share: UncPath | None = None
    """The share that `file_id` belongs to."""
    file_id: int = 0
    lookups: int = 0
    handles: int = 0
    children: dict[str, Node] = field(default_factory=dict)
    detached: bool = False
    hidden: tuple[Node, str] | None = None
    """Removed here by `remover` while it was open: still on the server, under a name that nobody is shown."""
    remover: Caller = ROOT_USER
    proofs: dict[int, float] | None = None
    """In a mount of many users: until when each of them may be told what is known of it. See proofs.py."""

    lists_snapshots: bool = False
    """The folder `.snapshots`, which no server has: in it are the previous versions of the folder that it is in."""
    stat: FileStat | None = None
    """What the server said last. Of a link: what its folder's listing said, if that is known."""
    expires: float = NEVER
    """Until when `stat` may be believed, in seconds of the file system's clock."""
    seen: float = NEVER
    """When a server last said that the name is there. A lease covers the file, but not every server lets it cover the
    name: Samba 4.17 lets others remove and replace the file without a word."""
    changes: int = 0
    """The table's `epoch` of the last change made here. An answer that was asked for before it may be too old."""
    cached: tuple[int, int] | None = None
    """Size and last write time of the file when the kernel began to keep its data."""
    view: FolderView | None = None
    """What a folder's last listing said: see views.py."""
    listing: set[str] | None = None
    """While a folder is listed for its view: the folded names that were changed here since that began."""
    demand: Demand | None = None
    """How much names of a folder are asked for."""
    lease: Lease | None = None
    """What the server has promised to say before others change the file: see leases.py."""
    covered_data: Lease | None = None
    """The lease that has covered all data which the kernel has of the file, without a break."""
    uncovered: bool = False
    """Whether the kernel has read data while no lease covered it, though there is one."""
    breaks: int = 0
    """How often the lease's READ was lost."""
    writers: int = 0
    """Handles that may write."""
    end: int = 0
    """The size of an open file as this mount knows it. What is appended goes there: the kernel's idea may be older."""
    told: int = -1
    """The size that the kernel believes in, as far as can be told from what it was told."""

    @property
    def is_reparse_point(self) -> bool:
        """Whether the server has it as a reparse point that it does not follow: a symbolic link, a device and so on."""
        return self.stat is not None and self.stat.special is not None and bool(self.stat.reparse_tag)

    @property
    def is_link(self) -> bool:
        """Whether this is a DFS link."""
        return self.anchor is not None and self.parent is not None

    @property
    def is_past(self) -> bool:
        """Whether this is, or is in, a snapshot: nothing can be changed there."""
        location = self.location
        return self.lists_snapshots or (location is not None and location.moment is not None)

    @property
    def is_covered(self) -> bool:
        """Whether the server says so before somebody else changes the file, and nobody here writes to it.

        While it is written to, a server may go on to change its times for seconds.
        """
        return self.lease is not None and self.lease.is_shared and not self.writers

    @property
    def names(self) -> tuple[tuple[Node, str], ...]:
        """All folders and names that the node is known by; none of the root and of what is detached."""
        return () if self.parent is None else ((self.parent, self.name), *self.more)

    def is_hidden_as(self, folder: Node, name: str) -> bool:
        """Whether this is the name that the node has after it was removed here."""
        return self.hidden is not None and self.hidden[0] is folder and fold_name(self.hidden[1]) == fold_name(name)

    @property
    def location(self) -> Location | None:
        """Where the node is now, or None if it or one above it is detached."""
        names: list[str] = []
        node: Node | None = self
        while node is not None and not node.detached:
            if node.anchor is not None:
                location = node.anchor
                for name in reversed(names):
                    location = location.child(name)
                return location if node._is_attached() else None
            names.append(node.name)
            node = node.parent
        return None

    @property
    def place(self) -> Location | None:
        """Where the node's name is. For a link that is in the folder that has the link; None for the root."""
        if self.parent is None or self.detached:
            return None
        location = self.parent.location
        return None if location is None else location.child(self.name)

    def _is_attached(self) -> bool:
        node: Node | None = self
        while node is not None:
            if node.detached:
                return False
            node = node.parent
        return True


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """A snapshot of a NodeTable."""

    nodes: int
    links: int
    detached: int
    lookups: int


class NodeTable:
    """See the module's text. `root` is where the mount's root directory is."""

    def __init__(self, root: Location) -> None:
        self.root = Node(ino=ROOT, name="", is_directory=True, anchor=root, lookups=1)
        self.epoch = 0
        """How many changes were made here."""
        self._nodes: dict[int, Node] = {ROOT: self.root}
        self._seeds: dict[UncPath, hashlib.blake2b] = {}

    # -- finding ----------------------------------------------------------------------------------------------------

    def get(self, ino: int) -> Node | None:
        return self._nodes.get(ino)

    def child(self, parent: Node, name: str) -> Node | None:
        """The node known under a wire name in a folder."""
        return parent.children.get(fold_name(name))

    def above(self, node: Node) -> Iterator[Node]:
        """The node itself and those above it, up to the root."""
        at: Node | None = node
        while at is not None:
            yield at
            at = at.parent

    # -- what servers say -------------------------------------------------------------------------------------------

    def observe(self, parent: Node, name: str, stat: FileStat, share: UncPath) -> Node:
        """The node of a file or folder that a server has under `name`; a new one if there is none for that file."""
        folded = fold_name(name)
        node = parent.children.get(folded)
        if node is not None and not self.same_file(node, stat, share):
            self._drop(parent, folded)
            node = None
        if node is None:
            node = self._known_elsewhere(parent, name, stat, share)
        if node is None:
            node = self._add(Node(self._number(parent, name, share, stat.file_id), name, stat.is_directory, parent))
        node.share, node.file_id = share, stat.file_id
        return node

    def _known_elsewhere(self, parent: Node, name: str, stat: FileStat, share: UncPath) -> Node | None:
        """The node of a file that was known under other names only; it has this one, too, from now on."""
        if stat.is_directory or not stat.file_id:
            return None
        node = self._nodes.get(self._hash_of(share, stat.file_id))
        if node is None or node.stat is None or node.is_directory or not self.same_file(node, stat, share):
            return None
        if node.share != share or node.file_id != stat.file_id or node.stat.created != stat.created:
            return None
        if node.parent is None:
            if not node.detached or not node.handles:
                return None
            node.parent, node.name, node.detached = parent, name, False
        elif _anchor_above(node) is not _anchor_above(parent):
            return None
        else:
            node.more = (*node.more, (parent, name))
        parent.children[fold_name(name)] = node
        if stat.links == 1:
            for folder, other in node.names:
                if (folder, other) != (parent, name):
                    self.drop_name(folder, other)
        return node

    def observe_link(self, parent: Node, name: str, anchor: Location) -> Node:
        """The node of a DFS link that is in a folder under `name`; `anchor` is its junction's location.

        A folder that is known under that name becomes the link, in place. What was known below it is detached.
        """
        node = parent.children.get(fold_name(name))
        if node is not None and not node.is_directory:
            self._drop(parent, fold_name(name))
            node = None
        if node is None:
            prefix = anchor.junction.prefix
            node = self._add(Node(self._number(parent, name, prefix, 0), name, True, parent, anchor=anchor))
        elif node.anchor is not anchor and node.anchor != anchor:
            self.move_anchor(node, anchor)
        return node

    def observe_snapshots(self, folder: Node, name: str) -> Node:
        """The node of the folder with the snapshots of a folder."""
        node = self._made_up(folder, name, None)
        node.lists_snapshots, node.stat, node.expires = True, folder.stat, math.inf
        return node

    def observe_snapshot(self, snapshots: Node, name: str, anchor: Location) -> Node:
        """The node of a snapshot. To programs it is like a DFS link: it leads to another place."""
        return self._made_up(snapshots, name, anchor)

    def _made_up(self, parent: Node, name: str, anchor: Location | None) -> Node:
        node = parent.children.get(fold_name(name))
        if node is None or node.anchor != anchor or not (anchor or node.lists_snapshots):
            if node is not None:
                self._drop(parent, fold_name(name))
            number = self._free_number(_hashed(_seed((fold_name(name),)), parent.ino))
            node = self._add(Node(number, name, True, parent, anchor=anchor))
        return node

    def move_anchor(self, node: Node, anchor: Location) -> None:
        """Makes a folder stand for another location. What was known below it is detached."""
        for folded in list(node.children):
            self._drop(node, folded)
        node.anchor = anchor
        node.share, node.file_id, node.stat, node.listing = None, 0, None, None
        self.changed(node)

    def same_file(self, node: Node, stat: FileStat, share: UncPath) -> bool:
        """Whether what a server says can be of the file that `node` stands for."""
        if node.is_link or node.is_directory != stat.is_directory:
            return False
        if node.stat is not None and node.stat.kind != stat.kind:
            return False
        if node.share is None or node.share != share:
            return True
        return not node.file_id or not stat.file_id or node.file_id == stat.file_id

    # -- what is done here ------------------------------------------------------------------------------------------

    def changed(self, node: Node) -> None:
        """Takes note of a change made here: what is known of the node has to be asked for again."""
        self.epoch += 1
        node.changes = self.epoch
        self.doubt(node)

    def doubt(self, node: Node) -> None:
        """Takes note that somebody else may have changed the file: what is known of it has to be asked for again."""
        node.expires = NEVER
        for folder, name in node.names:
            _touch(folder, name)

    def entry_changed(self, folder: Node, name: str) -> None:
        """Takes note that a name in a folder was made, removed, or given to something else here."""
        self.changed(folder)
        _touch(folder, name)

    def detach(self, node: Node) -> None:
        """Takes a node off its place: its names are gone or belong to something else now. The root can't go."""
        for folder, name in node.names:
            self.drop_name(folder, name)

    def drop_name(self, folder: Node, name: str) -> None:
        """Takes note that a name is gone. What had it is detached, unless it is known under another one."""
        if fold_name(name) in folder.children:
            self._drop(folder, fold_name(name))
            self._free(folder)

    def rename(self, folder: Node, old_name: str, parent: Node, name: str) -> None:
        """Moves what has one name, and with it everything below, to another. What was there is detached."""
        folded = fold_name(name)
        node = folder.children.get(fold_name(old_name))
        assert node is not None
        assert node not in self.above(parent)
        victim = parent.children.get(folded)
        if victim is not None and not (folder is parent and fold_name(old_name) == folded):
            self._drop(parent, folded)
        del folder.children[fold_name(old_name)]
        parent.children[folded] = node
        if node.hidden is not None and node.is_hidden_as(folder, old_name):
            node.hidden = (parent, name)
        if node.parent is folder and fold_name(node.name) == fold_name(old_name):
            node.parent, node.name = parent, name
        else:
            rest = (other for other in node.more if not _is_name(other, folder, old_name))
            node.more = (*rest, (parent, name))
        self._free(folder)

    # -- the kernel's references and ours ---------------------------------------------------------------------------

    def count_lookup(self, node: Node) -> None:
        node.lookups += 1

    def forget(self, ino: int, count: int) -> None:
        """Gives back `count` lookups of a node."""
        node = self._nodes.get(ino)
        if node is None or node is self.root:
            return
        node.lookups = max(0, node.lookups - count)
        self._free(node)

    def hold(self, node: Node) -> None:
        """Keeps a node while something is open on it."""
        node.handles += 1

    def release(self, node: Node) -> None:
        node.handles -= 1
        self._free(node)

    def prune(self, node: Node) -> None:
        """Drops a node that was only looked at, unless something holds it."""
        self._free(node)

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _add(self, node: Node) -> Node:
        assert node.parent is not None
        node.parent.children[fold_name(node.name)] = node
        self._nodes[node.ino] = node
        return node

    def _drop(self, folder: Node, folded: str) -> None:
        """Takes a name from its node, and leaves its folder in the table whether something holds it or not."""
        node = folder.children.pop(folded)
        if node.parent is folder and fold_name(node.name) == folded:
            if node.more:
                (node.parent, node.name), *rest = node.more
                node.more = tuple(rest)
            else:
                node.detached, node.parent = True, None
        else:
            node.more = tuple(other for other in node.more if not _is_name(other, folder, folded))
        self.changed(node)
        self._free(node)

    def _free(self, node: Node | None) -> None:
        """Takes a node that nothing holds out of the table, then its folders if they were held by it alone."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node is None or node is self.root or node.lookups or node.children or node.handles:
                continue
            if self._nodes.pop(node.ino, None) is None:
                continue
            for folder, name in node.names:
                del folder.children[fold_name(name)]
                waiting.append(folder)
            if node.parent is not None:
                node.parent, node.more, node.detached = None, (), True

    def _hash_of(self, share: UncPath, file_id: int) -> int:
        seed = self._seeds.get(share)
        if seed is None:
            seed = self._seeds[share] = _seed(share.key)
        return _hashed(seed, file_id & FILE_ID_MASK)

    def _number(self, parent: Node, name: str, share: UncPath, file_id: int) -> int:
        number = self._hash_of(share, file_id)
        if number in self._nodes:  # a thousand links may lead to one file, so the next free one would be far away
            number = _hashed(_seed((fold_name(name),)), parent.ino)
        return self._free_number(number)

    def _free_number(self, number: int) -> int:
        while number in self._nodes:
            number = max(FIRST_NUMBER, (number + 1) & NUMBER_MASK)
        return number

    # -- for people and tests ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._nodes)

    def statistics(self) -> NodeStatistics:
        nodes = self._nodes.values()
        links, detached = sum(node.is_link for node in nodes), sum(node.detached for node in nodes)
        return NodeStatistics(len(self), links, detached, lookups=sum(node.lookups for node in nodes))

    def check_invariants(self) -> None:
        """For tests: asserts what the module's text promises."""
        assert self._nodes[ROOT] is self.root and self.root.parent is None and not self.root.detached
        for ino, node in self._nodes.items():
            assert node.ino == ino
            assert (node.parent is None) == (node.detached or node is self.root)
            if node.parent is not None:
                assert node.parent.children[fold_name(node.name)] is node
                assert self._nodes.get(node.parent.ino) is node.parent
            for folder, name in node.names:
                assert folder.children[fold_name(name)] is node
            assert not node.more or not node.is_directory
            for folded, child in node.children.items():
                assert (node, folded) in [(folder, fold_name(name)) for folder, name in child.names]
                assert self._nodes.get(child.ino) is child
            assert node is self.root or node.lookups or node.children or node.handles
            assert len(list(self.above(node))) <= len(self._nodes)


def _is_name(place: tuple[Node, str], folder: Node, name: str) -> bool:
    return place[0] is folder and fold_name(place[1]) == fold_name(name)


def _anchor_above(node: Node) -> Node | None:
    """The root or the DFS link that a node is below of; the node itself if it is one."""
    at: Node | None = node
    while at is not None and at.anchor is None:
        at = at.parent
    return at


def _touch(folder: Node, name: str) -> None:
    """What is known of a name in a folder, or being learnt, may not be true any more."""
    if folder.view is not None:
        folder.view.touched(fold_name(name))
    if folder.listing is not None:
        folder.listing.add(fold_name(name))


def _seed(names: Iterable[str]) -> hashlib.blake2b:
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=8)


def _hashed(seed: hashlib.blake2b, number: int) -> int:
    """A node number, always the same for the same arguments."""
    mixed = seed.copy()
    mixed.update(number.to_bytes(8, "little"))
    return max(FIRST_NUMBER, int.from_bytes(mixed.digest(), "little") & NUMBER_MASK)

"""Node: what is known of one file, folder or DFS link of a mount. What nodes are, and what may be done with them, is in
nodes.py; by which rule something is known, in known.py.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.acting import ROOT as ROOT_USER
from dfsfs.errors import PosixError

if TYPE_CHECKING:
    from dfsfs.acting import Caller
    from dfsfs.namespace.junction import Location
    from dfsfs.smb.fscc import FileStat
    from dfsfs.smb.leases import Lease
    from dfsfs.unc import UncPath
    from dfsfs.vfs.known import ChangedNames, LocalWrites
    from dfsfs.vfs.views import Demand, FolderView

ROOT = 1
"""The root's number, fixed by FUSE."""
NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Node:
    """A file, folder or DFS link of the mount. Only NodeTable changes the fields of the first group."""

    ino: int
    name: str
    """As on the wire."""
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
    """By their exact names, but for those that sleep."""
    asleep: int = 0
    """How many nodes in it sleep: see sleepers.py."""
    spellings: dict[str, str] | None = None
    """Of a directory: other spellings of names in it, as far as its server has said where they lead."""
    detached: bool = False
    removed: bool = False
    """Whether a program of this computer has removed it, or put another file in its place: so the kernel knows, too."""
    was: tuple[Node, str] | None = None
    """Where a detached node was."""
    forward: Node | None = None
    """The file that a program got which has opened this one by a name that was another file's by then."""
    loops: bool = False
    """Whether it is a directory that is above itself."""
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
    asked: int = 0
    """The moment at which `stat` was asked for."""
    changing: int = 0
    """How many changes made here are under way: known.py has the rule."""
    changed: int = 0
    """The moment at which the last of them began or ended, or something else made what is known doubtful."""
    changes: int = 0
    """How many changes were made here."""
    names: ChangedNames | None = None
    """Of a directory: which names in it were changed here."""
    cached: tuple[int, int] | None = None
    """Size and last write time of the file when the kernel began to keep its data."""
    view: FolderView | None = None
    """What a folder's last listing said: see views.py."""
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
    time_was_set: bool = False
    """Whether this mount has set its times: Samba then keeps them, whatever is written, while any handle is open."""
    had_several_names: bool = False
    """Whether it had several names when it was in memory before. Listings, which do not say, are no proof of one."""
    own: LocalWrites | None = None
    """What this mount's writes have made of a file that is open for writing here."""
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

    def overtakes(self, asked: int) -> bool:
        """Whether an answer that was asked for at that moment may not know of a change made here."""
        return self.changing > 0 or self.changed > asked

    @property
    def is_exclusive(self) -> bool:
        """Whether the server says so before somebody else opens the file."""
        return self.lease is not None and self.lease.is_exclusive

    @property
    def places(self) -> tuple[tuple[Node, str], ...]:
        """All folders and names that the node is known by; none of the root and of what is detached."""
        return () if self.parent is None else ((self.parent, self.name), *self.more)

    def is_hidden_as(self, folder: Node, name: str) -> bool:
        """Whether this is the name that the node has after it was removed here."""
        return self.hidden is not None and self.hidden == (folder, name)

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


def refuse_loop(folder: Node) -> None:
    """Raises: PosixError: ELOOP, the folder is below itself."""
    if folder.loops:
        raise PosixError(errno.ELOOP, f"{folder.name} is a directory that it is in")


def in_the_present(node: Node) -> Node:
    """The node, which may be changed. Raises: PosixError: EROFS, it is in a snapshot."""
    if node.is_past:
        raise PosixError(errno.EROFS, f"{node.name} is in a snapshot")
    return node


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """A snapshot of a NodeTable."""

    nodes: int
    links: int
    detached: int
    lookups: int
    asleep: int = 0
    """How many of `nodes` sleep: see sleepers.py."""


@dataclass(frozen=True, slots=True)
class FileSystemStatistics:
    """A snapshot of a file system."""

    nodes: NodeStatistics
    open_files: int
    open_directories: int

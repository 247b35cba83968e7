"""NodeStore: where the nodes of a mount are kept, and for how long. What they stand for is in nodes.py.

The kernel counts how often it was told of a node (lookups) and gives them back (forget). A node stays while it has
lookups, children or handles.

Sleep. Beyond AWAKE nodes, those that came first and that nobody holds, which their reference counts show, sleep
(sleepers.py): whoever asks for one has it woken, so that there is one object of a node at any time. `children` has none
of them, and whatever has to know all children wakes them before.

Pure.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from dfsfs.unc import fold_name
from dfsfs.vfs.known import Traces
from dfsfs.vfs.node import ROOT, Node, NodeStatistics
from dfsfs.vfs.sleepers import Sleepers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfsfs.namespace.junction import Location
    from dfsfs.unc import UncPath

AWAKE = 16_384
"""Nodes beyond which those that nobody uses sleep: some 24 MiB."""
BATCHES = 64
"""A part of those is put to sleep at once."""


def _references_of_unused() -> int:
    """What sys.getrefcount says in a function of an object that one variable and the table have: those two of it, its
    number and its name.
    """
    node, table = object(), list[object]()
    table += [node, node]
    return sys.getrefcount(node)


_UNUSED = _references_of_unused()


class NodeStore:
    """See the module's text. `root` is where the mount's root directory is."""

    def __init__(self, root: Location) -> None:
        self.root = Node(ino=ROOT, name="", is_directory=True, anchor=root, lookups=1)
        self._nodes: OrderedDict[int, Node] = OrderedDict({ROOT: self.root})
        self._sleepers = Sleepers()
        self._traces = Traces()
        self.awake = AWAKE
        self._has_sleepers = False
        self._no_sleeper = 0
        """A number that was just asked for, and is that of no sleeper: it will be asked for again."""
        self._no_name: tuple[str, Node] | None = None
        """The same of a name in a folder."""

    def get(self, ino: int) -> Node | None:
        node = self._nodes.get(ino)
        if node is None and self._has_sleepers and ino != self._no_sleeper:
            node = self._awake(self._sleepers.wake(ino, self._nodes))
            self._no_sleeper = ino if node is None else 0
        return node

    def child(self, parent: Node, name: str) -> Node | None:
        """The node known under a wire name, or another spelling of it, in a folder."""
        node = self._exact(parent, name)
        if node is None and parent.spellings is not None:
            node = self._exact(parent, parent.spellings.get(name, ""))
        return node

    def _exact(self, parent: Node, name: str) -> Node | None:
        node = parent.children.get(name)
        if node is None and parent.asleep and (name, parent) != self._no_name:
            node = self._awake(self._sleepers.wake_name(parent, name, self._nodes))
            self._no_name = (name, parent) if node is None else None
        return node

    def name_of(self, parent: Node, name: str) -> str:
        """The exact name that a spelling leads to, as far as that is known."""
        if parent.spellings is None or self._exact(parent, name) is not None:
            return name
        return parent.spellings.get(name, name)

    def above(self, node: Node) -> Iterator[Node]:
        """The node itself and those above it, up to the root."""
        at: Node | None = node
        while at is not None:
            yield at
            at = at.parent

    def _add(self, node: Node) -> Node:
        assert node.parent is not None
        node.parent.children[node.name] = node
        self._nodes[node.ino] = node
        self._doze()
        return node

    def _forget_spellings(self, folder: Node, name: str) -> None:
        """Which spellings lead to a name, and to those that differ from it in case only, has to be asked for again."""
        if folder.spellings is not None:
            folded = fold_name(name)
            folder.spellings = {
                spelling: known for spelling, known in folder.spellings.items() if fold_name(spelling) != folded
            } or None

    # -- references, the kernel's and ours ---------------------------------------------------------------------------

    def count_lookup(self, node: Node) -> None:
        node.lookups += 1

    def forget(self, ino: int, count: int) -> None:
        """Gives back `count` lookups of a node."""
        node = self._nodes.get(ino)
        if node is None:
            self._forget_sleeper(ino, count)
        elif node is not self.root:
            node.lookups = max(0, node.lookups - count)
            self._free(node)

    def _forget_sleeper(self, ino: int, count: int) -> None:
        gone = self._sleepers.forget(ino, count) if self._has_sleepers else None
        if gone is None:
            return
        key = (gone.share, gone.file_id) if gone.file_id else None
        self._traces.leave(key, gone.changed)
        if key is not None:
            self._traces.leave_facts(key, time_was_set=gone.time_was_set, links=gone.links)
        parent = self._nodes[gone.parent]
        parent.asleep -= 1
        self._free(parent)

    def hold(self, node: Node) -> None:
        """Keeps a node while something is open on it."""
        node.handles += 1

    def release(self, node: Node) -> None:
        node.handles -= 1
        self._free(node)
        self._doze()

    def prune(self, node: Node) -> None:
        """Drops a node that was only looked at, unless something holds it."""
        self._free(node)

    # -- sleep ------------------------------------------------------------------------------------------------------

    def _is_taken(self, ino: int) -> bool:
        if ino in self._nodes:
            return True
        return self._has_sleepers and ino != self._no_sleeper and self._sleepers.has(ino)

    def _awake(self, node: Node | None) -> Node | None:
        """Takes in a node that was woken."""
        return None if node is None else self._add(node)

    def _wake_all(self, folder: Node) -> None:
        if folder.asleep:
            for node in self._sleepers.wake_all(folder, self._nodes):
                folder.children[node.name] = self._nodes[node.ino] = node

    def _doze(self) -> None:
        """Lets some of those that came first sleep, if there are many and nobody holds them."""
        nodes, slack = self._nodes, self.awake // BATCHES
        if len(nodes) <= self.awake + slack:
            return
        self._no_sleeper, self._no_name, self._has_sleepers = 0, None, True
        for _ in range(min(2 * slack + 2, len(nodes))):
            if len(nodes) <= self.awake:
                return
            node = nodes[next(iter(nodes))]
            folder = node.parent
            if folder is None or sys.getrefcount(node) != _UNUSED or folder.spellings or not self._sleepers.put(node):
                nodes.move_to_end(node.ino)
            else:
                del nodes[node.ino], folder.children[node.name]

    # -- the end of a node ------------------------------------------------------------------------------------------

    def _free(self, node: Node | None) -> None:
        """Takes a node that nothing holds out of the table, then its folders if they were held by it alone."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node is None or node is self.root or node.lookups or node.children or node.handles:
                continue
            if node.asleep or self._nodes.pop(node.ino, None) is None:
                continue
            key = key_of(node)
            self._traces.leave(key, max(node.changed, node.names.last if node.names is not None else 0))
            if key is not None:
                links = 0 if node.stat is None else node.stat.links
                self._traces.leave_facts(key, time_was_set=node.time_was_set, links=links)
            for folder, name in node.places:
                del folder.children[name]
                self._forget_spellings(folder, name)
                waiting.append(folder)
            if node.parent is not None:
                node.parent, node.more, node.detached = None, (), True

    # -- for people and tests ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._nodes) + len(self._sleepers)

    def statistics(self) -> NodeStatistics:
        nodes = self._nodes.values()
        links, detached = sum(node.is_link for node in nodes), sum(node.detached for node in nodes)
        lookups = self._sleepers.lookups + sum(node.lookups for node in nodes)
        return NodeStatistics(len(self), links, detached, lookups, asleep=len(self._sleepers))


def key_of(node: Node) -> tuple[UncPath, int] | None:
    """What an inode is on its server, as far as that is known."""
    return (node.share, node.file_id) if node.share is not None and node.file_id else None

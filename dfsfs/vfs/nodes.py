"""NodeTable: which node number stands for which place in the namespace.

A Node is a name below another node, as in a path. Two nodes have an anchor, a Location of their own: the root, and
every DFS link, which stands for its junction and not for the place where the link was found. A node's location is the
nearest anchor above it and the names from there on. So a rename moves one pointer and with it everything below, and
nothing here knows a server: a failover changes no node.

Names are exact: `Notes` and `notes` are two names, until a server says of one that it leads to what has the other. Then
it is a SPELLING of that name: known to lead there, and no name of its own. Whether servers would take two names for one
is guessed for what costs nothing but a question.

Numbers are made by numbers.py; a node keeps its number for as long as it is known.

Hard links. A file may have several names; they are the same node, as the kernel expects. One of them, `parent` and
`name`, is the one that the file is asked for by; `more` has the others. Names are of the same file if the server gives
the same file id on the same share, and the same time of creation, as ids may not be unique where a share has several
volumes. A file that turns up under another name, and has only one, was renamed by somebody else: its node moves.

Identity. The same name is the same node as long as the server answers with the same file id on the same share. With
another id it is another file: the old node is detached and a new one takes its place. Answers from another share,
after a failover, say nothing of identity; the node takes the new id over. Where ids don't last (`forget_ids`), the
name is all.

Changes made here are noted as known.py wants it: `begin` and `end` for what is in a file and its attributes,
`changing_name` for what has a name. An inode that leaves memory leaves a trace of when it was changed.

Loops. A directory that is found again below itself (a symbolic link that the server follows) `loops`: it is shown, and
can't be entered.

Life. The kernel counts how often it was told of a node (lookups) and gives them back (forget). A node stays while it
has lookups, children or handles. A detached node has no place any more: it can't be reached or asked for by path, its
children neither, and it stays only for the kernel's references and for files that are open.

Where nodes are kept, and that those which nobody uses sleep, is in nodestore.py.

Invariants (check_invariants): every attached node is its parents' child under its names and reaches the root; a number
belongs to one node; the root is ROOT and never goes; a node that nothing holds is not in the table; a spelling leads to
a name that is there; the folder of a node that sleeps does not.

Pure code: no lock, clock or request.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dfsfs.unc import UncPath, fold_name
from dfsfs.vfs.known import ChangedNames
from dfsfs.vfs.node import NEVER, ROOT, Node, NodeStatistics
from dfsfs.vfs.nodestore import NodeStore, key_of
from dfsfs.vfs.numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dfsfs.namespace.junction import Location
    from dfsfs.smb.fscc import FileStat

__all__ = ["NEVER", "ROOT", "Node", "NodeStatistics", "NodeTable"]

SPELLINGS = 1000
"""Other spellings of names in one directory that are remembered."""


class NodeTable(NodeStore):
    """See the module's text. `root` is where the mount's root directory is."""

    def __init__(self, root: Location) -> None:
        super().__init__(root)
        self.moment = 0
        """The logical clock: see known.py."""
        self._numbers = Numbers(self._is_taken)
        self._without_ids: set[UncPath] | None = set()
        """Shares whose file ids don't last; None: no share's are used."""

    # -- what servers say -------------------------------------------------------------------------------------------

    def forget_ids(self, share: UncPath | None = None) -> None:
        """From now on file ids of a share, or of all, say nothing of which file it is."""
        if share is None:
            self._without_ids = None
        elif self._without_ids is not None:
            self._without_ids.add(share)
        for node in self._nodes.values():
            if share is None or node.share == share:
                node.file_id = 0
        self._sleepers.forget_ids(share)

    def id_of(self, stat: FileStat, share: UncPath) -> int:
        """The file id in an answer, 0 if it does not say which file it is."""
        return 0 if self._without_ids is None or share in self._without_ids else stat.file_id

    def observe(self, parent: Node, name: str, stat: FileStat, share: UncPath, *, exact: bool = False) -> Node:
        """The node of a file or folder that a server has under `name`; a new one if there is none for that file.

        `exact`: the name is as the server has it, and no other spelling: it was listed, or made here.
        """
        file_id = self.id_of(stat, share)
        node = self._exact(parent, name)
        if node is not None and not self.same_file(node, stat, share):
            self._drop(parent, name)
            node = None
        if node is None and not exact:
            node = self._spelled(parent, name, stat, share)
        if node is None:
            node = self._known_elsewhere(parent, name, stat, share)
        if node is None:
            node = self._add(Node(self._number(parent, name, share, file_id), name, stat.is_directory, parent))
            node.changed = self._traces.of((share, file_id) if file_id else None)
            node.time_was_set = self._traces.time_was_set((share, file_id))
            node.had_several_names = self._traces.had_several_names((share, file_id))
            if stat.is_directory and file_id:
                node.loops = any((above.share, above.file_id) == (share, file_id) for above in self.above(parent))
        node.share, node.file_id = share, file_id
        return node

    def _spelled(self, parent: Node, name: str, stat: FileStat, share: UncPath) -> Node | None:
        """The node that a name leads to which is another spelling of its name."""
        file_id, folded = self.id_of(stat, share), fold_name(name)
        if file_id:
            node = self._numbered(parent, share, file_id)
            known: Iterable[str] = () if node is None else (name for at, name in node.places if at is parent)
        else:
            self._wake_all(parent)
            known = parent.children
        for other in known:
            node = parent.children[other]
            if fold_name(other) == folded and stat.links <= 1 and self.same_file(node, stat, share):
                if parent.spellings is None or len(parent.spellings) >= SPELLINGS:
                    parent.spellings = {}
                parent.spellings[name] = other
                return node
        return None

    def _known_elsewhere(self, parent: Node, name: str, stat: FileStat, share: UncPath) -> Node | None:
        """The node of a file that was known under other names only; it has this one, too, from now on."""
        file_id = self.id_of(stat, share)
        if not file_id:
            return None
        node = self._numbered(parent, share, file_id)
        if node is None or node.stat is None or not self.same_file(node, stat, share):
            return None
        if node.is_directory and (not node.detached or node in self.above(parent)):
            return None
        if node.share != share or node.file_id != file_id or node.stat.created != stat.created:
            return None
        if node.parent is None:
            if not node.detached:
                return None
            node.parent, node.name, node.detached, node.removed, node.forward = parent, name, False, False, None
        elif _anchor_above(node) is not _anchor_above(parent):
            return None
        else:
            node.more = (*node.more, (parent, name))
        parent.children[name] = node
        if stat.links == 1:
            for folder, other in node.places:
                if (folder, other) != (parent, name):
                    self.drop_name(folder, other)
        return node

    def observe_link(self, parent: Node, name: str, anchor: Location) -> Node:
        """The node of a DFS link that is in a folder under `name`; `anchor` is its junction's location.

        A folder that is known under that name becomes the link, in place. What was known below it is detached.
        """
        node = self._exact(parent, name)
        if node is not None and not node.is_directory:
            self._drop(parent, name)
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
        node = self._exact(parent, name)
        if node is None or node.anchor != anchor or not (anchor or node.lists_snapshots):
            if node is not None:
                self._drop(parent, name)
            node = self._add(Node(self._numbers.of_name(parent.ino, name), name, True, parent, anchor=anchor))
        return node

    def move_anchor(self, node: Node, anchor: Location) -> None:
        """Makes a folder stand for another location. What was known below it is detached."""
        self._wake_all(node)
        for name in list(node.children):
            self._drop(node, name)
        node.anchor = anchor
        node.share, node.file_id, node.stat = None, 0, None
        self.doubt(node)
        node.names = ChangedNames(self.moment)

    def same_file(self, node: Node, stat: FileStat, share: UncPath) -> bool:
        """Whether what a server says can be of the file that `node` stands for."""
        if node.is_link or node.is_directory != stat.is_directory:
            return False
        if node.stat is not None and node.stat.kind != stat.kind:
            return False
        if node.share is None or node.share != share:
            return True
        file_id = self.id_of(stat, share)
        return not node.file_id or not file_id or node.file_id == file_id

    # -- what is done here ------------------------------------------------------------------------------------------

    def begin(self, node: Node, *, keeps_known: bool = False) -> int:
        """A change of what is in a file, or of its attributes, begins. The moment, to be given to `end`.

        `keeps_known`: what is known of it stays as true as it is, since `own` follows the change.
        """
        node.changes += 1
        return self.begin_closing(node, keeps_known=keeps_known)

    def begin_closing(self, node: Node, *, keeps_known: bool = True) -> int:
        """Like `begin`, for the close of a handle that was written through: it changes nothing but times."""
        self._mark(node)
        node.changing += 1
        if not keeps_known:
            node.expires = NEVER
        return self.moment

    def end(self, node: Node, begun: int, *, keeps_known: bool = False) -> bool:
        """The change that began at that moment has ended. Whether no other one was under way in the meantime."""
        alone = node.changing == 1 and node.changed == begun
        node.changing -= 1
        self._mark(node)
        if not keeps_known:
            node.expires = NEVER
        return alone

    @contextmanager
    def changing(self, *nodes: Node) -> Iterator[None]:
        """For the length of the block, what is in some files, or their attributes, is being changed."""
        begun = [(node, self.begin(node)) for node in nodes]
        try:
            yield
        finally:
            for node, moment in begun:
                self.end(node, moment)

    @contextmanager
    def changing_name(self, folder: Node, *names: str) -> Iterator[None]:
        """For the length of the block, names in a folder are being made, removed, or given to something else."""
        begun = self.begin(folder)
        changed = self._names(folder)
        folded = [fold_name(name) for name in names]
        for name in folded:
            changed.begin(name)
        try:
            yield
        finally:
            self.end(folder, begun)
            for name in folded:
                changed.end(name, self.moment)
            for name in names:
                self._forget_spellings(folder, name)

    def name_overtaken(self, folder: Node, name: str, asked: int) -> bool:
        """Node.overtakes for an answer that says what has a name in a folder."""
        if folder.names is None:
            return self._traces.of(key_of(folder)) > asked
        return folder.names.overtaken(fold_name(name), asked)

    def is_being_changed(self, folder: Node, name: str) -> bool:
        """Whether a change of what has a name is under way."""
        return folder.names is not None and folder.names.is_under_way(fold_name(name))

    def was_just_changed(self, folder: Node, name: str) -> bool:
        """Whether one of the last changes made here was one of what has a name."""
        return folder.names is not None and folder.names.is_recent(fold_name(name), self.moment)

    def doubt_name(self, folder: Node, name: str) -> None:
        """What is known of a name has turned out to be wrong: so is what was said together with it."""
        self.moment += 1
        self._names(folder).touch(fold_name(name), self.moment)

    def doubt(self, node: Node) -> None:
        """Somebody else may have changed the file: what is known of it, or was asked for already, is not good."""
        self._mark(node)
        node.expires = NEVER

    def _mark(self, node: Node) -> None:
        self.moment += 1
        node.changed = self.moment

    def _names(self, folder: Node) -> ChangedNames:
        if folder.names is None:
            folder.names = ChangedNames(self._traces.of(key_of(folder)))
        return folder.names

    def detach(self, node: Node) -> None:
        """Takes a node off its place: its names are gone or belong to something else now. The root can't go."""
        for folder, name in node.places:
            self.drop_name(folder, name)

    def drop_name(self, folder: Node, name: str) -> None:
        """Takes note that a name is gone. What had it is detached, unless it is known under another one."""
        name = self.name_of(folder, name)
        if self._exact(folder, name) is not None:
            self._drop(folder, name)
            self._free(folder)

    def remove_name(self, folder: Node, name: str) -> None:
        """Like `drop_name`, for a name that a program of this computer has removed or given to something else."""
        node = self.child(folder, name)
        if node is not None:
            node.removed = len(node.places) == 1
            self.drop_name(folder, name)

    def rename(self, folder: Node, old_name: str, parent: Node, name: str) -> None:
        """Moves what has one name, and with it everything below, to another. What was there is detached."""
        old_name = self.name_of(folder, old_name)
        node = self._exact(folder, old_name)
        assert node is not None and node not in self.above(parent)
        if (folder, old_name) == (parent, name):
            return
        if self._exact(parent, name) is not None:
            self.hold(parent)  # else what had the name was perhaps all that held it
            self.remove_name(parent, name)
            parent.handles -= 1
        del folder.children[old_name]
        parent.children[name] = node
        if node.is_hidden_as(folder, old_name):
            node.hidden = (parent, name)
        if (node.parent, node.name) == (folder, old_name):
            node.parent, node.name = parent, name
        else:
            node.more = (*(other for other in node.more if other != (folder, old_name)), (parent, name))
        self._forget_spellings(folder, old_name)
        self._forget_spellings(parent, name)
        self._free(folder)

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _drop(self, folder: Node, name: str) -> None:
        """Takes a name from its node, and leaves its folder in the table whether something holds it or not."""
        node = folder.children.pop(name)
        self._forget_spellings(folder, name)
        if (node.parent, node.name) == (folder, name):
            if node.more:
                (node.parent, node.name), *rest = node.more
                node.more = tuple(rest)
            else:
                node.detached, node.parent, node.was = True, None, (folder, name)
        else:
            node.more = tuple(other for other in node.more if other != (folder, name))
        self.doubt(node)
        self._free(node)

    def _number(self, parent: Node, name: str, share: UncPath, file_id: int) -> int:
        root = _root_above(parent)
        if not file_id or root is None:
            return self._numbers.of_name(parent.ino, name)
        return self._numbers.of_file(root, share, file_id)

    def _numbered(self, parent: Node, share: UncPath, file_id: int) -> Node | None:
        """The node that has the number which a file in a folder would have."""
        root = _root_above(parent)
        return None if root is None else self.get(self._numbers.expected(root, share, file_id))

    # -- for people and tests ---------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """For tests: asserts what the module's text promises."""
        assert self._nodes[ROOT] is self.root and self.root.parent is None and not self.root.detached
        for ino, node in self._nodes.items():
            assert node.ino == ino
            assert (node.parent is None) == (node.detached or node is self.root)
            if node.parent is not None:
                assert node.parent.children[node.name] is node
                assert self._nodes.get(node.parent.ino) is node.parent
            for folder, name in node.places:
                assert folder.children[name] is node
            if not node.asleep:
                assert all(known in node.children for known in (node.spellings or {}).values())
            assert not set(node.spellings or ()) & set(node.children)
            assert not node.more or not node.is_directory
            for name, child in node.children.items():
                assert (node, name) in child.places
                assert self._nodes.get(child.ino) is child
            assert node is self.root or node.lookups or node.children or node.asleep or node.handles
            assert len(list(self.above(node))) <= len(self._nodes)
        asleep: dict[int, int] = {}
        for ino, parent, name in self._sleepers.places():
            assert ino not in self._nodes and name not in self._nodes[parent].children
            asleep[parent] = asleep.get(parent, 0) + 1
        assert asleep == {ino: node.asleep for ino, node in self._nodes.items() if node.asleep}


def _anchor_above(node: Node) -> Node | None:
    """The root or the DFS link that a node is below of; the node itself if it is one."""
    at: Node | None = node
    while at is not None and at.anchor is None:
        at = at.parent
    return at


def _root_above(node: Node) -> UncPath | None:
    """The namespace path of the root or the DFS link that a node is below of; None if it is below nothing any more."""
    anchor = _anchor_above(node)
    return None if anchor is None or anchor.anchor is None else anchor.anchor.shared.prefix

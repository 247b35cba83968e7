"""InodeTable: which inode stands for which place in the namespace.

An inode is a name in a directory, as in a path. The root and every DFS link have an anchor, a Location of their own: a
link stands for its junction and not for the place where the link was found. The location of another inode is the
nearest anchor above it and the names from there on. So a rename moves one pointer, and with it everything below, and no
inode knows a server: a failover changes none of them.

Names are exact: `Notes` and `notes` are two names, until a server says of one that it leads to the file of the other.
Then it is a SPELLING of that name: known to lead there, and no name of its own. Names are folded to guess whether a
server takes two for one only where a wrong guess costs no more than a question.

Numbers are made by inodenumbers.py; an inode keeps its number for as long as it is known.

Hard links. A file may have several dentries and is one inode, as the kernel expects. It is asked for by the dentry that
`parent` and `name` say; `hard_links` has the others. Dentries are of the same file if the server gives the same file id
on the same share and the same time of creation: ids may not be unique where a share has several volumes. A file that
turns up under another name, and has only one link, was renamed by another client: its inode moves.

Identity. The same name is the same inode as long as the server answers with the same file id on the same share. With
another id it is another file: the old inode is detached and a new one takes its place. An answer from another share,
after a failover, says nothing of identity; the inode takes over the new id. Where ids do not last (`forget_ids`), only
the name counts.

Changes made here are counted as ordering.py needs it: `begin_change` and `end_change` for the content of a file and its
attributes, `changing_name` for names. An inode that leaves memory leaves behind when it was changed.

Loops. A directory that is found again below itself (a symbolic link that the server follows) is marked (`is_loop`): it
is shown, and cannot be entered.

A detached inode has no dentry any more: it cannot be reached or asked for by path, nor can its children, and it stays
only for the kernel's references and for files that are open.

Invariants (check_invariants): every attached inode is its parents' child under its names and reaches the root; a number
belongs to one inode; the root is ROOT and never goes; an inode without references is not in the table; a spelling leads
to a name that is there; the directory of a packed inode is not packed.

Pure: no lock, clock or request.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from dfsfs.unanswered import watch
from dfsfs.unc import UncPath, fold_name
from dfsfs.vfs.names.inode import NEVER, ROOT, Inode, InodeStatistics
from dfsfs.vfs.names.inodenumbers import InodeNumbers
from dfsfs.vfs.names.inodestore import InodeStore, key_of
from dfsfs.vfs.names.ordering import ChangedNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dfsfs.namespace.junction import Location
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unanswered import Unanswered

__all__ = ["NEVER", "ROOT", "Inode", "InodeStatistics", "InodeTable"]


class InodeTable(InodeStore):
    """See the module's text. `root` is where the mount's root directory is."""

    def __init__(self, root: Location) -> None:
        super().__init__(root)
        self.version = 0
        """The logical clock: ticks when a change begins or ends, and when something is invalidated. See ordering.py."""
        self._numbers = InodeNumbers(self._is_taken)
        self._without_ids: set[UncPath] | None = set()
        """Shares whose file ids are not used, as they do not last; None: those of all shares."""

    # -- answers of servers -----------------------------------------------------------------------------------------

    def forget_ids(self, share: UncPath | None = None) -> None:
        """From now on the file ids of a share, or of all, are not used."""
        if share is None:
            self._without_ids = None
        elif self._without_ids is not None:
            self._without_ids.add(share)
        for inode in self._inodes.values():
            if share is None or inode.share == share:
                inode.file_id = 0
        self._packed.forget_ids(share)

    def get_file_id(self, stat: FileStat, share: UncPath) -> int:
        """The file id in an answer; 0 if ids of the share are not used."""
        return 0 if self._without_ids is None or share in self._without_ids else stat.file_id

    def observe(
        self,
        parent: Inode,
        name: str,
        stat: FileStat,
        share: UncPath,
        *,
        exact: bool = False,
        time: float = math.inf,
    ) -> Inode:
        """The inode of a file or directory that a server has under `name`; a new one if there is none for that file.

        Args:
            exact: whether `name` is as the server has it, and not another spelling: it was listed, or made here.
            time: when it was so, in seconds of the clock. A file that has had another name since keeps that.
        """
        file_id = self.get_file_id(stat, share)
        inode = self._get_exact(parent, name)
        if inode is not None and not self.same_file(inode, stat, share):
            self._drop(parent, name)
            inode = None
        if inode is None and not exact:
            inode = self._find_spelling(parent, name, stat, share)
        if inode is None:
            inode = self._find_under_other_name(parent, name, stat, share, exact=exact, time=time)
        if inode is None:
            inode = self._add(self._make_inode(parent, name, stat, share))
        inode.share, inode.file_id = share, file_id
        return inode

    def _make_inode(self, parent: Inode, name: str, stat: FileStat, share: UncPath) -> Inode:
        """A new inode for a file, with what is remembered of it since it was last in memory."""
        file_id = self.get_file_id(stat, share)
        key, evicted = (share, file_id), self._evicted
        return Inode(
            self._make_number(parent, name, share, file_id, stat.created),
            name,
            stat.is_directory,
            parent,
            changed_at=evicted.get_version(key if file_id else None),
            time_was_set=evicted.time_was_set(key),
            had_hard_links=evicted.had_hard_links(key),
            is_loop=stat.is_directory
            and bool(file_id)
            and any((above.share, above.file_id) == key for above in self.iter_ancestors(parent)),
        )

    def _find_spelling(self, parent: Inode, name: str, stat: FileStat, share: UncPath) -> Inode | None:
        """The inode to whose name `name`, as another spelling of it, has led the server. Remembers the spelling."""
        file_id, folded = self.get_file_id(stat, share), fold_name(name)
        if file_id:
            inode = self._find_by_file_id(parent, share, file_id, stat.created)
            known: Iterable[str] = () if inode is None else (name for at, name in inode.dentries if at is parent)
        else:
            self._unpack_children(parent)
            known = parent.children
        for other in known:
            inode = parent.children[other]
            if fold_name(other) == folded and stat.links <= 1 and self.same_file(inode, stat, share):
                self._add_spelling(parent, name, other)
                return inode
        return None

    def _find_under_other_name(
        self, parent: Inode, name: str, stat: FileStat, share: UncPath, *, exact: bool, time: float
    ) -> Inode | None:
        """The inode of a file that was known under other names only; this one is added to its dentries, or takes the
        place of one that was another spelling of it.
        """
        file_id = self.get_file_id(stat, share)
        if not file_id:
            return None
        inode = self._find_by_file_id(parent, share, file_id, stat.created)
        if inode is None or inode.stat is None or not self.same_file(inode, stat, share):
            return None
        if exact and inode.stat.created == stat.created and self._correct_spelling(inode, parent, name):
            return inode
        if inode.is_directory and not (inode.detached or self._may_have_moved(inode)):
            return None
        if inode.is_directory and inode in self.iter_ancestors(parent):
            return None
        if inode.share != share or inode.file_id != file_id or inode.stat.created != stat.created:
            return None
        if inode.parent is None and not inode.detached:
            return None
        if inode.parent is not None and _anchor_above(inode) is not _anchor_above(parent):
            return None
        if inode.parent is not None and not inode.is_directory and stat.links == 1 and time < inode.name_revalidated:
            return inode  # the answer is from before it got the name that it has
        if inode.is_directory and inode.parent is not None:
            self._drop_name_of_moved(inode)
        inode.attach(parent, name)
        if stat.links == 1:
            for directory, other in inode.dentries:
                if (directory, other) != (parent, name):
                    self.drop_name(directory, other)
        return inode

    def _may_have_moved(self, directory: Inode) -> bool:
        """Whether a directory's name was changed here since it was asked for: perhaps by a rename that was given up."""
        parent = directory.parent
        return parent is not None and self.has_name_changed_since(parent, directory.name, directory.asked)

    def _drop_name_of_moved(self, directory: Inode) -> None:
        parent, name = directory.parent, directory.name
        assert parent is not None
        directory.detach_from(parent, name)
        self._forget_spellings(parent, name)

    def _correct_spelling(self, inode: Inode, parent: Inode, name: str) -> bool:
        """Gives an inode the exact name `name` in place of another spelling of it. Whether it was known by one.

        A folder has one name. Two names of a file that differ in case may be two, unless the server has led both to it.
        """
        for directory, other in inode.dentries:
            if directory is not parent or fold_name(other) != fold_name(name):
                continue
            if inode.is_directory or (parent.spellings or {}).get(name) == other:
                inode.move((parent, other), parent, name)
                self._forget_spellings(parent, name)
                self._add_spelling(parent, other, name)
                return True
        return False

    def observe_link(self, parent: Inode, name: str, anchor: Location) -> Inode:
        """The inode of a DFS link that a directory has under `name`; `anchor` is its junction's location.

        A directory that is known under that name becomes the link, in place. What was known below it is detached.
        """
        inode = self._get_exact(parent, name)
        if inode is not None and not inode.is_directory:
            self._drop(parent, name)
            inode = None
        if inode is None:
            prefix = anchor.junction.prefix
            inode = self._add(Inode(self._make_number(parent, name, prefix), name, True, parent, anchor=anchor))
        elif inode.anchor is not anchor and inode.anchor != anchor:
            self.move_anchor(inode, anchor)
        return inode

    def observe_snapshots(self, directory: Inode, name: str) -> Inode:
        """The inode of the directory `.snapshots` in a directory."""
        inode = self._observe_virtual(directory, name, None)
        inode.is_snapshot_dir = True
        return inode

    def observe_snapshot(self, snapshots: Inode, name: str, anchor: Location) -> Inode:
        """The inode of a snapshot, which like a DFS link leads to another location."""
        return self._observe_virtual(snapshots, name, anchor)

    def _observe_virtual(self, parent: Inode, name: str, anchor: Location | None) -> Inode:
        inode = self._get_exact(parent, name)
        if inode is None or inode.anchor != anchor or not (anchor or inode.is_snapshot_dir):
            if inode is not None:
                self._drop(parent, name)
            inode = self._add(Inode(self._numbers.make_for_name(parent.ino, name), name, True, parent, anchor=anchor))
        return inode

    def move_anchor(self, inode: Inode, anchor: Location) -> None:
        """Makes a directory stand for another location. What was known below it is detached."""
        self._unpack_children(inode)
        for name in list(inode.children):
            self._drop(inode, name)
        inode.anchor = anchor
        inode.share, inode.file_id = None, 0
        inode.forget_attributes()
        self.invalidate(inode)
        inode.changed_names = ChangedNames(self.version)

    def set_identity(self, inode: Inode, stat: FileStat, share: UncPath) -> None:
        """Keeps the share and file id of an answer that is about the inode's file."""
        inode.share, inode.file_id = share, self.get_file_id(stat, share)

    def same_file(self, inode: Inode, stat: FileStat, share: UncPath) -> bool:
        """Whether attributes on a share can be those of the file that `inode` stands for."""
        if inode.is_link or inode.is_directory != stat.is_directory:
            return False
        if inode.stat is not None and inode.stat.kind != stat.kind:
            return False
        if inode.share is None or inode.share != share:
            return True
        file_id = self.get_file_id(stat, share)
        return not inode.file_id or not file_id or inode.file_id == file_id

    # -- changes made here -------------------------------------------------------------------------------------------

    def begin_change(self, inode: Inode, *, keeps_attributes: bool = False) -> int:
        """A change of the content or the attributes of a file begins. Returns the version, to be given to `end_change`.

        `keeps_attributes`: cached attributes do not expire, since `local_writes` follows the change.
        """
        inode.change_count += 1
        return self.begin_close(inode, keeps_attributes=keeps_attributes)

    def begin_close(self, inode: Inode, *, keeps_attributes: bool = True) -> int:
        """`begin_change` for the close of a handle that was written through, which changes nothing but times."""
        self._touch(inode)
        inode.pending_changes += 1
        if not keeps_attributes:
            inode.expire_attributes()
        return self.version

    def end_change(
        self, inode: Inode, begun: int, *, keeps_attributes: bool = False, unanswered: Unanswered | None = None
    ) -> bool:
        """The change that began at version `begun` has ended. Whether no other one was under way in the meantime.

        `unanswered`: requests of the change that were given up; it ends when they are answered, and is not alone.
        """
        if unanswered:
            self.hold(inode)
            unanswered.when_answered(partial(self._end_late, inode, begun, keeps_attributes))
            return False
        alone = inode.pending_changes == 1 and inode.changed_at == begun
        inode.pending_changes -= 1
        self._touch(inode)
        if not keeps_attributes:
            inode.expire_attributes()
        return alone

    def _end_late(self, inode: Inode, begun: int, keeps_attributes: bool) -> None:
        self.end_change(inode, begun, keeps_attributes=keeps_attributes)
        self.release(inode)

    @contextmanager
    def changing(self, *inodes: Inode) -> Iterator[None]:
        """While the block runs, the content or the attributes of some inodes are being changed."""
        begun = [(inode, self.begin_change(inode)) for inode in inodes]
        with watch() as unanswered:
            try:
                yield
            finally:
                for inode, version in begun:
                    self.end_change(inode, version, unanswered=unanswered)

    @contextmanager
    def changing_name(self, directory: Inode, *names: str, ended: Callable[[], None] = lambda: None) -> Iterator[None]:
        """While the block runs, and until requests that it gives up are answered, names in a directory are being
        created, removed, or given to another file. Then `ended` is called.
        """
        begun = self.begin_change(directory)
        changed = self._use_changed_names(directory)
        folded = [fold_name(name) for name in names]
        for name in folded:
            changed.begin(name)

        def end() -> None:
            for name in folded:
                changed.end(name, self.version)
            for name in names:
                self._forget_spellings(directory, name)
            ended()

        with watch() as unanswered:
            try:
                yield
            finally:
                self.end_change(directory, begun, unanswered=unanswered)
                unanswered.when_answered(end)

    def has_name_changed_since(self, directory: Inode, name: str, asked: int) -> bool:
        """Whether an answer about a name, asked for at version `asked`, may not know of a change made here."""
        if directory.changed_names is None:
            return self._evicted.get_version(key_of(directory)) > asked
        return directory.changed_names.has_changed_since(fold_name(name), asked)

    def is_name_changing(self, directory: Inode, name: str) -> bool:
        """Whether a change of a name is under way."""
        return directory.changed_names is not None and directory.changed_names.is_under_way(fold_name(name))

    def has_name_just_changed(self, directory: Inode, name: str) -> bool:
        """Whether one of the last RECENT_CHANGES changes made here was of a name."""
        return directory.changed_names is not None and directory.changed_names.is_recent(fold_name(name), self.version)

    def invalidate_name(self, directory: Inode, name: str) -> None:
        """What is known of a name is wrong, and so is every answer about it that was asked for before."""
        self.version += 1
        self._use_changed_names(directory).touch(fold_name(name), self.version)

    def invalidate(self, inode: Inode) -> None:
        """Another client may have changed the file: what is known of it, or was asked for before, is not believed."""
        self._touch(inode)
        inode.expire_attributes()

    def distrust_changes(self, inode: Inode) -> None:
        """A change made here has overtaken the answer to an open, which may know of a later change by another client
        than the answer to that change: no lease has vouched for the file between the two. So what is known is not
        believed, nor what the answers to changes under way will say.
        """
        if inode.pending_changes:
            self._touch(inode)
        inode.expire_attributes()

    def _touch(self, inode: Inode) -> None:
        self.version += 1
        inode.changed_at = self.version

    def _use_changed_names(self, directory: Inode) -> ChangedNames:
        if directory.changed_names is None:
            directory.changed_names = ChangedNames(self._evicted.get_version(key_of(directory)))
        return directory.changed_names

    def detach(self, inode: Inode) -> None:
        """Takes all dentries of an inode away, which must not be the root."""
        for directory, name in inode.dentries:
            self.drop_name(directory, name)

    def drop_name(self, directory: Inode, name: str) -> None:
        """A name is gone: takes that dentry from its inode."""
        name = self.get_exact_name(directory, name)
        if self._get_exact(directory, name) is not None:
            self._drop(directory, name)
            self._drop_unused(directory)

    def remove_name(self, directory: Inode, name: str) -> None:
        """`drop_name` for a name that a program of this computer has removed or given to another file."""
        inode = self.child(directory, name)
        if inode is not None:
            inode.removed = len(inode.dentries) == 1
            self.drop_name(directory, name)

    def rename(self, directory: Inode, old_name: str, parent: Inode, name: str) -> None:
        """Gives an inode, and with it everything below, another name. The inode that had that name loses it."""
        old_name = self.get_exact_name(directory, old_name)
        inode = self._get_exact(directory, old_name)
        assert inode is not None and inode not in self.iter_ancestors(parent)
        if (directory, old_name) == (parent, name):
            return
        if self._get_exact(parent, name) is not None:
            self.hold(parent)  # the inode that loses the name may be all that holds it
            self.remove_name(parent, name)
            self._unhold(parent)
        inode.move((directory, old_name), parent, name)
        self._forget_spellings(directory, old_name)
        self._forget_spellings(parent, name)
        self._drop_unused(directory)

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _drop(self, directory: Inode, name: str) -> None:
        """Takes a dentry from its inode, and leaves the directory in the table even if nothing holds it."""
        inode = directory.children[name]
        inode.detach_from(directory, name)
        self._forget_spellings(directory, name)
        self.invalidate(inode)
        self._drop_unused(inode)

    def _make_number(self, parent: Inode, name: str, share: UncPath, file_id: int = 0, created: int = 0) -> int:
        root = _root_above(parent)
        if not file_id or root is None:
            return self._numbers.make_for_name(parent.ino, name)
        return self._numbers.make_for_file(root, share, file_id, created)

    def _find_by_file_id(self, parent: Inode, share: UncPath, file_id: int, created: int) -> Inode | None:
        """The inode whose number is that of a file id and a time of creation, as seen from a directory."""
        root = _root_above(parent)
        return None if root is None else self.get(self._numbers.get(root, share, file_id, created))

    # -- for people and tests ---------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Asserts the invariants of the module's text. For tests."""
        assert self._inodes[ROOT] is self.root and self.root.parent is None and not self.root.detached
        for ino, inode in self._inodes.items():
            assert inode.ino == ino
            assert (inode.parent is None) == (inode.detached or inode is self.root)
            if inode.parent is not None:
                assert inode.parent.children[inode.name] is inode
                assert self._inodes.get(inode.parent.ino) is inode.parent
            for directory, name in inode.dentries:
                assert directory.children[name] is inode
            if not inode.packed_children:
                assert all(known in inode.children for known in (inode.spellings or {}).values())
            assert not set(inode.spellings or ()) & set(inode.children)
            assert not inode.hard_links or not inode.is_directory
            for name, child in inode.children.items():
                assert (inode, name) in child.dentries
                assert self._inodes.get(child.ino) is child
            assert inode is self.root or inode.lookups or inode.children or inode.packed_children or inode.open_count
            assert len(list(self.iter_ancestors(inode))) <= len(self._inodes)
        packed: dict[int, int] = {}
        for ino, parent, name in self._packed.dentries():
            assert ino not in self._inodes and name not in self._inodes[parent].children
            packed[parent] = packed.get(parent, 0) + 1
        assert packed == {ino: inode.packed_children for ino, inode in self._inodes.items() if inode.packed_children}


def _anchor_above(inode: Inode) -> Inode | None:
    """The nearest inode with an anchor, at or above an inode; None if it is detached."""
    at: Inode | None = inode
    while at is not None and at.anchor is None:
        at = at.parent
    return at


def _root_above(inode: Inode) -> UncPath | None:
    """The namespace path of the root or DFS link that an inode is below; None if it is detached."""
    anchor = _anchor_above(inode)
    return None if anchor is None or anchor.anchor is None else anchor.anchor.junction.prefix

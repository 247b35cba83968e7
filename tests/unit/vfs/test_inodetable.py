"""The inode table: examples, and histories against a model of one's own making."""

from __future__ import annotations

import stat as posix
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dfsfs.namespace.junction import Junction, Location
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.smb.wire.fscc import FileStat
from dfsfs.smb.wire.reparse import SpecialFile
from dfsfs.unc import UncPath
from dfsfs.vfs.names.inodetable import ROOT, Inode, InodeTable

SHARE = UncPath.parse("//fs1/data")
REPLICA = UncPath.parse("//fs2/data")


def stat(file_id: int, *, folder: bool = False) -> FileStat:
    attributes = FileAttributes.FILE_ATTRIBUTE_DIRECTORY if folder else FileAttributes.FILE_ATTRIBUTE_NORMAL
    return FileStat(
        created=1,
        accessed=1,
        written=1,
        changed=1,
        attributes=attributes,
        size=0,
        allocated=0,
        file_id=file_id,
        links=1,
        reparse_tag=0,
    )


def table_at(prefix: str = "//dfs/ns", *components: str) -> InodeTable:
    return InodeTable(Location(Junction(UncPath.parse(prefix)), components))


def add(
    table: InodeTable,
    parent: Inode,
    name: str,
    file_id: int,
    *,
    folder: bool = False,
    share: UncPath = SHARE,
    exact: bool = False,
) -> Inode:
    inode = table.observe(parent, name, stat(file_id, folder=folder), share, exact=exact)
    table.count_lookup(inode)
    return inode


def path(inode: Inode) -> str | None:
    return None if inode.location is None else str(inode.location.unc)


def _rename(table: InodeTable, inode: Inode, parent: Inode, name: str) -> None:
    """Renames what has one name."""
    assert inode.parent is not None
    table.rename(inode.parent, inode.name, parent, name)


def test_an_answer_from_before_a_rename_does_not_take_the_name_back() -> None:
    """Another client has written `new`, and renamed it to `conf`. A listing that was asked for before comes late."""
    table = table_at()
    inode = add(table, table.root, "new", 7)
    inode.stat, inode.name_revalidated = stat(7), 1.0
    assert table.observe(table.root, "conf", stat(7), SHARE, time=3.0) is inode
    inode.name_revalidated = 3.0
    assert table.observe(table.root, "new", stat(7), SHARE, exact=True, time=2.0) is inode
    assert path(inode) == "//dfs/ns/conf"
    table.check_invariants()
    assert table.observe(table.root, "new", stat(7), SHARE, exact=True, time=4.0) is inode
    assert path(inode) == "//dfs/ns/new", "it has been renamed back since"
    assert inode.has_moved
    table.check_invariants()


def test_a_location_is_the_way_from_the_nearest_anchor() -> None:
    table = table_at("//dfs/ns", "sub")
    folder = add(table, table.root, "a", 1, folder=True)
    link = table.observe_link(folder, "l", Location(Junction(UncPath.parse("//dfs/ns/sub/a/l")), ()))
    below = add(table, link, "x", 2)
    assert path(table.root) == "//dfs/ns/sub"
    assert path(folder) == "//dfs/ns/sub/a"
    assert below.location == Location(link.anchor.junction if link.anchor else Junction(SHARE), ("x",))
    assert link.name_location == Location(
        table.root.anchor.junction if table.root.anchor else Junction(SHARE), ("sub", "a", "l")
    )
    assert (link.is_link, table.root.is_link, folder.is_link) == (True, False, False)


def test_the_same_file_id_is_the_same_inode_and_another_one_is_not() -> None:
    table = table_at()
    first = add(table, table.root, "a", 1)
    assert add(table, table.root, "A", 1) is first
    second = add(table, table.root, "a", 2)
    assert second is not first and second.ino != first.ino
    assert first.detached and first.location is None
    assert table.get(first.ino) is first, "the kernel still has it"
    table.forget(first.ino, 2)
    assert table.get(first.ino) is None
    table.check_invariants()


def test_a_failover_changes_no_inode() -> None:
    table = table_at()
    inode = add(table, table.root, "a", 1)
    assert add(table, table.root, "a", 99, share=REPLICA) is inode
    assert inode.file_id == 99
    assert add(table, table.root, "a", 98, share=REPLICA) is not inode


def test_a_file_id_of_zero_says_nothing() -> None:
    table = table_at()
    inode = add(table, table.root, "a", 1)
    assert add(table, table.root, "a", 0) is inode
    assert add(table, table.root, "a", 5) is inode


def test_a_folder_in_place_of_a_file_is_another_inode() -> None:
    table = table_at()
    inode = add(table, table.root, "a", 0)
    assert add(table, table.root, "a", 0, folder=True) is not inode


def test_numbers_are_the_same_after_a_remount_and_differ_in_a_collision() -> None:
    one, two = table_at(), table_at()
    inode = add(one, one.root, "a", 1)
    assert inode.ino == add(two, two.root, "other", 1).ino
    twin = add(one, one.root, "hard link", 1)
    assert twin.ino != inode.ino
    number = twin.ino
    one.forget(number, 1)
    one.forget(inode.ino, 1)
    assert add(one, one.root, "hard link", 1).ino == number, "what it once had it keeps"
    assert add(one, one.root, "elsewhere", 1, share=REPLICA).ino not in (inode.ino, number)


def test_a_rename_moves_everything_below() -> None:
    table = table_at()
    folder = add(table, table.root, "a", 1, folder=True)
    deep = add(table, add(table, folder, "b", 2, folder=True), "c", 3)
    other = add(table, table.root, "z", 4, folder=True)
    _rename(table, folder, other, "moved")
    assert path(deep) == "//dfs/ns/z/moved/b/c"
    assert table.child(table.root, "a") is None
    _rename(table, folder, other, "MOVED")
    assert folder.name == "MOVED"
    table.check_invariants()


def test_a_rename_over_a_name_detaches_what_had_it() -> None:
    table = table_at()
    folder = add(table, table.root, "d", 1, folder=True)
    victim = add(table, table.root, "v", 2)
    source = table.observe(folder, "s", stat(3), SHARE)
    table.hold(source)
    _rename(table, source, table.root, "v")
    assert victim.detached
    assert path(source) == "//dfs/ns/v"
    table.check_invariants()
    table.release(source)
    assert table.get(source.ino) is None and table.child(table.root, "v") is None


def test_a_detached_folder_takes_what_is_below_with_it() -> None:
    table = table_at()
    folder = add(table, table.root, "d", 1, folder=True)
    below = add(table, folder, "x", 2)
    table.detach(folder)
    table.detach(folder)
    assert below.location is None and below.name_location is None
    table.forget(folder.ino, 1)
    assert table.get(folder.ino) is folder, "a child keeps it"
    table.forget(below.ino, 1)
    assert table.statistics().inodes == 1
    table.check_invariants()


def test_a_folder_that_turns_out_to_be_a_link_stays_the_same_inode() -> None:
    table = table_at()
    folder = add(table, table.root, "d", 1, folder=True)
    below = add(table, folder, "x", 2)
    anchor = Location(Junction(UncPath.parse("//dfs/ns/d")), ())
    link = table.observe_link(table.root, "d", anchor)
    assert link is folder and link.is_link
    assert below.detached
    assert table.observe_link(table.root, "d", anchor) is link
    ordinary = add(table, table.root, "d", 1, folder=True)
    assert ordinary is not link, "the link was removed and a folder made in its place"
    assert table.statistics().links == 0


def test_a_file_that_turns_out_to_be_a_link_is_replaced() -> None:
    table = table_at()
    file = add(table, table.root, "d", 1)
    assert table.observe_link(table.root, "d", Location(Junction(UncPath.parse("//dfs/ns/d")), ())) is not file


def test_the_root_can_become_the_inside_of_a_link() -> None:
    table = table_at("//dfs/ns", "a", "b")
    add(table, table.root, "x", 1)
    table.move_anchor(table.root, Location(Junction(UncPath.parse("//dfs/ns/a")), ("b",)))
    assert path(table.root) == "//dfs/ns/a/b"
    assert not table.root.children
    table.forget(ROOT, 5)
    assert table.get(ROOT) is table.root


@dataclass(eq=False)
class Model:
    """An inode as the model knows it: a name in a parent, and how often the kernel has it."""

    name: str
    file_id: int
    folder: bool
    parent: Model | None
    lookups: int = 0
    open_count: int = 0
    attached: bool = True
    inode: Inode | None = None
    children: dict[str, Model] = field(default_factory=dict)

    def path(self) -> str | None:
        if self.parent is None:
            return "//dfs/ns" if self.attached else None
        above = self.parent.path()
        return None if above is None or not self.attached else f"{above}/{self.name}"

    def held(self) -> bool:
        return bool(self.lookups or self.open_count) or any(child.held() for child in self.children.values())


NAMES = st.sampled_from(["a", "A", "b", "c"])
IDS = st.integers(1, 6)


def test_a_folder_that_only_what_is_replaced_in_it_holds_stays() -> None:
    table = table_at()
    folder, moved = add(table, table.root, "folder", 1, folder=True), add(table, table.root, "moved", 2)
    replaced = add(table, folder, "name", 3)
    table.forget(folder.ino, 1)
    _rename(table, moved, folder, "name")
    table.check_invariants()
    assert replaced.detached and (moved.parent, moved.name) == (folder, "name")
    assert path(moved) == f"{path(table.root)}/folder/name"


class Histories(RuleBasedStateMachine):
    """Any order of what servers say, what programs do and what the kernel forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table_at()
        self.top = Model("", 0, True, None, lookups=1, inode=self.table.root)
        self.models: list[Model] = [self.top]

    def _folders(self) -> list[Model]:
        return [model for model in self.models if model.folder and (model is self.top or model.held())]

    def _unlink(self, model: Model) -> None:
        assert model.parent is not None
        del model.parent.children[model.name]
        model.attached, model.parent = False, None

    @rule(index=st.integers(0, 50), name=NAMES, file_id=IDS, folder=st.booleans())
    def look_up(self, index: int, name: str, file_id: int, folder: bool) -> None:
        folders = self._folders()
        parent = folders[index % len(folders)]
        known = parent.children.get(name)
        if known is not None and not known.held():
            self._unlink(known)
            known = None
        if known is not None and (known.file_id, known.folder) != (file_id, folder):
            self._unlink(known)
            known = None
        assert parent.inode is not None
        inode = add(self.table, parent.inode, name, file_id, folder=folder, exact=True)
        if known is None:
            known = parent.children[name] = Model(name, file_id, folder, parent, inode=inode)
            self.models.append(known)
        assert known.inode is inode
        known.lookups += 1

    def _pick(self, index: int) -> Model | None:
        models = [model for model in self.models if model is not self.top and model.held()]
        return models[index % len(models)] if models else None

    @rule(index=st.integers(0, 50), count=st.integers(1, 3))
    def forget(self, index: int, count: int) -> None:
        model = self._pick(index)
        if model is not None and model.inode is not None:
            count = min(count, model.lookups)
            model.lookups -= count
            self.table.forget(model.inode.ino, count)

    @rule(index=st.integers(0, 50))
    def open(self, index: int) -> None:
        model = self._pick(index)
        if model is not None and model.inode is not None and model.lookups:
            model.open_count += 1
            self.table.hold(model.inode)

    @rule(index=st.integers(0, 50))
    def close(self, index: int) -> None:
        model = self._pick(index)
        if model is not None and model.inode is not None and model.open_count:
            model.open_count -= 1
            self.table.release(model.inode)

    @rule(index=st.integers(0, 50))
    def remove(self, index: int) -> None:
        model = self._pick(index)
        if model is not None and model.parent is not None and model.inode is not None:
            self._unlink(model)
            self.table.detach(model.inode)

    @rule(index=st.integers(0, 50), to=st.integers(0, 50), name=NAMES)
    def rename(self, index: int, to: int, name: str) -> None:
        model = self._pick(index)
        folders = self._folders()
        target = folders[to % len(folders)]
        if model is None or model.parent is None or model.inode is None or target.inode is None:
            return
        above: Model | None = target
        while above is not None:
            if above is model:
                return
            above = above.parent
        victim = target.children.get(name)
        if victim is not None and victim is not model:
            self._unlink(victim)
        del model.parent.children[model.name]
        model.name, model.parent = name, target
        target.children[name] = model
        _rename(self.table, model.inode, target.inode, name)

    @invariant()
    def agrees(self) -> None:
        self.table.check_invariants()
        for model in self.models:
            assert model.inode is not None
            if model is self.top or model.held():
                assert self.table.get(model.inode.ino) is model.inode
                assert path(model.inode) == model.path()
            else:
                assert self.table.get(model.inode.ino) is not model.inode
        held = [model for model in self.models if model is self.top or model.held()]
        assert self.table.statistics().inodes == len(held)
        assert self.table.statistics().lookups == sum(model.lookups for model in held)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# -- hard links -------------------------------------------------------------------------------------------------------


def known(table: InodeTable, parent: Inode, name: str, file_id: int, links: int = 0, created: int = 1) -> Inode:
    """A file that was asked for, or listed (`links` 0)."""
    told = replace(stat(file_id), links=links, created=created)
    inode = table.observe(parent, name, told, SHARE)
    inode.stat = told
    table.count_lookup(inode)
    return inode


def test_names_of_one_file_are_one_inode() -> None:
    table = table_at()
    folder = known_folder(table)
    inode = known(table, table.root, "a", 1, links=2)
    assert known(table, folder, "b", 1) is inode
    assert inode.dentries == ((table.root, "a"), (folder, "b"))
    table.drop_name(table.root, "a")
    assert (inode.parent, inode.name, inode.detached) == (folder, "b", False)
    table.drop_name(folder, "b")
    assert inode.detached
    table.check_invariants()


def known_folder(table: InodeTable) -> Inode:
    return add(table, table.root, "folder", 100, folder=True)


def test_one_of_several_names_is_renamed() -> None:
    table = table_at()
    folder = known_folder(table)
    inode = known(table, table.root, "a", 1, links=2)
    known(table, folder, "b", 1)
    table.rename(folder, "b", table.root, "c")
    assert inode.dentries == ((table.root, "a"), (table.root, "c"))
    table.rename(table.root, "a", folder, "A")
    assert inode.dentries == ((folder, "A"), (table.root, "c"))
    table.check_invariants()


def test_a_file_with_one_name_that_turns_up_under_another_was_renamed() -> None:
    table = table_at()
    inode = known(table, table.root, "a", 1, links=1)
    assert known(table, table.root, "b", 1, links=1) is inode
    assert inode.dentries == ((table.root, "b"),)
    assert table.child(table.root, "a") is None


def test_the_same_id_does_not_make_the_same_file_if_it_was_made_at_another_time() -> None:
    table = table_at()
    inode = known(table, table.root, "a", 1, created=1)
    assert known(table, table.root, "b", 1, created=2) is not inode


def test_an_open_file_whose_last_known_name_is_gone_is_found_by_another() -> None:
    table = table_at()
    inode = known(table, table.root, "a", 1, links=2)
    table.hold(inode)
    table.drop_name(table.root, "a")
    assert table.get(inode.ino) is inode and inode.location is None
    assert known(table, table.root, "b", 1, links=1) is inode
    assert not inode.detached
    table.check_invariants()


def test_a_inode_with_several_names_goes_with_its_last_reference() -> None:
    table = table_at()
    folder = known_folder(table)
    inode = known(table, folder, "a", 1, links=2)
    known(table, folder, "b", 1)
    table.forget(folder.ino, 1)
    assert table.get(folder.ino) is folder
    table.forget(inode.ino, 2)
    assert table.get(inode.ino) is None and table.get(folder.ino) is None
    table.check_invariants()


def test_a_file_that_becomes_a_link_is_another_inode() -> None:
    table = table_at()
    inode = known(table, table.root, "a", 1)
    link = replace(stat(1), special=SpecialFile(posix.S_IFLNK, "x"))
    assert table.observe(table.root, "a", link, SHARE) is not inode


def test_snapshots_are_inodes_of_their_own() -> None:
    table = table_at()
    folder = known_folder(table)
    snapshots = table.observe_snapshots(folder, ".snapshots")
    table.count_lookup(snapshots)
    location = folder.location
    assert location is not None and snapshots.is_in_snapshot and not folder.is_in_snapshot
    one = table.observe_snapshot(snapshots, "@GMT-1", location.at(1))
    table.count_lookup(one)
    assert table.observe_snapshot(snapshots, "@GMT-1", location.at(1)) is one
    assert one.is_in_snapshot and one.location == location.at(1)
    inside = add(table, one, "x", 5)
    assert inside.location == location.at(1).child("x")
    assert table.observe_snapshots(folder, ".snapshots") is snapshots
    table.check_invariants()


def test_a_name_that_is_listed_takes_the_place_of_its_other_spelling() -> None:
    """The server has led `NOTES` and `notes` to one file before a listing says which of the two is its name."""
    table = table_at()
    first = add(table, table.root, "NOTES", 7)
    first.stat = stat(7)
    second = add(table, table.root, "notes", 7)
    listed = add(table, table.root, "notes", 7, exact=True)
    assert first is second is listed
    assert listed.dentries == ((table.root, "notes"),)
    assert table.get_exact_name(table.root, "NOTES") == "notes"
    table.check_invariants()


def test_a_folder_that_was_asked_for_in_another_case_is_one_inode_when_it_is_listed() -> None:
    table = table_at()
    asked = add(table, table.root, "DOCS", 7, folder=True)
    asked.stat = stat(7, folder=True)
    inside = add(table, asked, "file", 8)
    assert add(table, table.root, "docs", 7, folder=True, exact=True) is asked
    assert path(inside) == "//dfs/ns/docs/file"
    assert table.child(table.root, "DOCS") is asked
    table.check_invariants()


def test_a_folder_whose_rename_was_given_up_is_one_inode_wherever_it_is_found() -> None:
    table = table_at()
    folder = add(table, table.root, "old", 7, folder=True)
    folder.stat = stat(7, folder=True)
    inside = add(table, folder, "file", 8)
    with table.changing_name(table.root, "old", "new"):
        pass
    assert add(table, table.root, "new", 7, folder=True) is folder
    assert path(inside) == "//dfs/ns/new/file" and table.child(table.root, "old") is None
    table.check_invariants()

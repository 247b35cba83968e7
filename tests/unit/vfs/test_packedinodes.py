"""Inodes that sleep are, for whoever asks, the same as inodes that do not."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import fields, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dfsfs.namespace.junction import Junction, Location
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.smb.wire.fscc import FileStat
from dfsfs.unc import UncPath
from dfsfs.vfs.names.inode import ROOT, Inode
from dfsfs.vfs.names.inodetable import InodeTable
from dfsfs.vfs.names.rowindex import RowIndex

SHARE = UncPath.parse("//fs1/data")
NOT_KEPT = {
    "parent",
    "anchor",
    "children",
    "packed_children",
    "change_count",
    "changed_names",
    "detached_from",
    "access_cache",
    "page_cache",
}
"""Fields that are compared in another way, or that count for nobody who has no handle."""


def make_table(awake: int) -> InodeTable:
    table = InodeTable(Location(Junction(UncPath.parse("//dfs/ns"))))
    table.unpacked_max = awake
    return table


def stat_of(file_id: int, *, folder: bool = False, links: int = 1) -> FileStat:
    attributes = FileAttributes.FILE_ATTRIBUTE_DIRECTORY if folder else FileAttributes.FILE_ATTRIBUTE_NORMAL
    return FileStat(*(file_id, 2, 3, 4, int(attributes), 10 * file_id, 4096, file_id, links, 0, 0))


def add(table: InodeTable, parent: Inode, name: str, file_id: int, *, folder: bool = False, lookups: int = 1) -> int:
    """What a lookup does; the number of the inode."""
    stat = stat_of(file_id, folder=folder)
    inode = table.observe(parent, name, stat, SHARE, exact=True)
    inode.stat, inode.asked, inode.expires, inode.name_revalidated, inode.kernel_size = (
        stat,
        table.version,
        5.0 + file_id,
        5.0,
        stat.size,
    )
    inode.lookups += lookups
    return inode.ino


def shown(inode: Inode | None) -> object:
    if inode is None:
        return None
    values = {each.name: getattr(inode, each.name) for each in fields(inode) if each.name not in NOT_KEPT}
    if inode.stat is not None:
        values["stat"] = replace(inode.stat, file_id=inode.file_id)  # where ids do not count, they are gone
    values["page cache"] = inode.page_cache.stamp, inode.page_cache.read_without_lease
    values["hard_links"] = [(folder.ino, name) for folder, name in inode.hard_links]
    return values, inode.parent.ino if inode.parent is not None else 0, bool(inode.children or inode.packed_children)


NAMES = st.sampled_from(["a", "A", "b", "c", "\ud800", "ä" * 250])
PICKS = st.integers(0, 40)


class Sleep(RuleBasedStateMachine):
    """Two tables that are told the same: in one nobody ever sleeps, in the other everybody who can."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = make_table(1000), make_table(0)
        self.known = [ROOT]

    def _folder(self, pick: int) -> int | None:
        """The number of a folder that the kernel knows."""
        inodes = [self.tables[0].get(ino) for ino in self.known]
        folders = [inode.ino for inode in inodes if inode is not None and inode.is_directory and inode.lookups]
        return folders[pick % len(folders)] if folders else None

    def _pick(self, pick: int) -> int:
        return self.known[pick % len(self.known)]

    @rule(pick=PICKS, name=NAMES, file_id=st.integers(1, 9), folder=st.booleans())
    def look_up(self, pick: int, name: str, file_id: int, folder: bool) -> None:
        parent = self._folder(pick)
        found = set()
        for table in self.tables:
            above = table.get(parent or ROOT)
            assert above is not None
            found.add(add(table, above, name, file_id, folder=folder))
        assert len(found) == 1
        self.known += found

    @rule(pick=PICKS, count=st.integers(1, 3))
    def forget(self, pick: int, count: int) -> None:
        for table in self.tables:
            table.forget(self._pick(pick), count)

    @rule(pick=PICKS)
    def look_at(self, pick: int) -> None:
        one, other = (shown(table.get(self._pick(pick))) for table in self.tables)
        assert one == other

    @rule(pick=PICKS, name=NAMES)
    def look_for(self, pick: int, name: str) -> None:
        ino = self._folder(pick)
        folders = [table.get(ino or ROOT) for table in self.tables]
        one, other = (
            shown(table.child(folder, name)) for table, folder in zip(self.tables, folders, strict=True) if folder
        )
        assert one == other

    @rule(pick=PICKS)
    def change(self, pick: int) -> None:
        for table in self.tables:
            if (inode := table.get(self._pick(pick))) is not None:
                with table.changing(inode):
                    inode.time_was_set, inode.use_page_cache().stamp = True, (1, 2)

    @rule(pick=PICKS)
    def remove(self, pick: int) -> None:
        for table in self.tables:
            inode = table.get(self._pick(pick))
            if inode is not None and inode is not table.root:
                table.detach(inode)

    @rule(pick=PICKS, to=PICKS, name=NAMES)
    def rename(self, pick: int, to: int, name: str) -> None:
        folder = self._folder(to)
        for table in self.tables:
            inode, target = table.get(self._pick(pick)), table.get(folder or ROOT)
            if inode is None or target is None or inode.parent is None or inode in table.iter_ancestors(target):
                return
            table.rename(inode.parent, inode.name, target, name)

    @rule()
    def distrust_ids(self) -> None:
        for table in self.tables:
            table.forget_ids(SHARE)

    @rule()
    def sleep(self) -> None:
        for _ in range(3):
            self.tables[1]._pack_oldest()

    @invariant()
    def agrees(self) -> None:
        for table in self.tables:
            table.check_invariants()
        one, other = (table.statistics() for table in self.tables)
        assert (one.inodes, one.detached, one.lookups) == (other.inodes, other.detached, other.lookups)


TestSleep = Sleep.TestCase
TestSleep.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_nobody_holds_sleeps_and_what_somebody_holds_does_not() -> None:
    table = make_table(awake=1)
    numbers = [add(table, table.root, f"f{index}", index + 1) for index in range(5000)]
    held = table.get(numbers[17])
    opened = numbers[18]
    inode = table.get(opened)
    assert inode is not None
    table.hold(inode)
    del inode
    for index in range(5000, 10_000):
        add(table, table.root, f"f{index}", index + 1)
    assert table.statistics().packed > 9_900
    assert table.get(numbers[17]) is held
    inode = table.get(opened)
    assert inode is not None and inode.open_count == 1
    table.check_invariants()


def test_what_is_forgotten_gives_its_memory_back() -> None:
    table = make_table(awake=100)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        numbers = [add(table, table.root, f"file-{index:06}.txt", index + 1) for index in range(10_000)]
        held = tracemalloc.get_traced_memory()[0] - before
        random.shuffle(numbers)
        for ino in numbers:
            table.forget(ino, 1)
        del numbers
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(table) == 1 and table.statistics().lookups == 1
    assert held < 10_000 * 330, "the list of numbers, and 250 bytes for each node"
    assert left < 300_000


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_rows_are_found_whatever_comes_and_goes(count: int) -> None:
    hashes: dict[int, int] = {}
    index = RowIndex()
    chance = random.Random(count)
    for step in range(3 * count):
        if step % 3 < 2:
            hashes[step] = chance.choice([*(chance.randrange(2**64) for _ in range(9)), 256 * chance.randrange(3), 255])
            index.add(hashes[step], step)
        else:
            row = chance.choice(list(hashes))
            index.remove(hashes[row], row)
            del hashes[row]
    for row, hashed in hashes.items():
        assert index.find(hashed, row.__eq__) == row
    for row in list(hashes):
        index.remove(hashes[row], row)
        del hashes[row]
    assert index.find(255, lambda row: True) is None

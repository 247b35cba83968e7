"""The rule of what is believed beside changes made here, against a model that remembers everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from dfsfs.namespace.junction import Junction, Location
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.smb.wire.fscc import FileStat
from dfsfs.unc import UncPath
from dfsfs.vfs.names import ordering
from dfsfs.vfs.names.inodetable import Inode, InodeTable
from dfsfs.vfs.names.ordering import SLACK_NS, TICK_NS, EvictedInodes, LocalWrites

if TYPE_CHECKING:
    import pytest

SHARE = UncPath.parse("//fs/share")
NAMES = ("a", "A", "b", "c")


def stat(file_id: int, *, directory: bool = False) -> FileStat:
    kind = FileAttributes.FILE_ATTRIBUTE_DIRECTORY if directory else FileAttributes.FILE_ATTRIBUTE_ARCHIVE
    return FileStat(1, 1, 1, 1, kind, 0, 0, file_id, 1, 0)


def table_with_folder() -> tuple[InodeTable, Inode]:
    table = InodeTable(Location(Junction(SHARE)))
    folder = table.observe(table.root, "folder", stat(1, directory=True), SHARE, exact=True)
    table.count_lookup(folder)
    return table, folder


@dataclass
class History:
    """Every change with its beginning and its end, in steps of the history; None: it has not ended."""

    changes: dict[str, list[list[int | None]]] = field(default_factory=dict)

    def overlaps(self, name: str, asked: int) -> bool:
        return any(end is None or end >= asked for _, end in self.changes.get(name, ()))


STEPS = st.lists(st.tuples(st.sampled_from(["begin", "end", "ask", "forget"]), st.sampled_from(NAMES)), max_size=60)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_an_answer_is_overtaken_by_exactly_the_changes_that_overlap_it(steps: list[tuple[str, str]]) -> None:
    table = InodeTable(Location(Junction(SHARE)))
    inode = table.observe(table.root, "file", stat(2), SHARE, exact=True)
    table.count_lookup(inode)
    history, asked, under_way = History(), [], []
    for step, (what, _) in enumerate(steps):
        if what == "begin":
            under_way.append((table.begin_change(inode), [step, None]))
            history.changes.setdefault("", []).append(under_way[-1][1])
        elif what == "end" and under_way:
            moment, change = under_way.pop(0)
            table.end_change(inode, moment)
            change[1] = step
        elif what == "ask":
            asked.append((step, table.version))
        for when, moment in asked:
            assert inode.has_changed_since(moment) == history.overlaps("", when)
    for moment, _ in under_way:
        table.end_change(inode, moment)
    assert inode.pending_changes == 0


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_what_is_forgotten_to_have_changed_is_never_believed(steps: list[tuple[str, str]]) -> None:
    """Folders that leave memory, and more names than are remembered: an answer may be asked for once too often only."""
    with_limit = ordering.NAMES_MAX
    ordering.NAMES_MAX = 2
    try:
        table, folder = table_with_folder()
        history, asked, step = History(), [], 0
        for step, (what, name) in enumerate(steps):
            if what == "begin":
                with table.changing_name(folder, name):
                    history.changes.setdefault(name, []).append([step, step])
            elif what == "ask":
                asked.append((step, name, table.version))
            elif what == "forget":
                table.forget(folder.ino, 1)
                folder = table.observe(table.root, "folder", stat(1, directory=True), SHARE, exact=True)
                table.count_lookup(folder)
            for when, about, moment in asked:
                if history.overlaps(about, when):
                    assert table.has_name_changed_since(folder, about, moment)
    finally:
        ordering.NAMES_MAX = with_limit


def test_a_change_of_one_spelling_overtakes_what_was_asked_of_another() -> None:
    table, folder = table_with_folder()
    asked = table.version
    with table.changing_name(folder, "name"):
        assert table.is_name_changing(folder, "NAME")
    assert table.has_name_changed_since(folder, "Name", asked)
    assert not table.has_name_changed_since(folder, "other", asked)


def test_the_answer_of_a_change_is_good_if_no_other_was_under_way() -> None:
    table, folder = table_with_folder()
    one = table.begin_change(folder)
    assert table.end_change(folder, one)
    one = table.begin_change(folder)
    other = table.begin_change(folder)
    assert not table.end_change(folder, one)
    assert not table.end_change(folder, other)
    one = table.begin_change(folder)
    table.invalidate(folder)
    assert not table.end_change(folder, one)


def test_traces_that_are_dropped_raise_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "EVICTED_MAX", 2)
    traces = EvictedInodes()
    traces.add("a", 5)
    traces.add("b", 7)
    assert (traces.get_version("a"), traces.get_version("b"), traces.get_version("new"), traces.get_version(None)) == (
        5,
        7,
        0,
        0,
    )
    traces.add("c", 9)
    assert (traces.get_version("a"), traces.get_version("b"), traces.get_version("new")) == (5, 7, 5)
    traces.add(None, 8)
    assert (traces.get_version("b"), traces.get_version("c"), traces.get_version("new")) == (8, 9, 8)


@given(st.integers(10**9, 2**62), st.integers(0, 2**62))
def test_a_write_always_moves_the_time(now: int, before: int) -> None:
    own = LocalWrites(0)
    own.add_write(now, before)
    assert own.written != before or now - now % TICK_NS == before
    assert own.written % TICK_NS == 0 or 0 <= before - now < SLACK_NS
    first = own.written
    own.add_write(first, before)
    assert own.written > first

"""What is packed is what was put in."""

from __future__ import annotations

import stat as posix
import tracemalloc

import pytest

from dfsfs.smb.wire.fscc import DirEntry, FileStat
from dfsfs.smb.wire.reparse import SpecialFile
from dfsfs.unc import UncPath
from dfsfs.vfs.names import direntries
from dfsfs.vfs.names.dircache import Origin
from dfsfs.vfs.names.direntries import DirEntries, EntryPage, NameSet, key_of_name

SHARE = UncPath.parse("//fs1/data")
LINK = SpecialFile(posix.S_IFLNK, "target")


def entry(number: int, **more: object) -> DirEntry:
    values = {"ea_size": -1, "special": None, **more}
    stat = FileStat(number, 2, -3, 4, 0x20, 10 * number, 4096, number, 0, 0, **values)  # type: ignore[arg-type]
    return DirEntry(f"ä\ud800{number}" if number % 7 else f"{number}" * 40, stat)


def entries(count: int) -> list[DirEntry]:
    special = {3: entry(3, special=LINK), 4: entry(4, ea_size=2**70)}
    return [special.get(number, entry(number)) for number in range(count)]


@pytest.mark.parametrize("size", [1, 5, 100])
def test_entries_come_out_as_they_went_in(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direntries, "UNPACKED_MAX", 10)
    held, expected = DirEntries(), entries(500)
    for start in range(0, 500, size):
        held.add(EntryPage(expected[start : start + size], Origin(SHARE, start, 1.0)))
    assert [held[index][0] for index in range(500)] == expected
    assert all(held[index][1].asked == index - index % size for index in range(500))
    for each in expected:
        (found,) = [found for page in held.pages if (found := page.find(key_of_name(each.name), each.name))]
        assert found == each
    assert not any(page.has("nothing") for page in held.pages)
    held.drop_before(250)
    assert (held.start, held.stop) == (250 - 250 % size, 500)
    held.add(EntryPage(expected[:3], Origin(SHARE, 500, 1.0)))
    assert [held[index][0] for index in range(held.start, 503)] == [*expected[held.start :], *expected[:3]]


def test_an_empty_list() -> None:
    held = DirEntries()
    held.add(EntryPage([], Origin(SHARE, 0, 0.0)))
    assert (held.start, held.stop, list(held.pages)) == (0, 0, [])


def test_names_are_new_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direntries, "NAMES_PER_PACK", 10)
    names, expected = NameSet(), [each.name for each in entries(500)]
    assert all(map(names.add, expected))
    assert not any(map(names.add, expected))
    assert len(names) == 500


def test_what_a_large_listing_takes() -> None:
    count = 30_000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        held, names = DirEntries(), NameSet()
        for start in range(0, count, 1000):
            batch = [entry(number) for number in range(start, start + 1000)]
            held.add(EntryPage([each for each in batch if names.add(each.name)], Origin(SHARE, 0, 1.0)))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 2 * direntries.UNPACKED_MAX * 700 + count * 160

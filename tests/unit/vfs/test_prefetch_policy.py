"""Guessing which file comes next."""

from __future__ import annotations

import random

from dfsfs.smb.wire.fscc import DirEntry, FileStat
from dfsfs.vfs.data.prefetch_policy import FIRST_AHEAD, MAX_AHEAD, Walk

STAT = FileStat(1, 1, 1, 1, 0, 10, 0, 1, 1, 0)
SORTED = [f"file{index:04}" for index in range(400)]
LISTED = random.Random(1).sample(SORTED, len(SORTED))


def walk_of(names: list[str]) -> Walk:
    return Walk([DirEntry(name, STAT) for name in names])


def follow(walk: Walk, names: list[str]) -> list[list[str]]:
    return [[entry.name for entry in walk.note_open(name)] for name in names]


def test_nothing_is_guessed_from_one_open() -> None:
    assert follow(walk_of(LISTED), [SORTED[100]]) == [[]]


def test_the_second_neighbour_gets_the_next_ones_fetched() -> None:
    for names in (LISTED, SORTED):
        assert follow(walk_of(LISTED), names[50:52]) == [[], names[52 : 52 + FIRST_AHEAD]]
    assert follow(walk_of(LISTED), LISTED[:1]) == [LISTED[1 : 1 + FIRST_AHEAD]], "nobody begins there by chance"


def test_a_program_that_goes_through_the_folder_gets_every_file_once_and_early() -> None:
    for names in (LISTED, SORTED):
        fetched: list[str] = []
        late = []
        walk = walk_of(LISTED)
        for name in names:
            if name not in fetched:
                late.append(name)
            fetched += [entry.name for entry in walk.note_open(name)]
        assert len(fetched) == len(set(fetched))
        assert len(late) <= 2
        assert set(fetched) | set(late) == set(names)


def test_no_more_than_some_are_ahead() -> None:
    walk, fetched = walk_of(SORTED), 0
    for opened, name in enumerate(SORTED, 1):
        fetched += len(walk.note_open(name))
        assert fetched <= opened + MAX_AHEAD


def test_opens_without_order_fetch_next_to_nothing() -> None:
    names = random.Random(2).sample(SORTED, len(SORTED))
    assert sum(map(len, follow(walk_of(LISTED), names))) < len(names) / 10


def test_a_little_disorder_is_no_wrong_guess() -> None:
    walk = walk_of(SORTED)
    follow(walk, SORTED[:40])
    assert sum(map(len, follow(walk, [SORTED[41], SORTED[40], SORTED[43], SORTED[42], *SORTED[44:120]]))) >= 60


def test_a_new_listing_goes_on_where_the_last_one_was() -> None:
    first = walk_of(SORTED)
    before = [name for names in follow(first, SORTED[:100]) for name in names]
    second = walk_of([name for name in SORTED if name != SORTED[200]])
    second.resume(first)
    after = [name for names in follow(second, SORTED[100:150]) for name in names]
    assert not set(before) & set(after)
    assert after[0] == SORTED[len(before) + 1]
    second.resume(walk_of([]))

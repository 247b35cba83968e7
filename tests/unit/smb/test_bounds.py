"""How long a server may go on: honest listings, also those that are read again, and all ways of not ending one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import Disposition, EndlessAnswer
from dfsfs.smb.tree.bounds import (
    BARREN_SECONDS,
    MAX_BARREN,
    MAX_BYTES,
    MAX_EMPTY,
    MAX_ENTRIES,
    MAX_REPEATED,
    ListingBounds,
    Novelty,
)
from tests.conftest import OFTEN


def rounds_until_the_end(bounds: ListingBounds, entries: int, size: int) -> int:
    rounds = itertools.count()
    with pytest.raises(EndlessAnswer) as caught:
        for _ in rounds:
            bounds.take(entries, size)
    assert caught.value.disposition is Disposition.RETURN
    return next(rounds) - 1


def test_a_listing_has_so_many_entries_and_bytes_and_empty_answers() -> None:
    assert rounds_until_the_end(ListingBounds("it"), 1000, 100) == MAX_ENTRIES // 1000
    assert rounds_until_the_end(ListingBounds("it"), 1, 1 << 20) == MAX_BYTES >> 20
    assert rounds_until_the_end(ListingBounds("it"), 0, 100) == MAX_EMPTY


@OFTEN
@given(st.lists(st.integers(0, 3000), max_size=200), st.integers(1, 1 << 20))
def test_no_listing_goes_beyond_its_bounds(answers: list[int], size: int) -> None:
    bounds, taken, empty = ListingBounds("it"), 0, 0
    for entries in answers:
        empty = 0 if entries else empty + 1
        taken += entries
        if empty > MAX_EMPTY:
            with pytest.raises(EndlessAnswer):
                bounds.take(entries, size)
            return
        bounds.take(entries, size)
    assert taken <= MAX_ENTRIES


@OFTEN
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50), st.floats(0, 1000))
def test_a_listing_that_is_read_again_may_name_everything_again(answers: list[int], pause: float) -> None:
    novelty = Novelty("it")
    for index, entries in enumerate(answers):
        novelty.take(entries, 0, index * pause)
    novelty.restart(sum(answers))
    for index, entries in enumerate(answers):
        novelty.take(0, entries, index * pause)
    novelty.take(1, 0, 0.0)


def test_names_may_not_come_again_and_again() -> None:
    novelty = Novelty("it")
    novelty.take(100, 0, 0.0)
    with pytest.raises(EndlessAnswer, match="come again"):
        for _ in range(MAX_REPEATED // 1000 + 1):
            novelty.take(1, 1000, 0.0)


def test_answers_without_a_new_name_are_counted() -> None:
    novelty = Novelty("it")
    for _ in range(3):
        novelty.take(1, 0, 0.0)
        for _ in range(MAX_BARREN):
            novelty.take(0, 1, 0.0)
    with pytest.raises(EndlessAnswer, match="no new name"):
        novelty.take(0, 1, 0.0)


def test_a_slow_server_has_so_long_to_say_something_new() -> None:
    novelty = Novelty("it")
    novelty.take(0, 1, 100.0)
    novelty.take(0, 1, 100.0 + BARREN_SECONDS)
    with pytest.raises(EndlessAnswer):
        novelty.take(0, 1, 100.1 + BARREN_SECONDS)

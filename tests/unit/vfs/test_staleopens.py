"""Which ESTALE is the first one of an open, and which the second."""

from __future__ import annotations

from dfsfs.vfs.data import staleopens
from dfsfs.vfs.data.staleopens import MEMORY, StaleOpens


def test_the_second_one_within_a_while_is_told_from_the_first() -> None:
    now = [0.0]
    names = StaleOpens(lambda: now[0])
    assert not names.note_stale(1, "f")
    assert not names.note_stale(2, "f") and not names.note_stale(1, "g")
    assert names.note_stale(1, "f")
    assert not names.note_stale(1, "f"), "that was another open"
    now[0] += MEMORY
    assert not names.note_stale(1, "f")


def test_an_open_that_succeeds_ends_it() -> None:
    names = StaleOpens(lambda: 0.0)
    assert not names.note_stale(1, "f")
    names.note_open(1, "f")
    assert not names.note_stale(1, "f")


def test_only_some_are_remembered() -> None:
    names = StaleOpens(lambda: 0.0)
    assert not names.note_stale(0, "first")
    for process in range(staleopens.LIMIT):
        names.note_stale(process, "f")
    assert not names.note_stale(0, "first")

"""The first few of things without end."""

from __future__ import annotations

from dfsfs.firstfew import FirstFew


def test_the_first_ones_are_new_once_and_all_others_never() -> None:
    few = FirstFew[int](3)
    assert [few.take(number) for number in (1, 1, 2, 3, 4, 2, 5, 4)] == [
        True, False, True, True, False, False, False, False,
    ]  # fmt: skip
    assert [number for number in range(9) if number in few] == [1, 2, 3]

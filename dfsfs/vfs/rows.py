"""RowIndex: finds rows of a compact table by a hash, in eight bytes a row or so.

A dict takes some 100 bytes for each number that it finds something by, most of them for the number. Here a row is found
by a hash that is made of the row itself, so nothing is kept but the row's own number. The table is cut into shards by
the lowest bits of the hash: one that grows or shrinks holds nobody up for more than some milliseconds, with a million
rows.

Pure.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDS = 256
SMALLEST = 8
"""Slots of a shard with a row in it."""
_ROW = "I"
"""Rows are numbers of 32 bits, less one: 0 is a free slot."""


class RowIndex:
    """See the module's text. `hash_of` gives the hash that a row of the table is found by, not negative: whoever has
    the table has this, too, and that the two do not know each other lets both go when the one goes.
    """

    def __init__(self) -> None:
        self._shards: list[array[int] | None] = [None] * SHARDS
        self._counts = [0] * SHARDS

    def find(self, hashed: int, is_it: Callable[[int], bool]) -> int | None:
        """The row with a hash for which `is_it` holds."""
        shard = self._shards[hashed % SHARDS]
        if shard is None:
            return None
        mask = len(shard) - 1
        at = (hashed // SHARDS) & mask
        while found := shard[at]:
            if is_it(found - 1):
                return found - 1
            at = (at + 1) & mask
        return None

    def add(self, hashed: int, row: int, hash_of: Callable[[int], int]) -> None:
        """Takes in a row, which is in the table already."""
        number = hashed % SHARDS
        shard = self._shards[number]
        if shard is None:
            shard = self._shards[number] = _free_slots(SMALLEST)
        count = self._counts[number] = self._counts[number] + 1
        if 3 * count > 2 * len(shard):
            shard = self._resized(number, 2 * len(shard), hash_of)
        _put(shard, hashed, row)

    def remove(self, hashed: int, row: int, hash_of: Callable[[int], int]) -> None:
        """Lets go of a row, which is still in the table."""
        number = hashed % SHARDS
        shard = self._shards[number]
        assert shard is not None, "the row is not in the index"
        mask = len(shard) - 1
        at = (hashed // SHARDS) & mask
        while shard[at] != row + 1:
            assert shard[at], "the row is not in the index"
            at = (at + 1) & mask
        _close_gap(shard, at, hash_of)
        self._counts[number] -= 1
        if not self._counts[number]:
            self._shards[number] = None
        elif len(shard) > SMALLEST and 8 * self._counts[number] < len(shard):
            self._resized(number, len(shard) // 4, hash_of)

    def _resized(self, number: int, size: int, hash_of: Callable[[int], int]) -> array[int]:
        old = self._shards[number] or ()
        shard = self._shards[number] = _free_slots(max(SMALLEST, size))
        for found in old:
            if found:
                _put(shard, hash_of(found - 1), found - 1)
        return shard


def _free_slots(count: int) -> array[int]:
    return array(_ROW, bytes(array(_ROW).itemsize * count))


def _put(shard: array[int], hashed: int, row: int) -> None:
    mask = len(shard) - 1
    at = (hashed // SHARDS) & mask
    while shard[at]:
        at = (at + 1) & mask
    shard[at] = row + 1


def _close_gap(shard: array[int], gap: int, hash_of: Callable[[int], int]) -> None:
    """Frees a slot, and moves up what is behind it only because that was taken."""
    mask, at = len(shard) - 1, gap
    while True:
        at = (at + 1) & mask
        if not shard[at]:
            break
        home = hash_of(shard[at] - 1) // SHARDS & mask
        if (at - home) & mask >= (at - gap) & mask:
            shard[gap], gap = shard[at], at
    shard[gap] = 0

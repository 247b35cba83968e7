"""RowIndex: finds rows of a compact table by a hash, in 12 to 48 bytes a row.

A dict takes some 100 bytes for each number that it finds something by, most of them for the number. This index keeps
the row's own number and 32 bits of the hash. It is cut into shards by the lowest bits of the hash: with a million rows,
the loop stands still for some milliseconds at most while one of them grows or shrinks.

Pure.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDS = 256
SMALLEST = 8
"""Slots of a shard that has rows, at least."""
GROWTH = 4
"""The factor by which a shard grows. With 2, most of the time of adding rows goes into growing."""
_SLOT = "Q"
"""The array type of a slot: 32 bits of the hash, and the row's number plus one in 32 bits. 0 is a free slot."""
_LOW = 0xFFFFFFFF


class RowIndex:
    """See the module's text. 40 bits of a hash, which must not be negative, are used."""

    def __init__(self) -> None:
        self._shards: list[array[int] | None] = [None] * SHARDS
        self._counts = [0] * SHARDS

    def find(self, hashed: int, is_it: Callable[[int], bool]) -> int | None:
        """The row with a hash for which `is_it` returns True; None if there is none."""
        shard = self._shards[hashed % SHARDS]
        if shard is None:
            return None
        mask, tag = len(shard) - 1, hashed // SHARDS & _LOW
        at = tag & mask
        while slot := shard[at]:
            if slot >> 32 == tag and is_it((slot & _LOW) - 1):
                return (slot & _LOW) - 1
            at = (at + 1) & mask
        return None

    def add(self, hashed: int, row: int) -> None:
        """Adds a row."""
        number = hashed % SHARDS
        shard = self._shards[number]
        if shard is None:
            shard = self._shards[number] = _free_slots(SMALLEST)
        count = self._counts[number] = self._counts[number] + 1
        if 3 * count > 2 * len(shard):
            shard = self._resized(number, GROWTH * len(shard))
        # `_put`, inlined: it runs for every file of a large directory.
        mask, tag = len(shard) - 1, hashed // SHARDS & _LOW
        at = tag & mask
        while shard[at]:
            at = (at + 1) & mask
        shard[at] = tag << 32 | row + 1

    def remove(self, hashed: int, row: int) -> None:
        """Removes a row, which must be in the index."""
        number = hashed % SHARDS
        shard = self._shards[number]
        assert shard is not None, "the row is not in the index"
        mask, slot = len(shard) - 1, (hashed // SHARDS & _LOW) << 32 | row + 1
        at = slot >> 32 & mask
        while shard[at] != slot:
            assert shard[at], "the row is not in the index"
            at = (at + 1) & mask
        _close_gap(shard, at)
        self._counts[number] -= 1
        if not self._counts[number]:
            self._shards[number] = None
        elif len(shard) > SMALLEST and 12 * self._counts[number] < len(shard):
            self._resized(number, len(shard) // GROWTH)

    def _resized(self, number: int, size: int) -> array[int]:
        old = self._shards[number] or ()
        shard = self._shards[number] = _free_slots(max(SMALLEST, size))
        for slot in old:
            if slot:
                _put(shard, slot)
        return shard


def _free_slots(count: int) -> array[int]:
    return array(_SLOT, bytes(8 * count))


def _put(shard: array[int], slot: int) -> None:
    mask = len(shard) - 1
    at = slot >> 32 & mask
    while shard[at]:
        at = (at + 1) & mask
    shard[at] = slot


def _close_gap(shard: array[int], gap: int) -> None:
    """Frees a slot, and moves up those behind it that were displaced by it."""
    mask, at = len(shard) - 1, gap
    while True:
        at = (at + 1) & mask
        if not shard[at]:
            break
        if (at - (shard[at] >> 32)) & mask >= (at - gap) & mask:
            shard[gap], gap = shard[at], at
    shard[gap] = 0

"""Walk: which files of a directory a program is likely to open next.

`cat *`, `grep -r`, `tar c` and `rsync` open the files of a directory one after the other, in the order of its listing
or in that of their names. After two neighbours the next ones are fetched, twice as many each time that the guess was
right, up to MAX_AHEAD. After a wrong guess it begins anew.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.wire.fscc import DirEntry

FIRST_AHEAD = 2
"""Files that are fetched ahead at first."""
MAX_AHEAD = 64
"""Files that are fetched ahead at most."""


@dataclass(slots=True)
class Order:
    """The files of a directory in one order, and how far a program has come in it."""

    names: list[str]
    lookup: dict[str, int] = field(default_factory=dict)
    at: int = -1
    ahead: int = 0
    """How many files after the last one are fetched; 0 without a guess."""
    until: int = 0
    """The index behind the last file that was given out to be fetched."""

    def __post_init__(self) -> None:
        self.lookup = {name: place for place, name in enumerate(self.names)}

    def note_open(self, name: str) -> Sequence[str]:
        """Records an open and returns the names to fetch now."""
        place = self.lookup.get(name)
        if place is None or place == self.at:
            return ()
        # A program with several threads, or one that leaves some files out, is a little out of order.
        if not (self.at < place <= self.at + 3 or (self.ahead and self.at - 3 <= place <= self.at)):
            self.at, self.ahead, self.until = place, 0, 0
            return ()
        self.at = max(self.at, place)
        self.ahead = min(self.ahead * 2 or FIRST_AHEAD, MAX_AHEAD)
        begin = max(self.until, self.at + 1)
        if self.until and begin - self.at > self.ahead // 2 + 1:
            return ()  # enough is on its way; the next ones are sent together
        self.until = min(self.at + 1 + self.ahead, len(self.names))
        return self.names[begin : self.until]

    def resume(self, earlier: Order) -> None:
        """Takes over how far the program has come in an earlier list of the directory, if that file is still there."""
        place = self.lookup.get(earlier.names[earlier.at], -1) if earlier.at >= 0 else -1
        if place >= 0:
            self.at, self.ahead = place, earlier.ahead
            self.until = self.lookup.get(earlier.names[earlier.until - 1], place) + 1 if earlier.until else 0


class Walk:
    """The guesses for one directory. `entries`: its small files, in the order of its listing."""

    def __init__(self, entries: Sequence[DirEntry]) -> None:
        names = [entry.name for entry in entries]
        self._entries = dict(zip(names, entries, strict=True))
        self._orders = [Order(names)]
        by_name = sorted(names)
        if by_name != names:
            self._orders.append(Order(by_name))

    def note_open(self, name: str) -> list[DirEntry]:
        """Records an open and returns the files to fetch now."""
        guesses = [(order.note_open(name), order.ahead) for order in self._orders]
        names, _ = max(guesses, key=lambda guess: guess[1])
        return [self._entries[each] for each in names]

    def resume(self, earlier: Walk) -> None:
        """Goes on where the guesses from an earlier listing of the directory have come to."""
        for order, before in zip(self._orders, earlier._orders, strict=False):
            order.resume(before)

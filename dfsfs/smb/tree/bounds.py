"""Bounds: how long a server may go on answering one question.

A listing is asked for piece by piece until the server says that there is no more, so a server that never says so would
be asked for ever. `ListingBounds` counts what comes and ends it: by its entries, by its bytes, and by answers that
bring nothing; `Novelty` counts names that come again. What one answer takes in time is bounded by the connection, what
a program waits for by the deadline of its call.

Pure.
"""

from __future__ import annotations

from dfsfs.errors import EndlessAnswer

MAX_ENTRIES = 1_000_000
"""Entries of one listing: each is a file that the kernel knows from then on, until it needs the memory."""
MAX_BYTES = 512 * 1024 * 1024
"""Bytes of its answers: enough for that many entries with names of 200 characters."""
MAX_EMPTY = 8
"""Answers in a row without a single entry. A server that has none says NO_MORE_FILES (MS-SMB2 3.3.5.18)."""
MAX_BARREN = 64
"""Answers in a row without a new name, in a listing that is not read once more after a lost connection."""
BARREN_SECONDS = 15.0
"""Seconds in which answers come, and no new name in them."""
MAX_REPEATED = 10_000
"""Names that come again in one listing: a folder that is changed meanwhile may name a file twice."""
SNAPSHOT_ROUNDS = 4
"""Times that a list of snapshots is asked for with more room."""


class ListingBounds:
    """The bounds of one listing. `what` names it in the error."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries = self._bytes = self._empty = 0

    def take(self, entries: int, size: int) -> None:
        """Counts one answer: its entries and its bytes.

        Raises:
            EndlessAnswer: it is one too many.
        """
        self._entries += entries
        self._bytes += size
        self._empty = 0 if entries else self._empty + 1
        if self._entries > MAX_ENTRIES or self._bytes > MAX_BYTES:
            raise EndlessAnswer(f"{self._what} does not end: {self._entries} entries of {self._bytes} bytes so far")
        if self._empty > MAX_EMPTY:
            raise EndlessAnswer(f"{self._what} does not end: {self._empty} answers in a row had no entry")


class Novelty:
    """Whether a listing brings new names. It is read from its beginning once more after a lost connection: names that
    were known at that time may all come again, once.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._known = self._again = self._barren = 0
        self._since: float | None = None

    def restart(self, known: int) -> None:
        """The listing is read from its beginning, and so many of its names are known."""
        self._known, self._again, self._barren, self._since = known, 0, 0, None

    def take(self, new: int, again: int, now: float) -> None:
        """Counts one answer: how many of its names are new, and how many are not. `now`: any monotonic clock.

        Raises:
            EndlessAnswer: there have been too many without anything new.
        """
        self._again += again
        if new or (again and self._again <= self._known):
            self._barren, self._since = 0, None
        else:
            self._barren += 1
            self._since = now if self._since is None else self._since
        if self._again > self._known + MAX_REPEATED:
            raise EndlessAnswer(f"{self._what} does not end: {self._again} names have come again")
        if self._barren > MAX_BARREN or (self._since is not None and now - self._since > BARREN_SECONDS):
            raise EndlessAnswer(f"{self._what} does not end: {self._barren} answers in a row had no new name")

"""Bounds for loops that a server ends: listings and lists of snapshots.

A directory is read piece by piece until the server says NO_MORE_FILES, and a server may never say so. `ListingBounds`
ends a listing by its entries, by its bytes, and by responses without entries; `ListingProgress` by repeated names. The
time of one response is bounded by the connection, the time that a program waits by the deadline of its request.

Pure.
"""

from __future__ import annotations

from dfsfs.errors import EndlessAnswer

MAX_ENTRIES = 1_000_000
"""The most entries of one listing. The kernel keeps an inode for each until it needs the memory."""
MAX_BYTES = 512 * 1024 * 1024
"""The most bytes of all responses of one listing: enough for MAX_ENTRIES with names of 200 characters."""
MAX_EMPTY = 8
"""The most responses in a row without an entry. A server that has none says NO_MORE_FILES (MS-SMB2 3.3.5.18)."""
MAX_ANSWERS_WITHOUT_NEW_NAMES = 64
"""The most responses in a row without a new name."""
MAX_SECONDS_WITHOUT_NEW_NAMES = 15.0
"""The most seconds in which all responses have no new name."""
MAX_REPEATED = 10_000
"""The most names that are repeated in one listing: in a directory that changes meanwhile a name may come twice."""
SNAPSHOT_ROUNDS = 4
"""How often a list of snapshots is requested, each time with more room."""


class ListingBounds:
    """Counts the responses of one listing. `what` names it in the error."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries = self._bytes = self._empty = 0

    def take(self, entries: int, size: int) -> None:
        """Counts one response: its entries and its bytes.

        Raises:
            EndlessAnswer: a bound is exceeded.
        """
        self._entries += entries
        self._bytes += size
        self._empty = 0 if entries else self._empty + 1
        if self._entries > MAX_ENTRIES or self._bytes > MAX_BYTES:
            raise EndlessAnswer(f"{self._what} does not end: {self._entries} entries of {self._bytes} bytes so far")
        if self._empty > MAX_EMPTY:
            raise EndlessAnswer(f"{self._what} does not end: {self._empty} answers in a row had no entry")


class ListingProgress:
    """Counts new and repeated names of a listing. After a lost connection it is read again from the beginning, and all
    names that were known then may be repeated once.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._known = self._repeated = self._answers_without_new = 0
        self._since: float | None = None

    def restart(self, known: int) -> None:
        """To be called when the listing is read again from the beginning. `known`: how many names are known."""
        self._known, self._repeated, self._answers_without_new, self._since = known, 0, 0, None

    def take(self, new: int, repeated: int, now: float) -> None:
        """Counts one response by its new and repeated names. `now`: seconds of any monotonic clock.

        Raises:
            EndlessAnswer: a bound is exceeded.
        """
        self._repeated += repeated
        if new or (repeated and self._repeated <= self._known):
            self._answers_without_new, self._since = 0, None
        else:
            self._answers_without_new += 1
            self._since = now if self._since is None else self._since
        if self._repeated > self._known + MAX_REPEATED:
            raise EndlessAnswer(f"{self._what} does not end: {self._repeated} names have come again")
        if self._answers_without_new > MAX_ANSWERS_WITHOUT_NEW_NAMES or (
            self._since is not None and now - self._since > MAX_SECONDS_WITHOUT_NEW_NAMES
        ):
            raise EndlessAnswer(
                f"{self._what} does not end: {self._answers_without_new} answers in a row had no new name"
            )

"""LookupRate: when a directory is listed for the sake of names that are looked up in it, and how far.

To ask for a name costs about as much as to list ENTRIES_PER_LOOKUP entries. What programs look up in a large directory
comes in one of three ways:

    in the order of a listing    most programs: what was asked for last leads on in the listing, however large it is
    in any other order           worth a whole listing if that comes in time to be believed for a while
    a few names                  not worth one

Which it is cannot be known before, so a listing is begun after a few names, read on as long as it has been of use, and
begun the later the more often it was not: what is listed in vain costs less than what was asked for.

Pure: the time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.vfs.names.dircache import CachedDirectory

LOOKUPS_MIN = 3
"""Names that are looked up alone, within the lifetime of a listing, before a directory is listed."""
ENTRIES_PER_LOOKUP = 50
"""Entries that are listed at the cost of one name that is asked for alone."""
AT_ONCE = 1500
"""Entries that are listed whenever a listing is begun: all of most directories, in one round trip."""
UNKNOWN_SIZE = 20_000
"""Entries that are listed of a directory of which it is not known how many it has, as long as a name is not found."""
FAILURES_MAX = 8
"""How often the number of names before the next listing is doubled."""
PATIENCE = 0.5
"""The part of a listing's lifetime that it may take if it is read as a whole."""


@dataclass(slots=True, eq=False)
class LookupRate:
    """How many names of a directory are looked up one by one, and what listings have brought."""

    size: int = 0
    """Entries at the last listing, as far as it came; 0: not known."""
    since: float = float("-inf")
    """When counting began, in seconds of the clock."""
    count: int = 0
    """Names that were asked for alone since then."""
    misses: int = 0
    """Those of them since the last one that a listing had an answer for."""
    failures: int = 0
    """How many listings in a row were of no use."""
    last: CachedDirectory | None = None
    """The last listing that was made for the sake of names."""
    hits: int = 0
    """For how many names that had an answer when a name was asked for alone last."""
    began: float = float("-inf")
    """When it was begun."""
    is_repeated: bool = False
    """Whether the one before it was of use, not long ago."""
    seconds_per_entry: float = 0.0
    """What listings take."""

    def add_lookup(self, now: float, lifetime: float) -> None:
        """Counts a name that has to be asked for. Times in seconds."""
        if now - self.since >= lifetime:
            if now - self.since >= FAILURES_MAX * lifetime:
                self.failures = 0  # it may be another program by now
            self.since, self.count, self.misses = now, 0, 0
        if self.last is not None and self.last.hits != self.hits:
            self.misses, self.hits = 0, self.last.hits
        self.count += 1
        self.misses += 1

    def is_due(self) -> bool:
        """Whether a listing is to be begun, from the start."""
        failures = self.failures + (self.last is not None and not self.was_useful())
        return self.misses > LOOKUPS_MIN << min(failures, FAILURES_MAX)

    def begin(self, listing: CachedDirectory, now: float, lifetime: float) -> None:
        """A listing is begun."""
        if self.last is not None:
            useful = self.was_useful()
            self.failures = 0 if useful else min(self.failures + 1, FAILURES_MAX)
            if not useful:
                self.size = max(self.size, 2 * self.last.taken)  # it has more than was listed in time
            self.is_repeated = useful and now - self.began < FAILURES_MAX * lifetime
        self.last, self.began, self.hits = listing, now, 0

    def was_useful(self) -> bool:
        """Whether the last listing had answers for as many names as would have cost as much."""
        last = self.last
        return last is not None and last.hits > 0 and last.hits * ENTRIES_PER_LOOKUP >= last.taken

    def is_worth_reading(self, now: float, lifetime: float) -> bool:
        """Whether the last listing is to be read on though nothing says that the name that is looked up comes next."""
        read = 0 if self.last is None else self.last.taken
        longest = PATIENCE * lifetime
        if now - self.began > longest or self.size * self.seconds_per_entry > longest:
            return False
        if self.is_repeated or (self.size == 0 and read < UNKNOWN_SIZE):
            return True
        return self.count * ENTRIES_PER_LOOKUP > max(self.size, read)

    def note_page(self, entries: int, seconds: float) -> None:
        """A page of so many entries was read in so many seconds."""
        if entries:
            self.seconds_per_entry += (seconds / entries - self.seconds_per_entry) / 4

"""What a mount measures of itself: how long each kind of request takes, how many fail, how many bytes go by.

A latency costs one addition to a list. It is counted in buckets of which there are four for each power of two
microseconds, so a percentile is too high by a fifth at most.

Pure.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FINE = 2
"""The bits of a number of microseconds, after its first one, that tell buckets apart."""
_BUCKETS = 160
"""The last one ends at 18 hours."""


def _bucket(microseconds: int) -> int:
    length = microseconds.bit_length()
    if length <= _FINE:
        return microseconds
    return min(
        _BUCKETS - 1, ((length - _FINE) << _FINE) + ((microseconds >> (length - _FINE - 1)) & ((1 << _FINE) - 1))
    )


def _end(bucket: int) -> int:
    """The first number of microseconds beyond a bucket."""
    octave, part = bucket >> _FINE, bucket & ((1 << _FINE) - 1)
    return bucket + 1 if octave == 0 else ((1 << _FINE) + part + 1) << (octave - 1)


@dataclass(slots=True, eq=False)
class Latencies:
    """How long one kind of request took, in seconds."""

    count: int = 0
    total: float = 0.0
    longest: float = 0.0
    failed: int = 0
    _buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def note(self, seconds: float) -> None:
        """Takes note of one request."""
        self.count += 1
        self.total += seconds
        if seconds > self.longest:
            self.longest = seconds
        self._buckets[_bucket(int(seconds * 1e6))] += 1

    def percentile(self, percent: float) -> float:
        """How long so many percent of the requests took at most, in seconds; 0 if there was none."""
        wanted, seen = self.count * percent / 100, 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(_end(bucket) / 1e6, self.longest)
        return 0.0

    def cumulative(self, bounds: tuple[float, ...]) -> Iterator[tuple[float, int]]:
        """For each of the bounds, in seconds and rising, how many requests took no longer, as far as buckets tell."""
        bucket, seen = 0, 0
        for bound in bounds:
            while bucket < _BUCKETS and _end(bucket) <= bound * 1e6 + 1:
                seen += self._buckets[bucket]
                bucket += 1
            yield bound, seen


@dataclass(slots=True, eq=False)
class Meters:
    """The meters of one mount."""

    latencies: dict[str, Latencies] = field(default_factory=dict)
    """By the name of the request, as FUSE has it."""
    errors: Counter[str] = field(default_factory=Counter)
    """What programs were told, by the names of errno."""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def requests(self) -> int:
        """How many requests have been answered."""
        return sum(each.count for each in self.latencies.values())

    def failed(self, request: str, number: int) -> None:
        """Takes note that a request ended with an error number of errno(3)."""
        self.of(request).failed += 1
        self.errors[errno.errorcode.get(number, str(number))] += 1

    def of(self, request: str) -> Latencies:
        """The latencies of one kind of request."""
        known = self.latencies.get(request)
        if known is None:
            known = self.latencies[request] = Latencies()
        return known

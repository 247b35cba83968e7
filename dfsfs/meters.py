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
"""How many bits of a number of microseconds, after its first one, select the bucket within a power of two."""
_BUCKETS = 160
"""How many buckets there are. The last one begins at 22 days."""


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
    """How long the requests of one kind took. Times in seconds."""

    count: int = 0
    total: float = 0.0
    longest: float = 0.0
    failures: int = 0
    _buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def record(self, seconds: float) -> None:
        """Counts one request."""
        self.count += 1
        self.total += seconds
        if seconds > self.longest:
            self.longest = seconds
        self._buckets[_bucket(int(seconds * 1e6))] += 1

    def percentile(self, percent: float) -> float:
        """How long so many percent of the requests took at most, in seconds; 0 if there was none."""
        wanted, counted = self.count * percent / 100, 0
        for bucket, count in enumerate(self._buckets):
            counted += count
            if count and counted >= wanted:
                return min(_end(bucket) / 1e6, self.longest)
        return 0.0

    def cumulative(self, bounds: tuple[float, ...]) -> Iterator[tuple[float, int]]:
        """For each of the bounds, in seconds and rising, how many requests took no longer, as far as buckets tell."""
        bucket, counted = 0, 0
        for bound in bounds:
            while bucket < _BUCKETS and _end(bucket) <= bound * 1e6 + 1:
                counted += self._buckets[bucket]
                bucket += 1
            yield bound, counted


@dataclass(slots=True, eq=False)
class Meters:
    """The meters of one mount."""

    latencies: dict[str, Latencies] = field(default_factory=dict)
    """By the name of the request, as FUSE has it."""
    errors: Counter[str] = field(default_factory=Counter)
    """How often a request ended with an error, by the error's name in errno(3)."""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def requests(self) -> int:
        """How many requests have been answered."""
        return sum(each.count for each in self.latencies.values())

    def record_error(self, request: str, number: int) -> None:
        """Counts a request that ended with an error number of errno(3)."""
        self.get_latencies(request).failures += 1
        self.errors[errno.errorcode.get(number, str(number))] += 1

    def get_latencies(self, request: str) -> Latencies:
        """The latencies of one kind of request, by its name in FUSE."""
        known = self.latencies.get(request)
        if known is None:
            known = self.latencies[request] = Latencies()
        return known

"""Which parts of a file a program will read next: the policy of reading ahead.

A file is read in streams: positions that move forward without gaps. There may be several in one file, interleaved. For
each, as much as its window is asked for ahead of its position. The window begins small and doubles with every read that
goes on where the last one ended, up to FULL. Beyond that it doubles when the program had to wait all the same, as long
as answers are not slower than the fastest one by much: then the line holds more than the window. When they are, they
wait for each other, and a larger window would only keep more data out of the processor's cache.

Reads of one stream may come in another order than the program made them, as the kernel sends several at once. So a read
a little before or after the position belongs to the stream. It counts once there is no gap before it.

A stream that is not read from while others are is one that the program has left by a seek.

Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SMALL = 256 * 1024
"""Bytes of the first window."""
FULL = 2 * 1024 * 1024
"""Bytes of a window that grows without proof that it has to. With 4 MiB a server on the same machine is read at 1,100
MB/s, with 8 MiB at 750."""
SLOWER = 2.0
"""How many times as long as the fastest answer one may take that does not wait for others."""
LIMIT = 32 * 1024 * 1024
"""Bytes of the largest window: what 1 Gbit/s carries in a quarter of a second."""
SEGMENT = 1024 * 1024
"""Bytes that are asked for at once, at most."""
STREAMS = 8
"""Positions that are followed in one file."""
EARLY = 16
"""Reads behind a gap that may be waiting for the one that fills it. More are no order at all."""
LEFT = 16
"""Reads elsewhere in the file after which a stream counts as left."""
DISORDER = 4 * 1024 * 1024
"""Bytes by which a read may be late: as many as the kernel reads ahead itself."""


@dataclass(slots=True, eq=False)
class Stream:
    """A position that moves forward."""

    position: int
    """The end of the furthest read."""
    ahead: int
    """The end of what was asked for."""
    window: int = 0
    size: int = SEGMENT
    """Bytes of the last read."""
    last: int = 0
    """Which read of the file was the last one here."""
    fastest: float = math.inf
    """Seconds that the fastest answer took."""
    grown: float = -math.inf
    """When the window was doubled because the program had to wait."""
    complete: int = field(init=False)
    """The end of what was read without a gap."""
    _early: dict[int, int] = field(default_factory=dict)
    """Reads behind a gap: where they begin and end."""

    def __post_init__(self) -> None:
        self.complete = self.position

    def follows(self, offset: int) -> bool:
        """Whether a read at `offset` is part of the stream."""
        return self.position - DISORDER <= offset <= max(self.position, self.ahead) + SEGMENT

    def read(self, offset: int, size: int, limit: int) -> None:
        """Takes note of a read. `limit`: bytes that the window may have now."""
        if offset == self.complete:
            self.complete = offset + size
            while self.complete in self._early:
                self.complete = self._early.pop(self.complete)
            self.window = min(max(SMALL, 2 * size, self.window, min(2 * self.window, FULL)), limit)
            self.size = size
        elif offset > self.complete:
            self._early[offset] = offset + size
            if len(self._early) > EARLY:
                self._early.clear()
        self.position = max(self.position, offset + size)
        self.ahead = max(self.ahead, self.position)
        if self.position - self.complete > DISORDER:  # what is missing will not come any more
            self.complete = self.position
            self._early.clear()

    def waited(self, asked: float, came: float, limit: int) -> None:
        """The program had to wait for what came at a time, in seconds, and had been asked for at another."""
        self.fastest = min(self.fastest, came - asked)
        if self.window < FULL or asked < self.grown + self.fastest / 2:
            return  # what was asked for before a larger window was full says nothing of that
        if came - asked <= SLOWER * self.fastest and self.window < limit:
            self.window, self.grown = min(2 * self.window, limit), came

    def wants(self, end: int) -> tuple[int, int] | None:
        """Offset and size of what should be asked for next in a file of `end` bytes, if anything.

        A whole number of reads of the size that the last one had, so that each finds its data in one piece. The last
        one goes beyond the end: what the server says of that counts, and not `end`.
        """
        reads = max(1, min(SEGMENT, self.window) // self.size)
        size = min(SEGMENT, reads * self.size)
        if self.ahead >= end or self.ahead + size > self.position + self.window:
            return None
        return self.ahead, size


@dataclass(slots=True, eq=False)
class Streams:
    """The streams of one open file. The one that was read last is at the end."""

    streams: list[Stream] = field(default_factory=list)
    reads: int = 0

    def find(self, offset: int) -> Stream | None:
        """The stream that a read at `offset` belongs to."""
        self.reads += 1
        for stream in reversed(self.streams):
            if stream.follows(offset):
                return stream
        return None

    def begin(self, offset: int, size: int, limit: int) -> tuple[Stream, Stream | None]:
        """A new stream, of which this is the first read; and the one that it takes the place of, if there are too many.

        Who reads the beginning of a file mostly goes on.
        """
        stream = Stream(offset + size, offset + size, min(SMALL, limit) if offset == 0 else 0, size)
        stream.last = self.reads
        self.streams.append(stream)
        return stream, self.streams.pop(0) if len(self.streams) > STREAMS else None

    def left(self) -> list[Stream]:
        """The streams that the program has left; they are forgotten."""
        left = [stream for stream in self.streams if self.reads - stream.last > LEFT]
        for stream in left:
            self.streams.remove(stream)
        return left

    def used(self, stream: Stream) -> None:
        """The stream was read from."""
        stream.last = self.reads
        if self.streams[-1] is not stream:
            self.streams.remove(stream)
            self.streams.append(stream)

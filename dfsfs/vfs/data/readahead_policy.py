"""Streams: which parts of a file a program will read next, the policy of reading ahead.

A file is read in streams: positions that move forward without gaps. There may be several in one file, interleaved. For
each, as many bytes as its window are asked for ahead of its position. The window begins small and doubles with every
read that goes on where the last one ended, up to FULL. Beyond that it doubles when the program had to wait all the
same, as long as answers take little longer than the fastest one: then the line holds more than the window. When they
take longer, they wait for each other, and a larger window would only push more data out of the processor's cache.

Reads of one stream may come in another order than the program made them, as the kernel sends several at once. So a read
a little before or after the position belongs to the stream. It counts as soon as there is no gap before it.

A stream that is not read from while others are is one that the program has left by a seek.

Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SMALL = 256 * 1024
"""Bytes of a stream's first window."""
FULL = 2 * 1024 * 1024
"""Bytes up to which a window grows with each read, and beyond which only when the program had to wait. With 4 MiB a
server on the same machine is read at 1,100 MB/s, with 8 MiB at 750."""
SLOWER = 2.0
"""Answers that take more than so many times as long as the fastest one are taken to wait for each other."""
LIMIT = 32 * 1024 * 1024
"""Bytes of the largest window: what 1 Gbit/s carries in a quarter of a second."""
SEGMENT = 1024 * 1024
"""Bytes that one READ asks for at most."""
STREAMS = 8
"""Streams that are followed in one file at most."""
EARLY = 16
"""Reads behind a gap that are remembered at most. If there are more, the reads are not sequential."""
LEFT = 16
"""Reads elsewhere in the file after which a stream counts as left."""
DISORDER = 4 * 1024 * 1024
"""Bytes behind the position at which a late read may begin: as many as the kernel reads ahead itself."""


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
    """The number of the last read of the stream, counted in all reads of the file."""
    fastest: float = math.inf
    """Seconds that the fastest answer took."""
    grown: float = -math.inf
    """When the window was doubled because the program had to wait."""
    complete: int = field(init=False)
    """The end of what was read without a gap."""
    _early: dict[int, int] = field(default_factory=dict)
    """Reads behind a gap: the offset at which each begins, and the one at which it ends."""

    def __post_init__(self) -> None:
        self.complete = self.position

    def follows(self, offset: int) -> bool:
        """Whether a read at `offset` is part of the stream."""
        return self.position - DISORDER <= offset <= max(self.position, self.ahead) + SEGMENT

    def read(self, offset: int, size: int, limit: int) -> None:
        """Records a read. `limit`: bytes that the window may have now."""
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
        if self.position - self.complete > DISORDER:  # what is missing will not be read any more
            self.complete = self.position
            self._early.clear()

    def note_wait(self, asked: float, came: float, limit: int) -> None:
        """Records that the program had to wait for data. `asked` and `came`: when it was asked for and when it came, in
        seconds. `limit`: bytes that the window may have now.
        """
        self.fastest = min(self.fastest, came - asked)
        if self.window < FULL or asked < self.grown + self.fastest / 2:
            return  # asked for before the larger window was full: it says nothing of that
        if came - asked <= SLOWER * self.fastest and self.window < limit:
            self.window, self.grown = min(2 * self.window, limit), came

    def next_range(self, end: int) -> tuple[int, int] | None:
        """Offset and size of what should be asked for next in a file of `end` bytes; None if nothing should.

        The size is a multiple of that of the last read, so that each read finds its data in one piece. The last one
        goes beyond `end`, as the server knows better where that is.
        """
        reads = max(1, min(SEGMENT, self.window) // self.size)
        size = min(SEGMENT, reads * self.size)
        if self.ahead >= end or self.ahead + size > self.position + self.window:
            return None
        return self.ahead, size


@dataclass(slots=True, eq=False)
class Streams:
    """The streams of one open file, ordered by their last reads: the latest is the last one."""

    streams: list[Stream] = field(default_factory=list)
    reads: int = 0

    def find(self, offset: int) -> Stream | None:
        """The stream that a read at `offset` belongs to, None if it begins one."""
        self.reads += 1
        for stream in reversed(self.streams):
            if stream.follows(offset):
                return stream
        return None

    def begin(self, offset: int, size: int, limit: int) -> tuple[Stream, Stream | None]:
        """Begins a stream with its first read. Returns it, and the stream that was dropped for it, if there were too
        many.

        A stream at the beginning of a file has a window at once, as most programs that begin there go on.
        """
        stream = Stream(offset + size, offset + size, min(SMALL, limit) if offset == 0 else 0, size)
        stream.last = self.reads
        self.streams.append(stream)
        return stream, self.streams.pop(0) if len(self.streams) > STREAMS else None

    def forget_left(self) -> list[Stream]:
        """Forgets the streams that the program has left, and returns them."""
        left = [stream for stream in self.streams if self.reads - stream.last > LEFT]
        for stream in left:
            self.streams.remove(stream)
        return left

    def note_used(self, stream: Stream) -> None:
        """Records that the stream was read from."""
        stream.last = self.reads
        if self.streams[-1] is not stream:
            self.streams.remove(stream)
            self.streams.append(stream)

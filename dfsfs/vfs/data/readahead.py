"""Reading ahead: what readahead_policy.py expects is on its way before a program asks for it.

An `AheadReader` belongs to an open file. `find` is called for each read, before anything is waited for: it starts the
READs that the policy wants, and says whether the data of this read was asked for before. What comes is handed on as
views of the buffers that it was received into.

Data that was asked for ahead is used if, since it was asked for, nothing was changed here, no lease on the file was
lost, and its handle is still that of the file. Else, and after any failure, the program's own read asks again.

All files of a mount share BUDGET bytes. Each stream gets its part of it at most; what another stream has left lying for
longest goes first when there is not enough.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.errors import DfsfsError
from dfsfs.vfs.data.readahead_policy import DISORDER, LIMIT, SMALL, Stream, Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.smb.wire.messages import Buffer

OLD = 10.0
"""Seconds after which nobody is expected any more to read what was asked for ahead."""
BUDGET = 128 * 1024 * 1024
"""Bytes on their way or waiting to be read, for the whole mount."""


class PendingRead(Protocol):
    """A READ under way, as RemoteFile.start_read gives it."""

    @property
    def size(self) -> int: ...
    @property
    def is_settled(self) -> bool: ...

    async def outcome(self) -> Buffer:
        """Waits for the data. Raises DfsfsError. Cancelling this wait gives up nothing."""

    def abandon(self) -> None:
        """Nobody wants it any more."""


class ReadableFile(Protocol):
    """What can start a READ."""

    def start_read(self, offset: int, size: int) -> PendingRead: ...


@dataclass(slots=True, eq=False)
class _Segment:
    offset: int
    pending: PendingRead
    stamp: object
    asked: float
    unread: int
    """Bytes that no program has got yet."""
    waiting: int = 0
    """Reads that wait for it."""

    @property
    def size(self) -> int:
        return self.pending.size

    @property
    def end(self) -> int:
        return self.offset + self.size

    def give_up(self) -> None:
        """Nobody will want what has not been read of it. Whoever waits for his part gets it all the same."""
        if not self.waiting:
            self.pending.abandon()


class ReadAhead:
    """Reading ahead in a mount. `window` is the most that one stream may have, `budget` all of them, in bytes."""

    def __init__(
        self, window: int = LIMIT, budget: int = BUDGET, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self.clock = clock
        self._window = window
        self._limit = budget
        self._used = 0
        self._active: OrderedDict[Stream, deque[_Segment]] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes asked for ahead and not read yet."""
        return self._used

    @property
    def limit(self) -> int:
        """Bytes that the window of one stream may have now."""
        return min(self._window, max(SMALL, self._limit // max(1, len(self._active))))

    def segments(self, stream: Stream) -> deque[_Segment]:
        """What is on its way for a stream."""
        return self._active.get(stream) or deque()

    def add(self, stream: Stream, segment: _Segment) -> None:
        """Takes note of what was asked for."""
        self._active.setdefault(stream, deque()).append(segment)
        self._active.move_to_end(stream)
        self._used += segment.size

    def has_room(self, stream: Stream, size: int) -> bool:
        """Whether `size` more bytes may be asked for, after others have given way."""
        while self._used + size > self._limit:
            oldest = next((other for other in self._active if other is not stream), None)
            if oldest is None:
                return False
            self.drop(oldest)
        return True

    def remove(self, stream: Stream, segment: _Segment) -> None:
        """A segment was read, or is not wanted any more."""
        segments = self._active[stream]
        segments.remove(segment)
        self._used -= segment.size
        if not segments:
            del self._active[stream]

    def drop_old(self, now: float) -> None:
        """Gives up what was asked for OLD seconds ago and was not read."""
        for stream, segments in list(self._active.items()):
            if all(now - segment.asked >= OLD for segment in segments):
                self.drop(stream)

    def drop(self, stream: Stream) -> None:
        """Gives up everything that was asked for ahead for a stream, which has to ask again."""
        for segment in tuple(self.segments(stream)):
            segment.give_up()
            self.remove(stream, segment)
        stream.ahead = stream.position


class AheadReader:
    """The streams of one open file."""

    __slots__ = ("_ahead", "_streams")

    def __init__(self, ahead: ReadAhead) -> None:
        self._ahead = ahead
        self._streams = Streams()

    def find(self, remote: ReadableFile, stamp: object, offset: int, size: int, end: int) -> Found | None:
        """Takes note of a read, starts others ahead of it, and returns the way to its data if it was asked for before.

        `stamp` is equal as long as data that was asked for is good. `end` is the size that the file probably has.
        """
        stream = self._streams.find(offset)
        if stream is None:
            stream, given_up = self._streams.begin(offset, size, self._ahead.limit)
            if given_up is not None:
                self._ahead.drop(given_up)
            found: Found | None = None
        else:
            self._streams.used(stream)
            found = self._found(stream, stamp, offset, offset + size)
            stream.read(offset, size, self._ahead.limit)
        for left in self._streams.left():
            self._ahead.drop(left)
        self._forget_passed(stream)
        self._start(remote, stamp, stream, end)
        return found

    def clear(self) -> None:
        """The file is closed."""
        for stream in self._streams.streams:
            self._ahead.drop(stream)

    def _found(self, stream: Stream, stamp: object, offset: int, end: int) -> Found | None:
        """The segments that cover a range, if there are such without a gap."""
        parts: list[tuple[_Segment, int, int]] = []
        at = offset
        for segment in self._ahead.segments(stream):
            if segment.offset <= at < segment.end and at < end:
                if segment.stamp != stamp:
                    self._ahead.drop(stream)
                    return None
                upto = min(end, segment.end)
                parts.append((segment, at - segment.offset, upto - segment.offset))
                at = upto
        if at < end or not parts:
            return None
        return Found(self._ahead, stream, parts)

    def _forget_passed(self, stream: Stream) -> None:
        """Gives up what lies so far behind that nobody will ask for it."""
        for segment in tuple(self._ahead.segments(stream)):
            if segment.end > stream.position - DISORDER:
                return
            segment.give_up()
            self._ahead.remove(stream, segment)

    def _start(self, remote: ReadableFile, stamp: object, stream: Stream, end: int) -> None:
        while (wanted := stream.wants(end)) is not None:
            offset, size = wanted
            if not self._ahead.has_room(stream, size):
                return
            try:
                pending = remote.start_read(offset, size)
            except DfsfsError:
                return  # whoever reads there will hear of it
            self._ahead.add(stream, _Segment(offset, pending, stamp, self._ahead.clock(), pending.size))
            stream.ahead = offset + pending.size


class Found:
    """Data that was asked for before it was wanted."""

    __slots__ = ("_ahead", "_parts", "_stream")

    def __init__(self, ahead: ReadAhead, stream: Stream, parts: list[tuple[_Segment, int, int]]) -> None:
        self._ahead = ahead
        self._stream = stream
        self._parts = parts
        for segment, begin, end in parts:
            segment.waiting += 1
            segment.unread -= end - begin
            if segment.unread <= 0:
                ahead.remove(stream, segment)

    async def data(self) -> Buffer | None:
        """Waits for the data, fewer bytes than were wanted only at the end of the file; None if it did not come."""
        try:
            return await self._data()
        finally:
            for segment, _, _ in self._parts:
                segment.waiting -= 1

    async def _data(self) -> Buffer | None:
        pieces: list[Buffer] = []
        for segment, begin, end in self._parts:
            waits = not segment.pending.is_settled
            try:
                data = await segment.pending.outcome()
            except DfsfsError:
                return None
            if waits:
                self._stream.waited(segment.asked, self._ahead.clock(), self._ahead.limit)
            pieces.append(memoryview(data)[begin:end])
            if len(data) < end:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

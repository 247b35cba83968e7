"""Reading ahead: sends the READs that readahead_policy.py expects, before a program asks for their data.

A `ReadStreams` belongs to an open file. Its `find` is called for each read, before anything is waited for: it starts
the READs that the policy wants, and returns the data of this read if that was read ahead. Data is handed on as views of
the buffers that it was received into.

Data that was read ahead is used if, since it was asked for, nothing was changed here, no lease on the file was lost,
and the handle is still that of the file. Otherwise, and after any failure, the program's read is sent to the server.

All files of a mount share BUDGET bytes, of which each stream gets an equal part at most. If there is not enough, what
belongs to the stream that has not asked for anything for longest is dropped first.
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
"""Seconds after which data that was read ahead and not used is dropped."""
BUDGET = 128 * 1024 * 1024
"""Bytes that are read ahead in the whole mount, on their way or not used yet, at most."""


class PendingRead(Protocol):
    """A READ under way, as RemoteFile.start_read gives it."""

    @property
    def size(self) -> int: ...
    @property
    def is_done(self) -> bool: ...

    async def outcome(self) -> Buffer:
        """Waits for the data and returns it. It can be waited for again after this was cancelled. Raises DfsfsError."""

    def abandon(self) -> None:
        """Drops the answer when it comes."""


class ReadableFile(Protocol):
    """What can start a READ: a RemoteFile."""

    def start_read(self, offset: int, size: int) -> PendingRead: ...


@dataclass(slots=True, eq=False)
class _Segment:
    offset: int
    pending: PendingRead
    stamp: object
    asked: float
    unread: int
    """Bytes that programs have not read yet."""
    waiting: int = 0
    """Reads that wait for it."""

    @property
    def size(self) -> int:
        return self.pending.size

    @property
    def end(self) -> int:
        return self.offset + self.size

    def abandon(self) -> None:
        """Drops the answer when it comes, unless a read is waiting for it."""
        if not self.waiting:
            self.pending.abandon()


class ReadAhead:
    """What is read ahead in a mount. `window`: bytes of one stream at most; `budget`: bytes of all of them."""

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
        """Bytes that were asked for ahead and not used yet."""
        return self._used

    @property
    def limit(self) -> int:
        """Bytes that one stream may have now."""
        return min(self._window, max(SMALL, self._limit // max(1, len(self._active))))

    def segments(self, stream: Stream) -> deque[_Segment]:
        """What was asked for of a stream and not used yet."""
        return self._active.get(stream) or deque()

    def add(self, stream: Stream, segment: _Segment) -> None:
        """Adds what was asked for."""
        self._active.setdefault(stream, deque()).append(segment)
        self._active.move_to_end(stream)
        self._used += segment.size

    def has_room(self, stream: Stream, size: int) -> bool:
        """Whether `size` more bytes may be asked for. Drops what other streams have, if that is necessary."""
        while self._used + size > self._limit:
            oldest = next((other for other in self._active if other is not stream), None)
            if oldest is None:
                return False
            self.drop(oldest)
        return True

    def remove(self, stream: Stream, segment: _Segment) -> None:
        """Takes out a segment that was read or is not wanted any more."""
        segments = self._active[stream]
        segments.remove(segment)
        self._used -= segment.size
        if not segments:
            del self._active[stream]

    def drop_old(self, now: float) -> None:
        """Drops the streams for which nothing was asked in the last OLD seconds. `now`: seconds of `clock`."""
        for stream, segments in list(self._active.items()):
            if all(now - segment.asked >= OLD for segment in segments):
                self.drop(stream)

    def drop(self, stream: Stream) -> None:
        """Drops everything that a stream has. It has to ask again."""
        for segment in tuple(self.segments(stream)):
            segment.abandon()
            self.remove(stream, segment)
        stream.ahead = stream.position


class ReadStreams:
    """The streams of one open file, see readahead_policy.py."""

    __slots__ = ("_ahead", "_streams")

    def __init__(self, ahead: ReadAhead) -> None:
        self._ahead = ahead
        self._streams = Streams()

    def find(self, remote: ReadableFile, stamp: object, offset: int, size: int, end: int) -> AheadData | None:
        """Records a read, starts others ahead of it, and returns its data if that was asked for before, else None.

        `stamp`: a value that is equal as long as data that was asked for is good. `end`: the size that the file
        probably has, in bytes.
        """
        stream = self._streams.find(offset)
        if stream is None:
            stream, given_up = self._streams.begin(offset, size, self._ahead.limit)
            if given_up is not None:
                self._ahead.drop(given_up)
            found: AheadData | None = None
        else:
            self._streams.note_used(stream)
            found = self._find_segments(stream, stamp, offset, offset + size)
            stream.read(offset, size, self._ahead.limit)
        for left in self._streams.forget_left():
            self._ahead.drop(left)
        self._drop_passed(stream)
        self._start(remote, stamp, stream, end)
        return found

    def clear(self) -> None:
        """The file is closed."""
        for stream in self._streams.streams:
            self._ahead.drop(stream)

    def _find_segments(self, stream: Stream, stamp: object, offset: int, end: int) -> AheadData | None:
        """The data from `offset` to `end`, if all of it was asked for."""
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
        return AheadData(self._ahead, stream, parts)

    def _drop_passed(self, stream: Stream) -> None:
        """Drops what lies so far behind the position that no late read will ask for it."""
        for segment in tuple(self._ahead.segments(stream)):
            if segment.end > stream.position - DISORDER:
                return
            segment.abandon()
            self._ahead.remove(stream, segment)

    def _start(self, remote: ReadableFile, stamp: object, stream: Stream, end: int) -> None:
        while (wanted := stream.next_range(end)) is not None:
            offset, size = wanted
            if not self._ahead.has_room(stream, size):
                return
            try:
                pending = remote.start_read(offset, size)
            except DfsfsError:
                return  # a read there will raise it
            self._ahead.add(stream, _Segment(offset, pending, stamp, self._ahead.clock(), pending.size))
            stream.ahead = offset + pending.size


class AheadData:
    """The data of one read, which was asked for ahead. It may still be on its way."""

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
        """Waits for the data and returns it: fewer bytes than were asked for only at the end of the file. None if it
        could not be read.
        """
        try:
            return await self._data()
        finally:
            for segment, _, _ in self._parts:
                segment.waiting -= 1

    async def _data(self) -> Buffer | None:
        pieces: list[Buffer] = []
        for segment, begin, end in self._parts:
            waits = not segment.pending.is_done
            try:
                data = await segment.pending.outcome()
            except DfsfsError:
                return None
            if waits:
                self._stream.note_wait(segment.asked, self._ahead.clock(), self._ahead.limit)
            pieces.append(memoryview(data)[begin:end])
            if len(data) < end:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

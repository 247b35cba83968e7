"""FrameReader: cuts a TCP stream into SMB2 frames without copying the large ones (MS-SMB2 2.1).

A frame is a zero byte, a 24-bit big-endian length, and that many bytes. The caller receives into `get_buffer()`, and
says with `buffer_updated()` how much came, as with asyncio.BufferedProtocol; complete frames come back as views. Small
frames share a chunk, so that one receive call may bring many of them. A frame that does not fit into what is left of
the chunk gets a buffer of its own, of exactly its size, and the rest of it is received straight into that: READ data is
handed up, and on to the kernel, as a view of this buffer.

Pure. A buffer is used again only when no view of it is left, so views stay valid for as long as they are held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.errors import WireError
from dfsfs.smb.connection.buffers import BufferPool

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX_SIZE = 4
"""Bytes of the Direct TCP transport packet header (MS-SMB2 2.1)."""
CHUNK_SIZE = 64 * 1024
"""Bytes of a chunk. Most responses without file data are far smaller."""
_MINIMUM_SPACE = 4 * 1024
"""Bytes left in a chunk below which a new chunk costs less than the extra receive calls."""


class FrameReader:
    """One direction of one connection. `limit` is the longest frame accepted, in bytes; `expects` is asked whether a
    frame of so many bytes can come now, before it gets a buffer of its own.
    """

    def __init__(self, limit: int, expects: Callable[[int], bool] = lambda length: True) -> None:
        self.limit = limit
        self._expects = expects
        self._chunk = memoryview(bytearray(CHUNK_SIZE))
        self._start = 0  # first byte in the chunk that belongs to no frame handed out
        self._end = 0  # end of what was received
        self._pool = BufferPool()
        self._large: memoryview | None = None  # a frame that has its own buffer, while it is incomplete
        self._filled = 0  # bytes of it that are there

    @property
    def pooled_bytes(self) -> int:
        """Bytes of the buffers for large frames, see BufferPool."""
        return self._pool.pooled_bytes

    def release_idle(self) -> None:
        """Frees the buffers for large frames if none has come since the last call of this."""
        self._pool.release_idle()

    def close(self) -> None:
        """Frees the buffers for large frames. Nothing may be received afterwards."""
        self._pool.clear()

    def get_buffer(self) -> memoryview:
        """The buffer into which the next bytes have to be received; never empty."""
        if self._large is not None:
            return self._large[self._filled :]
        if len(self._chunk) - self._end < _MINIMUM_SPACE:
            self._new_chunk()
        return self._chunk[self._end :]

    def buffer_updated(self, count: int) -> list[memoryview]:
        """Takes `count` bytes that were put into `get_buffer()`; returns the frames that are complete now.

        Raises:
            WireError: a malformed prefix, or a frame longer than the limit or than any expected response.
        """
        if self._large is not None:
            self._filled += count
            if self._filled < len(self._large):
                return []
            frame, self._large = self._large, None
            return [frame]
        self._end += count
        return self._cut()

    def _cut(self) -> list[memoryview]:
        frames = []
        while self._end - self._start >= PREFIX_SIZE:
            begin = self._start + PREFIX_SIZE
            length = self._length(self._chunk[self._start : begin])
            if begin + length <= self._end:
                frames.append(self._chunk[begin : begin + length])
                self._start = begin + length
                continue
            if begin + length > len(self._chunk):
                if not self._expects(length):
                    raise WireError(f"a frame of {length} bytes, which is more than what was asked for takes")
                self._large = self._pool.get(length)
                self._filled = self._end - begin
                self._large[: self._filled] = self._chunk[begin : self._end]
                self._start = self._end
            break
        return frames

    def _length(self, prefix: memoryview) -> int:
        if prefix[0] != 0:
            raise WireError(f"a frame that starts with {bytes(prefix).hex()}: this is not SMB over TCP")
        length = int.from_bytes(prefix[1:], "big")
        if not 0 < length <= self.limit:
            raise WireError(f"a frame of {length} bytes; between 1 and {self.limit} were expected")
        return length

    def _new_chunk(self) -> None:
        rest = self._chunk[self._start : self._end]
        self._chunk = memoryview(bytearray(CHUNK_SIZE))
        self._chunk[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

"""BufferPool: large buffers that are used again.

A new buffer costs as much as a copy of the data that comes into it, since it is filled with zeros page by page. Buffers
that were not needed for a while are freed. Pure.
"""

from __future__ import annotations

import sys

MAX_POOLED = 16
"""The most buffers in a pool: as many READs as are in flight with a fast server."""
MAX_POOLED_BYTES = 17 * 1024 * 1024
"""The most bytes of all buffers in a pool: 16 answers to READs of 1 MiB, and their headers."""
_UNUSED = 2
"""Reference count of a buffer that is not lent out: the pool's list, and the argument of getrefcount."""


class BufferPool:
    """Lends buffers out as views. A buffer is free when its reference count says that no view of it is left."""

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []
        self._size = 0
        self._is_used = False

    @property
    def pooled_bytes(self) -> int:
        """Bytes of the buffers in the pool, lent out or not."""
        return self._size

    def get(self, length: int) -> memoryview:
        """A buffer of `length` bytes with undefined content."""
        buffers, self._is_used = self._buffers, True
        for index in range(len(buffers)):
            if len(buffers[index]) >= length and sys.getrefcount(buffers[index]) == _UNUSED:
                buffers.append(buffers.pop(index))
                return memoryview(buffers[-1])[:length]
        buffer = bytearray(length)
        buffers.append(buffer)
        self._size += length
        while len(buffers) > MAX_POOLED or self._size > MAX_POOLED_BYTES:
            self._size -= len(buffers.pop(0))
        return memoryview(buffer)

    def release_idle(self) -> None:
        """Frees all buffers if `get` was not called since the last call of this. Views that are lent out stay valid."""
        if not self._is_used:
            self.clear()
        self._is_used = False

    def clear(self) -> None:
        """Frees all buffers. Views that are lent out stay valid."""
        self._buffers.clear()
        self._size = 0

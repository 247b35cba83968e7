"""BufferPool: large buffers that are used again.

A new one costs as much as a copy of the data that comes into it: it is filled with zeros, page by page. When nobody has
asked for one for a while they are given back. Pure.
"""

from __future__ import annotations

import sys

POOLED = 16
"""Buffers that are kept: as many READs as are under way with a fast server."""
POOLED_BYTES = 17 * 1024 * 1024
"""Their bytes altogether, at most: a READ asks for 1 MiB."""
_UNUSED = 2
"""References to a buffer that only the pool's list knows: that one, and the argument of getrefcount."""


class BufferPool:
    """Lends buffers out as views. Whether one is free again shows in its reference count: every view of it counts."""

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []
        self._size = 0
        self._is_used = False

    @property
    def kept(self) -> int:
        """Bytes of the buffers that are kept, lent out or not."""
        return self._size

    def get(self, length: int) -> memoryview:
        """`length` bytes, of any content, that nobody else has."""
        buffers, self._is_used = self._buffers, True
        for index in range(len(buffers)):
            if len(buffers[index]) >= length and sys.getrefcount(buffers[index]) == _UNUSED:
                buffers.append(buffers.pop(index))
                return memoryview(buffers[-1])[:length]
        buffer = bytearray(length)
        buffers.append(buffer)
        self._size += length
        while len(buffers) > POOLED or self._size > POOLED_BYTES:
            self._size -= len(buffers.pop(0))
        return memoryview(buffer)

    def give_back_idle(self) -> None:
        """Lets go of all buffers if none was asked for since this was called last. Whoever has a view keeps that."""
        if not self._is_used:
            self.clear()
        self._is_used = False

    def clear(self) -> None:
        """Lets go of all buffers."""
        self._buffers.clear()
        self._size = 0

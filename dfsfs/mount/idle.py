"""Gives memory back to the system when a mount is idle.

Most of the memory that many requests have taken is free inside of this process as soon as they are over. But the C
library does not return it to the system, as it lies in pieces between what is still in use. So when a mount has nothing
to do, and every BUSY seconds if it always has, caches are shrunk (FileSystem.shrink), the garbage collector makes a
full collection, and the C library returns its free pages: malloc_trim(3), which only glibc has.

It is done in a task of its own, the last step in a thread, as it may take some milliseconds.
"""

from __future__ import annotations

import ctypes
import gc
import logging
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("dfsfs.fuse")

LOOK = 2.0
"""Seconds without a request after which a mount is idle."""
BUSY = 60.0
"""Seconds after which a mount that is never idle gives memory back all the same."""
SHARE = 0.01
"""Fraction of all time that full collections may take at most: everything else waits for them."""


async def serve(requests: Callable[[], int], shrink: Callable[[], None]) -> None:
    """Gives memory back whenever a mount becomes idle. Runs until it is cancelled.

    `requests` returns how many requests there were so far; `shrink` drops what is cached.
    """
    trim = _find_malloc_trim()
    threads = trio.CapacityLimiter(1)
    collector = _Collector()
    given, before, since = requests(), requests(), trio.current_time()
    while True:
        await trio.sleep(LOOK)
        now, count = trio.current_time(), requests()
        is_idle, before = count == before, count
        if count == given:
            since = now  # no request since memory was given back last
        elif is_idle or now - since >= BUSY:
            given, since = count, now
            shrink()
            collector.look(now)
            if trim is not None:
                await trio.to_thread.run_sync(trim, 0, abandon_on_cancel=True, limiter=threads)


class _Collector:
    """The garbage collector, called as often as SHARE allows."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self, now: float) -> None:
        """Makes a full collection, unless the last one took long and was not long ago. `now`: trio's clock."""
        if now >= self._next:
            begun = trio.current_time()
            gc.collect()
            self._next = now + (trio.current_time() - begun) / SHARE


def _find_malloc_trim() -> Callable[[int], int] | None:
    """malloc_trim(3) of the C library; None if it has none."""
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        log.debug("the C library has no malloc_trim")
        return None
    found.argtypes, found.restype = (ctypes.c_size_t,), ctypes.c_int
    return found

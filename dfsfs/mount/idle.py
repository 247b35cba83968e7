"""What a mount gives back when programs leave it alone.

Most of what a storm has taken is free inside of this process as soon as it is over, and stays the process's all the
same: the C library keeps what it may need again, in pieces between what is still in use. So when a mount has nothing to
do, and now and then when it always has, what is only good for speed is dropped (FileSystem.give_back), the garbage
collector looks once at everything, and the C library is told to hand its free pages to the system: malloc_trim(3),
which only glibc has.

It is done in a task of its own, the last step in a thread, since it may take some milliseconds.
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
"""Seconds after which a mount that never is idle gives back what it can all the same."""
SHARE = 0.01
"""The part of all time that the collector may take for looking at everything: it keeps all else waiting."""


async def serve(requests: Callable[[], int], give_back: Callable[[], None]) -> None:
    """Gives memory back whenever a mount becomes idle. Runs until it is cancelled.

    `requests` says how many there were so far, `give_back` drops what is only good for speed.
    """
    trim = _trimmer()
    threads = trio.CapacityLimiter(1)
    collector = _Collector()
    given, before, since = requests(), requests(), trio.current_time()
    while True:
        await trio.sleep(LOOK)
        now, count = trio.current_time(), requests()
        is_idle, before = count == before, count
        if count == given:
            since = now  # nothing was done since memory was given back last
        elif is_idle or now - since >= BUSY:
            given, since = count, now
            give_back()
            collector.look(now)
            if trim is not None:
                await trio.to_thread.run_sync(trim, 0, abandon_on_cancel=True, limiter=threads)


class _Collector:
    """The garbage collector, as often as that is no burden."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self, now: float) -> None:
        """Looks at everything, unless that took long and was not long ago."""
        if now >= self._next:
            begun = trio.current_time()
            gc.collect()
            self._next = now + (trio.current_time() - begun) / SHARE


def _trimmer() -> Callable[[int], int] | None:
    """malloc_trim(3) of the C library; None if it has none."""
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        log.debug("the C library has no malloc_trim")
        return None
    found.argtypes, found.restype = (ctypes.c_size_t,), ctypes.c_int
    return found

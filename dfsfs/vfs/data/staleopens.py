"""StaleOpens: which processes were just answered ESTALE because the file that they wanted to open has been replaced.

The kernel repeats an open after its first ESTALE, but not after a second one. Does no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MEMORY = 5.0
"""Seconds within which a second ESTALE for the same name is taken to be of the same open(2)."""
LIMIT = 1000
"""Opens that are remembered at most."""


class StaleOpens:
    """See the module's text."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answered_stale: OrderedDict[Hashable, float] = OrderedDict()

    def note_stale(self, process: int, place: Hashable) -> bool:
        """Records that an open fails with ESTALE. Returns whether the same process was answered that just before."""
        key, now = (process, place), self._clock()
        before = self._answered_stale.pop(key, None)
        if before is not None and now - before < MEMORY:
            return True
        self._answered_stale[key] = now
        if len(self._answered_stale) > LIMIT:
            self._answered_stale.popitem(last=False)
        return False

    def note_open(self, process: int, place: Hashable) -> None:
        """Records that the process has opened the file that has the name."""
        self._answered_stale.pop((process, place), None)

"""StaleOpens: which processes were told of late that the file which they wanted to open has been replaced.

The kernel makes up for one ESTALE of an open, and for no second one. Pure: the time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MEMORY = 5.0
"""Seconds within which a second ESTALE for the same name belongs to the same open."""
LIMIT = 1000
"""Opens that are remembered."""


class StaleOpens:
    """See the module's text."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: OrderedDict[Hashable, float] = OrderedDict()

    def again(self, process: int, place: Hashable) -> bool:
        """Takes note that a process is to be told that what had a name is gone. Whether it was told so just before."""
        key, now = (process, place), self._clock()
        before = self._told.pop(key, None)
        if before is not None and now - before < MEMORY:
            return True
        self._told[key] = now
        if len(self._told) > LIMIT:
            self._told.popitem(last=False)
        return False

    def opened(self, process: int, place: Hashable) -> None:
        """Takes note that the process has opened what has the name."""
        self._told.pop((process, place), None)

"""The schedule of a race among servers: their order, and when the next one's turn comes (RFC 8305). Pure.

The first candidate has ATTEMPT_DELAY seconds for itself; then, or as soon as one that is under way has failed, the next
one starts as well. So servers that answer in time are used in their order, and one that is silent costs ATTEMPT_DELAY
and not its whole time-out.

The attempts themselves, and the clock, are those of racing.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

K = TypeVar("K")

ATTEMPT_DELAY = 0.3
"""Seconds that a server has before the next one is asked as well: the Connection Attempt Delay of RFC 8305 section 5,
which recommends 0.25."""
MAX_CONCURRENT = 8
"""How many candidates are tried at the same time: a company may have hundreds of servers."""


class AttemptSchedule(Generic[K]):
    """The schedule of one race. `candidates` in the order in which they are to be preferred. Times are in seconds of
    the clock that gives `now`.
    """

    def __init__(self, candidates: Iterable[K], attempt_delay: float = ATTEMPT_DELAY) -> None:
        self._waiting = list(candidates)
        self._attempt_delay = attempt_delay
        self._next = float("-inf")
        self.running: list[K] = []
        """Those that have started and are not done, in the order in which they started."""

    @property
    def is_exhausted(self) -> bool:
        """Whether all have started and are done."""
        return not self._waiting and not self.running

    @property
    def next_start(self) -> float | None:
        """When the next one starts, perhaps in the past; None: only after another one is done, or never."""
        return self._next if self._waiting and len(self.running) < MAX_CONCURRENT else None

    def start(self, now: float) -> K:
        """Takes the next candidate, which starts now."""
        candidate = self._waiting.pop(0)
        self.running.append(candidate)
        self._next = now + self._attempt_delay
        return candidate

    def remove(self, candidate: K) -> None:
        """A candidate that had started is done. If it has failed, the next one's turn has come."""
        self.running.remove(candidate)
        self._next = float("-inf")

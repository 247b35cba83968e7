"""In which order the servers of one set are tried, and when the next one's turn comes: the rule of RFC 8305. Pure.

Whoever comes first has HEAD_START seconds for itself; then, or as soon as one that is under way has failed, the next
one begins as well. So servers that answer in time are used in their order, and one that is silent costs HEAD_START and
not its whole time-out. AT_ONCE bounds how many are tried at the same time, as a company may have hundreds.

What this does not do: it connects to nothing and knows no clock. That is racing.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

K = TypeVar("K")

ATTEMPT_DELAY = 0.3
"""Seconds that a server has before the next one is asked as well (RFC 8305 section 5 takes 0.25)."""
MAX_CONCURRENT = 8


class AttemptSchedule(Generic[K]):
    """One race. `candidates` in the order in which they are to be preferred. Times in seconds of the caller's clock."""

    def __init__(self, candidates: Iterable[K], attempt_delay: float = ATTEMPT_DELAY) -> None:
        self._waiting = list(candidates)
        self._head_start = attempt_delay
        self._next = float("-inf")
        self.running: list[K] = []
        """Those that have begun and are not done, in the order in which they began."""

    @property
    def is_exhausted(self) -> bool:
        """Whether all have failed."""
        return not self._waiting and not self.running

    @property
    def next_start(self) -> float | None:
        """When the next one begins, perhaps in the past; None: only after another one has failed, or never."""
        return self._next if self._waiting and len(self.running) < MAX_CONCURRENT else None

    def start(self, now: float) -> K:
        """The one that begins now."""
        candidate = self._waiting.pop(0)
        self.running.append(candidate)
        self._next = now + self._head_start
        return candidate

    def remove(self, candidate: K) -> None:
        """One that had begun is done: if it has failed, nothing is gained by waiting any longer."""
        self.running.remove(candidate)
        self._next = float("-inf")

"""What became of each test of each suite. kept.py has them between runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SLOW = 120.0
"""Seconds that a test may take without anybody asking why."""


class Outcome(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    NOT_APPLICABLE = "not applicable"
    """The suite itself said that it cannot be run here."""
    FAILED = "failed"
    TIMED_OUT = "timed out"
    NOT_RUN = "not run"
    """Nobody has run it yet."""


@dataclass(frozen=True, slots=True)
class Result:
    """One test of one suite on one server."""

    outcome: Outcome
    seconds: float
    """How long it took; 0 if nothing was run, or if nobody has kept it."""
    detail: str = ""
    """Why it cannot be run, or the first lines of what went wrong."""
    checks: int = 1
    """How many questions it asks: more than one for pjdfstest."""
    failures: tuple[str, ...] = ()
    """Those of them that failed, as the suite words them; of a result that was put away, those without a reason."""
    circumstances: str = ""
    """When it was run and what of, as circumstances.py says it; empty if nothing was run."""
    explained: tuple[tuple[str, int], ...] = ()
    """Of a result that was put away: names of reasons, and how many of the questions that failed have them."""

    @property
    def is_slow(self) -> bool:
        """Whether it took longer than it should, to its end or not."""
        return self.outcome is Outcome.TIMED_OUT or (self.outcome is Outcome.PASSED and self.seconds > SLOW)

    @property
    def wrong(self) -> int:
        """How many questions failed, of a test that asks many."""
        return len(self.failures) + sum(count for _, count in self.explained)

    @property
    def needs_reason(self) -> bool:
        return self.outcome is Outcome.FAILED or self.is_slow


Results = dict[str, dict[str, dict[str, Result]]]
"""server -> suite -> test -> what became of it."""

"""What became of each test of each suite, and the one file that keeps it between runs.

    {"stable": {"xfstests": {"generic/001": {"outcome": "passed", "seconds": 3.1, ...}}}}

A run adds to the file what it ran, so that a test can be run again alone. Standard library only.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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
    detail: str = ""
    """Why it cannot be run, or the first lines of what went wrong."""
    checks: int = 1
    """How many questions it asks: more than one for pjdfstest."""
    failures: tuple[str, ...] = ()
    """Those of them that failed, as the suite words them."""
    circumstances: str = ""
    """When it was run and what of, as circumstances.py says it; empty if nothing was run."""

    @property
    def is_slow(self) -> bool:
        """Whether it took longer than it should, to its end or not."""
        return self.outcome is Outcome.TIMED_OUT or (self.outcome is Outcome.PASSED and self.seconds > SLOW)

    @property
    def needs_reason(self) -> bool:
        return self.outcome is Outcome.FAILED or self.is_slow


Results = dict[str, dict[str, dict[str, Result]]]
"""server -> suite -> test -> what became of it."""


def load(path: Path) -> Results:
    """What earlier runs have found; empty without a file. ValueError if it is not such a file."""
    if not path.exists():
        return {}
    read = json.loads(path.read_text())
    return {
        server: {suite: {name: _result(one) for name, one in tests.items()} for suite, tests in suites.items()}
        for server, suites in read.items()
    }


def save(path: Path, results: Results) -> None:
    """Writes all of it, in an order that does not depend on that of the runs. The old file stays whole until then."""
    plain = {
        server: {suite: {name: asdict(one) for name, one in sorted(tests.items())} for suite, tests in suites.items()}
        for server, suites in results.items()
    }
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(plain, indent=1) + "\n")
    os.replace(beside, path)


def _result(fields: dict[str, object]) -> Result:
    match fields:
        case {
            "outcome": str(outcome),
            "seconds": int() | float() as seconds,
            "detail": str(detail),
            "checks": int(checks),
            "failures": list(failures),
            "circumstances": str(circumstances),
        }:
            return Result(Outcome(outcome), seconds, detail, checks, tuple(map(str, failures)), circumstances)
    raise ValueError(f"not a result: {fields}")

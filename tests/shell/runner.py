"""Plays a meeting in all its orders, or a sample of them, and fails with the shortest counter-example."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.shell.explorer import Explorer, Given, Shuffled, deterministic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.shell.meeting import Meeting, Verdict


TOLD = 3
"""Counter-examples that one test tells step by step; of more it says which there are."""


@dataclass
class Report:
    """What came of the schedules of a meeting. `whole`: all orders were tried."""

    meeting: Meeting
    tried: int = 0
    redundant: int = 0
    whole: bool = False
    wrong: list[Verdict] = field(default_factory=list)

    def text(self) -> str:
        """The shortest counter-example, step by step, one with an ordinary server if there is any."""
        shortest = min(self.wrong, key=lambda verdict: (not verdict.in_order, len(verdict.schedule)))
        replayed = play([shortest.schedule], self.meeting)
        return replayed.text(f"{self.meeting}: wrong in {len(self.wrong)} of {self.tried} orders")


def explore(meeting: Meeting, limit: int, *, seed: int | None = None, newest_first: bool = False) -> Report:
    """Tries at most `limit` orders: all if there are no more, else the first ones; with `seed` random ones."""
    report = Report(meeting)
    chooser = Explorer(limit) if seed is None else Shuffled(limit, seed)
    clock = trio.testing.MockClock()

    async def main() -> None:
        while chooser.more():
            verdict = await meeting.play(clock, chooser)
            if verdict is None:
                report.redundant += 1
                continue
            report.tried += 1
            if verdict.problems:
                report.wrong.append(verdict)

    with deterministic(newest_first=newest_first):
        trio.run(main, clock=clock, strict_exception_groups=True)
    report.whole = isinstance(chooser, Explorer) and chooser.exhausted
    return report


def play(schedules: list[list[str]], meeting: Meeting) -> Verdict:
    """Plays given schedules again, with every step told; the verdict is that of the last one."""
    verdicts: list[Verdict] = []
    clock = trio.testing.MockClock()

    async def main() -> None:
        for schedule in schedules:
            verdict = await meeting.play(clock, Given(schedule), talks=True)
            assert verdict is not None
            verdicts.append(verdict)

    with deterministic():
        trio.run(main, clock=clock, strict_exception_groups=True)
    return verdicts[-1]


def check(meetings: Iterable[Meeting], limit: int, *, seed: int | None = None) -> list[Report]:
    """Fails the test if any order of any of the meetings goes wrong."""
    reports = [explore(meeting, limit, seed=seed) for meeting in meetings]
    wrong = [report for report in reports if report.wrong]
    if wrong:
        told = "\n\n".join(report.text() for report in wrong[:TOLD])
        rest = "".join(f"\n{report.meeting}: wrong in {len(report.wrong)} of {report.tried}" for report in wrong[TOLD:])
        pytest.fail(f"{len(wrong)} of {len(reports)} meetings go wrong\n\n{told}\n{rest}", pytrace=False)
    return reports

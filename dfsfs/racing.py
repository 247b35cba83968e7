"""Tries several servers that stand for the same thing until one of them answers, by the schedule of happyeyeballs.py.

The race runs in a nursery of its own. When it is decided the other attempts are cancelled, and `race` returns when they
have ended. So an attempt has to close what it holds when it is cancelled, and must not do what can't be taken back. A
login is such a thing: each may count against an account, and a race of logins would lock it. Attempts that have to log
in hold a lock of their race for that, so that they log in one after the other, in the order in which their servers have
answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from dfsfs.errors import DfsfsError
from dfsfs.happyeyeballs import ATTEMPT_DELAY, AttemptSchedule

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

K = TypeVar("K")
T = TypeVar("T")


@dataclass(slots=True)
class RaceResult(Generic[K, T]):
    """How a race has ended: with a winner, with a failure that is final, or with the failures of all."""

    winners: list[tuple[K, T]] = field(default_factory=list)
    """The candidate that has won and its result; empty if there is none. Never more than one."""
    failures: list[tuple[K, DfsfsError]] = field(default_factory=list)
    """The candidates that have failed, in the order in which they did."""
    is_final: bool = False
    """Whether the last failure has ended the race, as the others would say the same."""
    late: list[K] = field(default_factory=list)
    """The candidates that had started and were not done when the race was decided."""

    @property
    def is_decided(self) -> bool:
        return bool(self.winners) or self.is_final


async def race(
    candidates: Iterable[K],
    attempt: Callable[[K], Awaitable[T]],
    try_next: Callable[[DfsfsError], bool],
    *,
    discard: Callable[[T], None] = lambda result: None,
    attempt_delay: float = ATTEMPT_DELAY,
) -> RaceResult[K, T]:
    """Runs `attempt` for one candidate after the other, as the schedule says, until there is a result.

    `try_next` says of a failure whether the race goes on. `discard` is called with a result that comes when the race is
    decided already. `attempt_delay` in seconds. Raises no DfsfsError; other exceptions of an attempt end the race.
    """
    schedule, outcome = AttemptSchedule(candidates, attempt_delay), RaceResult[K, T]()
    changed = trio.Event()

    async def run(candidate: K) -> None:
        nonlocal changed
        try:
            result = await attempt(candidate)
        except DfsfsError as error:
            if not outcome.is_decided:
                outcome.failures.append((candidate, error))
                outcome.is_final = not try_next(error)
        else:
            if outcome.is_decided:
                discard(result)
            else:
                outcome.winners.append((candidate, result))
        schedule.remove(candidate)
        changed.set()
        changed = trio.Event()

    async with trio.open_nursery() as nursery:
        while not outcome.is_decided and not schedule.is_exhausted:
            start = schedule.next_start
            if start is not None and start <= trio.current_time():
                nursery.start_soon(run, schedule.start(trio.current_time()))
                continue
            with trio.move_on_at(float("inf") if start is None else start):
                await changed.wait()
        outcome.late += schedule.running
        nursery.cancel_scope.cancel()
    return outcome

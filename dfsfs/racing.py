"""Tries several servers that stand for the same thing until one of them answers: the edge to happyeyeballs.py.

The race runs in a nursery of its own. When it is decided the others are cancelled, and `race` returns when they have
put away what they had: nothing of them is left. So an attempt has to close what it holds when it is cancelled, and must
not do what can't be taken back. A login is such a thing: each may count against an account, and a race of logins would
lock it. Attempts that have to log in do so with a lock of the race in their hands, one after the other, in the order in
which their servers have answered.
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
    """How a race has ended: with a winner, or with an error that is an answer, or with nobody left."""

    winners: list[tuple[K, T]] = field(default_factory=list)
    """One, or none."""
    failures: list[tuple[K, DfsfsError]] = field(default_factory=list)
    """Who has failed, in the order in which it came out."""
    is_final: bool = False
    """Whether the last failure has ended the race, as others would say the same."""
    late: list[K] = field(default_factory=list)
    """Who had begun and said nothing when the race was decided."""

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
    """The first result of `attempt`, which is begun for one of the runners after the other.

    `try_next` says whether a failure leaves it to the others. `discard` takes back a result that came at the same
    moment as another one. Raises nothing of DfsfsError.
    """
    heat, finish = AttemptSchedule(candidates, attempt_delay), RaceResult[K, T]()
    changed = trio.Event()

    async def run(candidate: K) -> None:
        nonlocal changed
        try:
            result = await attempt(candidate)
        except DfsfsError as error:
            if not finish.is_decided:
                finish.failures.append((candidate, error))
                finish.is_final = not try_next(error)
        else:
            if finish.is_decided:
                discard(result)
            else:
                finish.winners.append((candidate, result))
        heat.remove(candidate)
        changed.set()
        changed = trio.Event()

    async with trio.open_nursery() as nursery:
        while not finish.is_decided and not heat.is_exhausted:
            start = heat.next_start
            if start is not None and start <= trio.current_time():
                nursery.start_soon(run, heat.start(trio.current_time()))
                continue
            with trio.move_on_at(float("inf") if start is None else start):
                await changed.wait()
        finish.late += heat.running
        nursery.cancel_scope.cancel()
    return finish

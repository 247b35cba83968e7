"""Every order of what can happen while two operations run, by stateless search.

What can happen next is a list of actions: one of the operations is begun, the server carries out a request, an answer
or a lease break reaches the client. One of them is chosen, everything runs until all tasks wait, and so on to the end;
then the world is made anew and the last choice for which there is another one is made differently. Tasks run in an
order of their own making (`deterministic`), and time stands still, so that the same choices lead to the same world.

Orders that differ only in two neighbouring actions that have nothing to do with each other are tried once: what the
server does and what reaches the client are independent, and so are two requests that only look (sleep sets, Godefroid
1996).
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest
import trio.testing
from trio._core import _run as trio_run

if TYPE_CHECKING:
    from collections.abc import Iterator


class Action(NamedTuple):
    """What can happen. `key` is the same in each run with the same choices before it."""

    kind: str
    """begin, apply, or reach."""
    key: str
    looks: bool = False
    """Whether a request changes nothing on the server."""
    client: str = ""

    def is_independent_of(self, other: Action) -> bool:
        mine, its = self.kind == "apply", other.kind == "apply"
        if mine and its:
            return self.looks and other.looks
        if mine or its:
            return self.key.split()[0] != other.key.split()[0]
        return self.client != other.client


@dataclass(slots=True)
class _Step:
    enabled: list[Action]
    sleeping: frozenset[Action]
    done: list[Action] = field(default_factory=list)

    def open(self) -> list[Action]:
        return [action for action in self.enabled if action not in self.sleeping and action not in self.done]


class Chooser(Protocol):
    """What decides which of the actions that can happen does."""

    def choose(self, enabled: list[Action]) -> Action: ...


class Redundant(Exception):
    """Whatever can happen now leads to an order that was tried."""


class Explorer:
    """Chooses each order once, depth first. `limit` bounds how many are tried."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.exhausted = False
        self._steps: list[_Step] = []
        self._at = 0

    def more(self) -> bool:
        """Whether there is another schedule to try, which begins now."""
        if self.count >= self.limit or self.exhausted:
            return False
        if self.count:
            self._backtrack()
            if not self._steps:
                self.exhausted = True
                return False
        self.count += 1
        self._at = 0
        return True

    def _backtrack(self) -> None:
        while self._steps and not self._steps[-1].open():
            self._steps.pop()

    def choose(self, enabled: list[Action]) -> Action:
        """Raises: Redundant: nothing of this has to be tried."""
        if self._at == len(self._steps):
            self._steps.append(_Step(enabled, self._asleep()))
        step = self._steps[self._at]
        assert step.enabled == enabled, f"not deterministic: {step.enabled} and then {enabled}"
        is_last = self._at == len(self._steps) - 1
        self._at += 1
        if not is_last:
            return step.done[-1]
        candidates = step.open()
        if not candidates:
            raise Redundant
        step.done.append(candidates[0])
        return candidates[0]

    def _asleep(self) -> frozenset[Action]:
        if not self._steps:
            return frozenset()
        before = self._steps[-1]
        chosen = before.done[-1]
        slept = before.sleeping.union(before.done[:-1])
        return frozenset(action for action in slept if action.is_independent_of(chosen))


class Shuffled:
    """Chooses at random: a sample where there are too many orders."""

    def __init__(self, limit: int, seed: int) -> None:
        self.limit = limit
        self.count = 0
        self._random = random.Random(seed)

    def more(self) -> bool:
        self.count += 1
        return self.count <= self.limit

    def choose(self, enabled: list[Action]) -> Action:
        return self._random.choice(enabled)


class Given:
    """Makes the choices of one schedule again, by their keys."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = list(keys)

    def choose(self, enabled: list[Action]) -> Action:
        if not self._keys:
            return enabled[0]
        wanted = self._keys.pop(0)
        return next((action for action in enabled if f"{action.kind} {action.key}" == wanted), enabled[0])


class _InOrder:
    """In place of trio's random numbers: of the tasks that can run, the oldest is the first."""

    def __init__(self, *, newest_first: bool) -> None:
        self._newest_first = newest_first

    def shuffle(self, batch: list[object]) -> None:
        if not self._newest_first:
            batch.reverse()  # trio takes them from the end

    def random(self) -> float:
        return 1.0


@contextmanager
def deterministic(*, newest_first: bool = False) -> Iterator[None]:
    """Inside, trio runs tasks in an order that depends on nothing but when they were started."""
    order = _InOrder(newest_first=newest_first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio_run, "_r", order)
        yield


async def quiet() -> None:
    """Returns when every task waits for something that will not come by itself."""
    await trio.testing.wait_all_tasks_blocked(0.0)

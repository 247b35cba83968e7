"""Which requests are ended because nobody waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest
import trio
import trio.testing

from dfsfs.caller import Caller
from dfsfs.fuse import waiters
from dfsfs.fuse.requests import Request
from dfsfs.fuse.threadstates import ThreadState
from dfsfs.fuse.waiters import PAUSE, SHARE, Waiter, Waiters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Set

T = TypeVar("T")
LONG = 10 * PAUSE


class AtOnce:
    """Threads for a clock that jumps: while there is nothing to do but to wait for a thread, it would."""

    def __init__(self, each: int, total: int) -> None: ...

    async def run(self, uid: int, work: Callable[[], T], patience: float) -> T:
        return work()


class World:
    """Requests, those who make them, and how they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: trio.testing.MockClock) -> None:
        self.under_way: dict[trio.CancelScope, Request] = {}
        self.watcher: trio.Event | None = None
        self.fates: dict[int, ThreadState] = {}
        self.holders: dict[int, set[ThreadState]] = {}
        self.looks = self.searches = 0
        self.search_takes = 0.0
        self._clock = clock
        monkeypatch.setattr(waiters, "Threads", AtOnce)
        monkeypatch.setattr(waiters, "get_thread_state", self._fate_of)
        monkeypatch.setattr(waiters, "get_holder_states", self._fates_of_holders)

    def waiter(self, call: str, arguments: tuple[object, ...]) -> Waiter | None:
        (waiter,) = arguments
        assert waiter is None or isinstance(waiter, Waiter)
        return waiter

    def _fate_of(self, thread: int) -> ThreadState:
        self.looks += 1
        return self.fates.get(thread, ThreadState.LIVES)

    def _fates_of_holders(self, inodes: Set[int], device: str) -> dict[int, set[ThreadState]]:
        assert device == "0:51"
        self.searches += 1
        self._clock.jump(self.search_takes)
        return {inode: self.holders.get(inode, set()) for inode in inodes}

    async def ended(self, waiter: Waiter | None, after: float = 0.0) -> float | None:
        """When a request that begins after some seconds is ended, None if it is not."""
        await trio.sleep(after)
        scope = trio.move_on_after(LONG)
        self.under_way[scope] = Request("call", (waiter,), None)
        with scope:
            await trio.sleep_forever()
        return trio.current_time() if self.under_way.pop(scope, None) is None else None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> World:
    return World(monkeypatch, autojump_clock)


async def all_of(world: World, *work: Callable[[], Awaitable[float | None]]) -> list[float | None]:
    found: list[float | None] = [None] * len(work)

    async def one(index: int) -> None:
        found[index] = await work[index]()

    async with trio.open_nursery() as watch:
        watch.start_soon(Waiters(world, "0:51").serve)
        async with trio.open_nursery() as nursery:
            for index in range(len(work)):
                nursery.start_soon(one, index)
        watch.cancel_scope.cancel()
    return found


def of(thread: int, inode: int | None = None) -> Waiter:
    return Waiter(Caller(1000 + thread % 2, 100, thread), inode)


async def test_who_was_killed_is_answered_and_nobody_else(world: World) -> None:
    world.fates = {1: ThreadState.KILLED, 3: ThreadState.GONE, 4: ThreadState.UNKNOWN}
    ends = await all_of(world, *((lambda who=who: world.ended(who)) for who in (of(1), of(2), of(3), of(4), None)))
    assert ends[0] is not None and ends[0] <= 2 * PAUSE
    assert ends[1:] == [None] * 4


async def test_who_can_not_be_seen_is_not_looked_at(world: World) -> None:
    world.fates = {0: ThreadState.KILLED}
    assert await all_of(world, lambda: world.ended(of(0))) == [None]
    assert not world.looks


async def test_what_is_answered_soon_costs_no_look(world: World) -> None:
    async def short() -> None:
        for _ in range(30):
            with trio.move_on_after(0.3) as scope:
                world.under_way[scope] = Request("call", (of(1),), None)
                await trio.sleep_forever()
            del world.under_way[scope]

    assert await all_of(world, short) == [None]
    assert not world.looks


@pytest.mark.parametrize(
    ("opener", "holders", "ends"),
    [
        (ThreadState.KILLED, set(), True),
        (ThreadState.LIVES, {ThreadState.LIVES, ThreadState.KILLED}, True),
        (ThreadState.GONE, {ThreadState.KILLED}, True),
        (ThreadState.LIVES, {ThreadState.LIVES, ThreadState.KILLED, ThreadState.WAITS}, False),
        (ThreadState.LIVES, {ThreadState.KILLED, ThreadState.UNKNOWN}, False),
        (ThreadState.LIVES, {ThreadState.LIVES}, False),
        (ThreadState.GONE, {ThreadState.LIVES, ThreadState.WAITS}, False),
        (ThreadState.GONE, set(), False),
        (ThreadState.UNKNOWN, {ThreadState.KILLED}, False),
    ],
)
async def test_what_is_asked_about_something_open(
    world: World, opener: ThreadState, holders: set[ThreadState], ends: bool
) -> None:
    world.fates, world.holders = {1: opener}, {7: holders}
    (end,) = await all_of(world, lambda: world.ended(of(1, 7)))
    assert (end is not None) is ends


async def test_looking_at_all_programs_takes_a_small_share_of_the_time(world: World) -> None:
    world.search_takes = PAUSE / SHARE * 4
    assert await all_of(world, lambda: world.ended(of(1, 7))) == [None]
    assert 2 <= world.searches <= LONG / PAUSE / 4 + 1

"""singleflight.py: one run for all who ask, and what the policies say of cancelled callers and of failures."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfsfs.errors import ConnectError, DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.singleflight import InFirstCaller, InNursery, SingleFlight

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REFUSED = SmbError(NtStatus.ACCESS_DENIED, "the work")


class Work:
    """Takes ten seconds, counts its runs, and fails if it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.runs = self.cancelled = 0

    async def __call__(self) -> int:
        self.runs += 1
        run = self.runs
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return run


Outcomes = list[int | Exception]


async def ask(flights: SingleFlight[str, int], work: Work, outcomes: Outcomes, scope: trio.CancelScope) -> None:
    """One caller, which may be cancelled by itself."""
    with scope:
        try:
            outcomes.append(await flights.do("key", work))
        except Exception as error:
            outcomes.append(error)


@asynccontextmanager
async def made(policy: str, keep_failures: float = 0.0) -> AsyncIterator[SingleFlight[str, int]]:
    """A SingleFlight of one of the policies."""
    if policy == "first caller":
        yield SingleFlight(InFirstCaller(), keep_failures=keep_failures)
        return
    async with trio.open_nursery() as nursery:
        yield SingleFlight(InNursery(nursery, "asking"), keep_failures=keep_failures)
        nursery.cancel_scope.cancel()


async def crowd(flights: SingleFlight[str, int], work: Work, cancelled: tuple[int, ...] = (), of: int = 4) -> Outcomes:
    """The outcomes of callers that ask at the same time, of which some are cancelled after a second."""
    outcomes: Outcomes = []
    scopes = [trio.CancelScope() for _ in range(of)]
    async with trio.open_nursery() as nursery:
        for scope in scopes:
            nursery.start_soon(ask, flights, work, outcomes, scope)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        for index in cancelled:
            scopes[index].cancel()
    return outcomes


POLICIES = pytest.mark.parametrize("policy", ["nursery", "first caller"])


@POLICIES
async def test_one_run_for_all_who_ask(autojump_clock: trio.testing.MockClock, policy: str) -> None:
    async with made(policy) as flights:
        work = Work()
        assert await crowd(flights, work) == [1, 1, 1, 1]
        assert (work.runs, len(flights)) == (1, 0)
        assert await flights.do("key", work) == 2, "a result is not kept"


@POLICIES
async def test_keys_do_not_wait_for_each_other(autojump_clock: trio.testing.MockClock, policy: str) -> None:
    async with made(policy) as flights, trio.open_nursery() as nursery:
        work = Work()
        for key in "abc":
            nursery.start_soon(flights.do, key, work)
        await trio.sleep(1)
        assert (work.runs, len(flights)) == (3, 3)


@POLICIES
async def test_all_get_the_failure(autojump_clock: trio.testing.MockClock, policy: str) -> None:
    async with made(policy) as flights:
        work = Work(REFUSED)
        assert await crowd(flights, work) == [REFUSED] * 4
        assert (work.runs, len(flights)) == (1, 0)
        assert await crowd(flights, work, of=1) == [REFUSED] and work.runs == 2, "it is not kept"


@POLICIES
async def test_a_failure_is_kept_as_long_as_it_was_asked_for(
    autojump_clock: trio.testing.MockClock, policy: str
) -> None:
    async with made(policy, keep_failures=5.0) as flights:
        work = Work(REFUSED)
        await crowd(flights, work)
        await trio.sleep(4)
        assert await crowd(flights, work, of=1) == [REFUSED] and work.runs == 1
        work.error = None
        assert await flights.do("another", work) == 2, "it is that of its key"
        await trio.sleep(1)
        assert await flights.do("key", work) == 3
        assert await flights.do("key", work) == 4


async def test_kept_failures_go_when_others_come(autojump_clock: trio.testing.MockClock) -> None:
    async with made("nursery", keep_failures=5.0) as flights:
        for number in range(10):
            with pytest.raises(SmbError):
                await flights.do(str(number), Work(REFUSED))
        assert len(flights._failures) == 1, "each took ten seconds"


# -- cancelled callers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [(0,), (0, 1, 2), (1,), (3,)])
async def test_in_a_nursery_the_work_goes_on_for_the_others(
    autojump_clock: trio.testing.MockClock, cancelled: tuple[int, ...]
) -> None:
    async with made("nursery") as flights:
        work = Work()
        assert await crowd(flights, work, cancelled) == [1] * (4 - len(cancelled))
        assert (work.runs, work.cancelled, trio.current_time()) == (1, 0, 10.0)


async def test_in_a_nursery_it_goes_on_for_who_comes_later(autojump_clock: trio.testing.MockClock) -> None:
    async with made("nursery") as flights:
        work = Work()
        assert await crowd(flights, work, (0, 1, 2, 3)) == []
        assert (len(flights), trio.current_time()) == (1, 1.0)
        assert await flights.do("key", work) == 1
        assert (work.runs, trio.current_time()) == (1, 10.0)


@pytest.mark.parametrize("cancelled", [(1,), (3,), (1, 2, 3)])
async def test_the_first_caller_goes_on_without_the_others(
    autojump_clock: trio.testing.MockClock, cancelled: tuple[int, ...]
) -> None:
    async with made("first caller") as flights:
        work = Work()
        assert await crowd(flights, work, cancelled) == [1] * (4 - len(cancelled))
        assert (work.runs, work.cancelled, trio.current_time()) == (1, 0, 10.0)


@pytest.mark.parametrize("cancelled", [(0,), (0, 1), (0, 1, 2)])
async def test_when_the_first_caller_is_cancelled_another_one_begins_anew(
    autojump_clock: trio.testing.MockClock, cancelled: tuple[int, ...]
) -> None:
    async with made("first caller") as flights:
        work = Work()
        assert await crowd(flights, work, cancelled) == [2] * (4 - len(cancelled))
        assert (work.runs, work.cancelled, trio.current_time()) == (2, 1, 11.0)


async def test_when_all_are_cancelled_the_work_is_as_well(autojump_clock: trio.testing.MockClock) -> None:
    async with made("first caller") as flights:
        work = Work()
        assert await crowd(flights, work, (0, 1, 2, 3)) == []
        assert (work.runs, work.cancelled, len(flights), trio.current_time()) == (1, 1, 0, 1.0)


# -- what is not meant to happen --------------------------------------------------------------------------------------


async def test_a_mistake_in_the_work_does_not_end_the_nursery(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with made("nursery") as flights:
        with caplog.at_level(logging.CRITICAL, "dfsfs"):
            outcomes = await crowd(flights, Work(KeyError("mistake")))
        assert len(outcomes) == 4
        for outcome in outcomes:
            assert isinstance(outcome, DfsfsError) and str(outcome).startswith("asking key failed in an unexpected")
        assert await flights.do("key", Work()) == 1


async def test_a_mistake_in_the_work_is_raised_in_who_has_run_it(autojump_clock: trio.testing.MockClock) -> None:
    async with made("first caller") as flights:
        work = Work(KeyError("mistake"))
        outcomes = await crowd(flights, work)
        assert [type(outcome) for outcome in outcomes] == [KeyError] * 4 and work.runs == 4


async def test_who_waits_when_the_nursery_ends_is_told(autojump_clock: trio.testing.MockClock) -> None:
    outcomes: Outcomes = []
    async with trio.open_nursery() as callers:
        async with made("nursery") as flights:
            for _ in range(2):
                callers.start_soon(ask, flights, Work(), outcomes, trio.CancelScope())
            await trio.sleep(1)
        await trio.testing.wait_all_tasks_blocked()
        assert [type(outcome) for outcome in outcomes] == [ConnectError] * 2 and len(flights) == 0

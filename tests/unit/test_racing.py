"""happyeyeballs.py and racing.py: whose turn it is, who wins, and that nothing is left of those that lose."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import ConnectError, DfsfsError, SmbError
from dfsfs.happyeyeballs import ATTEMPT_DELAY, MAX_CONCURRENT, AttemptSchedule
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import RaceResult, race
from tests.support.fakes.pool import virtual


def silent(host: str) -> ConnectError:
    return ConnectError(host, NtStatus.IO_TIMEOUT, "no answer")


class TestHeat:
    def test_the_next_one_starts_when_the_head_start_is_over(self) -> None:
        heat = AttemptSchedule("ab")
        assert heat.start(10.0) == "a" and heat.next_start == 10.0 + ATTEMPT_DELAY
        assert heat.start(10.0 + ATTEMPT_DELAY) == "b"
        assert heat.running == ["a", "b"] and heat.next_start is None

    def test_or_at_once_when_one_has_failed(self) -> None:
        heat = AttemptSchedule("abc")
        heat.start(10.0)
        heat.start(10.3)
        heat.remove("a")
        assert heat.next_start is not None and heat.next_start < 10.0 and heat.running == ["b"]

    def test_so_many_and_no_more(self) -> None:
        heat = AttemptSchedule(range(100))
        for number in range(MAX_CONCURRENT):
            heat.start(float(number))
        assert heat.next_start is None and not heat.is_exhausted
        heat.remove(3)
        assert heat.next_start is not None

    @given(st.permutations(range(12)), st.data())
    def test_each_starts_once_in_order_and_the_race_ends(self, order: list[int], data: st.DataObject) -> None:
        heat, begun, now = AttemptSchedule(order), [], 0.0
        while not heat.is_exhausted:
            if heat.next_start is not None and (not heat.running or data.draw(st.booleans())):
                now = max(now, heat.next_start)
                begun.append(heat.start(now))
            elif heat.running:
                heat.remove(data.draw(st.sampled_from(heat.running)))
        assert begun == order


class Track:
    """Runners by name: the seconds that they take, and what then comes of it."""

    def __init__(self, **runners: tuple[float, DfsfsError | None]) -> None:
        self.runners = runners
        self.begun: list[tuple[str, float]] = []
        self.cancelled: list[str] = []
        self.discarded: list[str] = []

    async def attempt(self, name: str) -> str:
        self.begun.append((name, trio.current_time()))
        seconds, error = self.runners[name]
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.cancelled.append(name)
            raise
        if error is not None:
            raise error
        return name.upper()

    async def run(self) -> RaceResult[str, str]:
        return await race(
            self.runners,
            self.attempt,
            lambda error: isinstance(error, ConnectError),
            discard=self.discarded.append,
        )


class TestRace:
    @virtual
    async def test_who_answers_in_time_is_alone(self) -> None:
        track = Track(a=(ATTEMPT_DELAY - 0.01, None), b=(0.0, None))
        finish = await track.run()
        assert finish.winners == [("a", "A")] and track.begun == [("a", 0.0)] and finish.late == []

    @virtual
    async def test_who_is_silent_costs_the_head_start(self) -> None:
        track = Track(a=(8.0, silent("a")), b=(0.05, None), c=(0.0, None))
        finish = await track.run()
        assert finish.winners == [("b", "B")] and finish.late == ["a"] and finish.failures == []
        assert trio.current_time() == pytest.approx(ATTEMPT_DELAY + 0.05)
        assert track.cancelled == ["a"], "and is gone when the race is over"

    @virtual
    async def test_who_was_asked_first_may_still_win(self) -> None:
        track = Track(a=(ATTEMPT_DELAY + 0.1, None), b=(1.0, None))
        finish = await track.run()
        assert finish.winners == [("a", "A")] and finish.late == ["b"] and track.cancelled == ["b"]

    @virtual
    async def test_who_refuses_costs_nothing(self) -> None:
        track = Track(a=(0.0, silent("a")), b=(0.0, silent("b")), c=(0.0, None))
        finish = await track.run()
        assert finish.winners == [("c", "C")] and trio.current_time() == 0.0
        assert [name for name, _ in finish.failures] == ["a", "b"]

    @virtual
    async def test_an_answer_ends_the_race(self) -> None:
        no = SmbError(NtStatus.LOGON_FAILURE, "test")
        track = Track(a=(5.0, None), b=(0.1, no), c=(0.0, None))
        finish = await track.run()
        assert finish.is_final and finish.failures == [("b", no)] and not finish.winners
        assert track.cancelled == ["a"] and [name for name, _ in track.begun] == ["a", "b"]

    @virtual
    async def test_nobody_is_left(self) -> None:
        track = Track(a=(8.0, silent("a")), b=(8.0, silent("b")))
        finish = await track.run()
        assert [name for name, _ in finish.failures] == ["a", "b"] and not finish.is_final
        assert trio.current_time() == pytest.approx(8.0 + ATTEMPT_DELAY)

    @virtual
    async def test_two_at_the_same_moment(self) -> None:
        track = Track(a=(ATTEMPT_DELAY + 1.0, None), b=(1.0, None))
        finish = await track.run()
        assert len(finish.winners) == 1 and len(track.discarded) + len(track.cancelled) == 1
        assert {finish.winners[0][1], *track.discarded, *map(str.upper, track.cancelled)} == {"A", "B"}

    @virtual
    async def test_who_waits_is_cancelled_and_all_with_it(self) -> None:
        track = Track(a=(8.0, None), b=(8.0, None))
        with trio.move_on_after(1.0) as scope:
            await track.run()
        assert scope.cancelled_caught and sorted(track.cancelled) == ["a", "b"]

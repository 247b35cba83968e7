"""maintenance.py: failback, in virtual time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs import background
from dfsfs.namespace.junction import Junction
from dfsfs.namespace.maintenance import JITTER, MAX_CONCURRENT, MIN_STAY, PROBE_INTERVAL, RETRY_AFTER
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import FailedBack, FailedOver
from dfsfs.unc import UncPath
from tests.support.fakes.pool import virtual
from tests.unit.namespace.script import PREFIX, Lab, resolution

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.logs("failed over", "upkeep of a link: failed")

A, B, C = "//a/data", "//b/data", "//c/data"
LONGEST = MIN_STAY + PROBE_INTERVAL * (1 + JITTER) + 1
"""Seconds after which a junction has failed back if it can."""


async def away_from_home(*, preferred: tuple[str, ...] = (A,)) -> Lab:
    """A junction that failed over from A to B and should go back."""
    lab = Lab.build()
    lab.resolver.known[PREFIX] = resolution(PREFIX, [A, B, C], preferred=preferred)
    await lab.run()
    lab.pool.servers["a"].kill()
    assert await lab.run() == "//b/data/dir/file"
    return lab


def kept(test: Callable[[Lab], object]) -> Callable[[], None]:
    """Runs a test with the tasks of Maintenance beside it."""

    @virtual
    async def run() -> None:
        lab = await away_from_home()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.failover.maintenance.serve)
            await test(lab)  # type: ignore[misc]
            nursery.cancel_scope.cancel()
        lab.check_idle()

    return run


@kept
async def test_c097_goes_back_when_the_first_set_answers_again(lab: Lab) -> None:
    lab.pool.servers["a"].revive()
    await trio.sleep(LONGEST)
    assert await lab.run() == "//a/data/dir/file"
    assert [type(event) for event in lab.telemetry.recent if isinstance(event, FailedBack | FailedOver)] == [
        FailedOver,
        FailedBack,
    ]
    assert lab.resolver.confirmed[-1] == A


@kept
async def test_stays_while_the_first_set_is_dead(lab: Lab) -> None:
    await trio.sleep(10 * LONGEST)
    assert await lab.run() == "//b/data/dir/file"
    assert lab.junction.generation == 2


@kept
async def test_stays_for_the_hold_time(lab: Lab) -> None:
    lab.pool.servers["a"].revive()
    await trio.sleep(MIN_STAY - 0.1)
    assert await lab.run() == "//b/data/dir/file"


@kept
async def test_a_server_that_connects_but_has_no_share_is_no_place_to_go_to(lab: Lab) -> None:
    lab.pool.servers["a"].revive()
    lab.pool.servers["a"].share_status["data"] = NtStatus.SHARING_PAUSED
    await trio.sleep(LONGEST)
    assert await lab.run() == "//b/data/dir/file"


@kept
async def test_a_hanging_server_holds_nobody_up(lab: Lab) -> None:
    lab.pool.servers["a"].revive()
    lab.pool.servers["a"].connect_time = 1e9
    for _ in range(20):
        await trio.sleep(7)
        started = trio.current_time()
        assert await lab.run() == "//b/data/dir/file"
        assert trio.current_time() == started


@virtual
async def test_a_mistake_about_one_junction_is_nothing_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "failures", Counter())
    lab = await away_from_home()
    maintenance, odd = lab.failover.maintenance, Junction(UncPath.parse("//odd/dfs/link"))
    refresh = maintenance.refresh

    async def failing(junction: Junction) -> None:
        if junction is odd:
            raise ValueError("a mistake")
        await refresh(junction)

    monkeypatch.setattr(maintenance, "refresh", failing)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(maintenance.serve)
        for count in range(1, 4):
            maintenance.schedule_refresh(odd)
            maintenance.schedule_refresh(lab.junction)
            await trio.sleep(RETRY_AFTER)
            assert maintenance.refreshes == count
        nursery.cancel_scope.cancel()
    assert background.failures == {"upkeep of a link": 3}


@virtual
async def test_without_failback_it_stays() -> None:
    lab = await away_from_home(preferred=())
    lab.pool.servers["a"].revive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lab.failover.maintenance.serve)
        await trio.sleep(10 * LONGEST)
        assert await lab.run() == "//b/data/dir/file"
        nursery.cancel_scope.cancel()


@virtual
async def test_inside_the_first_set_it_stays() -> None:
    lab = await away_from_home(preferred=(A, B))
    lab.pool.servers["a"].revive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lab.failover.maintenance.serve)
        await trio.sleep(10 * LONGEST)
        assert await lab.run() == "//b/data/dir/file"
        nursery.cancel_scope.cancel()


@virtual
async def test_c097_a_refresh_brings_it_back_at_once_if_it_was_away_long_enough() -> None:
    lab = await away_from_home()
    lab.pool.servers["a"].revive()
    await trio.sleep(MIN_STAY)
    lab.junction.refresh_at = 0.0
    await lab.run()
    await lab.failover.maintenance.refresh_due()
    assert await lab.run() == "//a/data/dir/file"


@pytest.mark.parametrize("count", [1, 3 * MAX_CONCURRENT])
def test_refreshes_are_done_a_few_at_a_time(count: int) -> None:
    @virtual
    async def run() -> None:
        lab = Lab.build()
        lab.resolver.delay = 1.0
        junctions = []
        for number in range(count):
            prefix = PREFIX.join([str(number)])
            lab.resolver.known[prefix] = resolution(prefix, [A])
            junctions.append(type(lab.junction)(prefix))
            lab.failover.maintenance.schedule_refresh(junctions[-1])
        started = trio.current_time()
        await lab.failover.maintenance.refresh_due()
        assert trio.current_time() - started == pytest.approx(-(-count // MAX_CONCURRENT))
        assert all(junction.resolution is not None for junction in junctions)

    run()

"""failover.py: cancelled anywhere, and random histories of servers and operations."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError, SecurityError, SmbError, WireError
from dfsfs.namespace.failover import RETRY_LIMIT
from dfsfs.ntstatus import NtStatus
from tests.support.fakes.pool import virtual
from tests.unit.namespace.script import PREFIX, Lab, Operation, resolution

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.fakes.pool import FakeServer

pytestmark = pytest.mark.logs("failed over")

A, B = "//a/data", "//b/data"


def smb(status: int) -> SmbError:
    return SmbError(status, "test")


def lost() -> ConnectionLost:
    return ConnectionLost("a", NtStatus.CONNECTION_RESET, "connection reset")


def refused() -> ConnectError:
    return ConnectError("a", NtStatus.CONNECTION_REFUSED, "connection refused")


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope at the n-th step of the task that it is entered in."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.scope, self.left, self.task = scope, step, trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def _bind_first(lab: Lab) -> None:
    lab.resolver.delay = 1.0
    lab.pool.servers["a"].kill()
    await lab.run()


async def _fail_over(lab: Lab) -> None:
    await lab.run(Operation({A: [lost(), lost()], B: [smb(NtStatus.RETRY)]}, takes=0.1))


async def _refresh(lab: Lab) -> None:
    lab.junction.refresh_at = lab.junction.hard_expires_at = -math.inf
    await lab.run()


async def _refer(lab: Lab) -> None:
    lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B], path_consumed=PREFIX)
    await lab.run(Operation({A: [smb(NtStatus.PATH_NOT_COVERED)]}))


class TestCancellation:
    @pytest.mark.parametrize("scenario", [_bind_first, _fail_over, _refresh, _refer])
    @pytest.mark.parametrize("waiters", [0, 3])
    def test_at_every_checkpoint(self, scenario: Callable[[Lab], Awaitable[None]], waiters: int) -> None:
        steps = 0
        while self._cancelled_at(steps + 1, scenario, waiters):
            steps += 1
        assert steps >= 2

    @staticmethod
    def _cancelled_at(step: int, scenario: Callable[[Lab], Awaitable[None]], waiters: int) -> bool:
        """Runs the scenario with a cancellation at its n-th step. False if it is over before."""

        @virtual
        async def run() -> bool:
            lab = Lab.build()
            if scenario is not _bind_first:
                await lab.run()
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    instrument = _CancelAtStep(scope, step)
                    trio.lowlevel.add_instrument(instrument)
                    for _ in range(waiters):
                        nursery.start_soon(lab.run)
                    await scenario(lab)
                trio.lowlevel.remove_instrument(instrument)
            lab.check_idle()
            with trio.fail_after(10):
                await lab.run()
            assert lab.junction.refresh_at > trio.current_time()
            return scope.cancelled_caught

        return run()


ERRORS: dict[str, Callable[[], DfsfsError]] = {
    "answer": lambda: smb(NtStatus.OBJECT_NAME_NOT_FOUND),
    "lost": lost,
    "deleted": lambda: smb(NtStatus.NETWORK_NAME_DELETED),
    "next": lambda: smb(NtStatus.DISK_OPERATION_FAILED),
    "refused": refused,
    "retry": lambda: smb(NtStatus.RETRY),
    "forged": lambda: SecurityError("forged"),
    "nonsense": lambda: WireError("nonsense"),
}
STEPS = st.lists(st.sampled_from([None, *ERRORS]), max_size=8)
SERVERS = st.lists(
    st.tuples(st.sampled_from(["up", "down", "slow", "no share", "denied", "stale"]), STEPS), min_size=1, max_size=5
)


class TestRandomHistories:
    @given(servers=SERVERS, timeout=st.sampled_from([1.0, 30.0, 1000.0]), bound=st.booleans())
    @settings(max_examples=300, deadline=None)
    def test_invariants(self, servers: list[tuple[str, list[str | None]]], timeout: float, bound: bool) -> None:
        hosts = "abcde"[: len(servers)]

        @virtual
        async def scenario() -> None:
            lab = Lab.build(hosts, timeout=timeout)
            if bound:
                await lab.run()
            script: dict[str, list[DfsfsError | None]] = {}
            for host, (health, steps) in zip(hosts, servers, strict=True):
                _afflict(lab.pool.servers[host], health)
                script[f"//{host}/data"] = [ERRORS[step]() if step else None for step in steps]
            operation = Operation(script)
            started = trio.current_time()
            with contextlib.suppress(DfsfsError):
                await lab.run(operation)
            assert trio.current_time() - started <= timeout + 0.001
            _check_attempts(operation)
            lab.check_idle()

        scenario()


def _afflict(server: FakeServer, health: str) -> None:
    match health:
        case "down":
            server.kill()
        case "slow":
            server.reset()
            server.connect_time = 8.0
        case "no share":
            server.reset()
            server.shares.clear()
        case "denied":
            server.reset()
            server.share_status["data"] = NtStatus.ACCESS_DENIED
        case "stale":
            server.reset()
            server.lose_next = 1


def _check_attempts(operation: Operation) -> None:
    targets = operation.targets
    runs = [target for index, target in enumerate(targets) if index == 0 or targets[index - 1] != target]
    assert len(runs) == len(set(runs)), "a target that was given up is tried again"
    for target in runs:
        assert targets.count(target) <= 2 + RETRY_LIMIT
    seen = operation.is_replay
    assert seen == sorted(seen), "what may have been carried out stays so"

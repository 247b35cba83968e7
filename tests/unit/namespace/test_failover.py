"""failover.py: the table of dispositions, targets and their order, crowds, and the budget."""

from __future__ import annotations

import errno
import logging

import pytest
import trio

from dfsfs.errors import (
    ConnectError,
    ConnectionLost,
    DfsfsError,
    ForeignCaller,
    PosixError,
    SecurityError,
    SmbError,
    WireError,
)
from dfsfs.happyeyeballs import ATTEMPT_DELAY
from dfsfs.namespace.binding import FAILURE_MEMORY
from dfsfs.namespace.failover import RETRY_LIMIT, RETRY_PAUSE
from dfsfs.namespace.junction import Junction, Location
from dfsfs.ntstatus import NtStatus
from tests.support.fakes.pool import unc, virtual
from tests.unit.namespace.script import PREFIX, Lab, Operation, resolution

pytestmark = pytest.mark.logs("failed over")

A, B, C = "//a/data", "//b/data", "//c/data"


def smb(status: int) -> SmbError:
    return SmbError(status, "test")


def lost() -> ConnectionLost:
    return ConnectionLost("a", NtStatus.CONNECTION_RESET, "connection reset")


def refused() -> ConnectError:
    return ConnectError("a", NtStatus.CONNECTION_REFUSED, "connection refused")


class TestFirstUse:
    @virtual
    async def test_binds_to_the_first_target_and_hands_out_the_path_there(self) -> None:
        lab = Lab.build()
        operation = Operation()
        assert await lab.run(operation) == "//a/data/dir/file"
        (attempt,) = operation.attempts
        assert attempt.tree is attempt.binding.tree
        assert attempt.path == unc("//a/data/dir/file")
        assert not attempt.is_replay
        assert lab.junction.generation == 1
        assert lab.resolver.asked == [(PREFIX, False)]
        assert lab.pool.connects == [A]

    @virtual
    async def test_a_bound_junction_asks_nobody(self) -> None:
        lab = Lab.build()
        for _ in range(3):
            await lab.run()
        assert len(lab.resolver.asked) == len(lab.pool.connects) == 1
        assert lab.resolver.confirmed == [A]

    @virtual
    async def test_dead_targets_are_passed_over_in_the_order_of_the_referral(self) -> None:
        lab = Lab.build()
        lab.pool.servers["a"].kill()
        lab.pool.servers["b"].shares.clear()
        operation = Operation()
        await lab.run(operation)
        assert operation.targets == [C]
        assert operation.is_replay == [False]
        assert lab.pool.connects == [A, B, C]
        assert lab.resolver.confirmed == [C]

    @virtual
    async def test_a_target_that_says_no_is_not_passed_over(self) -> None:
        for status in (NtStatus.ACCESS_DENIED, NtStatus.LOGON_FAILURE):
            lab = Lab.build()
            lab.pool.servers["a"].share_status["data"] = status
            with pytest.raises(SmbError) as caught:
                await lab.run()
            assert caught.value.status == status
            assert lab.pool.connects == [A]

    @virtual
    async def test_a_tag_that_no_server_follows_is_that_of_the_file_below_the_target(self) -> None:
        """Whoever may write there can make one, and the link must not move for it."""
        lab = Lab.build("ab")
        await lab.run()
        for _ in range(2):
            with pytest.raises(SmbError):
                await lab.run(Operation({A: [smb(NtStatus.IO_REPARSE_TAG_NOT_HANDLED)]}))
        assert lab.pool.connects == [A] and lab.junction.generation == 1

    @virtual
    async def test_the_last_error_is_raised_when_no_target_is_left(self) -> None:
        lab = Lab.build("ab")
        lab.pool.servers["a"].kill(NtStatus.HOST_UNREACHABLE)
        lab.pool.servers["b"].shares.clear()
        with pytest.raises(SmbError) as caught:
            await lab.run()
        assert caught.value.status == NtStatus.BAD_NETWORK_NAME

    @virtual
    async def test_a_connection_found_dead_at_the_tree_connect_is_made_anew(self) -> None:
        lab = Lab.build("ab")
        lab.pool.servers["a"].lose_next = 1
        operation = Operation()
        await lab.run(operation)
        assert operation.targets == [A]
        assert operation.is_replay == [False]

    @virtual
    async def test_a_target_lost_twice_at_the_tree_connect_is_passed_over(self) -> None:
        lab = Lab.build("ab")
        lab.pool.servers["a"].lose_next = 2
        operation = Operation()
        await lab.run(operation)
        assert operation.targets == [B]

    @virtual
    async def test_a_target_without_a_share_is_passed_over(self) -> None:
        lab = Lab.build("ab")
        lab.resolver.known[PREFIX] = resolution(PREFIX, ["//a", B])
        operation = Operation()
        await lab.run(operation)
        assert operation.targets == [B]

    @virtual
    async def test_a_referral_without_targets_is_an_error(self) -> None:
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, [])
        with pytest.raises(DfsfsError) as caught:
            await lab.run()
        assert caught.value.errno == errno.EHOSTUNREACH

    @virtual
    async def test_a_name_that_no_path_can_hold_is_einval(self) -> None:
        lab = Lab.build()
        await lab.run()
        with pytest.raises(PosixError) as caught:
            await lab.failover.run(Location(lab.junction, ("a\\b",)), Operation())
        assert caught.value.errno == errno.EINVAL

    @virtual
    async def test_targets_stand_for_the_covered_part_of_the_prefix_only(self) -> None:
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, [A], path_consumed=unc("//srv/ns"))
        assert await lab.run() == "//a/data/link/dir/file"
        assert lab.resolver.confirmed == [A]


OK: DfsfsError | None = None

DISPOSITIONS: list[tuple[str, list[DfsfsError | None], list[str], list[bool]]] = [
    ("success", [OK], [A], [False]),
    ("reconnect after a lost connection", [lost(), OK], [A, A], [False, True]),
    ("lost twice", [lost(), lost()], [A, A, B], [False, True, True]),
    ("share or session deleted", [smb(NtStatus.NETWORK_NAME_DELETED), OK], [A, A], [False, False]),
    ("session deleted twice", [smb(NtStatus.USER_SESSION_DELETED)] * 2, [A, A, B], [False, False, False]),
    ("never sent", [refused()], [A, B], [False, False]),
    ("target out of order", [smb(NtStatus.DISK_OPERATION_FAILED)], [A, B], [False, False]),
    ("nonsense from the server", [WireError("test")], [A, B], [False, False]),
    ("lost, then out of order", [lost(), smb(NtStatus.NETWORK_BUSY)], [A, A, B], [False, True, True]),
    ("please repeat", [smb(NtStatus.RETRY)] * 2, [A, A, A], [False] * 3),
]

FINAL: list[DfsfsError] = [
    smb(NtStatus.ACCESS_DENIED),
    smb(NtStatus.LOGON_FAILURE),
    smb(NtStatus.OBJECT_NAME_NOT_FOUND),
    smb(NtStatus.DISK_FULL),
    smb(0xC0FFEE00),
    SecurityError("forged"),
    PosixError(errno.EINVAL, "test"),
]


class TestDispositions:
    @pytest.mark.parametrize(
        ("script", "targets", "is_replay"), [row[1:] for row in DISPOSITIONS], ids=[row[0] for row in DISPOSITIONS]
    )
    @pytest.mark.parametrize("bound", [False, True], ids=["unbound", "bound"])
    def test_f10_c070_what_each_failure_leads_to(
        self, script: list[DfsfsError | None], targets: list[str], is_replay: list[bool], bound: bool
    ) -> None:
        @virtual
        async def scenario() -> None:
            lab = Lab.build()
            if bound:
                await lab.run()
            operation = Operation({A: list(script)})
            await lab.run(operation)
            assert operation.targets == targets
            assert operation.is_replay == is_replay
            assert lab.resolver.confirmed[-1] == targets[-1]
            assert lab.junction.generation == len(set(targets))
            lab.check_idle()

        scenario()

    @pytest.mark.parametrize("error", FINAL, ids=repr)
    @pytest.mark.parametrize("bound", [False, True], ids=["unbound", "bound"])
    def test_answers_are_not_tried_again(self, error: DfsfsError, bound: bool) -> None:
        @virtual
        async def scenario() -> None:
            lab = Lab.build()
            if bound:
                await lab.run()
            operation = Operation({A: [error]})
            with pytest.raises(DfsfsError) as caught:
                await lab.run(operation)
            assert caught.value is error
            assert operation.targets == [A]

        scenario()

    @virtual
    async def test_c070_c071_h06_each_target_once_in_order_and_the_last_error(self) -> None:
        lab = Lab.build()
        errors = [smb(NtStatus.DISK_OPERATION_FAILED), smb(NtStatus.NETWORK_BUSY), smb(NtStatus.DEVICE_OFF_LINE)]
        operation = Operation({A: [errors[0]], B: [errors[1]], C: [errors[2]]})
        with pytest.raises(SmbError) as caught:
            await lab.run(operation)
        assert caught.value is errors[2]
        assert operation.targets == [A, B, C]
        # That says nothing to the next one: the targets can all be connected.
        assert await lab.run() == "//c/data/dir/file"
        assert lab.failover.statistics().failed_binds == 0

    @virtual
    async def test_the_last_error_is_that_of_the_own_operation(self) -> None:
        lab = Lab.build("a")
        for status in (NtStatus.DISK_OPERATION_FAILED, NtStatus.NETWORK_BUSY):
            with pytest.raises(SmbError) as caught:
                await lab.run(Operation({A: [smb(status)]}))
            assert caught.value.status == status

    @virtual
    async def test_h08_the_target_in_use_comes_first_after_its_connection_ended(self) -> None:
        lab = Lab.build()
        await lab.run(Operation({A: [smb(NtStatus.DISK_OPERATION_FAILED)]}))
        lab.pool.servers["b"].reset()
        operation = Operation()
        await lab.run(operation)
        assert operation.targets == [B]
        assert lab.junction.generation == 2

    @virtual
    async def test_a_deleted_tree_connect_is_asked_for_again(self) -> None:
        lab = Lab.build()
        operation = Operation({A: [smb(NtStatus.NETWORK_NAME_DELETED)]})
        await lab.run(operation)
        first, second = (attempt.binding for attempt in operation.attempts)
        assert first is not second
        assert first.generation == second.generation
        assert lab.failover.statistics().reconnects == 1

    @virtual
    async def test_repetitions_are_bounded_and_further_and_further_apart(self) -> None:
        lab = Lab.build()
        operation = Operation({A: [smb(NtStatus.RETRY)] * 99})
        started = trio.current_time()
        with pytest.raises(SmbError):
            await lab.run(operation)
        assert operation.targets == [A] * (RETRY_LIMIT + 1)
        assert trio.current_time() - started == pytest.approx(RETRY_PAUSE * (2**RETRY_LIMIT - 1))

    @virtual
    async def test_a_dead_tree_is_not_used(self) -> None:
        lab = Lab.build()
        await lab.run()
        lab.pool.servers["a"].reset()
        operation = Operation()
        await lab.run(operation)
        assert operation.targets == [A]
        assert operation.is_replay == [False]
        assert lab.junction.generation == 1

    @virtual
    async def test_an_unreachable_target_comes_last_for_a_while(self) -> None:
        lab = Lab.build("ab")
        server = lab.pool.servers["a"]
        server.kill()
        await lab.run()
        other = Junction(unc("//srv/ns/other"))
        lab.resolver.known[other.prefix] = resolution(other.prefix, ["//a/data/x", "//b/data/x"])
        await lab.failover.run(Location(other), Operation())
        assert lab.pool.connects == [A, B]
        await trio.sleep(FAILURE_MEMORY)
        server.revive()
        third = Junction(unc("//srv/ns/third"))
        lab.resolver.known[third.prefix] = resolution(third.prefix, [A, B])
        assert await lab.failover.run(Location(third), Operation()) == A

    @virtual
    async def test_one_line_for_each_failover(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "dfsfs.events")
        lab = Lab.build("ab")
        await lab.run()
        assert not caplog.records
        await lab.run(Operation({A: [smb(NtStatus.DISK_OPERATION_FAILED)]}))
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        for part in (str(PREFIX), A, B, "STATUS_DISK_OPERATION_FAILED"):
            assert part in record.getMessage()
        assert lab.failover.statistics().failovers == 1
        caplog.clear()


class TestCrowds:
    @virtual
    async def test_two_tasks_on_a_dying_target_move_once(self) -> None:
        lab = Lab.build("ab")
        await lab.run()
        lab.pool.servers["a"].connect_time = 3.0
        operations = [Operation({A: [lost()]}, takes=1.0) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for operation in operations:
                nursery.start_soon(lab.run, operation)
            await trio.sleep(0.5)
            lab.pool.servers["a"].kill()
        assert [operation.targets for operation in operations] == [[A, B], [A, B]]
        assert [operation.is_replay for operation in operations] == [[False, True], [False, True]]
        assert lab.pool.connects == [A, B], "A says nothing, so B is used before it has refused"
        assert lab.junction.generation == 2
        assert lab.failover.statistics().binds == 2

    @virtual
    async def test_a_target_given_up_is_not_used_because_another_task_moved_there(self) -> None:
        lab = Lab.build("ab")
        broken = smb(NtStatus.DISK_OPERATION_FAILED)
        slow = Operation({A: [broken], B: [broken]}, takes=4.0)
        quick = Operation({B: [broken]}, takes=1.0)

        async def move_back() -> None:
            await trio.sleep(5.0)
            assert await lab.run(quick) == "//a/data/dir/file"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move_back)
            with pytest.raises(SmbError):
                await lab.run(slow)
        assert quick.targets == [B, A]
        assert slow.targets == [A, B]

    @virtual
    async def test_that_one_process_is_refused_says_nothing_to_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lab = Lab.build("ab")

        async def refuse(share: object) -> None:
            raise ForeignCaller(17, 1000, "it is in a container")

        with monkeypatch.context() as patch:
            patch.setattr(lab.pool, "connect_tree", refuse)
            with pytest.raises(ForeignCaller):
                await lab.run()
        assert await lab.run() == "//a/data/dir/file"

    @virtual
    async def test_fifty_callers_at_dead_targets_cost_one_round_of_timeouts(self) -> None:
        lab = Lab.build("ab")
        for server in lab.pool.servers.values():
            server.kill(NtStatus.IO_TIMEOUT)
            server.connect_time = 8.0
        errors: list[ConnectError] = []

        async def call() -> None:
            with pytest.raises(ConnectError) as caught:
                await lab.run()
            errors.append(caught.value)

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(call)
        assert trio.current_time() - started == pytest.approx(8.0 + ATTEMPT_DELAY)
        assert {error.host for error in errors} == {"b"}
        assert lab.pool.connects == [A, B]
        assert lab.failover.statistics().refused_at_once == 49

    @virtual
    async def test_a_crowd_on_a_bound_junction_whose_targets_all_died(self) -> None:
        lab = Lab.build("ab")
        await lab.run()
        for server in lab.pool.servers.values():
            server.kill(NtStatus.IO_TIMEOUT)
            server.connect_time = 8.0

        async def call() -> None:
            with pytest.raises(ConnectError):
                await lab.run(Operation({A: [lost()]}))

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(call)
        assert trio.current_time() - started == pytest.approx(8.0 + ATTEMPT_DELAY)

    @virtual
    async def test_the_memory_of_a_failure_ends(self) -> None:
        lab = Lab.build("a")
        lab.pool.servers["a"].kill()
        for _ in range(3):
            with pytest.raises(ConnectError):
                await lab.run()
        assert lab.pool.connects == [A]
        lab.pool.servers["a"].revive()
        with pytest.raises(ConnectError):
            await lab.run()
        await trio.sleep(FAILURE_MEMORY)
        await lab.run()

    @virtual
    async def test_a_failure_is_not_believed_by_who_has_more_to_try(self) -> None:
        lab = Lab.build("ab")
        lab.pool.servers["b"].kill()
        # Out of order at A and B dead: that is remembered as "everything but A".
        with pytest.raises(ConnectError):
            await lab.run(Operation({A: [smb(NtStatus.DISK_OPERATION_FAILED)]}))
        lab.pool.servers["a"].reset()
        assert await lab.run() == "//a/data/dir/file"

    @virtual
    async def test_a_dead_link_delays_no_other_link(self) -> None:
        lab = Lab.build("ab")
        lab.pool.servers["a"].kill(NtStatus.IO_TIMEOUT)
        lab.pool.servers["a"].connect_time = 8.0
        lab.resolver.known[PREFIX] = resolution(PREFIX, [A])
        live = Junction(unc("//srv/ns/live"))
        lab.resolver.known[live.prefix] = resolution(live.prefix, [B])

        async def dead() -> None:
            with pytest.raises(ConnectError):
                await lab.run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dead)
            await trio.sleep(1.0)
            started = trio.current_time()
            await lab.failover.run(Location(live), Operation())
            assert trio.current_time() == started

    @virtual
    async def test_one_resolution_for_a_crowd(self) -> None:
        lab = Lab.build()
        lab.resolver.delay = 1.0
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(lab.run)
        assert lab.resolver.asked == [(PREFIX, False)]
        assert lab.pool.connects == [A]
        assert lab.failover.statistics().binds == 1


class TestBudget:
    @virtual
    async def test_binding_ends_with_the_budget(self) -> None:
        lab = Lab.build("a", timeout=5.0)
        lab.pool.servers["a"].connect_time = 100.0
        started = trio.current_time()
        with pytest.raises(ConnectError) as caught:
            await lab.run()
        assert trio.current_time() - started == pytest.approx(5.0)
        assert caught.value.status == NtStatus.IO_TIMEOUT
        lab.check_idle()

    @virtual
    async def test_the_first_attempt_is_not_cut_short(self) -> None:
        lab = Lab.build(timeout=5.0)
        assert await lab.run(Operation(takes=60.0))
        assert await lab.run(Operation(takes=60.0))

    @virtual
    async def test_the_second_attempt_is(self) -> None:
        lab = Lab.build(timeout=5.0)
        error = lost()
        started = trio.current_time()
        with pytest.raises(ConnectionLost) as caught:
            await lab.run(Operation({A: [error]}, takes=20.0))
        assert caught.value is error
        assert trio.current_time() - started == pytest.approx(25.0)
        lab.check_idle()

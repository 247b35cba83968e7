"""failover.py: PATH_NOT_COVERED, referrals whose time is up, and what is logged of them."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, cast

import pytest
import trio

from dfsfs.errors import ConnectError, DfsfsError, NamespaceLoop, SecurityError, SmbError
from dfsfs.namespace.junction import REFRESH_FLOOR, PathNotCovered
from dfsfs.namespace.maintenance import REFRESH_TIMEOUT, RETRY_AFTER
from dfsfs.ntstatus import NtStatus
from tests.support.fakes.pool import unc, virtual
from tests.unit.namespace.script import PREFIX, Lab, Operation, resolution

if TYPE_CHECKING:
    from dfsfs.dfsc.referral import Referral

pytestmark = pytest.mark.logs("failed over")

A, B, C = "//a/data", "//b/data", "//c/data"


REFERRAL = cast("Referral", object())


def not_covered() -> SmbError:
    return SmbError(NtStatus.PATH_NOT_COVERED, "test")


class TestPathNotCovered:
    @virtual
    async def test_a_link_below_goes_up_as_covered(self) -> None:
        lab = Lab.build()
        link = PREFIX.join(["dir"])
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B], path_consumed=link)
        operation = Operation({A: [not_covered()]})
        with pytest.raises(PathNotCovered) as caught:
            await lab.run(operation)
        assert caught.value.prefix == link
        assert caught.value.errno == errno.EREMOTE
        assert operation.targets == [A]
        # The junction itself is where it was.
        assert await lab.run() == "//a/data/dir/file"
        assert lab.junction.generation == 1

    @virtual
    async def test_a_junction_bound_by_its_root_is_bound_deeper(self) -> None:
        # What the file system knows from a listing only: the root's target is all that the cache has for it.
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, ["//a/data"], path_consumed=unc("//srv/ns"))
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B, C], path_consumed=PREFIX)
        operation = Operation({"//a/data/link": [not_covered()]})
        assert await lab.run(operation) == "//b/data/dir/file"
        assert operation.targets == ["//a/data/link", B]
        assert operation.is_replay == [False, False]
        assert lab.failover.statistics().failovers == 0
        assert await lab.run() == "//b/data/dir/file"

    @virtual
    async def test_an_unmarked_interlink_is_followed_through_several_namespaces(self) -> None:
        lab = Lab.build()
        operation = Operation({A: [not_covered()], B: [not_covered()]}, takes=1.0)
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B], path_consumed=PREFIX)

        async def next_answer() -> None:
            await trio.sleep(1.5)
            lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [C], path_consumed=PREFIX)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(next_answer)
            assert await lab.run(operation) == "//c/data/dir/file"
        assert operation.targets == [A, B, C]

    @virtual
    async def test_a_dead_target_at_the_end_of_an_interlink_is_passed_over(self) -> None:
        lab = Lab.build()
        lab.pool.servers["b"].kill()
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B, C], path_consumed=PREFIX)
        operation = Operation({A: [not_covered()]})
        await lab.run(operation)
        assert operation.targets == [A, C]

    @virtual
    async def test_a_referral_back_to_the_same_target_is_a_loop(self) -> None:
        lab = Lab.build()
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [A], path_consumed=PREFIX)
        with pytest.raises(NamespaceLoop) as caught:
            await lab.run(Operation({A: [not_covered()] * 99}))
        assert caught.value.errno == errno.ELOOP
        lab.check_idle()

    @virtual
    async def test_more_namespaces_than_allowed_are_a_loop(self) -> None:
        lab = Lab.build("abcdefghijkl")
        operation = Operation({f"//{host}/data": [not_covered()] for host in "abcdefghijkl"}, takes=1.0)

        async def next_answer() -> None:
            while True:
                target = f"//{'abcdefghijkl'[len(operation.targets)]}/data"
                lab.resolver.not_covered[lab.location.unc] = resolution(
                    lab.location.unc, [target], path_consumed=PREFIX
                )
                await trio.sleep(0.5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(next_answer)
            with pytest.raises(NamespaceLoop):
                await lab.run(operation)
            nursery.cancel_scope.cancel()
        assert len(operation.targets) == 9

    @virtual
    async def test_a_crowd_asks_and_moves_once_each(self) -> None:
        lab = Lab.build()
        await lab.run()
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B], path_consumed=PREFIX)
        operations = [Operation({A: [not_covered()]}, takes=1.0) for _ in range(10)]
        async with trio.open_nursery() as nursery:
            for operation in operations:
                nursery.start_soon(lab.run, operation)
        assert {tuple(operation.targets) for operation in operations} == {(A, B)}
        assert lab.junction.generation == lab.failover.statistics().binds == 2

    @virtual
    async def test_who_hears_late_does_not_undo_the_move(self) -> None:
        lab = Lab.build()
        await lab.run()
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B], path_consumed=PREFIX)
        lab.resolver.delay = 1.0
        async with trio.open_nursery() as nursery:
            for takes in (1.0, 1.5):
                nursery.start_soon(lab.run, Operation({A: [not_covered()]}, takes=takes))
        assert lab.failover.statistics().binds == 2

    @virtual
    async def test_who_comes_after_the_move_does_not_ask(self) -> None:
        lab = Lab.build()
        await lab.run()
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B], path_consumed=PREFIX)
        late = Operation({A: [not_covered()]}, takes=5.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.run, late)
            nursery.start_soon(lab.run, Operation({A: [not_covered()]}, takes=1.0))
        assert late.targets == [A, B]
        assert [not_covered for _, not_covered in lab.resolver.asked] == [False, False, True]

    @virtual
    async def test_a_link_that_another_operation_learnt_of_is_not_asked_for(self) -> None:
        # The resolver would take the link's own target for what is not covered.
        lab = Lab.build()
        await lab.run()
        link = PREFIX.join(["dir"])
        lab.resolver.known[link] = resolution(link, [B])
        with pytest.raises(PathNotCovered) as caught:
            await lab.run(Operation({A: [not_covered()]}))
        assert caught.value.prefix == link
        assert True not in [not_covered for _, not_covered in lab.resolver.asked]

    @virtual
    async def test_an_answer_that_leads_back_is_asked_for_again(self) -> None:
        # The first one only tells that the target is a namespace, the second one what is below that.
        lab = Lab.build()
        lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [A], path_consumed=PREFIX)
        lab.resolver.delay = 1.0

        async def answer_better() -> None:
            await trio.sleep(3.5)
            lab.resolver.not_covered[lab.location.unc] = resolution(lab.location.unc, [B], path_consumed=PREFIX)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_better)
            assert await lab.run(Operation({A: [not_covered()]})) == "//b/data/dir/file"

    @virtual
    async def test_a_refused_referral_is_the_answer(self) -> None:
        lab = Lab.build()
        with pytest.raises(SmbError) as caught:
            await lab.run(Operation({A: [not_covered()]}))
        assert caught.value.status == NtStatus.OBJECT_PATH_NOT_FOUND

    @virtual
    async def test_without_dfs_it_is_the_answer(self) -> None:
        lab = Lab.build(follow_links=False)
        with pytest.raises(SmbError) as caught:
            await lab.run(Operation({A: [not_covered()]}))
        assert caught.value.status == NtStatus.PATH_NOT_COVERED
        assert lab.resolver.asked == [(PREFIX, False)]


class TestNamespaceBehindATarget:
    """Samba's `msdfs proxy`: a root that answers referrals and can't be connected."""

    @virtual
    async def test_its_targets_take_its_place(self) -> None:
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, ["//a/proxy/x", C], referral=REFERRAL)
        lab.resolver.not_covered[PREFIX] = resolution(PREFIX, ["//a/gone", "//b/data/x"], referral=REFERRAL)
        assert await lab.run() == "//b/data/x/dir/file"
        assert lab.pool.connects == ["//a/proxy", "//a/gone", B]
        lab.check_idle()

    @virtual
    async def test_a_share_that_is_merely_missing_is_passed_over(self) -> None:
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, ["//a/gone", C], referral=REFERRAL)
        assert await lab.run() == "//c/data/dir/file"

    @virtual
    async def test_two_that_lead_to_each_other_end(self) -> None:
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, ["//a/one"], referral=REFERRAL)
        lab.resolver.not_covered[PREFIX] = resolution(PREFIX, ["//b/two"], referral=REFERRAL)
        with pytest.raises(SmbError) as caught:
            await lab.run()
        assert caught.value.status == NtStatus.BAD_NETWORK_NAME
        assert lab.pool.connects == ["//a/one", "//b/two"]

    @virtual
    async def test_a_plain_share_is_not_looked_behind(self) -> None:
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, ["//a/gone"])
        with pytest.raises(SmbError):
            await lab.run()
        assert lab.resolver.asked == [(PREFIX, False)]


class TestRefresh:
    @staticmethod
    async def expired(targets: list[str] | DfsfsError) -> Lab:
        """A junction bound to A whose referral's time is up, and what the next one says."""
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, [A], expires=trio.current_time() + 600)
        await lab.run()
        await trio.sleep(600)
        if isinstance(targets, DfsfsError):
            lab.resolver.known[PREFIX] = targets
        else:
            lab.resolver.known[PREFIX] = resolution(PREFIX, targets, expires=trio.current_time() + 600)
        return lab

    @staticmethod
    async def refreshed(lab: Lab) -> str:
        """An operation that notices that the time is up, what is done in the background, and the next operation."""
        await lab.run()
        await lab.failover.maintenance.refresh_due()
        return await lab.run()

    @virtual
    async def test_h09_not_before_its_time_and_not_renewed_by_use(self) -> None:
        lab = await self.expired([A])
        assert len(lab.resolver.asked) == 1
        await lab.run()
        await lab.failover.maintenance.refresh_due()
        assert len(lab.resolver.asked) == 2
        for _ in range(3):
            await trio.sleep(199)
            await lab.run()
            await lab.failover.maintenance.refresh_due()
        assert len(lab.resolver.asked) == 2

    @virtual
    async def test_c033_the_soft_timeout_delays_nobody(self) -> None:
        lab = await self.expired([B])
        lab.resolver.delay = math.inf
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.failover.maintenance.serve)
            for _ in range(5):
                assert await lab.run() == "//a/data/dir/file"
            assert trio.current_time() == started
            nursery.cancel_scope.cancel()

    @virtual
    async def test_f16_after_the_hard_timeout_an_operation_waits(self) -> None:
        lab = await self.expired([B])
        await trio.sleep(3 * 600 + trio.current_time())
        assert await lab.run() == "//b/data/dir/file"

    @virtual
    async def test_f16_a_silent_namespace_server_delays_one_operation_a_little(self) -> None:
        lab = await self.expired([B])
        await trio.sleep(3 * 600 + trio.current_time())
        asked, lab.resolver.delay = len(lab.resolver.asked), math.inf
        times: list[float] = []
        started = trio.current_time()

        async def call() -> None:
            await lab.run()
            times.append(trio.current_time() - started)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
        assert sorted(times) == pytest.approx([0, 0, 0, 0, REFRESH_TIMEOUT])
        assert len(lab.resolver.asked) == asked + 1

    @virtual
    async def test_a_junction_in_use_waits_for_no_silent_namespace_server_however_old_its_referral_is(self) -> None:
        lab = await self.expired([B])
        lab.resolver.delay = math.inf
        waited = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.failover.maintenance.serve)
            for _ in range(400):  # beyond the hard timeout, which is 1800 s away
                begun = trio.current_time()
                assert await lab.run() == "//a/data/dir/file"
                waited.append(trio.current_time() - begun)
                await trio.sleep(10.0)
            nursery.cancel_scope.cancel()
        assert max(waited) == 0.0

    @virtual
    async def test_the_binding_stays_while_its_target_does(self) -> None:
        lab = await self.expired([B, A])
        before = lab.junction.binding
        assert await self.refreshed(lab) == "//a/data/dir/file"
        assert lab.junction.binding is before

    @virtual
    async def test_h10_the_junction_leaves_a_target_that_is_gone(self) -> None:
        lab = await self.expired([C, B])
        assert await self.refreshed(lab) == "//c/data/dir/file"
        assert lab.junction.generation == 2
        assert lab.failover.statistics().failovers == 0

    @pytest.mark.parametrize(
        "error",
        [
            ConnectError("srv", NtStatus.HOST_UNREACHABLE, "test"),
            SmbError(NtStatus.DFS_UNAVAILABLE, "test"),
            SecurityError("forged"),
        ],
        ids=repr,
    )
    def test_c098_what_is_known_stays_when_there_is_no_answer(self, error: DfsfsError) -> None:
        @virtual
        async def scenario() -> None:
            lab = await self.expired(error)
            for _ in range(3):
                assert await self.refreshed(lab) == "//a/data/dir/file"
            assert len(lab.resolver.asked) == 2
            lab.resolver.known[PREFIX] = resolution(PREFIX, [B])
            await trio.sleep(RETRY_AFTER)
            assert await self.refreshed(lab) == "//b/data/dir/file"

        scenario()

    @virtual
    async def test_a_cancelled_refresh_is_left_to_the_next(self) -> None:
        lab = await self.expired([B])
        await trio.sleep(3 * 600 + trio.current_time())
        lab.resolver.delay = 1.0
        with trio.move_on_after(0.5):
            await lab.run()
        assert await lab.run() == "//b/data/dir/file"

    @virtual
    async def test_a_link_that_is_gone_is_an_error_until_it_comes_back(self) -> None:
        lab = await self.expired(SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, "test"))
        assert await lab.run() == "//a/data/dir/file"
        await lab.failover.maintenance.refresh_due()
        assert lab.junction.binding is None
        for _ in range(2):
            with pytest.raises(SmbError) as caught:
                await lab.run()
            assert caught.value.errno == errno.ENOENT
        lab.resolver.known[PREFIX] = resolution(PREFIX, [A])
        await trio.sleep(10)
        assert await lab.run() == "//a/data/dir/file"
        assert lab.junction.generation == 1

    @virtual
    async def test_no_time_to_live_at_all_does_not_cost_a_request_for_each_operation(self) -> None:
        lab = Lab.build()
        lab.resolver.known[PREFIX] = resolution(PREFIX, [A], expires=0.0)
        for _ in range(10):
            await lab.run()
        assert len(lab.resolver.asked) == 1
        await trio.sleep(REFRESH_FLOOR)
        await self.refreshed(lab)
        assert len(lab.resolver.asked) == 2

    @virtual
    async def test_an_unbound_junction_refreshes_before_it_binds(self) -> None:
        lab = Lab.build("ab")
        lab.pool.servers["a"].kill()
        lab.resolver.known[PREFIX] = resolution(PREFIX, [A], expires=trio.current_time() + 60)
        with pytest.raises(ConnectError):
            await lab.run()
        lab.resolver.known[PREFIX] = resolution(PREFIX, [B])
        await trio.sleep(60)
        assert await lab.run() == "//b/data/dir/file"

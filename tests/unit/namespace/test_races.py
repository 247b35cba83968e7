"""Targets of one set are tried in a race: how long programs wait, and what is never done for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.dfsc.referral import Referral, Target
from dfsfs.errors import ConnectError, DfsfsError, LoginRefused, SmbError
from dfsfs.happyeyeballs import ATTEMPT_DELAY
from dfsfs.namespace.client import Namespace
from dfsfs.namespace.junction import Attempt, Junction, Location, PathNotCovered
from dfsfs.namespace.reachability import REFUSED_SECONDS, SILENT_SECONDS, Reachability
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import TargetSkipped, collect_events
from tests.support.fakes.pool import FakeLink, FakePool, FakeServer, unc, virtual
from tests.unit.namespace.script import PREFIX, Lab, Operation, resolution

if TYPE_CHECKING:
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath

A, B, C = "//a/data", "//b/data", "//c/data"


def hang(lab: Lab, host: str, seconds: float = 8.0) -> None:
    """The server takes no connection, and costs so long to find that out."""
    lab.pool.servers[host].kill(NtStatus.IO_TIMEOUT)
    lab.pool.servers[host].connect_time = seconds


def in_sets(lab: Lab, *sets: str) -> None:
    """The targets in target sets: `ab`, `c`."""
    targets = [Target(unc(f"//{host}/data"), not index) for each in sets for index, host in enumerate(each)]
    known = lab.resolver.known[PREFIX]
    assert not isinstance(known, DfsfsError)
    lab.resolver.known[PREFIX] = replace(known, targets=tuple(targets))


@virtual
async def test_a_silent_first_target_costs_the_head_start() -> None:
    lab = Lab.build()
    hang(lab, "a")
    operation = Operation()
    await lab.run(operation)
    assert operation.targets == [B] and trio.current_time() == pytest.approx(ATTEMPT_DELAY)
    lab.check_idle()


@virtual
async def test_the_next_ones_do_not_pay_again() -> None:
    lab = Lab.build()
    hang(lab, "a")
    await lab.run()
    begun = trio.current_time()
    for number in range(5):
        other = Junction(unc(f"//srv/ns/link{number}"))
        lab.resolver.known[other.prefix] = resolution(other.prefix, [A, B])
        await lab.failover.run(replace(lab.location, junction=other), Operation())
    assert trio.current_time() == begun
    lab.pool.servers["a"].revive()
    lab.pool.servers["a"].connect_time = 0.0
    await trio.sleep(SILENT_SECONDS)
    other = Junction(unc("//srv/ns/last"))
    lab.resolver.known[other.prefix] = resolution(other.prefix, [A, B])
    operation = Operation()
    await lab.failover.run(replace(lab.location, junction=other), operation)
    assert operation.targets == [A]


@virtual
async def test_who_answers_in_time_keeps_its_place() -> None:
    lab = Lab.build()
    lab.pool.servers["a"].connect_time = ATTEMPT_DELAY - 0.01
    operation = Operation()
    await lab.run(operation)
    assert operation.targets == [A] and lab.pool.connects == [A]


@virtual
async def test_no_target_of_the_next_set_before_all_of_this_one_have_failed() -> None:
    lab = Lab.build("abc")
    in_sets(lab, "ab", "c")
    hang(lab, "a")
    hang(lab, "b")
    operation = Operation()
    await lab.run(operation)
    assert operation.targets == [C] and trio.current_time() == pytest.approx(8.0 + ATTEMPT_DELAY)


@virtual
async def test_a_drained_server_is_no_faster_than_the_others() -> None:
    lab = Lab.build("ab")
    lab.failover.overrides.drained["A"] = "a"
    lab.pool.servers["b"].connect_time = 3.0
    operation = Operation()
    await lab.run(operation)
    assert operation.targets == [B] and lab.pool.connects == [B]


@virtual
async def test_one_login_at_a_time_and_a_wrong_password_counts_once() -> None:
    lab = Lab.build("abc")
    for host in "abc":
        lab.pool.servers[host].login_status = NtStatus.LOGON_FAILURE
        lab.pool.servers[host].login_time = 2.0
    with pytest.raises(LoginRefused):
        await lab.run()
    assert lab.pool.most_logins == 1
    assert [lab.pool.servers[host].logins for host in "abc"] == [1, 0, 0]


@virtual
async def test_a_member_that_finds_no_controller_leaves_it_to_the_next() -> None:
    lab = Lab.build("ab")
    lab.pool.servers["a"].login_status = NtStatus.NO_LOGON_SERVERS
    operation = Operation()
    with collect_events(trio.current_time) as events:
        await lab.run(operation)
    assert operation.targets == [B]
    (skipped,) = (event for _, event in events if isinstance(event, TargetSkipped))
    assert skipped.target == unc(A) and "NO_LOGON_SERVERS" in skipped.why


@virtual
async def test_the_first_that_says_why_it_can_not_is_heard_if_none_is_left() -> None:
    lab = Lab.build("abc")
    lab.pool.servers["a"].kill()
    lab.pool.servers["b"].login_status = NtStatus.NETLOGON_NOT_STARTED
    lab.pool.servers["c"].login_status = NtStatus.INSUFF_SERVER_RESOURCES
    with pytest.raises(SmbError) as caught:
        await lab.run()
    assert caught.value.status == NtStatus.NETLOGON_NOT_STARTED


class TestReachability:
    @virtual
    async def test_what_is_held_against_a_server(self) -> None:
        known = Reachability(trio.current_time)
        known.note_failure("a", ConnectError("a", NtStatus.CONNECTION_REFUSED, "x"))
        known.note_failure("B", ConnectError("b", NtStatus.IO_TIMEOUT, "x"))
        known.note_failure("c", SmbError(NtStatus.BAD_NETWORK_NAME, "x"))
        known.note_failure("d", LoginRefused(NtStatus.LOGON_FAILURE, "x"))
        known.note_silence("e")
        assert known.order_hosts("abcde") == ["c", "d", "a", "b", "e"]
        await trio.sleep(REFUSED_SECONDS)
        assert known.order_hosts("abcde") == ["a", "c", "d", "b", "e"]
        known.note_answer("b")
        assert known.order_hosts("abcde") == ["a", "b", "c", "d", "e"]
        await trio.sleep(SILENT_SECONDS)
        assert not known.is_suspect("e")


class Roots:
    """A namespace //ns1/dfs with a second root server, and a link to fs1."""

    def __init__(self) -> None:
        targets = ["\\ns1\\dfs", "\\ns2\\dfs"]
        links = {
            unc("//ns1/dfs"): FakeLink(targets, root=True),
            **{unc(f"//{host}/dfs/link"): FakeLink(["\\fs1\\data"]) for host in ("ns1", "ns2")},
        }
        self.servers = {host: FakeServer(host, {"dfs": True}, dict(links)) for host in ("ns1", "ns2")}
        self.pool = FakePool(*self.servers.values(), FakeServer("fs1", {"data": False}))
        self.namespace = Namespace(self.pool.as_pool)


@virtual
async def test_a_root_server_that_hangs_with_a_session_costs_the_head_start() -> None:
    world = Roots()
    await world.namespace.mount_root(unc("//ns1/dfs"))
    world.servers["ns1"].silent = True
    begun = trio.current_time()
    found = await world.namespace.resolve_link(unc("//ns1/dfs/link"))
    assert [str(target.path) for target in found.targets] == ["//fs1/data"]
    assert trio.current_time() - begun == pytest.approx(ATTEMPT_DELAY)
    assert [str(event) for event in found.trail if "ns1: it is silent" in str(event)]


class TestHedge:
    """Questions to a namespace's own servers, of which one hangs and its connection is there."""

    async def asked(self, world: Roots, location: Location) -> tuple[object, float]:
        """What a question comes to, and after how many seconds."""
        begun = trio.current_time()
        try:
            return await world.namespace.run_hedged(location, stat_of), trio.current_time() - begun
        except DfsfsError as error:
            return error, trio.current_time() - begun

    @virtual
    async def test_they_go_to_another_one_as_well(self) -> None:
        world = Roots()
        root = await world.namespace.mount_root(unc("//ns1/dfs"))
        binding = root.junction.binding
        world.servers["ns1"].silent = True
        for name, kind in (("link", PathNotCovered), ("missing", SmbError), ("folder", tuple)):
            for wait in (ATTEMPT_DELAY, 0.0):
                found, seconds = await self.asked(world, root.child(name))
                assert isinstance(found, kind) and seconds == pytest.approx(wait if name == "link" else 0.0)
        assert root.junction.binding is binding, "whatever is open there stays open"

    @virtual
    async def test_the_silent_one_is_asked_again_when_it_answers(self) -> None:
        world = Roots()
        root = await world.namespace.mount_root(unc("//ns1/dfs"))
        world.servers["ns1"].silent = True
        await self.asked(world, root.child("folder"))
        world.servers["ns1"].silent = False
        found, _ = await self.asked(world, root.child("folder"))
        assert isinstance(found, tuple) and found[1].host in ("ns1", "ns2")
        await trio.sleep(SILENT_SECONDS)
        world.servers["ns2"].silent = True
        found, seconds = await self.asked(world, root.child("folder"))
        assert isinstance(found, tuple) and found[1].host == "ns1" and seconds == 0.0

    @virtual
    async def test_when_all_hang_the_first_failure_is_that_of_the_target_in_use(self) -> None:
        world = Roots()
        root = await world.namespace.mount_root(unc("//ns1/dfs"))
        for server in world.servers.values():
            server.silent = True
        with trio.move_on_after(60.0) as scope:
            await self.asked(world, root.child("folder"))
        assert scope.cancelled_caught, "no answer is made up"


async def stat_of(attempt: Attempt) -> tuple[FileStat, UncPath]:
    return await attempt.tree.stat(attempt.path), attempt.tree.share


def test_a_set_begins_where_the_referral_says_and_the_hint_is() -> None:
    targets = tuple(Target(unc(f"//{host}/data"), host in "ac") for host in "abcd")
    known = Referral(PREFIX, False, False, False, targets, 0.0, 300, hint=3)
    sets = [[target.path.host for target in each] for each in known.ordered_sets]
    assert sets == [["d"], ["a", "b"], ["c"]]

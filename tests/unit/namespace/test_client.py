"""client.py: what the resolver asks for is done as it should be, and mounting over small universes of fake servers."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, cast

import pytest
import trio

from dfsfs.dfsc.actions import (
    Action,
    Answered,
    DiscoverDc,
    Failed,
    Outcome,
    QueryShareIsDfs,
    ReferralReceived,
    RequestReferral,
)
from dfsfs.dfsc.cache import Caches
from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError, NamespaceLoop, PosixError, SmbError
from dfsfs.namespace import referralclient
from dfsfs.namespace.client import MAX_RECENT_JUNCTIONS, Namespace
from dfsfs.namespace.junction import Attempt, Location, PathNotCovered
from dfsfs.namespace.referralclient import ReferralClient
from dfsfs.namespace.referrals import REFERRAL_SIZES, ReferralSettings
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import Telemetry
from tests.support.fakes.pool import FakeLink, FakePool, FakeServer, unc, virtual
from tests.unit.namespace.script import PREFIX, resolution

if TYPE_CHECKING:
    from collections.abc import Generator

    from dfsfs.dfsc.actions import ReferralKind
    from dfsfs.dfsc.walk import Resolution
    from dfsfs.telemetry import Event
    from dfsfs.unc import UncPath

pytestmark = pytest.mark.logs("failed over")

KIND = cast("ReferralKind", None)
"""The driver does not look at it."""


class Script:
    """Stands in for the resolver: yields the given actions, keeps the outcomes, ends with a resolution or an error."""

    def __init__(self, *actions: Action, end: DfsfsError | None = None) -> None:
        self.actions = actions
        self.outcomes: list[Outcome] = []
        self.end = end
        self.runs = 0

    def resolve(
        self, path: UncPath, caches: Caches, trail: list[Event], **options: object
    ) -> Generator[Action, Outcome, Resolution]:
        self.runs += 1
        for action in self.actions:
            self.outcomes.append((yield action))
        if self.end is not None:
            raise self.end
        return resolution(path, ["//srv/data"])


ROOT = RequestReferral(host="srv", path=PREFIX, kind=KIND)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer("srv", {"ns": True, "data": False}, links={PREFIX: FakeLink(["\\srv\\data"])})


def a_client(pool: FakePool, monkeypatch: pytest.MonkeyPatch, script: Script) -> ReferralClient:
    monkeypatch.setattr(referralclient, "resolve", script.resolve)
    return ReferralClient(pool.as_pool, Caches(), ReferralSettings(), telemetry=Telemetry())


class TestActions:
    def outcome(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch, action: Action) -> tuple[Outcome, FakePool]:
        """What the resolver is told after asking for `action`."""

        @virtual
        async def run() -> tuple[Outcome, FakePool]:
            script, pool = Script(action), FakePool(server)
            await a_client(pool, monkeypatch, script).resolve(PREFIX)
            (outcome,) = script.outcomes
            return outcome, pool

        return run()

    def test_a_referral_is_asked_for_on_ipc(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome, pool = self.outcome(server, monkeypatch, ROOT)
        assert isinstance(outcome, ReferralReceived)
        assert pool.connects == ["//srv/IPC$"]
        assert pool.referrals == [("srv", str(PREFIX), 4096)]

    def test_a_cut_answer_is_thrown_away(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        server.links[PREFIX] = FakeLink([f"\\host{index:03}\\data" for index in range(100)])
        outcome, pool = self.outcome(server, monkeypatch, ROOT)
        assert isinstance(outcome, ReferralReceived)
        assert [room for _, _, room in pool.referrals] == [4096, 8192, 16384]

    def test_no_answer_is_longer_than_56_kib(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        server.links[PREFIX] = FakeLink([f"\\host{index:03}\\data" for index in range(600)])
        outcome, pool = self.outcome(server, monkeypatch, ROOT)
        assert isinstance(outcome, Failed)
        assert outcome.error.status == NtStatus.BUFFER_OVERFLOW
        assert tuple(room for _, _, room in pool.referrals) == REFERRAL_SIZES
        assert REFERRAL_SIZES[-1] == 56 * 1024

    def test_a_refusal_names_path_and_server(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        server.links.clear()
        outcome, _ = self.outcome(server, monkeypatch, ROOT)
        assert isinstance(outcome, Failed)
        assert outcome.error.status == NtStatus.NOT_FOUND
        assert str(PREFIX) in str(outcome.error)

    def test_a_dead_server_is_an_outcome(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        server.kill()
        outcome, _ = self.outcome(server, monkeypatch, ROOT)
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, ConnectError)

    @pytest.mark.parametrize(("losses", "kind"), [(1, ReferralReceived), (2, Failed)])
    def test_an_idle_connection_may_be_dead_once(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch, losses: int, kind: type
    ) -> None:
        server.lose_next = losses
        outcome, _ = self.outcome(server, monkeypatch, ROOT)
        assert isinstance(outcome, kind)
        if isinstance(outcome, Failed):
            assert isinstance(outcome.error, ConnectionLost)

    @pytest.mark.parametrize(("share", "is_dfs"), [("ns", True), ("data", False)])
    def test_shares_are_asked_whether_they_take_part(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch, share: str, is_dfs: bool
    ) -> None:
        outcome, _ = self.outcome(server, monkeypatch, QueryShareIsDfs(target=unc(f"//srv/{share}/x")))
        assert isinstance(outcome, Answered)
        assert outcome.value is is_dfs

    def test_there_are_no_domain_controllers(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome, _ = self.outcome(server, monkeypatch, DiscoverDc(domain="contoso.test"))
        assert isinstance(outcome, Failed)
        assert "in no domain" in str(outcome.error)


class TestSingleFlight:
    @virtual
    async def crowd(self, resolver: ReferralClient, script: Script) -> list[object]:
        results: list[object] = []

        async def ask() -> None:
            try:
                results.append(await resolver.resolve(PREFIX))
            except DfsfsError as error:
                results.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
        assert resolver.resolving == 0
        return results

    def test_one_resolution_for_all_who_ask(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        script = Script(ROOT)
        resolver = a_client(FakePool(server), monkeypatch, script)
        results = self.crowd(resolver, script)
        assert script.runs == 1
        assert len({id(result) for result in results}) == 1

    def test_its_failure_is_shared(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        script = Script(ROOT, end=SmbError(NtStatus.NOT_FOUND, "test"))
        resolver = a_client(FakePool(server), monkeypatch, script)
        assert self.crowd(resolver, script) == [script.end] * 10
        assert script.runs == 1

    def test_another_takes_over_from_one_that_is_cancelled(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = Script(ROOT)
        resolver = a_client(FakePool(server), monkeypatch, script)
        server.connect_time = 5.0

        @virtual
        async def run() -> None:
            results: list[Resolution] = []

            async def ask() -> None:
                results.append(await resolver.resolve(PREFIX))

            async with trio.open_nursery() as nursery:
                with trio.move_on_after(1.0):
                    nursery.start_soon(ask)
                    nursery.start_soon(ask)
                    await resolver.resolve(PREFIX)
            assert len(results) == 2

        run()
        assert script.runs <= 2
        assert resolver.resolving == 0

    def test_a_dead_server_delays_no_other_path(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        dead = FakeServer("dead", refusal=NtStatus.IO_TIMEOUT, connect_time=8.0)
        script = Script(ROOT)
        resolver = a_client(FakePool(server, dead), monkeypatch, script)

        @virtual
        async def run() -> None:
            async with trio.open_nursery() as nursery:
                script.actions = (RequestReferral(host="dead", path=PREFIX, kind=KIND),)
                nursery.start_soon(resolver.resolve, unc("//dead/ns/x"))
                await trio.sleep(1.0)
                script.actions = (ROOT,)
                await resolver.resolve(PREFIX)
                assert trio.current_time() < 2.0

        run()


# -- over the real resolver ------------------------------------------------------------------------------------------


class World:
    """A namespace //ns1/dfs in Samba's manner, with targets on fs1 and fs2 and a second namespace on ns2."""

    def __init__(self, *, use_dfs: bool = True) -> None:
        link = {
            "dfs": FakeLink(["\\ns1\\dfs"], root=True),
            "dfs/single": FakeLink(["\\fs1\\data"]),
            "dfs/multi": FakeLink(["\\fs1\\data", "\\fs2\\data"]),
            "dfs/sub": FakeLink(["\\fs1\\data\\deep\\er"]),
            "dfs/interlink": FakeLink(["\\ns2\\dfs2\\deep"]),
            "dfs/toroot": FakeLink(["\\ns2\\dfs2"]),
            "dfs/self": FakeLink(["\\ns1\\dfs\\self"]),
            "dfs/ping": FakeLink(["\\ns2\\dfs2\\pong"]),
            "dfs/toproxy": FakeLink(["\\ns1\\proxy"]),
            "proxy": FakeLink(["\\ns1\\dfs", "\\ns2\\dfs2"]),
        }
        link2 = {
            "dfs2": FakeLink(["\\ns2\\dfs2"], root=True),
            "dfs2/deep": FakeLink(["\\fs2\\data"]),
            "dfs2/pong": FakeLink(["\\ns1\\dfs\\ping"]),
        }
        self.ns1 = FakeServer("ns1", {"dfs": True}, {unc(f"//ns1/{path}"): entry for path, entry in link.items()})
        self.ns2 = FakeServer("ns2", {"dfs2": True}, {unc(f"//ns2/{path}"): entry for path, entry in link2.items()})
        self.fs1 = FakeServer("fs1", {"data": False}, files={unc("//fs1/data/file")})
        self.fs2 = FakeServer("fs2", {"data": False})
        self.pool = FakePool(self.ns1, self.ns2, self.fs1, self.fs2)
        self.namespace = Namespace(self.pool.as_pool, use_dfs=use_dfs)

    async def mount(self, path: str) -> Location:
        return await self.namespace.mount_root(unc(path))

    async def find(self, path: str) -> str:
        root = await self.mount("//ns1/dfs")
        location = Location(root.junction, root.junction.prefix.rest_of(unc(path)))
        for _ in range(5):
            try:
                return await self.namespace.run(location, where)
            except PathNotCovered as link:
                location = Location(self.namespace.junction(link.prefix), link.prefix.rest_of(unc(path)))
        raise AssertionError("links without end")


async def where(attempt: Attempt) -> str:
    await attempt.tree.stat(attempt.path)
    return str(attempt.path)


class TestMountRoot:
    @pytest.mark.parametrize(
        ("path", "prefix", "target"),
        [
            ("//ns1/dfs", "//ns1/dfs", "//ns1/dfs"),
            ("//ns1/dfs/folder", "//ns1/dfs", "//ns1/dfs"),
            ("//fs1/data", "//fs1/data", "//fs1/data"),
            ("//fs1/data/folder", "//fs1/data", "//fs1/data"),
            ("//ns1/dfs/single", "//ns1/dfs/single", "//fs1/data"),
            ("//NS1/DFS/Single/folder", "//ns1/dfs/Single", "//fs1/data"),
            ("//ns1/dfs/sub/x", "//ns1/dfs/sub", "//fs1/data/deep/er"),
            ("//ns1/dfs/interlink", "//ns1/dfs/interlink", "//fs2/data"),
            ("//ns1/dfs/toroot/deep", "//ns1/dfs/toroot/deep", "//fs2/data"),
            ("//ns1/proxy", "//ns1/proxy", "//ns1/dfs"),
            ("//ns1/proxy/single/x", "//ns1/proxy/single", "//fs1/data"),
        ],
    )
    def test_finds_the_junction(self, path: str, prefix: str, target: str) -> None:
        @virtual
        async def scenario() -> None:
            world = World()
            location = await world.mount(path)
            assert location.junction.prefix == unc(prefix)
            assert location.unc == unc(path)
            assert location.junction.binding is not None
            assert location.junction.binding.target == unc(target)
            location.junction.check_invariants()

        scenario()

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("//ns1", errno.EINVAL),
            ("//fs1/data/file", errno.ENOTDIR),
            ("//ns1/dfs/single/file", errno.ENOTDIR),
            ("//ns1/dfs/missing", errno.ENOENT),
            ("//ns1/dfs/self", errno.ELOOP),
            ("//ns1/dfs/ping", errno.ELOOP),
            ("//fs1/nosuch", errno.ENXIO),
            ("//nosuch/share", errno.EHOSTUNREACH),
        ],
    )
    def test_refuses(self, path: str, code: int) -> None:
        @virtual
        async def scenario() -> None:
            with pytest.raises(DfsfsError) as caught:
                await World().mount(path)
            assert caught.value.errno == code

        scenario()

    @virtual
    async def test_a_dead_server_is_an_error_now(self) -> None:
        world = World()
        world.ns1.kill()
        with pytest.raises(ConnectError) as caught:
            await world.mount("//ns1/dfs")
        assert caught.value.host == "ns1"

    @virtual
    async def test_without_dfs_no_referral_is_asked_for(self) -> None:
        world = World(use_dfs=False)
        location = await world.mount("//ns1/dfs/folder")
        assert location.junction.prefix == unc("//ns1/dfs")
        with pytest.raises(SmbError) as caught:
            await world.mount("//ns1/dfs/single")
        assert caught.value.status == NtStatus.PATH_NOT_COVERED
        assert not world.pool.referrals

    @virtual
    async def test_without_dfs_a_server_alone_is_still_no_mount(self) -> None:
        with pytest.raises(PosixError):
            await World(use_dfs=False).mount("//ns1")


class TestRun:
    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("//ns1/dfs/folder", "//ns1/dfs/folder"),
            ("//ns1/dfs/single/a/b", "//fs1/data/a/b"),
            ("//ns1/dfs/interlink/a", "//fs2/data/a"),
            ("//ns1/dfs/toroot/folder", "//ns2/dfs2/folder"),
            ("//ns1/dfs/toroot/deep/a", "//fs2/data/a"),
            ("//ns1/dfs/toproxy/single/a", "//fs1/data/a"),
        ],
    )
    def test_follows_links(self, path: str, found: str) -> None:
        @virtual
        async def scenario() -> None:
            world = World()
            assert await world.find(path) == found
            requests = len(world.pool.referrals)
            assert await world.find(path) == found
            assert len(world.pool.referrals) == requests

        scenario()

    @virtual
    async def test_loops_end(self) -> None:
        for path in ("//ns1/dfs/self/x", "//ns1/dfs/ping/x"):
            with pytest.raises(NamespaceLoop):
                await World().find(path)

    @virtual
    async def test_fails_over(self) -> None:
        world = World()
        assert await world.find("//ns1/dfs/multi/a") == "//fs1/data/a"
        world.fs1.kill()
        assert await world.find("//ns1/dfs/multi/a") == "//fs2/data/a"
        world.fs1.revive()
        assert await world.find("//ns1/dfs/multi/a") == "//fs2/data/a"
        assert world.namespace.junction(unc("//ns1/dfs/multi")).generation == 2

    @virtual
    async def test_what_is_bound_outlives_its_namespace_server(self) -> None:
        world = World()
        for _ in range(3):
            assert await world.find("//ns1/dfs/single/a") == "//fs1/data/a"
            world.ns1.kill()
            location = Location(world.namespace.junction(unc("//ns1/dfs/single")), ("a",))
            assert await world.namespace.run(location, where) == "//fs1/data/a"
            await trio.sleep(601)
            assert await world.namespace.run(location, where) == "//fs1/data/a"
            world.ns1.revive()

    @virtual
    async def test_an_interlink_stays_bound_through_refreshes(self) -> None:
        world = World()
        await world.find("//ns1/dfs/interlink/a")
        junction = world.namespace.junction(unc("//ns1/dfs/interlink"))
        generation = junction.generation
        for _ in range(3):
            await trio.sleep(601)
            assert await world.namespace.run(Location(junction, ("a",)), where) == "//fs2/data/a"
        assert junction.generation == generation

    @virtual
    async def test_a_moved_link_is_followed_after_its_time_to_live(self) -> None:
        world = World()
        assert await world.find("//ns1/dfs/single/a") == "//fs1/data/a"
        world.ns1.links[unc("//ns1/dfs/single")].targets = ["\\fs2\\data"]
        location = Location(world.namespace.junction(unc("//ns1/dfs/single")), ("a",))
        assert await world.namespace.run(location, where) == "//fs1/data/a"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.namespace.serve)
            await trio.sleep(601)
            assert await world.namespace.run(location, where) == "//fs1/data/a"
            await trio.sleep(1)
            assert await world.namespace.run(location, where) == "//fs2/data/a"
            nursery.cancel_scope.cancel()


@virtual
async def test_there_is_one_junction_for_a_path() -> None:
    world = World()
    junction = world.namespace.junction(unc("//ns1/dfs/single"))
    assert world.namespace.junction(unc("//NS1/Dfs/single")) is junction
    assert world.namespace.junction(unc("//ns1/dfs/Single")) is not junction
    assert world.namespace.junction(unc("//ns1/dfs/multi")) is not junction


@virtual
async def test_a_server_alone_is_no_place() -> None:
    """Whoever types one for `dfsfs target list` has made a mistake, which is not ours."""
    with pytest.raises(PosixError, match="names a server only"):
        await World().namespace.find(unc("//ns1"))


class TwoLinks(World):
    """Two links that differ in case only, and lead to different servers."""

    def __init__(self) -> None:
        super().__init__()
        self.ns1.links |= {
            unc("//ns1/dfs/Case"): FakeLink(["\\fs1\\data"]),
            unc("//ns1/dfs/case"): FakeLink(["\\fs2\\data"]),
        }


@virtual
async def test_links_that_differ_in_case_only_have_junctions_of_their_own() -> None:
    world = TwoLinks()
    assert await world.find("//ns1/dfs/Case/x") == "//fs1/data/x"
    assert await world.find("//ns1/dfs/case/x") == "//fs2/data/x"
    assert await world.find("//ns1/dfs/Case/y") == "//fs1/data/y"
    asked = len(world.pool.referrals)
    assert await world.find("//NS1/DFS/case/y") == "//fs2/data/y"
    assert len(world.pool.referrals) == asked


@virtual
@pytest.mark.parametrize(
    ("typed", "asked_again"),
    [
        ("//NS1/dfs/Case", {"Case"}),
        ("//ns1/DFS/case/", {"case"}),
        ("\\\\ns1\\dfs\\CASE\\", {"Case", "case"}),
        ("//ns1/dfs/DIR/", {"dir/link"}),
        ("//ns1/dfs/ca", set()),
        ("//NS1/", {"Case", "case", "dir/link", ""}),
    ],
)
async def test_what_is_forgotten_is_typed_in_any_case(typed: str, asked_again: set[str]) -> None:
    """With the junctions, which keep a referral that the cache has dropped already."""
    world = TwoLinks()
    world.ns1.links[unc("//ns1/dfs/dir/link")] = FakeLink(["\\fs1\\data"])
    await world.mount("//ns1/dfs")
    for name in ("Case", "case", "dir/link"):
        await world.find(f"//ns1/dfs/{name}/x")
    world.namespace.caches.referrals.flush()
    world.namespace.caches.referrals.set_not_dfs(unc("//ns1/other"), math.inf)
    junctions = {"/".join(one.prefix.below_share): one for one in world.namespace.junctions()}
    for junction in junctions.values():
        junction.refresh_at = math.inf
    world.namespace.flush(unc(typed))
    assert {name for name, junction in junctions.items() if junction.refresh_at < math.inf} == asked_again
    assert world.namespace.caches.referrals.is_not_dfs(unc("//ns1/other"), 0.0) == (typed != "//NS1/")


@virtual
async def test_links_that_differ_in_case_only_are_asked_for_by_themselves_at_the_same_time() -> None:
    world = TwoLinks()
    await world.mount("//ns1/dfs")
    found = dict[str, str]()

    async def look_for(path: str) -> None:
        found[path] = await world.find(path)

    async with trio.open_nursery() as nursery:
        for name in ("Case", "case"):
            nursery.start_soon(look_for, f"//ns1/dfs/{name}/x")
    assert found == {"//ns1/dfs/Case/x": "//fs1/data/x", "//ns1/dfs/case/x": "//fs2/data/x"}


@virtual
async def test_what_somebody_types_is_found_in_any_case() -> None:
    world = TwoLinks()
    await world.find("//ns1/dfs/single/x")
    await world.find("//ns1/dfs/Case/x")

    def find_known(path: str) -> str | None:
        found = world.namespace.find_known(unc(path))
        return None if found is None else str(found.unc)

    assert find_known("//NS1/DFS/SINGLE/A/b") == "//ns1/dfs/single/A/b"
    assert find_known("//ns1/dfs/CASE") == "//ns1/dfs/Case"
    await world.find("//ns1/dfs/case/x")
    assert find_known("//ns1/dfs/case") == "//ns1/dfs/case"
    assert find_known("//ns1/dfs/Case") == "//ns1/dfs/Case"
    assert find_known("//ns1/dfs/CASE") is None
    assert find_known("//ns1/dfs/else") == "//ns1/dfs/else"
    assert find_known("//ns9/dfs/Case") is None


@virtual
async def test_statistics() -> None:
    world = World()
    await world.find("//ns1/dfs/single/a")
    numbers = world.namespace.statistics()
    assert numbers.junctions == numbers.bound == 2
    assert numbers.referral_requests == len(world.pool.referrals) == 2
    assert numbers.resolving == 0
    assert numbers.failover.binds == 2
    world.fs1.kill()
    assert world.namespace.statistics().bound == 1


@virtual
async def test_junctions_that_nobody_is_at_do_not_pile_up() -> None:
    """Whoever looks up a link in each of the ways in which it can be spelled makes a junction with each."""
    world = World()
    held = world.namespace.junction(unc("//ns1/dfs/first"))
    away = world.namespace.junction(unc("//ns1/dfs/away"))
    world.namespace._failover.maintenance._failback_candidates[away] = None
    del away
    for number in range(3 * MAX_RECENT_JUNCTIONS):
        world.namespace.junction(unc(f"//ns1/dfs/{number}"))
        assert len(world.namespace.junctions()) <= MAX_RECENT_JUNCTIONS + 1
    assert world.namespace.junction(unc("//ns1/dfs/first")) is held
    assert not world.namespace._failover.maintenance._failback_candidates

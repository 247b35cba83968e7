"""What a client sends and does with what it gets, against namespace servers that speak all of MS-DFSC."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.dfsc.policy import Policy
from dfsfs.errors import DfsfsError, NamespaceLoop, WireError
from dfsfs.namespace.referrals import REFERRAL_SIZES
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.telemetry import ReferralAnswered
from dfsfs.unc import UncPath
from tests.conformance.company import Company, company, targets
from tests.support.lab.faults import Fault
from tests.support.lab.nsserver import wire_key
from tests.support.lab.topology import ALICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dfsfs.namespace.client import Namespace
    from tests.support.lab.samba import Lab

pytestmark = pytest.mark.lab

FS1, FS2 = "//fs1.contoso.test/data", "//fs2.contoso.test/data"


@pytest.fixture
def contoso(lab: Lab, tmp_path: Path) -> Iterator[Company]:
    with company(lab, tmp_path) as running:
        yield running


def versions(namespace: Namespace) -> set[int]:
    return {event.version for event in namespace.telemetry.recent if isinstance(event, ReferralAnswered)}


# -- domains ----------------------------------------------------------------------------------------------------------


async def test_c044_c059_c060_c062_c063_c101_from_the_domain_to_a_file(contoso: Company) -> None:
    async with contoso.client() as namespace:
        location, stat = await namespace.find(UncPath.parse("//contoso.test/public/docs/hello.txt"))
        assert stat.size == 16
        assert location.junction.prefix == UncPath.parse("//contoso.test/public/docs")
    assert [(name, request.path) for name, request in contoso.seen("dc1")] == [
        ("dc1", ""),
        ("dc1", "\\contoso.test"),
        ("dc1", "\\contoso.test\\public"),
    ]
    assert contoso.seen("dc2") == []
    assert [request.path for _, request in contoso.seen("ns1", "ns2")] == ["\\contoso.test\\public\\docs\\hello.txt"]
    assert all(request.level == 4 for _, request in contoso.seen())


async def test_c086_c087_a_dead_controller_is_passed_over(contoso: Company) -> None:
    contoso.servers["dc1"].stop()
    async with contoso.client() as namespace:
        assert len(await targets(namespace, "//CONTOSO/public/docs")) == 2
        assert namespace.caches.domains.bootstrap == "dc2.contoso.test"
        assert namespace.caches.domains["contoso"].hint == "DC2"


async def test_c087_a_controller_that_dies_later_is_passed_over(contoso: Company) -> None:
    async with contoso.client() as namespace:
        await targets(namespace, "//contoso.test/public")
        contoso.servers["dc1"].stop()
        namespace.caches.referrals.forget(UncPath.parse("//contoso.test/public"))
        await namespace.find(UncPath.parse("//contoso.test/public/docs"))
        assert namespace.caches.domains["contoso.test"].hint == "dc2.contoso.test"


async def test_c101_in_no_domain_only_servers_are_asked(contoso: Company) -> None:
    async with contoso.client(joined=False) as namespace:
        assert await targets(namespace, "//ns1.contoso.test/standalone/extra") == ["//fs1.contoso.test/extra"]
    assert contoso.seen("dc1", "dc2") == []


async def test_f14_h04_the_next_root_target_gives_the_link(contoso: Company) -> None:
    async with contoso.client() as namespace:
        root, _ = await namespace.find(UncPath.parse("//contoso.test/public"))
        assert root.junction.binding is not None
        first = root.junction.binding.target.host.split(".")[0]
        contoso.servers[first].stop()
        assert len(await targets(namespace, "//contoso.test/public/docs")) == 2
        other = {"ns1": "ns2", "ns2": "ns1"}[first]
        assert contoso.seen(other)[-1][1].path == "\\contoso.test\\public\\docs"


async def test_c100_c050_interlinks_to_a_stand_alone_root_and_back_into_the_domain(contoso: Company) -> None:
    async with contoso.client() as namespace:
        assert await targets(namespace, "//contoso.test/public/alone/extra") == ["//fs1.contoso.test/extra"]
        assert len(await targets(namespace, "//contoso.test/public/alone/back/docs")) == 2


async def test_c050_a_loop_is_found(contoso: Company) -> None:
    async with contoso.client() as namespace:
        with pytest.raises(NamespaceLoop) as caught:
            await namespace.find(UncPath.parse("//ns1.contoso.test/standalone/loop"))
        assert caught.value.errno == errno.ELOOP


async def test_samba_habits_unmarked_interlinks_and_roots_that_look_like_links(contoso: Company) -> None:
    for server in contoso.servers.values():
        server.faults["*"] = Fault(unmarked=True, newest=3, partial_overflow=True)
    async with contoso.client(joined=False) as namespace:
        path = "//ns1.contoso.test/standalone/extra"
        assert await targets(namespace, path) == ["//fs1.contoso.test/extra"]


async def test_c001_a_share_in_dfs_gets_the_flag_and_the_full_path(contoso: Company) -> None:
    """The server cuts two components off a name with the flag, and finds nothing of that name without."""
    async with contoso.client(joined=False) as namespace:
        location, stat = await namespace.find(UncPath.parse("//ns1.contoso.test/standalone/readme.txt"))
        assert location.junction.binding is not None
        assert location.junction.binding.tree.is_dfs
        assert stat.size == len("the root of standalone on ns1\n")


async def test_c054_requests_go_with_the_users_login(contoso: Company) -> None:
    contoso.credentials = Credentials(ALICE.name, Secret("wrong"), "")
    async with contoso.client(joined=False) as namespace:
        with pytest.raises(DfsfsError) as caught:
            await namespace.find(UncPath.parse("//ns1.contoso.test/standalone/extra"))
        assert caught.value.status == NtStatus.LOGON_FAILURE
    assert contoso.seen() == []


# -- versions, sites, sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3, 4])
async def test_c010_every_version_up_to_the_one_asked_for(contoso: Company, version: int) -> None:
    for server in contoso.servers.values():
        server.newest = version
    async with contoso.client(joined=False) as namespace:
        assert await targets(namespace, "//ns1.contoso.test/standalone/extra") == ["//fs1.contoso.test/extra"]
        assert versions(namespace) == {version}


async def test_c026_c092_s17_target_sets_in_the_servers_order(contoso: Company) -> None:
    async with contoso.client() as namespace:
        assert await targets(namespace, "//contoso.test/public/dir/sets") == [FS1, FS2]
        entry = namespace.caches.referrals.lookup(UncPath.parse("//contoso.test/public/dir/sets"))
        assert entry is not None
        assert (entry.failback, entry.ttl, [target.starts_set for target in entry.targets]) == (True, 60, [True, True])


async def test_c055_c056_f07_h25_the_site_is_sent_to_servers_that_take_it(contoso: Company) -> None:
    async with contoso.client(site="berlin") as namespace:
        assert await targets(namespace, "//contoso.test/public/docs") == [FS2, FS1]
    assert {request.site for _, request in contoso.seen()} == {"berlin"}
    async with contoso.client(site="paris") as namespace:
        assert await targets(namespace, "//contoso.test/public/docs") == [FS1, FS2]


async def test_c055_c057_servers_that_do_not_are_asked_plainly_and_that_is_remembered(contoso: Company) -> None:
    contoso.servers["ns1"].supports_ex = False
    async with contoso.client(joined=False, site="berlin") as namespace:
        await targets(namespace, "//ns1.contoso.test/standalone/extra")
        (entry,) = [known for known in namespace.caches.referrals.snapshot() if len(known.prefix) == 3]
        namespace.caches.referrals.forget(entry.prefix)
        await targets(namespace, "//ns1.contoso.test/standalone/extra/folder")
    sites = [request.site for _, request in contoso.seen("ns1")]
    assert len(sites) > 2
    assert [site for site in sites if site is not None] == ["berlin"] * sites.count("berlin")
    assert sites.count("berlin") == 1
    assert contoso.seen("ns1")[0][1].status == NtStatus.FS_DRIVER_REQUIRED


@pytest.mark.parametrize(("many", "partial"), [(20, False), (100, True), (250, False), (250, True)])
async def test_c074_c075_f11_room_grows_until_the_answer_fits(
    lab: Lab, tmp_path: Path, many: int, partial: bool
) -> None:
    with company(lab, tmp_path, many=many) as contoso:
        for server in contoso.servers.values():
            server.faults["*"] = Fault(overflow=True, partial_overflow=partial)
        async with contoso.client(policy=Policy(pins=()), connect_timeout=1.0) as namespace:
            with pytest.raises(DfsfsError):
                await namespace.find(UncPath.parse("//contoso.test/public/many"))
            entry = namespace.caches.referrals.lookup(UncPath.parse("//contoso.test/public/many"))
            assert entry is not None
            assert len(entry.targets) == many
        rooms = [request.room for _, request in contoso.seen("ns1", "ns2") if request.path.endswith("many")]
        assert rooms == list(REFERRAL_SIZES[: len(rooms)])
        entry_size = 34 + 2 * 2 * len("\\contoso.test\\public\\many\0") + 2 * len("\\server0000.contoso.test\\data\0")
        assert len(rooms) == next(
            index for index, size in enumerate(REFERRAL_SIZES, 1) if 8 + many * entry_size <= size
        )


# -- what is wrong with answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [Fault(truncate=20), Fault(truncate=3), Fault(wrong_size=5), Fault(wrong_size=0xFFFF), Fault(wrong_offset=0xFFF0)],
    ids=repr,
)
async def test_c065_ill_formed_answers(contoso: Company, fault: Fault) -> None:
    contoso.servers["ns1"].faults[wire_key("//ns1.contoso.test/standalone")] = fault
    async with contoso.client(joined=False) as namespace:
        with pytest.raises(WireError) as caught:
            await namespace.find(UncPath.parse("//ns1.contoso.test/standalone/extra"))
        assert caught.value.status == NtStatus.INVALID_NETWORK_RESPONSE
        contoso.servers["ns1"].faults.clear()
        assert await targets(namespace, "//ns1.contoso.test/standalone/extra")


async def test_c085_no_targets(contoso: Company) -> None:
    contoso.servers["ns1"].faults[wire_key("//ns1.contoso.test/standalone/extra")] = Fault(no_entries=True)
    async with contoso.client(joined=False) as namespace:
        with pytest.raises(DfsfsError) as caught:
            await namespace.find(UncPath.parse("//ns1.contoso.test/standalone/extra"))
        assert caught.value.status == NtStatus.OBJECT_PATH_NOT_FOUND


@pytest.mark.parametrize("status", [NtStatus.ACCESS_DENIED, NtStatus.INSUFFICIENT_RESOURCES, NtStatus.NOT_FOUND])
async def test_c090_statuses_reach_the_caller(contoso: Company, status: NtStatus) -> None:
    contoso.servers["ns1"].faults[wire_key("//ns1.contoso.test/standalone/extra")] = Fault(status=status)
    async with contoso.client(joined=False) as namespace:
        with pytest.raises(DfsfsError) as caught:
            await namespace.find(UncPath.parse("//ns1.contoso.test/standalone/extra"))
        assert caught.value.status == status


@pytest.mark.parametrize("fault", [Fault(black_hole=True), Fault(reset=True)], ids=["black hole", "reset"])
async def test_f14_a_root_server_that_says_nothing_or_ends_is_passed_over(contoso: Company, fault: Fault) -> None:
    async with contoso.client(silence_timeout=1.0, request_timeout=2.0) as namespace:
        root, _ = await namespace.find(UncPath.parse("//contoso.test/public"))
        assert root.junction.binding is not None
        first = root.junction.binding.target.host.split(".")[0]
        contoso.servers[first].faults[wire_key("//contoso.test/public/docs")] = fault
        with trio.fail_after(15):
            assert len(await targets(namespace, "//contoso.test/public/docs")) == 2


async def test_f30_short_names_of_targets(contoso: Company) -> None:
    contoso.servers["ns1"].faults["*"] = Fault(short_names=True)
    async with contoso.client(joined=False) as namespace:
        assert await targets(namespace, "//ns1.contoso.test/standalone/extra") == ["//fs1/extra"]


@pytest.mark.parametrize("ttl", [0, 1, 2**32 - 1])
async def test_any_ttl(contoso: Company, ttl: int) -> None:
    contoso.servers["ns1"].faults["*"] = Fault(ttl=ttl)
    async with contoso.client(joined=False) as namespace:
        for _ in range(20):
            await targets(namespace, "//ns1.contoso.test/standalone/extra")
    assert len(contoso.seen("ns1")) < 70

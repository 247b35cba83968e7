"""Domains, their controllers, and SYSVOL: MS-DFSC 3.1.4.1 steps 5, 10 and 13, 3.1.5.4.1, 3.1.5.4.2, 3.1.6."""

from __future__ import annotations

import pytest

from dfsfs.dfsc.actions import ReferralKind, RequestReferral
from dfsfs.dfsc.domains import BOOTSTRAP_INTERVAL, NoDomainController
from dfsfs.dfsc.wire import NameListEntry, ReferralEntry, ReferralResponse
from dfsfs.errors import NEXT_TARGET_STATUSES, ConnectError, DfsfsError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from tests.support.fakes.universe import LINK_FLAGS, Universe, unc

DOMAIN, DC, SYSVOL, ROOT, LINK = ReferralKind


@pytest.fixture
def universe() -> Universe:
    """The domain contoso.test (CONTOSO) with two controllers, a namespace in it, and SYSVOL."""
    universe = Universe(
        domains={"CONTOSO": ["DC1", "DC2"], "contoso.test": ["dc1.contoso.test", "dc2.contoso.test"]},
        controller="dc2.contoso.test",
    )
    universe.root("//contoso.test/public", "//ns1/public", "//ns2/public")
    universe.link("//contoso.test/public/docs", "//fs1/docs")
    universe.link("//contoso.test/sysvol", "//dc1.contoso.test/sysvol", "//dc2.contoso.test/sysvol", ttl=900)
    universe.link("//contoso.test/netlogon", "//dc1.contoso.test/netlogon")
    universe.learn_domains()
    universe.asked.clear()
    return universe


def test_c028_c035_c036_c059_the_bootstrap_controller_is_asked_for_domains(universe: Universe) -> None:
    universe.learn_domains()
    assert universe.caches.domains.bootstrap == "dc2.contoso.test"
    assert [(r.host, r.path, r.kind) for r in universe.asked] == [("dc2.contoso.test", None, DOMAIN)]


def test_f05_h03_every_15_minutes() -> None:
    assert BOOTSTRAP_INTERVAL == 900


def test_c029_c078_every_name_is_an_entry(universe: Universe) -> None:
    assert [domain.name for domain in universe.caches.domains.snapshot()] == ["CONTOSO", "contoso.test"]
    assert "Contoso.Test" in universe.caches.domains


def test_c078_c079_f12_names_are_added_and_never_removed(universe: Universe) -> None:
    universe.resolve("//contoso.test/public")
    universe.domains = {"fabrikam.test": []}
    universe.learn_domains()
    assert [domain.name for domain in universe.caches.domains.snapshot()] == [
        "CONTOSO",
        "contoso.test",
        "fabrikam.test",
    ]
    assert universe.caches.domains["contoso.test"].hint == "dc1.contoso.test"


def test_c080_failure_changes_nothing(universe: Universe) -> None:
    universe.kill("dc2.contoso.test")
    with pytest.raises(ConnectError):
        universe.learn_domains()
    universe.controller = ""
    with pytest.raises(DfsfsError):
        universe.learn_domains()
    assert "contoso.test" in universe.caches.domains


def test_a_dead_bootstrap_controller_is_looked_for_again(universe: Universe) -> None:
    """Not only when the timer says so."""
    universe.kill("dc2.contoso.test")
    universe.controller = "dc1.contoso.test"
    assert str(universe.resolve("//contoso.test/public").targets[0].path) == "//ns1/public"
    assert universe.caches.domains.bootstrap == "dc1.contoso.test"


class Answering(Universe):
    """Answers to one kind of request with what a test wants."""

    kind = DOMAIN
    answer = ReferralResponse(3, 0, None, ())

    def _referral(self, request: RequestReferral) -> ReferralResponse:
        return self.answer if request.kind is self.kind else super()._referral(request)


TARGET = (ReferralEntry(False, 1, False, unc("//a/b")),)
NAMES = (NameListEntry("contoso.test", ("dc1",), 600),)


@pytest.mark.parametrize(
    "answer",
    [
        ReferralResponse(2, 0, None, (), NAMES),
        ReferralResponse(3, 0, None, TARGET),
        ReferralResponse(3, 0, None, ()),
    ],
    ids=["version 2", "targets", "nothing"],
)
def test_c076_c077_other_answers_to_a_domain_request_are_dropped(answer: ReferralResponse) -> None:
    universe = Answering(controller="dc")
    universe.answer = answer
    with pytest.raises(WireError):
        universe.learn_domains()
    assert universe.caches.domains.snapshot() == ()


@pytest.mark.parametrize(
    "answer",
    [
        ReferralResponse(2, 0, None, (), NAMES),
        ReferralResponse(3, 0, None, TARGET),
        ReferralResponse(3, 0, None, (), NAMES * 2),
        ReferralResponse(3, 0, None, ()),
        ReferralResponse(3, 0, None, (), (NameListEntry("contoso.test", (), 600),)),
    ],
    ids=["version 2", "targets", "two lists", "nothing", "no controller"],
)
def test_c081_c082_other_answers_to_a_dc_request_are_dropped(answer: ReferralResponse) -> None:
    universe = Answering(controller="dc", domains={"contoso.test": []})
    universe.kind, universe.answer = DC, answer
    universe.learn_domains()
    with pytest.raises(DfsfsError):
        universe.resolve("//contoso.test/public")
    assert universe.caches.domains["contoso.test"].dcs == ()


def test_c044_c060_c062_a_domains_root_is_asked_of_its_controller(universe: Universe) -> None:
    assert universe.targets("//contoso.test/public/x") == ["//ns1/public/x", "//ns2/public/x"]
    assert [(r.host, r.path, r.kind) for r in universe.asked] == [
        ("dc2.contoso.test", unc("//contoso.test"), DC),
        ("dc1.contoso.test", unc("//contoso.test/public"), ROOT),
    ]


def test_c083_c084_the_list_is_kept_and_its_first_name_is_the_hint(universe: Universe) -> None:
    universe.resolve("//contoso.test/public")
    domain = universe.caches.domains["CONTOSO.TEST"]
    assert (domain.dcs, domain.hint) == (("dc1.contoso.test", "dc2.contoso.test"), "dc1.contoso.test")
    universe.resolve("//contoso.test/sysvol")
    assert universe.kinds_asked.count(DC) == 1


def test_c044_with_a_hint_no_dc_referral_is_asked_for(universe: Universe) -> None:
    universe.resolve("//contoso.test/public")
    universe.resolve("//contoso.test/sysvol")
    assert universe.kinds_asked == [DC, ROOT, SYSVOL]


def test_f09_links_are_asked_of_root_targets_and_not_of_controllers(universe: Universe) -> None:
    universe.resolve("//contoso.test/public")
    assert universe.targets("//contoso.test/public/docs/x", not_covered=True) == ["//fs1/docs/x"]
    assert (universe.asked[-1].host, universe.asked[-1].kind) == ("ns1", LINK)


def test_c043_c044_c049_c061_c099_sysvol(universe: Universe) -> None:
    assert universe.targets("//contoso.test/SysVol/contoso.test") == [
        "//dc1.contoso.test/sysvol/contoso.test",
        "//dc2.contoso.test/sysvol/contoso.test",
    ]
    assert universe.asked[-1].kind is SYSVOL
    assert universe.asked[-1].path == unc("//contoso.test/sysvol")
    assert universe.targets("//contoso.test/NETLOGON/x") == ["//dc1.contoso.test/netlogon/x"]


def test_c043_sysvol_is_no_interlink_even_if_it_looks_like_one() -> None:
    universe = Universe(domains={"contoso.test": ["dc1"], "dc1": []}, controller="dc1")
    universe.link("//contoso.test/sysvol", "//dc1/sysvol", flags=LINK_FLAGS)
    universe.learn_domains()
    assert universe.targets("//contoso.test/sysvol/x") == ["//dc1/sysvol/x"]


@pytest.mark.parametrize("status", sorted(NEXT_TARGET_STATUSES - {NtStatus.BAD_NETWORK_NAME}))
def test_f13_c086_c087_the_next_controller_is_asked(universe: Universe, status: int) -> None:
    universe.kill("dc1.contoso.test", SmbError(status, "test"))
    assert universe.targets("//contoso.test/public/x") == ["//ns1/public/x", "//ns2/public/x"]
    assert universe.hosts_asked[-2:] == ["dc1.contoso.test", "dc2.contoso.test"]
    assert universe.caches.domains["contoso.test"].hint == "dc2.contoso.test"


@pytest.mark.parametrize("status", [NtStatus.BAD_NETWORK_NAME, NtStatus.ACCESS_DENIED, NtStatus.NO_SUCH_FILE])
def test_f13_c045_c052_nothing_else_moves_on_and_there_is_no_plain_share(universe: Universe, status: int) -> None:
    universe.kill("dc1.contoso.test", SmbError(status, "test"))
    with pytest.raises(SmbError) as caught:
        universe.resolve("//contoso.test/public")
    assert caught.value.status == status


def test_c086_with_all_controllers_down_it_is_no_missing_file(universe: Universe) -> None:
    universe.resolve("//contoso.test/sysvol")
    for host in universe.domains["contoso.test"]:
        universe.kill(host)
    with pytest.raises(NoDomainController) as caught:
        universe.resolve("//contoso.test/public")
    assert caught.value.status == NtStatus.OBJECT_PATH_NOT_FOUND
    assert caught.value.errno == ConnectError("x", NtStatus.HOST_UNREACHABLE, "x").errno
    assert universe.caches.domains["contoso.test"].dcs == ()


def test_c052_c044_without_a_bootstrap_controller_it_fails(universe: Universe) -> None:
    universe.kill("dc2.contoso.test")
    with pytest.raises(ConnectError):
        universe.resolve("//contoso.test/public")


def test_c101_a_computer_in_no_domain_takes_every_name_for_a_server() -> None:
    universe = Universe()
    universe.root("//contoso.test/public")
    universe.resolve("//contoso.test/public/x")
    assert [(r.host, r.kind) for r in universe.asked] == [("contoso.test", ROOT)]

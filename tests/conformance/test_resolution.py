"""From a path to its targets: MS-DFSC 3.1.4.1, 3.1.5.1 and 3.1.5.4.3, step by step, in a universe of data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfsfs.dfsc.actions import ReferralKind
from dfsfs.dfsc.wire import HeaderFlags
from dfsfs.errors import (
    NEXT_TARGET_STATUSES,
    ConnectError,
    ConnectionLost,
    DfsfsError,
    NamespaceLoop,
    SmbError,
    WireError,
)
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import CacheHit, CacheMiss, EntryKept, NamespaceEntered
from tests.support.fakes.universe import LINK_FLAGS, Universe, unc

if TYPE_CHECKING:
    from dfsfs.dfsc.referral import Referral

ROOT, LINK = ReferralKind.ROOT, ReferralKind.LINK


@pytest.fixture
def universe() -> Universe:
    """//ns/dfs on two root servers, with a link to two targets and one to another namespace, which has one, too."""
    universe = Universe()
    universe.root("//ns/dfs", "//ns1/dfs", "//ns2/dfs")
    universe.link("//ns/dfs/a/link", "//fs1/data", "//fs2/data")
    universe.interlink("//ns/dfs/inter", "//other/dfs2")
    universe.root("//other/dfs2")
    universe.link("//other/dfs2/link", "//fs3/data")
    return universe


def deeper(universe: Universe, path: str) -> list[str]:
    """Where a path is after a server has said PATH_NOT_COVERED."""
    universe.resolve(path)
    return universe.targets(path, not_covered=True)


# -- steps 1 to 4: the cache ------------------------------------------------------------------------------------------


def test_c027_c030_what_was_learnt_is_not_asked_again(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link/x")
    asked = len(universe.asked)
    assert universe.targets("//ns/dfs/a/link/y") == ["//fs1/data/y", "//fs2/data/y"]
    assert universe.targets("//ns/dfs/z") == ["//ns1/dfs/z", "//ns2/dfs/z"]
    assert len(universe.asked) == asked
    assert isinstance(universe.trail[0], CacheHit)


def test_c040_the_longest_prefix_of_whole_components(universe: Universe) -> None:
    universe.link("//ns/dfs/a/link/inner", "//fs9/deep")
    deeper(universe, "//ns/dfs/a/link/x")
    assert universe.targets("//NS/Dfs/a/link/x") == ["//fs1/data/x", "//fs2/data/x"]
    assert universe.targets("//ns/dfs/a/linked/x") == ["//ns1/dfs/a/linked/x", "//ns2/dfs/a/linked/x"]


def test_c011_c040_the_server_says_whether_another_spelling_is_the_same_link(universe: Universe) -> None:
    """One referral more for each spelling: some servers have links that differ in case only."""
    deeper(universe, "//ns/dfs/a/link/x")
    asked = len(universe.asked)
    assert deeper(universe, "//ns/dfs/A/LINK/x") == ["//fs1/data/x", "//fs2/data/x"]
    assert universe.targets("//ns/dfs/A/LINK/y") == ["//fs1/data/y", "//fs2/data/y"]
    assert len(universe.asked) == asked + 1


def test_c040_links_that_differ_in_case_only_are_two(universe: Universe) -> None:
    universe.link("//ns/dfs/Case", "//fs1/upper")
    universe.link("//ns/dfs/case", "//fs1/lower")
    assert deeper(universe, "//ns/dfs/Case/x") == ["//fs1/upper/x"]
    assert deeper(universe, "//ns/dfs/case/x") == ["//fs1/lower/x"]
    assert universe.targets("//ns/dfs/Case/x") == ["//fs1/upper/x"]
    universe.now += 2000
    assert universe.targets("//ns/dfs/case/x", fresh=True) == ["//fs1/lower/x"]
    assert universe.targets("//ns/dfs/Case/x", fresh=True) == ["//fs1/upper/x"]


def test_a_link_into_one_of_its_own_namespace_that_differs_in_case_is_no_loop(universe: Universe) -> None:
    universe.interlink("//ns/dfs/Case", "//ns/dfs/case")
    universe.link("//ns/dfs/case", "//fs1/lower")
    universe.targets("//ns/dfs/case/x", not_covered=True)
    assert deeper(universe, "//ns/dfs/Case/x") == ["//fs1/lower/x"]


def test_c041_c062_a_miss_asks_for_the_root(universe: Universe) -> None:
    universe.resolve("//ns/dfs/a/link/x")
    assert [(request.host, request.path, request.kind) for request in universe.asked] == [
        ("ns", unc("//ns/dfs"), ROOT),
    ]
    assert isinstance(universe.trail[0], CacheMiss)


def test_c042_c043_c046_the_prefix_is_replaced_by_the_target(universe: Universe) -> None:
    resolution = universe.resolve("//ns/dfs/a/b")
    assert (resolution.path_consumed, resolution.rest) == (unc("//ns/dfs"), ("a", "b"))
    assert universe.targets("//ns/dfs/a/b") == ["//ns1/dfs/a/b", "//ns2/dfs/a/b"]


def test_c039_c051_a_share_outside_dfs_is_left_as_it_is(universe: Universe) -> None:
    resolution = universe.resolve("//fs1/data/x")
    assert resolution.referral is None
    assert universe.targets("//fs1/data/x") == ["//fs1/data/x"]


# -- step 6: the root referral fails ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [NtStatus.NOT_FOUND, NtStatus.NO_SUCH_FILE, NtStatus.FS_DRIVER_REQUIRED])
def test_c045_f06_h13_no_root_is_remembered_for_15_minutes(universe: Universe, status: int) -> None:
    universe.kill("fs1", SmbError(status, "test"))
    universe.resolve("//fs1/data/x")
    universe.now += 14 * 60
    universe.resolve("//fs1/data/y")
    assert len(universe.asked) == 1
    universe.now += 61
    universe.resolve("//fs1/data/y")
    assert len(universe.asked) == 2


def test_c064_h29_a_dfs_service_that_only_starts_is_asked_again_soon(universe: Universe) -> None:
    universe.kill("ns", SmbError(NtStatus.DFS_UNAVAILABLE, "test"))
    assert universe.resolve("//ns/dfs/x").referral is None
    universe.revive("ns")
    universe.now += 6
    assert universe.resolve("//ns/dfs/x").referral is not None


@pytest.mark.parametrize("status", [NtStatus.LOGON_FAILURE, NtStatus.ACCESS_DENIED, NtStatus.ACCOUNT_LOCKED_OUT])
def test_c090_other_failures_are_the_answer(universe: Universe, status: int) -> None:
    universe.kill("ns", SmbError(status, "test"))
    with pytest.raises(SmbError) as caught:
        universe.resolve("//ns/dfs/x")
    assert caught.value.status == status


def test_c085_an_answer_without_targets(universe: Universe) -> None:
    universe.answers[unc("//ns/dfs/a/link")].targets = []
    universe.resolve("//ns/dfs/a/link")
    with pytest.raises(SmbError) as caught:
        universe.resolve("//ns/dfs/a/link", not_covered=True)
    assert caught.value.status == NtStatus.OBJECT_PATH_NOT_FOUND


@pytest.mark.parametrize("ttl", [1, 300])
def test_c045_c053_f16_a_root_known_before_is_used_until_its_hard_timeout(universe: Universe, ttl: int) -> None:
    universe.answers[unc("//ns/dfs")].ttl = ttl
    universe.resolve("//ns/dfs/x")
    universe.kill("ns")
    universe.now += 4 * ttl - 0.5
    assert universe.targets("//ns/dfs/x", fresh=True) == ["//ns1/dfs/x", "//ns2/dfs/x"]
    assert any(isinstance(event, EntryKept) for event in universe.trail)
    universe.now += 1
    with pytest.raises(ConnectError):
        universe.resolve("//ns/dfs/x")


# -- step 8 and 3.1.5.1: PATH_NOT_COVERED -----------------------------------------------------------------------------


def test_c047_c067_c069_f09_a_roots_target_is_asked_for_the_link(universe: Universe) -> None:
    assert deeper(universe, "//ns/dfs/a/link/x/y") == ["//fs1/data/x/y", "//fs2/data/x/y"]
    assert [(r.host, r.kind) for r in universe.asked] == [("ns", ROOT), ("ns1", LINK)]
    assert universe.asked[-1].path == unc("//ns/dfs/a/link/x/y")


def test_c063_the_link_request_may_carry_the_rest_of_the_path(universe: Universe) -> None:
    assert deeper(universe, "//ns/dfs/a/link/deep/er") == ["//fs1/data/deep/er", "//fs2/data/deep/er"]


def test_c066_below_a_links_target_it_is_an_error(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link/x")
    with pytest.raises(SmbError) as caught:
        universe.resolve("//ns/dfs/a/link/x", not_covered=True)
    assert caught.value.status == NtStatus.PATH_NOT_COVERED


def test_c068_where_nobody_knows_a_link_it_is_an_error(universe: Universe) -> None:
    universe.resolve("//ns/dfs/plain")
    with pytest.raises(SmbError) as caught:
        universe.resolve("//ns/dfs/plain", not_covered=True)
    assert caught.value.status in (NtStatus.OBJECT_PATH_NOT_FOUND, NtStatus.NOT_FOUND)


# -- 3.1.5.4.3: the next root target ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(NEXT_TARGET_STATUSES - {NtStatus.BAD_NETWORK_NAME}))
def test_f14_c088_c089_the_next_root_target_is_asked(universe: Universe, status: int) -> None:
    universe.kill("ns1", SmbError(status, "test"))
    assert deeper(universe, "//ns/dfs/a/link") == ["//fs1/data", "//fs2/data"]
    assert universe.hosts_asked == ["ns", "ns1", "ns2"]
    assert universe.targets("//ns/dfs/z") == ["//ns2/dfs/z", "//ns1/dfs/z"]


@pytest.mark.parametrize(
    "error",
    [
        ConnectError("ns1", NtStatus.CONNECTION_REFUSED, "test"),
        ConnectError("ns1", NtStatus.IO_TIMEOUT, "test"),
        ConnectError("ns1", NtStatus.BAD_NETWORK_PATH, "no address"),
        ConnectionLost("ns1", NtStatus.CONNECTION_RESET, "test"),
        SmbError(NtStatus.NETWORK_NAME_DELETED, "test"),
        SmbError(NtStatus.USER_SESSION_DELETED, "test"),
        WireError("test"),
    ],
    ids=repr,
)
def test_f14_c088_failures_of_the_connection_move_on_as_well(universe: Universe, error: DfsfsError) -> None:
    universe.kill("ns1", error)
    assert deeper(universe, "//ns/dfs/a/link") == ["//fs1/data", "//fs2/data"]


@pytest.mark.parametrize(
    "status",
    [NtStatus.BAD_NETWORK_NAME, NtStatus.ACCESS_DENIED, NtStatus.LOGON_FAILURE, NtStatus.INTERNAL_ERROR],
)
def test_f14_c090_nothing_else_moves_on(universe: Universe, status: int) -> None:
    universe.kill("ns1", SmbError(status, "test"))
    with pytest.raises(SmbError) as caught:
        deeper(universe, "//ns/dfs/a/link")
    assert caught.value.status == status
    assert universe.hosts_asked == ["ns", "ns1"]


def test_c088_h06_with_all_root_targets_tried_the_last_error_is_the_answer(universe: Universe) -> None:
    universe.kill("ns1")
    universe.kill("ns2", SmbError(NtStatus.NETWORK_BUSY, "test"))
    with pytest.raises(DfsfsError) as caught:
        deeper(universe, "//ns/dfs/a/link")
    assert caught.value.status == NtStatus.NETWORK_BUSY
    assert universe.hosts_asked == ["ns", "ns1", "ns2"]


# -- steps 9 and 14: expired entries ----------------------------------------------------------------------------------


def test_c033_f16_past_the_soft_timeout_an_entry_is_used_and_asked_for_in_the_background(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link")
    universe.now += 1800
    universe.asked.clear()
    assert universe.targets("//ns/dfs/a/link") == ["//fs1/data", "//fs2/data"]
    assert universe.asked == []
    assert universe.targets("//ns/dfs/a/link", fresh=True) == ["//fs1/data", "//fs2/data"]
    assert universe.kinds_asked[-1] is LINK


def test_c041_c048_past_the_hard_timeout_a_link_is_asked_for_at_the_roots_target(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link")
    universe.now += 4 * 1800
    universe.asked.clear()
    universe.answers[unc("//ns/dfs/a/link")].targets = ["//fs4/new"]
    assert universe.targets("//ns/dfs/a/link") == ["//fs4/new"]
    assert [(r.host, r.kind) for r in universe.asked] == [("ns1", LINK)]


def test_c041_an_expired_root_is_asked_for_again(universe: Universe) -> None:
    universe.resolve("//ns/dfs/x")
    universe.answers[unc("//ns/dfs")].targets = ["//ns7/dfs"]
    universe.now += 1200
    assert universe.targets("//ns/dfs/x") == ["//ns7/dfs/x"]


def test_c048_c053_a_link_that_can_not_be_refreshed_is_used_until_its_hard_timeout(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link")
    for host in ("ns", "ns1", "ns2"):
        universe.kill(host)
    universe.now += 4 * 1800 - 1
    assert universe.targets("//ns/dfs/a/link", fresh=True) == ["//fs1/data", "//fs2/data"]
    universe.now += 2
    with pytest.raises(ConnectError):
        universe.resolve("//ns/dfs/a/link")


def test_a_link_that_became_a_folder(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link")
    del universe.answers[unc("//ns/dfs/a/link")]
    universe.now += 4 * 1800
    assert universe.targets("//ns/dfs/a/link") == ["//ns1/dfs/a/link", "//ns2/dfs/a/link"]


# -- step 11: interlinks ----------------------------------------------------------------------------------------------


def test_c050_c100_an_interlink_leads_into_another_namespace(universe: Universe) -> None:
    assert deeper(universe, "//ns/dfs/inter/x") == ["//other/dfs2/x"]
    assert any(isinstance(event, NamespaceEntered) for event in universe.trail)
    assert universe.resolve("//ns/dfs/inter/x").path_consumed == unc("//ns/dfs/inter")
    assert universe.targets("//ns/dfs/inter/link/y", not_covered=True) == ["//fs3/data/y"]


def test_an_unmarked_interlink_shows_when_its_target_refuses_a_path(universe: Universe) -> None:
    """Samba marks none: the share of the target takes part in DFS, so it is a namespace (and not an error, C-066)."""
    universe.answers[unc("//ns/dfs/inter")].flags = LINK_FLAGS
    assert deeper(universe, "//ns/dfs/inter/link/y") == ["//other/dfs2/link/y"]
    assert universe.targets("//ns/dfs/inter/link/y", not_covered=True) == ["//other/dfs2/link/y"]
    assert universe.targets("//ns/dfs/inter/link/y", not_covered=True) == ["//fs3/data/y"]


@pytest.fixture
def replicated() -> Universe:
    """A domain-based root as Samba's controllers show it: like a link to two shares, which are roots themselves."""
    universe = Universe(domains={"contoso.test": ["dc1"]}, controller="dc1")
    universe.learn_domains()
    universe.link("//contoso.test/public", "//fs1/public", "//fs2/public")
    for host in ("fs1", "fs2"):
        universe.root(f"//{host}/public")
        universe.link(f"//{host}/public/docs", "//fs1/docs", "//fs2/docs")
        universe.link(f"//{host}/public/more", "//fs1/more", "//fs2/more")
    return universe


def found_below(universe: Universe, path: str) -> list[str]:
    """The targets of a path as the driver finds them: servers of the roots say that they don't cover it."""
    targets = universe.targets(path)
    while "/public/" in targets[0]:
        targets = universe.targets(path, not_covered=True)
    return targets


def test_a_root_that_turned_out_to_be_a_namespace_keeps_all_its_targets(replicated: Universe) -> None:
    assert found_below(replicated, "//contoso.test/public/docs") == ["//fs1/docs", "//fs2/docs"]
    assert replicated.targets("//contoso.test/public") == ["//fs1/public", "//fs2/public"]
    assert replicated.targets("//contoso.test/public/docs") == ["//fs1/docs", "//fs2/docs"]


def test_another_server_of_a_root_is_asked_for_its_links_when_one_is_down(replicated: Universe) -> None:
    assert found_below(replicated, "//contoso.test/public/docs") == ["//fs1/docs", "//fs2/docs"]
    replicated.kill("fs1")
    assert found_below(replicated, "//contoso.test/public/more") == ["//fs1/more", "//fs2/more"]
    assert replicated.targets("//contoso.test/public") == ["//fs2/public", "//fs1/public"]


def test_a_server_that_is_down_from_the_start_says_nothing_about_a_root(replicated: Universe) -> None:
    replicated.kill("fs1")
    assert found_below(replicated, "//contoso.test/public/docs") == ["//fs1/docs", "//fs2/docs"]


def test_an_interlink_to_two_namespaces_is_tried_at_both(universe: Universe) -> None:
    universe.interlink("//ns/dfs/two", "//gone/dfs2", "//other/dfs2")
    universe.kill("gone")
    assert deeper(universe, "//ns/dfs/two/link/y") == ["//other/dfs2/link/y"]
    assert universe.targets("//ns/dfs/two/link/y", not_covered=True) == ["//fs3/data/y"]
    universe.kill("other")
    universe.revive("gone")
    with pytest.raises(DfsfsError):  # nobody there knows it
        universe.resolve("//ns/dfs/two/other", not_covered=True)


def chain(universe: Universe, count: int) -> None:
    """Namespace n0 leads to n1 and so on; the last one has a link to a file server."""
    for number in range(count + 1):
        universe.root(f"//n{number}/dfs")
        universe.interlink(f"//n{number}/dfs/next", f"//n{number + 1}/dfs/next")
    universe.link(f"//n{count}/dfs/next", "//fs1/data")


def test_c050_h01_eight_namespaces_and_not_nine(universe: Universe) -> None:
    for count, works in ((8, True), (9, False)):
        universe = Universe()
        chain(universe, count)
        for number in reversed(range(count + 1)):
            universe.resolve(f"//n{number}/dfs")
            try:
                universe.resolve(f"//n{number}/dfs/next", not_covered=True)
            except NamespaceLoop:
                assert not works and number == 0
        if works:
            assert universe.targets("//n0/dfs/next/x") == ["//fs1/data/x"]
        else:
            with pytest.raises(NamespaceLoop):
                universe.resolve("//n0/dfs/next/x")


def test_c050_a_loop_ends_when_a_path_comes_up_again(universe: Universe) -> None:
    universe.interlink("//ns/dfs/loop", "//other/dfs2/back")
    universe.interlink("//other/dfs2/back", "//ns/dfs/loop")
    with pytest.raises(NamespaceLoop, match="back to itself"):
        for _ in range(5):
            universe.resolve("//ns/dfs/loop", not_covered=True)
    assert len(universe.asked) < 10


# -- what entries are -------------------------------------------------------------------------------------------------


def test_c031_c032_c091_c092_f15_a_root_request_answered_with_a_link(universe: Universe) -> None:
    """Root consolidation, and Samba's roots of several targets: ServerType says what it is."""
    universe.link("//old/share", "//new/a", "//new2/b")
    resolution = universe.resolve("//old/share/x")
    assert resolution.referral is not None and not resolution.referral.is_root
    assert universe.targets("//old/share/x") == ["//new/a/x", "//new2/b/x"]


def test_c092_a_root_that_names_itself_is_no_loop() -> None:
    universe = Universe(domains={"contoso.test": ["dc1"]}, controller="dc1")
    universe.learn_domains()
    universe.link("//contoso.test/single", "//contoso.test/single")
    assert universe.targets("//contoso.test/single/x") == ["//contoso.test/single/x"]


@pytest.mark.parametrize(
    ("flags", "domain", "interlink"),
    [
        (HeaderFlags.REFERRAL_SERVERS, False, True),
        (HeaderFlags.STORAGE_SERVERS, False, False),
        (HeaderFlags.REFERRAL_SERVERS | HeaderFlags.STORAGE_SERVERS, False, False),
        (0, False, False),
        (HeaderFlags.STORAGE_SERVERS, True, True),
    ],
)
def test_c100_two_rules_for_interlinks(flags: int, domain: bool, interlink: bool) -> None:
    universe = Universe(domains={"fabrikam": ["dc"]}, controller="dc")
    universe.root("//ns/dfs")
    universe.link("//ns/dfs/link", "//fabrikam/public" if domain else "//fs/public", flags=flags)
    universe.root("//fabrikam/public", "//srv/public")
    universe.root("//fs/public", "//srv/public")
    universe.learn_domains()
    assert (deeper(universe, "//ns/dfs/link/x") == ["//srv/public/x"]) is interlink


def test_c100_several_targets_in_domains_are_no_interlink() -> None:
    universe = Universe(domains={"fabrikam": ["dc"]}, controller="dc")
    universe.learn_domains()
    universe.root("//ns/dfs")
    universe.link("//ns/dfs/link", "//fabrikam/public", "//fs/public")
    assert deeper(universe, "//ns/dfs/link/x") == ["//fabrikam/public/x", "//fs/public/x"]


# -- refresh ----------------------------------------------------------------------------------------------------------


def refreshed(universe: Universe, path: str, targets: list[str]) -> list[str]:
    universe.answers[unc(path)].targets = targets
    universe.now += 1800
    return universe.targets(path, fresh=True)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_c034_c071_c093_f09_h07_h08_an_equivalent_list_keeps_order_and_hint(version: int) -> None:
    universe = Universe()
    universe.root("//ns/dfs")
    universe.link("//ns/dfs/l", "//a/d", "//b/d", "//c/d", version=version)
    resolution = universe.resolve("//ns/dfs/l", not_covered=True)
    assert resolution.referral is not None
    resolution.referral.set_hint(unc("//b/d"))
    assert refreshed(universe, "//ns/dfs/l", ["//c/d", "//a/d", "//b/d"]) == ["//b/d", "//c/d", "//a/d"]


def test_c093_in_version_4_the_sets_have_to_be_the_same(universe: Universe) -> None:
    universe.link("//ns/dfs/l", "//a/d", "//b/d", "|//c/d", "//d/d")
    deeper(universe, "//ns/dfs/l")
    assert refreshed(universe, "//ns/dfs/l", ["//b/d", "//a/d", "|//d/d", "//c/d"])[0] == "//a/d"
    assert refreshed(universe, "//ns/dfs/l", ["//c/d", "//b/d", "|//a/d", "//d/d"]) == [
        "//a/d",
        "//d/d",
        "//c/d",
        "//b/d",
    ]


def test_c094_c095_ttl_failback_and_interlink_are_those_of_the_new_answer(universe: Universe) -> None:
    resolution = universe.resolve("//ns/dfs")
    universe.resolve("//ns/dfs/a/link", not_covered=True)
    entry = universe.resolve("//ns/dfs/a/link").referral
    assert entry is not None
    assert (entry.failback, entry.interlink) == (False, False)
    answer = universe.answers[unc("//ns/dfs/a/link")]
    answer.ttl, answer.flags = 7, LINK_FLAGS | HeaderFlags.TARGET_FAIL_BACK
    universe.now += 1800
    universe.resolve("//ns/dfs/a/link", fresh=True)
    assert (entry.ttl, entry.failback, entry.received) == (7, True, universe.now)
    answer.flags = HeaderFlags.REFERRAL_SERVERS
    universe.now += 7
    universe.resolve("//ns/dfs/a/link", fresh=True)
    assert (entry.failback, entry.interlink) == (False, True)
    assert resolution.referral is not entry


def test_c096_h10_a_hint_that_is_gone_is_the_first_target_again(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link")
    entry = universe.resolve("//ns/dfs/a/link").referral
    assert entry is not None
    entry.set_hint(unc("//fs2/data"))
    assert refreshed(universe, "//ns/dfs/a/link", ["//fs5/d", "//fs6/d"]) == ["//fs5/d", "//fs6/d"]


def test_c096_a_hint_that_is_still_there_is_kept(universe: Universe) -> None:
    deeper(universe, "//ns/dfs/a/link")
    entry = universe.resolve("//ns/dfs/a/link").referral
    assert entry is not None
    entry.set_hint(unc("//fs2/data"))
    assert refreshed(universe, "//ns/dfs/a/link", ["//fs5/d", "//fs2/data"])[0] == "//fs2/data"


@pytest.mark.parametrize(("failback", "first"), [(True, "//a/d"), (False, "//c/d")])
def test_c097_failback_goes_to_the_first_set(failback: bool, first: str) -> None:
    universe = Universe()
    universe.root("//ns/dfs")
    flags = LINK_FLAGS | (HeaderFlags.TARGET_FAIL_BACK if failback else 0)
    universe.link("//ns/dfs/l", "//a/d", "//b/d", "|//c/d", flags=flags)
    resolution = deeper_entry(universe)
    resolution.set_hint(unc("//c/d"))
    assert refreshed(universe, "//ns/dfs/l", ["//a/d", "//b/d", "|//c/d"])[0] == first
    assert universe.resolve("//ns/dfs/l").preferred == ((unc("//a/d"), unc("//b/d")) if failback else ())


def test_c097_inside_the_first_set_the_hint_stays() -> None:
    universe = Universe()
    universe.root("//ns/dfs")
    universe.link("//ns/dfs/l", "//a/d", "//b/d", "|//c/d", flags=LINK_FLAGS | HeaderFlags.TARGET_FAIL_BACK)
    deeper_entry(universe).set_hint(unc("//b/d"))
    assert refreshed(universe, "//ns/dfs/l", ["//a/d", "//b/d", "|//c/d"])[0] == "//b/d"


def deeper_entry(universe: Universe) -> Referral:
    entry = universe.resolve("//ns/dfs/l", not_covered=True).referral
    assert entry is not None
    return entry

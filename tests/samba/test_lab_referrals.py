"""The referral engine against the text of MS-DFSC 3.2.5.5 and 3.3.5."""

from __future__ import annotations

import random

import pytest

from dfsfs.dfsc.wire import HeaderFlags, ReferralRequest, ReferralResponse, decode_response
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath
from tests.support.lab.namespaces import parse_world
from tests.support.lab.referrals import Client, answer, fit

WORLD = parse_world("""
[domain]
name = "contoso.test"
netbios = "CONTOSO"
controllers = ["dc1", "dc2"]
trusted = ["fabrikam.test", "FABRIKAM"]

[sites]
berlin = ["127.0.1.0/24"]
paris = ["127.0.2.0/24"]
rome = []

[[cost]]
between = ["berlin", "paris"]
cost = 10
[[cost]]
between = ["berlin", "rome"]
cost = 5

[servers]
dc1 = "paris"
dc2 = "berlin"
b1 = "berlin"
b2 = "berlin"
p1 = "paris"
r1 = "rome"

[[namespace]]
name = "MyDfs"
failback = true
targets = ["//ns1/MyDfs"]
[[namespace.link]]
path = "dir1/link1"
targets = ["//b1/x"]
[[namespace.link]]
path = "dir/link1"
targets = ["//b1/x"]
[[namespace.link]]
path = "near"
insite_only = true
targets = ["//b1/x", "//p1/x", { path = "//r1/x", priority = "global-high" }]
[[namespace.link]]
path = "inter"
interlink = true
targets = ["//contoso.test/public"]

[[namespace]]
name = "public"
domain = true
site_costing = true
targets = ["//ns1/public", "//ns2/public"]
[[namespace.link]]
path = "sites"
targets = ["//p1/x", "//r1/x", "//b1/x", "//b2/x"]
[[namespace.link]]
path = "ranks"
ttl = 7
targets = [
  { path = "//b1/low", priority = "global-low" },
  { path = "//b1/r3", rank = 3 },
  { path = "//b1/r0", rank = 0 },
  { path = "//b1/sclow", priority = "site-cost-low" },
  { path = "//r1/schigh", priority = "site-cost-high" },
  { path = "//b1/schigh", priority = "site-cost-high", rank = 31 },
  { path = "//p1/high", priority = "global-high" },
  { path = "//b2/r0", rank = 0 },
]
""")


def ask(
    path: str, level: int = 4, *, server: str = "ns1", site: str | None = "berlin", seed: int = 0
) -> ReferralResponse | NtStatus:
    return answer(WORLD, server, ReferralRequest(path, level), Client(site), random.Random(seed))


def got(
    path: str, level: int = 4, *, server: str = "ns1", site: str | None = "berlin", seed: int = 0
) -> ReferralResponse:
    response = ask(path, level, server=server, site=site, seed=seed)
    assert isinstance(response, ReferralResponse), response
    return response


def shown(response: ReferralResponse) -> list[str]:
    return [("|" if e.starts_set else "") + "/".join(e.network_address.components) for e in response.entries]


def test_s18_path_consumed_is_50_in_the_example() -> None:
    for path, consumed in (("\\MyDomain\\MyDfs\\dir\\link1\\dir2\\file1", 50), ("\\MyDomain\\MyDfs\\x", 30)):
        body = fit(got(path), 4096)
        assert isinstance(body, bytes)
        assert int.from_bytes(body[:2], "little") == consumed


def test_s14_prefixes_are_whole_components_without_case() -> None:
    assert shown(got("\\MyServer\\mydfs\\DIR1\\Link1\\dir2")) == ["|b1/x"]
    assert got("\\MyServer\\MyDfs\\dir1\\link2\\dir2").entries[0].is_root
    assert got("\\MyServer\\MyDfs\\dir1\\link11").entries[0].is_root


def test_s13_s41_unknown_namespaces() -> None:
    assert ask("\\ns1\\nothing") == NtStatus.NOT_FOUND
    assert ask("\\contoso.test\\nothing") == NtStatus.DFS_UNAVAILABLE
    assert ask("\\contoso.test\\nothing", server="dc1") == NtStatus.NO_SUCH_FILE
    assert ask("\\CONTOSO\\MyDfs") == NtStatus.DFS_UNAVAILABLE


def test_s42_a_controller_that_hosts_no_root_gives_no_links() -> None:
    assert got("\\contoso.test\\public", server="dc1").entries[0].is_root
    assert ask("\\contoso.test\\public\\sites", server="dc1") == NtStatus.NOT_FOUND


def test_s15_by_site_the_nearest_first_and_random_inside() -> None:
    orders = {tuple(shown(got("\\contoso.test\\public\\sites", seed=seed))) for seed in range(20)}
    assert orders == {("|b1/x", "b2/x", "|r1/x", "|p1/x"), ("|b2/x", "b1/x", "|r1/x", "|p1/x")}
    assert shown(got("\\contoso.test\\public\\sites", site="paris"))[0] == "|p1/x"
    unknown = {tuple(shown(got("\\contoso.test\\public\\sites", site=None, seed=seed))) for seed in range(40)}
    assert len(unknown) > 6 and all(order[0].startswith("|") and order[1][0] != "|" for order in unknown)


def test_s16_in_site_only() -> None:
    assert shown(got("\\ns1\\MyDfs\\near")) == ["|r1/x", "|b1/x"]
    assert shown(got("\\ns1\\MyDfs\\near", site="rome")) == ["|r1/x"]


def test_s17_s26_groups_costs_classes_ranks_and_sets() -> None:
    path = "\\contoso.test\\public\\ranks"
    expected = ["|p1/high", "|b1/schigh", {"b1/r0", "b2/r0"}, "|b1/r3", "|b1/sclow", "|r1/schigh", "|b1/low"]
    for order in (shown(got(path, seed=1)), shown(got(path, seed=2))):
        assert order[:2] == expected[:2]
        assert {text.lstrip("|") for text in order[2:4]} == expected[2]
        assert (order[2][0], order[3][0] == "|") == ("|", False)
        assert order[4:] == expected[3:]


def test_s20_s24_header_flags_and_server_type() -> None:
    both = HeaderFlags.REFERRAL_SERVERS | HeaderFlags.STORAGE_SERVERS
    root, link, inter = got("\\contoso.test\\public"), got("\\contoso.test\\public\\sites"), got("\\ns1\\MyDfs\\inter")
    assert (root.flags, link.flags) == (both, HeaderFlags.STORAGE_SERVERS)
    assert inter.flags == HeaderFlags.REFERRAL_SERVERS | HeaderFlags.TARGET_FAIL_BACK
    assert [response.entries[0].is_root for response in (root, link, inter)] == [True, False, False]
    assert got("\\contoso.test\\public\\sites", 1).flags == both


@pytest.mark.parametrize(("level", "version"), [(1, 1), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_s07_s21_s22_s23_s27_versions(level: int, version: int) -> None:
    response = got("\\ns1\\MyDfs\\near", level)
    assert response.version == version
    assert bool(response.flags & HeaderFlags.TARGET_FAIL_BACK) is (version == 4)
    body = fit(response, 4096)
    assert isinstance(body, bytes)
    again = decode_response(body, UncPath.parse("//ns1/MyDfs/near"))
    assert again == response
    assert {entry.ttl for entry in got("\\contoso.test\\public\\ranks").entries} == {7}


def test_s08_s09_s19_only_whole_entries() -> None:
    response = got("\\contoso.test\\public\\sites")
    whole = fit(response, 4096)
    assert isinstance(whole, bytes)
    for room in range(len(whole) + 1):
        body = fit(response, room)
        if isinstance(body, bytes):
            assert len(body) <= room
            part = decode_response(body, UncPath.parse("//contoso.test/public/sites"))
            assert part.entries == response.entries[: len(part.entries)] != ()
        else:
            assert body == NtStatus.BUFFER_OVERFLOW
    assert fit(response, 40) == NtStatus.BUFFER_OVERFLOW


def test_s11_s12_who_is_no_controller() -> None:
    assert ask("") == ask("\\contoso.test") == NtStatus.INVALID_PARAMETER
    assert ask("\\contoso.test\\sysvol") == NtStatus.NOT_FOUND


def test_s31_s33_s35_domains() -> None:
    response = got("", server="dc1")
    assert [entry.special_name for entry in response.name_lists] == [
        "CONTOSO",
        "contoso.test",
        "fabrikam.test",
        "FABRIKAM",
    ]
    assert (response.version, response.flags, response.path_consumed) == (3, 0, None)
    assert all(entry.names == () for entry in response.name_lists)


@pytest.mark.parametrize("path", ["", "\\contoso.test"])
def test_s32_s37_names_need_version_3(path: str) -> None:
    assert ask(path, 2, server="dc1") == NtStatus.UNSUCCESSFUL


def test_s36_s38_controllers() -> None:
    assert ask("\\fabrikam.test", server="dc1") == NtStatus.INVALID_PARAMETER
    (names,) = got("\\contoso.test", server="dc1").name_lists
    assert names.names == ("dc2.contoso.test", "dc1.contoso.test")
    (names,) = got("\\CONTOSO", server="dc1", site="paris").name_lists
    assert names.names == ("DC1", "DC2")


def test_s39_s40_sysvol() -> None:
    response = got("\\contoso.test\\SYSVOL", server="dc1")
    assert shown(response) == ["|dc2.contoso.test/SYSVOL", "dc1.contoso.test/SYSVOL"]
    assert (response.flags, response.ttl, response.path_consumed) == (2, 900, UncPath.parse("//contoso.test/SYSVOL"))
    assert ask("\\contoso.test\\sysvol\\deeper", server="dc1") == NtStatus.NOT_FOUND
    assert ask("\\fabrikam.test\\sysvol", server="dc1") == NtStatus.NOT_FOUND

"""What the options of a mount make of a referral."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.dfsc.policy import Policy
from dfsfs.dfsc.referral import Referral, Target
from dfsfs.telemetry import PolicyIgnored
from dfsfs.unc import UncPath

PREFIX = UncPath.parse("//ns/dfs/link")


def referral(*targets: str, ttl: int = 300, failback: bool = False) -> Referral:
    """A target set begins where a target is written with a leading `|`."""
    parsed = tuple(
        Target(UncPath.parse(f"//{target.lstrip('|')}/x"), not index or target.startswith("|"))
        for index, target in enumerate(targets)
    )
    return Referral(PREFIX, False, False, failback, parsed, 0.0, ttl)


def shown(policy: Policy, known: Referral) -> list[str]:
    applied, _ = policy.apply(known)
    return [("|" if target.starts_set else "") + target.path.host for target in applied.targets]


@pytest.mark.parametrize(
    ("prefer", "targets", "expected"),
    [
        ((), ["a", "b", "|c"], ["|a", "b", "|c"]),
        (("C",), ["a", "b", "|c", "d"], ["|c", "|a", "b", "|d"]),
        (("a",), ["a", "b", "|c"], ["|a", "|b", "|c"]),
        (("fs*.site2",), ["fs1.site1", "FS2.SITE2", "fs3.site2"], ["|FS2.SITE2", "fs3.site2", "|fs1.site1"]),
        (("c", "b"), ["a", "b", "c"], ["|c", "|b", "|a"]),
        (("nowhere",), ["a", "|b"], ["|a", "|b"]),
        (("*",), ["a", "b"], ["|a", "b"]),
    ],
)
def test_preferred_hosts_become_sets_in_front(prefer: tuple[str, ...], targets: list[str], expected: list[str]) -> None:
    assert shown(Policy(prefer=prefer), referral(*targets)) == expected


@given(
    st.lists(st.sampled_from(["a", "|b", "c", "|d", "ab"]), min_size=1, unique=True), st.sampled_from(["a*", "d", "?"])
)
def test_preferring_adds_and_loses_no_target(targets: list[str], pattern: str) -> None:
    known = referral(*targets)
    applied, _ = Policy(prefer=(pattern,)).apply(known)
    assert sorted(t.path.host for t in applied.targets) == sorted(t.path.host for t in known.targets)
    assert applied.targets[0].starts_set


def test_a_pin_is_found_in_any_case_but_in_its_own_first() -> None:
    pins = tuple((UncPath.parse(f"//ns/dfs/{name}"), UncPath.parse(f"//{host}/x")) for name, host in PINS)
    assert shown(Policy(pins=pins), referral("a", "b")) == ["|b"]
    assert shown(Policy(pins=pins[:1]), referral("a", "b")) == ["|a"]


PINS = (("LINK", "a"), ("link", "b"))


def test_a_pinned_target_is_the_only_one() -> None:
    policy = Policy(pins=((UncPath.parse("//NS/dfs/link"), UncPath.parse("//B/x")),))
    assert shown(policy, referral("a", "b")) == ["|B"]


def test_a_pin_that_the_referral_does_not_name_is_ignored_aloud() -> None:
    """dfsfs never goes where the namespace does not lead."""
    applied, events = Policy(pins=((PREFIX, UncPath.parse("//elsewhere/x")),)).apply(referral("a", "b"))
    assert [target.path.host for target in applied.targets] == ["a", "b"]
    (event,) = events
    assert isinstance(event, PolicyIgnored)
    assert "//elsewhere/x" in str(event)


@pytest.mark.parametrize(
    ("low", "high", "ttl", "expected"),
    [
        (None, None, 0, 0),
        (60, None, 5, 60),
        (60, None, 300, 300),
        (None, 120, 300, 120),
        (60, 120, 90, 90),
        (None, None, 86_400, 86_400),
        (None, None, 2**32 - 1, 86_400),
        (None, 172_800, 2**32 - 1, 172_800),
        (172_800, None, 2**32 - 1, 172_800),
        (0, None, 2**32 - 1, 86_400),
    ],
)
def test_ttl_limits(low: int | None, high: int | None, ttl: int, expected: int) -> None:
    applied, _ = Policy(ttl_min=low, ttl_max=high).apply(referral("a", ttl=ttl))
    assert applied.ttl == expected


@pytest.mark.parametrize(("wanted", "said", "result"), [(None, True, True), (True, False, True), (False, True, False)])
def test_failback_may_be_decided_by_the_mount(wanted: bool | None, said: bool, result: bool) -> None:
    applied, _ = Policy(failback=wanted).apply(referral("a", "|b", failback=said))
    assert applied.failback is result

"""The resolver in random universes: it ends, stays within its limits, and invents nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath
from tests.support.fakes.universe import INTERLINK_FLAGS, LINK_FLAGS, Universe, unc

HOSTS = ["n1", "n2", "n3"]
FILES = ["f1", "f2"]
LINKS = ["a", "b", "a/b", "c/d"]
ROOTS = [f"//{host}/dfs" for host in HOSTS]
PLACES = [*ROOTS, *(f"{root}/{link}" for root in ROOTS for link in LINKS), *(f"//{host}/data" for host in FILES)]
asked = st.tuples(st.sampled_from(ROOTS), st.sampled_from([*LINKS, "a/b/x", "c", "c/d/e/f"])).map("/".join)


@st.composite
def universes(draw: st.DrawFn) -> Universe:
    """Links in links, to other namespaces, marked and unmarked, in circles, with several targets and short times."""
    universe = Universe()
    for root in ROOTS:
        universe.root(root, ttl=draw(st.sampled_from([0, 5, 300])))
        for link in draw(st.lists(st.sampled_from(LINKS), unique=True)):
            targets = draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3, unique=True))
            flags = draw(st.sampled_from([LINK_FLAGS, INTERLINK_FLAGS]))
            universe.link(f"{root}/{link}", *targets, flags=flags, ttl=draw(st.sampled_from([0, 5, 1800])))
    for host in draw(st.lists(st.sampled_from(HOSTS), max_size=1)):
        universe.kill(host, SmbError(draw(st.sampled_from([NtStatus.NETWORK_BUSY, NtStatus.ACCESS_DENIED])), "test"))
    return universe


steps = st.lists(st.tuples(asked, st.booleans(), st.booleans(), st.sampled_from([0, 1, 6, 2000, 8000])), max_size=12)


@settings(max_examples=300, deadline=None)
@given(universes(), steps)
def test_it_ends_and_names_only_what_the_namespace_names(
    universe: Universe, journey: list[tuple[str, bool, bool, float]]
) -> None:
    for path, not_covered, fresh, pause in journey:
        universe.now += pause
        universe.asked.clear()
        with contextlib.suppress(DfsfsError):
            resolution = universe.resolve(path, not_covered=not_covered, fresh=fresh)
            assert resolution.hops <= 8
            assert resolution.path_consumed.is_prefix_of(unc(path))
            targets = [target.path for target in resolution.targets]
            assert targets and len(set(targets)) == len(targets)
            named = {unc(target.lstrip("|")) for answer in universe.answers.values() for target in answer.targets}
            if resolution.referral is None:
                named.add(targets[0])
            assert all(any(place.is_prefix_of(target) for place in named) for target in targets)
            assert set(resolution.preferred) <= set(targets)
        assert len(universe.asked) <= 9 * 4, "requests for one path"


@settings(max_examples=200, deadline=None)
@given(universes(), asked)
def test_no_target_is_asked_twice_for_one_thing(universe: Universe, path: str) -> None:
    with contextlib.suppress(DfsfsError):
        universe.resolve(path)
    universe.asked.clear()
    with contextlib.suppress(DfsfsError):
        universe.resolve(path, not_covered=True)
    requests = [(request.host, request.path, request.kind) for request in universe.asked]
    assert len(set(requests)) == len(requests)


def test_two_targets_in_one_namespace_are_one_question_to_its_server() -> None:
    universe = Universe()
    universe.root("//ns/dfs")
    universe.link("//ns/dfs/a", "//busy/dfs", "//busy/dfs/a", flags=INTERLINK_FLAGS)
    universe.kill("busy", SmbError(NtStatus.NETWORK_BUSY, "test"))
    with pytest.raises(SmbError, match="NETWORK_BUSY"):
        universe.resolve("//ns/dfs/a", not_covered=True)
    assert universe.hosts_asked == ["ns", "ns", "busy"]
    universe.revive("busy")
    universe.asked.clear()
    universe.resolve("//ns/dfs/a")
    assert universe.hosts_asked == ["busy"], "it is asked again by the next who comes"


def test_c011_hosts_are_compared_without_case() -> None:
    universe = Universe()
    universe.root("//ns/dfs")
    universe.resolve("//NS/DFS/x")
    universe.resolve("//ns/dfs/x")
    assert len(universe.asked) == 1
    assert universe.resolve("//Ns/Dfs/Some").path_consumed == UncPath(("ns", "dfs"))

"""UNC paths: what they compare, join and count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.unc import UncError, UncPath, fold_name

components = st.text(st.characters(codec="utf-8", exclude_characters="\0\\/"), min_size=1, max_size=10)
paths = st.lists(components, min_size=1, max_size=6).map(lambda parts: UncPath(tuple(parts)))


@given(paths)
def test_every_way_to_write_it_is_the_same_path(path: UncPath) -> None:
    for text in (str(path), path.wire, "\\" + path.wire, path.wire[1:], str(path) + "/", str(path).replace("/", "//")):
        assert UncPath.parse(text) == path
        assert UncPath.parse(text).components == path.components


@given(paths, st.lists(components, max_size=3))
def test_prefix_rest_and_join_belong_together(path: UncPath, rest: list[str]) -> None:
    longer = path.join(rest)
    assert path.is_prefix_of(longer)
    assert path.rest_of(longer) == tuple(rest)
    assert longer.replace_prefix(path, UncPath(("x", "y"))).components == ("x", "y", *rest)


def test_prefixes_are_whole_components() -> None:
    link = UncPath.parse("//srv/ns/link")
    assert link.is_prefix_of(UncPath.parse("//SRV/NS/link/x"))
    assert not link.is_prefix_of(UncPath.parse("//srv/ns/LINK/x"))
    assert link.is_prefix_in_any_case_of(UncPath.parse("//srv/ns/LINK/x"))
    assert not link.is_prefix_in_any_case_of(UncPath.parse("//srv/ns/LINKS/x"))
    assert not link.is_prefix_in_any_case_of(UncPath.parse("//srv/ns"))
    assert not link.is_prefix_of(UncPath.parse("//srv/ns/linked"))
    with pytest.raises(UncError, match="not below"):
        link.rest_of(UncPath.parse("//srv/ns/linked"))


@given(components)
def test_folding_keeps_the_length_and_is_done_once(name: str) -> None:
    assert len(fold_name(name)) == len(name)
    assert fold_name(fold_name(name)) == fold_name(name)


@pytest.mark.parametrize(("one", "other", "same"), [("Ü", "ü", True), ("straße", "STRASSE", False), ("a", "b", False)])
def test_names_without_case(one: str, other: str, same: bool) -> None:
    assert (UncPath(("s", one)) == UncPath(("S", other))) is same
    assert (hash(UncPath(("s", one))) == hash(UncPath(("S", other)))) is same


def test_below_the_share_a_path_is_what_it_is_spelled_like() -> None:
    one, other = UncPath.parse("//srv/ns/Case/x"), UncPath.parse("//SRV/NS/case/x")
    assert one != other
    assert len({one, other, UncPath.parse("//Srv/Ns/Case/x")}) == 2
    assert one.folded == other.folded
    assert not one.parent.is_prefix_of(other)
    with pytest.raises(UncError, match="not below"):
        one.parent.rest_of(other)


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("//s/n/Case/x", ["Case"]),
        ("//s/n/case", ["case"]),
        ("//s/n/CASE/x", ["Case", "case"]),
        ("//s/n/DEEP/x", ["deep"]),
        ("//s/n/case/Sub/x", ["Case/sub"]),
        ("//s/n/cases", [""]),
        ("//t/n/Case", []),
    ],
)
def test_the_nearest_is_the_longest_and_then_the_one_that_is_spelled_so(path: str, nearest: list[str]) -> None:
    known = [UncPath.parse(f"//s/n/{name}") for name in ("", "Case", "case", "deep", "Case/sub")]
    expected = [UncPath.parse(f"//s/n/{name}") for name in nearest]
    assert UncPath.parse(path).nearest_of(known) == expected


@given(paths)
def test_path_consumed_is_found_again(path: UncPath) -> None:
    for length in range(1, len(path) + 1):
        prefix = UncPath(path.components[:length])
        count = len(prefix.wire.encode("utf-16-le"))
        assert path.consumed_prefix(count) == prefix
        assert path.consumed_prefix(count - 1) is None


def test_a_share_has_two_components() -> None:
    assert UncPath.parse("//a/b/c").share == UncPath.parse("//a/b")
    with pytest.raises(UncError, match="names no share"):
        UncPath.parse("//a").share  # noqa: B018 - the property is what is tested
    with pytest.raises(UncError):
        UncPath.parse("//a").parent  # noqa: B018

"""junction.py: identity, generations, places."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from dfsfs.errors import Disposition
from dfsfs.namespace.junction import Attempt, Junction, Location, PathNotCovered
from dfsfs.ntstatus import NtStatus
from tests.support.fakes.pool import unc
from tests.unit.namespace.script import PREFIX, resolution

if TYPE_CHECKING:
    from dfsfs.smb.tree.tree import Tree

TREE = cast("Tree", object())


def test_the_generation_counts_moves_and_not_connections() -> None:
    junction = Junction(PREFIX)
    junction.check_invariants()
    junction.resolution = resolution(PREFIX, ["//a/data", "//b/data"])
    generations = [junction.bind(unc(f"//{host}/data"), TREE, 0.0).generation for host in "aabBa"]
    assert generations == [1, 1, 2, 2, 3]
    junction.check_invariants()


def test_unbinding_keeps_the_generation() -> None:
    junction = Junction(PREFIX)
    junction.resolution = resolution(PREFIX, ["//a/data"])
    junction.bind(unc("//a/data"), TREE, 0.0)
    junction.unbind()
    assert [junction.binding, junction.resolution] == [None, None]
    assert junction.generation == 1
    junction.check_invariants()


def test_junctions_are_told_apart_by_identity() -> None:
    assert Junction(PREFIX) != Junction(PREFIX)
    assert len({Junction(PREFIX), Junction(PREFIX)}) == 2


def test_a_location_is_a_path_below_its_junction() -> None:
    root = Location(Junction(PREFIX))
    assert root.is_junction_root
    assert root.unc == PREFIX
    child = root.child("dir").child("file")
    assert not child.is_junction_root
    assert child.components == ("dir", "file")
    assert child.unc == unc("//srv/ns/link/dir/file")
    assert child == Location(root.junction, ("dir", "file"))


def test_an_attempt_knows_its_tree() -> None:
    junction = Junction(PREFIX)
    binding = junction.bind(unc("//a/data"), TREE, 0.0)
    assert Attempt(binding, unc("//a/data/x"), is_replay=False).tree is TREE


def test_covered_names_the_link() -> None:
    error = PathNotCovered(PREFIX)
    assert error.prefix is PREFIX
    assert error.errno == errno.EREMOTE
    assert error.status == NtStatus.PATH_NOT_COVERED
    assert error.disposition is Disposition.RETURN
    assert str(PREFIX) in str(error)

"""The past of a share: how much of it is kept, whatever a server names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dfsfs.smb.connection.calls import Route
from dfsfs.smb.tree.channel import IoLimits
from dfsfs.smb.tree.tree import PAST_MAX, Tree
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from dfsfs.smb.connection.connection import Connection


def test_of_the_snapshots_that_a_server_names_those_used_last_are_kept() -> None:
    tree = Tree(cast("Connection", object()), UncPath.parse("//s/share"), Route(), IoLimits(1, 1, 1))
    tree.files_for_links = True
    used = tree.at(1)
    for moment in range(2, 5 * PAST_MAX):
        tree.at(moment)
        assert tree.at(1) is used, "whose snapshot is in use need not be asked for again"
        assert len(tree._past) <= PAST_MAX
    assert tree.at(2).moment == 2 and tree.at(2).oddities is tree.oddities and tree.at(2).files_for_links

"""The past of a share: how much of it is kept, whatever a server names."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dfsfs.smb.connection.calls import Route
from dfsfs.smb.tree.channel import IoLimits
from dfsfs.smb.tree.compounds import PathChannel
from dfsfs.smb.tree.tree import PAST_MAX, Tree
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from dfsfs.smb.connection.connection import Connection


def test_of_the_snapshots_that_a_server_names_those_used_last_are_kept() -> None:
    channel = PathChannel(cast("Connection", object()), UncPath.parse("//s/share"), Route(), IoLimits(1, 1, 1))
    tree = Tree(channel, maximal_access=1, mfsymlinks=True)
    used = tree.at(1)
    for moment in range(2, 5 * PAST_MAX):
        tree.at(moment)
        assert tree.at(1) is used, "whose snapshot is in use need not be asked for again"
        assert len(tree._past) <= PAST_MAX
    past = tree.at(2)
    assert past.channel.snapshot_time == 2 and past.channel.content_warnings is channel.content_warnings
    assert (past._maximal_access, past._mfsymlinks) == (1, True)
    assert (str(tree.volume), str(past.volume)) == ("//s/share", "//s/share/@GMT-1601.01.01-00.00.00")

"""Servers that allocate what they are asked to, and shares of different sizes, by the verbs of the file system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfsfs.errors import DfsfsError
from dfsfs.unc import UncPath
from dfsfs.vfs.names.inodetable import ROOT
from tests.conftest import SAMBAS
from tests.samba.clients import share_of
from tests.samba.filesystems import filesystem
from tests.samba.test_ranges import KEEP, KIB, MIB, PUNCH, ZERO, blocks, new_file
from tests.support.lab.samba import Lab, free_net
from tests.support.lab.variants import ROOM, SIZE_PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

TOTAL, FREE = 1000, 600
"""KiB of the share `small`, and how many of them are free."""


@pytest.fixture(scope="module", params=SAMBAS)
def room(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with ROOM."""
    with Lab(free_net(), topology=ROOM, samba=SAMBAS[request.param]) as running:
        program = running.host("fs1").share_path("small") / SIZE_PROGRAM
        program.write_text(f"#!/bin/sh\necho {TOTAL} {FREE} 1024\n")
        program.chmod(0o755)
        yield running


async def test_room_that_is_kept(room: Lab) -> None:
    local = room.host("fs1").share_path("strict") / "room"
    async with filesystem(room, share_of(room, "fs1", "strict")) as mounted:
        try:
            handle = await new_file(mounted, "room", b"data")
            await mounted.fs.fallocate(handle, KEEP, 0, MIB)
            assert (local.stat().st_size, blocks(local)) == (4, MIB)
            assert (await mounted.fs.getattr(await mounted.ino("room"))).blocks == MIB // 512
            await mounted.fs.fallocate(handle, 0, 0, 2 * MIB)
            assert local.stat().st_size == 2 * MIB and blocks(local) >= 2 * MIB
            await mounted.fs.fallocate(handle, ZERO, 0, MIB)
            assert blocks(local) >= 2 * MIB
            await mounted.fs.fallocate(handle, PUNCH, 0, MIB)
            assert MIB <= blocks(local) < 2 * MIB
        finally:
            local.unlink()


async def test_the_size_of_a_share_behind_a_link(room: Lab) -> None:
    """A link is entered for that; one that leads nowhere is an error, and no reason not to tell the others' sizes."""
    async with filesystem(room, UncPath((room.address("ns1"), "dfs"))) as mounted:
        root = await mounted.fs.statfs(ROOT)
        assert root.total > root.free > 0
        link = await mounted.ino("link-small")
        behind = await mounted.fs.statfs(link)
        assert (behind.total, behind.free) == (TOTAL * KIB, FREE * KIB)
        assert (await mounted.fs.getattr(link)).btime_ns > 0
        assert await mounted.fs.statfs(await mounted.ino("link-small/hello.txt")) == behind
        with pytest.raises(DfsfsError):
            await mounted.fs.statfs(await mounted.ino("link-dead"))
        assert (await mounted.fs.statfs(await mounted.ino("link-data/folder"))).total == root.total
        assert (await mounted.fs.statfs(ROOT)).total == root.total

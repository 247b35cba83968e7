"""Changes of names in a folder that is just being renamed itself: they wait, and happen where the folder is then."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dfsfs.vfs.names.inodetable import ROOT
from tests.support.fakes.memory_tree import MemoryTree
from tests.unit.vfs.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.unc import UncPath
    from dfsfs.vfs.filesystem import FileSystem

    Change = Callable[[FileSystem, int, int], Awaitable[object]]

CHANGES: dict[str, tuple[Change, list[str]]] = {
    "rename": (lambda fs, folder, file: fs.rename(folder, b"file", folder, b"new", 0), ["new", "old"]),
    "rename over": (lambda fs, folder, file: fs.rename(folder, b"file", folder, b"old", 0), ["old"]),
    "link": (lambda fs, folder, file: fs.link(file, folder, b"new"), ["file", "new", "old"]),
    "unlink": (lambda fs, folder, file: fs.unlink(folder, b"file"), ["old"]),
}


@pytest.mark.parametrize(
    ("change", "has_links"),
    [(change, links) for change in CHANGES for links in (True, False) if links or change != "link"],
)
async def test_a_change_in_a_folder_that_gets_another_name(
    change: str, autojump_clock: object, *, has_links: bool
) -> None:
    """Of all names it is known whether they are there, so that nothing has to be asked before the change."""
    world, (action, names) = World(), CHANGES[change]
    world.root.has_hard_links = has_links
    world.root.add_folder("before")
    for name in ("file", "old"):
        world.root.add_file(f"before/{name}")
    folder, file = await world.ino("before"), await world.ino("before/file")
    handles = [(await world.fs.open(ino, os.O_RDONLY)).handle for ino in (file, await world.ino("before/old"))]
    await world.listing("before")
    lookup, answered = world.fs._lookup, trio.Event()

    async def slow() -> None:
        with lookup.directory_renames.running(lookup.get_inode(folder)):
            await answered.wait()

    async with trio.open_nursery() as nursery:
        for work in (
            slow,
            partial(world.fs.rename, ROOT, b"before", ROOT, b"after", 0),
            partial(action, world.fs, folder, file),
        ):
            nursery.start_soon(work)
            await wait_all_tasks_blocked()
        assert lookup.directory_renames.is_held(lookup.get_inode(folder))
        answered.set()
    for handle in handles:
        await world.fs.release(handle)
    assert (world.root.names(), world.root.names("after")) == (["after", "link"], names)
    world.fs.check_invariants()


async def test_a_server_that_takes_its_time_for_a_listing_does_not_fail_a_rename(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not answered in time is not waited for: the server may refuse the rename, nothing here does."""
    world, answered, ended = World(), trio.Event(), list[str]()
    world.root.add_folder("before")
    world.root.add_folder("before/folder")
    world.root.add_file("before/folder/file")
    the_list = MemoryTree.list

    async def slow(tree: MemoryTree, path: UncPath) -> AsyncGenerator[list[DirEntry], None]:
        try:
            async for batch in the_list(tree, path):
                await answered.wait()
                yield batch
        finally:
            ended.append(path.components[-1])

    monkeypatch.setattr(MemoryTree, "list", slow)
    handle = await world.fs.opendir(await world.ino("before/folder"))
    names: list[bytes] = []

    async def read() -> None:
        names.extend([name async for name, _, _ in world.entries_of(handle)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await world.fs.rename(ROOT, b"before", ROOT, b"after", 0)
        assert world.root.names() == ["after", "link"]
        answered.set()
    assert names == [b".", b"..", b"file"]
    await world.fs.releasedir(handle)
    assert ended == ["folder"]

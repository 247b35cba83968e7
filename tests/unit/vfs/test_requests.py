"""Questions that need not be asked: what a server has said along with a change, or just before, or says by a handle."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import trio

from dfsfs.vfs.dirops import RENAME_NOREPLACE
from dfsfs.vfs.names.absentnames import NAMES_MAX, AbsentNames
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import AttributeChanges
from tests.unit.vfs.world import ACTIMEO, World, fails

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BIG = 1_000_000
"""Bytes of a file that is not read along with its open."""


async def folders_times_come_along(change: Callable[[World, int, int], Awaitable[None]]) -> None:
    """A change of names in one or two folders, of which nothing is asked afterwards."""
    world = World()
    for name in ("one", "two"):
        world.data.add_file(name)
    world.data.add_folder("sub")
    world.data.add_folder("empty")
    folder, sub = await world.ino("link"), await world.ino("link/sub")
    before = [await world.fs.getattr(ino) for ino in (folder, sub)]
    world.clear()
    await change(world, folder, sub)
    after = [await world.fs.getattr(ino) for ino in (folder, sub)]
    assert all(now.mtime_ns >= was.mtime_ns for now, was in zip(after, before, strict=True))
    assert not [call for call in world.sent() if call in ("stat ", "stat sub")]


async def test_removing_a_file_brings_its_folders_times_along(autojump_clock: object) -> None:
    await folders_times_come_along(lambda world, folder, sub: world.fs.unlink(folder, b"one"))


async def test_removing_a_folder_brings_its_folders_times_along(autojump_clock: object) -> None:
    await folders_times_come_along(lambda world, folder, sub: world.fs.rmdir(folder, b"empty"))


async def test_a_rename_brings_its_folders_times_along(autojump_clock: object) -> None:
    await folders_times_come_along(lambda world, folder, sub: world.fs.rename(folder, b"one", folder, b"three", 0))


async def test_a_rename_brings_the_times_of_both_folders_along(autojump_clock: object) -> None:
    await folders_times_come_along(lambda world, folder, sub: world.fs.rename(folder, b"one", sub, b"one", 0))


async def test_a_rename_over_a_file_brings_its_folders_times_along(autojump_clock: object) -> None:
    await folders_times_come_along(lambda world, folder, sub: world.fs.rename(folder, b"one", folder, b"two", 0))


async def test_folders_times_that_another_change_has_overtaken_are_asked_for(autojump_clock: object) -> None:
    """Two removals at once: neither answer says what the folder is after both."""
    world = World()
    for name in ("one", "two"):
        world.data.add_file(name)
        await world.ino(f"link/{name}")
    folder = await world.ino("link")
    await world.fs.getattr(folder)
    world.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.unlink, folder, b"one")
        nursery.start_soon(world.fs.unlink, folder, b"two")
    await world.fs.getattr(folder)
    assert world.sent()[-1] == "stat "


async def test_a_name_that_was_just_not_there_is_not_asked_for_again_before_a_rename(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("one")
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"two"))
    await world.ino("one")
    world.clear()
    await world.fs.rename(ROOT, b"one", ROOT, b"two", 0)
    assert world.sent() == ["rename one"]


async def test_a_name_that_another_client_has_made_since_is_replaced_by_a_rename(autojump_clock: object) -> None:
    world = World()
    node = world.root.add_file("one")
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"two"))
    world.root.add_file("two")
    await world.fs.rename(ROOT, b"one", ROOT, b"two", 0)
    assert world.root.find("two") is node


async def test_a_name_that_another_client_has_made_since_is_not_replaced_if_that_is_asked_for(
    autojump_clock: object,
) -> None:
    world = World()
    world.root.add_file("one")
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"two"))
    there = world.root.add_file("two")
    await fails(errno.EEXIST, world.fs.rename(ROOT, b"one", ROOT, b"two", RENAME_NOREPLACE))
    assert world.root.find("two") is there


async def test_a_file_that_is_open_is_asked_through_its_handle(autojump_clock: object) -> None:
    """Once what is known of it is too old. That is about this file, whatever has its name by now."""
    world = World()
    world.root.add_file("file", b"x" * BIG)
    ino = await world.ino("file")
    opened = await world.fs.open(ino, os.O_RDONLY)
    await trio.sleep(2)
    world.clear()
    world.root.remove("file")
    world.root.add_file("file", b"another")
    assert (await world.fs.getattr(ino)).size == BIG
    assert "stat file" not in world.sent()
    await world.fs.release(opened.handle)


async def test_times_are_set_through_a_handle_that_may_set_them(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("file")
    ino = await world.ino("file")
    opened = await world.fs.open(ino, os.O_RDWR)
    world.clear()
    await world.fs.setattr(ino, AttributeChanges(mtime_ns=5 * 10**9))
    assert (await world.fs.getattr(ino)).mtime_ns == 5 * 10**9
    assert world.sent() == ["set_basic on handle file"]
    await world.fs.release(opened.handle)


async def test_that_a_name_is_not_there_is_believed_for_a_lifetime(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("one")
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"two"))
    await trio.sleep(ACTIMEO + 0.1)
    await world.ino("one")
    world.clear()
    await world.fs.rename(ROOT, b"one", ROOT, b"two", 0)
    assert world.sent() == ["stat two", "rename one"]


async def test_that_a_name_is_not_there_is_not_believed_once_it_was_made_here(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("one")
    await fails(errno.ENOENT, world.fs.lookup(ROOT, b"two"))
    await world.fs.mkdir(ROOT, b"two")
    await fails(errno.EISDIR, world.fs.rename(ROOT, b"one", ROOT, b"two", 0))


def test_few_names_are_remembered_not_to_be_there() -> None:
    world = World()
    table, root = world.fs._lookup.table, world.fs._lookup.table.root
    absent = AbsentNames(table)
    for number in range(NAMES_MAX + 1):
        absent.add(root, f"name {number}", 0, table.version, 0)
    known = [absent.has(root, f"name {number}", 0, 0.5, 1) for number in range(NAMES_MAX + 1)]
    assert known == [False] + [True] * NAMES_MAX
    assert not absent.has(root, "name 1", 1000, 0.5, 1), "another user may see more"

"""Small files: their data comes with the open, and before it if a program goes through their folder."""

from __future__ import annotations

import errno
import os

import pytest
import trio

from dfsfs.unc import UncPath
from dfsfs.vfs.data.prefetch import INLINE_SIZE
from dfsfs.vfs.names.attrcache import Lifetimes
from tests.unit.vfs.world import ACTIMEO, World, fails

NAMES = [f"file{index:02}" for index in range(40)]


class Library(World):
    """The share behind `link` has many small files."""

    def __init__(self) -> None:
        super().__init__()
        self.inodes = {name: self.data.add_file(name, f"this is {name}".encode()) for name in NAMES}
        replica = self.namespace.add_share("//fs2/data")
        self.namespace.links[UncPath.parse("//dfs/ns/link")].append(replica.share)
        for name in NAMES:
            replica.add_file(name, b"copy")

    async def list_link(self) -> None:
        """Lists the folder of the files, and keeps it known, as the kernel does."""
        await self.ino("link")
        await self.listing("link")

    async def read(self, name: str) -> bytes:
        """Opens, reads and closes a file, as `cat` does."""
        ino = await self.ino(f"link/{name}")
        opened = await self.fs.open(ino, os.O_RDONLY)
        data = bytes(await self.fs.read(opened.handle, 0, 4096))
        await self.fs.flush(opened.handle)
        await self.fs.release(opened.handle)
        self.fs.forget(ino, 1)
        return data

    async def read_all(self, names: list[str]) -> None:
        for name in names:
            assert await self.read(name) == f"this is {name}".encode()

    def fetched(self) -> list[str]:
        return [path for verb, path in self.data.calls if verb == "fetch"]


async def test_a_small_files_data_comes_with_its_open(autojump_clock: object) -> None:
    world = Library()
    await world.read_all(["file07"])
    assert world.sent()[-2:] == ["open file07", "close file07"]
    assert "read file07" not in world.sent()


async def test_what_came_with_the_open_is_believed_for_actimeo_and_while_nothing_changes(
    autojump_clock: object,
) -> None:
    world = Library()
    ino = await world.ino("link/file07")
    handle = (await world.fs.open(ino, os.O_RDONLY)).handle
    world.inodes["file07"].data[:] = b"that is"
    assert bytes(await world.fs.read(handle, 0, 4)) == b"this"
    assert bytes(await world.fs.read(handle, 8, 4096)) == b"file07"
    assert bytes(await world.fs.read(handle, 100, 4096)) == b""
    await trio.sleep(ACTIMEO)
    assert bytes(await world.fs.read(handle, 0, 4)) == b"that"
    again = (await world.fs.open(ino, os.O_RDONLY)).handle
    writer = (await world.fs.open(ino, os.O_WRONLY)).handle
    await world.fs.write(writer, 0, b"What")
    assert bytes(await world.fs.read(again, 0, 4)) == b"What"


async def test_of_a_large_file_nothing_comes_along(autojump_clock: object) -> None:
    world = Library()
    world.inodes["file07"].data[:] = bytes(INLINE_SIZE + 1)
    await world.read("file07")
    assert "read file07" in world.sent()


async def test_a_program_that_goes_through_a_folder_finds_its_files_there_already(autojump_clock: object) -> None:
    world = Library()
    await world.list_link()
    world.clear()
    await world.read_all(NAMES)
    assert world.sent().count("open file00") == 1
    assert sum(call.startswith("open") for call in world.sent()) <= 2
    assert world.fetched() == NAMES[1:] or world.fetched() == NAMES[2:]
    assert not any(inode.opens for inode in world.inodes.values())
    world.fs.check_invariants()


@pytest.mark.parametrize("change", ["here", "removed", "old", "moved"])
async def test_what_was_fetched_and_is_not_right_any_more_is_not_used(change: str, autojump_clock: object) -> None:
    world = Library()
    await world.list_link()
    await world.read_all(NAMES[:3])
    victim = NAMES[4]
    assert victim in world.fetched()
    link = await world.ino("link")
    if change == "here":
        ino = await world.ino(f"link/{victim}")
        writer = (await world.fs.open(ino, os.O_WRONLY)).handle
        await world.fs.write(writer, 0, b"That")
        assert (await world.read(victim))[:4] == b"That"
    elif change == "removed":
        await world.fs.unlink(link, victim.encode())
        await fails(errno.ENOENT, world.fs.lookup(link, victim.encode()))
    elif change == "old":
        world.inodes[victim].data[:] = b"new"
        await trio.sleep(ACTIMEO)
        assert await world.read(victim) == b"new"
    else:
        world.namespace.stop("//fs1/data")
        assert await world.read(NAMES[20]) == b"copy"
        await trio.sleep(ACTIMEO)
        assert await world.read(victim) == b"copy"


async def test_without_a_lifetime_nothing_comes_along_or_before(autojump_clock: object) -> None:
    world = Library()
    world.fs._lookup.attributes.lifetimes = Lifetimes(0, 0)
    await world.list_link()
    await world.read_all(NAMES)
    assert world.fetched() == []
    assert sum(call.startswith("read ") for call in world.sent()) == len(NAMES)


async def test_nothing_is_fetched_for_writers(autojump_clock: object) -> None:
    world = Library()
    await world.list_link()
    for name in NAMES[:10]:
        handle = (await world.fs.open(await world.ino(f"link/{name}"), os.O_RDWR)).handle
        await world.fs.release(handle)
    assert world.fetched() == []


async def test_what_nobody_opens_is_given_up_in_time(autojump_clock: object) -> None:
    world = Library()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        await world.list_link()
        await world.read_all(NAMES[:4])
        fetches = world.data.fetches
        assert any(not fetch.abandoned and not fetch.taken for fetch in fetches)
        await trio.sleep(2 * ACTIMEO)
        assert all(fetch.abandoned or fetch.taken for fetch in fetches)
        nursery.cancel_scope.cancel()

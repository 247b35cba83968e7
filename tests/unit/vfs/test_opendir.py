"""Open directories: what is kept of large ones, how a program goes back in them, and where an endless one ends."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import ConnectionLost, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.fscc import DirEntry
from dfsfs.vfs.names import opendir
from dfsfs.vfs.names.hiddennames import HiddenNames
from tests.support.fakes.memory_tree import MemoryTree
from tests.unit.vfs.world import World, fails

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dfsfs.unc import UncPath

pytestmark = pytest.mark.logs("does not end")

COUNT = 430
ENTRIES_HELD = 100


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> World:
    """A folder with more than is kept of it, read in pieces that are no divisors of anything."""
    monkeypatch.setattr(opendir, "ENTRIES_HELD", ENTRIES_HELD)
    monkeypatch.setattr(opendir, "ENTRIES_PER_SLICE", 37)
    world = World()
    world.root.add_folder("d")
    for number in range(COUNT):
        world.root.add_file(f"d/f{number:03}")
    return world


async def opened(world: World) -> int:
    return await world.fs.opendir(await world.ino("d"))


async def test_of_a_large_folder_the_last_entries_are_kept(crowd: World, autojump_clock: object) -> None:
    handle = await opened(crowd)
    names = [name async for name, _, _ in crowd.entries_of(handle)]
    assert sorted(names[2:]) == [b"f%03d" % number for number in range(COUNT)]
    listing = crowd.fs._listings[handle]
    assert isinstance(listing, opendir.Listing)
    assert listing._entries.stop - listing._entries.start <= ENTRIES_HELD
    assert listing._entries.stop == COUNT
    await crowd.fs.releasedir(handle)


@pytest.mark.parametrize("back", [0, 1, 5, 99, 200, 329, 330, 429])
async def test_a_program_may_go_back_to_any_entry(crowd: World, back: int, autojump_clock: object) -> None:
    handle = await opened(crowd)
    seen = [(name, offset) async for name, _, offset in crowd.entries_of(handle)]
    _, offset = seen[back + 1]
    again = [name async for name, _, _ in crowd.entries_of(handle, offset)]
    assert again == [name for name, _ in seen[back + 2 :]]
    await crowd.fs.releasedir(handle)
    crowd.fs.check_invariants()


async def test_no_name_comes_twice_after_a_lost_connection(crowd: World, autojump_clock: object) -> None:
    handle = await opened(crowd)
    asked: list[UncPath] = []

    def cut(verb: str, path: UncPath) -> None:
        if verb == "list more":
            asked.append(path)
            if len(asked) == 6:
                raise ConnectionLost("dfs", NtStatus.CONNECTION_RESET, "cut")

    crowd.root.before = cut
    names = [name async for name, _, _ in crowd.entries_of(handle)]
    assert sorted(names[2:]) == [b"f%03d" % number for number in range(COUNT)]
    await crowd.fs.releasedir(handle)


async def test_an_answer_to_the_kernel_does_not_wait_once_there_is_something_in_it(
    crowd: World, autojump_clock: object
) -> None:
    handle = await opened(crowd)
    first = [name async for name, _, _ in crowd.fs.readdir(handle, 0)]
    assert len(first) == 2 + 37
    assert "list more d" not in crowd.sent()
    await crowd.fs.releasedir(handle)


async def test_a_listing_has_so_many_names(
    crowd: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opendir, "MAX_ENTRIES", 300)
    handle = await opened(crowd)

    async def read() -> None:
        async for _ in crowd.entries_of(handle):
            pass

    await fails(errno.EIO, read())
    asked = crowd.sent()
    await fails(errno.EIO, read())  # from the start again
    assert len(crowd.sent()) <= 2 * len(asked)
    assert caplog.text.count("does not end") == 2
    await crowd.fs.releasedir(handle)


@pytest.mark.parametrize("size", [0, 1, 50])
async def test_a_listing_without_a_new_name_ends(
    crowd: World, size: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    answers = 0

    async def same(self: MemoryTree, path: UncPath, *_: object) -> AsyncGenerator[list[DirEntry], None]:
        nonlocal answers
        folder = self.store.find("d")
        assert folder is not None and folder.children is not None
        entries = [DirEntry(name, inode.stat) for name, inode in list(folder.children.items())[:size]]
        while True:
            answers += 1
            yield entries

    monkeypatch.setattr(MemoryTree, "list", same)
    handle = await opened(crowd)

    async def read() -> None:
        async for _ in crowd.entries_of(handle):
            pass

    await fails(errno.EIO, read())
    assert answers < 200
    await crowd.fs.releasedir(handle)


async def test_a_folder_whose_opening_was_given_up_is_closed(autojump_clock: object) -> None:
    """Where an open reads the first entries: while something that was left behind in it is removed."""
    world = World(many_users=True)
    world.root.add_folder("d")
    name = HiddenNames().make_deleted_name()
    world.root.add_file(f"d/{name}")
    ino = await world.ino("d")
    with trio.CancelScope() as scope:
        world.root.before = lambda verb, path: scope.cancel() if verb == "list" else None
        await world.fs.opendir(ino)
    assert scope.cancelled_caught
    assert world.fs.open_folders == 0 and not world.fs._lookup.directory_renames.open_directories


async def test_what_others_have_left_does_not_hold_a_listing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """Who has such files open and does not answer has the server wait 2 seconds for each."""

    async def remove_unused(self: MemoryTree, path: UncPath) -> None:
        await trio.sleep(2.0)
        raise SmbError(NtStatus.SHARING_VIOLATION, f"unlink of {path}")

    monkeypatch.setattr(MemoryTree, "remove_unused", remove_unused)
    world = World()
    world.root.add_folder("d")
    for number in range(60):
        world.root.add_file(f"d/.dfsfs_deleted_0badcafe-1-1_00000001_{number:08x}")
    world.root.add_file("d/file")
    for _ in range(3):
        begun = trio.current_time()
        assert list(await world.listing("d")) == ["file"]
        assert trio.current_time() - begun < opendir.CLEAN_UP_MAX + 2.5

"""Open files through reconnects and failovers, and requests whose answer was lost."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import ConnectionLost, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath
from dfsfs.vfs.data.dirtydata import LINGER
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import AttributeChanges
from tests.support.fakes.memory_tree import MemoryFile
from tests.unit.vfs.world import ACTIMEO, World, fails

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fakes.memory_tree import MemoryNode, MemoryStore

pytestmark = pytest.mark.logs("failed over", "may not have that data")


class Pair(World):
    """The link's share has a replica, //fs2/data, and both have the same file `f`."""

    def __init__(self) -> None:
        super().__init__()
        self.replica = self.namespace.add_share("//fs2/data")
        self.namespace.links[UncPath.parse("//dfs/ns/link")].append(self.replica.share)
        self.file = self.data.add_file("f", b"content")
        self.copy = self.replica.add_file("f", b"content")
        self.copy.written = self.file.written = 10**18

    async def open(self, flags: int) -> tuple[int, int]:
        ino = await self.ino("link/f")
        return ino, (await self.fs.open(ino, flags)).handle


def lose_answer(store: MemoryStore, verb: str, *, cut: Callable[[], None]) -> None:
    """Loses the answer to the next request of a kind, after it was carried out."""

    def after(done: str, path: UncPath) -> None:
        if done == verb:
            store.after = lambda verb, path: None
            cut()
            raise ConnectionLost(store.share.host, NtStatus.CONNECTION_RESET, "as the test wants it")

    store.after = after


async def test_after_a_reconnect_everything_goes_on(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    await world.fs.write(handle, 0, b"C")
    world.namespace.cut("//fs1/data")
    assert bytes(await world.fs.read(handle, 0, 3)) == b"Con"
    world.namespace.cut("//fs1/data")
    await world.fs.write(handle, 7, b"!")
    world.namespace.cut("//fs1/data")
    await world.fs.fsync(handle)
    assert bytes(world.file.data) == b"Content!"
    assert [call for call in world.sent() if call.startswith("flush")] == ["flush f"]


async def test_one_task_opens_again_and_the_others_use_it(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDONLY)
    await trio.sleep(ACTIMEO)  # the data that came along is too old now
    world.namespace.cut("//fs1/data")
    world.clear()
    async with trio.open_nursery() as nursery:
        for offset in range(5):
            nursery.start_soon(world.fs.read, handle, offset, 1)
    assert world.sent().count("open f") == 1


async def test_after_a_reconnect_to_another_file_the_handle_is_stale(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDONLY)
    await trio.sleep(ACTIMEO)  # the data that came along is too old now
    world.data.remove("f")
    world.data.add_file("f", b"other")
    world.namespace.cut("//fs1/data")
    await fails(errno.ESTALE, world.fs.read(handle, 0, 3))
    world.data.remove("f")
    await fails(errno.ESTALE, world.fs.read(handle, 0, 3))


async def test_a_write_whose_answer_was_lost_is_sent_again(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    lose_answer(world.data, "write", cut=lambda: world.namespace.cut("//fs1/data"))
    await world.fs.write(handle, 7, b"!")
    await world.fs.flush(handle)
    assert bytes(world.file.data) == b"content!"
    assert world.sent().count("write f") == 2


async def test_a_clean_handle_moves_to_an_equal_replica(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    world.namespace.stop("//fs1/data")
    assert bytes(await world.fs.read(handle, 0, 3)) == b"con"
    await world.fs.write(handle, 0, b"C")
    await world.fs.flush(handle)
    assert bytes(world.copy.data) == b"Content"
    await world.fs.release(handle)


def older(copy: MemoryNode) -> None:
    copy.written -= 10**9


def longer(copy: MemoryNode) -> None:
    copy.data += b"!"


@pytest.mark.parametrize("change", [older, longer])
async def test_a_replica_that_differs_makes_a_clean_handle_stale(
    change: Callable[[MemoryNode], None], autojump_clock: object
) -> None:
    world = Pair()
    change(world.copy)
    _, handle = await world.open(os.O_RDONLY)
    await trio.sleep(ACTIMEO)  # the data that came along is too old now
    world.namespace.stop("//fs1/data")
    await fails(errno.ESTALE, world.fs.read(handle, 0, 3))
    await fails(errno.ESTALE, world.fs.read(handle, 0, 3))
    assert world.copy.opens == 0
    await world.fs.release(handle)


async def test_what_was_written_is_never_left_behind_silently(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    world = Pair()
    ino, handle = await world.open(os.O_RDWR)
    reader = (await world.fs.open(ino, os.O_RDONLY)).handle
    await world.fs.write(handle, 0, b"C")
    await world.fs.flush(handle)
    world.namespace.stop("//fs1/data")
    with caplog.at_level(logging.ERROR, "dfsfs.vfs"):
        await fails(errno.EIO, world.fs.flush(handle))
        for action in (
            world.fs.write(handle, 1, b"x"),
            world.fs.fsync(handle),
            world.fs.flush(handle),
            world.fs.read(handle, 0, 1),
            world.fs.setattr(ino, AttributeChanges(size=0), handle),
        ):
            await fails(errno.EIO, action)
    assert [record.name for record in caplog.records] == ["dfsfs.vfs"], "said once"
    await fails(errno.ESTALE, world.fs.read(reader, 0, 1))
    assert bytes(world.copy.data) == b"content"
    await world.fs.release(handle)
    assert bytes(await world.fs.read((await world.open(os.O_RDONLY))[1], 0, 7)) == b"content", "a new open is fine"


async def test_what_write_took_and_no_server_has_is_the_error_of_close(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    await world.fs.write(handle, 0, b"C")
    world.namespace.stop("//fs1/data")
    await fails(errno.EIO, world.fs.flush(handle))
    assert bytes(world.copy.data) == b"content"
    await world.fs.release(handle)
    assert bytes(world.file.data) == b"content"


async def test_what_write_took_is_sent_again_after_a_reconnect(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    for offset, data in ((0, b"C"), (3, b"T"), (7, b"!")):
        await world.fs.write(handle, offset, data)
    world.namespace.cut("//fs1/data")
    await world.fs.flush(handle)
    assert bytes(world.file.data) == b"ConTent!"


async def test_an_error_of_a_write_is_told_once(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)

    def full(verb: str, path: UncPath) -> None:
        if verb == "write":
            raise SmbError(NtStatus.DISK_FULL, "as the test wants it")

    world.data.before = full
    for asks in (world.fs.flush, world.fs.fsync):
        await world.fs.write(handle, 0, b"C")
        await fails(errno.ENOSPC, asks(handle))
        await asks(handle)
    await world.fs.write(handle, 0, b"C")
    await world.fs.getattr(await world.ino("link/f"))  # has it sent, and is not to blame
    await fails(errno.ENOSPC, world.fs.write(handle, 1, b"C"))
    await world.fs.release(handle)


async def test_who_asks_about_a_file_sees_what_was_just_written(autojump_clock: object) -> None:
    world = Pair()
    ino, handle = await world.open(os.O_RDWR)
    other = (await world.fs.open(ino, os.O_RDWR)).handle
    link = await world.ino("link")
    size = len(b"content")

    async def more() -> None:
        nonlocal size
        await world.fs.write(handle, size, b"+")
        size += 1

    await more()
    assert len(await world.fs.read(other, 0, 99)) == size
    await more()
    assert (await world.fs.getattr(ino)).size == size
    await more()
    assert (await world.fs.lookup(link, b"f")).size == size
    await more()
    await world.fs.setattr(ino, AttributeChanges(mtime_ns=10**18), handle)
    assert world.file.written == 10**18
    await more()
    await world.fs.write(other, size - 1, b"!")
    await world.fs.flush(other)
    assert bytes(world.file.data) == b"content++++!"
    await more()
    await world.fs.setattr(ino, AttributeChanges(size=3))
    await world.fs.flush(handle)
    assert bytes(world.file.data) == b"con"
    await more()
    await world.fs.rename(link, b"f", link, b"g", 0)
    await world.fs.flush(handle)
    assert len(world.file.data) == size


async def test_a_synchronous_file_waits_for_each_write(autojump_clock: object) -> None:
    for flag in (os.O_SYNC, os.O_DSYNC, os.O_DIRECT):
        world = Pair()
        _, handle = await world.open(os.O_WRONLY | flag)
        await world.fs.write(handle, 0, b"C")
        assert bytes(world.file.data) == b"Content"


async def test_what_a_program_leaves_unsent_is_sent(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_WRONLY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        for data in (b"C", b"K"):
            await world.fs.write(handle, 0, data)
            assert bytes(world.file.data[:1]) != data
            await trio.sleep(2 * LINGER)
            assert bytes(world.file.data[:1]) == data
        nursery.cancel_scope.cancel()


async def test_what_fsync_acknowledged_does_not_fail_at_close(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    await world.fs.write(handle, 0, b"C")
    await world.fs.fsync(handle)
    world.namespace.stop("//fs1/data")
    await world.fs.flush(handle)
    await fails(errno.EIO, world.fs.write(handle, 0, b"C"))
    await fails(errno.EIO, world.fs.flush(handle))


async def test_flush_sends_nothing_while_all_is_well(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    await world.fs.write(handle, 0, b"C")
    await world.fs.flush(handle)
    world.clear()
    await world.fs.flush(handle)
    assert world.sent() == []


async def test_a_target_that_comes_back_finds_its_handles_good(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)
    await world.fs.write(handle, 0, b"C")
    await world.fs.flush(handle)
    world.namespace.stop("//fs1/data")
    await world.listing("link")
    world.namespace.start("//fs1/data")
    world.namespace.stop("//fs2/data")
    await world.fs.write(handle, 7, b"!")
    await world.fs.flush(handle)
    assert bytes(world.file.data) == b"Content!"


async def test_h15_an_open_file_keeps_its_target_when_the_link_fails_back(autojump_clock: object) -> None:
    world = Pair()
    world.namespace.stop("//fs1/data")
    _, handle = await world.open(os.O_RDWR)
    await world.fs.write(handle, 0, b"C")
    world.namespace.start("//fs1/data")
    world.namespace.fail_back("//dfs/ns/link", "//fs1/data")
    await world.fs.write(handle, 7, b"!")
    await world.fs.flush(handle)
    await world.fs.fsync(handle)
    assert bytes(await world.fs.read(handle, 0, 99)) == bytes(world.copy.data) == b"Content!"
    assert bytes(world.file.data) == b"content"
    await world.fs.release(handle)
    assert world.copy.opens == 0


async def test_a_file_left_behind_by_failback_follows_when_its_target_dies(autojump_clock: object) -> None:
    world = Pair()
    world.namespace.stop("//fs1/data")
    _, clean = await world.open(os.O_RDONLY)
    _, dirty = await world.open(os.O_RDWR)
    await world.fs.write(dirty, 0, b"content")
    world.copy.written = world.file.written
    world.namespace.start("//fs1/data")
    world.namespace.fail_back("//dfs/ns/link", "//fs1/data")
    world.namespace.stop("//fs2/data")
    await fails(errno.ESTALE, world.fs.read(clean, 0, 3))
    await fails(errno.EIO, world.fs.write(dirty, 0, b"x"))
    await fails(errno.EIO, world.fs.flush(dirty))


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
async def test_a_release_that_is_given_up_leaves_no_handle(flags: int, autojump_clock: object) -> None:
    """As when the server takes longer for what was written than a request of the kernel may."""
    world = World()
    inode = world.root.add_file("a", b"data")
    handle = (await world.fs.open(await world.ino("a"), flags)).handle
    if flags == os.O_WRONLY:
        await world.fs.write(handle, 0, b"new")
    await world.fs.unlink(ROOT, b"a")
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.fs.release(handle)
    assert (inode.opens, world.fs.open_files) == (0, 0)
    await world.listing()
    assert world.root.names() == ["link"]


async def test_what_is_given_up_takes_no_room(autojump_clock: object) -> None:
    """Of that which all files of a mount share."""
    world = World()
    world.root.add_file("a")
    handle = (await world.fs.open(await world.ino("a"), os.O_WRONLY)).handle
    await world.fs.write(handle, 0, b"new")
    budget = world.fs._files._opener._budget
    assert budget.taken == 3
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.fs.release(handle)
    assert (world.fs.open_files, budget.taken) == (0, 0)


async def test_an_open_that_is_given_up_waits_for_no_close(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client changes the file while it is opened, so its size is asked for again, and the server is silent."""
    world = World()
    inode = world.root.add_file("a", b"data")
    ino = await world.ino("a")

    async def hang(*arguments: object) -> None:
        await trio.sleep(1000)

    monkeypatch.setattr(MemoryFile, "query", hang)
    monkeypatch.setattr(MemoryFile, "close", hang)
    world.root.after = lambda verb, path: world.fs._lookup.table.invalidate(world.fs._lookup.get_inode(ino))
    with trio.move_on_after(1) as scope:
        await world.fs.open(ino, os.O_WRONLY)
    assert scope.cancelled_caught and trio.current_time() < 2
    assert (inode.opens, world.fs.open_files) == (0, 0)
    world.fs.check_invariants()


async def test_what_is_opened_again_while_it_is_given_up_is_closed(autojump_clock: object) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDONLY)
    file = world.fs._files.table.get(handle)
    await trio.sleep(ACTIMEO)  # what came along with the open is no good any more
    world.namespace.cut("//fs1/data")
    world.data.after = lambda verb, path: file.discard() if verb == "open" else None
    await fails(errno.ESTALE, world.fs.read(handle, 0, 10))
    assert world.file.opens == 0


async def test_an_error_of_close_is_logged(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    world = Pair()
    _, handle = await world.open(os.O_RDWR)

    def fail(verb: str, path: UncPath) -> None:
        if verb == "close":
            raise ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "as the test wants it")

    world.data.before = fail
    with caplog.at_level(logging.WARNING, "dfsfs.vfs"):
        await world.fs.release(handle)
        await world.fs.release(handle)
    assert "closing f" in caplog.text


# -- requests that were carried out and whose answer was lost ----------------------------------------------------------


def cut_root(world: World) -> Callable[[], None]:
    return lambda: world.namespace.cut("//dfs/ns")


async def test_a_repeated_unlink_or_rmdir_has_succeeded(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f")
    world.root.add_folder("d")
    lose_answer(world.root, "unlink", cut=cut_root(world))
    await world.fs.unlink(ROOT, b"f")
    lose_answer(world.root, "rmdir", cut=cut_root(world))
    await world.fs.rmdir(ROOT, b"d")
    assert world.root.names() == ["link"]
    await fails(errno.ENOENT, world.fs.unlink(ROOT, b"f"))


async def test_nobody_knows_whose_name_a_repeated_mkdir_or_create_finds(autojump_clock: object) -> None:
    world = World()
    lose_answer(world.root, "mkdir", cut=cut_root(world))
    await fails(errno.EIO, world.fs.mkdir(ROOT, b"d"))
    lose_answer(world.root, "open", cut=cut_root(world))
    await fails(errno.EIO, world.fs.create(ROOT, b"f", 0o644, os.O_WRONLY | os.O_EXCL))
    lose_answer(world.root, "open", cut=cut_root(world))
    await world.fs.create(ROOT, b"g", 0o644, os.O_WRONLY)


@pytest.mark.parametrize("flags", [0, 1])
async def test_a_repeated_rename_has_succeeded_if_the_file_is_there(flags: int, autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f", b"moved")
    ino = await world.ino("f")
    lose_answer(world.root, "rename", cut=cut_root(world))
    await world.fs.rename(ROOT, b"f", ROOT, b"g", flags)
    assert world.root.names() == ["g", "link"]
    assert await world.ino("g") == ino


async def test_a_repeated_rename_has_failed_if_another_file_is_there(autojump_clock: object) -> None:
    world = World()
    world.root.add_file("f")

    def cut_and_replace() -> None:
        world.namespace.cut("//dfs/ns")
        world.root.remove("g")
        world.root.add_file("g", b"of somebody else")

    lose_answer(world.root, "rename", cut=cut_and_replace)
    await fails(errno.ENOENT, world.fs.rename(ROOT, b"f", ROOT, b"g", 0))
    world.root.add_file("h")

    def cut_and_remove() -> None:
        world.namespace.cut("//dfs/ns")
        world.root.remove("i")

    lose_answer(world.root, "rename", cut=cut_and_remove)
    await fails(errno.ENOENT, world.fs.rename(ROOT, b"h", ROOT, b"i", 0))


async def test_a_time_that_is_set_after_close_is_not_undone_by_the_close(autojump_clock: object) -> None:
    """close(2) has returned, and FUSE_RELEASE is on its way: what utimensat(2) sets then is the later one."""
    for steps in [*range(8)] * 8:  # trio runs tasks in any order
        world = Pair()
        link = await world.ino("link")
        result, made = await world.fs.create(link, b"new", 0o600, os.O_RDWR)
        await world.fs.write(result.handle, 0, b"new")
        await world.fs.flush(result.handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fs.release, result.handle)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            told = await world.fs.setattr(made.ino, AttributeChanges(mtime_ns=7 * 10**17))
        assert told.mtime_ns == 7 * 10**17
        await trio.sleep(2 * ACTIMEO)
        assert (await world.fs.getattr(made.ino)).mtime_ns == 7 * 10**17, f"after {steps} steps"

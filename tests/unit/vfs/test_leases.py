"""What the file system keeps under a lease, and what it does when the server takes the lease back."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dfsfs import background
from dfsfs.errors import SmbError
from dfsfs.namespace.junction import TargetBinding
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.leases import LeaseBreak
from dfsfs.smb.wire.constants import Access, CreateDisposition, LeaseState
from dfsfs.vfs.data.caching import CacheMode, Caching
from dfsfs.vfs.data.deferredclose import DeferredCloses
from dfsfs.vfs.data.rangecopy import RangeCopy
from dfsfs.vfs.data.servercopy import COPY_XATTR
from tests.support.fakes.memory_tree import YEAR, MemoryFile, MemoryTree, open_files
from tests.unit.vfs.world import ACTIMEO, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.smb.connection.leases import Lease
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath

pytestmark = pytest.mark.logs("(lease breaks|writes): failed in an unexpected way")

CLOSE_TIME = 5.0
READ, SHARED, NONE = LeaseState.SMB2_LEASE_READ_CACHING, LeaseState.SHARED, LeaseState.SMB2_LEASE_NONE


class Leased(World):
    """The share behind `link` has one file, and its server gives what leases it is asked for."""

    def __init__(
        self, mode: CacheMode = CacheMode.STRICT, close_time: float = CLOSE_TIME, *, trust: bool = False
    ) -> None:
        super().__init__(caching=Caching(mode, close_time, trust_leases=trust))
        self.data.gives_leases = True
        self.file = self.data.add_file("file", b"one")
        self.acknowledged: list[str] = []

    @property
    def lease(self) -> Lease:
        return self.data.leases["file"]

    async def open(self, flags: int = os.O_RDONLY) -> int:
        return (await self.fs.open(await self.ino("link/file"), flags)).handle

    async def read(self, handle: int, size: int = 100) -> bytes:
        return bytes(await self.fs.read(handle, 0, size))

    async def cat(self) -> bytes:
        handle = await self.open()
        data = await self.read(handle)
        await self.fs.release(handle)
        return data

    @property
    def pending(self) -> int:
        """Breaks that are not answered yet."""
        return self.fs._files.leases.pending

    def take_back(self, state: LeaseState) -> None:
        """The server breaks the lease to `state`."""
        before = self.lease.apply_break(LeaseBreak(self.lease.key, state, acknowledge=True, epoch=1))
        self.lease.on_break(before, self._acknowledge)

    def _acknowledge(self) -> None:
        self.lease.is_breaking = False
        self.acknowledged.append(f"{self.kernel.forgotten} {len(list(open_files(self.data)))}")


@asynccontextmanager
async def leased(
    mode: CacheMode = CacheMode.STRICT, close_time: float = CLOSE_TIME, *, trust: bool = False
) -> AsyncIterator[Leased]:
    world = Leased(mode, close_time, trust=trust)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.fs.serve)
        yield world
        nursery.cancel_scope.cancel()


async def test_a_file_that_was_read_is_not_opened_again(autojump_clock: object) -> None:
    async with leased() as world:
        assert await world.cat() == b"one"
        world.clear()
        await trio.sleep(CLOSE_TIME / 2)
        result = await world.fs.open(await world.ino("link/file"), os.O_RDONLY)
        assert result.keep_cache and not result.direct
        assert world.sent() == ["stat file"]  # for its name: that is no business of the lease
        await world.fs.release(result.handle)


async def test_a_handle_that_nobody_wants_is_closed_in_time(autojump_clock: object) -> None:
    async with leased() as world:
        await world.cat()
        assert list(open_files(world.data)) == [world.file]
        await trio.sleep(CLOSE_TIME + 0.1)
        assert list(open_files(world.data)) == []
        world.clear()
        await world.cat()
        assert "open file" in world.sent()


async def test_a_break_that_can_not_be_answered_keeps_nothing_else_from_being_answered(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "failures", Counter())
    async with leased() as world:
        handle = await world.open()
        await world.fs.read(handle, 0, 3)
        monkeypatch.setattr(world.kernel, "invalidate", broken := Broken())
        world.take_back(NONE)
        await wait_all_tasks_blocked()
        assert broken.calls and not world.acknowledged and not world.pending
        monkeypatch.undo()
        world.lease.state = SHARED
        world.take_back(NONE)
        await wait_all_tasks_blocked()
        assert len(world.acknowledged) == 1 and not world.pending
        await world.fs.release(handle)


@pytest.mark.parametrize("how", ["cancelled", "refused", "done"])
async def test_the_kernel_forgets_what_was_perhaps_copied(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A part of it may be there, whatever the copy ended with; and who is cancelled waits for nothing any more."""

    async def copy_on_server(copies: RangeCopy, *arguments: object) -> int:
        world.file.data[:1] = b"T"
        if how == "cancelled":
            await trio.sleep_forever()
        if how == "refused":
            raise SmbError(NtStatus.DISK_FULL, "copy")
        return 3

    monkeypatch.setattr(RangeCopy, "_copy_on_server", copy_on_server)
    async with leased() as world:
        world.data.add_file("source", b"two")
        source, target = await world.ino("link/source"), await world.ino("link/file")
        opened = [await world.fs.open(source, os.O_RDONLY), await world.fs.open(target, os.O_RDWR)]
        world.kernel.forgotten.clear()
        with trio.move_on_after(5.0), contextlib.suppress(SmbError):
            await world.fs.setxattr(target, COPY_XATTR, b"%d:0:0:3" % source)
        await wait_all_tasks_blocked()
        assert world.kernel.forgotten == [target]
        assert (await world.fs.getattr(target)).size == 3
        for result in opened:
            await world.fs.release(result.handle)


@pytest.mark.parametrize("how", ["cancelled", "refused", "done"])
async def test_the_kernel_forgets_what_was_perhaps_written_past_it(autojump_clock: object, how: str) -> None:
    """With O_DIRECT: others, who do not have that, may have read the old data into the kernel meanwhile."""
    async with leased() as world:
        ino = await world.ino("link/file")
        opened = [await world.fs.open(ino, flags) for flags in (os.O_RDONLY, os.O_RDWR | os.O_DIRECT)]
        world.kernel.forgotten.clear()

        def carried_out(verb: str, path: UncPath) -> None:
            if verb == "write" and how == "cancelled":
                scope.cancel()
            if verb == "write" and how == "refused":
                raise SmbError(NtStatus.DISK_FULL, "write")

        world.data.after = carried_out
        with trio.CancelScope() as scope, contextlib.suppress(SmbError):
            await world.fs.write(opened[1].handle, 0, b"ONE")
            await trio.lowlevel.checkpoint()
        world.data.after = lambda verb, path: None
        await wait_all_tasks_blocked()
        assert world.kernel.forgotten == [ino]
        for result in opened:
            await world.fs.release(result.handle)


class Broken:
    """A mistake of ours."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, *arguments: object) -> None:
        self.calls += 1
        raise ValueError("a mistake")


async def test_what_is_written_goes_on_being_sent_after_a_mistake(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "failures", Counter())
    async with leased() as world:
        handle = await world.open(os.O_RDWR)
        with monkeypatch.context() as patched:
            patched.setattr(world.fs._files.dirty, "drain", broken := Broken())
            await world.fs.write(handle, 0, b"1")
            await trio.sleep(10.0)
            assert broken.calls and bytes(world.file.data) == b"one"
        await world.fs.write(handle, 1, b"2")
        await trio.sleep(10.0)
        assert bytes(world.file.data) == b"12e"
        await world.fs.release(handle)
        assert background.failures == {"writes": broken.calls}


async def test_closetimeo_0_keeps_nothing(autojump_clock: object) -> None:
    async with leased(close_time=0) as world:
        await world.cat()
        assert list(open_files(world.data)) == []


async def test_attributes_are_believed_beyond_actimeo_while_the_lease_lasts(autojump_clock: object) -> None:
    async with leased(trust=True) as world:
        handle = await world.open()
        ino = await world.ino("link/file")
        world.clear()
        await trio.sleep(10 * ACTIMEO)
        assert (await world.fs.getattr(ino)).size == 3 and world.sent() == []
        await world.fs.release(handle)
        await trio.sleep(CLOSE_TIME + ACTIMEO + 0.1)
        await world.fs.getattr(ino)
        assert world.sent()[-1] == "stat file"


async def test_what_a_process_of_the_server_does_is_seen_after_actimeo_whatever_the_lease(
    autojump_clock: object,
) -> None:
    async with leased() as world:
        handle = await world.open()
        ino = await world.ino("link/file")
        world.file.data += b" and more"
        assert (await world.fs.getattr(ino)).size == 3
        await trio.sleep(ACTIMEO)
        assert (await world.fs.getattr(ino)).size == 12
        assert bytes(await world.fs.read(handle, 0, 20)) == b"one and more"


async def test_before_a_break_is_acknowledged_what_depends_on_it_is_gone(autojump_clock: object) -> None:
    async with leased() as world:
        await world.cat()
        ino = await world.ino("link/file")
        world.take_back(NONE)
        await wait_all_tasks_blocked()
        assert world.acknowledged == [f"[{ino}] 0"]  # forgotten by the kernel, and closed on the server
        world.clear()
        world.file.data += b" and two"
        assert await world.cat() == b"one and two"
        assert "open file" in world.sent()


async def test_reading_on_after_a_break_asks_for_the_lease_first(autojump_clock: object) -> None:
    async with leased() as world:
        world.file.data += bytes(100_000)
        handle = await world.open()
        world.take_back(NONE)
        await wait_all_tasks_blocked()
        world.clear()
        await world.fs.read(handle, 50_000, 10)
        assert world.sent() == ["renew file", "read file"]
        assert world.lease.state == SHARED
        await world.fs.read(handle, 90_000, 10)
        assert world.sent()[2:] == ["read file"]
        await world.fs.release(handle)


async def test_data_that_came_with_the_open_is_not_used_after_a_break(autojump_clock: object) -> None:
    async with leased() as world:
        await world.ino("link/file")
        handle = await world.open()
        assert await world.read(handle) == b"one"
        world.file.data[:] = b"two"
        world.take_back(NONE)
        await wait_all_tasks_blocked()
        assert await world.read(handle) == b"two"
        await world.fs.release(handle)


async def test_what_was_read_while_the_server_waited_is_forgotten_once_more(autojump_clock: object) -> None:
    async with leased() as world:
        world.file.data += bytes(100_000)
        handle = await world.open()
        ino = await world.ino("link/file")
        world.take_back(NONE)
        await world.read(handle)
        await wait_all_tasks_blocked()
        assert world.kernel.forgotten == [ino, ino]
        await world.fs.release(handle)


async def test_data_that_waits_is_written_before_the_break_is_acknowledged(autojump_clock: object) -> None:
    async with leased() as world:
        handle = await world.open(os.O_RDWR)
        await world.fs.write(handle, 0, b"ONE")
        assert world.file.data == b"one"
        world.take_back(SHARED)
        await wait_all_tasks_blocked()
        assert world.file.data == b"ONE" and len(world.acknowledged) == 1
        await world.fs.release(handle)


async def test_what_the_kernel_has_outlives_the_connection_until_there_is_a_new_one(autojump_clock: object) -> None:
    async with leased() as world:
        world.file.data += bytes(100_000)
        handle, ino = await world.open(), await world.ino("link/file")
        lease, before = world.lease, world.lease.state
        world.namespace.cut("//fs1/data")
        lease.state, lease.is_lost = NONE, True
        lease.on_break(before, lambda: None)
        await wait_all_tasks_blocked()
        assert world.kernel.forgotten == []
        await world.fs.read(handle, 50_000, 10)
        assert world.lease is not lease and world.lease.state == SHARED
        await world.fs.read(handle, 90_000, 10)
        await wait_all_tasks_blocked()
        assert world.kernel.forgotten == [ino]
        await world.fs.release(handle)


async def test_what_is_written_while_others_have_the_file_open_does_not_wait(autojump_clock: object) -> None:
    async with leased() as world:
        handle = await world.open(os.O_RDWR)
        world.take_back(READ)
        await wait_all_tasks_blocked()
        world.data.refuses = LeaseState.SMB2_LEASE_WRITE_CACHING
        await world.fs.write(handle, 0, b"ONE")
        assert world.file.data == b"ONE"
        await world.fs.write(handle, 0, b"two")
        assert world.file.data == b"two" and world.sent().count("renew file") == 1
        world.data.refuses = NONE
        await trio.sleep(1.1)
        await world.fs.write(handle, 0, b"six")
        assert world.file.data == b"two"  # the others are gone, so it may wait
        await world.fs.release(handle)
        assert world.file.data == b"six"


async def test_kept_handles_do_not_stand_in_the_way(autojump_clock: object) -> None:
    async with leased() as world:
        folder = await world.ino("link")
        await world.cat()
        await world.fs.rename(folder, b"file", folder, b"other", 0)
        assert list(open_files(world.data)) == []
        assert world.data.names() == ["other"]


async def test_a_file_that_was_written_is_closed_at_once(autojump_clock: object) -> None:
    async with leased() as world:
        handle = await world.open(os.O_RDWR)
        await world.fs.release(handle)
        assert list(open_files(world.data)) == []


async def test_a_new_file_has_a_lease_of_its_own(autojump_clock: object) -> None:
    async with leased() as world:
        result, shown = await world.fs.create(await world.ino("link"), b"new", 0o644, os.O_RDWR | os.O_CREAT)
        await world.fs.write(result.handle, 0, b"data")
        lease = world.data.leases["new"]
        lease.on_break(lease.apply_break(LeaseBreak(lease.key, NONE, acknowledge=True, epoch=1)), lambda: None)
        await wait_all_tasks_blocked()
        new = world.data.find("new")
        assert new is not None and new.data == b"data" and world.kernel.forgotten == [shown.ino]
        await world.fs.release(result.handle)


async def test_cache_none_keeps_nothing(autojump_clock: object) -> None:
    async with leased(CacheMode.NONE) as world:
        result = await world.fs.open(await world.ino("link/file"), os.O_RDWR)
        assert result.direct and not result.keep_cache and world.data.leases == {}
        await world.fs.write(result.handle, 0, b"ONE")
        assert world.file.data == b"ONE"
        world.clear()
        assert await world.read(result.handle) == b"ONE" and world.sent() == ["read file"]
        await world.fs.release(result.handle)
        assert list(open_files(world.data)) == []


async def test_cache_loose_lets_data_wait_whoever_else_writes(autojump_clock: object) -> None:
    async with leased(CacheMode.LOOSE) as world:
        handle = await world.open(os.O_RDWR)
        world.take_back(NONE)
        await wait_all_tasks_blocked()
        world.clear()
        await world.fs.write(handle, 0, b"ONE")
        assert world.file.data == b"one" and world.sent() == []
        await world.fs.release(handle)
        assert world.file.data == b"ONE"


async def test_the_kernel_hears_of_a_file_that_grew_before_it_is_opened(autojump_clock: object) -> None:
    async with leased(close_time=0) as world:
        ino = await world.ino("link/file")
        world.file.data += b" and more"
        handle = await world.open()
        assert world.kernel.attributes_forgotten == [ino]
        await world.fs.release(handle)


@pytest.mark.parametrize("young", [True, False])
async def test_the_times_of_a_file_that_was_just_written_prove_nothing(autojump_clock: object, *, young: bool) -> None:
    async with leased(close_time=0) as world:
        world.file.written = world.data.tick() + YEAR * young
        await world.cat()
        result = await world.fs.open(await world.ino("link/file"), os.O_RDONLY)
        assert result.keep_cache is not young
        await world.fs.release(result.handle)


async def test_no_more_handles_are_kept_than_the_limit(autojump_clock: object) -> None:
    async with leased() as world:
        kept = DeferredCloses(5.0, trio.current_time, lambda inode, lease: None, world.fs._lookup.table, limit=2)
        tree = MemoryTree(world.data)
        binding = TargetBinding(world.data.share, cast("Tree", tree), 1)
        names = ["a", "b", "c"]
        for name in names:
            world.data.add_file(name)
            path = world.data.share.join([name])
            remote = await tree.open(path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN)
            assert kept.put(name, Access.READ, remote, binding)  # type: ignore[arg-type]
        assert kept.count == 2
        assert [inode.name for inode in open_files(world.data)] == ["c", "b"]
        kept.clear()
        assert list(open_files(world.data)) == []


async def test_breaks_without_end_are_one_pending_break(autojump_clock: object) -> None:
    """Each of them takes something back that was granted in between, while the kernel is slow to forget."""
    async with leased() as world:
        handle = await world.open()
        await world.read(handle)
        world.kernel.may_forget = trio.Event()
        for _ in range(1000):
            world.lease.state = SHARED
            world.take_back(NONE)
        await wait_all_tasks_blocked()
        assert world.pending == 1 and world.acknowledged == []
        world.kernel.may_forget.set()
        await wait_all_tasks_blocked()
        assert world.pending == 0 and len(world.acknowledged) == 1


async def test_what_is_broken_while_a_break_is_answered_is_given_up_before_the_acknowledgement(
    autojump_clock: object,
) -> None:
    async with leased() as world:
        handle = await world.open()
        await world.read(handle)
        await world.fs.release(handle)
        assert list(open_files(world.data))
        world.kernel.may_forget = trio.Event()
        world.take_back(LeaseState.SMB2_LEASE_HANDLE_CACHING)
        await wait_all_tasks_blocked()
        assert world.acknowledged == [] and list(open_files(world.data))
        world.take_back(NONE)
        world.kernel.may_forget.set()
        await wait_all_tasks_blocked()
        assert len(world.acknowledged) == 1 and not list(open_files(world.data))


async def test_a_lease_that_breaks_before_anybody_knows_whose_it_is(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client writes as soon as the file is made: the break comes with the answer, before that is looked at."""
    opening = MemoryTree.open

    async def opened(tree: MemoryTree, *args: Any, **kwargs: Any) -> MemoryFile:
        file = await opening(tree, *args, **kwargs)
        world.data.at(file.path, "the other client").data[:] = b"theirs"
        assert file.lease is not None
        before = file.lease.apply_break(LeaseBreak(file.lease.key, NONE, acknowledge=False, epoch=1))
        file.lease.on_break(before, lambda: None)
        return file

    async with leased() as world:
        folder = await world.ino("link")
        monkeypatch.setattr(MemoryTree, "open", opened)
        result, attributes = await world.fs.create(folder, b"new", 0o644, os.O_RDWR | os.O_CREAT)
        assert (await world.fs.getattr(attributes.ino)).size == len(b"theirs")
        await world.fs.release(result.handle)

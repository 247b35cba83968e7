"""What the kernel is told, where that is more than a translation."""

from __future__ import annotations

import errno
import traceback
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pyfuse3
import pytest
import trio
import trio.testing

from dfsfs.errors import PosixError
from dfsfs.fuse.operations import DfsOperations
from dfsfs.vfs.filesystem import DOTS, FileSystem
from dfsfs.vfs.names.inodetable import ROOT
from tests.unit.vfs.world import ACTIMEO, World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dfsfs.vfs.names.mapping import Attributes


def operations(world: World) -> DfsOperations:
    return DfsOperations(world.fs, deadline=10)


async def test_the_kernel_may_keep_that_a_name_is_not_there() -> None:
    answer = await operations(World()).lookup(ROOT, b"nothing", pyfuse3.RequestContext())
    assert answer.st_ino == 0 and 0 < answer.entry_timeout <= ACTIMEO


async def test_other_failures_are_not_kept() -> None:
    world = World()
    world.root.before = lambda verb, path: (_ for _ in ()).throw(PosixError(errno.EACCES, "denied by the test"))
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await operations(world).lookup(ROOT, b"nothing", pyfuse3.RequestContext())
    assert caught.value.errno == errno.EACCES


async def test_what_is_known_is_told_without_asking() -> None:
    world = World()
    world.root.add_file("file", b"data")
    handlers = operations(world)
    first = await handlers.lookup(ROOT, b"file", pyfuse3.RequestContext())
    world.clear()
    again = await handlers.lookup(ROOT, b"file", pyfuse3.RequestContext())
    shown = await handlers.getattr(first.st_ino, pyfuse3.RequestContext())
    assert (again.st_ino, shown.st_size, world.sent()) == (first.st_ino, 4, [])
    assert world.fs.statistics().inodes.lookups == 3  # the root has one, and each lookup counts


async def test_a_refusal_that_is_raised_again_and_again_keeps_nothing_of_the_earlier_ones() -> None:
    """Each would add its frames to the traceback, with all that they refer to: 90 MiB in half an hour of a storm."""
    handlers, depths = operations(World()), []
    for _ in range(3):
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await handlers.getxattr(ROOT, b"security.capability", pyfuse3.RequestContext())
        depths.append(len(list(traceback.walk_tb(caught.value.__traceback__))))
    assert len(set(depths)) == 1, depths


class Failing(FileSystem):
    """Its listings end after two entries of a folder: they fail, or never go on. Nor does what closes a file."""

    hangs = False

    async def readdir(self, handle: int, offset: int) -> AsyncGenerator[tuple[bytes, Attributes, int], None]:
        async with aclosing(super().readdir(handle, offset)) as entries:
            async for entry in entries:
                yield entry
                if entry[2] == len(DOTS) + 2:
                    break
        if self.hangs:
            await trio.sleep_forever()
        raise PosixError(errno.EIO, "as the test wants it")

    async def release(self, handle: int) -> None:
        await super().release(handle)
        await trio.sleep_forever()


@pytest.mark.parametrize(("hangs", "code"), [(False, errno.EIO), (True, errno.EINTR)], ids=["fails", "is killed"])
async def test_entries_that_the_kernel_does_not_get_are_given_back(
    monkeypatch: pytest.MonkeyPatch, hangs: bool, code: int
) -> None:
    """An answer that fails in the middle of a listing has no entries: none of them was looked up."""
    world = World()
    for name in "abc":
        world.root.add_file(name, b"")
    world.fs.__class__ = Failing
    world.fs.hangs = hangs  # type: ignore[attr-defined]
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda *arguments: True)
    handlers = operations(world)
    handle = await handlers.opendir(ROOT, pyfuse3.RequestContext())
    token: Any = None
    async with trio.open_nursery() as nursery:

        async def listing() -> None:
            with pytest.raises(pyfuse3.FUSEError) as caught:
                await handlers.readdir(handle, 0, token)
            assert caught.value.errno == code

        nursery.start_soon(listing)
        if hangs:
            await trio.testing.wait_all_tasks_blocked()
            assert world.fs.statistics().inodes.lookups == 3
            kill(handlers)
    assert world.fs.statistics().inodes.lookups == 1  # the root's


async def test_a_file_whose_maker_is_killed_while_it_is_closed_was_not_looked_up() -> None:
    """The close waits for as long as the folder is being renamed."""
    world = World()
    world.fs.__class__ = Failing
    world.fs.hangs = True  # type: ignore[attr-defined]
    handlers = operations(world)
    async with trio.open_nursery() as nursery:

        async def make() -> None:
            with pytest.raises(pyfuse3.FUSEError) as caught:
                await handlers.mknod(ROOT, b"new", 0o644, 0, pyfuse3.RequestContext())
            assert caught.value.errno == errno.EINTR

        nursery.start_soon(make)
        await trio.testing.wait_all_tasks_blocked()
        assert world.fs.statistics().inodes.lookups == 2
        kill(handlers)
    assert world.fs.statistics().inodes.lookups == 1  # the root's


def kill(handlers: DfsOperations) -> None:
    """The programs behind all requests are killed: see waiters.py."""
    for scope in list(handlers.under_way):
        del handlers.under_way[scope]
        scope.cancel()

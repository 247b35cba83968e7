"""What the kernel is told, where that is more than a translation."""

from __future__ import annotations

import errno

import pyfuse3
import pytest

from dfsfs.errors import PosixError
from dfsfs.fuse.operations import DfsOperations
from dfsfs.vfs.names.inodetable import ROOT
from tests.unit.vfs.world import ACTIMEO, World


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

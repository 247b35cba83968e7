"""Fifty tasks in one folder of a real server, as the kernel sends them with FUSE_PARALLEL_DIROPS: look-ups, listings,
creates and removals at the same time, of which any may be cancelled at any time. No mount: a FileSystem and no kernel.

    DFSFS_LONG=1, DFSFS_SEED=N     for a minute; with other dice
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import DfsfsError
from dfsfs.namespace.client import Namespace
from dfsfs.vfs.filesystem import DOTS, FileSystem
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import NameMapping, Ownership
from tests.conftest import LONG
from tests.samba.clients import open_pool, scratch_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.smb.pool import Pool
    from tests.samba.clients import Scratch
    from tests.support.lab.samba import Lab

pytestmark = pytest.mark.lab

TASKS = 50
SECONDS = 60.0 if LONG else 4.0
SEED = int(os.environ.get("DFSFS_SEED", "1"))
NAMES = [f"name{number}" for number in range(12)]
CANCELLED = 0.3
"""Of all requests, those that are cancelled after up to LONGEST seconds."""
LONGEST = 0.02


@asynccontextmanager
async def filesystem(pool: Pool, scratch: Scratch) -> AsyncIterator[FileSystem]:
    namespace = Namespace(pool)
    fs = FileSystem(
        namespace,
        await namespace.mount_root(scratch.path),
        names=NameMapping(),
        ownership=Ownership(uid=0, gid=0, file_mode=0o644, dir_mode=0o755),
        lifetimes=Lifetimes(0.05, 0.05),
        clock=trio.current_time,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fs.serve)
        yield fs
        await fs.close()
        nursery.cancel_scope.cancel()


class Crowd:
    """What the tasks do, and what a kernel would hold of it."""

    def __init__(self, fs: FileSystem) -> None:
        self.fs = fs
        self.told: Counter[int] = Counter()
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._dice = random.Random(SEED)

    async def work(self, until: float) -> None:
        dice = self._dice
        while trio.current_time() < until and not self.problems:
            verb = dice.choice((self.look_up, self.look_up, self.list, self.create, self.unlink))
            patience = dice.uniform(0, LONGEST) if dice.random() < CANCELLED else float("inf")
            with trio.move_on_after(patience) as scope:
                try:
                    await verb(dice.choice(NAMES))
                except DfsfsError as error:
                    if error.errno not in (errno.ENOENT, errno.EEXIST):
                        self.problems.append(f"{verb.__name__}: {error!r}")
            self.done["cancelled" if scope.cancelled_caught else verb.__name__] += 1
            await trio.lowlevel.checkpoint()

    async def look_up(self, name: str) -> None:
        self.take((await self.fs.lookup(ROOT, name.encode())).ino)

    async def has(self, name: str) -> bool:
        """Whether there is such a name."""
        try:
            await self.look_up(name)
        except DfsfsError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    async def list(self, _: str) -> None:
        handle, taken = await self.fs.opendir(ROOT), []
        try:
            offset, before = 0, -1
            while offset != before:
                before = offset
                async with aclosing(self.fs.readdir(handle, before)) as entries:
                    async for name, attributes, following in entries:
                        offset = following
                        if name not in DOTS:
                            self.take(attributes.ino)
                            taken.append(name)
            if len(set(taken)) < len(taken):
                self.problems.append(f"a name came twice: {taken}")
        finally:
            with trio.CancelScope(shield=True):
                await self.fs.releasedir(handle)

    async def create(self, name: str) -> None:
        result, attributes = await self.fs.create(ROOT, name.encode(), 0o644, os.O_RDWR | os.O_CREAT)
        self.take(attributes.ino)
        with trio.CancelScope(shield=True):
            await self.fs.release(result.handle)

    async def unlink(self, name: str) -> None:
        await self.fs.unlink(ROOT, name.encode())

    def take(self, ino: int) -> None:
        """The kernel is told of an inode."""
        self.told[ino] += 1
        inode = self.fs._lookup.table.get(ino)
        if inode is None or inode.lookups != self.told[ino]:
            self.problems.append(f"inode {ino} was told {self.told[ino]} times: {inode}")

    def forget(self) -> None:
        """The kernel forgets everything."""
        for ino, count in self.told.items():
            self.fs.forget(ino, count)
        self.told.clear()


async def test_fifty_tasks_in_one_folder(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab) as pool, filesystem(pool, scratch) as fs:
            crowd = Crowd(fs)
            until = trio.current_time() + SECONDS
            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(crowd.work, until)
            assert not crowd.problems, crowd.problems[:5]
            print(f"\n{dict(crowd.done)}")
            assert crowd.done["cancelled"] > TASKS
            fs.check_invariants()
            listed = set(os.listdir(scratch.local))
            with trio.fail_after(SECONDS):
                await trio.sleep(0.1)  # what is known is too old then
                found = [name for name in NAMES if await crowd.has(name)]
            assert set(found) == listed
            crowd.forget()
            assert fs.statistics().open_files == fs.statistics().open_directories == 0
            await fs.close()
            assert fs.statistics().inodes.inodes == 1, fs.statistics()
            for _ in range(500):  # a CLOSE that nobody waits for may still be on its way
                connection = next(iter(pool.statistics().values()))
                if (connection.queued, connection.in_flight) == (0, 0):
                    break
                await trio.sleep(0.01)
            assert (connection.queued, connection.in_flight) == (0, 0)

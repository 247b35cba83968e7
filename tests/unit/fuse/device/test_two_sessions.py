"""Two mounts in one process, of one loop of trio: nothing of a session is the module's or the process's."""

from __future__ import annotations

import errno
import stat
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pyfuse3
import pytest
import trio
from pyfuse3 import EntryAttributes, FileInfo

from dfsfs.fuse.device.loop import DeviceLoop
from dfsfs.fuse.device.mounting import MountSpec, open_device
from tests.kernel.mounts import is_mounted
from tests.unit.fuse.device.synthetic import WANTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dfsfs.fuse.kerneloperations import KernelOperations

pytestmark = pytest.mark.mount

PATIENCE = 20.0
FILE = 2


class OneFile:
    """A file system with one file, `name`, and another name of it, `slow`, whose lookup waits to be let go."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.initialized = False
        self.looked_up, self.let_go = trio.Event(), trio.Event()

    def init(self) -> None:
        self.initialized = True

    def _entry(self, inode: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino, entry.st_nlink = inode, 1
        entry.st_mode = stat.S_IFREG | 0o644 if inode == FILE else stat.S_IFDIR | 0o755
        entry.st_size = len(self.text) if inode == FILE else 0
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    async def getattr(self, inode: int, *_: object) -> EntryAttributes:
        return self._entry(inode)

    async def lookup(self, parent_inode: int, name: bytes, *_: object) -> EntryAttributes:
        if name == b"slow":
            self.looked_up.set()
            await self.let_go.wait()
        if name not in (b"name", b"slow"):
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._entry(FILE)

    async def forget(self, *_: object) -> None: ...

    async def open(self, *_: object) -> FileInfo:
        return FileInfo(fh=1, keep_cache=False)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        return self.text[offset : offset + size]

    flush = release = forget


class Mounted:
    """A file system, its loop, and where it is mounted."""

    def __init__(self, path: Path, text: bytes) -> None:
        path.mkdir()
        self.path, self.operations, self.ended = path, OneFile(text), trio.Event()
        spec = MountSpec(str(path), "//test/one", "test", frozenset({"default_permissions"}))
        operations = cast("KernelOperations", self.operations)
        self.loop = DeviceLoop(open_device(spec), operations, WANTED, lambda unique: None)

    async def run(self) -> None:
        await self.loop.run()
        self.ended.set()

    async def unmount(self) -> None:
        await trio.run_process(["umount", str(self.path)])
        await self.ended.wait()


@contextmanager
def mounted(path: Path, text: bytes) -> Iterator[Mounted]:
    mount = Mounted(path, text)
    try:
        yield mount
    finally:
        mount.loop.close()
        if is_mounted(path):
            subprocess.run(["umount", "-l", str(path)], check=False, timeout=PATIENCE)


async def read(path: Path) -> bytes:
    """By a program: this process could not be killed while it waits for itself."""
    done = await trio.run_process(["cat", str(path)], capture_stdout=True)
    return done.stdout


async def test_two_mounts_in_one_process(tmp_path: Path) -> None:
    with mounted(tmp_path / "1", b"of the first") as one, mounted(tmp_path / "2", b"of the second") as two:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.run)
                nursery.start_soon(two.run)
                assert await read(one.path / "name") == b"of the first"
                assert await read(two.path / "name") == b"of the second"
                assert one.operations.initialized and two.operations.initialized
                async with trio.open_nursery() as waiting:
                    waiting.start_soon(read, one.path / "slow")
                    await one.operations.looked_up.wait()
                    assert await read(one.path / "name") == b"of the first"
                    assert await read(two.path / "name") == b"of the second"
                    await two.unmount()
                    assert not one.ended.is_set(), "the end of one is not the other's"
                    one.operations.let_go.set()
                assert await read(one.path / "name") == b"of the first"
                await one.unmount()

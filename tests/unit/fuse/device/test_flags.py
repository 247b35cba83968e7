"""What each flag of FUSE_INIT that is wanted changes in what the kernel asks: a real mount with it, and one without."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import trio
from pyfuse3 import EntryAttributes, FileInfo

from dfsfs.fuse.abi.constants import InitFlag
from dfsfs.fuse.abi.replies import DirentPlusBuffer
from dfsfs.fuse.device.capabilities import FLAGS, make_wanted
from dfsfs.fuse.device.loop import DeviceLoop
from dfsfs.fuse.device.mounting import MountSpec, open_device
from dfsfs.fuse.session import raise_read_ahead
from tests.kernel.mounts import is_mounted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dfsfs.fuse.kerneloperations import KernelOperations

pytestmark = pytest.mark.mount

PATIENCE = 20.0
SHORT = 0.5
"""Seconds in which a request comes if it comes at all. Too short a time makes a test pass that should fail, and never
the other way round.
"""
FILE, SIZE = 2, 4 << 20
WITHOUT_A_TRACE = InitFlag.BIG_WRITES
"""Linux acts as if it were set since 4.20."""


class OneFile:
    """A file system with one file under every name. It notes what it is asked. Lookups of names that begin with `slow`
    and reads wait while `held` is set.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[object, ...]]] = []
        self.initialized = trio.Event()
        self._more = trio.Event()
        self.held = False
        self.timeout = 0.0
        """Seconds that the kernel may believe in attributes."""
        self.let_go = trio.Event()
        self.mtime = 10**18
        self.byte = b"x"

    def calls(self, name: str) -> list[tuple[object, ...]]:
        return [arguments for call, arguments in self.asked if call == name]

    async def wait_for(self, name: str, count: int) -> bool:
        """Whether so many requests of a kind are there within SHORT seconds."""
        with trio.move_on_after(SHORT if count > 1 else PATIENCE):
            while len(self.calls(name)) < count:
                await self._more.wait()
        return len(self.calls(name)) >= count

    def _note(self, call: str, *arguments: object) -> None:
        self.asked.append((call, arguments))
        self._more.set()
        self._more = trio.Event()

    def init(self) -> None:
        self.initialized.set()

    def _entry(self, inode: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino, entry.st_nlink, entry.st_mtime_ns = inode, 1, self.mtime
        entry.st_mode = stat.S_IFREG | 0o644 if inode == FILE else stat.S_IFDIR | 0o755
        entry.st_size = SIZE if inode == FILE else 0
        entry.entry_timeout, entry.attr_timeout = 0, self.timeout
        return entry

    async def getattr(self, inode: int, *_: object) -> EntryAttributes:
        return self._entry(inode)

    async def setattr(self, inode: int, *arguments: object) -> EntryAttributes:
        self._note("setattr", *arguments)
        return self._entry(inode)

    async def lookup(self, parent_inode: int, name: bytes, *_: object) -> EntryAttributes:
        if name.startswith(b"slow"):
            self._note("lookup", name)
            await self.let_go.wait()
        return self._entry(FILE)

    async def forget(self, *_: object) -> None: ...

    async def open(self, inode: int, flags: int, *_: object) -> FileInfo:
        self._note("open", flags)
        return FileInfo(fh=1, keep_cache=True)

    async def opendir(self, *_: object) -> int:
        return 1

    async def readdir_into(self, fh: int, start: int, buffer: object) -> None:
        self._note("readdir", type(buffer))

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        self._note("read", offset, size)
        if self.held:
            await self.let_go.wait()
        return self.byte * size

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        self._note("write", len(data))
        return len(data)

    async def getxattr(self, inode: int, name: bytes, *_: object) -> bytes:
        self._note("getxattr", name)
        return b""

    async def setlk(self, *arguments: object) -> None:
        self._note("setlk", *arguments)

    async def flock(self, *arguments: object) -> None:
        self._note("flock", *arguments)

    async def _done(self, *_: object) -> None: ...

    flush = release = releasedir = fsync = _done


@asynccontextmanager
async def mounted(path: Path, flags: InitFlag) -> AsyncIterator[OneFile]:
    """A mount with these flags, if the kernel has them, served until the block ends."""
    await trio.Path(path).mkdir()
    operations = OneFile()
    spec = MountSpec(str(path), "//test/flags", "test", frozenset())
    wanted = replace(make_wanted(), flags=flags)
    loop = DeviceLoop(open_device(spec), cast("KernelOperations", operations), wanted, lambda unique: None)
    try:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loop.run)
                await operations.initialized.wait()
                await trio.to_thread.run_sync(raise_read_ahead, str(path), 4096)
                yield operations
                operations.let_go.set()
                await trio.run_process(["umount", str(path)])
    finally:
        loop.close()
        if is_mounted(path):
            await trio.run_process(["umount", "-l", str(path)], check=False)


async def run(path: Path, program: str) -> str:
    """What a program prints, with `path` as PATH. It is a process: this one waits for no mount of its own."""
    source = f"import fcntl, mmap, os, threading\nPATH = {str(path)!r}\n{program}"
    done = await trio.run_process([sys.executable, "-c", source], capture_stdout=True)
    return done.stdout.decode()


both = pytest.mark.parametrize("has_flag", [True, False])


def flags(flag: InitFlag, has_flag: bool) -> InitFlag:
    assert flag in FLAGS
    return FLAGS if has_flag else FLAGS & ~flag


def test_each_flag_that_is_wanted_has_a_test() -> None:
    tested = {
        *(InitFlag.PARALLEL_DIROPS, InitFlag.ASYNC_READ, InitFlag.ASYNC_DIO, InitFlag.HANDLE_KILLPRIV_V2),
        *(InitFlag.MAX_PAGES, InitFlag.ATOMIC_O_TRUNC, InitFlag.AUTO_INVAL_DATA, InitFlag.DO_READDIRPLUS),
        *(InitFlag.POSIX_LOCKS, InitFlag.FLOCK_LOCKS),
    }
    assert {flag for flag in InitFlag if flag in FLAGS} == tested | {WITHOUT_A_TRACE}


@both
async def test_lookups_of_one_directory_run_side_by_side(tmp_path: Path, has_flag: bool) -> None:
    async with mounted(tmp_path / "m", flags(InitFlag.PARALLEL_DIROPS, has_flag)) as asked:
        async with trio.open_nursery() as nursery:
            for name in ("slow1", "slow2"):
                nursery.start_soon(run, tmp_path / "m" / name, "os.stat(PATH)")
            assert await asked.wait_for("lookup", 1)
            assert await asked.wait_for("lookup", 2) is has_flag
            asked.let_go.set()


@both
@pytest.mark.parametrize(
    ("flag", "program"),
    [
        (
            InitFlag.ASYNC_READ,
            "f = os.open(PATH, os.O_RDONLY); os.posix_fadvise(f, 0, 1 << 21, os.POSIX_FADV_WILLNEED)",
        ),
        (
            InitFlag.ASYNC_DIO,
            "f = os.open(PATH, os.O_RDONLY | os.O_DIRECT); os.preadv(f, [mmap.mmap(-1, 1 << 21)], 0)",
        ),
    ],
)
async def test_reads_of_one_call_run_side_by_side(tmp_path: Path, flag: InitFlag, program: str, has_flag: bool) -> None:
    async with mounted(tmp_path / "m", flags(flag, has_flag)) as asked:
        asked.held = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, tmp_path / "m" / "f", program)
            assert await asked.wait_for("read", 1)
            assert await asked.wait_for("read", 2) is has_flag
            asked.let_go.set()


@both
async def test_no_question_before_each_write(tmp_path: Path, has_flag: bool) -> None:
    async with mounted(tmp_path / "m", flags(InitFlag.HANDLE_KILLPRIV_V2, has_flag)) as asked:
        asked.timeout = 60.0
        await run(tmp_path / "m" / "f", "f = os.open(PATH, os.O_WRONLY); [os.write(f, b'1') for _ in range(5)]")
        assert len(asked.calls("write")) == 5
        assert asked.calls("getxattr") == [(b"security.capability",)] * (1 if has_flag else 5)


@both
async def test_a_large_write_is_one_request(tmp_path: Path, has_flag: bool) -> None:
    async with mounted(tmp_path / "m", flags(InitFlag.MAX_PAGES, has_flag)) as asked:
        await run(tmp_path / "m" / "f", "f = os.open(PATH, os.O_WRONLY); os.write(f, b'1' * (1 << 20))")
        assert asked.calls("write") == ([(1 << 20,)] if has_flag else [(1 << 17,)] * 8)


@both
async def test_a_file_is_emptied_by_its_open(tmp_path: Path, has_flag: bool) -> None:
    async with mounted(tmp_path / "m", flags(InitFlag.ATOMIC_O_TRUNC, has_flag)) as asked:
        await run(tmp_path / "m" / "f", "os.open(PATH, os.O_WRONLY | os.O_TRUNC)")
        ((given,),) = asked.calls("open")
        assert bool(cast("int", given) & os.O_TRUNC) is has_flag
        assert bool(asked.calls("setattr")) is not has_flag


@both
async def test_pages_go_when_the_time_has_changed(tmp_path: Path, has_flag: bool) -> None:
    path = tmp_path / "m" / "f"
    async with mounted(tmp_path / "m", flags(InitFlag.AUTO_INVAL_DATA, has_flag)) as asked:
        first = "print(os.read(os.open(PATH, os.O_RDONLY), 1).decode(), end='')"
        assert await run(path, first) == "x"
        asked.mtime, asked.byte = 2 * asked.mtime, b"y"
        assert await run(path, first) == ("y" if has_flag else "x")


@both
async def test_a_listing_has_attributes(tmp_path: Path, has_flag: bool) -> None:
    async with mounted(tmp_path / "m", flags(InitFlag.DO_READDIRPLUS, has_flag)) as asked:
        await run(tmp_path / "m", "os.listdir(PATH)")
        assert [buffer is DirentPlusBuffer for (buffer,) in asked.calls("readdir")] == [has_flag]


@both
@pytest.mark.parametrize(
    ("flag", "call", "program"),
    [
        (InitFlag.POSIX_LOCKS, "setlk", "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"),
        (InitFlag.FLOCK_LOCKS, "flock", "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"),
    ],
)
async def test_locks_are_asked_for(tmp_path: Path, flag: InitFlag, call: str, program: str, has_flag: bool) -> None:
    async with mounted(tmp_path / "m", flags(flag, has_flag)) as asked:
        await run(tmp_path / "m" / "f", f"f = os.open(PATH, os.O_RDWR); {program}")
        assert bool(asked.calls(call)) is has_flag

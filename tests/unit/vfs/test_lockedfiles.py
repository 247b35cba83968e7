"""Files of which others have locked parts: what is read of them, and which are read without the kernel's cache."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.leases import Lease
from dfsfs.smb.tree.lockedranges import is_lock_conflict, read_around_locks
from dfsfs.smb.wire.constants import LeaseState
from dfsfs.unc import UncPath
from dfsfs.vfs.data.lockedfiles import REMEMBERED, LockedFiles
from tests.unit.vfs.test_leases import leased
from tests.unit.vfs.world import World, fails

if TYPE_CHECKING:
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.names.inode import Inode
    from tests.support.fakes.memory_tree import MemoryNode

DATA = bytes(range(100)) * 100


class CountedTime(float):
    """A time that counts how often one is compared with it."""

    compared = 0

    def __gt__(self, other: float) -> bool:
        CountedTime.compared += 1
        return float(self) > other

    def __le__(self, other: float) -> bool:
        CountedTime.compared += 1
        return float(self) <= other

    def __add__(self, other: float) -> CountedTime:
        return CountedTime(float(self) + other)


def test_many_locked_files_are_remembered_for_a_while() -> None:
    now, count = CountedTime(0.0), 2000
    locks = LockedFiles(lambda: now)
    inodes = [cast("Inode", object()) for _ in range(count)]
    for number, inode in enumerate(inodes):
        now = CountedTime(number * REMEMBERED / count)
        locks.note_conflict(inode)
    assert CountedTime.compared <= 3 * count
    now = CountedTime(REMEMBERED)
    locks.note_conflict(inodes[0])  # again
    now = CountedTime(2 * REMEMBERED - 0.001)
    locks.note_conflict(inodes[1])
    assert list(locks._conflicts) == inodes[:2], "nothing is kept for longer"


class LockedFile:
    """10,000 bytes with locks."""

    def __init__(self, inode: MemoryNode, locked: list[range]) -> None:
        self._inode = inode
        self._locked = locked
        self.requests = 0

    async def read(self, offset: int, size: int) -> Buffer:
        self.requests += 1
        if any(part.start < offset + size and offset < part.stop for part in self._locked):
            raise SmbError(NtStatus.FILE_LOCK_CONFLICT, "a test")
        return DATA[offset : offset + size]

    async def query(self) -> FileStat:
        self.requests += 1
        return self._inode.stat


RANGES = st.builds(lambda start, size: range(start, start + size), st.integers(0, 12_000), st.integers(1, 500))


@given(st.lists(RANGES, max_size=4), st.integers(0, 12_000), st.integers(1, 12_000))
def test_all_bytes_or_none(locked: list[range], offset: int, size: int) -> None:
    file = LockedFile(World().data.add_file("file", DATA), locked)
    end = min(offset + size, len(DATA))

    async def main() -> Buffer | None:
        try:
            return await read_around_locks(file, offset, size)
        except SmbError as error:
            if not is_lock_conflict(error):
                raise
            return None

    found = trio.run(main)
    is_locked = any(part.start < end and offset < part.stop for part in locked)
    assert found == (None if is_locked else DATA[offset:end])
    assert file.requests <= 3


async def test_another_answer_than_a_conflict_is_nothing_to_look_into() -> None:
    class Gone(LockedFile):
        async def read(self, offset: int, size: int) -> Buffer:
            self.requests += 1
            raise SmbError(NtStatus.FILE_CLOSED, "a test")

    file = Gone(World().data.add_file("file", DATA), [])
    with pytest.raises(SmbError, match="FILE_CLOSED"):
        await read_around_locks(file, 0, 10)
    assert file.requests == 1


async def test_a_lock_that_was_met_is_remembered_for_a_while(autojump_clock: object) -> None:
    world = World()
    file = world.data.add_file("file", DATA * 10)
    file.locked = [range(100)]
    ino = await world.ino("link/file")
    first = await world.fs.open(ino, os.O_RDONLY)
    assert not first.direct
    await fails(errno.EACCES, world.fs.read(first.handle, 0, 4096))
    assert bytes(await world.fs.read(first.handle, 4096, 4096)) == DATA[4096:8192]
    second = await world.fs.open(ino, os.O_RDWR)
    assert second.direct
    assert bytes(await world.fs.read(second.handle, 100, 10)) == DATA[100:110]
    await trio.sleep(REMEMBERED + 1)
    third = await world.fs.open(ino, os.O_RDONLY)
    assert not third.direct
    for result in (first, second, third):
        await world.fs.release(result.handle)


async def test_a_share_that_gives_read_leases_and_not_for_this_file(autojump_clock: object) -> None:
    async with leased(close_time=0) as world:
        world.data.add_file("other", DATA)
        world.data.refuses = LeaseState.SMB2_LEASE_READ_CACHING
        before = await world.fs.open(await world.ino("link/other"), os.O_RDONLY)
        assert not before.direct, "perhaps it never gives any"
        world.data.refuses = LeaseState.SMB2_LEASE_NONE
        await world.cat()
        world.data.refuses = LeaseState.SMB2_LEASE_READ_CACHING
        result = await world.fs.open(await world.ino("link/file"), os.O_RDWR)
        assert result.direct
        await world.fs.release(result.handle)
        world.data.refuses = LeaseState.SMB2_LEASE_NONE
        again = await world.fs.open(await world.ino("link/file"), os.O_RDWR)
        assert not again.direct
        for handle in (before.handle, again.handle):
            await world.fs.release(handle)


async def test_a_lease_that_is_taken_back_after_the_answer_is_no_sign_of_locks() -> None:
    locks, inode = LockedFiles(trio.current_time), World().fs._lookup.table.root
    remote = SimpleNamespace(
        inline_data_is_locked=False,
        lease=Lease(bytes(16), 2, UncPath(("fs1", "data", "f")), Route()),
        tree=SimpleNamespace(volume=UncPath(("fs1", "data"))),
    )
    found = []
    for gave, state in ((3, 0), (None, 0), (3, 0), (0, 0), (2, 2), (None, 2)):
        remote.lease.given = None if gave is None else LeaseState(gave)
        remote.lease.state = LeaseState(state)
        found.append(locks.note_open(inode, remote))  # type: ignore[arg-type]
    assert found == [False, False, False, True, True, False]

"""Holes, room and copies on servers of other kinds than Samba, which clone, allocate or have nothing of it; and what is
left when a request is refused or given up.
"""

from __future__ import annotations

import errno
import os
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Command, CtlCode, FileAttributes, FileSystemAttributes
from dfsfs.vfs.data.rangecopy import CLONE_UNIT, LARGEST
from dfsfs.vfs.data.ranges import FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, KEPT
from tests.conftest import CHANCE
from tests.shell.explorer import quiet
from tests.shell.operations import PUNCH
from tests.shell.scene import Scene
from tests.support.fakes.server import messages
from tests.support.fakes.server.requests import Answer, Session
from tests.support.fakes.server.server import Server
from tests.support.ranges import RandomCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from tests.support.fakes.server.messages import Part

KIB, MIB = 1024, 1024 * 1024
CLUSTER = 4 * KIB
SHARES_BLOCKS = int(FileSystemAttributes.FILE_SUPPORTS_BLOCK_REFCOUNTING)


class Mount:
    """A scene with two files, `f` open to be read and written, and `v` to be read."""

    def __init__(self, scene: Scene, server: Server) -> None:
        self.kernel, self.scene, self.server, self.volume = scene.kernel, scene, server, server.volume
        self.f = self.v = 0
        self.asked: list[CtlCode] = []
        """The control codes that the server was sent."""
        self.refused: dict[CtlCode, NtStatus] = {}
        """What is answered to some of them."""

    def data(self, name: str) -> bytes:
        return bytes(self.volume.at(name).data)

    def note(self, session: Session, part: Part) -> Answer | None:
        if part.command is not Command.SMB2_IOCTL:
            return None
        code = CtlCode(messages.parse_ioctl(part.body)[1])
        self.asked.append(code)
        return Answer(self.refused[code], messages.ERROR_BODY) if code in self.refused else None

    async def size(self, name: str) -> int:
        return (await self.kernel.stat(name)).size


@asynccontextmanager
async def mounted(*, f: bytes = b"", v: bytes = b"", leases: bool = True) -> AsyncIterator[Mount]:
    server = Server()
    for name, data in (("f", f), ("v", v)):
        server.volume.add_file(name, data)
    async with trio.open_nursery() as nursery:
        mount: Mount | None = None
        server.lie = lambda session, part: mount.note(session, part) if mount is not None else None
        scene = Scene(nursery, server=server, leases=leases)
        mount = Mount(scene, server)
        mount.f, mount.v = await mount.kernel.open("f", os.O_RDWR), await mount.kernel.open("v", os.O_RDONLY)
        yield mount
        await scene.fs.close()
        await quiet()
        assert not server.opens
        nursery.cancel_scope.cancel()


async def fails(code: int, action: Awaitable[object]) -> None:
    with pytest.raises(OSError, match="Errno") as raised:
        await action
    assert errno.errorcode[raised.value.errno or 0] == errno.errorcode[code]


# -- servers without it -----------------------------------------------------------------------------------------------


async def test_a_server_that_knows_no_holes(autojump_clock: object) -> None:
    async with mounted(f=os.urandom(2 * CLUSTER)) as mount:
        mount.volume.has_ranges = False
        before = mount.data("f")
        await fails(errno.EOPNOTSUPP, mount.kernel.fallocate(mount.f, PUNCH, 0, CLUSTER))
        await fails(errno.EOPNOTSUPP, mount.kernel.fallocate(mount.f, FALLOC_FL_ZERO_RANGE, 0, CLUSTER))
        mount.volume.at("f").attributes |= int(FileAttributes.FILE_ATTRIBUTE_SPARSE_FILE)
        await trio.sleep(2)
        assert await mount.kernel.lseek(mount.f, 5, os.SEEK_DATA) == 5
        assert await mount.kernel.lseek(mount.f, 5, os.SEEK_HOLE) == 2 * CLUSTER
        await fails(errno.ENXIO, mount.kernel.lseek(mount.f, 2 * CLUSTER, os.SEEK_HOLE))
        assert mount.data("f") == before
        assert await mount.kernel.write(mount.f, b"goes on", 0) == 7


async def test_a_server_that_copies_nothing(autojump_clock: object) -> None:
    async with mounted(v=b"data") as mount:
        for code in (CtlCode.FSCTL_SRV_REQUEST_RESUME_KEY, CtlCode.FSCTL_SRV_COPYCHUNK_WRITE):
            for status in (NtStatus.INVALID_DEVICE_REQUEST, NtStatus.NOT_SUPPORTED, NtStatus.INVALID_PARAMETER):
                mount.refused = {code: status}
                await fails(errno.EXDEV, mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, 4))
        mount.refused = {}
        assert await mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, 4) == 4


# -- room -------------------------------------------------------------------------------------------------------------


async def test_a_server_that_keeps_room(autojump_clock: object) -> None:
    async with mounted(f=b"data") as mount:
        mount.volume.allocates = True
        await mount.kernel.fallocate(mount.f, FALLOC_FL_KEEP_SIZE, 0, MIB)
        assert (mount.volume.at("f").reserved, await mount.size("f")) == (MIB, 4)
        await mount.kernel.fallocate(mount.f, 0, MIB, MIB)
        assert (mount.volume.at("f").reserved, await mount.size("f")) == (2 * MIB, 2 * MIB)
        mount.volume.room = 3 * MIB
        await fails(errno.ENOSPC, mount.kernel.fallocate(mount.f, 0, 0, 4 * MIB))
        assert mount.data("f") == b"data" + bytes(2 * MIB - 4)


async def test_without_a_lease_no_size_is_set(autojump_clock: object) -> None:
    """It might cut off what another client has written a moment ago."""
    async with mounted(f=b"data", leases=False) as mount:
        mount.volume.allocates = True
        await mount.kernel.fallocate(mount.f, 0, 0, 10)
        assert mount.data("f") == b"data" + bytes(6)
        assert mount.volume.at("f").reserved == 0
        mount.volume.at("f").data += b"his"
        await mount.kernel.fallocate(mount.f, 0, 0, 11)
        assert mount.data("f") == b"data" + bytes(6) + b"his"
        assert await mount.size("f") == 13


async def test_what_another_client_appends_meanwhile_is_not_cut_off(autojump_clock: object) -> None:
    """All that may be lost is the one byte that makes the file longer."""
    async with mounted(f=b"data", leases=False) as mount:

        def append(what: str, about: object) -> None:
            if what == "sent" and "WRITE" in str(about):
                mount.volume.at("f").data += b"0123456789"

        mount.server.on_event = append
        await mount.kernel.fallocate(mount.f, 0, 0, 6)
        mount.server.on_event = lambda what, about: None
        assert mount.data("f") == b"data0\0" + b"23456789"
        await trio.sleep(2)
        assert await mount.size("f") == 14


# -- holes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_parts", [True, False])
async def test_each_of_many_holes_is_found(autojump_clock: object, in_parts: bool) -> None:
    count = 5000
    async with mounted(f=(b"x" * CLUSTER + bytes(CLUSTER)) * count) as mount:
        mount.volume.ranges_in_parts = in_parts
        mount.volume.at("f").attributes |= int(FileAttributes.FILE_ATTRIBUTE_SPARSE_FILE)
        await trio.sleep(2)
        mount.asked.clear()
        found, at = 0, 0
        while at < 2 * count * CLUSTER - CLUSTER:
            start = await mount.kernel.lseek(mount.f, at, os.SEEK_DATA)
            at = await mount.kernel.lseek(mount.f, start, os.SEEK_HOLE)
            assert (start, at) == (2 * found * CLUSTER, (2 * found + 1) * CLUSTER)
            found += 1
        assert found == count
        assert len(mount.asked) <= 2 * count // KEPT


async def test_what_another_client_has_written_is_data_as_soon_as_it_shows(autojump_clock: object) -> None:
    """An answer about holes that is kept is older than the size that a program was just told."""
    async with mounted(f=os.urandom(4 * CLUSTER), leases=False) as mount:
        await mount.kernel.fallocate(mount.f, PUNCH, CLUSTER, 3 * CLUSTER)
        await trio.sleep(0.5)
        with pytest.raises(OSError, match="Errno"):
            await mount.kernel.lseek(mount.f, CLUSTER, os.SEEK_DATA)
        mount.volume.at("f").data += b"more"
        mount.volume.at("f").changed = mount.volume.tick()
        await trio.sleep(0.6)
        assert await mount.size("f") == 4 * CLUSTER + 4
        assert await mount.kernel.lseek(mount.f, CLUSTER, os.SEEK_DATA) == 4 * CLUSTER


# -- clones -----------------------------------------------------------------------------------------------------------


async def test_a_volume_that_shares_blocks(autojump_clock: object) -> None:
    """The part that clusters allow is cloned, whatever its size; the rest is copied."""
    size = 2 * LARGEST + CLONE_UNIT + 100
    async with mounted(v=os.urandom(size)) as mount:
        mount.volume.features = SHARES_BLOCKS
        assert await mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, size) == size - 100
        assert mount.volume.clones == 1
        assert await mount.kernel.copy_file_range(mount.v, size - 100, mount.f, size - 100, 100) == 100
        assert mount.data("f") == mount.data("v") and await mount.size("f") == size
        assert await mount.kernel.copy_file_range(mount.v, 1, mount.f, 0, CLONE_UNIT) == CLONE_UNIT
        assert mount.volume.clones == 1
        assert mount.data("f")[:CLONE_UNIT] == mount.data("v")[1 : CLONE_UNIT + 1]


async def test_a_volume_that_says_so_and_refuses(autojump_clock: object) -> None:
    async with mounted(f=b"data", v=os.urandom(2 * CLONE_UNIT)) as mount:
        mount.volume.features, mount.volume.refuses_clones = SHARES_BLOCKS, True
        for _ in range(2):
            assert await mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, CLONE_UNIT) == CLONE_UNIT
        assert mount.asked.count(CtlCode.FSCTL_DUPLICATE_EXTENTS_TO_FILE) == 1
        assert mount.data("f") == mount.data("v")[:CLONE_UNIT]


async def test_a_clone_that_is_refused_for_once(autojump_clock: object) -> None:
    """The source is sparse and the target is not: it is copied, and the next file is cloned."""
    async with mounted(f=b"data", v=os.urandom(CLONE_UNIT)) as mount:
        mount.volume.features = SHARES_BLOCKS
        mount.refused = {CtlCode.FSCTL_DUPLICATE_EXTENTS_TO_FILE: NtStatus.INVALID_PARAMETER}
        assert await mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, CLONE_UNIT) == CLONE_UNIT
        assert mount.data("f") == mount.data("v") and mount.volume.clones == 0
        mount.refused = {}
        assert await mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, CLONE_UNIT) == CLONE_UNIT
        assert mount.volume.clones == 1


async def test_without_a_lease_a_target_is_not_made_longer_for_a_clone(autojump_clock: object) -> None:
    async with mounted(f=b"data", v=os.urandom(CLONE_UNIT), leases=False) as mount:
        mount.volume.features = SHARES_BLOCKS
        for clones in (0, 1):
            assert await mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, CLONE_UNIT) == CLONE_UNIT
            assert mount.data("f") == mount.data("v") and mount.volume.clones == clones


# -- failures ---------------------------------------------------------------------------------------------------------


async def test_a_copy_after_the_connection_was_lost(autojump_clock: object) -> None:
    async with mounted(v=b"0123456789") as mount:
        mount.scene.connection.cut()
        await quiet()
        assert await mount.kernel.copy_file_range(mount.v, 2, mount.f, 0, 5) == 5
        assert mount.data("f") == b"23456"


async def test_a_copy_during_which_the_connection_is_lost(autojump_clock: object) -> None:
    """The handle of the source went with it, too, and is opened again before the copy is begun once more."""
    async with mounted(v=b"0123456789") as mount:
        cuts = 0

        def cut(what: str, about: object) -> None:
            nonlocal cuts
            if what == "sent" and "IOCTL" in str(about) and not cuts:
                cuts += 1
                mount.scene.connection.cut()

        mount.server.on_event = cut
        assert await mount.kernel.copy_file_range(mount.v, 2, mount.f, 0, 5) == 5
        assert mount.data("f") == b"23456" and cuts == 1


async def test_a_copy_that_fails_half_way_is_not_hidden(autojump_clock: object) -> None:
    """What the kernel has of the target may be wrong then, and so may be the size that is known here."""
    async with mounted(f=b"old!", v=b"0123456789") as mount:
        assert await mount.kernel.read(mount.f, 0, 10) == b"old!"
        mount.refused = {CtlCode.FSCTL_SRV_COPYCHUNK_WRITE: NtStatus.DISK_FULL}
        await fails(errno.ENOSPC, mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, 10))
        mount.volume.at("f").data[:] = b"012345"  # the part that it has done
        await quiet()
        assert await mount.size("f") == 6
        assert await mount.kernel.read(mount.f, 0, 10) == b"012345"


async def test_zeros_that_end_half_way_are_not_hidden(autojump_clock: object) -> None:
    """A server that writes zeros may run out of room."""
    async with mounted(f=b"old!") as mount:
        assert await mount.kernel.read(mount.f, 0, 10) == b"old!"
        mount.refused = {CtlCode.FSCTL_SET_ZERO_DATA: NtStatus.DISK_FULL}
        await fails(errno.ENOSPC, mount.kernel.fallocate(mount.f, FALLOC_FL_ZERO_RANGE, 0, 4))
        mount.volume.at("f").data[:2] = bytes(2)  # the part that it has done
        await quiet()
        assert await mount.kernel.read(mount.f, 0, 10) == b"\0\0d!"


@pytest.mark.parametrize("call", ["punch", "allocate", "copy"])
async def test_what_is_given_up_while_the_server_is_silent(autojump_clock: object, call: str) -> None:
    """Nobody knows what was done; programs see what is on the server, and nothing hangs."""
    async with mounted(f=os.urandom(1000), v=os.urandom(2000)) as mount:
        await mount.kernel.read(mount.f, 0, 1000)
        mount.server.holds = True
        with trio.move_on_after(1) as scope:
            if call == "punch":
                await mount.kernel.fallocate(mount.f, PUNCH, 0, 500)
            elif call == "allocate":
                await mount.kernel.fallocate(mount.f, 0, 0, 2000)
            else:
                await mount.kernel.copy_file_range(mount.v, 0, mount.f, 0, 2000)
        assert scope.cancelled_caught
        mount.server.holds = False
        mount.server.run()
        await quiet()
        await trio.sleep(2)
        assert await mount.kernel.read(mount.f, 0, 4000) == mount.data("f")
        assert await mount.size("f") == len(mount.data("f"))
        assert await mount.kernel.write(mount.f, b"x", len(mount.data("f"))) == 1


# -- any sequence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leases", [True, False])
@pytest.mark.parametrize("features", [0, SHARES_BLOCKS])
@pytest.mark.parametrize("begin", range(0, 10 * CHANCE, 10))
async def test_any_sequence_of_calls(autojump_clock: object, leases: bool, features: int, begin: int) -> None:
    """What is known gets old now and then. DFSFS_SEED and DFSFS_CHANCE say what is tried."""
    seed = int(os.environ.get("DFSFS_SEED", "1")) + begin
    for number in range(seed, seed + 10):
        async with mounted(leases=leases) as mount:
            mount.volume.features = features
            chance = random.Random(number)
            calls = RandomCalls(mount.scene.fs, chance)
            try:
                await calls.begin()
                for _ in range(60):
                    await calls.play()
                    if not chance.randrange(20):
                        await trio.sleep(chance.choice((0.5, 2)))
                await calls.check()
                await calls.end()
                for name in ("one", "two"):
                    assert mount.data(name) == calls.content(name)
            except BaseException as error:
                error.add_note(f"seed {number}: {'; '.join(calls.trace)}")
                raise

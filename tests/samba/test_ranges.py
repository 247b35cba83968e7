"""Parts of open files on real servers, by the verbs of the file system: holes, room, copies; sizes of shares."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import PosixError
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.wire.constants import Command
from dfsfs.unc import UncPath
from dfsfs.vfs.data.caching import CacheMode, Caching
from dfsfs.vfs.data.rangecopy import LARGEST
from dfsfs.vfs.data.ranges import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE
from dfsfs.vfs.names.inodetable import ROOT
from tests.conftest import CHANCE
from tests.samba.clients import locked_by_another, scratch_folder, share_of
from tests.samba.filesystems import filesystem
from tests.support.fakes.proxy import Proxy
from tests.support.ranges import RandomCalls
from tests.unit.vfs.world import ACTIMEO, fails

if TYPE_CHECKING:
    from pathlib import Path

    from tests.samba.filesystems import Mounted
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.every_samba]

KIB, MIB = 1024, 1024 * 1024
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
PUNCH, ZERO, KEEP = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_KEEP_SIZE
DATA, HOLE = os.SEEK_DATA, os.SEEK_HOLE
SEED = int(os.environ.get("DFSFS_SEED", "1"))


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def new_file(mounted: Mounted, name: str, data: bytes = b"") -> int:
    handle = await mounted.open(name, NEW)
    for start in range(0, len(data), MIB):
        await mounted.fs.write(handle, start, data[start : start + MIB])
    return handle


async def holes(mounted: Mounted, handle: int) -> list[tuple[int, int]]:
    """The data of a file, as a program finds it by lseek."""
    found: list[tuple[int, int]] = []
    at = 0
    while True:
        try:
            start = await mounted.fs.lseek(handle, at, DATA)
        except PosixError:
            return found
        at = await mounted.fs.lseek(handle, start, HOLE)
        found.append((start, at))


async def read_all(mounted: Mounted, handle: int, size: int) -> bytes:
    parts = [bytes(await mounted.fs.read(handle, start, MIB)) for start in range(0, size, MIB)]
    return b"".join(parts)


def blocks(path: Path) -> int:
    """Bytes that a file takes on the server's disk."""
    return path.stat().st_blocks * 512


# -- holes ------------------------------------------------------------------------------------------------------------


async def test_a_hole_is_zeros_takes_no_room_and_is_found(lab: Lab) -> None:
    data = some_bytes(4 * MIB)
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", data)
            assert await holes(mounted, handle) == [(0, 4 * MIB)]
            assert bytes(await mounted.fs.read(handle, MIB, 10)) == data[MIB : MIB + 10]
            await mounted.fs.fallocate(handle, PUNCH, MIB, MIB)
            assert await holes(mounted, handle) == [(0, MIB), (2 * MIB, 4 * MIB)]
            assert await read_all(mounted, handle, 4 * MIB) == data[:MIB] + bytes(MIB) + data[2 * MIB :]
            assert await mounted.fs.lseek(handle, MIB + 5, HOLE) == MIB + 5
            assert await mounted.fs.lseek(handle, MIB + 5, DATA) == 2 * MIB
            assert await mounted.fs.lseek(handle, 2 * MIB + 5, DATA) == 2 * MIB + 5
            local = scratch.local / "f"
            assert local.read_bytes() == data[:MIB] + bytes(MIB) + data[2 * MIB :]
            assert blocks(local) == 3 * MIB
            shown = await mounted.fs.getattr(await mounted.ino("f"))
            assert (shown.size, shown.blocks) == (4 * MIB, 3 * MIB // 512)
            await mounted.close(handle)
            handle = await mounted.open("f", os.O_RDONLY)
            assert await holes(mounted, handle) == [(0, MIB), (2 * MIB, 4 * MIB)]


async def test_where_there_is_nothing_to_find(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", b"data")
            await mounted.fs.fallocate(handle, PUNCH, 0, 1)
            for offset in (-1, 4, 5, 2**62):
                for whence in (DATA, HOLE):
                    await fails(errno.ENXIO, mounted.fs.lseek(handle, offset, whence))
            await fails(errno.EINVAL, mounted.fs.lseek(handle, 0, os.SEEK_END))
            await fails(errno.EBADF, mounted.fs.lseek(handle + 1, 0, DATA))
            await mounted.fs.fallocate(handle, PUNCH, 0, 1000 * KIB)
            await mounted.fs.write(handle, 0, b"")
            assert await mounted.fs.lseek(handle, 0, HOLE) in (0, 4)
            empty = await new_file(mounted, "empty")
            await fails(errno.ENXIO, mounted.fs.lseek(empty, 0, DATA))
            await fails(errno.ENXIO, mounted.fs.lseek(empty, 0, HOLE))


async def test_a_hole_to_the_end_has_no_data_behind_it(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", some_bytes(MIB))
            await mounted.fs.fallocate(handle, PUNCH, 512 * KIB, 512 * KIB)
            await fails(errno.ENXIO, mounted.fs.lseek(handle, 512 * KIB, DATA))
            assert await mounted.fs.lseek(handle, MIB - 1, HOLE) == MIB - 1


async def test_data_that_waits_here_is_data(lab: Lab) -> None:
    """A write has returned, and is not on the server yet."""
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", some_bytes(2 * MIB))
            await mounted.fs.fallocate(handle, PUNCH, 0, 2 * MIB)
            await mounted.fs.write(handle, MIB, b"x" * 4 * KIB)
            assert await holes(mounted, handle) == [(MIB, MIB + 4 * KIB)]
            await mounted.fs.write(handle, 4 * MIB, b"y")
            assert await mounted.fs.lseek(handle, 2 * MIB, DATA) == 4 * MIB
            assert await mounted.fs.lseek(handle, 4 * MIB, HOLE) == 4 * MIB + 1


async def test_a_handle_that_may_not_read_finds_data_everywhere(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", some_bytes(MIB))
            await mounted.fs.fallocate(handle, PUNCH, 0, 512 * KIB)
            await mounted.close(handle)
            writing = await mounted.open("f", os.O_WRONLY)
            assert await holes(mounted, writing) == [(0, MIB)]
            await mounted.open("f", os.O_RDONLY)
            assert await holes(mounted, writing) == [(512 * KIB, MIB)]


async def test_more_holes_than_one_answer_has_room_for(lab: Lab) -> None:
    """Made on the server, as it would take long by SMB; and the file is sparse for SMB only after a hole of its own."""
    count, step = 4200, 8 * KIB
    with scratch_folder(lab) as scratch:
        scratch.file("f")
        with (scratch.local / "f").open("wb") as file:
            for index in range(count):
                file.seek(index * step)
                file.write(b"x")
            file.truncate(count * step + 100 * MIB)
            file.seek(count * step + 200 * MIB)
            file.write(b"end")
        async with filesystem(lab, scratch.path) as mounted:
            handle = await mounted.open("f")
            assert await mounted.fs.lseek(handle, 0, HOLE) == count * step + 200 * MIB + 3  # nobody has said otherwise
            await mounted.fs.fallocate(handle, PUNCH, count * step, step)
            assert await mounted.fs.lseek(handle, 0, DATA) == 0
            assert await mounted.fs.lseek(handle, 0, HOLE) == 4 * KIB
            assert await mounted.fs.lseek(handle, 4 * KIB, DATA) == step
            assert len(await holes(mounted, handle)) == count + 1
            last = (count - 1) * step
            assert await mounted.fs.lseek(handle, last + 4 * KIB, DATA) == count * step + 200 * MIB
            assert await mounted.fs.lseek(handle, last, HOLE) == last + 4 * KIB


# -- zeros and room ---------------------------------------------------------------------------------------------------


async def test_a_range_of_zeros_in_a_file_and_beyond_its_end(lab: Lab) -> None:
    data = some_bytes(MIB)
    with scratch_folder(lab) as scratch:
        local = scratch.local / "f"
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", data)
            await mounted.fs.fallocate(handle, ZERO, 100, 1000)
            expected = data[:100] + bytes(1000) + data[1100:]
            assert local.read_bytes() == expected
            await mounted.fs.fallocate(handle, ZERO | KEEP, MIB - 10, 1000)
            expected = expected[:-10] + bytes(10)
            assert local.read_bytes() == expected
            assert (await mounted.fs.getattr(await mounted.ino("f"))).size == MIB
            await mounted.fs.fallocate(handle, ZERO, MIB + 100, 1000)
            assert local.read_bytes() == expected + bytes(1100)
            assert (await mounted.fs.getattr(await mounted.ino("f"))).size == MIB + 1100
            assert await read_all(mounted, handle, 2 * MIB) == expected + bytes(1100)


async def test_what_is_read_ahead_is_not_what_was_there_before(lab: Lab) -> None:
    data = some_bytes(8 * MIB)
    with scratch_folder(lab) as scratch:
        scratch.file("f", data)
        async with filesystem(lab, scratch.path) as mounted:
            handle = await mounted.open("f")
            for start in range(0, 2 * MIB, 128 * KIB):
                await mounted.fs.read(handle, start, 128 * KIB)
            await mounted.fs.fallocate(handle, PUNCH, 2 * MIB, 4 * MIB)
            assert bytes(await mounted.fs.read(handle, 2 * MIB, 128 * KIB)) == bytes(128 * KIB)


async def test_a_longer_file_without_room_that_is_kept(lab: Lab) -> None:
    """Samba allocates nothing in advance unless it is told to: what can be done is done, and else there is an error."""
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", b"data")
            await mounted.fs.fallocate(handle, 0, 0, MIB)
            assert (scratch.local / "f").read_bytes() == b"data" + bytes(MIB - 4)
            assert (await mounted.fs.getattr(await mounted.ino("f"))).size == MIB
            await mounted.fs.fallocate(handle, 0, 0, 1000)
            assert (scratch.local / "f").stat().st_size == MIB
            await fails(errno.EOPNOTSUPP, mounted.fs.fallocate(handle, KEEP, 0, 2 * MIB))
            await fails(errno.ENOSPC, mounted.fs.fallocate(handle, 0, 0, 1 << 50))
            assert (scratch.local / "f").stat().st_size == MIB
            assert (await mounted.fs.getattr(await mounted.ino("f"))).size == MIB


async def test_what_a_file_is_extended_by_cuts_off_nothing_of_others(lab: Lab) -> None:
    """Without a lease another client may have made the file longer: its size can't be set then."""
    with scratch_folder(lab) as scratch:
        local = scratch.local / "f"
        async with filesystem(lab, scratch.path) as one, filesystem(lab, scratch.path) as two:
            mine = await new_file(one, "f", b"data")
            his = await two.open("f")
            await two.fs.write(his, 4, b"his")
            await two.fs.fsync(his)
            await one.fs.fallocate(mine, 0, 0, 6)
            assert local.read_bytes() == b"datahis"
            await one.fs.fallocate(mine, 0, 0, 10)
            assert local.read_bytes() == b"datahis" + bytes(3)
            await trio.sleep(ACTIMEO)
            assert (await two.fs.getattr(await two.ino("f"))).size == 10


async def test_what_is_no_such_call(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        scratch.file("f", b"data")
        async with filesystem(lab, scratch.path) as mounted:
            handle = await mounted.open("f")
            for mode in (FALLOC_FL_PUNCH_HOLE, 0x08, 0x20, 0x40, 0x40 | KEEP, ZERO | PUNCH, 0x80):
                await fails(errno.EOPNOTSUPP, mounted.fs.fallocate(handle, mode, 0, 1))
            await fails(errno.EINVAL, mounted.fs.fallocate(handle, 0, -1, 1))
            await fails(errno.EINVAL, mounted.fs.fallocate(handle, 0, 0, 0))
            await fails(errno.EFBIG, mounted.fs.fallocate(handle, 0, 2**63 - 1, 1))
            reading = await mounted.open("f", os.O_RDONLY)
            await fails(errno.EBADF, mounted.fs.fallocate(reading, 0, 0, 10))
            assert (scratch.local / "f").read_bytes() == b"data"


async def test_bytes_that_another_client_has_locked_stay(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("f", b"x" * 1000)
        scratch.file("g", b"y" * 1000)
        async with filesystem(lab, scratch.path) as mounted, locked_by_another(lab, path, (500, 10)):
            handle, source = await mounted.open("f"), await mounted.open("g", os.O_RDONLY)
            await fails(errno.EACCES, mounted.fs.fallocate(handle, PUNCH, 0, 1000))
            await fails(errno.EACCES, mounted.fs.copy_file_range(source, 0, handle, 0, 1000))
            assert (scratch.local / "f").read_bytes() == b"x" * 1000


@pytest.mark.parametrize("mode", [CacheMode.NONE, CacheMode.LOOSE])
async def test_other_ways_to_cache(lab: Lab, mode: CacheMode) -> None:
    data = some_bytes(MIB)
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path, caching=Caching(mode)) as mounted:
            handle = await new_file(mounted, "f", data)
            await mounted.fs.fallocate(handle, PUNCH, 64 * KIB, 64 * KIB)
            await mounted.fs.fallocate(handle, 0, 0, MIB + 10)
            assert (scratch.local / "f").read_bytes() == data[: 64 * KIB] + bytes(64 * KIB) + data[128 * KIB :] + bytes(
                10
            )
            assert await holes(mounted, handle) == [(0, 64 * KIB), (128 * KIB, MIB)] or mode is CacheMode.NONE
            target = await new_file(mounted, "g")
            assert await mounted.fs.copy_file_range(handle, 0, target, 0, 2 * MIB) == MIB + 10
            assert (scratch.local / "g").read_bytes() == (scratch.local / "f").read_bytes()


# -- copies -----------------------------------------------------------------------------------------------------------


async def test_a_copy_has_what_was_just_written_and_what_waits_of_the_target_does_not_come_later(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            source = await new_file(mounted, "f", b"0123456789")
            target = await new_file(mounted, "g", b"abcdefghij")
            assert await mounted.fs.copy_file_range(source, 2, target, 4, 3) == 3
            assert (scratch.local / "g").read_bytes() == b"abcd234hij"
            assert bytes(await mounted.fs.read(target, 0, 100)) == b"abcd234hij"
            assert await mounted.fs.copy_file_range(source, 8, target, 9, 100) == 2
            assert await mounted.fs.copy_file_range(source, 10, target, 0, 100) == 0
            assert await mounted.fs.copy_file_range(source, 0, target, 0, 0) == 0
            assert (await mounted.fs.getattr(await mounted.ino("g"))).size == 11
            assert (scratch.local / "g").read_bytes() == b"abcd234hi89"


async def test_a_long_copy_takes_several_calls(lab: Lab) -> None:
    data = some_bytes(LARGEST + 12345)
    with scratch_folder(lab) as scratch:
        scratch.file("f", data)
        async with filesystem(lab, scratch.path) as mounted:
            source, target = await mounted.open("f", os.O_RDONLY), await new_file(mounted, "g")
            counts, at = [], 0
            while count := await mounted.fs.copy_file_range(source, at, target, at, 1 << 40):
                counts.append(count)
                at += count
            assert counts == [LARGEST, 12345]
            assert (scratch.local / "g").read_bytes() == data
            await mounted.close(target)
            assert (scratch.local / "g").read_bytes() == data


async def test_a_copy_within_one_file(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            handle = await new_file(mounted, "f", b"0123456789")
            await fails(errno.EINVAL, mounted.fs.copy_file_range(handle, 0, handle, 4, 5))
            await fails(errno.EINVAL, mounted.fs.copy_file_range(handle, 4, handle, 0, 5))
            assert await mounted.fs.copy_file_range(handle, 0, handle, 5, 5) == 5
            assert (scratch.local / "f").read_bytes() == b"0123401234"


async def test_a_copy_between_servers_and_files_that_are_not_open_for_it(lab: Lab) -> None:
    async with filesystem(lab, UncPath((lab.address("ns1"), "dfs"))) as mounted:
        here = await mounted.open("link-single/hello.txt", os.O_RDONLY)
        name = f"copy-{os.getpid()}"
        there = await mounted.open(f"link-deadfirst/{name}", NEW)
        local = lab.host("fs2").share_path("data") / name
        try:
            await fails(errno.EXDEV, mounted.fs.copy_file_range(here, 0, there, 0, 10))
            await fails(errno.EBADF, mounted.fs.copy_file_range(there, 0, here, 0, 10))
            await fails(errno.EINVAL, mounted.fs.copy_file_range(here, -1, there, 0, 10))
            await fails(errno.EFBIG, mounted.fs.copy_file_range(here, 0, there, 2**63 - 5, 10))
            assert local.read_bytes() == b""
        finally:
            local.unlink()


async def test_a_copy_between_two_shares_of_one_server(lab: Lab) -> None:
    name = f"copy-{os.getpid()}"
    local = lab.host("fs1").share_path("extra") / name
    async with filesystem(lab, UncPath((lab.address("ns1"), "dfs"))) as mounted:
        source = await mounted.open("link-single/big.bin", os.O_RDONLY)
        target = await mounted.open(f"dir/sub/link/{name}", NEW)
        try:
            assert await mounted.fs.copy_file_range(source, 0, target, 0, MIB) == MIB
            assert local.read_bytes() == (lab.host("fs1").share_path("data") / "big.bin").read_bytes()[:MIB]
        finally:
            local.unlink()


# -- sizes of shares ---------------------------------------------------------------------------------------------------


async def test_the_size_of_what_has_no_name_any_more_and_of_snapshots(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            root = await mounted.fs.statfs(ROOT)
            await new_file(mounted, "f", b"data")
            ino = await mounted.ino("f")
            (scratch.local / "f").unlink()
            await trio.sleep(ACTIMEO)
            await fails(errno.ENOENT, mounted.ino("f"))
            assert (await mounted.fs.statfs(ino)).total == root.total
    async with filesystem(lab, share_of(lab, "fs3", "past")) as mounted:
        assert (await mounted.fs.statfs(await mounted.ino(".snapshots"))).total == root.total


# -- any sequence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(CHANCE))
async def test_any_sequence_of_calls(lab: Lab, number: int) -> None:
    seed = SEED + number
    with scratch_folder(lab) as scratch:
        async with filesystem(lab, scratch.path) as mounted:
            calls = RandomCalls(mounted.fs, random.Random(seed))
            try:
                await calls.begin()
                for _ in range(3):
                    for _ in range(100):
                        await calls.play()
                    await calls.check()
                await calls.end()
                for name in ("one", "two"):
                    assert (scratch.local / name).read_bytes() == calls.content(name)
            except BaseException as error:
                error.add_note(f"seed {seed}: {'; '.join(calls.trace[-50:])}")
                raise


# -- requests ---------------------------------------------------------------------------------------------------------


async def test_how_many_requests_it_takes(lab: Lab) -> None:
    """Compounds are what the line sees: each line of a list here is one round trip."""
    asked = [Command.SMB2_QUERY_INFO, Command.SMB2_IOCTL]
    with scratch_folder(lab) as scratch, Proxy(f"{lab.net}.79", lab.address("fs1")) as proxy:
        settings = TransportSettings(hosts={"FS1": proxy.address})
        folder = UncPath(("fs1", "data", *scratch.path.below_share))

        def sent() -> list[int]:
            found = list(proxy.requests)
            proxy.requests.clear()
            return found

        async with filesystem(lab, folder, settings) as mounted:
            handle = await new_file(mounted, "f", some_bytes(2 * MIB))
            await mounted.fs.fsync(handle)
            sent()
            assert await holes(mounted, handle) == [(0, 2 * MIB)]
            assert sent() == []
            await mounted.fs.fallocate(handle, PUNCH, 0, MIB)
            assert sent() == [Command.SMB2_IOCTL, Command.SMB2_IOCTL, Command.SMB2_QUERY_INFO]
            assert await mounted.fs.lseek(handle, 0, DATA) == MIB
            assert sent() == asked
            assert await mounted.fs.lseek(handle, MIB, HOLE) == 2 * MIB
            assert await mounted.fs.lseek(handle, 5, HOLE) == 5
            assert sent() == []
            await mounted.fs.getattr(await mounted.ino("f"))
            assert sent() == []
            await mounted.fs.fallocate(handle, ZERO, MIB, MIB)
            assert sent() == [Command.SMB2_IOCTL, Command.SMB2_QUERY_INFO]
            await mounted.fs.fallocate(handle, 0, 0, 3 * MIB)
            assert sent() == [
                *(Command.SMB2_SET_INFO, Command.SMB2_QUERY_INFO, Command.SMB2_QUERY_INFO),
                *(Command.SMB2_SET_INFO, Command.SMB2_QUERY_INFO),
            ]
            target = await new_file(mounted, "g")
            sent()
            assert await mounted.fs.copy_file_range(handle, 0, target, 0, 3 * MIB) == 3 * MIB
            assert sent() == [*_FEATURES, *asked, Command.SMB2_IOCTL]
            assert await mounted.fs.copy_file_range(handle, 0, target, 0, 3 * MIB) == 3 * MIB
            assert sent() == [*asked, Command.SMB2_IOCTL]
            await mounted.fs.statfs(ROOT)
            assert sent() == _FEATURES


_FEATURES = [Command.SMB2_CREATE, Command.SMB2_QUERY_INFO, Command.SMB2_CLOSE]
"""What is asked of a volume; of what it can do only once."""

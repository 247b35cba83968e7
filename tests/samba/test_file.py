"""Open files on a real server: what is written is what is there, in every dialect, and no handle outlives its user."""

from __future__ import annotations

import random
import subprocess
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import ConnectionLost, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.tree.file import MAX_TRANSFER_SIZE, MAX_TRANSFERS_IN_FLIGHT
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import Access, Command, CreateDisposition, CreateOptions, FileAttributes
from dfsfs.unc import UncPath
from tests.samba.clients import (
    BATCH_OPLOCK,
    PATIENCE,
    SPOKEN,
    change_notify,
    close_raw,
    echo,
    eventually,
    eventually_closed,
    idle,
    locked_by_another,
    nobody_has_open,
    open_pool,
    open_raw,
    paused,
    scratch_folder,
    share_of,
    to_be_restored,
)
from tests.support.fakes.proxy import Proxy
from tests.support.lab import content

if TYPE_CHECKING:
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.tree.tree import Tree
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.every_samba]

READ_WRITE = Access.READ | Access.WRITE
CREDITS = 32
every_way = pytest.mark.parametrize("spoken", SPOKEN)


async def open_to_read(tree: Tree, path: UncPath) -> RemoteFile:
    return await tree.open(path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN)


async def open_new(tree: Tree, path: UncPath) -> RemoteFile:
    return await tree.open(
        path,
        access=READ_WRITE,
        disposition=CreateDisposition.FILE_CREATE,
        options=CreateOptions.FILE_NON_DIRECTORY_FILE,
    )


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# -- data -------------------------------------------------------------------------------------------------------------


@every_way
async def test_what_is_written_lies_on_the_servers_disk(lab: Lab, spoken: str) -> None:
    """Of every size around the borders of a credit, a piece, and what is in flight at once."""
    unit = messages.CREDIT_UNIT
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            for index, size in enumerate(
                (1, unit - 1, unit, unit + 1, MAX_TRANSFER_SIZE, MAX_TRANSFER_SIZE + 1, 3 * MAX_TRANSFER_SIZE + 7)
            ):
                data = some_bytes(size, index)
                file = await open_new(tree, scratch.path.join([f"f{index}"]))
                await file.write(0, data)
                await file.flush()
                assert (scratch.local / f"f{index}").read_bytes() == data
                assert bytes(await file.read(0, size)) == data
                await file.close()


@every_way
async def test_large_transfers_with_more_pieces_than_may_be_in_flight(lab: Lab, spoken: str) -> None:
    size = (MAX_TRANSFERS_IN_FLIGHT + 3) * MAX_TRANSFER_SIZE + 12345
    data = some_bytes(size)
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await open_new(tree, scratch.path.join(["large"]))
            await file.write(0, data)
            assert bytes(await file.read(0, size + MAX_TRANSFER_SIZE)) == data
            await file.close()
        assert (scratch.local / "large").read_bytes() == data


async def test_several_files_and_tasks_at_once(lab: Lab) -> None:
    big = content.big()
    with scratch_folder(lab) as scratch:
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            source = await open_to_read(tree, scratch.share.join(["big.bin"]))

            async def copy(index: int) -> None:
                file = await open_new(tree, scratch.path.join([f"copy{index}"]))
                step = 700_000 + index
                for start in range(0, len(big), step):
                    await file.write(start, await source.read(start, step))
                await file.close()

            async with trio.open_nursery() as nursery:
                for index in range(6):
                    nursery.start_soon(copy, index)
            await source.close()
        for index in range(6):
            assert (scratch.local / f"copy{index}").read_bytes() == big


async def test_reading_at_and_behind_the_end(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        hello = await open_to_read(tree, tree.share.join(["hello.txt"]))
        size = len(content.HELLO)
        assert hello.stat.size == size
        assert bytes(await hello.read(size - 1, 100)) == content.HELLO[-1:]
        assert bytes(await hello.read(size, 100)) == b""
        assert bytes(await hello.read(10 * size, 5 * MAX_TRANSFER_SIZE)) == b""
        await hello.close()
        big = await open_to_read(tree, tree.share.join(["big.bin"]))
        start = content.BIG_SIZE - MAX_TRANSFER_SIZE - 10
        assert bytes(await big.read(start, 8 * MAX_TRANSFER_SIZE)) == content.big()[start:]
        await big.close()


async def test_writing_behind_the_end_leaves_zeros(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await open_new(tree, scratch.path.join(["sparse"]))
            await file.write(5 * MAX_TRANSFER_SIZE, b"end")
            await file.write(10, memoryview(b"a view")[2:])
            assert bytes(await file.read(0, 20)) == bytes(10) + b"view" + bytes(6)
            assert (await file.query()).size == 5 * MAX_TRANSFER_SIZE + 3
            await file.close()


async def test_an_offset_beyond_four_gib(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await open_new(tree, scratch.path.join(["far"]))
            offset = (5 << 32) + 1
            await file.write(offset, b"far away")
            assert bytes(await file.read(offset - 2, 100)) == b"\0\0far away"
            await file.set_size(0)
            await file.close()


@pytest.mark.parametrize("size", [4096, 65536, 200_000])
async def test_no_request_is_larger_than_the_mount_asks_for(lab: Lab, size: int) -> None:
    with scratch_folder(lab) as scratch, Proxy(f"{lab.net}.78", lab.address("fs1")) as proxy:
        settings = TransportSettings(read_size=size, write_size=size, hosts={"FS1": proxy.address})
        async with open_pool(lab, settings) as pool:
            share = UncPath(("fs1", "data"))
            tree = await pool.connect_tree(share)
            total = 3 * size + 10
            data = some_bytes(total)
            file = await open_new(tree, share.join([scratch.path.components[-1], "f"]))
            proxy.requests.clear()
            await file.write(0, data)
            assert proxy.requests == [Command.SMB2_WRITE] * 4
            proxy.requests.clear()
            assert bytes(await file.read(0, total)) == data
            assert proxy.requests == [Command.SMB2_READ] * 4
            await file.close()


# -- what is known of a file ------------------------------------------------------------------------------------------


@every_way
async def test_size_times_and_attributes(lab: Lab, spoken: str) -> None:
    moment = 1_600_000_000_123_456_700
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await open_new(tree, scratch.path.join(["f"]))
            assert (file.stat.size, file.stat.is_directory) == (0, False)
            await file.write(0, b"0123456789")
            await file.set_size(4)
            hidden = FileAttributes.FILE_ATTRIBUTE_HIDDEN
            await file.set_basic(fscc.encode_basic_information(None, moment - 100, moment, None, hidden))
            found = await file.query()
            assert (found.size, found.written, found.accessed) == (4, moment, moment - 100)
            assert found.attributes & hidden
            assert found.file_id != 0 and found.links == 1
            await file.set_size(100)
            assert bytes(await file.read(0, 200)) == b"0123" + bytes(96)
            await file.close()
        assert (scratch.local / "f").stat().st_size == 100


async def test_what_the_handle_does_not_permit(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        file = await open_to_read(tree, tree.share.join(["hello.txt"]))
        for attempt in (
            partial(file.write, 0, b"x"),
            partial(file.write, 0, bytes(3 * MAX_TRANSFER_SIZE)),
            partial(file.set_size, 0),
        ):
            with pytest.raises(SmbError, match=r"hello\.txt") as error:
                await attempt()
            assert error.value.status == NtStatus.ACCESS_DENIED
        assert bytes(await file.read(0, 100)) == content.HELLO
        await file.close()
        await idle(tree.connection)
        assert tree.connection.statistics().credits.outstanding == 0


# -- handles ----------------------------------------------------------------------------------------------------------


@every_way
async def test_close_leaves_no_handle(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, SPOKEN[spoken]) as pool:
            tree = await pool.connect_tree(scratch.share)
            path = scratch.file("f", b"x")
            for writes in (False, True):
                file = await tree.open(path, access=READ_WRITE, disposition=CreateDisposition.FILE_OPEN)
                assert not await nobody_has_open(tree, path)
                if writes:
                    await file.write(0, b"y")
                await file.close()
                assert not file.alive
                await file.close()
                await eventually_closed(tree, path)


async def test_a_closed_handle_is_of_no_more_use(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        file = await open_to_read(tree, tree.share.join(["hello.txt"]))
        await file.close()
        with pytest.raises(SmbError) as error:
            await file.read(0, 1)
        assert error.value.status == NtStatus.FILE_CLOSED


@every_way
async def test_an_open_that_is_given_up_while_it_is_pending_leaves_no_handle(lab: Lab, spoken: str) -> None:
    """Somebody has an oplock; the server holds the open until it is given back, or until it is cancelled."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("held")
        async with open_pool(lab, SPOKEN[spoken]) as pool, open_pool(lab) as others:
            tree, other = await pool.connect_tree(scratch.share), await others.connect_tree(scratch.share)
            holder = await open_raw(other, path, oplock=BATCH_OPLOCK)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_to_read, tree, path)
                await eventually(lambda: tree.connection.statistics().in_flight == 2)
                await tree.channel.call([echo()])  # comes after STATUS_PENDING
                nursery.cancel_scope.cancel()
            with trio.fail_after(PATIENCE):
                await idle(tree.connection)  # CANCEL has worked: the oplock is still there
            await close_raw(other, holder)
            assert await nobody_has_open(tree, path)


async def test_opens_given_up_at_any_moment_leave_no_handle(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("f")
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            opened = 0

            async def open_one() -> None:
                nonlocal opened
                file = await open_to_read(tree, path)
                opened += 1
                await file.close()

            for checkpoints in range(30):
                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(open_one)
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
            await eventually_closed(tree, path)
            assert opened < 150, "nothing was given up"
            await idle(tree.connection)
            assert tree.connection.statistics().credits.outstanding == 0


async def test_an_open_given_up_while_the_server_is_frozen_leaves_no_handle(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("f")
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            with paused(lab.host("fs1")):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(open_to_read, tree, path)
                    await eventually(lambda: tree.connection.statistics().in_flight == 40)
                    nursery.cancel_scope.cancel()
            await eventually_closed(tree, path)


# -- transfers that end early -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["read", "write"])
async def test_a_transfer_given_up_with_pieces_in_flight_and_pieces_waiting(lab: Lab, direction: str) -> None:
    """The server is frozen, so that with few credits some pieces are sent and others are not."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("f", bytes(8 * MAX_TRANSFER_SIZE))
        async with open_pool(lab, TransportSettings(max_credits=CREDITS)) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await tree.open(path, access=READ_WRITE, disposition=CreateDisposition.FILE_OPEN)
            await tree.channel.call([echo()])
            with paused(lab.host("fs1")):
                for _ in range(2):  # the second time no piece at all can be sent
                    async with trio.open_nursery() as nursery:
                        if direction == "read":
                            nursery.start_soon(file.read, 0, 8 * MAX_TRANSFER_SIZE)
                        else:
                            nursery.start_soon(file.write, 0, bytes(8 * MAX_TRANSFER_SIZE))
                        await eventually(lambda: tree.connection.statistics().queued > 0)
                        assert tree.connection.statistics().in_flight > 0
                        nursery.cancel_scope.cancel()
                    assert tree.connection.statistics().queued == 0
            await idle(tree.connection)
            assert tree.connection.statistics().credits.outstanding == 0
            assert (await file.query()).size == 8 * MAX_TRANSFER_SIZE
            await file.close()
            await eventually_closed(tree, path)


async def test_a_transfer_that_times_out(lab: Lab) -> None:
    settings = TransportSettings(request_timeout=0.2, silence_timeout=PATIENCE, max_credits=CREDITS)
    async with open_pool(lab, settings) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        file = await open_to_read(tree, tree.share.join(["big.bin"]))
        with paused(lab.host("fs1")):
            for _ in range(2):
                with trio.fail_after(PATIENCE), pytest.raises(ConnectionLost) as error:
                    await file.read(0, 8 * MAX_TRANSFER_SIZE)
                assert error.value.status == NtStatus.IO_TIMEOUT
        await idle(tree.connection)
        assert bytes(await file.read(0, 100)) == content.big()[:100]
        await file.close()


@every_way
async def test_a_write_that_a_killed_server_does_not_answer_fails(lab: Lab, spoken: str) -> None:
    host = lab.host("fs1")
    with scratch_folder(lab) as scratch, to_be_restored(host):
        async with open_pool(lab, replace(SPOKEN[spoken], silence_timeout=PATIENCE)) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await open_new(tree, scratch.path.join(["f"]))
            failed = trio.Event()

            async def write() -> None:
                with pytest.raises(ConnectionLost):
                    await file.write(0, bytes(10 * MAX_TRANSFER_SIZE))
                failed.set()

            host.pause()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await eventually(lambda: tree.connection.statistics().in_flight > 0)
                host.kill()
                with trio.fail_after(PATIENCE):
                    await failed.wait()
            assert not file.alive
            with pytest.raises(ConnectionLost):
                await file.read(0, 1)
            await file.close()  # there is nothing left to close


@pytest.mark.parametrize("use", ["read", "long read", "write", "flush", "query"])
async def test_a_share_that_is_closed_takes_its_tree_with_it(lab: Lab, use: str) -> None:
    """Whatever is tried first on the handle learns of it, so that the next to ask the pool gets a new tree."""
    host = lab.host("fs1")
    with scratch_folder(lab) as scratch:
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            file = await open_new(tree, scratch.path.join(["f"]))
            folder = await open_raw(tree, scratch.path)
            watching = tree.connection.start([change_notify(folder)], tree.route)
            await tree.channel.call([echo()])
            command = ["smbcontrol", "-s", str(host.smb_conf), "smbd", "close-share", "data"]
            await trio.to_thread.run_sync(lambda: subprocess.run(command, check=True))
            await watching.wait()  # ends with the tree
            with pytest.raises(SmbError) as error:
                match use:
                    case "read":
                        await file.read(0, 1)
                    case "long read":
                        await file.read(0, 3 * MAX_TRANSFER_SIZE)
                    case "write":
                        await file.write(0, b"x")
                    case "flush":
                        await file.flush()
                    case "query":
                        await file.query()
            assert error.value.status == NtStatus.NETWORK_NAME_DELETED
            assert not tree.alive and not file.alive and tree.connection.alive
            again = await pool.connect_tree(scratch.share)
            assert again is not tree and again.connection is tree.connection
            assert (await again.stat(scratch.path)).is_directory


async def test_an_open_whose_beginning_somebody_has_locked(lab: Lab) -> None:
    """The data does not come along, and that is all."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("locked", b"x" * 1000)
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(scratch.share)
            async with locked_by_another(lab, path, (500, 1)):
                for size, is_locked in ((1000, True), (500, False)):
                    file = await tree.open(path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN, read=size)
                    assert (file.inline_data_is_locked, file.inline_data is None, file.stat.size) == (
                        is_locked,
                        is_locked,
                        1000,
                    )
                    await file.close()
                    fetched = await tree.start_fetch(path, size).outcome()
                    assert (fetched.inline_data_is_locked, fetched.inline_data is None) == (is_locked, is_locked)
            await idle(tree.connection)

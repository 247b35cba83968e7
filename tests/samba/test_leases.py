"""Leases of real servers: granted, broken, given back, and got again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.leases import Lease, LeaseRequest
from dfsfs.smb.tree.namechanges import HANDLE_BREAK_TIMEOUT
from dfsfs.smb.wire.constants import Access, CreateDisposition, LeaseState
from tests.samba.clients import PATIENCE, PLAIN, SPOKEN, idle, open_pool, scratch_folder

if TYPE_CHECKING:
    from dfsfs.smb.connection.leases import Acknowledge
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.every_samba]

every_way = pytest.mark.parametrize("spoken", SPOKEN)
READ_WRITE = Access.READ | Access.WRITE
READ, SHARED, ALL, NONE = (
    LeaseState.SMB2_LEASE_READ_CACHING,
    LeaseState.SHARED,
    LeaseState.ALL,
    LeaseState.SMB2_LEASE_NONE,
)


class Client:
    """One client with one file open under a lease. Breaks are acknowledged when `agree` is called."""

    def __init__(self, tree: Tree, path: UncPath) -> None:
        self.tree = tree
        self.path = path
        self.apply_break: list[LeaseState] = []
        self._waiting: list[Acknowledge] = []
        self.event = trio.Event()
        lease = tree.make_lease(path)
        assert lease is not None
        self.lease: Lease = lease
        self.lease.on_break = self._on_break

    def _on_break(self, before: LeaseState, acknowledge: Acknowledge) -> None:
        self.apply_break.append(before)
        self._waiting.append(acknowledge)
        self.event.set()

    async def open(self, wanted: LeaseState, access: Access = READ_WRITE) -> RemoteFile:
        request = LeaseRequest(self.lease, wanted)
        return await self.tree.open(self.path, access=access, disposition=CreateDisposition.FILE_OPEN, lease=request)

    async def agree(self) -> None:
        """Waits for a break, and says yes."""
        with trio.fail_after(PATIENCE):
            await self.event.wait()
        self.event = trio.Event()
        while self._waiting:
            self._waiting.pop()()

    async def give_back(self, file: RemoteFile) -> None:
        """Closes the file as soon as it is asked for its handle."""
        await self.event.wait()
        assert not self.lease.state & LeaseState.SMB2_LEASE_HANDLE_CACHING
        file.discard()
        await self.agree()


@every_way
async def test_who_is_alone_gets_everything_and_gives_back_what_others_need(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab, SPOKEN[spoken]) as pool, open_pool(lab, SPOKEN[spoken]) as other_pool:
            one, two = (
                Client(await pool.connect_tree(path.share), path),
                Client(await other_pool.connect_tree(path.share), path),
            )
            first = await one.open(ALL)
            assert one.lease.state == ALL
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.agree)
                second = await two.open(ALL)
            assert (one.apply_break, one.lease.state, two.lease.state) == ([ALL], SHARED, SHARED)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.agree)
                await second.write(0, b"DATA")
            assert one.lease.state == NONE and one.apply_break == [ALL, SHARED]
            assert bytes(await first.read(0, 4)) == b"DATA"
            await idle(one.tree.connection)
            await one.tree.renew(path, Access.READ, LeaseRequest(one.lease, SHARED))
            assert one.lease.state == SHARED
            await first.close()
            await second.close()
            assert one.lease.state == two.lease.state == NONE


async def test_an_open_waits_for_the_acknowledgement(lab: Lab) -> None:
    """What the server promises to the one who opens is only true once the other has written what it had."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool, open_pool(lab) as other_pool:
            one, two = (
                Client(await pool.connect_tree(path.share), path),
                Client(await other_pool.connect_tree(path.share), path),
            )
            first = await one.open(ALL)
            seen: list[bytes] = []

            async def look() -> None:
                second = await two.open(SHARED, Access.READ)
                seen.append(bytes(await second.read(0, 4)))
                await second.close()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                with trio.fail_after(PATIENCE):
                    await one.event.wait()
                await first.write(0, b"LAST")
                assert seen == []
                await one.agree()
            assert seen == [b"LAST"]
            await first.close()


async def test_handles_under_one_lease_do_not_disturb_each_other(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool:
            client = Client(await pool.connect_tree(path.share), path)
            reader = await client.open(SHARED, Access.READ)
            assert client.lease.state == SHARED
            writer = await client.open(ALL)
            assert client.lease.state == ALL
            await writer.write(0, b"DATA")
            assert bytes(await reader.read(0, 4)) == b"DATA"
            await writer.close()
            assert client.lease.state == ALL and client.apply_break == []
            await reader.close()


async def test_a_stat_of_others_costs_no_lease(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool, open_pool(lab) as other_pool:
            client = Client(await pool.connect_tree(path.share), path)
            file = await client.open(ALL)
            assert (await (await other_pool.connect_tree(path.share)).stat(path)).size == 4
            await idle(client.tree.connection)
            assert client.apply_break == [] and client.lease.state == ALL
            await file.close()


async def test_a_file_that_is_open_here_can_be_removed_there(lab: Lab) -> None:
    """Samba 4.22 asks for the handle first. 4.17 does not, and so a lease is no promise about the name there."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool, open_pool(lab) as other_pool:
            client, other = Client(await pool.connect_tree(path.share), path), await other_pool.connect_tree(path.share)
            file = await client.open(SHARED, Access.READ)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.give_back, file)
                with trio.fail_after(PATIENCE):
                    await other.remove_file(path)
                nursery.cancel_scope.cancel()
            file.discard()
            await idle(client.tree.connection)
            assert not (scratch.local / "file").exists()


async def test_who_only_keeps_a_handle_does_not_hold_what_is_removed(lab: Lab) -> None:
    """The open of a removal shares nothing, and for that even Samba 4.17 asks for the handle."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool, open_pool(lab) as other_pool:
            client, other = Client(await pool.connect_tree(path.share), path), await other_pool.connect_tree(path.share)
            file = await client.open(SHARED, Access.READ)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.give_back, file)
                await other.remove_file(path)
            assert client.apply_break == [SHARED] and not (scratch.local / "file").exists()


async def test_who_does_not_answer_is_asked_for_a_moment_only(lab: Lab) -> None:
    """Nothing of that request is left on the server when it is given up: a new file of the name stays."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool, open_pool(lab) as other_pool:
            client, other = Client(await pool.connect_tree(path.share), path), await other_pool.connect_tree(path.share)
            file = await client.open(SHARED, Access.READ)
            started = trio.current_time()
            assert not await other.break_handle_leases(path)
            assert HANDLE_BREAK_TIMEOUT <= trio.current_time() - started < 2 * HANDLE_BREAK_TIMEOUT
            await idle(other.connection)
            await file.close()
            scratch.file("file", b"another")
            assert (await other.stat(path)).size == 7
            assert await other.break_handle_leases(path)


async def test_a_lease_ends_with_its_connection(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.file("file", b"data")
        async with open_pool(lab) as pool:
            client = Client(await pool.connect_tree(path.share), path)
            file = await client.open(ALL)
            client.tree.connection.close()
            await client.agree()
            assert client.apply_break == [ALL] and client.lease.state == NONE
            await file.close()


async def test_a_file_that_can_not_be_opened_leaves_no_lease(lab: Lab) -> None:
    with scratch_folder(lab) as scratch:
        path = scratch.path.join(["nothing"])
        async with open_pool(lab) as pool:
            client = Client(await pool.connect_tree(path.share), path)
            with pytest.raises(Exception, match="nothing") as caught:
                await client.open(ALL)
            assert getattr(caught.value, "status", None) == NtStatus.OBJECT_NAME_NOT_FOUND
            assert client.tree.connection.leases.get(client.lease.key) is None


@pytest.mark.parametrize("spoken", PLAIN)
async def test_the_version_goes_with_the_dialect(lab: Lab, spoken: str) -> None:
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, PLAIN[spoken]) as pool:
            client = Client(await pool.connect_tree(scratch.share), scratch.path)
            assert client.lease.version == (1 if spoken == "2.1" else 2)

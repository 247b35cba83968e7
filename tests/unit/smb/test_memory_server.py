"""The server in memory: that it does what real servers do, and that a test can hold what it does."""

from __future__ import annotations

import errno
import stat as posix
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfsfs.errors import ConnectionLost, Disposition, PosixError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.tree.ranges import copy_chunks
from dfsfs.smb.wire.constants import Access, CreateDisposition, LeaseState
from dfsfs.smb.wire.copychunk import Range
from dfsfs.smb.wire.fscc import FileStat, encode_basic_information
from dfsfs.smb.wire.reparse import SpecialFile
from tests.samba.battery import CHECKS, Bench, Leased, both, status_of
from tests.support.fakes.server.client import CREDITS, SHARE, connected, transport_of
from tests.support.fakes.server.server import Server
from tests.support.fakes.server.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_does_what_real_servers_do(check: Callable[[Bench], Awaitable[None]]) -> None:
    server = Server()
    server.volume.add_folder("scratch")
    async with connected(server, "one") as one, connected(server, "two") as two:
        await check(Bench(one, two, SHARE.join(["scratch"])))
        assert one.alive and two.alive


# -- requests and answers are held ------------------------------------------------------------------------------------

OPEN = CreateDisposition.FILE_OPEN
FILE = SHARE.join(["file"])


def holding() -> Server:
    server = Server()
    server.volume.add_file("file", b"data")
    server.volume.add_file("other", b"other")
    return server


async def begun(nursery: trio.Nursery, action: Callable[[], Awaitable[object]]) -> list[object]:
    """Starts something, and gives the list that its result will be in."""
    results: list[object] = []

    async def run() -> None:
        results.append(await action())

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    return results


async def test_a_request_is_carried_out_and_answered_when_the_test_says_so() -> None:
    server = holding()
    async with connected(server) as tree, trio.open_nursery() as nursery:
        server.holds = True
        results = await begun(nursery, lambda: tree.stat(FILE))
        (held,) = server.requests
        assert str(held) == "#2 CREATE file OPEN look + QUERY_INFO + CLOSE"
        server.volume.at("file").data += b" and more"
        server.apply(held)
        server.volume.at("file").data.clear()
        assert not server.requests and not results
        (answer,) = server.messages
        assert str(answer) == "#2 SUCCESS SUCCESS SUCCESS"
        server.let_go(answer)
        await trio.testing.wait_all_tasks_blocked()
        (stat,) = results
        assert isinstance(stat, FileStat) and stat.size == len(b"data and more")


async def test_requests_of_one_client_are_carried_out_and_answered_in_any_order() -> None:
    server = holding()
    async with connected(server) as tree, trio.open_nursery() as nursery:
        server.holds = True
        one = await begun(nursery, lambda: tree.stat(FILE))
        two = await begun(nursery, lambda: tree.stat(SHARE.join(["other"])))
        first, second = server.requests
        server.apply(second)
        server.apply(first)
        answers = list(server.messages)
        assert [answer.request for answer in answers] == [second, first]
        server.let_go(answers[1])
        await trio.testing.wait_all_tasks_blocked()
        assert one and not two
        server.let_go(answers[0])
        await trio.testing.wait_all_tasks_blocked()
        assert two


async def test_a_request_that_needs_an_acknowledgement_waits_half_done() -> None:
    server = holding()
    async with connected(server, "one") as one, connected(server, "two") as two, trio.open_nursery() as nursery:
        leased = Leased(one, FILE)
        file = await leased.open()
        server.holds = True
        results = await begun(nursery, lambda: two.set_size(FILE, 1))
        (held,) = server.requests
        server.apply(held)
        assert held.waits and not server.may_apply(held)
        (notification,) = server.messages
        assert notification.request is None
        server.let_go(notification)
        await leased.agree()
        await trio.testing.wait_all_tasks_blocked()
        _, acknowledgement = server.requests
        server.apply(acknowledgement)
        assert server.may_apply(held)
        server.holds = False
        server.run()
        await trio.testing.wait_all_tasks_blocked()
        assert len(results) == 1 and isinstance(results[0], FileStat) and results[0].size == 1
        assert server.volume.at("file").data == b"d"
        await leased.agree()
        await file.close()


async def test_a_break_reaches_a_client_after_the_answer_that_granted_what_it_takes() -> None:
    server = holding()
    async with connected(server, "one") as one, connected(server, "two") as two, trio.open_nursery() as nursery:
        leased = Leased(one, FILE)
        server.holds = True
        results = await begun(nursery, leased.open)
        server.apply(server.requests[0])
        await begun(nursery, lambda: two.set_size(FILE, 1))
        server.apply(server.requests[0])
        granting, notification = server.messages
        assert server.may_let_go(granting) and not server.may_let_go(notification)
        server.let_go(granting)
        assert server.may_let_go(notification)
        server.holds = False
        server.run()
        await leased.agree()
        await trio.testing.wait_all_tasks_blocked()
        await leased.agree()
        assert len(results) == 1 and leased.lease.state == LeaseState.SMB2_LEASE_NONE


@pytest.mark.parametrize("applied", [False, True])
async def test_a_cut_loses_what_is_under_way_and_closes_what_is_open(applied: bool) -> None:
    server = holding()
    async with connected(server, "one") as one, connected(server, "two") as two:
        file = await one.open(FILE, access=Access.READ, disposition=OPEN)
        server.holds = True
        async with trio.open_nursery() as nursery:

            async def fails() -> None:
                with pytest.raises(ConnectionLost):
                    await one.remove_file(SHARE.join(["other"]))

            nursery.start_soon(fails)
            await trio.testing.wait_all_tasks_blocked()
            if applied:
                server.apply(server.requests[0])
            transport_of(one).server.cut()
        assert not one.alive and not file.alive and server.opens == 0
        server.holds = False
        names = {entry.name async for batch in two.list(SHARE) for entry in batch}
        assert names == ({"file"} if applied else {"file", "other"})


async def test_credits_are_given_back() -> None:
    server = holding()
    async with connected(server) as tree:
        for _ in range(200):
            await tree.stat(FILE)
        statistics = tree.connection.statistics()
        assert statistics.credits.available == transport_of(tree).server.credits == CREDITS
        assert statistics.credits.outstanding == 0


@pytest.mark.parametrize("sent", [False, True])
async def test_a_close_that_is_given_up_closes_all_the_same(sent: bool) -> None:
    """`sent`: the server has the CLOSE already; if not, there are no credits for it yet."""
    server = holding()
    async with connected(server) as tree:
        file = await tree.open(FILE, access=Access.READ | Access.WRITE, disposition=OPEN)
        await file.write(0, b"new")
        server.holds = True
        reads = [file.start_read(0, 1) for _ in range(0 if sent else CREDITS)]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await begun(nursery, file.close)
                scope.cancel()
        for read in reads:
            read.abandon()
        assert server.opens == 1
        server.holds = False
        server.run()
        await trio.testing.wait_all_tasks_blocked()
        assert server.opens == 0 and tree.alive


async def test_a_mistake_in_what_moves_bytes_ends_the_connection_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = holding()
    async with connected(server) as tree:

        async def receive_into(buffer: memoryview) -> int:
            raise LookupError("as the test wants it")

        await tree.stat(FILE)
        monkeypatch.setattr(transport_of(tree), "receive_into", receive_into)
        with pytest.raises(ConnectionLost):
            for _ in range(2):  # the reader may have been waiting already
                await tree.stat(FILE)
        assert not tree.alive
    assert "as the test wants it" in caplog.text
    caplog.clear()


# -- what other servers do otherwise ----------------------------------------------------------------------------------


async def test_where_case_matters_there_are_two_names() -> None:
    server = Server(Volume(case_sensitive=True))
    server.volume.add_file("name", b"1")
    server.volume.add_file("NAME", b"22")
    async with connected(server) as tree:
        assert [(await tree.stat(SHARE.join([name]))).size for name in ("name", "NAME")] == [1, 2]
        with pytest.raises(SmbError) as caught:
            await tree.stat(SHARE.join(["Name"]))
        assert caught.value.status == NtStatus.OBJECT_NAME_NOT_FOUND


async def test_where_case_does_not_matter_a_name_keeps_its_own() -> None:
    server = Server()
    server.volume.add_file("Name", b"1")
    async with connected(server) as tree:
        assert (await tree.stat(SHARE.join(["nAME"]))).size == 1
        await tree.rename(SHARE.join(["name"]), SHARE.join(["NAME"]), replace=False)
        assert [entry.name async for batch in tree.list(SHARE) for entry in batch] == ["NAME"]


async def test_ids_can_be_used_again() -> None:
    server = holding()
    server.volume.reuses_ids = True
    async with connected(server) as tree:
        before = (await tree.stat(FILE)).file_id
        await tree.remove_file(FILE)
        made = await tree.make_directory(SHARE.join(["new"]))
        assert made.file_id == before


async def test_renames_can_wait_for_handles() -> None:
    server = holding()
    server.volume.renames_break_leases = True
    async with connected(server, "one") as one, connected(server, "two") as two:
        leased = Leased(one, FILE)
        file = await leased.open(LeaseState.SHARED, Access.READ)
        await both(leased.agree, lambda: two.rename(FILE, SHARE.join(["new"]), replace=False))
        assert leased.breaks == [(LeaseState.SHARED, LeaseState.SMB2_LEASE_READ_CACHING)]
        await file.close()


@pytest.mark.parametrize("switch", ["any_open_bars_replacing", "read_only_bars_replacing"])
async def test_replacing_can_be_barred_as_on_windows(switch: str) -> None:
    server = holding()
    setattr(server.volume, switch, True)
    async with connected(server, "one") as one, connected(server, "two") as two:
        file = await two.open(FILE, access=Access.READ, disposition=OPEN)
        await one.set_basic(FILE, encode_basic_information(None, None, None, None, 1))
        replacing = one.rename(SHARE.join(["other"]), FILE, replace=True)
        assert await status_of(replacing) == NtStatus.ACCESS_DENIED
        await file.close()


async def test_long_listings_come_in_pieces() -> None:
    server = Server()
    for number in range(2000):
        server.volume.add_file(f"a file with a long name {number:04}")
    async with connected(server) as tree:
        batches = [batch async for batch in tree.list(SHARE)]
        assert len(batches) > 1 and sum(map(len, batches)) == 2000
        transport_of(tree).server.session.entries_at_once = 3
        assert sum([len(batch) async for batch in tree.list(SHARE)]) == 2000


@pytest.mark.parametrize(("entries_at_once", "stays_open"), [(0, False), (3, True)])
async def test_a_folder_is_open_no_longer_than_until_its_last_entry_has_come(
    entries_at_once: int, stays_open: bool
) -> None:
    """However long whoever lists it takes with each: as long as it is open, it can't be removed."""
    server = Server()
    for number in range(10):
        server.volume.add_file(f"file {number}")
    async with connected(server) as tree:
        transport_of(tree).server.session.entries_at_once = entries_at_once
        listing = tree.list(SHARE)
        found = list(await anext(listing))
        await trio.testing.wait_all_tasks_blocked()
        assert server.opens == stays_open
        found += [entry async for batch in listing for entry in batch]
        assert len(found) == 10
        await trio.testing.wait_all_tasks_blocked()
        assert server.opens == 0


@pytest.mark.parametrize("cluster", [(8, 0), (0, 512), (2**32 - 1, 2**32 - 1)])
async def test_nonsense_about_the_volume_is_an_error_and_no_reason_to_leave_the_target(
    cluster: tuple[int, int],
) -> None:
    server = holding()
    server.volume.cluster = cluster
    async with connected(server) as tree:
        with pytest.raises(PosixError, match="clusters") as raised:
            await tree.volume_size()
        assert raised.value.errno == errno.EIO and raised.value.disposition is Disposition.RETURN
        assert tree.alive


async def test_what_else_the_file_system_asks() -> None:
    server = holding()
    server.volume.add_file("empty")
    async with connected(server) as tree:
        size = await tree.volume_size()
        assert 0 < size.free < size.total
        assert await tree.xattrs.query_features() == 0
        assert await tree.xattrs.read_eas(FILE) == {}
        await tree.xattrs.set_ea(FILE, b"NAME", b"value")
        assert await tree.xattrs.read_eas(FILE) == {b"NAME": b"value"}
        assert await tree.xattrs.list_streams(FILE) == {}
        link = await tree.special.make(SHARE.join(["link"]), SpecialFile(posix.S_IFLNK, "file"))
        assert link.special == SpecialFile(posix.S_IFLNK, "file")
        source = await tree.open(FILE, access=Access.READ, disposition=OPEN)
        target = await tree.open(SHARE.join(["empty"]), access=Access.READ | Access.WRITE, disposition=OPEN)
        assert await copy_chunks(target, source, Range(1, 0, 3)) == 3
        await target.flush()
        assert bytes(await target.read(0, 10)) == b"ata"
        await source.close()
        await target.close()
        assert server.opens == 0

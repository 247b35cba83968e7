"""One connection to a real server: every dialect, credits, compounds, what is held pending, and every kind of end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfsfs.errors import ConnectionLost, Disposition, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import (
    Access,
    Cipher,
    Command,
    CreateDisposition,
    Dialect,
    FileInformationClass,
    InfoType,
    SigningAlgorithm,
)
from dfsfs.smb.wire.messages import RELATED_FILE_ID
from dfsfs.unc import UncPath
from tests.samba.clients import (
    BATCH_OPLOCK,
    PATIENCE,
    SEALED,
    SPOKEN,
    change_notify,
    close_raw,
    echo,
    encode_open,
    eventually,
    idle,
    nobody_has_open,
    open_pool,
    open_raw,
    paused,
    scratch_folder,
    share_of,
    to_be_restored,
)
from tests.support.fakes.proxy import NEGOTIATE, SESSION_SETUP, Proxy
from tests.support.lab import content

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.tree.tree import Tree
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.every_samba]

CREDITS = 64
EXPECTED = {
    "2.1": (Dialect.SMB_2_1, SigningAlgorithm.HMAC_SHA256, None),
    "3.0": (Dialect.SMB_3_0, SigningAlgorithm.AES_CMAC, Cipher.AES_128_CCM),
    "3.0.2": (Dialect.SMB_3_0_2, SigningAlgorithm.AES_CMAC, Cipher.AES_128_CCM),
    "3.1.1": (Dialect.SMB_3_1_1, SigningAlgorithm.AES_GMAC, Cipher.AES_128_GCM),
}
every_way = pytest.mark.parametrize("spoken", SPOKEN)


def proxied(lab: Lab) -> str:
    """An address of the lab's network where a proxy may listen."""
    return f"{lab.net}.77"


async def read_hello(tree: Tree) -> bytes:
    file = await tree.open(tree.share.join(["hello.txt"]), access=Access.READ, disposition=CreateDisposition.FILE_OPEN)
    data = bytes(await file.read(0, 1000))
    await file.close()
    return data


def available(connection: Connection) -> int:
    return connection.statistics().credits.available


async def full_of_credits(tree: Tree) -> None:
    """Asks until the connection has as many credits as it wants."""
    for _ in range(10):
        await tree.channel.call([echo()])
        if available(tree.connection) == CREDITS:
            return
    pytest.fail(f"the server gives no more than {available(tree.connection)} credits")


async def all_fail(tree: Tree, count: int, end: Callable[[], None]) -> list[ConnectionLost]:
    """What `count` callers get whose requests are under way when `end` is called."""
    caught: list[ConnectionLost] = []

    async def ask() -> None:
        with pytest.raises(ConnectionLost) as error:
            await tree.stat(tree.share.join(["hello.txt"]))
        caught.append(error.value)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(ask)
            await eventually(lambda: tree.connection.statistics().in_flight > 0)
            end()
    return caught


# -- from negotiate to the first answer -------------------------------------------------------------------------------


@every_way
async def test_negotiate_session_and_tree(lab: Lab, spoken: str) -> None:
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        found = tree.connection.negotiated
        assert (found.dialect, found.signing, found.cipher) == EXPECTED[spoken.removesuffix(" sealed")]
        assert tree.route.seal == (spoken in SEALED)
        assert await read_hello(tree) == content.HELLO
        assert lab.host("fs1").connections() == 1
    assert lab.host("fs1").connections() == 0


@every_way
async def test_a_session_that_the_server_does_not_know_to_be_lost_is_in_nobodys_way(lab: Lab, spoken: str) -> None:
    """Its files are closed when the client logs in again (MS-SMB2 3.3.5.5.3), and not when the server has noticed."""
    with Proxy(proxied(lab), lab.address("fs1")) as proxy:
        async with (
            open_pool(lab, replace(SPOKEN[spoken], hosts={"FS1": proxy.address})) as pool,
            open_pool(lab) as other,
        ):
            observer = await other.connect_tree(share_of(lab, "fs1", "data"))
            path = observer.share.join(["hello.txt"])
            share = UncPath(("fs1", "data"))
            tree = await pool.connect_tree(share)
            await open_raw(tree, share.join(["hello.txt"]))
            proxy.lose()
            await eventually(lambda: not tree.alive)
            assert not await nobody_has_open(observer, path)
            await pool.connect_tree(share)
            assert await nobody_has_open(observer, path)


async def test_of_all_dialects_the_newest_is_agreed_on(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        assert tree.connection.negotiated.dialect is Dialect.SMB_3_1_1


@pytest.mark.parametrize("spoken", SEALED)
async def test_on_a_sealed_session_only_the_handshake_is_in_the_clear(lab: Lab, spoken: str) -> None:
    with Proxy(proxied(lab), lab.address("fs1")) as proxy:
        hosts = {"FS1": proxy.address}
        async with open_pool(lab, replace(SPOKEN[spoken], hosts=hosts)) as pool:
            tree = await pool.connect_tree(UncPath(("fs1", "data")))
            assert await read_hello(tree) == content.HELLO
        assert set(proxy.requests) == {NEGOTIATE, SESSION_SETUP}
        assert proxy.frames > len(proxy.requests)


async def test_without_sealing_the_proxy_sees_the_requests(lab: Lab) -> None:
    """What the test above takes for the absence of requests is not the proxy's blindness."""
    with Proxy(proxied(lab), lab.address("fs1")) as proxy:
        async with open_pool(lab, replace(SPOKEN["3.1.1"], hosts={"FS1": proxy.address})) as pool:
            assert await read_hello(await pool.connect_tree(UncPath(("fs1", "data")))) == content.HELLO
        assert {Command.SMB2_TREE_CONNECT, Command.SMB2_CREATE, Command.SMB2_READ, Command.SMB2_CLOSE} <= set(
            proxy.requests
        )


# -- echo and silence -------------------------------------------------------------------------------------------------


@every_way
async def test_echo_with_and_without_a_session(lab: Lab, spoken: str) -> None:
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        for route in (tree.route, Route()):
            (response,) = await tree.connection.call([echo()], route)
            assert response.status == NtStatus.SUCCESS


async def test_an_idle_connection_is_kept_alive_by_echoes(lab: Lab) -> None:
    async with open_pool(lab, TransportSettings(echo_interval=0.05, silence_timeout=PATIENCE)) as pool:
        connection = (await pool.connect_tree(share_of(lab, "fs1", "data"))).connection
        sent, received = connection.statistics().requests_sent, connection.statistics().bytes_received
        await eventually(lambda: connection.statistics().requests_sent >= sent + 3)
        await idle(connection)
        assert connection.statistics().bytes_received > received
        assert connection.alive


async def test_an_idle_connection_to_a_frozen_server_is_found_out_by_an_echo(lab: Lab) -> None:
    async with open_pool(lab, TransportSettings(echo_interval=0.1, silence_timeout=0.4)) as pool:
        connection = (await pool.connect_tree(share_of(lab, "fs1", "data"))).connection
        with paused(lab.host("fs1")):
            await eventually(lambda: not connection.alive)
        with pytest.raises(ConnectionLost) as error:
            await connection.call([echo()], Route())
        assert error.value.status == NtStatus.IO_TIMEOUT


async def test_a_frozen_server_costs_its_callers_the_silence_timeout_and_no_more(lab: Lab) -> None:
    async with open_pool(lab, TransportSettings(silence_timeout=0.5)) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        begun = trio.current_time()
        with paused(lab.host("fs1")):
            caught = await all_fail(tree, 30, lambda: None)
        assert 0.4 < trio.current_time() - begun < 5
        assert {error.status for error in caught} == {NtStatus.IO_TIMEOUT}
        assert {error.disposition for error in caught} == {Disposition.RECONNECT}
        assert not tree.alive


async def test_a_caller_has_its_own_timeout_and_the_connection_goes_on(lab: Lab) -> None:
    settings = TransportSettings(request_timeout=0.3, silence_timeout=PATIENCE)
    async with open_pool(lab, settings) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        with paused(lab.host("fs1")):
            with pytest.raises(ConnectionLost, match="CREATE was not answered") as error:
                await tree.stat(tree.share)
        assert error.value.status == NtStatus.IO_TIMEOUT
        await idle(tree.connection)
        assert tree.alive
        assert await read_hello(tree) == content.HELLO


# -- credits ----------------------------------------------------------------------------------------------------------


@every_way
async def test_far_more_requests_than_credits_and_none_is_lost(lab: Lab, spoken: str) -> None:
    async with open_pool(lab, replace(SPOKEN[spoken], max_credits=CREDITS)) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        await full_of_credits(tree)
        hello = tree.share.join(["hello.txt"])

        async def ask() -> None:
            assert (await tree.stat(hello)).size == len(content.HELLO)

        async with trio.open_nursery() as nursery:
            with paused(lab.host("fs1")):
                for _ in range(3 * CREDITS):
                    nursery.start_soon(ask)
                # Each asks with a compound of three requests.
                await eventually(lambda: tree.connection.statistics().queued > 2 * CREDITS)
                assert tree.connection.statistics().in_flight <= CREDITS
        assert tree.connection.statistics().credits.outstanding == 0
        assert available(tree.connection) == CREDITS


@every_way
async def test_dear_requests_and_cheap_ones_together_lose_no_credit(lab: Lab, spoken: str) -> None:
    """big.bin in pieces of up to 16 credits each, from several tasks, and single credits among them."""
    async with open_pool(lab, replace(SPOKEN[spoken], max_credits=CREDITS)) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        await full_of_credits(tree)
        big, path = content.big(), tree.share.join(["big.bin"])
        file = await tree.open(path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN)

        async def read_all(start: int) -> None:
            assert bytes(await file.read(start, len(big))) == big[start:]

        for _ in range(4):
            async with trio.open_nursery() as nursery:
                for index in range(3):
                    nursery.start_soon(read_all, index * 1000)
                    nursery.start_soon(tree.stat, path)
            await idle(tree.connection)
            # Samba adds up to 15 credits to each answer of a request of 16; the window must not grow with every round.
            assert CREDITS <= available(tree.connection) < 3 * CREDITS
        await file.close()


async def test_calls_given_up_at_any_moment_lose_no_credit(lab: Lab) -> None:
    async with open_pool(lab, TransportSettings(max_credits=CREDITS)) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        await full_of_credits(tree)
        path = tree.share.join(["hello.txt"])
        for checkpoints in range(12):
            async with trio.open_nursery() as nursery:
                for _ in range(2 * CREDITS):
                    nursery.start_soon(tree.stat, path)
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        await idle(tree.connection)
        await full_of_credits(tree)
        assert tree.connection.statistics().credits.outstanding == 0


# -- compounds --------------------------------------------------------------------------------------------------------


@every_way
async def test_a_related_compound_is_one_frame_and_answered_in_order(lab: Lab, spoken: str) -> None:
    with Proxy(proxied(lab), lab.address("fs1")) as proxy:
        async with open_pool(lab, replace(SPOKEN[spoken], hosts={"FS1": proxy.address})) as pool:
            tree = await pool.connect_tree(UncPath(("fs1", "data")))
            before = proxy.frames
            responses = await tree.channel.call(
                [
                    encode_open(tree, tree.share.join(["hello.txt"])),
                    messages.encode_query_info(
                        RELATED_FILE_ID, InfoType.SMB2_0_INFO_FILE, FileInformationClass.FILE_ALL_INFORMATION, 4096
                    ),
                    messages.encode_read(RELATED_FILE_ID, 0, 100),
                    messages.encode_close(RELATED_FILE_ID),
                ]
            )
            assert proxy.frames == before + 1
        assert [response.status for response in responses] == [NtStatus.SUCCESS] * 4
        commands = [response.header.command for response in responses]
        assert commands == [Command.SMB2_CREATE, Command.SMB2_QUERY_INFO, Command.SMB2_READ, Command.SMB2_CLOSE]
        assert bytes(messages.decode_read(responses[2].message, 100)) == content.HELLO


@every_way
async def test_a_compound_that_fails_at_the_start_fails_as_a_whole(lab: Lab, spoken: str) -> None:
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        missing = encode_open(tree, tree.share.join(["missing"]))
        responses = await tree.channel.call(
            [missing, messages.encode_read(RELATED_FILE_ID, 0, 9), messages.encode_close(RELATED_FILE_ID)]
        )
        assert [response.status for response in responses] == [NtStatus.OBJECT_NAME_NOT_FOUND] * 3
        assert tree.alive


# -- what the server holds pending ------------------------------------------------------------------------------------


@every_way
async def test_what_is_pending_is_answered_when_its_time_comes(lab: Lab, spoken: str) -> None:
    """And a server that has only promised an answer is not silent, however long that takes."""
    settings = replace(SPOKEN[spoken], silence_timeout=0.2)
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, settings) as pool:
            tree = await pool.connect_tree(scratch.share)
            folder = await open_raw(tree, scratch.path)
            watching = tree.connection.start([change_notify(folder)], tree.route)
            await tree.channel.call([echo()])
            with trio.move_on_after(0.5) as waited:
                await watching.wait()
            assert waited.cancelled_caught and tree.alive
            watching = tree.connection.start([change_notify(folder)], tree.route)
            await tree.channel.call([echo()])
            await tree.make_directory(scratch.path.join(["new"]))
            with trio.fail_after(PATIENCE):
                (response,) = await watching.wait()
            assert response.status == NtStatus.SUCCESS
            assert "new".encode("utf-16-le") in bytes(messages.decode_output(response.message))
            await close_raw(tree, folder)


@every_way
async def test_giving_up_what_is_pending_cancels_it_at_the_server(lab: Lab, spoken: str) -> None:
    """CANCEL takes no credit; the STATUS_CANCELLED that comes of it returns what the request has taken."""
    with scratch_folder(lab) as scratch:
        async with open_pool(lab, replace(SPOKEN[spoken], max_credits=CREDITS)) as pool:
            tree = await pool.connect_tree(scratch.share)
            await full_of_credits(tree)
            folder = await open_raw(tree, scratch.path)
            for _ in range(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tree.channel.call, [change_notify(folder)])
                    await eventually(lambda: tree.connection.statistics().in_flight == 1)
                    await tree.channel.call([echo()])  # answered after STATUS_PENDING
                    nursery.cancel_scope.cancel()
                await idle(tree.connection)
            await close_raw(tree, folder)
            assert available(tree.connection) == CREDITS


async def test_a_compound_whose_open_is_held_pending(lab: Lab) -> None:
    """Somebody has the file with an oplock and takes his time to give it up: the server is not silent for that."""
    with scratch_folder(lab) as scratch:
        path = scratch.file("held", b"content")
        async with open_pool(lab, TransportSettings(silence_timeout=0.5)) as pool, open_pool(lab) as others:
            tree, other = await pool.connect_tree(scratch.share), await others.connect_tree(scratch.share)
            holder = await open_raw(other, path, oplock=BATCH_OPLOCK)
            requests = [
                encode_open(tree, path),
                messages.encode_read(RELATED_FILE_ID, 0, 100),
                messages.encode_close(RELATED_FILE_ID),
            ]
            opening = tree.connection.start(requests, tree.route)
            await tree.channel.call([echo()])
            assert tree.connection.statistics().in_flight == 3
            await trio.sleep(3 * 0.5)  # a time that has to pass: it must not be taken for silence
            await close_raw(other, holder)
            with trio.fail_after(PATIENCE):
                responses = await opening.wait()
            assert [response.status for response in responses] == [NtStatus.SUCCESS] * 3
            assert bytes(messages.decode_read(responses[1].message, 100)) == b"content"


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_a_killed_server_fails_all_who_wait(lab: Lab) -> None:
    host = lab.host("fs1")
    with to_be_restored(host):
        async with open_pool(lab, TransportSettings(max_credits=CREDITS)) as pool:
            tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
            host.pause()
            caught = await all_fail(tree, 3 * CREDITS, host.kill)
            assert len(caught) == 3 * CREDITS
            assert {error.disposition for error in caught} == {Disposition.RECONNECT}
            assert not tree.alive and not tree.connection.alive
            with pytest.raises(ConnectionLost) as again:
                await tree.stat(tree.share)
            assert again.value is caught[0], "the error that ended the connection is the one that is remembered"


async def test_a_server_killed_in_the_middle_of_a_transfer(lab: Lab) -> None:
    host = lab.host("fs1")
    with to_be_restored(host):
        async with open_pool(lab) as pool:
            tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
            file = await tree.open(
                tree.share.join(["big.bin"]), access=Access.READ, disposition=CreateDisposition.FILE_OPEN
            )
            big, ended = content.big(), []

            async def read_for_ever() -> None:
                try:
                    while True:
                        assert bytes(await file.read(0, len(big))) == big
                except ConnectionLost as error:
                    ended.append(error)

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    for _ in range(4):
                        nursery.start_soon(read_for_ever)
                    before = tree.connection.statistics().bytes_received
                    await eventually(lambda: tree.connection.statistics().bytes_received > before + len(big))
                    host.kill()
            assert len(ended) == 4
            assert not file.alive


async def test_a_server_that_ends_closes_the_connection_of_an_idle_client(lab: Lab) -> None:
    host = lab.host("fs1")
    with to_be_restored(host):
        async with open_pool(lab) as pool:
            connection = (await pool.connect_tree(share_of(lab, "fs1", "data"))).connection
            host.stop()
            await eventually(lambda: not connection.alive)
            with pytest.raises(ConnectionLost):
                connection.start([echo()], Route())
            connection.call_nowait([echo()], Route())  # nobody wants to hear of it


@every_way
async def test_a_connection_cut_instead_of_an_answer(lab: Lab, spoken: str) -> None:
    """For the sealed ways the fourth frame after the tree connect is cut: nobody can tell what it answers."""

    def cut(frame: bytes) -> bytes:
        raise ConnectionResetError

    with Proxy(proxied(lab), lab.address("fs1")) as proxy:
        async with open_pool(lab, replace(SPOKEN[spoken], hosts={"FS1": proxy.address})) as pool:
            tree = await pool.connect_tree(UncPath(("fs1", "data")))
            assert await read_hello(tree) == content.HELLO
            proxy.tamper = cut
            with trio.fail_after(PATIENCE), pytest.raises(ConnectionLost):
                await tree.stat(tree.share)
            proxy.tamper = None
            assert not tree.alive
            assert await read_hello(await pool.connect_tree(tree.share)) == content.HELLO


async def test_close_fails_the_calls_under_way_and_comes_only_once(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        with paused(lab.host("fs1")):
            caught = await all_fail(tree, 10, tree.connection.close)
        assert len(caught) == 10
        tree.connection.close()
        await eventually(lambda: lab.host("fs1").connections() == 0)


@every_way
async def test_a_session_that_the_server_has_forgotten_is_a_reason_to_connect_again(lab: Lab, spoken: str) -> None:
    """Samba can't sign or seal for a session that it does not know any more."""
    async with open_pool(lab, SPOKEN[spoken]) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        (response,) = await tree.channel.call([messages.encode_plain(Command.SMB2_LOGOFF)])
        assert response.status == NtStatus.SUCCESS
        with pytest.raises((ConnectionLost, SmbError)) as error:
            await tree.stat(tree.share)
        assert error.value.disposition is Disposition.RECONNECT
        assert not tree.alive
        assert await read_hello(await pool.connect_tree(tree.share)) == content.HELLO


async def test_who_waits_for_a_call_that_another_gives_up_hears_of_it_at_once(lab: Lab) -> None:
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(share_of(lab, "fs1", "data"))
        with paused(lab.host("fs1")):
            call = tree.connection.start([messages.encode_plain(Command.SMB2_ECHO)], Route())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call.wait_done)
                await trio.testing.wait_all_tasks_blocked()
                with trio.fail_after(1):
                    call.abandon()
                    await call.wait_done()
            with pytest.raises(SmbError) as caught:
                call.result()
            assert caught.value.status == NtStatus.CANCELLED

"""pendingcall.py and the sending in connection.py: who sends a call, in how many pieces, and who is woken when."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfsfs.errors import ConnectionLost, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.pendingcall import Waits
from dfsfs.smb.wire.constants import Command
from dfsfs.smb.wire.messages import encode_plain, encode_read
from tests.support.fakes.pool import virtual
from tests.support.fakes.server.client import REQUEST_TIMEOUT, SHARE, connected, transport_of
from tests.support.fakes.server.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.wire.messages import Buffer
    from tests.support.fakes.server.client import MemoryTransport

FILE = SHARE.join(["file"])
ECHO = [encode_plain(Command.SMB2_ECHO)]
HELD_LONG = 10 * REQUEST_TIMEOUT
"""Seconds of silence that are no reason to give a connection up."""


class Socket:
    """Counts what is given to a transport, and takes at most `room` bytes of it until there is more room."""

    def __init__(self, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[bytes] = []
        self.room = 1 << 30
        self.has_room = trio.Event()
        self._send = transport.send_now
        monkeypatch.setattr(transport, "send_now", self.send_now)
        monkeypatch.setattr(transport, "wait_writable", self.wait_writable)

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        data = b"".join(buffers)
        sent, self.room = data[: self.room], max(0, self.room - len(data))
        self.calls.append(sent)
        self._send([sent])
        return [memoryview(data)[len(sent) :]] if len(sent) < len(data) else ()

    async def wait_writable(self) -> None:
        await self.has_room.wait()
        self.has_room = trio.Event()

    def make_room(self, size: int) -> None:
        self.room = size
        self.has_room.set()


@asynccontextmanager
async def holding(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Server, Tree, Socket]]:
    """A server that answers when the test says so, and its client."""
    server = Server()
    server.volume.add_file("file", b"data")
    async with connected(server) as tree:
        await trio.testing.wait_all_tasks_blocked()
        tree.connection._protocol.silence = HELD_LONG
        server.holds = True
        yield server, tree, Socket(transport_of(tree), monkeypatch)


async def test_who_waits_sends_everything_that_is_queued_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (server, tree, socket), trio.open_nursery() as nursery:
        connection, route = tree.connection, tree.channel.route
        connection.call_nowait(ECHO, route)
        started = connection.start(ECHO, route)
        assert not socket.calls
        nursery.start_soon(started.wait_done)
        nursery.start_soon(connection.call, ECHO, route)
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.requests) == 3
        # The tasks run in any order, and the writer among them; none sends what another has sent.
        assert len(socket.calls) <= 2
        server.run()


async def test_one_call_is_one_call_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (server, tree, socket), trio.open_nursery() as nursery:
        for count in (1, 2, 3):
            nursery.start_soon(tree.stat, FILE)
            await trio.testing.wait_all_tasks_blocked()
            assert len(socket.calls) == len(server.requests) == count
        server.run()


async def test_what_nobody_waits_for_is_sent_together_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (server, tree, socket):
        reads = [tree.connection.start([encode_read(bytes(16), 0, 1)], tree.channel.route) for _ in range(5)]
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.requests) == 5 and len(socket.calls) == 1
        for read in reads:
            read.abandon()


async def test_who_takes_an_answer_that_is_there_sends_what_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """READs ahead are not kept waiting by answers that came in time."""
    async with holding(monkeypatch) as (server, tree, socket):
        pending = tree.connection.start(ECHO, tree.channel.route)
        await trio.testing.wait_all_tasks_blocked()
        server.run()
        await trio.testing.wait_all_tasks_blocked()
        assert pending.is_done
        reads = [tree.connection.start([encode_read(bytes(16), 0, 1)], tree.channel.route) for _ in range(3)]
        await pending.wait_done()
        assert len(server.requests) == 3 and len(socket.calls) == 2
        for read in reads:
            read.abandon()


@pytest.mark.parametrize("room", [0, 1, 3, 4, 100, 250])
async def test_what_does_not_fit_goes_first_when_there_is_room(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    async with holding(monkeypatch) as (server, tree, socket), trio.open_nursery() as nursery:
        socket.room = room
        for _ in range(4):
            nursery.start_soon(tree.connection.call, ECHO, tree.channel.route)
            await trio.testing.wait_all_tasks_blocked()
        assert sum(map(len, socket.calls)) == room
        while len(server.requests) < 4:
            socket.make_room(7)
            await trio.testing.wait_all_tasks_blocked()
        assert [held.parts[0].header.message_id for held in server.requests] == [1, 2, 3, 4]
        socket.room = 1 << 30
        server.run()


async def test_what_is_given_up_already_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (server, tree, socket):
        with trio.CancelScope() as scope:
            scope.cancel()
            await tree.stat(FILE)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert not socket.calls and not server.requests and tree.connection.statistics().queued == 0


async def test_a_failure_in_sending_is_that_of_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (_, tree, _), trio.open_nursery() as nursery:
        lost: list[str] = []

        async def call() -> None:
            with pytest.raises(ConnectionLost) as caught:
                await tree.stat(FILE)
            lost.append(str(caught.value))

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()

        def send_now(buffers: Sequence[Buffer]) -> Sequence[Buffer]:
            raise ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "as the test wants it")

        monkeypatch.setattr(transport_of(tree), "send_now", send_now)
        await call()
        await trio.testing.wait_all_tasks_blocked()
        assert len(lost) == 2 and "as the test wants it" in lost[0] and lost[0] == lost[1]
        assert not tree.alive


@pytest.mark.logs("failed in an unexpected way")
async def test_a_mistake_in_sending_ends_the_connection_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (_, tree, _):

        def send_now(buffers: Sequence[Buffer]) -> Sequence[Buffer]:
            raise LookupError("as the test wants it")

        monkeypatch.setattr(transport_of(tree), "send_now", send_now)
        with pytest.raises(ConnectionLost):
            await tree.stat(FILE)
        assert not tree.alive


# -- waiting ----------------------------------------------------------------------------------------------------------


@virtual
async def test_each_wait_has_its_time_and_leaves_nothing() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with holding(monkeypatch) as (server, tree, _), trio.open_nursery() as nursery:
            begun = trio.current_time()
            ended: list[float] = []

            async def call(after: float) -> None:
                await trio.sleep(after)
                with pytest.raises(ConnectionLost) as caught:
                    await tree.stat(FILE)
                assert caught.value.status == NtStatus.IO_TIMEOUT
                ended.append(trio.current_time() - begun)

            starts = [0.0, 0.3, 1.7, 1.7, 40.0]
            for after in starts:
                nursery.start_soon(call, after)
            await trio.sleep(max(starts) + REQUEST_TIMEOUT + 1)
            assert ended == pytest.approx([after + REQUEST_TIMEOUT for after in starts])
            server.holds = False
            server.run()
            await trio.testing.wait_all_tasks_blocked()
            assert server.opens == 0 and tree.alive
            assert tree.connection.statistics().in_flight == 0


async def test_several_wait_and_one_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (server, tree, _), trio.open_nursery() as nursery:
        pending = tree.connection.start(ECHO, tree.channel.route)
        done: list[int] = []

        async def wait(number: int, scope: trio.CancelScope) -> None:
            with scope:
                await pending.wait_done()
                done.append(number)

        scopes = [trio.CancelScope() for _ in range(3)]
        for number, scope in enumerate(scopes):
            nursery.start_soon(wait, number, scope)
        await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert not done
        server.run()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(done) == [0, 2] and pending.is_done
        assert pending.result()[0].status == NtStatus.SUCCESS


async def test_who_waits_for_what_another_task_gives_up_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with holding(monkeypatch) as (_, tree, _), trio.open_nursery() as nursery:
        pending = tree.connection.start(ECHO, tree.channel.route)
        errors: list[int] = []

        async def wait() -> None:
            with pytest.raises(SmbError) as caught:
                await pending.wait()
            errors.append(caught.value.status)

        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        pending.abandon()
        await trio.testing.wait_all_tasks_blocked()
        assert errors == [NtStatus.CANCELLED] * 2


async def test_who_was_woken_before_the_cancel_gets_what_has_come() -> None:
    waits, tasks, scope = Waits(REQUEST_TIMEOUT, trio.current_time), list[trio.lowlevel.Task](), trio.CancelScope()
    come: list[int] = []

    async def wait() -> None:
        tasks.append(trio.lowlevel.current_task())
        with scope:
            await waits.wait()
            come.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        waits.wake(tasks[0])
        waits.wake(tasks[0])
        scope.cancel()
    assert come == [1] and waits.next_deadline() == math.inf


async def test_who_was_cancelled_is_not_woken() -> None:
    waits, tasks, scope = Waits(REQUEST_TIMEOUT, trio.current_time), list[trio.lowlevel.Task](), trio.CancelScope()

    async def wait() -> None:
        tasks.append(trio.lowlevel.current_task())
        with scope:
            await waits.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        waits.wake(tasks[0])
        waits.expire(math.inf)
    assert scope.cancelled_caught and waits.next_deadline() == math.inf

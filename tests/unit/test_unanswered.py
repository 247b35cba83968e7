"""Requests that are given up: what waits for them waits until the server has answered, the connection has ended, or it
has taken too long.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from dfsfs.errors import ConnectionLost
from dfsfs.smb.connection.protocol import UNDECIDED_MAX
from dfsfs.unanswered import note, watch
from tests.support.fakes.server.client import REQUEST_TIMEOUT, SHARE, connected, transport_of
from tests.support.fakes.server.server import Server

PATH = SHARE.join(["new"])


def test_what_waits_is_called_once_when_all_is_answered() -> None:
    called: list[str] = []
    with watch() as outer:
        with watch() as inner:
            told = [note(), note()]
        inner.when_answered(lambda: called.append("inner"))
        told.append(note())
    outer.when_answered(lambda: called.append("outer"))
    for tell in told:
        assert "outer" not in called and tell is not None
        tell()
    assert called == ["inner", "outer"] and not inner and not outer
    outer.when_answered(lambda: called.append("at once"))
    assert called[-1] == "at once"


def test_nobody_wants_to_know() -> None:
    assert note() is None


@pytest.mark.parametrize("end", ["answer", "cut", "silence"])
async def test_a_cancelled_call_is_decided_when_the_server_will_do_no_more_of_it(
    end: str, autojump_clock: trio.testing.MockClock
) -> None:
    server, called = Server(), []
    async with connected(server) as tree:
        server.holds = True
        with watch() as unanswered:
            with trio.move_on_after(1):
                await tree.make_directory(PATH)
        assert unanswered
        unanswered.when_answered(lambda: called.append(trio.current_time()))
        await trio.testing.wait_all_tasks_blocked()
        assert not called
        if end == "answer":
            server.run()
            assert server.volume.at("new").is_directory
        elif end == "cut":
            transport_of(tree).server.cut()
        else:  # of this request: the server answers others
            while not called:
                assert trio.current_time() < UNDECIDED_MAX + REQUEST_TIMEOUT
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tree.stat, SHARE)
                    await trio.testing.wait_all_tasks_blocked()
                    server.apply(server.requests[-1])
                    server.let_go(server.messages[0])
                await trio.sleep(5)
        await trio.testing.wait_all_tasks_blocked()
        assert len(called) == 1 and not unanswered


async def test_a_call_that_was_not_sent_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with connected(server) as tree:
        server.holds = True
        with watch() as unanswered, trio.CancelScope() as scope:
            scope.cancel()
            await tree.make_directory(PATH)
        assert not unanswered
        await trio.testing.wait_all_tasks_blocked()
        assert not server.requests


async def test_a_call_that_took_too_long_may_still_be_carried_out(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with connected(server) as tree:
        server.holds = True
        with watch() as unanswered:
            tree.connection._protocol.silence = 10 * REQUEST_TIMEOUT
            with pytest.raises(ConnectionLost):
                await tree.make_directory(PATH)
        assert unanswered
        server.run()
        await trio.testing.wait_all_tasks_blocked()
        assert not unanswered

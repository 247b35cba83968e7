"""dialer.py: connections that wait for a login, and that nothing is left of those that nobody takes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel

from dfsfs.errors import ConnectError, LoginNotAllowed
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.hostnames import HostNames
from dfsfs.smb.connection.dialer import Dialer
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.connection.transport import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PATIENCE = 20.0


class Silent:
    """A server that takes connections and says nothing, as one that hangs does."""

    def __init__(self) -> None:
        self.connected = 0
        self.open = 0
        self.changed = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connected += 1
        self.open += 1
        self._tell()
        async with stream:
            while await stream.receive_some(4096):
                pass
        self.open -= 1
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, connected: int, left: int) -> None:
        """Waits until so many connections were made, of which so many are open."""
        with trio.fail_after(PATIENCE):
            while (self.connected, self.open) != (connected, left):
                await self.changed.wait()


@asynccontextmanager
async def dialing(**changes: object) -> AsyncIterator[tuple[Dialer, Silent, HostNames, trio.Nursery]]:
    server = Silent()
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        outer.start_soon(trio.serve_listeners, server.serve, [listener])
        settings = replace(TransportSettings(port=listener.socket.getsockname()[1]), **changes)  # type: ignore[arg-type]
        names = HostNames(address="127.0.0.1")
        yield Dialer(settings, names, trio.CapacityLimiter(4), nursery), server, names, nursery
        nursery.cancel_scope.cancel()
        outer.cancel_scope.cancel()


async def gone(nursery: trio.Nursery) -> None:
    """Waits until no task is left."""
    with trio.fail_after(PATIENCE):
        while nursery.child_tasks:
            await trio.lowlevel.checkpoint()


async def test_nothing_is_left_of_an_attempt_that_nobody_waits_for_any_more() -> None:
    async with dialing() as (dialer, server, _, nursery):
        async with trio.open_nursery() as crowd:
            for _ in range(5):
                crowd.start_soon(reach, dialer, "fs1")
            await server.until(1, 1)
            assert len(dialer) == 1, "they share one attempt"
            crowd.cancel_scope.cancel()
        await server.until(1, 0)
        assert len(dialer) == 0
        await gone(nursery)


async def test_one_who_gives_up_leaves_it_to_the_others() -> None:
    async with dialing() as (dialer, server, _, nursery):
        async with trio.open_nursery() as crowd:
            crowd.start_soon(reach, dialer, "fs1")
            await server.until(1, 1)
            with trio.move_on_after(0.05):
                await reach(dialer, "fs1")
            assert (server.connected, server.open, len(dialer)) == (1, 1, 1)
            crowd.cancel_scope.cancel()
        await server.until(1, 0)
        await gone(nursery)


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async with dialing(connect_timeout=0.1) as (dialer, server, _, nursery):
        with pytest.raises(ConnectError) as caught:
            await reach(dialer, "fs1")
        assert caught.value.status == NtStatus.IO_TIMEOUT
        await server.until(1, 0)
        assert len(dialer) == 0
        await gone(nursery)


async def test_the_controllers_that_a_domain_stands_for_are_tried_in_a_race() -> None:
    async with dialing(connect_timeout=5.0) as (dialer, server, names, nursery):
        names.controllers_of["CONTOSO.TEST"] = ("dc1.contoso.test", "dc2.contoso.test")
        async with trio.open_nursery() as crowd:
            crowd.start_soon(reach, dialer, "contoso.test")
            await server.until(2, 2)
            crowd.cancel_scope.cancel()
        await server.until(2, 0)
        await gone(nursery)


async def test_names_that_are_guesses_are_tried_one_after_the_other() -> None:
    async with dialing(connect_timeout=1.0) as (dialer, server, names, _):
        names.suffixes = ("a.test", "b.test")
        with pytest.raises(ConnectError):
            await reach(dialer, "fs1")
        assert server.connected == 1


async def test_who_gets_no_login_gets_no_connection() -> None:
    async with dialing(login_hosts=("*.contoso.test",)) as (dialer, server, _, nursery):
        with pytest.raises(LoginNotAllowed):
            await reach(dialer, "evil.example")
        assert server.connected == 0 and len(dialer) == 0
        await gone(nursery)


async def reach(dialer: Dialer, host: str) -> None:
    async with dialer.hold_connection(host):
        pass


class Finder:
    """Says where hosts are, or says nothing."""

    def __init__(self, *found: str, expects_slow_resolver: bool = False) -> None:
        self.found = found
        self.expects_slow_resolver = expects_slow_resolver
        self.asked = 0

    async def find_live_controller(self) -> None:
        """Nothing is asked for here."""

    async def find_addresses(self, host: str) -> Sequence[str]:
        self.asked += 1
        return self.found


async def test_addresses_come_from_elsewhere_when_the_systems_resolver_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    system = trio.socket.getaddrinfo

    async def slow(host: str, *rest: object, **more: object) -> object:
        if host == "fs1.contoso.test":
            await trio.sleep_forever()
        return await system(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(trio.socket, "getaddrinfo", slow)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    for finder in (Finder("127.0.0.1"), Finder("127.0.0.1", expects_slow_resolver=True)):
        with trio.fail_after(PATIENCE):
            (await connect("fs1", "fs1.contoso.test", port, finder=finder)).close()
        assert finder.asked == 1
    quick = Finder("192.0.2.1")
    (await connect("fs1", "127.0.0.1", port, finder=quick)).close()
    assert quick.asked == 0, "what the computer knows goes before everything else"
    await listener.aclose()


async def test_who_finds_nothing_leaves_the_word_to_the_system() -> None:
    with pytest.raises(ConnectError, match="can't find an address"):
        await connect("x", "no-such-host.invalid", 1, finder=Finder(expects_slow_resolver=True))

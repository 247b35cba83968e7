"""What the pool does where a server is in the middle of something. What it does with real ones, tests/lab_smb shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfsfs.acting import Caller, as_caller
from dfsfs.errors import ConnectError, ForeignCaller
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.dialer import Dialer, Opened
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.pool import Pool, _Server
from dfsfs.smb.userpools import UserPools
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.auth.credentials import Login

SETTINGS = TransportSettings(connect_timeout=8.0, login_timeout=20.0)
LOGIN = Credentials("alice", Secret("word"))


def connection(**methods: Callable[..., Awaitable[Any]]) -> Any:
    """One that lives, to a server that is no more than what a test says."""
    negotiated = SimpleNamespace(server_guid=bytes(16), security_buffer=b"")
    return SimpleNamespace(alive=True, negotiated=negotiated, close=lambda: None, **methods)


async def test_a_login_that_takes_too_long_is_said_to_have_had_its_own_time(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def negotiated(dialer: Dialer, host: str) -> Opened:
        async def exchange(*_: object) -> None:
            await trio.sleep_forever()

        return Opened(host, "127.0.0.1", connection(exchange=exchange))

    async def prepared(pool: Pool, name: str) -> object:
        return SimpleNamespace()

    monkeypatch.setattr(Dialer, "_open", negotiated)
    monkeypatch.setattr(Pool, "_prepared", prepared)
    async with Pool(SETTINGS, LOGIN) as pool:
        with pytest.raises(ConnectError, match="within 20 seconds") as caught:
            await pool.ipc("fs1")
        assert (caught.value.status, trio.current_time()) == (NtStatus.IO_TIMEOUT, 20.0)


async def test_a_mount_may_end_while_it_connects(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "_route", lambda pool, session: Route())
    async with Pool(SETTINGS, LOGIN) as pool:
        called: list[str] = []

        def add(host: str) -> None:
            async def call(*_: object) -> list[Any]:
                called.append(host)
                if host == "one":
                    add("another")
                await trio.lowlevel.checkpoint()
                return []

            session: Any = None
            pool._servers[host] = _Server(host, host, "127.0.0.1", connection(call=call), session)

        add("one")
    assert called == ["one"]


async def test_nothing_is_kept_for_who_does_not_live_on_this_computer() -> None:
    """Their numbers are those of a container, which may have many."""
    gone: list[int] = []

    def refuse(who: Caller) -> Login:
        raise ForeignCaller(who.pid, who.uid, "as the test wants it")

    async with Pool(SETTINGS, LOGIN) as own, UserPools(SETTINGS, own, refuse) as users:
        users.on_gone = gone.append
        with as_caller(Caller(1000, 1000, 17)), pytest.raises(ForeignCaller):
            await users.tree(UncPath(("fs1", "data")))
        assert (gone, users.users) == ([1000], ())

"""What the pool does where a server is in the middle of something. What it does with real ones, tests/samba shows."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from dfsfs.caller import Caller, override_caller
from dfsfs.errors import ConnectError, ForeignCaller, SmbError, TicketError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.dialer import DialedConnection, Dialer
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.pool import LOGOFF_TIMEOUT, REFUSAL_CACHE_TIME, RENEWAL_RETRY_DELAY, Pool, _Server
from dfsfs.smb.userpools import UserPools
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.auth.credentials import Login
    from dfsfs.smb.connection.handshake import Session

pytestmark = pytest.mark.logs("process 17 of user 1000")

SETTINGS = TransportSettings(connect_timeout=8.0, login_timeout=20.0)
LOGIN = Credentials("alice", Secret("word"))


def connection(**methods: Callable[..., Awaitable[Any]]) -> Any:
    """One that lives, to a server that is no more than what a test says."""
    negotiated = SimpleNamespace(server_guid=bytes(16), security_buffer=b"")
    return SimpleNamespace(alive=True, negotiated=negotiated, close=lambda: None, **methods)


async def test_a_login_that_takes_too_long_is_said_to_have_had_its_own_time(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def negotiated(dialer: Dialer, host: str) -> DialedConnection:
        async def exchange(*_: object) -> None:
            await trio.sleep_forever()

        return DialedConnection(host, "127.0.0.1", connection(exchange=exchange))

    async def prepared(pool: Pool, name: str) -> object:
        return SimpleNamespace()

    monkeypatch.setattr(Dialer, "_open", negotiated)
    monkeypatch.setattr(Pool, "_prepare_login", prepared)
    async with Pool(SETTINGS, LOGIN) as pool:
        with pytest.raises(ConnectError, match="within 20 seconds") as caught:
            await pool.connect_ipc("fs1")
        assert (caught.value.status, trio.current_time()) == (NtStatus.IO_TIMEOUT, 20.0)


async def test_a_mount_may_end_while_it_connects(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "_make_route", lambda pool, session: Route())
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


@pytest.mark.parametrize(("silent", "expected"), [(None, 0.2), ("two", LOGOFF_TIMEOUT)])
async def test_all_servers_are_logged_off_at_the_same_time(
    silent: str | None, expected: float, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer keeps none of the others from it."""
    monkeypatch.setattr(Pool, "_make_route", lambda pool, session: Route())
    called: dict[str, float] = {}
    async with Pool(SETTINGS, LOGIN) as pool:

        def add(host: str) -> None:
            async def call(*_: object) -> list[Any]:
                called[host] = trio.current_time()
                await trio.sleep(inf if host == silent else 0.2)
                return []

            session: Any = None
            pool._servers[host] = _Server(host, host, "127.0.0.1", connection(call=call), session)

        for host in ("one", "two", "three"):
            add(host)
        begun = trio.current_time()
    assert called == dict.fromkeys(("one", "two", "three"), begun)
    assert trio.current_time() - begun == pytest.approx(expected)


async def test_nothing_is_kept_for_who_does_not_live_on_this_computer() -> None:
    """Their numbers are those of a container, which may have many."""
    gone: list[int] = []

    def refuse(who: Caller) -> Login:
        raise ForeignCaller(who.pid, who.uid, "as the test wants it")

    async with Pool(SETTINGS, LOGIN) as own, UserPools(SETTINGS, own, refuse) as users:
        users.on_user_gone = gone.append
        with override_caller(Caller(1000, 1000, 17)), pytest.raises(ForeignCaller):
            await users.connect_tree(UncPath(("fs1", "data")))
        assert (gone, users.users) == ([1000], ())


def renewing(monkeypatch: pytest.MonkeyPatch, *refusals: Exception) -> list[float]:
    """Has renewals of sessions fail in this order, and then succeed. Returns when each was tried."""
    tried: list[float] = []

    async def prepare(pool: Pool, name: str) -> object:
        await trio.lowlevel.checkpoint()
        return SimpleNamespace()

    async def reauthenticate(pool: Pool, server: _Server, authenticator: object) -> None:
        tried.append(trio.current_time())
        await trio.sleep(0.1)
        if len(tried) <= len(refusals):
            raise refusals[len(tried) - 1]

    monkeypatch.setattr(Pool, "_prepare_login", prepare)
    monkeypatch.setattr(Pool, "_reauthenticate", reauthenticate)
    return tried


async def test_a_refusal_is_no_answer_while_a_renewal_is_tried_again(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a server's clock a ticket may have ended before it has by ours: the second try brings a new one."""
    tried = renewing(monkeypatch, SmbError(NtStatus.LOGON_FAILURE, "logging in"))
    async with Pool(SETTINGS, LOGIN) as pool, trio.open_nursery() as nursery:
        server = _Server("fs1", "fs1", "127.0.0.1", connection(), cast("Session", None))
        nursery.start_soon(pool._renew, server)
        await trio.sleep(RENEWAL_RETRY_DELAY / 2)
        await pool._renew(server)
        assert len(tried) == 2


async def test_a_renewal_that_has_failed_answers_for_a_while(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = TicketError("cifs/fs1", "the default ticket cache", "Ticket expired")
    tried = renewing(monkeypatch, refusal)
    async with Pool(SETTINGS, LOGIN) as pool:
        server, other = (_Server(host, host, "", connection(), cast("Session", None)) for host in ("fs1", "fs1"))
        for _ in range(3):
            with pytest.raises(TicketError):
                await pool._renew(server)
        assert len(tried) == 1
        await pool._renew(other)  # on a new connection
        await trio.sleep(REFUSAL_CACHE_TIME)
        await pool._renew(server)
        assert len(tried) == 3

"""What becomes of calls that a server refuses because their session has expired; the server is a script here. That
real ones go on with everything that is open, tests/ad shows: it takes two minutes until a ticket ends.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from dfsfs.errors import SmbError, TicketError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Call, Response, Route
from dfsfs.smb.connection.connection import Connection
from dfsfs.smb.wire.constants import Command
from dfsfs.smb.wire.messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.smb.connection.protocol import SmbProtocol
    from dfsfs.smb.connection.transport import Transport

READ, CLOSE = Request(Command.SMB2_READ, b"read"), Request(Command.SMB2_CLOSE, b"close")


class Scripted(Connection):
    """Answers calls at once, with EXPIRED as often as it is told."""

    def __init__(self, expired: int) -> None:
        protocol = SimpleNamespace(silence=1.0, error=None, on_break=None, wants_to_send=False)
        super().__init__("srv", cast("Transport", None), cast("SmbProtocol", protocol), request_timeout=1.0)
        self.expired = expired
        self.sent: list[bytes] = []
        self.renewals = 0
        self.failure: Exception | None = None
        self._renew = self._renew_it

    async def _renew_it(self) -> None:
        self.renewals += 1
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure

    def _submit(
        self,
        requests: Sequence[Request],
        route: Route,
        received: Callable[[Response], None] | None,
        answered: Callable[[], None],
    ) -> Call:
        self.sent.append(requests[0].body)
        status = NtStatus.NETWORK_SESSION_EXPIRED if self.expired > 0 else NtStatus.SUCCESS
        self.expired -= 1
        header: Any = SimpleNamespace(status=status)
        response = Response(header, memoryview(b""))
        call = Call(tuple(requests), route, lambda: None, [response], 0, 1)
        if received is not None:
            received(response)
        answered()
        return call


async def test_a_refused_call_is_sent_again() -> None:
    connection = Scripted(expired=1)
    (response,) = await connection.call([READ], Route())
    assert response.status == NtStatus.SUCCESS
    assert connection.sent == [b"read", b"read"]
    assert connection.renewals == 1


async def test_all_who_wait_for_it_get_the_second_answer() -> None:
    connection = Scripted(expired=1)
    pending = connection.start([READ], Route())
    refused = pending.is_done
    assert not refused, "nobody may take the refusal for an answer"
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(pending.wait_done)
    assert pending.is_done and pending.result()[0].status == NtStatus.SUCCESS
    assert connection.sent == [b"read", b"read"]


async def test_why_it_can_not_be_renewed_is_the_answer() -> None:
    connection = Scripted(expired=9)
    connection.failure = TicketError("cifs/srv", "the default ticket cache", "Ticket expired")
    pending = connection.start([READ], Route())
    for _ in range(2):
        with pytest.raises(TicketError, match="Ticket expired"):
            await pending.wait()
    assert connection.sent == [b"read"]


async def test_a_server_that_says_nothing_else_is_not_asked_for_ever() -> None:
    connection = Scripted(expired=9)
    (response,) = await connection.call([READ], Route())
    assert response.status == NtStatus.NETWORK_SESSION_EXPIRED
    assert len(connection.sent) == 3


async def test_a_login_is_not_renewed_by_itself() -> None:
    connection = Scripted(expired=9)
    (response,) = await connection.call([Request(Command.SMB2_SESSION_SETUP, b"login")], Route())
    assert response.status == NtStatus.NETWORK_SESSION_EXPIRED and connection.renewals == 0


async def test_what_nobody_waits_for_goes_out_after_the_renewal() -> None:
    connection = Scripted(expired=2)
    connection.call_nowait([CLOSE], Route())
    assert connection.sent == [b"close"]
    await connection.call([READ], Route())
    assert connection.sent == [b"close", b"read", b"close", b"read"]
    await connection.call([READ], Route())
    assert connection.sent[4:] == [b"read"]


def test_an_error_says_that_it_is_about_the_login() -> None:
    assert TicketError("a", "b", "c").is_about_login
    assert SmbError(NtStatus.ACCOUNT_DISABLED, "x").is_about_login
    assert not SmbError(NtStatus.ACCESS_DENIED, "x").is_about_login

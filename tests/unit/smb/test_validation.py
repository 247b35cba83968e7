"""Whether a negotiation is confirmed: what servers that know the question say, and those that do not.

The server is a signing one in memory. Samba, which knows the question in every dialect, is asked in
tests/kernel/test_tampering.py, with somebody in between; of servers that don't know it, none can be had.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import ConnectionLost, DfsfsError, SecurityError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.connection import Connection
from dfsfs.smb.connection.crypto import derive_session_keys
from dfsfs.smb.connection.handshake import Negotiated, Offer, Session
from dfsfs.smb.connection.protocol import SmbProtocol
from dfsfs.smb.connection.validation import UNKNOWN_FSCTL, validate_negotiate
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import SMB2_FLAGS_SIGNED, CtlCode, Dialect, SigningAlgorithm
from tests.support.fakes.peer import ERROR_BODY, Peer, split_compound, split_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.connection.crypto import SessionKeys
    from dfsfs.smb.wire.messages import Buffer

GUID = b"S" * 16
SESSION_ID = 42
OLDER = [Dialect.SMB_2_1, Dialect.SMB_3_0, Dialect.SMB_3_0_2]
OTHER_STATUSES = [NtStatus.ACCESS_DENIED, NtStatus.INVALID_PARAMETER, NtStatus.OBJECT_NAME_NOT_FOUND]


def negotiated(dialect: Dialect) -> Negotiated:
    return Negotiated(
        offer=Offer(tuple(Dialect), b"C" * 16, bytes(32), (), (), "fs1"),
        dialect=dialect,
        server_guid=GUID,
        security_mode=3,
        capabilities=7,
        max_transact=65536,
        max_read=65536,
        max_write=65536,
        signing=SigningAlgorithm.HMAC_SHA256,
        cipher=None,
        security_buffer=b"",
        preauth_hash=bytes(64),
    )


def keys(dialect: Dialect) -> SessionKeys:
    signing = SigningAlgorithm.HMAC_SHA256 if dialect is Dialect.SMB_2_1 else SigningAlgorithm.AES_CMAC
    return derive_session_keys(b"K" * 16, SESSION_ID, dialect, preauth_hash=bytes(64), signing=signing, cipher=None)


class Answering:
    """A transport to a server that answers each request with `status` and `body`, or hangs up."""

    def __init__(
        self, dialect: Dialect, status: int, body: bytes, *, signs: bool = True, hangs_up: bool = False
    ) -> None:
        self._signer = keys(dialect).signer
        self._status, self._body, self._signs, self._hangs_up = status, body, signs, hangs_up
        self._answers, self._received = trio.open_memory_channel[bytes](10)
        self.questions = 0

    async def receive_into(self, buffer: memoryview) -> int:
        async for answer in self._received:
            buffer[: len(answer)] = answer
            return len(answer)
        return 0

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        for frame in split_frames(b"".join(buffers)):
            (request,) = split_compound(frame)
            self.questions += 1
            if self._hangs_up:
                self._answers.close()
                return ()
            flags = SMB2_FLAGS_SIGNED if self._signs else 0
            answer = Peer.answer(_PACKS, request, self._body, status=self._status, flags=flags)
            if self._signs:
                signature = self._signer.sign(
                    [answer], message_id=request.header.message_id, from_server=True, is_cancel=False
                )
                answer = answer[:48] + signature + answer[64:]
            self._answers.send_nowait(len(answer).to_bytes(4, "big") + answer)
        return ()

    async def wait_writable(self) -> None:
        """There is always room."""

    def close(self) -> None:
        self._answers.close()


_PACKS = Peer(SmbProtocol("fs1", max_credits=1, silence=1, echo_interval=1, now=0))


async def outcome(dialect: Dialect, server: Answering) -> DfsfsError | None:
    """The error of a validation, None if the connection may be used."""
    protocol = SmbProtocol("fs1", max_credits=64, silence=10, echo_interval=60, now=trio.current_time())
    connection = Connection("fs1", server, protocol, request_timeout=5)
    connection.set_negotiated(negotiated(dialect), multi_credit=False)
    session = Session(SESSION_ID, keys(dialect), encrypt=False)
    connection.add_session(session)
    error: DfsfsError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        try:
            await validate_negotiate(connection, Route(session, SESSION_ID, 5))
            assert connection.alive
        except DfsfsError as caught:
            error = caught
            assert not connection.alive, "a connection that is not to be trusted was left open"
        connection.close()
    return error


def confirmation(dialect: Dialect, *, capabilities: int = 7) -> bytes:
    output = struct.pack("<I16sHH", capabilities, GUID, 3, dialect)
    fixed = struct.pack("<HHI16sIIIIII", 49, 0, 0x00140204, b"\xff" * 16, 0, 0, 64 + 48, len(output), 0, 0)
    return fixed + output


@pytest.mark.parametrize("dialect", OLDER)
async def test_what_was_agreed_on_is_confirmed(dialect: Dialect) -> None:
    server = Answering(dialect, NtStatus.SUCCESS, confirmation(dialect))
    assert await outcome(dialect, server) is None
    assert server.questions == 1


async def test_of_3_1_1_nothing_is_asked() -> None:
    server = Answering(Dialect.SMB_3_1_1, NtStatus.SUCCESS, b"")
    assert await outcome(Dialect.SMB_3_1_1, server) is None
    assert server.questions == 0


@pytest.mark.parametrize("dialect", OLDER)
@pytest.mark.parametrize("other", [confirmation(Dialect.SMB_3_1_1), confirmation(Dialect.SMB_2_1, capabilities=6)])
async def test_another_answer_is_a_downgrade(dialect: Dialect, other: bytes) -> None:
    assert isinstance(await outcome(dialect, Answering(dialect, NtStatus.SUCCESS, other)), SecurityError)


@pytest.mark.parametrize("status", sorted(UNKNOWN_FSCTL))
async def test_only_a_server_of_2_1_may_not_know_the_question(status: int) -> None:
    for dialect in OLDER:
        error = await outcome(dialect, Answering(dialect, status, ERROR_BODY))
        assert (error is None) == (dialect is Dialect.SMB_2_1), dialect
        assert error is None or isinstance(error, SecurityError)


@pytest.mark.parametrize("status", sorted(UNKNOWN_FSCTL))
async def test_that_it_does_not_know_the_question_has_to_be_signed(status: int) -> None:
    error = await outcome(Dialect.SMB_2_1, Answering(Dialect.SMB_2_1, status, ERROR_BODY, signs=False))
    assert isinstance(error, SecurityError)


@pytest.mark.parametrize("dialect", OLDER)
@pytest.mark.parametrize("status", OTHER_STATUSES)
async def test_no_other_refusal_will_do(dialect: Dialect, status: int) -> None:
    assert isinstance(await outcome(dialect, Answering(dialect, status, ERROR_BODY)), SecurityError)


@pytest.mark.parametrize("dialect", OLDER)
async def test_a_server_that_hangs_up_may_have_seen_a_downgrade(dialect: Dialect) -> None:
    error = await outcome(dialect, Answering(dialect, NtStatus.SUCCESS, b"", hangs_up=True))
    assert isinstance(error, ConnectionLost) and "downgrade" in str(error)


def test_the_question_fits_into_one_credit() -> None:
    assert messages.encode_ioctl(CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO, bytes(32), 64).charge == 1

"""SmbProtocol against a scripted peer: matching, credits, compounds, cancellation, security, time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import ConnectionLost, SecurityError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Call, Route
from dfsfs.smb.connection.crypto import HmacSha256Signer, SessionKeys
from dfsfs.smb.connection.protocol import SmbProtocol
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import (
    SMB2_FLAGS_ASYNC_COMMAND,
    SMB2_FLAGS_DFS_OPERATIONS,
    SMB2_FLAGS_RELATED_OPERATIONS,
    SMB2_FLAGS_SIGNED,
    Access,
    Command,
    CreateDisposition,
    InfoType,
)
from tests.support.fakes.peer import Peer, Sent, create_body, read_body

if TYPE_CHECKING:
    from dfsfs.smb.wire.messages import Request

FILE = b"F" * 16


@dataclass
class Asked:
    """A submitted call, and how often its `done` came."""

    protocol: SmbProtocol
    requests: list[Request]
    route: Route = field(default_factory=Route)
    done: int = 0

    def __post_init__(self) -> None:
        self.call: Call = self.protocol.submit(self.requests, self.route, self._count)

    def _count(self) -> None:
        self.done += 1

    @property
    def status(self) -> int:
        response = self.call.responses[-1]
        assert response is not None
        return response.status


@dataclass(frozen=True)
class SignedSession:
    session_id: int
    keys: SessionKeys | None
    encrypt: bool = False


def connected(*, credits: int = 100, max_credits: int = 128) -> tuple[SmbProtocol, Peer]:
    """A protocol after its first exchange, with `credits` in hand."""
    protocol = SmbProtocol("fs1", max_credits=max_credits, silence=10, echo_interval=60, now=0)
    peer = Peer(protocol)
    first = Asked(protocol, [messages.encode_plain(Command.SMB2_ECHO)])
    ((request,),) = peer.requests()
    protocol.multi_credit = True
    peer.deliver([peer.answer(request, credits=credits)])
    assert first.done == 1
    return protocol, peer


def echo() -> Request:
    return messages.encode_plain(Command.SMB2_ECHO)


def create() -> Request:
    return messages.encode_create("a", access=Access.READ, disposition=CreateDisposition.FILE_OPEN)


def test_answers_find_their_requests_in_any_order() -> None:
    protocol, peer = connected()
    asked = [Asked(protocol, [messages.encode_read(FILE, 0, 10)]) for _ in range(3)]
    frames = peer.requests()
    bodies = [read_body(bytes([index]) * 10) for index in range(3)]
    peer.deliver([peer.answer(frames[index][0], bodies[index]) for index in (2, 0, 1)])
    for index, one in enumerate(asked):
        assert one.done == 1
        response = one.call.responses[0]
        assert response is not None
        assert messages.decode_read(response.message, 10) == bytes([index]) * 10


def test_a_compound_is_related_padded_and_answered_as_one() -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [create(), messages.encode_close(messages.RELATED_FILE_ID)], Route(tree_id=5, session_id=9))
    ((first, second),) = peer.requests()
    assert first.header.next_command % 8 == 0
    assert not first.header.flags & SMB2_FLAGS_RELATED_OPERATIONS
    assert second.header.flags & SMB2_FLAGS_RELATED_OPERATIONS
    assert (second.header.tree_id, second.header.session_id) == (5, 9)
    assert second.header.message_id == first.header.message_id + 1
    body = create_body()
    one = peer.answer(first, body, next_command=64 + len(body))
    peer.deliver([one + peer.answer(second)])
    assert asked.done == 1


def test_answers_to_a_compound_may_come_one_by_one() -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [create(), messages.encode_close(messages.RELATED_FILE_ID)])
    ((first, second),) = peer.requests()
    peer.deliver([peer.answer(first, create_body())])
    assert asked.done == 0
    peer.deliver([peer.answer(second)])
    assert asked.done == 1


def test_only_creates_carry_the_dfs_flag() -> None:
    protocol, peer = connected()
    Asked(protocol, [create(), messages.encode_close(messages.RELATED_FILE_ID)], Route(dfs=True))
    ((first, second),) = peer.requests()
    assert first.header.flags & SMB2_FLAGS_DFS_OPERATIONS
    assert not second.header.flags & SMB2_FLAGS_DFS_OPERATIONS


def test_senders_wait_for_credits_in_order() -> None:
    protocol, peer = connected(credits=4)
    large = Asked(protocol, [messages.encode_read(FILE, 0, 4 * 65536)])
    small = Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    assert request.command == Command.SMB2_READ
    assert request.header.credit_charge == 4
    assert peer.requests() == []
    peer.deliver([peer.answer(request, read_body(b"x"), credits=1)])
    assert large.done == 1
    ((request,),) = peer.requests()
    assert request.command == Command.SMB2_ECHO
    assert small.done == 0


def test_a_call_dearer_than_the_credits_in_hand_gets_more_by_echo() -> None:
    protocol, peer = connected(credits=2)
    asked = Asked(protocol, [messages.encode_read(FILE, 0, 8 * 65536)])
    ((request,),) = peer.requests()
    assert request.command == Command.SMB2_ECHO
    peer.deliver([peer.answer(request, credits=50)])
    ((request,),) = peer.requests()
    assert request.command == Command.SMB2_READ
    assert asked.done == 0


def test_a_server_that_grants_no_more_fails_the_call_and_not_the_connection() -> None:
    protocol, peer = connected(credits=2)
    asked = Asked(protocol, [messages.encode_read(FILE, 0, 8 * 65536)])
    for _ in range(20):
        for (request,) in peer.requests():
            peer.deliver([peer.answer(request, credits=1)])
    assert asked.done == 1
    assert isinstance(asked.call.error, SmbError)
    assert asked.call.error.status == NtStatus.INSUFFICIENT_RESOURCES
    after = Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    peer.deliver([peer.answer(request)])
    assert after.done == 1


def test_a_connection_whose_last_credit_is_taken_is_lost() -> None:
    """Nothing could ever be sent on it again."""
    protocol, peer = connected(credits=1)
    Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    peer.deliver([peer.answer(request, credits=0)])
    Asked(protocol, [echo()])
    with pytest.raises(ConnectionLost, match="credits"):
        protocol.data_to_send(0.0)


def test_io_size_shrinks_to_the_credits_there_are() -> None:
    protocol, _ = connected(credits=4)
    assert protocol.io_size(1024 * 1024) == 4 * 65536
    assert protocol.io_size(1000) == 65536
    protocol.multi_credit = False
    assert protocol.io_size(1024 * 1024) == 65536


def test_pending_is_not_the_answer() -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    peer.deliver([peer.pending(request)])
    assert asked.done == 0
    peer.deliver([peer.answer(request, flags=SMB2_FLAGS_ASYNC_COMMAND, async_id=77)])
    assert asked.done == 1


def test_abandoning_an_unsent_call_forgets_it() -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [echo()])
    protocol.abandon(asked.call)
    assert peer.requests() == []
    protocol.check_invariants()


def test_an_abandoned_call_keeps_its_credits_until_the_late_answer() -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    protocol.abandon(asked.call)
    assert protocol.statistics().credits.outstanding == 1
    protocol.check_invariants()
    peer.deliver([peer.answer(request)])
    assert protocol.statistics().credits.outstanding == 0
    assert asked.done == 0


def test_a_file_that_an_abandoned_call_opens_is_closed() -> None:
    protocol, peer = connected()
    asked = Asked(
        protocol, [create(), messages.encode_query_info(messages.RELATED_FILE_ID, InfoType.SMB2_0_INFO_FILE, 18, 100)]
    )
    ((first, second),) = peer.requests()
    protocol.abandon(asked.call)
    peer.deliver([peer.answer(first, create_body(b"G" * 16)), peer.answer(second, status=0xC0000001)])
    ((request,),) = peer.requests()
    assert request.command == Command.SMB2_CLOSE
    assert request.body[8:24] == b"G" * 16


def test_a_file_whose_opener_is_cancelled_as_the_answer_comes_is_closed() -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [create()])
    ((first,),) = peer.requests()
    peer.deliver([peer.answer(first, create_body(b"G" * 16))])
    protocol.abandon(asked.call)
    ((request,),) = peer.requests()
    assert request.command == Command.SMB2_CLOSE


def test_an_abandoned_call_that_closed_its_file_itself_needs_no_close() -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [create(), messages.encode_close(messages.RELATED_FILE_ID)])
    ((first, second),) = peer.requests()
    protocol.abandon(asked.call)
    peer.deliver([peer.answer(first, create_body()), peer.answer(second)])
    assert peer.requests() == []


@pytest.mark.parametrize("order", ["pending first", "abandoned first"])
def test_what_the_server_holds_pending_is_cancelled(order: str) -> None:
    protocol, peer = connected()
    asked = Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    if order == "pending first":
        peer.deliver([peer.pending(request, async_id=0x123456789A)])
        protocol.abandon(asked.call)
    else:
        protocol.abandon(asked.call)
        peer.deliver([peer.pending(request, async_id=0x123456789A)])
    ((cancel,),) = peer.requests()
    assert cancel.command == Command.SMB2_CANCEL
    assert cancel.header.flags & SMB2_FLAGS_ASYNC_COMMAND
    assert cancel.header.async_id == 0x123456789A
    assert cancel.header.message_id == request.header.message_id
    peer.deliver([peer.answer(request, status=0xC0000120, flags=SMB2_FLAGS_ASYNC_COMMAND, async_id=0x123456789A)])
    protocol.check_invariants()
    assert protocol.statistics().in_flight == 0


def test_an_answer_that_nobody_asked_for_is_an_error() -> None:
    protocol, peer = connected()
    Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    with pytest.raises(WireError, match="MessageId 4711"):
        peer.deliver([peer.answer(request, message_id=4711)])


def test_an_answer_of_another_command_is_an_error() -> None:
    protocol, peer = connected()
    Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    with pytest.raises(WireError, match="ECHO with command 8"):
        peer.deliver([peer.answer(request, command=8)])


def test_a_notification_of_a_broken_oplock_is_no_answer() -> None:
    protocol, peer = connected()
    protocol.add_session(SignedSession(42, None))
    asked = Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    body = b"\x18\x00" + bytes(22)
    peer.deliver([peer.answer(request, body, message_id=2**64 - 1, command=Command.SMB2_OPLOCK_BREAK)])
    assert asked.done == 0


def signed() -> tuple[SmbProtocol, Peer, Asked, HmacSha256Signer]:
    protocol, peer = connected()
    signer = HmacSha256Signer(b"K" * 16)
    session = SignedSession(42, SessionKeys(signer=signer, sealer=None))
    protocol.add_session(session)
    asked = Asked(protocol, [messages.encode_read(FILE, 0, 4)], Route(session, 42))
    return protocol, peer, asked, signer


def sign(signer: HmacSha256Signer, message: bytes, message_id: int) -> bytes:
    blank = message[:48] + bytes(16) + message[64:]
    signature = signer.sign([blank], message_id=message_id, from_server=True, is_cancel=False)
    return message[:48] + signature + message[64:]


def test_requests_of_a_signed_session_are_signed() -> None:
    _, peer, _, _ = signed()
    ((request,),) = peer.requests()
    assert request.header.flags & SMB2_FLAGS_SIGNED
    assert request.header.signature != bytes(16)


def test_a_valid_signature_is_accepted() -> None:
    _, peer, asked, signer = signed()
    ((request,),) = peer.requests()
    answer = peer.answer(request, read_body(b"data"), flags=SMB2_FLAGS_SIGNED)
    peer.deliver([sign(signer, answer, request.header.message_id)])
    assert asked.done == 1


@pytest.mark.parametrize("bit", [0, 8 * 5 + 1, 8 * 12, 8 * 16 + 3, 8 * 48, 8 * 63 + 7, 8 * 80, 8 * 83 + 7])
def test_one_changed_bit_ends_the_connection_and_never_becomes_data(bit: int) -> None:
    _, peer, asked, signer = signed()
    ((request,),) = peer.requests()
    answer = peer.answer(request, read_body(b"data"), flags=SMB2_FLAGS_SIGNED)
    changed = bytearray(sign(signer, answer, request.header.message_id))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises((SecurityError, WireError)):
        peer.deliver([bytes(changed)])
    assert asked.done == 0


def test_an_unsigned_answer_on_a_signed_session_is_an_error() -> None:
    _, peer, asked, _ = signed()
    ((request,),) = peer.requests()
    with pytest.raises(SecurityError, match="unsigned"):
        peer.deliver([peer.answer(request, read_body(b"data"))])
    assert asked.done == 0


@pytest.mark.parametrize("first_status", [NtStatus.NETWORK_SESSION_EXPIRED, NtStatus.ACCESS_DENIED])
def test_only_of_a_call_refused_as_expired_the_rest_needs_no_signature(first_status: NtStatus) -> None:
    protocol, peer, _, signer = signed()
    peer.requests()
    session = SignedSession(42, SessionKeys(signer=signer, sealer=None))
    asked = Asked(protocol, [create(), messages.encode_close(messages.RELATED_FILE_ID)], Route(session, 42))
    ((first, second),) = peer.requests()
    refusal = peer.answer(first, status=first_status, flags=SMB2_FLAGS_SIGNED)
    peer.deliver([sign(signer, refusal, first.header.message_id)])
    wrong = peer.answer(second, status=NtStatus.USER_SESSION_DELETED, flags=SMB2_FLAGS_SIGNED, signature=b"?" * 16)
    if first_status == NtStatus.NETWORK_SESSION_EXPIRED:
        peer.deliver([wrong])
        assert asked.done == 1
    else:
        with pytest.raises((SecurityError, ConnectionLost)):
            peer.deliver([wrong])
        assert asked.done == 0


def test_an_unsigned_pending_only_makes_wait() -> None:
    _, peer, asked, _ = signed()
    ((request,),) = peer.requests()
    peer.deliver([peer.pending(request)])
    assert asked.done == 0


def test_silence_while_an_answer_is_due_loses_the_connection() -> None:
    protocol, peer = connected()
    Asked(protocol, [echo()])
    peer.requests(now=100.0)
    assert protocol.next_deadline() == 110.0
    protocol.handle_timer(109.0)
    with pytest.raises(ConnectionLost) as caught:
        protocol.handle_timer(110.0)
    assert caught.value.status == NtStatus.IO_TIMEOUT


def test_an_idle_connection_is_asked_for_an_echo() -> None:
    protocol, peer = connected()
    assert protocol.next_deadline() == 60
    protocol.handle_timer(60)
    ((request,),) = peer.requests(now=60)
    assert request.command == Command.SMB2_ECHO
    assert protocol.next_deadline() == 70


def test_a_server_that_holds_a_request_pending_may_be_silent() -> None:
    protocol, peer = connected()
    Asked(protocol, [echo()])
    ((request,),) = peer.requests()
    peer.deliver([peer.pending(request)])
    protocol.handle_timer(30)


def test_what_is_sent_meanwhile_has_its_whole_time_from_then() -> None:
    protocol, peer = connected()
    Asked(protocol, [echo()])
    ((held,),) = peer.requests(now=1.0)
    peer.deliver([peer.pending(held)], now=1.0)
    Asked(protocol, [echo()])
    peer.requests(now=30.0)
    protocol.handle_timer(39.0)
    with pytest.raises(ConnectionLost):
        protocol.handle_timer(40.0)


def test_so_may_one_that_holds_a_compound_pending() -> None:
    """It says so of the request that it is at, and of none behind it."""
    protocol, peer = connected()
    asked = Asked(protocol, [echo(), echo(), echo()])
    ((first, second, third),) = peer.requests(now=1.0)
    peer.deliver([peer.pending(first)])
    protocol.handle_timer(30)
    peer.deliver([peer.answer(first)], now=31.0)
    with pytest.raises(ConnectionLost):
        protocol.handle_timer(41.0)
    assert asked.done == 0, (second, third)


def test_the_end_of_a_connection_fails_every_call_once() -> None:
    protocol, peer = connected(credits=1)
    sent, queued = Asked(protocol, [echo()]), Asked(protocol, [echo()])
    given_up = Asked(protocol, [echo()])
    peer.requests()
    protocol.abandon(given_up.call)
    error = ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "reset")
    protocol.connection_lost(error)
    protocol.connection_lost(ConnectionLost("fs1", NtStatus.IO_TIMEOUT, "later"))
    assert (sent.done, queued.done, given_up.done) == (1, 1, 0)
    assert sent.call.error is queued.call.error is error
    with pytest.raises(ConnectionLost, match="reset"):
        protocol.submit([echo()], Route(), lambda: None)
    protocol.abandon(sent.call)


@given(st.binary(max_size=300))
def test_any_bytes_from_a_server_are_an_answer_or_an_error(data: bytes) -> None:
    protocol, peer = connected()
    Asked(protocol, [echo()])
    peer.requests()
    try:
        peer.deliver([data] if data else [])
    except (WireError, SecurityError):
        pass


@given(st.data())
def test_credits_balance_whatever_happens(data: st.DataObject) -> None:
    protocol, peer = connected(credits=8, max_credits=16)
    unanswered: list[Sent] = []
    calls: list[Asked] = []
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(st.sampled_from(["ask", "send", "answer", "abandon", "pending"]))
        if step == "ask":
            calls.append(Asked(protocol, [messages.encode_read(FILE, 0, data.draw(st.integers(1, 6)) * 65536)]))
        elif step == "send":
            unanswered += [request for (request,) in peer.requests() if request.command != Command.SMB2_CANCEL]
        elif step == "abandon" and calls:
            protocol.abandon(calls.pop(data.draw(st.integers(0, len(calls) - 1))).call)
        elif unanswered:
            request = unanswered[data.draw(st.integers(0, len(unanswered) - 1))]
            if step == "pending":
                peer.deliver([peer.pending(request)])
            else:
                unanswered.remove(request)
                body = read_body(b"x") if request.command == Command.SMB2_READ else None
                peer.deliver([peer.answer(request, body, credits=request.header.credit_charge)])
        protocol.check_invariants()
    while unanswered or (frames := peer.requests()):
        if not unanswered:
            unanswered = [request for (request,) in frames if request.command != Command.SMB2_CANCEL]
        while unanswered:
            request = unanswered.pop()
            body = read_body(b"x") if request.command == Command.SMB2_READ else None
            peer.deliver([peer.answer(request, body, credits=request.header.credit_charge)])
    assert all(one.done == 1 for one in calls)
    assert protocol.statistics().in_flight == len(unanswered)

"""No nonce is used for two messages: AES-GMAC would give its key away (NIST SP 800-38D, appendix A).

The nonce of a signature is MessageId, direction and CANCEL bit (MS-SMB2 3.1.4.1), so each of these triples may sign one
message only, whatever a server, or somebody between, makes the client do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dfsfs.errors import SecurityError
from dfsfs.smb.connection.calls import Call, Route
from dfsfs.smb.connection.crypto import MAX_SIGNATURES, AesGmacSigner, SessionKeys, derive_session_keys
from dfsfs.smb.connection.protocol import SmbProtocol
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import (
    SMB2_FLAGS_SIGNED,
    Access,
    Cipher,
    Command,
    CreateDisposition,
    Dialect,
    SigningAlgorithm,
)
from tests.conftest import OFTEN
from tests.support.fakes.peer import EMPTY_BODIES, Peer, Sent, create_body, read_body, split_compound, split_frames

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(range(16))
SESSION_ID = 42
FILE = b"F" * 16
BODIES: dict[int, Callable[[], bytes]] = {
    Command.SMB2_CREATE: create_body,
    Command.SMB2_READ: lambda: read_body(b"data"),
}


# -- the signer -------------------------------------------------------------------------------------------------------


def sign(signer: AesGmacSigner, message: bytes, message_id: int, *, from_server: bool, is_cancel: bool) -> bytes:
    return signer.sign([message], message_id=message_id, from_server=from_server, is_cancel=is_cancel)


@pytest.mark.parametrize("from_server", [False, True])
@pytest.mark.parametrize("is_cancel", [False, True])
def test_a_nonce_signs_one_message(from_server: bool, is_cancel: bool) -> None:
    signer = AesGmacSigner(KEY)
    first = sign(signer, b"one", 7, from_server=from_server, is_cancel=is_cancel)
    with pytest.raises(SecurityError, match="MessageId 7"):
        sign(signer, b"two", 7, from_server=from_server, is_cancel=is_cancel)
    assert sign(signer, b"one", 7, from_server=from_server, is_cancel=is_cancel) == first
    other = sign(signer, b"two", 8, from_server=from_server, is_cancel=is_cancel)
    assert other == sign(AesGmacSigner(KEY), b"two", 8, from_server=from_server, is_cancel=is_cancel)


def test_that_a_signer_refuses_shows_no_key_and_no_signature() -> None:
    signer = AesGmacSigner(KEY)
    kept = sign(signer, b"one", 7, from_server=False, is_cancel=False)
    with pytest.raises(SecurityError) as caught:
        sign(signer, b"two", 7, from_server=False, is_cancel=False)
    would_be = sign(AesGmacSigner(KEY), b"two", 7, from_server=False, is_cancel=False)
    for secret in (KEY, kept, would_be):
        assert secret.hex() not in str(caught.value) and repr(secret) not in str(caught.value)


@OFTEN
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.booleans(), st.sampled_from([b"a", b"b"])), max_size=80)
)
def test_no_history_of_a_signer_has_two_messages_under_one_nonce(
    history: list[tuple[int, bool, bool, bytes]],
) -> None:
    signer, signed = AesGmacSigner(KEY), dict[tuple[int, bool, bool], bytes]()
    for message_id, from_server, is_cancel, message in history:
        try:
            sign(signer, message, message_id, from_server=from_server, is_cancel=is_cancel)
        except SecurityError:
            continue
        assert signed.setdefault((message_id, from_server, is_cancel), message) == message


@OFTEN
@given(st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_requests_in_the_order_of_their_message_ids_are_all_signed(charges: list[int]) -> None:
    signer, message_id = AesGmacSigner(KEY), 0
    for charge in charges:
        assert len(sign(signer, b"request", message_id, from_server=False, is_cancel=False)) == 16
        message_id += charge


@pytest.mark.parametrize("newest_first", [False, True])
def test_what_a_signer_remembers_of_cancels_is_bounded_and_forgets_none(newest_first: bool) -> None:
    """What it can't remember any more it refuses to sign."""
    signer, ids = AesGmacSigner(KEY), list(range(3 * MAX_SIGNATURES))
    signed = []
    for message_id in reversed(ids) if newest_first else ids:
        try:
            sign(signer, b"one", message_id, from_server=False, is_cancel=True)
            signed.append(message_id)
        except SecurityError:
            assert newest_first
    assert len(signed) >= MAX_SIGNATURES
    assert signer.signature_count <= MAX_SIGNATURES
    for message_id in ids:
        with pytest.raises(SecurityError):
            sign(signer, b"two", message_id, from_server=False, is_cancel=True)


# -- the connection ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GmacSession:
    session_id: int
    keys: SessionKeys | None
    encrypt: bool = False


def gmac_keys() -> SessionKeys:
    return derive_session_keys(
        KEY,
        SESSION_ID,
        Dialect.SMB_3_1_1,
        preauth_hash=bytes(64),
        signing=SigningAlgorithm.AES_GMAC,
        cipher=Cipher.AES_128_GCM,
    )


class Wire:
    """A protocol with a signed session, all that it has sent, and an honest server with the keys."""

    def __init__(self) -> None:
        self.protocol = SmbProtocol("fs1", max_credits=64, silence=10, echo_interval=60, now=0)
        self.protocol.multi_credit = True
        self.peer = Peer(self.protocol, credits=4)
        self.protocol.submit([messages.encode_plain(Command.SMB2_ECHO)], Route(), lambda: None)
        ((request,),) = self.peer.requests()
        self.peer.deliver([self.peer.answer(request, credits=64)])
        session = GmacSession(SESSION_ID, gmac_keys())
        self.protocol.add_session(session)
        self.route = Route(session, SESSION_ID, 5)
        keys = gmac_keys()
        self._server = keys.signer
        self.sent: list[bytes] = []
        """Every message that went out, in the order of that."""
        self.waiting: list[Sent] = []
        """Requests without a final answer."""

    def flush(self) -> None:
        for frame in split_frames(b"".join(self.protocol.data_to_send(0))):
            start = 0
            for request in split_compound(frame):
                end = start + request.header.next_command if request.header.next_command else len(frame)
                self.sent.append(frame[start:end])
                start = end
                if request.command is not Command.SMB2_CANCEL:
                    self.waiting.append(request)

    def pending(self, request: Sent, async_id: int) -> None:
        """An unsigned interim answer, which anybody on the way can make."""
        self.peer.deliver([self.peer.pending(request, async_id)])

    def answer(self, request: Sent) -> None:
        self.waiting.remove(request)
        body = BODIES.get(request.command, lambda: EMPTY_BODIES[request.command])()
        message = self.peer.answer(request, body, flags=SMB2_FLAGS_SIGNED)
        signature = self._server.sign(
            [message], message_id=request.header.message_id, from_server=True, is_cancel=False
        )
        self.peer.deliver([message[:48] + signature + message[64:]])

    def cancels(self) -> list[int]:
        headers = [messages.decode_header(memoryview(message)) for message in self.sent]
        return [header.message_id for header in headers if header.command == Command.SMB2_CANCEL]


def read() -> messages.Request:
    return messages.encode_read(FILE, 0, 4096)


def test_interim_answers_to_an_abandoned_call_make_one_cancel() -> None:
    """Each second one would be signed with the nonce of the first, over an AsyncId that somebody else has chosen."""
    link = Wire()
    call = link.protocol.submit([read()], link.route, lambda: None)
    link.flush()
    (request,) = link.waiting
    link.pending(request, 0x1111)
    link.protocol.abandon(call)
    for async_id in (0x2222, 0x1111, 0x3333):
        link.pending(request, async_id)
        link.protocol.abandon(call)
    link.flush()
    assert link.cancels() == [request.header.message_id]


def test_interim_answers_before_a_call_is_abandoned_make_one_cancel() -> None:
    link = Wire()
    call = link.protocol.submit([read()], link.route, lambda: None)
    link.flush()
    (request,) = link.waiting
    for async_id in (0x1111, 0x2222):
        link.pending(request, async_id)
    link.protocol.abandon(call)
    link.pending(request, 0x3333)
    link.flush()
    assert link.cancels() == [request.header.message_id]


def test_a_cancel_that_can_not_be_signed_ends_nothing() -> None:
    """The server goes on with a request of long ago, and its answer is taken."""
    link = Wire()
    call = link.protocol.submit([read()], link.route, lambda: None)
    link.flush()
    (request,) = link.waiting
    assert link.route.session is not None and link.route.session.keys is not None
    for message_id in range(1000, 1000 + 2 * MAX_SIGNATURES):
        link.route.session.keys.signer.sign([b"x"], message_id=message_id, from_server=False, is_cancel=True)
    link.pending(request, 0x1111)
    link.protocol.abandon(call)
    link.flush()
    assert link.cancels() == []
    link.answer(request)
    assert link.protocol.statistics().in_flight == 0 and link.protocol.error is None


class AnyHistory(RuleBasedStateMachine):
    """Calls, compounds, interim answers from whomever, abandonments and answers in any order."""

    @initialize()
    def connect(self) -> None:
        self.link = Wire()
        self.calls: list[Call] = []

    @rule(compound=st.integers(1, 3), echo=st.booleans())
    def submit(self, compound: int, echo: bool) -> None:
        requests = [messages.encode_plain(Command.SMB2_ECHO) if echo else read() for _ in range(compound)]
        self.calls.append(self.link.protocol.submit(requests, self.link.route, lambda: None))

    @rule()
    def open_and_close(self) -> None:
        create = messages.encode_create("a", access=Access.READ, disposition=CreateDisposition.FILE_OPEN)
        self.calls.append(self.link.protocol.submit([create], self.link.route, lambda: None))

    @rule()
    def send(self) -> None:
        self.link.flush()

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        self.link.protocol.abandon(data.draw(st.sampled_from(self.calls)))

    @precondition(lambda self: self.link.waiting)
    @rule(data=st.data(), async_id=st.integers(1, 2**64 - 1))
    def interim(self, data: st.DataObject, async_id: int) -> None:
        self.link.pending(data.draw(st.sampled_from(self.link.waiting)), async_id)

    @precondition(lambda self: self.link.waiting)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.link.answer(data.draw(st.sampled_from(self.link.waiting)))

    @invariant()
    def each_nonce_has_signed_one_message(self) -> None:
        signed: dict[tuple[int, bool], bytes] = {}
        for message in self.link.sent[1:]:
            header = messages.decode_header(memoryview(message))
            nonce = header.message_id, header.command == Command.SMB2_CANCEL
            assert header.flags & SMB2_FLAGS_SIGNED
            assert nonce not in signed, f"two messages under MessageId {header.message_id}"
            signed[nonce] = message

    @invariant()
    def credits_and_ids_agree(self) -> None:
        self.link.protocol.check_invariants()


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = OFTEN


# -- sealing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", list(Cipher))
@OFTEN
@given(sizes=st.lists(st.sampled_from([1, 100, 16 * 1024, 20_000]), min_size=2, max_size=40))
def test_whatever_is_sealed_gets_a_nonce_above_the_last(cipher: Cipher, sizes: list[int]) -> None:
    """Large messages are sealed in another way than small ones, and count with them."""
    keys = derive_session_keys(
        bytes(32),
        SESSION_ID,
        Dialect.SMB_3_1_1,
        preauth_hash=bytes(64),
        signing=SigningAlgorithm.AES_GMAC,
        cipher=cipher,
    )
    assert keys.sealer is not None
    nonces = [int.from_bytes(b"".join(keys.sealer.seal([bytes(size)]))[20:36], "little") for size in sizes]
    assert all(one < other for one, other in pairwise(nonces))


def test_a_call_that_is_sent_again_has_a_message_id_of_its_own() -> None:
    """As after a session that had expired: the requests are the same, and nothing of the first sending is used."""
    link = Wire()
    for _ in range(3):
        link.protocol.submit([read(), read()], link.route, lambda: None)
        link.flush()
    ids = [request.header.message_id for request in link.waiting]
    assert len(set(ids)) == len(ids) == 6

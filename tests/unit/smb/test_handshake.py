"""Negotiate, session setup and tree connect, against a server of a few lines that knows NTLM (pyspnego's acceptor)."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st
from smbprotocol.connection import SMB2NegotiateRequest, SMB3NegotiateRequest
from smbprotocol.session import SMB2SessionSetupRequest
from smbprotocol.tree import SMB2TreeConnectRequest

from dfsfs.errors import DfsfsError, SecurityError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.auth.gss import make_authenticator
from dfsfs.smb.connection.crypto import SessionKeys, derive_session_keys, preauth_update
from dfsfs.smb.connection.handshake import (
    Exchange,
    Negotiated,
    Offer,
    Reply,
    Session,
    check_validate_negotiate,
    decode_tree_connect,
    encode_tree_connect,
    encode_validate_negotiate,
    negotiate,
    session_setup,
)
from dfsfs.smb.wire.constants import Cipher, Dialect, SigningAlgorithm
from dfsfs.smb.wire.messages import HEADER, SMB2_MAGIC

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

T = TypeVar("T")

PASSWORD = "Tr0ub4dor&3"
ALICE = Credentials("alice", Secret(PASSWORD), "LAB")
SERVER_GUID = b"S" * 16
SESSION_ID = 0x77
ENCRYPTION_CAP, LARGE_MTU_CAP = 0x40, 0x04
IS_GUEST, IS_ANONYMOUS, ENCRYPT_DATA = 1, 2, 4

OFFER = Offer(
    dialects=tuple(Dialect),
    client_guid=b"C" * 16,
    salt=bytes(range(32)),
    ciphers=(Cipher.AES_128_GCM, Cipher.AES_256_GCM, Cipher.AES_128_CCM, Cipher.AES_256_CCM),
    signing=(SigningAlgorithm.AES_GMAC, SigningAlgorithm.AES_CMAC, SigningAlgorithm.HMAC_SHA256),
    host="fs1",
)


# -- the other end -----------------------------------------------------------------------------------------------------


def message(command: int, body: bytes, *, status: int = 0, session_id: int = 0, flags: int = 1) -> bytes:
    return HEADER.pack(SMB2_MAGIC, 64, 1, status, command, 1, flags, 0, command, 0, 0, session_id, bytes(16)) + body


def reply(sent: bytes, received: bytes) -> Reply:
    header = HEADER.unpack_from(received)
    view = memoryview(received)
    return Reply(header[3], header[11], view[64:], sent, view)


def context(kind: int, data: bytes) -> bytes:
    return struct.pack("<HHI", kind, len(data), 0) + data + bytes(-len(data) % 8)


def contexts(cipher: int | None = 2, signing: int | None = 2, hashes: tuple[int, ...] = (1,)) -> list[bytes]:
    preauth = struct.pack(f"<HH{len(hashes)}H", len(hashes), 32, *hashes) + bytes(32)
    found = [context(1, preauth)]
    if cipher is not None:
        found.append(context(2, struct.pack("<HH", 1, cipher)))
    if signing is not None:
        found.append(context(8, struct.pack("<HH", 1, signing)))
    return found


def negotiated_message(
    dialect: int = Dialect.SMB_3_1_1,
    *,
    capabilities: int = 0x47,
    mode: int = 3,
    sizes: tuple[int, int, int] = (1 << 20, 2 << 20, 3 << 20),
    extra: list[bytes] | None = None,
    token: bytes = b"hint",
    structure_size: int = 65,
) -> bytes:
    if extra is None:
        extra = contexts() if dialect == Dialect.SMB_3_1_1 else []
    padded = token + bytes(-len(token) % 8)
    offset = 128 + len(padded) if extra else 0
    fixed = struct.pack(
        "<HHHH16sIIIIQQHHI",
        structure_size,
        mode,
        dialect,
        len(extra),
        SERVER_GUID,
        capabilities,
        *sizes,
        0,
        0,
        128,
        len(token),
        offset,
    )
    return message(0, fixed + padded + b"".join(extra))


def finish(steps: Generator[Exchange, Reply, T], received: bytes) -> T:
    """Answers the one question of an exchange."""
    asked = next(steps)
    with pytest.raises(StopIteration) as stop:
        steps.send(reply(message(asked.command, asked.body, flags=0), received))
    value: T = stop.value.value
    return value


def agreed(received: bytes, offer: Offer = OFFER) -> Negotiated:
    return finish(negotiate(offer), received)


def fail(received: bytes, offer: Offer = OFFER) -> DfsfsError:
    steps = negotiate(offer)
    asked = next(steps)
    with pytest.raises(DfsfsError) as caught:
        steps.send(reply(message(0, asked.body, flags=0), received))
    return caught.value


class Server:
    """Answers SESSION_SETUP as a real server does. What a test sets to something else it does wrong."""

    def __init__(self, negotiated: Negotiated) -> None:
        self.negotiated = negotiated
        self.preauth_hash = negotiated.preauth_hash
        self.acceptor = spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
        self.session_flags = 0
        self.signed = True
        self.garble = False
        self.asked: list[Exchange] = []

    def run(self, steps: Generator[Exchange, Reply, Session]) -> Session:
        asked = next(steps)
        while True:
            try:
                asked = steps.send(self.answer(asked))
            except StopIteration as stop:
                session: Session = stop.value
                return session

    def answer(self, asked: Exchange) -> Reply:
        self.asked.append(asked)
        sent = message(1, asked.body, session_id=asked.session_id, flags=0)
        self.preauth_hash = preauth_update(self.preauth_hash, sent)
        try:
            token = self.acceptor.step(token_of(asked)) or b""
        except spnego.exceptions.SpnegoError:
            return reply(sent, message(1, b"\x09\x00" + bytes(7), status=NtStatus.LOGON_FAILURE))
        if not self.acceptor.complete:
            received = setup_message(token, status=NtStatus.MORE_PROCESSING_REQUIRED)
            self.preauth_hash = preauth_update(self.preauth_hash, received)
            return reply(sent, received)
        return reply(sent, self.last(setup_message(token, session_flags=self.session_flags)))

    def last(self, received: bytes) -> bytes:
        if not self.signed:
            return received
        final = bytearray(received)
        final[16] |= 8
        final[48:64] = self.keys().signer.sign([final], message_id=1, from_server=True, is_cancel=False)
        if self.garble:
            final[14] ^= 1  # the credits
        return bytes(final)

    def keys(self) -> SessionKeys:
        return derive_session_keys(
            self.acceptor.session_key,
            SESSION_ID,
            self.negotiated.dialect,
            preauth_hash=self.preauth_hash,
            signing=self.negotiated.signing,
            cipher=self.negotiated.cipher,
        )


def setup_message(token: bytes, *, status: int = 0, session_flags: int = 0, session_id: int = SESSION_ID) -> bytes:
    body = struct.pack("<HHHH", 9, session_flags, 72, len(token)) + token
    return message(1, body, status=status, session_id=session_id)


def token_of(asked: Exchange) -> bytes:
    structure: Any = SMB2SessionSetupRequest()
    structure.unpack(asked.body)
    assert structure["security_buffer_offset"].get_value() == 88
    token: bytes = structure["buffer"].get_value()
    return token


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's user data base."""
    file = tmp_path / "users"
    file.write_text(f"LAB:alice:{PASSWORD}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(file))


def login(server: Server, credentials: Credentials = ALICE, *, seal: bool = False) -> Session:
    authenticator = make_authenticator(credentials, "fs1")
    return server.run(session_setup(server.negotiated, authenticator, sealing_wanted=seal))


# -- negotiate ---------------------------------------------------------------------------------------------------------


def test_the_offer_as_the_oracle_reads_it() -> None:
    # Of three dialects: after an even number smbprotocol 1.17 looks for the contexts at the wrong place.
    asked = next(negotiate(replace(OFFER, dialects=(Dialect.SMB_3_0, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1))))
    structure: Any = SMB3NegotiateRequest()
    structure.unpack(asked.body)
    assert structure["dialects"].get_value() == [0x300, 0x302, 0x311]
    assert structure["client_guid"].get_value().bytes_le == OFFER.client_guid
    found = {
        one["context_type"].get_value(): one["data"].get_value()
        for one in structure["negotiate_context_list"].get_value()
    }
    assert found[1]["hash_algorithms"].get_value() == [1]
    assert found[1]["salt"].get_value() == OFFER.salt
    assert found[2]["ciphers"].get_value() == [2, 4, 1, 3]
    assert found[8]["signing_algorithms"].get_value() == [2, 1, 0]
    assert found[5]["net_name"].get_value() == "fs1"


def test_contexts_are_aligned() -> None:
    body = next(negotiate(OFFER)).body
    offset, count = struct.unpack_from("<IH", body, 28)
    assert offset % 8 == 0 and count == 4


def test_without_3_1_1_there_are_no_contexts() -> None:
    body = next(negotiate(replace(OFFER, dialects=(Dialect.SMB_2_1,)))).body
    structure: Any = SMB2NegotiateRequest()
    structure.unpack(body)
    assert structure["dialects"].get_value() == [0x210]
    assert len(body) == 38


@pytest.mark.parametrize(
    ("dialect", "capabilities", "signing", "cipher"),
    [
        (Dialect.SMB_2_1, 0x47, SigningAlgorithm.HMAC_SHA256, None),
        (Dialect.SMB_3_0, 0x47, SigningAlgorithm.AES_CMAC, Cipher.AES_128_CCM),
        (Dialect.SMB_3_0, 0x07, SigningAlgorithm.AES_CMAC, None),
        (Dialect.SMB_3_0_2, 0x47, SigningAlgorithm.AES_CMAC, Cipher.AES_128_CCM),
        (Dialect.SMB_3_1_1, 0x07, SigningAlgorithm.AES_GMAC, Cipher.AES_128_GCM),
    ],
)
def test_what_comes_of_each_dialect(
    dialect: Dialect, capabilities: int, signing: SigningAlgorithm, cipher: Cipher | None
) -> None:
    found = agreed(negotiated_message(dialect, capabilities=capabilities))
    assert (found.dialect, found.signing, found.cipher) == (dialect, signing, cipher)
    assert (found.server_guid, found.security_buffer, found.security_mode) == (SERVER_GUID, b"hint", 3)
    assert (found.max_transact, found.max_read, found.max_write) == (1 << 20, 2 << 20, 3 << 20)


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.parametrize("signing", list(SigningAlgorithm))
def test_choices_of_3_1_1(cipher: Cipher, signing: SigningAlgorithm) -> None:
    found = agreed(negotiated_message(extra=contexts(cipher, signing)))
    assert (found.cipher, found.signing) == (cipher, signing)


def test_a_server_without_cipher_or_signing_context() -> None:
    for none in (None, 0):  # no context at all, or the cipher 0: none in common
        found = agreed(negotiated_message(extra=contexts(none, None)))
        assert (found.cipher, found.signing) == (None, SigningAlgorithm.AES_CMAC)


def test_unknown_contexts_and_capabilities_do_no_harm() -> None:
    extra = [context(3, b"compression"), *contexts(), context(0x100, b"posix and more")]
    assert agreed(negotiated_message(extra=extra, capabilities=0xFFFFFFFF)).cipher is Cipher.AES_128_GCM


def test_without_large_mtu_payloads_have_64_kib() -> None:
    found = agreed(negotiated_message(capabilities=0x43))
    assert (found.max_transact, found.max_read, found.max_write) == (65536, 65536, 65536)


def test_the_preauth_hash_covers_both_messages() -> None:
    received = negotiated_message()
    steps = negotiate(OFFER)
    sent = message(0, next(steps).body, flags=0)
    with pytest.raises(StopIteration) as stop:
        steps.send(reply(sent, received))
    assert stop.value.value.preauth_hash == preauth_update(preauth_update(bytes(64), sent), received)


@pytest.mark.parametrize(
    "received",
    [
        negotiated_message(0x0202),
        negotiated_message(0x02FF),
        negotiated_message(0x0312),
        negotiated_message(structure_size=64),
        negotiated_message(sizes=(65535, 1 << 20, 1 << 20)),
        negotiated_message(sizes=(1 << 20, 0, 1 << 20)),
        negotiated_message(extra=[]),
        negotiated_message(extra=contexts()[1:]),
        negotiated_message(extra=contexts(hashes=(2,))),
        negotiated_message(extra=contexts(hashes=(1, 1))),
        negotiated_message(extra=contexts(hashes=())),
        negotiated_message(extra=contexts(cipher=5)),
        negotiated_message(extra=contexts(signing=3)),
        negotiated_message(extra=contexts() + contexts()),
        negotiated_message(extra=[context(1, b"\x01")]),
        negotiated_message(extra=[*contexts(None, None), context(2, struct.pack("<HHH", 2, 1, 2))]),
        negotiated_message()[:-30],
        negotiated_message()[:100],
        negotiated_message()[:64],
    ],
)
def test_what_was_not_offered_or_makes_no_sense(received: bytes) -> None:
    assert isinstance(fail(received), WireError)


def test_choices_must_be_among_the_offered() -> None:
    offer = replace(OFFER, ciphers=(Cipher.AES_128_CCM,), signing=(SigningAlgorithm.AES_CMAC,))
    assert isinstance(fail(negotiated_message(extra=contexts(cipher=2, signing=1)), offer), WireError)
    assert isinstance(fail(negotiated_message(extra=contexts(cipher=1, signing=2)), offer), WireError)
    newest = replace(OFFER, dialects=(Dialect.SMB_3_1_1,))
    assert isinstance(fail(negotiated_message(Dialect.SMB_2_1), newest), WireError)


def test_a_server_that_refuses() -> None:
    error = fail(message(0, b"\x09\x00" + bytes(7), status=NtStatus.NOT_SUPPORTED))
    assert isinstance(error, SmbError) and error.status == NtStatus.NOT_SUPPORTED


@given(st.data())
def test_any_answer_to_negotiate_is_a_value_or_an_error_of_ours(data: st.DataObject) -> None:
    received = negotiated_message()
    raw = bytearray(received)
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(64, len(raw) - 1))] = data.draw(st.sampled_from([0, 1, 2, 64, 128, 255]))
    steps = negotiate(OFFER)
    next(steps)
    try:
        steps.send(reply(b"", bytes(raw[: data.draw(st.integers(64, len(raw)))])))
    except (StopIteration, DfsfsError):
        pass


@given(st.binary(max_size=300))
def test_random_answers_to_negotiate(raw: bytes) -> None:
    steps = negotiate(OFFER)
    next(steps)
    with pytest.raises(WireError):
        steps.send(reply(b"", message(0, raw)))


# -- session setup -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_login(dialect: Dialect) -> None:
    server = Server(agreed(negotiated_message(dialect)))
    session = login(server)
    assert (session.session_id, session.encrypt) == (SESSION_ID, False)
    ours, theirs = session.keys, server.keys()
    assert ours is not None
    assert signature(ours) == signature(theirs)


def signature(keys: SessionKeys) -> bytes:
    return keys.signer.sign([b"x"], message_id=9, from_server=True, is_cancel=False)


@pytest.mark.usefixtures("accounts")
def test_the_session_id_is_kept_from_the_first_answer_on() -> None:
    server = Server(agreed(negotiated_message()))
    login(server)
    assert [asked.session_id for asked in server.asked] == [0, SESSION_ID]


@pytest.mark.usefixtures("accounts")
def test_kerberos_is_never_tried() -> None:
    server = Server(agreed(negotiated_message()))
    login(server)
    for asked in server.asked:
        assert b"NTLMSSP\0" in token_of(asked)
        assert bytes.fromhex("2a864886f712010202") not in token_of(asked)


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("dialect", [Dialect.SMB_3_0, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1])
@pytest.mark.parametrize(("wanted", "flags"), [(True, 0), (False, ENCRYPT_DATA), (True, ENCRYPT_DATA)])
def test_encryption_is_what_either_side_wants(dialect: Dialect, wanted: bool, flags: int) -> None:
    server = Server(agreed(negotiated_message(dialect)))
    server.session_flags = flags
    session = login(server, seal=wanted)
    assert session.encrypt
    assert session.keys is not None and session.keys.sealer is not None


@pytest.mark.usefixtures("accounts")
def test_encryption_that_is_not_to_be_had() -> None:
    for received in (negotiated_message(Dialect.SMB_2_1), negotiated_message(extra=contexts(None))):
        with pytest.raises(SecurityError, match="encryption"):
            login(Server(agreed(received)), seal=True)


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_last_answer_must_be_signed(dialect: Dialect) -> None:
    server = Server(agreed(negotiated_message(dialect)))
    server.signed = False
    with pytest.raises(SecurityError, match="sign"):
        login(server)


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_last_answer_must_be_as_it_was_signed(dialect: Dialect) -> None:
    server = Server(agreed(negotiated_message(dialect)))
    server.garble = True
    with pytest.raises(SecurityError):
        login(server)


@pytest.mark.usefixtures("accounts")
def test_a_negotiation_that_was_changed_on_the_way_is_found_out() -> None:
    """In 3.1.1 both ends hash what they saw, so that their keys differ if it was not the same."""
    negotiated = agreed(negotiated_message())
    server = Server(negotiated)
    steps = session_setup(
        replace(negotiated, preauth_hash=b"\1" * 64), make_authenticator(ALICE, "fs1"), sealing_wanted=False
    )
    with pytest.raises(SecurityError):
        server.run(steps)


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("flags", [IS_GUEST, IS_ANONYMOUS])
def test_nobody_is_let_in_as_a_guest(flags: int) -> None:
    server = Server(agreed(negotiated_message()))
    server.session_flags = flags
    with pytest.raises(SecurityError, match="guest"):
        login(server)


@pytest.mark.usefixtures("accounts")
def test_a_wrong_password() -> None:
    with pytest.raises(SmbError) as caught:
        login(Server(agreed(negotiated_message())), Credentials("alice", Secret("N0t-it!"), "LAB"))
    assert caught.value.status == NtStatus.LOGON_FAILURE
    assert "N0t-it!" not in str(caught.value)


def test_a_server_that_never_comes_to_an_end() -> None:
    class Patient:
        mutual = False
        session_key = b""

        def step(self, token: bytes | None) -> bytes | None:
            return b"more"

    steps = session_setup(agreed(negotiated_message()), Patient(), sealing_wanted=False)
    next(steps)
    with pytest.raises(WireError, match="rounds"):
        for _ in range(50):
            steps.send(reply(b"", setup_message(b"go on", status=NtStatus.MORE_PROCESSING_REQUIRED)))


@given(st.binary(max_size=40))
def test_random_answers_to_session_setup(raw: bytes) -> None:
    steps = session_setup(agreed(negotiated_message()), make_authenticator(ALICE, "fs1"), sealing_wanted=False)
    next(steps)
    with pytest.raises(DfsfsError):
        steps.send(reply(b"", message(1, raw[:7], session_id=SESSION_ID)))


def test_the_password_shows_nowhere() -> None:
    authenticator = make_authenticator(ALICE, "fs1")
    asked = next(session_setup(agreed(negotiated_message()), authenticator, sealing_wanted=False))
    for shown in (authenticator, asked, ALICE):
        assert PASSWORD not in repr(shown)


# -- tree connect and validate negotiate -------------------------------------------------------------------------------


def test_tree_connect_as_the_oracle_reads_it() -> None:
    structure: Any = SMB2TreeConnectRequest()
    structure.unpack(encode_tree_connect("\\\\fs1\\dätä"))
    assert structure["path_offset"].get_value() == 72
    assert structure["buffer"].get_value().decode("utf-16-le") == "\\\\fs1\\dätä"


def test_tree_connect_answers() -> None:
    body = struct.pack("<HBBIII", 16, 1, 0, 0x3, 0x8, 0x1F01FF)
    found = decode_tree_connect(memoryview(message(3, body)))
    assert (found.share_type, found.share_flags, found.capabilities, found.maximal_access) == (1, 3, 8, 0x1F01FF)
    for broken in (body[:-1], b"\x11" + body[1:], b""):
        with pytest.raises(WireError):
            decode_tree_connect(memoryview(message(3, broken)))


def test_validate_negotiate() -> None:
    negotiated = agreed(negotiated_message(Dialect.SMB_3_0_2))
    offered = next(negotiate(OFFER)).body
    question = encode_validate_negotiate(negotiated)
    assert question == (
        offered[8:12] + OFFER.client_guid + offered[4:6] + struct.pack("<H4H", 4, 0x210, 0x300, 0x302, 0x311)
    )
    right = struct.pack("<I16sHH", 0x47, SERVER_GUID, 3, 0x302)
    check_validate_negotiate(negotiated, right)
    for index in range(len(right)):
        wrong = bytearray(right)
        wrong[index] ^= 1
        with pytest.raises(SecurityError):
            check_validate_negotiate(negotiated, bytes(wrong))
    for cut in (b"", right[:-1], right + b"\0"):
        with pytest.raises(SecurityError):
            check_validate_negotiate(negotiated, cut)


# -- servers that mean harm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_server_cannot_cut_the_login_short(dialect: Dialect) -> None:
    """It knows no password, says yes to the first token, and signs that with the keys that come of no key at all."""
    negotiated = agreed(negotiated_message(dialect))
    steps = session_setup(negotiated, make_authenticator(ALICE, "fs1"), sealing_wanted=False)
    sent = message(1, next(steps).body, flags=0)
    keys = derive_session_keys(
        b"",
        SESSION_ID,
        negotiated.dialect,
        preauth_hash=preauth_update(negotiated.preauth_hash, sent),
        signing=negotiated.signing,
        cipher=negotiated.cipher,
    )
    final = bytearray(setup_message(b""))
    final[16] |= 8
    final[48:64] = keys.signer.sign([final], message_id=1, from_server=True, is_cancel=False)
    with pytest.raises(SecurityError, match="before it was complete"):
        steps.send(reply(sent, bytes(final)))


@pytest.mark.usefixtures("accounts")
def test_a_challenge_with_any_wrong_byte() -> None:
    """pyspnego raises what it likes at such tokens; nothing but errors of ours may come out."""
    negotiated = agreed(negotiated_message())
    server = Server(negotiated)
    steps = session_setup(negotiated, make_authenticator(ALICE, "fs1"), sealing_wanted=False)
    challenge = server.acceptor.step(token_of(next(steps)))
    assert challenge is not None
    for index in range(len(challenge)):
        for value in (0, 1, 2, 0x7F, 0xFF):
            wrong = bytearray(challenge)
            wrong[index] = value
            expect_ours(bytes(wrong), negotiated)
        expect_ours(challenge[:index], negotiated)


@given(st.binary(max_size=120).map(lambda raw: b"NTLMSSP\0\2\0\0\0" + raw))
def test_random_challenges(token: bytes) -> None:
    expect_ours(token, agreed(negotiated_message()))


def expect_ours(token: bytes, negotiated: Negotiated) -> None:
    steps = session_setup(negotiated, make_authenticator(ALICE, "fs1"), sealing_wanted=False)
    next(steps)
    said = ""
    try:
        steps.send(reply(b"", setup_message(token, status=NtStatus.MORE_PROCESSING_REQUIRED)))
    except DfsfsError as error:
        said = str(error)
    assert PASSWORD not in said


@pytest.mark.parametrize("second", [0, SESSION_ID + 1])
def test_the_session_id_does_not_change(second: int) -> None:
    class Patient:
        mutual = False
        session_key = b"k" * 16

        def step(self, token: bytes | None) -> bytes | None:
            return b"more"

    steps = session_setup(agreed(negotiated_message()), Patient(), sealing_wanted=False)
    next(steps)
    steps.send(reply(b"", setup_message(b"go on", status=NtStatus.MORE_PROCESSING_REQUIRED)))
    with pytest.raises(WireError, match="SessionId"):
        steps.send(reply(b"", setup_message(b"go on", status=NtStatus.MORE_PROCESSING_REQUIRED, session_id=second)))

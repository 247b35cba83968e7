"""Negotiate, session setup and tree connect (MS-SMB2 3.2.4.2, 3.2.5.2, 3.2.5.3): a connection's first messages.

Each exchange is a generator: it yields an `Exchange` to send, is sent the `Reply`, and returns a frozen value. No I/O
happens here; `Connection.exchange` runs the steps in a thread, because authentication computes and may wait for a KDC:
gss.py.

The server's choices are checked against the offer: a dialect, cipher or signing algorithm that was not offered is an
error. The final SESSION_SETUP response must have a valid signature made with the new keys. So changes by an attacker in
between are detected here (3.1.1) or by validation.py (before).

Not here: guest and anonymous sessions (they have no key to sign with), multichannel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dfsfs.errors import LoginRefused, SecurityError, SetupRefused, WireError
from dfsfs.filetime import filetime_to_ns
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.crypto import SessionKeys, derive_session_keys, preauth_update, verify
from dfsfs.smb.wire.constants import (
    SHA_512,
    SMB2_ENCRYPTION_CAPABILITIES,
    SMB2_FLAGS_SIGNED,
    SMB2_GLOBAL_CAP_DFS,
    SMB2_GLOBAL_CAP_ENCRYPTION,
    SMB2_GLOBAL_CAP_LARGE_MTU,
    SMB2_GLOBAL_CAP_LEASING,
    SMB2_NEGOTIATE_SIGNING_REQUIRED,
    SMB2_NETNAME_NEGOTIATE_CONTEXT_ID,
    SMB2_PREAUTH_INTEGRITY_CAPABILITIES,
    SMB2_SESSION_FLAG_ENCRYPT_DATA,
    SMB2_SESSION_FLAG_IS_GUEST,
    SMB2_SESSION_FLAG_IS_NULL,
    SMB2_SIGNING_CAPABILITIES,
    Cipher,
    Command,
    Dialect,
    SigningAlgorithm,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from dfsfs.smb.auth.gss import Authenticator

_HEADER_SIZE = 64
"""Bytes of an SMB2 packet header (MS-SMB2 2.2.1)."""
_MAX_STEPS = 8
"""The most SESSION_SETUP exchanges of one login. NTLM takes two, Kerberos one or two."""

_CLIENT_CAPABILITIES = (
    SMB2_GLOBAL_CAP_DFS | SMB2_GLOBAL_CAP_LEASING | SMB2_GLOBAL_CAP_LARGE_MTU | SMB2_GLOBAL_CAP_ENCRYPTION
)
"""Capabilities in NEGOTIATE, from dialect 3.0 on (MS-SMB2 2.2.3)."""
_NO_USER: Final = SMB2_SESSION_FLAG_IS_GUEST | SMB2_SESSION_FLAG_IS_NULL
"""SessionFlags of sessions that have no key to sign with (MS-SMB2 2.2.6)."""

_SMALL_SIZE = 65536
"""Bytes of the largest payload without SMB2_GLOBAL_CAP_LARGE_MTU (MS-SMB2 3.2.5.2)."""

_NEGOTIATE_REQUEST = struct.Struct("<HHHHI16sIHH")
_NEGOTIATE_RESPONSE = struct.Struct("<HHHH16sIIIIQQHHI")
_CONTEXT = struct.Struct("<HHI")
_SESSION_SETUP_REQUEST = struct.Struct("<HBBIIHHQ")
_SESSION_SETUP_RESPONSE = struct.Struct("<HHHH")
_TREE_CONNECT_REQUEST = struct.Struct("<HHHH")
_TREE_CONNECT_RESPONSE = struct.Struct("<HBBIII")
_VALIDATE_REQUEST = struct.Struct("<I16sHH")
_VALIDATE_RESPONSE = struct.Struct("<I16sHH")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A message to send: command and body; the shell adds the header."""

    command: Command
    body: bytes = field(repr=False)
    session_id: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to an Exchange. `sent` and `received` are whole messages with their headers, without length prefix."""

    status: int
    session_id: int
    body: memoryview
    sent: bytes
    received: memoryview


@dataclass(frozen=True, slots=True)
class Offer:
    """What the client offers in NEGOTIATE. `client_guid` has 16 bytes, `salt` 32 random ones; the preferred cipher and
    signing algorithm come first.
    """

    dialects: tuple[Dialect, ...]
    client_guid: bytes
    salt: bytes
    ciphers: tuple[Cipher, ...]
    signing: tuple[SigningAlgorithm, ...]
    host: str


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The result of NEGOTIATE. Sizes in bytes. `preauth_hash` covers the negotiate exchange (3.1.1)."""

    offer: Offer
    dialect: Dialect
    server_guid: bytes
    security_mode: int
    capabilities: int
    max_transact: int
    max_read: int
    max_write: int
    signing: SigningAlgorithm
    cipher: Cipher | None
    security_buffer: bytes
    preauth_hash: bytes
    system_time: int = 0
    """The server's clock when it answered, in nanoseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Session:
    """An authenticated session. `encrypt`: all its messages must be encrypted. `mutual`: the server was authenticated,
    too.
    """

    session_id: int
    keys: SessionKeys
    encrypt: bool
    mutual: bool = False


@dataclass(frozen=True, slots=True)
class TreeConnected:
    """A TREE_CONNECT response; the bits are those of MS-SMB2 2.2.10."""

    share_type: int
    share_flags: int
    capabilities: int
    maximal_access: int


# -- negotiate --------------------------------------------------------------------------------------------------------


def negotiate(offer: Offer) -> Generator[Exchange, Reply, Negotiated]:
    """NEGOTIATE (MS-SMB2 3.2.4.2.2.2).

    Raises:
        SetupRefused: the server refuses; NOT_SUPPORTED means that it has none of the offered dialects.
        WireError: the response is malformed, or chooses something that was not offered.
    """
    reply = yield Exchange(Command.SMB2_NEGOTIATE, _encode_negotiate(offer))
    if reply.status != NtStatus.SUCCESS:
        raise SetupRefused(reply.status, f"negotiate with {offer.host}")
    preauth_hash = preauth_update(preauth_update(bytes(64), reply.sent), reply.received)
    return _decode_negotiate(offer, reply.received, preauth_hash)


def _encode_negotiate(offer: Offer) -> bytes:
    dialects = b"".join(struct.pack("<H", dialect) for dialect in offer.dialects)
    offset = count = 0
    contexts = b""
    if Dialect.SMB_3_1_1 in offer.dialects:
        items = _encode_contexts(offer)
        count = len(items)
        padding = -(_HEADER_SIZE + _NEGOTIATE_REQUEST.size + len(dialects)) % 8
        offset = _HEADER_SIZE + _NEGOTIATE_REQUEST.size + len(dialects) + padding
        contexts = bytes(padding)
        for index, (kind, data) in enumerate(items):
            contexts += _CONTEXT.pack(kind, len(data), 0) + data
            contexts += bytes(-len(data) % 8) if index < count - 1 else b""
    capabilities = _CLIENT_CAPABILITIES if max(offer.dialects) >= Dialect.SMB_3_0 else 0
    fixed = _NEGOTIATE_REQUEST.pack(
        36, len(offer.dialects), SMB2_NEGOTIATE_SIGNING_REQUIRED, 0, capabilities, offer.client_guid, offset, count, 0
    )
    return fixed + dialects + contexts


def _encode_contexts(offer: Offer) -> list[tuple[int, bytes]]:
    """The negotiate contexts of 3.1.1 (MS-SMB2 2.2.3.1)."""
    ciphers = b"".join(struct.pack("<H", cipher) for cipher in offer.ciphers)
    signing = b"".join(struct.pack("<H", algorithm) for algorithm in offer.signing)
    return [
        (SMB2_PREAUTH_INTEGRITY_CAPABILITIES, struct.pack("<HHH", 1, len(offer.salt), SHA_512) + offer.salt),
        (SMB2_ENCRYPTION_CAPABILITIES, struct.pack("<H", len(offer.ciphers)) + ciphers),
        (SMB2_SIGNING_CAPABILITIES, struct.pack("<H", len(offer.signing)) + signing),
        (SMB2_NETNAME_NEGOTIATE_CONTEXT_ID, offer.host.encode("utf-16-le")),
    ]


def _decode_negotiate(offer: Offer, message: memoryview, preauth_hash: bytes) -> Negotiated:
    fields = _unpack(_NEGOTIATE_RESPONSE, message, 65, "NEGOTIATE")
    _, mode, revision, context_count, guid, capabilities, transact, read, write, *rest = fields
    now, _, offset, length, contexts = rest
    if revision not in offer.dialects:
        raise WireError(f"{offer.host} chose dialect {revision:#06x}, which was not offered")
    dialect = Dialect(revision)
    token = bytes(_slice(message, offset, length, "NEGOTIATE")) if length else b""
    signing, cipher = _decode_algorithms(offer, dialect, capabilities, message, contexts, context_count)
    if min(transact, read, write) < _SMALL_SIZE:
        raise WireError(
            f"{offer.host} takes payloads of {min(transact, read, write)} bytes; 65536 is the least there is"
        )
    if not capabilities & SMB2_GLOBAL_CAP_LARGE_MTU:
        transact = read = write = _SMALL_SIZE
    return Negotiated(
        offer=offer,
        dialect=dialect,
        server_guid=guid,
        security_mode=mode,
        capabilities=capabilities,
        max_transact=transact,
        max_read=read,
        max_write=write,
        signing=signing,
        cipher=cipher,
        security_buffer=token,
        preauth_hash=preauth_hash,
        system_time=filetime_to_ns(now),
    )


def _decode_algorithms(
    offer: Offer, dialect: Dialect, capabilities: int, message: memoryview, offset: int, count: int
) -> tuple[SigningAlgorithm, Cipher | None]:
    """Signing algorithm and cipher: by contexts in 3.1.1, by dialect and capability before."""
    if dialect is Dialect.SMB_2_1:
        return SigningAlgorithm.HMAC_SHA256, None
    if dialect is not Dialect.SMB_3_1_1:
        return SigningAlgorithm.AES_CMAC, Cipher.AES_128_CCM if capabilities & SMB2_GLOBAL_CAP_ENCRYPTION else None
    contexts = _decode_contexts(message, offset, count)
    preauth = contexts.get(SMB2_PREAUTH_INTEGRITY_CAPABILITIES)
    if preauth is None or len(preauth) < 6 or struct.unpack_from("<HxxH", preauth) != (1, SHA_512):
        raise WireError(f"{offer.host} does not choose SHA-512 for the pre-authentication hash")
    cipher = _decode_choice(contexts.get(SMB2_ENCRYPTION_CAPABILITIES), "cipher")
    signing = _decode_choice(contexts.get(SMB2_SIGNING_CAPABILITIES), "signing algorithm")
    if cipher and cipher not in offer.ciphers:
        raise WireError(f"{offer.host} chose cipher {cipher}, which was not offered")
    if signing is not None and signing not in offer.signing:
        raise WireError(f"{offer.host} chose signing algorithm {signing}, which was not offered")
    return (
        SigningAlgorithm.AES_CMAC if signing is None else SigningAlgorithm(signing),
        Cipher(cipher) if cipher else None,
    )


def _decode_choice(context: memoryview | None, what: str) -> int | None:
    if context is None:
        return None
    if len(context) < 4 or int.from_bytes(context[:2], "little") != 1:
        raise WireError(f"a server must choose one {what}")
    return int.from_bytes(context[2:4], "little")


def _decode_contexts(message: memoryview, offset: int, count: int) -> dict[int, memoryview]:
    contexts: dict[int, memoryview] = {}
    for _ in range(count):
        kind, length, _ = _CONTEXT.unpack(_slice(message, offset, _CONTEXT.size, "negotiate context"))
        if kind in contexts:
            raise WireError(f"negotiate context {kind} comes twice")
        contexts[kind] = _slice(message, offset + _CONTEXT.size, length, "negotiate context")
        offset += _CONTEXT.size + length
        offset += -offset % 8
    return contexts


# -- session setup ----------------------------------------------------------------------------------------------------


def session_setup(
    negotiated: Negotiated, authenticator: Authenticator, *, sealing_wanted: bool, previous: int = 0
) -> Generator[Exchange, Reply, Session]:
    """SESSION_SETUP until the server accepts or refuses (MS-SMB2 3.2.4.2.3, 3.2.5.3).

    `previous`: the id of this client's session on the server whose connection was lost, 0 if there is none. The server,
    which may not have noticed the loss, ends that session and closes its files (3.3.5.5.3).

    Raises:
        LoginRefused: the server refuses, usually with LOGON_FAILURE.
        SecurityError: the final response is not signed correctly, or the session is one of a guest, or encryption is
            wanted and not available.
        WireError: a response is malformed.
    """
    host = negotiated.offer.host
    preauth_hash = negotiated.preauth_hash
    token, session_id = authenticator.step(negotiated.security_buffer or None), 0
    for _ in range(_MAX_STEPS):
        reply = yield Exchange(Command.SMB2_SESSION_SETUP, _encode_session_setup(token or b"", previous), session_id)
        preauth_hash = preauth_update(preauth_hash, reply.sent)
        if reply.status not in (NtStatus.SUCCESS, NtStatus.MORE_PROCESSING_REQUIRED):
            raise LoginRefused(reply.status, f"logging in to {host}")
        if reply.session_id == 0 or session_id not in (0, reply.session_id):
            raise WireError(f"{host} changed the SessionId from {session_id:#x} to {reply.session_id:#x}")
        session_id = reply.session_id
        flags, answer = _decode_session_setup(reply.received)
        if reply.status == NtStatus.SUCCESS:
            if answer:
                authenticator.step(answer)
            return _make_session(negotiated, authenticator, reply, flags, preauth_hash, sealing_wanted)
        preauth_hash = preauth_update(preauth_hash, reply.received)
        token = authenticator.step(answer)
    raise WireError(f"{host} wants more than {_MAX_STEPS} rounds of authentication")


def _make_session(
    negotiated: Negotiated,
    authenticator: Authenticator,
    reply: Reply,
    flags: int,
    preauth_hash: bytes,
    sealing_wanted: bool,
) -> Session:
    host = negotiated.offer.host
    if flags & _NO_USER:
        raise SecurityError(f"{host} let the user in only as a guest, without signing: check user name and domain")
    session_key = authenticator.session_key
    if not session_key:
        # Anyone can derive keys from an empty session key: a server that accepts before it has proved that it knows the
        # user's key would pass the check of its signature below.
        raise SecurityError(f"{host} accepted the login before it was complete")
    keys = derive_session_keys(
        session_key,
        reply.session_id,
        negotiated.dialect,
        preauth_hash=preauth_hash,
        signing=negotiated.signing,
        cipher=negotiated.cipher,
    )
    encrypt = sealing_wanted or bool(flags & SMB2_SESSION_FLAG_ENCRYPT_DATA)
    if encrypt and keys.sealer is None:
        raise SecurityError(f"{host} has no encryption that dfsfs knows (dialect {negotiated.dialect.name})")
    message = reply.received
    if not int.from_bytes(message[16:20], "little") & SMB2_FLAGS_SIGNED:
        raise SecurityError(f"{host} did not sign its final answer to the login")
    verify(
        keys.signer,
        (message[:48], bytes(16), message[_HEADER_SIZE:]),
        bytes(message[48:64]),
        message_id=int.from_bytes(message[24:32], "little"),
        from_server=True,
        is_cancel=False,
    )
    return Session(reply.session_id, keys, encrypt, authenticator.mutual)


def session_renewal(
    negotiated: Negotiated, authenticator: Authenticator, session: Session
) -> Generator[Exchange, Reply, None]:
    """SESSION_SETUP for an existing session that has expired. Its keys stay, and sign this exchange.

    Raises:
        LoginRefused: the server refuses.
        SecurityError: the session would become one of a guest, or the server does not authenticate itself as before.
        WireError: a response is malformed.
    """
    host = negotiated.offer.host
    token = authenticator.step(negotiated.security_buffer or None)
    for _ in range(_MAX_STEPS):
        reply = yield Exchange(Command.SMB2_SESSION_SETUP, _encode_session_setup(token or b""), session.session_id)
        if reply.status not in (NtStatus.SUCCESS, NtStatus.MORE_PROCESSING_REQUIRED):
            raise LoginRefused(reply.status, f"logging in to {host} again")
        flags, answer = _decode_session_setup(reply.received)
        if reply.status == NtStatus.SUCCESS:
            if answer:
                authenticator.step(answer)
            if flags & _NO_USER or authenticator.mutual != session.mutual:
                raise SecurityError(f"{host} renewed the session in another way than it was made")
            return
        token = authenticator.step(answer)
    raise WireError(f"{host} wants more than {_MAX_STEPS} rounds of authentication")


def _encode_session_setup(token: bytes, previous: int = 0) -> bytes:
    offset = _HEADER_SIZE + _SESSION_SETUP_REQUEST.size
    fixed = _SESSION_SETUP_REQUEST.pack(
        25, 0, SMB2_NEGOTIATE_SIGNING_REQUIRED, SMB2_GLOBAL_CAP_DFS, 0, offset, len(token), previous
    )
    return fixed + (token or b"\0")


def _decode_session_setup(message: memoryview) -> tuple[int, bytes]:
    _, flags, offset, length = _unpack(_SESSION_SETUP_RESPONSE, message, 9, "SESSION_SETUP")
    return flags, bytes(_slice(message, offset, length, "SESSION_SETUP")) if length else b""


# -- tree connect and validate negotiate ------------------------------------------------------------------------------


def encode_tree_connect(path: str) -> bytes:
    """TREE_CONNECT (MS-SMB2 2.2.9) to `\\\\host\\share`."""
    encoded = path.encode("utf-16-le", "surrogatepass")
    return _TREE_CONNECT_REQUEST.pack(9, 0, _HEADER_SIZE + _TREE_CONNECT_REQUEST.size, len(encoded)) + encoded


def decode_tree_connect(message: memoryview) -> TreeConnected:
    """TREE_CONNECT response (MS-SMB2 2.2.10), given with its header. Raises: WireError."""
    _, share_type, _, flags, capabilities, access = _unpack(_TREE_CONNECT_RESPONSE, message, 16, "TREE_CONNECT")
    return TreeConnected(share_type, flags, capabilities, access)


def encode_validate_negotiate(negotiated: Negotiated) -> bytes:
    """The input of FSCTL_VALIDATE_NEGOTIATE_INFO: the client's offer once more (MS-SMB2 2.2.31.4)."""
    offer = negotiated.offer
    capabilities = _CLIENT_CAPABILITIES if max(offer.dialects) >= Dialect.SMB_3_0 else 0
    fixed = _VALIDATE_REQUEST.pack(
        capabilities, offer.client_guid, SMB2_NEGOTIATE_SIGNING_REQUIRED, len(offer.dialects)
    )
    return fixed + b"".join(struct.pack("<H", dialect) for dialect in offer.dialects)


def check_validate_negotiate(negotiated: Negotiated, output: bytes) -> None:
    """Compares the signed output of FSCTL_VALIDATE_NEGOTIATE_INFO with the NEGOTIATE response (MS-SMB2 3.2.5.14.12).

    Raises:
        SecurityError: they differ, so the negotiation was changed on the way.
    """
    expected = (negotiated.capabilities, negotiated.server_guid, negotiated.security_mode, negotiated.dialect)
    if len(output) != _VALIDATE_RESPONSE.size or _VALIDATE_RESPONSE.unpack(output) != expected:
        raise SecurityError(f"{negotiated.offer.host}: the negotiation was changed on the way (downgrade attack)")


# -- pieces -----------------------------------------------------------------------------------------------------------


def _unpack(layout: struct.Struct, message: memoryview, structure_size: int, what: str) -> tuple[Any, ...]:
    if len(message) < _HEADER_SIZE + layout.size:
        raise WireError(f"{what} response of {len(message)} bytes")
    fields = layout.unpack_from(message, _HEADER_SIZE)
    if fields[0] != structure_size:
        raise WireError(f"{what} response with StructureSize {fields[0]} instead of {structure_size}")
    return fields


def _slice(message: memoryview, offset: int, length: int, what: str) -> memoryview:
    if offset < _HEADER_SIZE or offset + length > len(message):
        raise WireError(f"{what}: {length} bytes at {offset} lie outside its {len(message)} bytes")
    return message[offset : offset + length]

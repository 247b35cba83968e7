"""Signing, sealing and the keys for both (MS-SMB2 3.1.4). The only module that uses `cryptography`. Pure.

A Signer computes the 16-byte signature over a message given in parts, so that a WRITE's payload is not copied for it. A
Sealer turns a frame into a transform header and ciphertext and back. Keys come out of `derive_session_keys` and stay
inside these objects: nothing here prints them.

Two messages under one nonce reveal an AES-GMAC or AES-GCM key to an eavesdropper. The nonce of a signature is the
MessageId, so its signer refuses to sign a second message with it; a sealer counts. Each key belongs to one session on
one connection, since it is derived from the session key of this login, so no nonce is repeated after a reconnect.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as _CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from dfsfs.errors import SecurityError, WireError
from dfsfs.smb.connection.buffers import BufferPool
from dfsfs.smb.wire.constants import Cipher, Dialect, SigningAlgorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview

TRANSFORM_SIZE = 52
"""The SMB2 TRANSFORM_HEADER in bytes (MS-SMB2 2.2.41)."""
_TRANSFORM = struct.Struct("<4s16s16sIHHQ")
_TRANSFORM_MAGIC = b"\xfdSMB"
"""ProtocolId of an SMB2 TRANSFORM_HEADER."""
_ENCRYPTED = 1
"""Its Flags: the message is encrypted."""
_AAD_START = 20
"""Offset of Nonce in it, from which on the header is additional authenticated data (MS-SMB2 3.1.4.3)."""
_GMAC_NONCE = struct.Struct("<QI")
_IN_PLACE = 16 * 1024
"""Bytes of a message from which on it is encrypted and decrypted in place: that takes a cipher context of its own, but
no copies. 1 MiB is decrypted in 50 us in place, and in 960 us with two copies.
"""
_GMAC_JOIN_LIMIT = 128 * 1024
"""Bytes of the largest message whose parts are joined before they are signed, see AesGmacSigner."""
_FROM_SERVER = 1
"""Bit in the nonce of an AES-GMAC signature: of a response (MS-SMB2 3.1.4.1)."""
_IS_CANCEL = 2
"""Bit in that nonce: of a CANCEL."""
MAX_SIGNATURES = 4096
"""The most signatures that a signer remembers of each kind that is not made in the order of MessageIds, such as those
of CANCELs. A connection has fewer requests in flight.
"""


class Signer(Protocol):
    """Computes signatures with one session's signing key."""

    def sign(self, parts: Sequence[Buffer], *, message_id: int, from_server: bool, is_cancel: bool) -> bytes:
        """The 16-byte signature of a message to send, over all parts in order; their signature field must be zero
        (MS-SMB2 3.1.4.1).

        Raises:
            SecurityError: another message was, or may have been, signed with the same nonce.
        """

    def expected(self, parts: Sequence[Buffer], *, message_id: int, from_server: bool, is_cancel: bool) -> bytes:
        """The signature that a received message must have. It must not be sent to the peer."""


class HmacSha256Signer:
    """Dialect 2.1, and 3.1.1 where a server chooses it."""

    def __init__(self, key: bytes) -> None:
        self._context = hmac.new(key, digestmod=hashlib.sha256)

    def sign(self, parts: Sequence[Buffer], *, message_id: int, from_server: bool, is_cancel: bool) -> bytes:
        context = self._context.copy()
        for part in parts:
            context.update(part)
        return context.digest()[:16]

    expected = sign


class AesCmacSigner:
    """Dialects 3.0 and 3.0.2, and 3.1.1 without signing capabilities."""

    def __init__(self, key: bytes) -> None:
        self._context = CMAC(AES(key))

    def sign(self, parts: Sequence[Buffer], *, message_id: int, from_server: bool, is_cancel: bool) -> bytes:
        context = self._context.copy()
        for part in parts:
            context.update(cast("bytes", part))  # its stub names bytes, any buffer will do
        return context.finalize()

    expected = sign


class AesGmacSigner:
    """3.1.1: the tag of AES-128-GCM over nothing, with the message as additional data.

    Setting up a context for parts takes 2 us, joining them and the one call for a whole message 0.5 us; above some
    150 KiB the copy costs more than it saves (3 parts: 120 bytes 2.3 against 0.5 us, 1 MiB 34 against 47 us).

    One nonce signs one message. Requests are signed in the order of their MessageIds, so of them the newest is enough
    to remember; CANCELs come in any order.
    """

    def __init__(self, key: bytes) -> None:
        self._key = AES(key)
        self._whole = AESGCM(key)
        self._newest = -1
        self._newest_signature = b""
        self._others: dict[tuple[bool, bool], _Signatures] = {}

    def sign(self, parts: Sequence[Buffer], *, message_id: int, from_server: bool, is_cancel: bool) -> bytes:
        signature = self._tag(parts, message_id, from_server * _FROM_SERVER | is_cancel * _IS_CANCEL)
        if is_cancel or from_server:
            self._others.setdefault((from_server, is_cancel), _Signatures()).add(message_id, signature)
        elif message_id > self._newest:
            self._newest, self._newest_signature = message_id, signature
        elif message_id < self._newest or signature != self._newest_signature:
            raise _make_reuse_error(message_id)
        return signature

    @property
    def signature_count(self) -> int:
        """How many signatures are remembered, of the kind that has most."""
        return max(map(len, self._others.values()), default=0)

    def expected(self, parts: Sequence[Buffer], *, message_id: int, from_server: bool, is_cancel: bool) -> bytes:
        return self._tag(parts, message_id, from_server * _FROM_SERVER | is_cancel * _IS_CANCEL)

    def _tag(self, parts: Sequence[Buffer], message_id: int, role: int) -> bytes:
        nonce = _GMAC_NONCE.pack(message_id, role)
        if len(parts) == 1:
            return self._whole.encrypt(nonce, b"", parts[0])
        if sum(map(len, parts)) <= _GMAC_JOIN_LIMIT:
            return self._whole.encrypt(nonce, b"", b"".join(parts))
        context = _CipherContext(self._key, GCM(nonce)).encryptor()
        for part in parts:
            context.authenticate_additional_data(part)
        context.finalize()
        return context.tag


class _Signatures:
    """The last MAX_SIGNATURES signatures by MessageId. Below the lowest of them nothing is signed any more."""

    def __init__(self) -> None:
        self._by_id: dict[int, bytes] = {}
        self._lowest = 0
        """Signatures of lower MessageIds may be forgotten."""

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, message_id: int, signature: bytes) -> None:
        """Raises: SecurityError: this MessageId has, or may have, another signature."""
        if message_id < self._lowest or self._by_id.setdefault(message_id, signature) != signature:
            raise _make_reuse_error(message_id)
        if len(self._by_id) > MAX_SIGNATURES:
            kept = sorted(self._by_id)[MAX_SIGNATURES // 2 :]
            self._by_id = {known: self._by_id[known] for known in kept}
            self._lowest = kept[0]


def _make_reuse_error(message_id: int) -> SecurityError:
    return SecurityError(
        f"a second message was to be signed under MessageId {message_id}: this would give the key away"
    )


_SIGNERS: dict[SigningAlgorithm, type[HmacSha256Signer] | type[AesCmacSigner] | type[AesGmacSigner]] = {
    SigningAlgorithm.HMAC_SHA256: HmacSha256Signer,
    SigningAlgorithm.AES_CMAC: AesCmacSigner,
    SigningAlgorithm.AES_GMAC: AesGmacSigner,
}


def verify(
    signer: Signer,
    parts: Sequence[Buffer],
    signature: bytes,
    *,
    message_id: int,
    from_server: bool,
    is_cancel: bool,
) -> None:
    """Raises: SecurityError: `signature` is not the one of these parts."""
    expected = signer.expected(parts, message_id=message_id, from_server=from_server, is_cancel=is_cancel)
    if not hmac.compare_digest(expected, signature):
        raise SecurityError("an answer's signature is wrong: it was changed on the way, or signed with another key")


class Sealer:
    """Encrypts what one session sends and decrypts what it receives (MS-SMB2 3.1.4.3).

    The nonce of what is sent is a counter, so none is used twice with a key; what is received brings its own.
    """

    def __init__(self, cipher: Cipher, session_id: int, encryption_key: bytes, decryption_key: bytes) -> None:
        self._session_id = session_id
        self._nonce_size = 12 if cipher in (Cipher.AES_128_GCM, Cipher.AES_256_GCM) else 11
        algorithm = AESGCM if self._nonce_size == 12 else AESCCM
        self._encrypt = algorithm(encryption_key)
        self._decrypt = algorithm(decryption_key)
        self._keys = AES(encryption_key), AES(decryption_key)
        self._buffers = BufferPool()
        self._counter = 0

    def seal(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """The frame to send for a message in parts: its transform header, then its ciphertext."""
        self._counter += 1
        nonce = self._counter.to_bytes(self._nonce_size, "little")
        size = sum(map(len, parts))
        header = _TRANSFORM.pack(
            _TRANSFORM_MAGIC, bytes(16), nonce.ljust(16, b"\0"), size, 0, _ENCRYPTED, self._session_id
        )
        if size >= _IN_PLACE and self._nonce_size == 12:
            return self._seal_large(parts, size, nonce, header)
        plaintext = parts[0] if len(parts) == 1 else b"".join(parts)
        sealed = memoryview(self._encrypt.encrypt(nonce, plaintext, header[_AAD_START:]))
        tag = sealed[-16:]
        return [header[:4] + bytes(tag) + header[_AAD_START:], sealed[:-16]]

    def _seal_large(self, parts: Sequence[Buffer], size: int, nonce: bytes, header: bytes) -> list[Buffer]:
        context = _CipherContext(self._keys[0], GCM(nonce)).encryptor()
        context.authenticate_additional_data(header[_AAD_START:])
        sealed, at = self._buffers.get(size), 0
        for part in parts:
            at += context.update_into(part, sealed[at:])
        context.finalize()
        return [header[:4] + context.tag + header[_AAD_START:], sealed]

    def open(self, frame: memoryview) -> Buffer:
        """The message inside a received frame, which starts with its transform header. A large one is decrypted in
        place.

        Raises:
            WireError: the transform header is malformed, or of another session.
            SecurityError: the frame was changed on the way, or sealed with another key.
        """
        if len(frame) < TRANSFORM_SIZE:
            raise WireError(f"an encrypted frame of {len(frame)} bytes")
        magic, tag, nonce, size, _, flags, session_id = _TRANSFORM.unpack_from(frame)
        if magic != _TRANSFORM_MAGIC or flags != _ENCRYPTED or session_id != self._session_id:
            raise WireError("a transform header that is none, or of another session")
        if size != len(frame) - TRANSFORM_SIZE:
            raise WireError(f"an encrypted frame with {len(frame) - TRANSFORM_SIZE} bytes that promises {size}")
        try:
            if size >= _IN_PLACE and self._nonce_size == 12 and not frame.readonly:
                return self._open_large(frame, tag, nonce[:12])
            return self._decrypt.decrypt(
                nonce[: self._nonce_size], b"".join((frame[TRANSFORM_SIZE:], tag)), frame[_AAD_START:TRANSFORM_SIZE]
            )
        except InvalidTag:
            raise SecurityError("an encrypted answer was changed on the way, or sealed with another key") from None

    def _open_large(self, frame: memoryview, tag: bytes, nonce: bytes) -> memoryview:
        context = _CipherContext(self._keys[1], GCM(nonce, tag)).decryptor()
        context.authenticate_additional_data(frame[_AAD_START:TRANSFORM_SIZE])
        message = frame[TRANSFORM_SIZE:]
        context.update_into(message, message)
        context.finalize()
        return message


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The signer and sealer of a session; `sealer` is None if no encryption was negotiated."""

    signer: Signer = field(repr=False)
    sealer: Sealer | None = field(repr=False)


def preauth_update(previous: bytes, message: Buffer) -> bytes:
    """One link of the chain that binds negotiate and session setup to the keys of 3.1.1 (MS-SMB2 3.2.5.2). Starts
    with 64 zero bytes."""
    return hashlib.sha512(previous + bytes(message)).digest()


def derive_session_keys(
    session_key: bytes,
    session_id: int,
    dialect: Dialect,
    *,
    preauth_hash: bytes,
    signing: SigningAlgorithm,
    cipher: Cipher | None,
) -> SessionKeys:
    """Derives a session's keys (MS-SMB2 3.2.5.3.1, 3.1.4.2).

    `session_key` is the whole GSS session key; `preauth_hash` the chain over everything but the final answer (3.1.1
    only).
    """
    short_key = session_key[:16].ljust(16, b"\0")
    if dialect is Dialect.SMB_2_1:
        return SessionKeys(HmacSha256Signer(short_key), None)
    if dialect is Dialect.SMB_3_1_1:
        contexts = (preauth_hash,) * 3
        labels = (b"SMBSigningKey\0", b"SMBC2SCipherKey\0", b"SMBS2CCipherKey\0")
    else:
        contexts = (b"SmbSign\0", b"ServerIn \0", b"ServerOut\0")
        labels = (b"SMB2AESCMAC\0", b"SMB2AESCCM\0", b"SMB2AESCCM\0")
    signer = _SIGNERS[signing](_derive(short_key, labels[0], contexts[0], 16))
    if cipher is None:
        return SessionKeys(signer, None)
    long = cipher in (Cipher.AES_256_CCM, Cipher.AES_256_GCM)
    key = session_key if long else short_key
    to_server, from_server = (
        _derive(key, label, context, 32 if long else 16)
        for label, context in zip(labels[1:], contexts[1:], strict=True)
    )
    return SessionKeys(signer, Sealer(cipher, session_id, to_server, from_server))


def _derive(key: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """SP800-108 in counter mode with HMAC-SHA256, both the counter and the length in 32 bits."""
    return KBKDFHMAC(
        algorithm=SHA256(),
        mode=Mode.CounterMode,
        length=length,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(key)

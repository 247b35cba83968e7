"""Signatures, sealing and keys: published vectors, and smbprotocol and `cryptography` as second opinions."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from smbprotocol.connection import SMB2TransformHeader

from dfsfs.errors import SecurityError, WireError
from dfsfs.smb.connection.crypto import (
    TRANSFORM_SIZE,
    AesCmacSigner,
    AesGmacSigner,
    Buffer,
    HmacSha256Signer,
    Sealer,
    SessionKeys,
    Signer,
    derive_session_keys,
    preauth_update,
    verify,
)
from dfsfs.smb.wire.constants import Cipher, Dialect, SigningAlgorithm

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(range(16))
SESSION = 0x1122334455667788
SIGNERS = (HmacSha256Signer, AesCmacSigner, AesGmacSigner)
MESSAGE = bytes(range(256)) * 3


def sign(
    signer: Signer, *parts: Buffer, message_id: int = 5, from_server: bool = False, is_cancel: bool = False
) -> bytes:
    return signer.sign(parts, message_id=message_id, from_server=from_server, is_cancel=is_cancel)


def kdf(key: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """SP800-108 in counter mode, written out: one or two HMACs over counter, label, 0, context and length in bits."""
    blocks = b"".join(
        hmac.digest(key, struct.pack(">I", i) + label + b"\0" + context + struct.pack(">I", length * 8), "sha256")
        for i in (1, 2)
    )
    return blocks[:length]


# -- signing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "mac"),
    [  # RFC 4493, section 4
        ("", "bb1d6929e95937287fa37d129b756746"),
        ("6bc1bee22e409f96e93d7e117393172a", "070a16b46b4d4144f79bdd9dd04a287c"),
        (
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411",
            "dfa66747de9ae63030ca32611497c827",
        ),
    ],
)
def test_cmac_vectors(message: str, mac: str) -> None:
    signer = AesCmacSigner(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    assert sign(signer, bytes.fromhex(message)).hex() == mac


def test_hmac_vector() -> None:
    """RFC 4231, test case 1, cut to 16 bytes."""
    assert sign(HmacSha256Signer(b"\x0b" * 20), b"Hi There").hex() == "b0344c61d8db38535ca8afceaf0bf12b"


@pytest.mark.parametrize(
    ("from_server", "is_cancel", "last"), [(False, False, 0), (True, False, 1), (False, True, 2), (True, True, 3)]
)
def test_the_gmac_nonce_tells_direction_and_cancel(from_server: bool, is_cancel: bool, last: int) -> None:
    """MS-SMB2 3.1.4.1: the MessageId in 8 bytes, then a field whose two lowest bits are these."""
    nonce = (0x0102030405060708).to_bytes(8, "little") + bytes([last, 0, 0, 0])
    signature = sign(
        AesGmacSigner(KEY), MESSAGE, message_id=0x0102030405060708, from_server=from_server, is_cancel=is_cancel
    )
    assert signature == AESGCM(KEY).encrypt(nonce, b"", MESSAGE)


@pytest.mark.parametrize("kind", SIGNERS)
@pytest.mark.parametrize("size", [0, 64, 5000, 200_000])  # below and above where parts are worth joining
def test_parts_are_signed_as_the_whole(kind: Callable[[bytes], Signer], size: int) -> None:
    whole = (MESSAGE * (size // len(MESSAGE) + 1))[:size]
    signer = kind(KEY)
    expected = sign(signer, whole)
    assert len(expected) == 16
    middle = size // 2
    assert sign(signer, memoryview(whole)[:middle], bytearray(whole[middle:])) == expected
    assert sign(signer, whole[:middle], b"", memoryview(bytearray(whole))[middle:]) == expected


@pytest.mark.parametrize("kind", SIGNERS)
def test_verify(kind: Callable[[bytes], Signer]) -> None:
    signer = kind(KEY)
    right = sign(signer, MESSAGE, from_server=True)
    verify(signer, (MESSAGE,), right, message_id=5, from_server=True, is_cancel=False)
    for wrong in (bytes(16), right[:15], b"", right + b"\0", bytes([right[0] ^ 1]) + right[1:]):
        with pytest.raises(SecurityError):
            verify(signer, (MESSAGE,), wrong, message_id=5, from_server=True, is_cancel=False)
    with pytest.raises(SecurityError):
        verify(kind(KEY[::-1]), (MESSAGE,), right, message_id=5, from_server=True, is_cancel=False)


def test_a_gmac_signature_cannot_be_used_for_another_message_id() -> None:
    right = sign(AesGmacSigner(KEY), MESSAGE, message_id=5, from_server=True)
    with pytest.raises(SecurityError):
        verify(AesGmacSigner(KEY), (MESSAGE,), right, message_id=6, from_server=True, is_cancel=False)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_signing_key_of_3_0_worked_out() -> None:
    session_key = bytes.fromhex("7CD451825D0450D235424E44BA6E78CC")
    keys = derive_session_keys(
        session_key, SESSION, Dialect.SMB_3_0, preauth_hash=b"", signing=SigningAlgorithm.AES_CMAC, cipher=None
    )
    signing_key = bytes.fromhex("0B7E9C5CAC36C0F6EA9AB275298CEDCE")
    assert sign(keys.signer, MESSAGE) == sign(AesCmacSigner(signing_key), MESSAGE)


@pytest.mark.parametrize("dialect", [Dialect.SMB_3_0, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1])
@pytest.mark.parametrize("algorithm", list(SigningAlgorithm))
def test_signing_keys(dialect: Dialect, algorithm: SigningAlgorithm) -> None:
    preauth = hashlib.sha512(b"all that was said").digest()
    newest = dialect is Dialect.SMB_3_1_1
    label, context = (b"SMBSigningKey\0", preauth) if newest else (b"SMB2AESCMAC\0", b"SmbSign\0")
    keys = derive_session_keys(KEY, SESSION, dialect, preauth_hash=preauth, signing=algorithm, cipher=None)
    assert keys.sealer is None
    expected = SIGNERS[algorithm](kdf(KEY, label, context, 16))
    assert sign(keys.signer, MESSAGE) == sign(expected, MESSAGE)


@pytest.mark.parametrize("session_key", [KEY, KEY * 2, b"short"])
def test_dialect_2_1_signs_with_the_first_16_bytes_of_the_session_key(session_key: bytes) -> None:
    keys = derive_session_keys(
        session_key,
        SESSION,
        Dialect.SMB_2_1,
        preauth_hash=b"",
        signing=SigningAlgorithm.HMAC_SHA256,
        cipher=None,
    )
    key = session_key[:16].ljust(16, b"\0")
    assert sign(keys.signer, MESSAGE) == hmac.digest(key, MESSAGE, "sha256")[:16]
    assert keys.sealer is None


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.parametrize("session_key", [KEY, bytes(range(32))])
def test_cipher_keys_of_3_1_1(cipher: Cipher, session_key: bytes) -> None:
    """Ciphers with 256 bits take the whole session key, the others its first 16 bytes (MS-SMB2 3.2.5.3.1)."""
    preauth = hashlib.sha512(b"all that was said").digest()
    length = 32 if cipher in (Cipher.AES_256_CCM, Cipher.AES_256_GCM) else 16
    base = session_key if length == 32 else session_key[:16]
    expect_ciphers(
        sealer_of(session_key, Dialect.SMB_3_1_1, preauth, cipher),
        cipher,
        kdf(base, b"SMBC2SCipherKey\0", preauth, length),
        kdf(base, b"SMBS2CCipherKey\0", preauth, length),
    )


@pytest.mark.parametrize("dialect", [Dialect.SMB_3_0, Dialect.SMB_3_0_2])
def test_cipher_keys_of_3_0(dialect: Dialect) -> None:
    expect_ciphers(
        sealer_of(KEY, dialect, b"", Cipher.AES_128_CCM),
        Cipher.AES_128_CCM,
        kdf(KEY, b"SMB2AESCCM\0", b"ServerIn \0", 16),
        kdf(KEY, b"SMB2AESCCM\0", b"ServerOut\0", 16),
    )


def sealer_of(session_key: bytes, dialect: Dialect, preauth: bytes, cipher: Cipher) -> Sealer:
    keys = derive_session_keys(
        session_key, SESSION, dialect, preauth_hash=preauth, signing=SigningAlgorithm.AES_CMAC, cipher=cipher
    )
    assert keys.sealer is not None
    return keys.sealer


def test_keys_do_not_show() -> None:
    keys = derive_session_keys(
        KEY, 1, Dialect.SMB_3_1_1, preauth_hash=b"", signing=SigningAlgorithm.AES_GMAC, cipher=Cipher.AES_128_GCM
    )
    assert repr(keys) == "SessionKeys()"
    for one in (keys.signer, keys.sealer):
        assert KEY.hex() not in repr(one) and repr(KEY) not in repr(one)
    assert isinstance(keys, SessionKeys)


def test_the_preauth_hash_is_a_chain() -> None:
    first = preauth_update(bytes(64), b"request")
    assert first == hashlib.sha512(bytes(64) + b"request").digest()
    assert preauth_update(first, memoryview(b"response")) == hashlib.sha512(first + b"response").digest()


# -- sealing ----------------------------------------------------------------------------------------------------------


def pair(cipher: Cipher) -> tuple[Sealer, Sealer]:
    size = 32 if cipher in (Cipher.AES_256_CCM, Cipher.AES_256_GCM) else 16
    one, other = bytes(range(size)), bytes(range(size, 2 * size))
    return Sealer(cipher, SESSION, one, other), Sealer(cipher, SESSION, other, one)


def framed(sealer: Sealer, *parts: Buffer) -> bytearray:
    return bytearray(b"".join(sealer.seal(parts)))


def decrypt(cipher: Cipher, key: bytes, frame: bytes) -> bytes:
    """A sealed frame opened by the book (MS-SMB2 2.2.41, 3.1.4.3), with smbprotocol's view of the header."""
    header: Any = SMB2TransformHeader()
    header.unpack(frame[:TRANSFORM_SIZE])
    assert header["session_id"].get_value() == SESSION
    assert header["original_message_size"].get_value() == len(frame) - TRANSFORM_SIZE
    assert header["flags"].get_value() == 1
    nonce = header["nonce"].get_value()
    sealed = frame[TRANSFORM_SIZE:] + header["signature"].get_value()
    if cipher in (Cipher.AES_128_CCM, Cipher.AES_256_CCM):
        assert nonce[11:] == bytes(5)
        return AESCCM(key).decrypt(nonce[:11], sealed, frame[20:52])
    assert nonce[12:] == bytes(4)
    return AESGCM(key).decrypt(nonce[:12], sealed, frame[20:52])


def expect_ciphers(sealer: Sealer, cipher: Cipher, to_server: bytes, from_server: bytes) -> None:
    assert decrypt(cipher, to_server, bytes(framed(sealer, MESSAGE))) == MESSAGE
    peer = Sealer(cipher, SESSION, from_server, to_server)
    assert bytes(sealer.open(memoryview(framed(peer, MESSAGE)))) == MESSAGE


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.parametrize("parts", [(MESSAGE,), (MESSAGE[:70], memoryview(MESSAGE)[70:], b""), (b"",), ()])
def test_what_is_sealed_opens_at_the_other_end(cipher: Cipher, parts: tuple[Buffer, ...]) -> None:
    client, server = pair(cipher)
    frame = framed(client, *parts)
    assert bytes(server.open(memoryview(frame))) == b"".join(parts)
    with pytest.raises(SecurityError):  # each direction has its own key: nothing can be reflected
        client.open(memoryview(frame))


LARGE = bytes(range(256)) * 400


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.parametrize("parts", [(LARGE,), (bytearray(LARGE[:164]), memoryview(LARGE)[164:], bytes(4))])
def test_large_messages(cipher: Cipher, parts: tuple[Buffer, ...]) -> None:
    client, server = pair(cipher)
    message = b"".join(parts)
    first, second = framed(client, *parts), framed(client, *reversed(parts))
    assert decrypt(cipher, bytes(range(32 if "256" in cipher.name else 16)), bytes(first)) == message
    assert bytes(server.open(memoryview(bytes(first)))) == message
    assert bytes(server.open(memoryview(bytearray(first)))) == message
    assert bytes(server.open(memoryview(second))) == b"".join(reversed(parts))


@pytest.mark.parametrize("cipher", list(Cipher))
@pytest.mark.parametrize("index", [5, 25, 60, 50_000, -1])
def test_a_changed_large_frame_never_opens(cipher: Cipher, index: int) -> None:
    client, server = pair(cipher)
    frame = bytearray(framed(client, LARGE))
    frame[index] ^= 1
    with pytest.raises(SecurityError):
        server.open(memoryview(frame))


@pytest.mark.parametrize("cipher", list(Cipher))
def test_no_nonce_is_used_twice(cipher: Cipher) -> None:
    client, _ = pair(cipher)
    nonces = {bytes(framed(client, b"the same")[20:36]) for _ in range(300)}
    assert len(nonces) == 300


@given(st.sampled_from(list(Cipher)), st.data())
@settings(max_examples=300)
def test_a_changed_frame_never_opens(cipher: Cipher, data: st.DataObject) -> None:
    client, server = pair(cipher)
    frame = framed(client, b"something to keep to oneself")
    index = data.draw(st.integers(0, len(frame) - 1))
    frame[index] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SecurityError, WireError)):
        server.open(memoryview(frame))


@given(st.sampled_from(list(Cipher)), st.binary(max_size=200))
def test_any_bytes_are_refused(cipher: Cipher, raw: bytes) -> None:
    _, server = pair(cipher)
    for frame in (raw, b"\xfdSMB" + raw):
        with pytest.raises((SecurityError, WireError)):
            server.open(memoryview(frame))


@pytest.mark.parametrize("cut", [0, 4, 51, 52, 60])
def test_a_cut_frame_is_a_wire_error(cut: int) -> None:
    client, server = pair(Cipher.AES_128_GCM)
    with pytest.raises(WireError):
        server.open(memoryview(framed(client, MESSAGE)[:cut]))


def test_a_frame_of_another_session_is_refused() -> None:
    _, server = pair(Cipher.AES_128_GCM)
    other = Sealer(Cipher.AES_128_GCM, SESSION + 1, bytes(range(16)), bytes(16))
    with pytest.raises(WireError, match="another session"):
        server.open(memoryview(framed(other, MESSAGE)))

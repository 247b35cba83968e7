"""EAs, streams, security descriptors, snapshots and server-side copies as bytes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import ContentError, WireError
from dfsfs.filetime import filetime_to_ns, parse_token, token_of
from dfsfs.smb.tree.snapshots import decode_snapshots
from dfsfs.smb.tree.xattrs import decode_streams
from dfsfs.smb.wire.copychunk import CHUNK, Range, decode_copied, decode_resume_key, encode_copychunk
from dfsfs.smb.wire.eas import decode_eas, encode_ea
from dfsfs.smb.wire.sddl import to_sddl

if TYPE_CHECKING:
    from collections.abc import Callable

# -- EAs --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=50)), min_size=1, max_size=5))
def test_eas_come_back(pairs: list[tuple[bytes, bytes]]) -> None:
    entries = [encode_ea(name, value) for name, value in pairs]
    packed = b""
    for index, entry in enumerate(entries):
        padded = entry.ljust(-(-len(entry) // 4) * 4, b"\0")
        step = len(padded) if index < len(entries) - 1 else 0
        packed += struct.pack("<I", step) + padded[4:] if step else entry
    assert decode_eas(packed) == dict(pairs)


def test_eas_as_samba_sends_them() -> None:
    assert decode_eas(b"\0\0\0\0\0\x04\x03\0test\0val") == {b"test": b"val"}
    assert decode_eas(b"") == {}


@pytest.mark.parametrize(
    "broken", [b"\0" * 7, b"\0\0\0\0\0\x04\x03\0test\0va", struct.pack("<IBBH", 9, 0, 4, 0) + b"test\0\0\0\0\0\0\0\0\0"]
)
def test_broken_eas(broken: bytes) -> None:
    with pytest.raises(ContentError):
        decode_eas(broken)


# -- streams ----------------------------------------------------------------------------------------------------------


def stream(name: str, size: int, *, last: bool) -> bytes:
    encoded = name.encode("utf-16-le")
    length = -(-(24 + len(encoded)) // 8) * 8
    return (struct.pack("<IIqq", 0 if last else length, len(encoded), size, 0) + encoded).ljust(
        0 if last else length, b"\0"
    )


def test_streams() -> None:
    buffer = stream(":foo:$DATA", 6, last=False) + stream("::$DATA", 5, last=False) + stream(":x:$OTHER", 1, last=True)
    assert decode_streams(buffer) == {"foo": 6}
    assert decode_streams(b"") == {}


@pytest.mark.parametrize(
    "broken", [stream(":a:$DATA", 1, last=True)[:-1], b"\0" * 23, struct.pack("<IIqq", 3, 0, 0, 0)]
)
def test_broken_streams(broken: bytes) -> None:
    with pytest.raises(ContentError):
        decode_streams(broken)


# -- security descriptors ---------------------------------------------------------------------------------------------

SAMBA = bytes.fromhex(
    "0100049014000000300000000000000040000000010500000000000515000000cad4281b0fad6ff6a036854de8030000010200000000"
    "001602000000204e0000020058000300000000002400ff011e00010500000000000515000000cad4281b0fad6ff6a036854de8030000"
    "0000180089001200010200000000001602000000204e00000000140089001200010100000000000100000000"
)
"""As Samba 4.17 sent it for a file of alice."""


def test_a_descriptor_as_samba_sends_it() -> None:
    alice = "S-1-5-21-455660746-4134513935-1300575904-1000"
    assert to_sddl(SAMBA) == f"O:{alice}G:S-1-22-2-20000D:P(A;;0x1e01ff;;;{alice})(A;;FR;;;S-1-22-2-20000)(A;;FR;;;WD)"


def test_inheritance_objects_and_unknown_kinds() -> None:
    everyone = bytes.fromhex("010100000000000100000000")
    aces = [
        struct.pack("<BBHI", 0, 0x13, 20, 0x10000000) + everyone,
        struct.pack("<BBHI", 5, 0, 40, 0x100) + struct.pack("<I", 1) + bytes(range(16)) + everyone,
        struct.pack("<BBHI", 9, 0, 20, 0x1) + everyone,
    ]
    acl = struct.pack("<BBHHH", 4, 0, 8 + sum(map(len, aces)), len(aces), 0) + b"".join(aces)
    text = to_sddl(struct.pack("<BBHIIII", 1, 0, 0x8404, 0, 0, 0, 20) + acl)
    guid = "03020100-0504-0706-0809-0a0b0c0d0e0f"
    assert text == f"D:AI(A;OICIID;GA;;;WD)(OA;;0x100;{guid};;WD)(type 9;;0x1;;;)"
    assert to_sddl(struct.pack("<BBHIIII", 1, 0, 0x8004, 0, 0, 0, 0)) == "D:NO_ACCESS_CONTROL"


@given(st.integers(0, len(SAMBA) - 1))
def test_a_descriptor_that_is_cut_is_an_error(length: int) -> None:
    with pytest.raises(ContentError):
        to_sddl(SAMBA[:length])


# -- snapshots --------------------------------------------------------------------------------------------------------


def test_snapshots_as_samba_sends_them() -> None:
    names = ["@GMT-2023.04.01-12.00.00", "@GMT-2023.03.01-12.00.00"]
    text = ("\0".join(names) + "\0\0").encode("utf-16-le")
    assert decode_snapshots(struct.pack("<III", 2, 2, len(text)) + text) == (names, 12 + len(text))
    assert decode_snapshots(struct.pack("<III", 2, 0, 102) + bytes(4)) == ([], 114)


def test_names_that_are_none_are_left_out() -> None:
    text = "@GMT-2023.13.01-12.00.00\0../../etc\0\0".encode("utf-16-le")
    assert decode_snapshots(struct.pack("<III", 2, 2, len(text)) + text)[0] == []
    with pytest.raises(WireError):
        decode_snapshots(bytes(11))


@given(st.datetimes().map(lambda moment: moment.replace(microsecond=0)))
def test_times_of_snapshots_come_back(moment: object) -> None:
    token = f"@GMT-{moment:%Y.%m.%d-%H.%M.%S}"
    found = parse_token(token)
    if found is not None and found > 1:
        assert token_of(found) == token


@pytest.mark.parametrize(
    "token", ["", "@GMT-", "@GMT-2023.02.30-12.00.00", "@gmt-2023.02.20-12.00.00", "@GMT-2023.02.20-12.00.00x"]
)
def test_what_is_no_time(token: str) -> None:
    assert parse_token(token) is None


def test_the_time_of_a_snapshot_is_utc() -> None:
    moment = parse_token("@GMT-1970.01.02-00.00.00")
    assert moment is not None and filetime_to_ns(moment) == 86400 * 10**9


# -- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_in_chunks() -> None:
    wanted = Range(100, 200, 2 * CHUNK + 1)
    begins = (0, CHUNK, 2 * CHUNK)
    assert wanted.chunks == tuple(
        Range(100 + begin, 200 + begin, size) for begin, size in zip(begins, (CHUNK, CHUNK, 1), strict=True)
    )
    packed = encode_copychunk(b"k" * 24, wanted.chunks)
    assert len(packed) == 32 + 3 * 24
    assert struct.unpack_from("<24sII", packed) == (b"k" * 24, 3, 0)
    assert struct.unpack_from("<QQII", packed, 32 + 24) == (100 + CHUNK, 200 + CHUNK, CHUNK, 0)


def test_answers_to_a_copy() -> None:
    assert decode_resume_key(b"k" * 24 + bytes(8)) == b"k" * 24
    assert decode_copied(struct.pack("<III", 3, 0, 77)) == 77


@pytest.mark.parametrize("decode", [decode_resume_key, decode_copied])
def test_answers_that_are_too_short(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(WireError):
        decode(bytes(11))

"""Leases on the wire, and what a client may believe of one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import WireError
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.leases import (
    Lease,
    LeaseBreak,
    LeaseTable,
    decode_break,
    encode_acknowledgement,
    find_context,
)
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import Access, CreateDisposition, LeaseState
from dfsfs.unc import UncPath

KEY = bytes(range(16))
PATH = UncPath(("srv", "share", "file"))
R, RH, RWH = LeaseState.SMB2_LEASE_READ_CACHING, LeaseState.SHARED, LeaseState.ALL


def lease(version: int = 2) -> Lease:
    return Lease(KEY, version, PATH, Route())


def context(name: bytes, data: bytes, following: int = 0) -> bytes:
    head = struct.pack("<IHHHHI", following, 16, len(name), 0, 24, len(data)) + name.ljust(8, b"\0") + data
    return head.ljust(following, b"\0")


def created(contexts: bytes) -> memoryview:
    """An answer to a CREATE with these contexts behind its fixed part."""
    fixed = bytearray(64 + 88)
    struct.pack_into("<H", fixed, 64, 89)
    struct.pack_into("<II", fixed, 64 + 80, 64 + 88 if contexts else 0, len(contexts))
    return memoryview(bytes(fixed) + contexts)


def grant(state: int, *, key: bytes = KEY, flags: int = 0, epoch: int = 1, version: int = 2) -> memoryview:
    data = struct.pack("<16sIIQ", key, state, flags, 0)
    return created(context(b"RqLs", data + (struct.pack("<16sHH", bytes(16), epoch, 0) if version == 2 else b"")))


def notification(state: int, *, flags: int = 1, epoch: int = 2) -> memoryview:
    return memoryview(bytes(64) + struct.pack("<HHI16sIIIII", 44, epoch, flags, KEY, 7, state, 0, 0, 0))


def test_a_create_carries_the_request_aligned_behind_its_name() -> None:
    for name in ("", "a", "ab", "abc", "folder\\file"):
        asked = lease().request(RH)
        body = messages.encode_create(
            name, access=Access.READ, disposition=CreateDisposition.FILE_OPEN, lease=asked
        ).body
        (level,) = struct.unpack_from("<B", body, 3)
        name_at, name_length, at, length = struct.unpack_from("<HHII", body, 44)
        assert level == 0xFF
        assert at % 8 == 0 and body[at - 64 : at - 64 + length] == asked and len(body) == at - 64 + length
        assert body[name_at - 64 : name_at - 64 + name_length].decode("utf-16-le") == name


def test_without_a_lease_a_create_asks_for_no_oplock() -> None:
    body = messages.encode_create("a", access=Access.READ, disposition=CreateDisposition.FILE_OPEN).body
    assert body[3] == 0 and struct.unpack_from("<II", body, 48) == (0, 0)


@pytest.mark.parametrize(("version", "size"), [(1, 32), (2, 52)])
def test_the_request_has_the_size_of_its_version(version: int, size: int) -> None:
    asked = lease(version).request(RWH)
    assert asked[16:20] == b"RqLs" and len(asked) == 24 + size
    assert struct.unpack_from("<16sI", asked, 24) == (KEY, 7)


def test_a_lease_is_not_asked_to_be_less_than_it_is() -> None:
    given_lease = lease()
    given_lease.apply_grant(grant(7))
    assert struct.unpack_from("<I", given_lease.request(RH), 40) == (7,)


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_granted(version: int) -> None:
    given_lease = lease(version)
    given_lease.apply_grant(grant(3, version=version))
    assert given_lease.state == RH and given_lease.is_shared and given_lease.was_granted


def test_no_context_is_no_lease() -> None:
    given_lease = lease()
    given_lease.apply_grant(created(b""))
    given_lease.apply_grant(created(context(b"MxAc", bytes(8))))
    assert given_lease.state == LeaseState.SMB2_LEASE_NONE and not given_lease.was_granted


def test_the_lease_is_found_behind_other_contexts() -> None:
    found = find_context(created(context(b"MxAc", bytes(8), 32) + context(b"RqLs", b"data")), b"RqLs")
    assert found is not None and bytes(found) == b"data"


def test_a_lease_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(WireError, match="not asked for"):
        lease().apply_grant(grant(7, key=bytes(16)))


@pytest.mark.parametrize(
    "contexts",
    [
        b"RqLs",
        context(b"RqLs", b"")[:20],
        context(b"MxAc", b"", 12),
        context(b"MxAc", b"", 20) + bytes(64),
        struct.pack("<IHHHHI", 0, 16, 400, 0, 24, 0) + bytes(8),
        struct.pack("<IHHHHI", 0, 16, 4, 0, 24, 400) + bytes(8),
        struct.pack("<IHHHHI", 4096, 16, 4, 0, 24, 0) + bytes(8),
    ],
)
def test_broken_contexts_are_refused(contexts: bytes) -> None:
    with pytest.raises(WireError):
        lease().apply_grant(created(contexts))


def test_contexts_outside_of_the_message_are_refused() -> None:
    message = bytearray(created(b""))
    struct.pack_into("<II", message, 64 + 80, 64 + 88, 8)
    with pytest.raises(WireError, match="outside"):
        find_context(memoryview(message), b"RqLs")
    with pytest.raises(WireError):
        find_context(memoryview(message)[:100], b"RqLs")


@given(st.binary(max_size=200))
def test_any_bytes_are_contexts_or_an_error(contexts: bytes) -> None:
    try:
        find_context(created(contexts), b"RqLs")
    except WireError:
        pass


@given(st.binary(max_size=120))
def test_any_bytes_are_a_break_or_an_error(message: bytes) -> None:
    try:
        decode_break(memoryview(message))
    except WireError:
        pass


def test_break_notifications() -> None:
    assert decode_break(notification(1)) == LeaseBreak(KEY, R, acknowledge=True, epoch=2)
    assert decode_break(notification(0, flags=0)) == LeaseBreak(
        KEY, LeaseState.SMB2_LEASE_NONE, acknowledge=False, epoch=2
    )
    oplock = memoryview(bytes(64) + struct.pack("<HBBI16s", 24, 0, 0, 0, bytes(16)))
    assert decode_break(oplock) is None
    with pytest.raises(WireError):
        decode_break(notification(1)[:-1])


def test_the_acknowledgement() -> None:
    assert encode_acknowledgement(KEY, R).body == struct.pack("<HHI16sIQ", 36, 0, 0, KEY, 1, 0)


def test_a_break_takes_away_and_never_gives() -> None:
    given_lease = lease()
    given_lease.apply_grant(grant(3))
    before = given_lease.apply_break(LeaseBreak(KEY, RWH, acknowledge=False, epoch=2))
    assert (before, given_lease.state) == (RH, RH)
    given_lease.apply_break(LeaseBreak(KEY, R, acknowledge=False, epoch=3))
    assert given_lease.state == R


def test_what_a_server_names_while_it_waits_for_an_acknowledgement_is_not_believed() -> None:
    given_lease = lease()
    given_lease.apply_grant(grant(3))
    given_lease.apply_break(LeaseBreak(KEY, LeaseState.SMB2_LEASE_NONE, acknowledge=True, epoch=2))
    given_lease.apply_grant(grant(3))
    assert given_lease.state == LeaseState.SMB2_LEASE_NONE and given_lease.given is None
    given_lease.is_breaking = False
    given_lease.apply_grant(grant(3, flags=2))
    assert given_lease.state == LeaseState.SMB2_LEASE_NONE and given_lease.given is None
    given_lease.apply_grant(grant(3))
    assert given_lease.state == RH


def test_what_was_given_is_not_what_is_left() -> None:
    given_lease = lease()
    found = []
    for answer in (grant(3), created(b""), grant(0), grant(2), grant(3)):
        given_lease.apply_grant(answer)
        found.append(given_lease.given)
    given_lease.apply_break(LeaseBreak(KEY, LeaseState.SMB2_LEASE_NONE, acknowledge=False, epoch=2))
    assert found == [
        RH,
        LeaseState.SMB2_LEASE_NONE,
        LeaseState.SMB2_LEASE_NONE,
        LeaseState.SMB2_LEASE_HANDLE_CACHING,
        RH,
    ]
    assert given_lease.given == RH


def test_the_table_forgets_a_lease_with_its_last_handle() -> None:
    table, given_lease = LeaseTable(), lease()
    table.add_handle(given_lease)
    table.add_handle(given_lease)
    given_lease.apply_grant(grant(3))
    table.remove_handle(given_lease)
    assert table.get(KEY) is given_lease and given_lease.state == RH
    table.remove_handle(given_lease)
    assert table.get(KEY) is None and given_lease.state == LeaseState.SMB2_LEASE_NONE


def test_all_leases_end_with_the_connection() -> None:
    table, given_lease = LeaseTable(), lease()
    table.add_handle(given_lease)
    given_lease.apply_grant(grant(7))
    assert table.connection_lost() == [(given_lease, RWH)]
    assert given_lease.state == LeaseState.SMB2_LEASE_NONE and table.connection_lost() == []

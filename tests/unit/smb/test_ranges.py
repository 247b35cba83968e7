"""Parts of files: what is on the wire, and what a server in memory makes of it."""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import ContentError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.tree import ranges as operations
from dfsfs.smb.wire.constants import (
    Access,
    Command,
    CreateDisposition,
    CtlCode,
    FileAttributes,
    FileSystemAttributes,
)
from dfsfs.smb.wire.copychunk import Range
from dfsfs.smb.wire.fscc import MAX_SIZE
from dfsfs.smb.wire.ranges import (
    ByteRange,
    decode_ranges,
    encode_allocation,
    encode_duplication,
    encode_range,
    encode_sparse,
    encode_zero_data,
)
from tests.conftest import OFTEN
from tests.support.fakes.server import messages
from tests.support.fakes.server.client import SHARE, connected
from tests.support.fakes.server.requests import Answer, Session
from tests.support.fakes.server.server import Server

if TYPE_CHECKING:
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.tree.tree import Tree
    from tests.support.fakes.server.messages import Part

KIB = 1024
CLUSTER = 4 * KIB
WHOLE = ByteRange(0, MAX_SIZE)
READ_WRITE = Access.READ | Access.WRITE

# -- bytes ------------------------------------------------------------------------------------------------------------

_OFFSET = st.integers(0, 2**62 - 1)
_SIGNED = st.integers(-(2**63), 2**63 - 1)
_PARTS = st.lists(st.tuples(_OFFSET, _OFFSET), max_size=20)


def test_requests_are_these_bytes() -> None:
    assert encode_range(ByteRange(1, 3)) == bytes.fromhex("0100000000000000 0200000000000000")
    assert encode_zero_data(ByteRange(1, 3)) == bytes.fromhex("0100000000000000 0300000000000000")
    assert encode_sparse() == b"\1"
    assert encode_allocation(0x1234) == bytes.fromhex("3412000000000000")
    assert encode_duplication(b"f" * 16, 1, 2, 3) == b"f" * 16 + struct.pack("<QQQ", 1, 2, 3)
    codes = (
        CtlCode.FSCTL_SET_SPARSE,
        CtlCode.FSCTL_SET_ZERO_DATA,
        CtlCode.FSCTL_QUERY_ALLOCATED_RANGES,
        CtlCode.FSCTL_DUPLICATE_EXTENTS_TO_FILE,
    )
    assert codes == (0x900C4, 0x980C8, 0x940CF, 0x98344)


def test_ranges_are_cut_to_what_was_asked_for_and_made_one_where_they_touch() -> None:
    packed = b"".join(struct.pack("<qq", *part) for part in ((0, 10), (10, 5), (20, 0), (30, 10), (50, 10)))
    assert decode_ranges(packed, ByteRange(5, 55)) == [(5, 15), (30, 40), (50, 55)]
    assert decode_ranges(packed, ByteRange(15, 20)) == []
    assert decode_ranges(b"", WHOLE) == []


@OFTEN
@given(_PARTS, _OFFSET, _OFFSET)
def test_what_is_in_ranges_is_in_them_however_they_come(parts: list[tuple[int, int]], one: int, two: int) -> None:
    part = ByteRange(min(one, two), max(one, two))
    found = decode_ranges(b"".join(struct.pack("<qq", *each) for each in parts), part)
    assert all(part.start <= each.start < each.end <= part.end for each in found)
    assert all(one.end < two.start for one, two in pairwise(found))
    edges = {edge for start, length in parts for edge in (start, start + length)} | {*part}
    for at in {near for edge in edges for near in (edge - 1, edge, edge + 1)}:
        is_in = part.start <= at < part.end and any(start <= at < start + length for start, length in parts)
        assert is_in == any(each.start <= at < each.end for each in found)


@OFTEN
@given(
    st.binary(max_size=100) | st.lists(_SIGNED, max_size=9).map(lambda found: struct.pack(f"<{len(found)}q", *found))
)
def test_any_bytes_are_ranges_or_an_error(data: bytes) -> None:
    try:
        found = decode_ranges(data, WHOLE)
    except ContentError:
        return
    assert len(data) % 16 == 0 and len(found) <= len(data) // 16


@pytest.mark.parametrize("part", [(-1, 5), (0, -1), (2**63 - 1, 1)])
def test_ranges_that_no_file_has(part: tuple[int, int]) -> None:
    with pytest.raises(ContentError):
        decode_ranges(struct.pack("<qq", *part), WHOLE)


# -- operations -------------------------------------------------------------------------------------------------------


async def open_file(tree: Tree, name: str, access: Access = READ_WRITE) -> RemoteFile:
    return await tree.open(SHARE.join([name]), access=access, disposition=CreateDisposition.FILE_OPEN)


def holding(**files: bytes) -> Server:
    server = Server()
    for name, data in files.items():
        server.volume.add_file(name, data)
    return server


async def test_holes_are_where_zeros_were_made_in_a_sparse_file() -> None:
    server = holding(f=os.urandom(10 * CLUSTER))
    async with connected(server) as tree:
        file = await open_file(tree, "f")
        answer = await operations.query_allocated(file, WHOLE)
        assert (answer.ranges, answer.known_to, answer.stat.size) == ([(0, 10 * CLUSTER)], MAX_SIZE, 10 * CLUSTER)
        stat = await operations.zero(file, ByteRange(2 * CLUSTER, 3 * CLUSTER), makes_sparse=True)
        assert stat.attributes & FileAttributes.FILE_ATTRIBUTE_SPARSE_FILE
        assert (stat.size, stat.allocated) == (10 * CLUSTER, 9 * CLUSTER)
        answer = await operations.query_allocated(file, ByteRange(CLUSTER, MAX_SIZE))
        assert answer.ranges == [(CLUSTER, 2 * CLUSTER), (3 * CLUSTER, 10 * CLUSTER)]
        stat = await operations.zero(file, ByteRange(9 * CLUSTER, 100 * CLUSTER), makes_sparse=False)
        assert stat.size == 10 * CLUSTER
        assert bytes(server.volume.at("f").data[9 * CLUSTER :]) == bytes(CLUSTER)
        assert file.is_written


@pytest.mark.parametrize("in_parts", [True, False])
async def test_more_ranges_than_there_is_room_for(in_parts: bool) -> None:
    server = holding(f=(b"x" * CLUSTER + bytes(CLUSTER)) * 5000)
    server.volume.ranges_in_parts = in_parts
    server.volume.at("f").attributes |= int(FileAttributes.FILE_ATTRIBUTE_SPARSE_FILE)
    async with connected(server) as tree:
        answer = await operations.query_allocated(await open_file(tree, "f"), WHOLE)
        assert answer.ranges is not None
        if in_parts:
            assert len(answer.ranges) == 4096 and answer.known_to == 4096 * 2 * CLUSTER - CLUSTER
        else:
            assert (answer.ranges, answer.known_to) == ([], 0)


async def test_a_server_that_can_not_say_or_does_not_want_to() -> None:
    server = holding(f=b"data")
    server.volume.has_ranges = False
    async with connected(server) as tree:
        file = await open_file(tree, "f")
        answer = await operations.query_allocated(file, WHOLE)
        assert (answer.ranges, answer.stat.size) == (None, 4)
        with pytest.raises(SmbError) as raised:
            await operations.zero(file, ByteRange(0, 4), makes_sparse=True)
        assert raised.value.status in operations.UNSUPPORTED
        server.volume.has_ranges = True
        answer = await operations.query_allocated(await open_file(tree, "f", Access.WRITE), WHOLE)
        assert answer.ranges is None


@pytest.mark.parametrize("allocates", [True, False])
async def test_room_is_kept_or_it_is_not_and_the_answer_says_so(allocates: bool) -> None:
    server = holding(f=b"data")
    server.volume.allocates = allocates
    async with connected(server) as tree:
        file = await open_file(tree, "f")
        stat, volume = await operations.reserve(file, 100 * CLUSTER)
        assert (stat.size, stat.allocated) == (4, 100 * CLUSTER if allocates else CLUSTER)
        assert volume.caller_free == (1 << 27) * 8 * 512
        with pytest.raises(SmbError) as raised:
            await operations.reserve(file, 1 << 40)
        assert raised.value.status == NtStatus.DISK_FULL
        assert (await operations.reserve(file, None))[0].size == 4
        assert (await operations.set_end(file, 9)).size == 9
        assert (await operations.extend(file, 12)).size == 12
        assert bytes(server.volume.at("f").data) == b"data" + bytes(8)


async def test_a_copy_ends_with_its_source() -> None:
    server = holding(f=b"0123456789", g=b"")
    async with connected(server) as tree:
        source, target = await open_file(tree, "f", Access.READ), await open_file(tree, "g", Access.WRITE)
        assert await operations.copy_chunks(target, source, Range(2, 1, 5)) == 5
        assert bytes(server.volume.at("g").data) == b"\00023456"
        assert await operations.copy_chunks(target, source, Range(8, 0, 100)) == 2
        assert await operations.copy_chunks(target, source, Range(10, 0, 100)) == 0
        assert await operations.copy_chunks(target, source, Range(11, 0, 100)) == 0
        assert bytes(server.volume.at("g").data) == b"893456"


@pytest.mark.parametrize(("said", "error"), [(11, WireError), (0, SmbError)])
async def test_a_copy_of_more_or_of_nothing_is_none(said: int, error: type[Exception]) -> None:
    server = holding(f=b"0123456789", g=b"")

    def lie(session: Session, part: Part) -> Answer | None:
        code = CtlCode.FSCTL_SRV_COPYCHUNK_WRITE
        if part.command is not Command.SMB2_IOCTL or messages.parse_ioctl(part.body)[1] != code:
            return None
        return Answer(NtStatus.SUCCESS, messages.ioctl_body(code, bytes(16), struct.pack("<III", 1, 0, said)))

    server.lie = lie
    async with connected(server) as tree:
        source, target = await open_file(tree, "f", Access.READ), await open_file(tree, "g", Access.WRITE)
        with pytest.raises(error):
            await operations.copy_chunks(target, source, Range(0, 0, 10))


async def test_a_clone_that_is_refused_leaves_the_target_as_long_as_it_was() -> None:
    server = holding(f=os.urandom(4 * CLUSTER), g=b"data")
    server.volume.features = int(FileSystemAttributes.FILE_SUPPORTS_BLOCK_REFCOUNTING)
    async with connected(server) as tree:
        source, target = await open_file(tree, "f", Access.READ), await open_file(tree, "g", Access.WRITE)
        wanted = Range(0, 0, 4 * CLUSTER)
        await operations.duplicate(target, source, wanted, ends=(4 * CLUSTER, 4))
        assert server.volume.at("g").data == server.volume.at("f").data and server.volume.clones == 1
        with pytest.raises(SmbError):
            await operations.duplicate(target, source, Range(1, 4 * CLUSTER, CLUSTER), ends=(5 * CLUSTER, 4 * CLUSTER))
        assert len(server.volume.at("g").data) == 4 * CLUSTER

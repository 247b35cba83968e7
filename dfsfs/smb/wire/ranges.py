"""Parts of files on the wire: what is allocated, what becomes zeros, what is shared with another file (MS-FSCC 2.3, the
control codes in the names of the constants). Pure.

Offsets and lengths are bytes; they are signed on the wire, and no server takes or has negative ones.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dfsfs.errors import ContentError
from dfsfs.smb.wire.fscc import MAX_SIZE

Buffer = bytes | bytearray | memoryview

_RANGE = struct.Struct("<qq")
_DUPLICATION = struct.Struct("<16sqqq")
RANGE_SIZE = _RANGE.size
"""Bytes of one FILE_ALLOCATED_RANGE_BUFFER."""


class ByteRange(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int


def encode_range(part: ByteRange) -> bytes:
    """The input of FSCTL_QUERY_ALLOCATED_RANGES: the part of a file that is asked about."""
    return _RANGE.pack(part.start, part.end - part.start)


def decode_ranges(buffer: Buffer, part: ByteRange) -> list[ByteRange]:
    """The allocated ranges in the answer to `encode_range(part)`, cut to `part`: in order, none empty, none touching
    the next one.

    Raises:
        ContentError: they are cut off, or negative.
    """
    if len(buffer) % RANGE_SIZE:
        raise ContentError(f"allocated ranges of {len(buffer)} bytes")
    found: list[ByteRange] = []
    for start, length in sorted(_RANGE.iter_unpack(buffer)):
        if start < 0 or length < 0 or start + length > MAX_SIZE:
            raise ContentError(f"an allocated range of {length} bytes at {start}")
        start, end = max(start, part.start), min(start + length, part.end)
        if start >= end:
            continue
        if found and start <= found[-1].end:
            before = found.pop()
            start, end = before.start, max(before.end, end)
        found.append(ByteRange(start, end))
    return found


def encode_sparse() -> bytes:
    """FILE_SET_SPARSE_BUFFER, the input of FSCTL_SET_SPARSE that makes a file sparse."""
    return b"\x01"


def encode_zero_data(part: ByteRange) -> bytes:
    """FILE_ZERO_DATA_INFORMATION, the input of FSCTL_SET_ZERO_DATA."""
    return _RANGE.pack(*part)


def encode_duplication(source: bytes, source_offset: int, target_offset: int, length: int) -> bytes:
    """SMB2_DUPLICATE_EXTENTS_DATA, the input of FSCTL_DUPLICATE_EXTENTS_TO_FILE. `source`: the FileId of the handle to
    copy from.
    """
    return _DUPLICATION.pack(source, source_offset, target_offset, length)


def encode_allocation(size: int) -> bytes:
    """FileAllocationInformation (MS-FSCC 2.4.4): room for so many bytes. If the file has more, it is cut."""
    return struct.pack("<q", size)

"""What can be done with parts of files on a volume (MS-FSCC 2.3, MS-FSA 2.1.5.10): holes, room, copies.

A sparse file has holes where clusters are zeros. `Volume.allocates`: an allocation size is kept to, as on Windows.
`Volume.features`: what the volume says that it can do.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Access, FileAttributes, FileSystemAttributes
from tests.support.fakes.server.errors import Refused

if TYPE_CHECKING:
    from tests.support.fakes.server.volume import Inode, Open, Volume

CLUSTER = 4096
_SPARSE = FileAttributes.FILE_ATTRIBUTE_SPARSE_FILE


def allocated_ranges(inode: Inode) -> list[tuple[int, int]]:
    """Where data is, as offsets and lengths."""
    if not inode.attributes & _SPARSE:
        return [(0, len(inode.data))] if inode.data else []
    found: list[tuple[int, int]] = []
    for start in range(0, len(inode.data), CLUSTER):
        if not any(inode.data[start : start + CLUSTER]):
            continue
        begin = found.pop()[0] if found and sum(found[-1]) == start else start
        found.append((begin, start + CLUSTER - begin))
    return found


def allocated(inode: Inode) -> int:
    """AllocationSize."""
    if inode.attributes & _SPARSE:
        return sum(length for _, length in allocated_ranges(inode))
    return max(inode.reserved, -(-len(inode.data) // CLUSTER) * CLUSTER)


def query_ranges(volume: Volume, opened: Open, data: bytes, room: int) -> tuple[int, bytes]:
    """FSCTL_QUERY_ALLOCATED_RANGES: the status and the output."""
    _needs(opened, Access.FILE_READ_DATA)
    offset, length = struct.unpack("<qq", data)
    if offset < 0 or length < 0 or offset + length > 2**63 - 1:
        raise Refused(NtStatus.INVALID_PARAMETER)
    end = min(offset + length, len(opened.inode.data))
    found = [
        (max(start, offset), min(start + size, end) - max(start, offset))
        for start, size in allocated_ranges(opened.inode)
        if start < end and start + size > offset
    ]
    packed = b"".join(struct.pack("<qq", *part) for part in found)
    if len(packed) <= room:
        return NtStatus.SUCCESS, packed
    if volume.ranges_in_parts:
        return NtStatus.BUFFER_OVERFLOW, packed[: room // 16 * 16]
    raise Refused(NtStatus.BUFFER_TOO_SMALL)


def set_sparse(opened: Open, data: bytes) -> None:
    """FSCTL_SET_SPARSE."""
    _needs(opened, Access.FILE_WRITE_DATA | Access.FILE_WRITE_ATTRIBUTES)
    if not data or data[0]:
        opened.inode.attributes |= int(_SPARSE)
    else:
        opened.inode.attributes &= ~int(_SPARSE)


def zero(volume: Volume, opened: Open, data: bytes) -> None:
    """FSCTL_SET_ZERO_DATA."""
    start, beyond = struct.unpack("<qq", data)
    if start < 0 or beyond < start:
        raise Refused(NtStatus.INVALID_PARAMETER)
    end = min(beyond, len(opened.inode.data))
    if start < end:
        volume.write(opened, start, bytes(end - start))
    else:
        _needs(opened, Access.FILE_WRITE_DATA)


def set_allocation(volume: Volume, opened: Open, size: int) -> None:
    """FileAllocationInformation."""
    if size < len(opened.inode.data):
        volume.set_size(opened, size)
    _needs(opened, Access.FILE_WRITE_DATA)
    if size > volume.room:
        raise Refused(NtStatus.DISK_FULL)
    if volume.allocates:
        opened.inode.reserved = size


def duplicate(volume: Volume, opened: Open, data: bytes, client: object) -> None:
    """FSCTL_DUPLICATE_EXTENTS_TO_FILE."""
    handle, source_offset, target_offset, length = struct.unpack("<16sqqq", data)
    source = volume.opens.get(handle)
    if not volume.features & FileSystemAttributes.FILE_SUPPORTS_BLOCK_REFCOUNTING or volume.refuses_clones:
        raise Refused(NtStatus.INVALID_DEVICE_REQUEST)
    if source is None or source.client is not client:
        raise Refused(NtStatus.INVALID_HANDLE)
    if (source_offset | target_offset | length) % CLUSTER:
        raise Refused(NtStatus.INVALID_PARAMETER)
    if max(source_offset + length - len(source.inode.data), target_offset + length - len(opened.inode.data)) > 0:
        raise Refused(NtStatus.NOT_SUPPORTED)
    if source.inode.attributes & _SPARSE & ~opened.inode.attributes:
        raise Refused(NtStatus.NOT_SUPPORTED)
    volume.write(opened, target_offset, bytes(source.inode.data[source_offset : source_offset + length]))
    volume.clones += 1


def _needs(opened: Open, access: int) -> None:
    if not opened.access & access:
        raise Refused(NtStatus.ACCESS_DENIED)

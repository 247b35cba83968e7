"""What can be done with parts of an open file besides reading and writing: asking which are allocated, making them
zeros, room for them, copies that stay on the server (MS-FSCC 2.3, MS-SMB2 3.3.5.15.6).

Every function raises

    SmbError                                     the server's answer
    ConnectionLost, SecurityError, WireError     the connection ended

Nothing here retries, or knows what a file's size ought to be.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.errors import PosixError, SmbError, WireError
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb.wire import copychunk, fscc, messages, ranges
from dfsfs.smb.wire.constants import CtlCode, FileInformationClass, FileSystemInformationClass
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.wire.copychunk import Range
    from dfsfs.smb.wire.fscc import FileStat, VolumeSize
    from dfsfs.smb.wire.ranges import ByteRange

RANGES_OUTPUT = 4096 * ranges.RANGE_SIZE
"""MaxOutputResponse in bytes of a question for allocated ranges: what one credit pays for."""
_VOLUME_OUTPUT = 64
UNSUPPORTED = frozenset(
    {
        NtStatus.NOT_SUPPORTED,
        NtStatus.NOT_IMPLEMENTED,
        NtStatus.INVALID_DEVICE_REQUEST,
        NtStatus.CTL_FILE_NOT_SUPPORTED,
        NtStatus.INVALID_INFO_CLASS,
    }
)
"""Answers of a server, or of its file system, that has no such thing."""


@dataclass(frozen=True, slots=True)
class Allocated:
    """Which bytes of a file are allocated. `stat`: what the file is at that moment.

    `ranges`: None if the server can't say. `known_to`: from here on the ranges are not known, as there are too many.
    """

    stat: FileStat
    ranges: list[ByteRange] | None
    known_to: int


async def query_allocated(file: RemoteFile, part: ByteRange) -> Allocated:
    """Which bytes of a part of the file are allocated; those behind its end are not. One round trip.

    Raises:
        ContentError: the server's ranges are malformed.
    """
    what = f"allocated ranges of {file.path}"
    question = messages.encode_ioctl(
        CtlCode.FSCTL_QUERY_ALLOCATED_RANGES, ranges.encode_range(part), RANGES_OUTPUT, RELATED_FILE_ID
    )
    queried, asked = await file.tree.call([messages.encode_query_all(file.file_id), question])
    stat = file.tree.decode_stat(queried, what)
    if asked.status in UNSUPPORTED or asked.status == NtStatus.ACCESS_DENIED:  # it takes the right to read
        return Allocated(stat, None, part.end)
    if asked.status == NtStatus.BUFFER_TOO_SMALL:  # Samba has all ranges or none
        return Allocated(stat, [], part.start)
    file.tree.check(asked, what, NtStatus.BUFFER_OVERFLOW)
    found = ranges.decode_ranges(messages.decode_ioctl(asked.message, RANGES_OUTPUT), part)
    if asked.status != NtStatus.BUFFER_OVERFLOW:
        return Allocated(stat, found, part.end)
    return Allocated(stat, found, found[-1].end if found else part.start)


async def zero(file: RemoteFile, part: ByteRange, *, makes_sparse: bool) -> FileStat:
    """Makes a part of the file zeros, up to its end, and returns its stat afterwards. One round trip.

    `makes_sparse`: the file is made sparse first. In a sparse file what is zeroed is not allocated any more.
    """
    what = f"zeroing a part of {file.path}"
    changes = [messages.encode_ioctl(CtlCode.FSCTL_SET_SPARSE, ranges.encode_sparse(), 0, file.file_id)]
    zeroing = messages.encode_ioctl(CtlCode.FSCTL_SET_ZERO_DATA, ranges.encode_zero_data(part), 0, file.file_id)
    return await _change(file, [*changes, zeroing] if makes_sparse else [zeroing], what)


async def set_end(file: RemoteFile, size: int) -> FileStat:
    """`RemoteFile.set_size`, and the stat afterwards. One round trip."""
    return await _change(file, [_encode_end(file, size)], f"truncation of {file.path}")


async def extend(file: RemoteFile, size: int) -> FileStat:
    """Makes a file at least `size` bytes long by a zero at its end, whatever others write behind that. `size` > 0. One
    round trip.
    """
    return await _change(file, [messages.encode_write(file.file_id, size - 1, b"\0")], f"extension of {file.path}")


async def reserve(file: RemoteFile, size: int | None) -> tuple[FileStat, VolumeSize]:
    """Has the server allocate room for `size` bytes, none for None. Returns the stat afterwards, whose `allocated` says
    whether it did, and how much room there is. One round trip.

    A file that is longer than `size` would be cut.

    Raises:
        PosixError: EIO, what the server says of its room is malformed.
    """
    what = f"allocation for {file.path}"
    requests = [
        messages.encode_query_all(file.file_id),
        messages.encode_query_volume(FileSystemInformationClass.FILE_FS_FULL_SIZE_INFORMATION, _VOLUME_OUTPUT),
    ]
    if size is not None:
        file.is_written = True
        info = ranges.encode_allocation(size)
        change = messages.encode_set_info(file.file_id, FileInformationClass.FILE_ALLOCATION_INFORMATION, info)
        requests.insert(0, change)
    *changed, queried, asked = await file.tree.call(requests)
    for response in (*changed, asked):
        file.tree.check(response, what)
    try:
        room = fscc.decode_full_size(messages.decode_output(asked.message))
    except WireError as error:
        raise PosixError(errno.EIO, f"the size of the volume of {file.path}: {error}") from None
    return file.tree.decode_stat(queried, what), room


async def copy_chunks(target: RemoteFile, source: RemoteFile, wanted: Range) -> int:
    """Has the server copy a range of one file into another one of the same session. Two round trips.

    Returns how many bytes were copied: fewer than wanted if the source ends before. After an error of the second
    request an unknown part may be written.
    """
    what = f"copy of {source.path} to {target.path}"
    size = copychunk.KEY_RESPONSE_SIZE
    request = messages.encode_ioctl(CtlCode.FSCTL_SRV_REQUEST_RESUME_KEY, b"", size, RELATED_FILE_ID)
    queried, answered = await source.tree.call([messages.encode_query_all(source.file_id), request])
    end = source.tree.decode_stat(queried, what).size
    source.tree.check(answered, what)
    key = copychunk.decode_resume_key(messages.decode_ioctl(answered.message, size))
    length = min(wanted.length, end - wanted.source)
    if length <= 0:
        return 0
    chunks = copychunk.Range(wanted.source, wanted.target, length).chunks
    target.is_written = True
    size = copychunk.RESPONSE_SIZE
    copy = messages.encode_ioctl(
        CtlCode.FSCTL_SRV_COPYCHUNK_WRITE, copychunk.encode_copychunk(key, chunks), size, target.file_id
    )
    (response,) = await target.tree.call([copy])
    target.tree.check(response, what)
    copied = copychunk.decode_copychunk(messages.decode_ioctl(response.message, size))
    if copied > length:
        raise WireError(f"{what}: {copied} bytes are said to be copied, {length} were asked for")
    if not copied:
        raise SmbError(NtStatus.END_OF_FILE, f"{what} stopped short")
    return copied


async def duplicate(target: RemoteFile, source: RemoteFile, wanted: Range, *, ends: tuple[int, int] | None) -> None:
    """Has two files of one volume share a range: a copy that moves no data. One round trip.

    Both offsets and the length have to be multiples of the volume's cluster size, and the target as long as that.
    `ends`: the size in bytes to give the target first, and the one to give it back if the server refuses the copy.
    """
    what, file_id = f"clone of {source.path} to {target.path}", target.file_id
    target.is_written = True
    info = ranges.encode_duplication(source.file_id, wanted.source, wanted.target, wanted.length)
    requests = [messages.encode_ioctl(CtlCode.FSCTL_DUPLICATE_EXTENTS_TO_FILE, info, 0, file_id)]
    if ends is not None:
        requests.insert(0, _encode_end(target, ends[0]))
    *extended, cloned = await target.tree.call(requests)
    for response in extended:
        target.tree.check(response, what)
    if is_failure(cloned.status) and ends is not None:
        await target.set_size(ends[1])
    target.tree.check(cloned, what)


def _encode_end(file: RemoteFile, size: int) -> Request:
    return messages.encode_set_info(
        file.file_id, FileInformationClass.FILE_END_OF_FILE_INFORMATION, fscc.encode_end_of_file(size)
    )


async def _change(file: RemoteFile, changes: Sequence[Request], what: str) -> FileStat:
    """Sends changes in one compound with a question for the stat afterwards."""
    file.is_written = True
    *changed, queried = await file.tree.call([*changes, messages.encode_query_all(RELATED_FILE_ID)])
    for response in changed:
        file.tree.check(response, what)
    return file.tree.decode_stat(queried, what)

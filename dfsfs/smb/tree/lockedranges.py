"""Reads of files in which another client has locked a byte range (MS-SMB2 3.3.5.12, MS-FSA 2.1.4.10).

A server refuses a READ as a whole when one of its bytes is locked. The bytes before the lock are not returned either:
the kernel may be reading into its page cache, also for a handle without one (sendfile and private maps), and takes a
short read for the end of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Buffer


class ReadableFile(Protocol):
    """The part of RemoteFile that is needed here."""

    async def read(self, offset: int, size: int) -> Buffer: ...
    async def query(self) -> FileStat: ...


def is_lock_conflict(error: SmbError) -> bool:
    """Whether a READ or WRITE was refused because of a byte range lock."""
    return error.status in (NtStatus.FILE_LOCK_CONFLICT, NtStatus.LOCK_NOT_GRANTED)


async def read_around_locks(file: ReadableFile, offset: int, size: int) -> Buffer:
    """Up to `size` bytes at `offset`: fewer only at the end of the file, none at or behind it.

    The kernel reads up to the end of a page, and programs of Windows synchronize by locks behind the end of a file.
    Such locks must not fail reads of the data. Two more requests if a byte is locked.

    Raises:
        SmbError: the server's answer; FILE_LOCK_CONFLICT, one of the bytes that the file has is locked.
        ConnectionLost, SecurityError, WireError: the connection ended.
    """
    try:
        return await file.read(offset, size)
    except SmbError as error:
        if not is_lock_conflict(error):
            raise
        end = (await file.query()).size
        if end >= offset + size:
            raise
    return await file.read(offset, end - offset) if offset < end else b""

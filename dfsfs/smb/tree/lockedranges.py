"""Reading a file of which another client has locked parts (MS-SMB2 3.3.5.12, MS-FSA 2.1.4.10).

A server refuses a READ as a whole when one of its bytes is locked. Nothing here hands out the part before that byte:
who asks may be the kernel for its page cache, also on a handle that has none (sendfile and private maps), and to it
fewer bytes than it wanted are the end of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Buffer


class ReadableFile(Protocol):
    """What RemoteFile has of it."""

    async def read(self, offset: int, size: int) -> Buffer: ...
    async def query(self) -> FileStat: ...


def is_conflict(error: SmbError) -> bool:
    """Whether a READ or WRITE was refused because of a lock of another client."""
    return error.status in (NtStatus.FILE_LOCK_CONFLICT, NtStatus.LOCK_NOT_GRANTED)


async def read_beside_locks(file: ReadableFile, offset: int, size: int) -> Buffer:
    """Up to `size` bytes at `offset`: fewer only at the end of the file, none at or behind it.

    The kernel asks up to the end of a page, and programs of Windows agree with each other by locks behind the end of a
    file: such a lock keeps nobody from its data. Two requests more if something is locked.

    Raises:
        SmbError: the server's answer; FILE_LOCK_CONFLICT, one of the bytes that the file has is locked.
        ConnectionLost, SecurityError, WireError: the connection ended.
    """
    try:
        return await file.read(offset, size)
    except SmbError as error:
        if not is_conflict(error):
            raise
        end = (await file.query()).size
        if end >= offset + size:
            raise
    return await file.read(offset, end - offset) if offset < end else b""

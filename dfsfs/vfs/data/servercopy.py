"""ServerCopy: has the server copy data from one open file to another one, so that it is not transferred.

The command `dfsfs cp` asks for it. pyfuse3 does not pass copy_file_range on, so the command sets the extended attribute
`user.dfsfs.copy` of the file to be written. The value is a text: the inode number of the file to be read, the offset in
it, the offset in the file to be written, and the number of bytes: `8675309:0:0:16777216`. The caller has to have the
files open, one for reading and one for writing: its rights were checked when they were opened.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfsfs.errors import PosixError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.copychunk import Range
from dfsfs.vfs.data.rangecopy import LARGEST

if TYPE_CHECKING:
    from dfsfs.vfs.data.fileops import FileOperations
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

COPY_XATTR = b"user.dfsfs.copy"


class ServerCopy:
    """See the module's text."""

    def __init__(self, lookup: Lookup, files: FileOperations) -> None:
        self._lookup = lookup
        self._files = files

    async def copy(self, target: Inode, request: bytes) -> None:
        """Copies what `request`, the value of COPY_XATTR, asks for; all of it is copied when this returns.

        Raises:
            PosixError: EINVAL, the request is malformed or too large; EBADF, a file is not open as it has to be; EXDEV,
                the files are on two servers, or the server can't copy.
            SmbError: END_OF_FILE, the source has ended before; or the server's answer.
            DfsfsError: there was no answer.
        """
        source, wanted = self._parse(request)
        reader, writer = self._files.table.find_readable(source), self._files.table.find_writable(target)
        if reader is None or writer is None:
            raise PosixError(errno.EBADF, f"{source.name} is not open to be read, or {target.name} to be written")
        copied = 0
        try:
            while copied < wanted.length:
                left = Range(wanted.source + copied, wanted.target + copied, wanted.length - copied)
                if not (done := await self._files.copies.copy(reader, writer, left)):
                    raise SmbError(NtStatus.END_OF_FILE, f"copy of {source.name} stopped short")
                copied += done
        finally:
            if copied:
                await self._files.leases.kernel.invalidate(target.ino)

    def _parse(self, request: bytes) -> tuple[Inode, Range]:
        try:
            ino, source, offset, length = map(int, request.split(b":"))
        except ValueError:
            raise PosixError(errno.EINVAL, f"{request!r} is not of the form INODE:OFFSET:OFFSET:LENGTH") from None
        if min(source, offset) < 0 or not 0 < length <= LARGEST:
            raise PosixError(errno.EINVAL, f"{request!r}: at most {LARGEST} bytes can be copied at once")
        return self._lookup.get_inode(ino), Range(source, offset, length)

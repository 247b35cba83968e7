"""KernelOperations: handlers of what the kernel asks and pyfuse3 has no handlers for, or tells them too little for.

They are called by a session of our own (device/dispatcher.py). With loop=pyfuse3 the kernel keeps locks by itself, and
takes its substitutes for the other calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.fuse.boundary import lock_handler, request_handler
from dfsfs.fuse.operations import DfsOperations

if TYPE_CHECKING:
    from pyfuse3 import EntryAttributes, RequestContext, StatvfsData

    from dfsfs.fuse.abi.replies import DirentBuffer, DirentPlusBuffer
    from dfsfs.vfs.data.locktable import ByteRangeLock, LockKind
    from dfsfs.vfs.names.mapping import Attributes

FILE_RANGE_CALLS = ("lseek", "fallocate", "copy_file_range")
LOCK_CALLS = ("getlk", "setlk", "setlkw", "flock", "flockw")
"""Calls whose first argument is the handle of an open file."""


class KernelOperations(DfsOperations):
    """See the module's text."""

    @request_handler
    async def statfs_of(self, inode: int, ctx: RequestContext) -> StatvfsData:
        """As `statfs`, of the share that an inode is on."""
        return self._volume(await self._fs.statfs(inode))

    @request_handler
    async def statx(self, inode: int, ctx: RequestContext) -> tuple[EntryAttributes, int | None]:
        """What `getattr` answers, and when the file was made, in nanoseconds since 1970; None: not known."""
        attributes = await self._fs.getattr(inode)
        return self._entry(attributes), attributes.btime_ns or None

    @request_handler
    async def readdir_into(self, fh: int, start_id: int, buffer: DirentBuffer | DirentPlusBuffer) -> None:
        """As `readdir`: adds the entries from `start_id` on to a buffer, until that is full."""
        timeouts = self._fs.timeouts

        def add(name: bytes, attributes: Attributes, next_id: int) -> bool:
            return buffer.add(name, attributes, timeouts(attributes.ino), next_id)

        counted = await self._pass_entries(fh, start_id, add)
        if not buffer.keeps_lookups:
            self._give_back(counted)

    # -- parts of files ---------------------------------------------------------------------------------------------

    @request_handler
    async def lseek(self, fh: int, offset: int, whence: int) -> int:
        return await self._fs.lseek(fh, offset, whence)

    @request_handler
    async def fallocate(self, fh: int, mode: int, offset: int, length: int) -> None:
        await self._fs.fallocate(fh, mode, offset, length)

    @request_handler
    async def copy_file_range(self, fh_in: int, off_in: int, fh_out: int, off_out: int, length: int) -> int:
        return await self._fs.copy_file_range(fh_in, off_in, fh_out, off_out, length)

    # -- locks ------------------------------------------------------------------------------------------------------

    @request_handler
    async def getlk(self, fh: int, owner: int, lock: ByteRangeLock) -> ByteRangeLock | None:
        return await self._fs.getlk(fh, owner, lock)

    @request_handler
    async def setlk(self, fh: int, owner: int, lock: ByteRangeLock) -> None:
        await self._fs.setlk(fh, owner, lock)

    @lock_handler
    async def setlkw(self, fh: int, owner: int, lock: ByteRangeLock) -> None:
        await self._fs.setlkw(fh, owner, lock)

    @request_handler
    async def flock(self, fh: int, owner: int, kind: LockKind) -> None:
        await self._fs.flock(fh, owner, kind)

    @lock_handler
    async def flockw(self, fh: int, owner: int, kind: LockKind) -> None:
        await self._fs.flockw(fh, owner, kind)

    @request_handler
    async def flush(self, fh: int, lock_owner: int | None = None) -> None:
        """`lock_owner`: who has closed a descriptor, and has no byte-range locks of the file any more."""
        await self._fs.flush(fh, lock_owner)

"""Operations: FUSE requests as calls of the file system, and its answers in pyfuse3's types. Translation only.

What is not here, because pyfuse3 has nothing for it: byte-range locks and flock (local to this machine), lseek for
holes, fallocate, copy_file_range.

Questions for names and attributes come most often, and most of them can be answered from what is known. These answers
are given without a deadline, and what that takes: a third of their time.

pyfuse3 passes its own types through Cython, whose objects are cheap to make; nothing is kept between requests.
"""

from __future__ import annotations

import errno
import os
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, StatvfsData

from dfsfs.caller import Caller
from dfsfs.errors import DfsfsError
from dfsfs.fuse.boundary import guarded, prompt, quiet
from dfsfs.fuse.caserename import RenameDetector
from dfsfs.fuse.waiters import Waiter
from dfsfs.meters import Meters
from dfsfs.smb.wire.fscc import NAME_UNITS_MAX
from dfsfs.vfs.filesystem import DOTS
from dfsfs.vfs.names.mapping import AttributeChanges
from dfsfs.vfs.xattrs import CIFS_ACL, is_foreign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import ReaddirToken, SetattrFields

    from dfsfs.vfs.data.fileops import OpenResult
    from dfsfs.vfs.filesystem import FileSystem
    from dfsfs.vfs.names.mapping import Attributes

FILE_HANDLE_CALLS = frozenset({"read", "write", "flush", "fsync"})
DIRECTORY_HANDLE_CALLS = frozenset({"readdir", "fsyncdir"})
"""Calls whose first argument is what open, create or opendir gave, and whose answer somebody waits for."""


class DfsOperations(pyfuse3.Operations):
    """The handlers of one mount. `deadline`: seconds that any of them may take. `xattrs`: whether there are extended
    attributes; if not, the kernel asks once and never again.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False
    owners_only_set_acl = True
    """Only root and the mount's owner set access control lists: for the server everybody is the mount's user."""

    def __init__(
        self, filesystem: FileSystem, *, deadline: float, xattrs: bool = True, meters: Meters | None = None
    ) -> None:
        super().__init__()
        self.deadline = deadline
        self.initialized = trio.Event()
        """Set with the answer to FUSE_INIT: the kernel has it before any other task of the loop runs."""
        self.meters = meters or Meters()
        self._fs = filesystem
        self._renames = RenameDetector()
        self.under_way: dict[trio.CancelScope, tuple[str, tuple[object, ...]]] = {}
        self._files: dict[int, Waiter] = {}
        self._directories: dict[int, Waiter] = {}
        """Who has opened what, by the handle."""
        self._no_xattr = FUSEError(errno.EOPNOTSUPP if xattrs else errno.ENOSYS)
        self._has_xattrs = xattrs

    def init(self) -> None:
        self.initialized.set()

    # -- names and attributes ---------------------------------------------------------------------------------------

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        known = self._lookup_known(parent_inode, name)
        entry = known if known is not None else await self._lookup(parent_inode, name, ctx)
        if entry.st_ino and (spelling := self._other_spelling(entry.st_ino, parent_inode, name)) is not None:
            return await self._lookup_spelled(parent_inode, name, ctx, entry.st_ino, spelling)
        return entry

    @prompt
    def _other_spelling(self, inode: int, parent_inode: int, name: bytes) -> bytes | None:
        return self._fs.other_spelling(inode, parent_inode, name)

    @guarded
    async def _lookup_spelled(
        self, parent_inode: int, name: bytes, ctx: RequestContext, inode: int, spelling: bytes
    ) -> EntryAttributes:
        """The answer for a name that leads to a file whose name differs from it in case: nothing for a rename of that
        file to this name (caserename.py). Given anew, as time has passed since the file was found.
        """
        try:
            if await self._renames.renames_to(ctx.uid, ctx.pid, spelling, name):
                entry = EntryAttributes()
                entry.st_ino = 0
                return entry
            known = self._fs.lookup_known(parent_inode, name)
            return self._entry(known if known is not None else await self._fs.lookup(parent_inode, name))
        except DfsfsError as error:
            return self._absent_entry(parent_inode, error)
        finally:
            self._fs.forget(inode, 1)

    @prompt
    def _lookup_known(self, parent_inode: int, name: bytes) -> EntryAttributes | None:
        try:
            attributes = self._fs.lookup_known(parent_inode, name)
        except DfsfsError as error:
            return self._absent_entry(parent_inode, error)
        return None if attributes is None else self._entry(attributes)

    @guarded
    async def _lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        try:
            return self._entry(await self._fs.lookup(parent_inode, name))
        except DfsfsError as error:
            return self._absent_entry(parent_inode, error)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, count in inode_list:
            self._fs.forget(ino, count)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        known = self._getattr_known(inode)
        return known if known is not None else await self._getattr(inode, ctx)

    @prompt
    def _getattr_known(self, inode: int) -> EntryAttributes | None:
        attributes = self._fs.getattr_known(inode)
        return None if attributes is None else self._entry(attributes)

    @guarded
    async def _getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.getattr(inode))

    @guarded
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        changes = AttributeChanges(
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
        )
        return self._entry(await self._fs.setattr(inode, changes, fh))

    @guarded
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        size = await self._fs.statfs()
        data = StatvfsData()
        data.f_bsize = data.f_frsize = size.unit
        data.f_blocks = size.total // size.unit
        data.f_bfree = size.free // size.unit
        data.f_bavail = size.caller_free // size.unit
        data.f_namemax = NAME_UNITS_MAX
        return data

    # -- directories ------------------------------------------------------------------------------------------------

    @guarded
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        handle = await self._fs.opendir(inode)
        self._directories[handle] = _opener(ctx, inode)
        return handle

    @guarded
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        async with aclosing(self._fs.readdir(fh, start_id)) as entries:
            async for name, attributes, next_id in entries:
                if not pyfuse3.readdir_reply(token, name, self._entry(attributes), next_id):
                    if name not in DOTS:
                        self._fs.forget(attributes.ino, 1)
                    break

    @quiet
    async def releasedir(self, fh: int) -> None:
        self._directories.pop(fh, None)
        await self._fs.releasedir(fh)

    @guarded
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """A server has made a change to a folder before it answers."""

    # -- making, removing, renaming names ---------------------------------------------------------------------------

    @guarded
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.mkdir(parent_inode, name))

    @guarded
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        device = (os.major(rdev), os.minor(rdev))
        return self._entry(await self._fs.mknod(parent_inode, name, mode, device))

    @guarded
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.unlink(parent_inode, name)

    @guarded
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.rmdir(parent_inode, name)

    @guarded
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        await self._fs.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @guarded
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.link(inode, new_parent_inode, new_name))

    @guarded
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.symlink(parent_inode, name, target))

    @guarded
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return await self._fs.readlink(inode)

    # -- files ------------------------------------------------------------------------------------------------------

    @guarded
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        result = await self._fs.open(inode, flags, ctx.pid)
        self._files[result.handle] = _opener(ctx, inode)
        return _opened(result)

    @guarded
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        result, attributes = await self._fs.create(parent_inode, name, mode, flags)
        self._files[result.handle] = _opener(ctx, attributes.ino)
        return _opened(result), self._entry(attributes)

    @guarded
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # The reply takes whatever has a contiguous buffer; nothing is copied here.
        data = await self._fs.read(fh, off, size)
        self.meters.bytes_read += len(data)
        return data  # type: ignore[return-value]

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        taken = await self._fs.write(fh, off, buf)
        self.meters.bytes_written += taken
        return taken

    @guarded
    async def flush(self, fh: int) -> None:
        await self._fs.flush(fh)

    @guarded
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._fs.fsync(fh)

    @quiet
    async def release(self, fh: int) -> None:
        self._files.pop(fh, None)
        await self._fs.release(fh)

    # -- extended attributes ----------------------------------------------------------------------------------------

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if not self._has_xattrs or is_foreign(name):  # asked for by the kernel before each write, and by `ls -l`
            raise self._no_xattr
        return await self._getxattr(inode, name, ctx)

    @guarded
    async def _getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return await self._fs.getxattr(inode, name)

    @guarded
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._require_xattrs()
        if self.owners_only_set_acl and name == CIFS_ACL and ctx.uid not in (0, self._fs.owner):
            raise FUSEError(errno.EPERM)  # as for chmod; the kernel does not know what this attribute is
        await self._fs.setxattr(inode, name, value)

    @guarded
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        self._require_xattrs()
        return await self._fs.listxattr(inode)

    @guarded
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._require_xattrs()
        await self._fs.removexattr(inode, name)

    def _require_xattrs(self) -> None:
        if not self._has_xattrs:
            raise self._no_xattr

    # -- pieces -----------------------------------------------------------------------------------------------------

    def waiter(self, call: str, arguments: tuple[object, ...]) -> Waiter | None:
        """See waiters.py."""
        table = (
            self._files if call in FILE_HANDLE_CALLS else self._directories if call in DIRECTORY_HANDLE_CALLS else None
        )
        if table is not None:
            return table.get(cast("int", arguments[0]))
        for argument in arguments:
            if isinstance(argument, RequestContext):
                return Waiter(_caller(argument))
        return None

    def _absent_entry(self, parent_inode: int, error: DfsfsError) -> EntryAttributes:
        """The answer that there is no such name, which the kernel may keep: programs look for many that are not there.

        Raises:
            DfsfsError: the error, if it says anything else.
        """
        if error.errno != errno.ENOENT:
            raise error
        entry = EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = entry.attr_timeout = self._fs.negative_timeout(parent_inode)
        return entry

    def _entry(self, attributes: Attributes) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = attributes.ino
        entry.st_mode = attributes.mode
        entry.st_nlink = attributes.nlink
        entry.st_rdev = os.makedev(*attributes.device)
        entry.st_uid = attributes.uid
        entry.st_gid = attributes.gid
        entry.st_size = attributes.size
        entry.st_blocks = attributes.blocks
        entry.st_blksize = attributes.blksize
        entry.st_atime_ns = attributes.atime_ns
        entry.st_mtime_ns = attributes.mtime_ns
        entry.st_ctime_ns = attributes.ctime_ns
        entry.entry_timeout, entry.attr_timeout = self._fs.timeouts(attributes.ino)
        return entry


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.pid)


def _opener(ctx: RequestContext, inode: int) -> Waiter:
    return Waiter(_caller(ctx), inode)


def _opened(result: OpenResult) -> FileInfo:
    # pyfuse3's default is to keep what the kernel has, whatever happened to the file since.
    return FileInfo(fh=result.handle, keep_cache=result.keep_cache, direct_io=result.direct)

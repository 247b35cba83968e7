"""DfsOperations: translates FUSE requests to calls of the file system, and its answers to pyfuse3's types.

What pyfuse3 has no handlers for is in kerneloperations.py.

Most requests are lookup and getattr, and most of these are answered from caches, without waiting. For such an answer no
deadline is set up, which would take half as long again as the answer itself.
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
from dfsfs.fuse.boundary import immediate_handler, release_handler, request_handler
from dfsfs.fuse.caserename import RenameDetector
from dfsfs.fuse.waiters import Waiter
from dfsfs.meters import Meters
from dfsfs.smb.wire.fscc import NAME_UNITS_MAX
from dfsfs.vfs.filesystem import DOTS
from dfsfs.vfs.names.mapping import AttributeChanges
from dfsfs.vfs.xattrs import CIFS_ACL, is_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyfuse3 import ReaddirToken, SetattrFields

    from dfsfs.fuse.requests import Request
    from dfsfs.smb.wire.fscc import VolumeSize
    from dfsfs.vfs.data.fileops import OpenResult
    from dfsfs.vfs.filesystem import FileSystem
    from dfsfs.vfs.names.mapping import Attributes

FILE_HANDLE_CALLS = frozenset({"read", "write", "flush", "fsync"})
DIRECTORY_HANDLE_CALLS = frozenset({"readdir", "fsyncdir"})
"""Calls whose first argument is a handle that open or create (opendir) gave, and whose answer a program waits for."""


class DfsOperations(pyfuse3.Operations):
    """The handlers of one mount. `deadline`: seconds that a handler may take. `xattrs`: whether the mount has extended
    attributes; if not, the kernel asks once and never again.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False
    owners_only_set_acl = True
    """Whether only root and the mount's owner may set access control lists: the server sees all users as one."""

    def __init__(
        self, filesystem: FileSystem, *, deadline: float, xattrs: bool = True, meters: Meters | None = None
    ) -> None:
        super().__init__()
        self.deadline = deadline
        self.initialized = trio.Event()
        """Set with FUSE_INIT. The kernel has the answer before any other task of the loop runs."""
        self.meters = meters or Meters()
        self._fs = filesystem
        self._renames = RenameDetector()
        self.under_way: dict[trio.CancelScope, Request] = {}
        self.watcher: trio.Event | None = None
        self._files: dict[int, Waiter] = {}
        self._directories: dict[int, Waiter] = {}
        """By handle number, the user that has opened it, and the inode."""
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

    @immediate_handler
    def _other_spelling(self, inode: int, parent_inode: int, name: bytes) -> bytes | None:
        return self._fs.other_spelling(inode, parent_inode, name)

    @request_handler
    async def _lookup_spelled(
        self, parent_inode: int, name: bytes, ctx: RequestContext, inode: int, spelling: bytes
    ) -> EntryAttributes:
        """The answer for a name that leads to a file whose own name differs in case: that there is no such name, if the
        caller is renaming that file to it (caserename.py), else the file. The file is looked up again, as time has
        passed since it was found.
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

    @immediate_handler
    def _lookup_known(self, parent_inode: int, name: bytes) -> EntryAttributes | None:
        try:
            attributes = self._fs.lookup_known(parent_inode, name)
        except DfsfsError as error:
            return self._absent_entry(parent_inode, error)
        return None if attributes is None else self._entry(attributes)

    @request_handler
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

    @immediate_handler
    def _getattr_known(self, inode: int) -> EntryAttributes | None:
        attributes = self._fs.getattr_known(inode)
        return None if attributes is None else self._entry(attributes)

    @request_handler
    async def _getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.getattr(inode))

    @request_handler
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

    @request_handler
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        return self._volume(await self._fs.statfs(pyfuse3.ROOT_INODE))

    # -- directories ------------------------------------------------------------------------------------------------

    @request_handler
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        handle = await self._fs.opendir(inode)
        self._directories[handle] = _opener(ctx, inode)
        return handle

    @request_handler
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        def reply(name: bytes, attributes: Attributes, next_id: int) -> bool:
            return pyfuse3.readdir_reply(token, name, self._entry(attributes), next_id)

        await self._pass_entries(fh, start_id, reply)

    async def _pass_entries(self, fh: int, start_id: int, add: Callable[[bytes, Attributes, int], bool]) -> list[int]:
        """Passes the entries from `start_id` on to `add`, until that says that there is no room. Returns the inodes of
        which a lookup was counted; if this fails, the kernel gets none of the entries, and the lookups are given back.
        """
        counted: list[int] = []
        try:
            async with aclosing(self._fs.readdir(fh, start_id)) as entries:
                async for name, attributes, next_id in entries:
                    if name not in DOTS:
                        counted.append(attributes.ino)
                    if not add(name, attributes, next_id):
                        if name not in DOTS:
                            self._fs.forget(counted.pop(), 1)
                        break
        except BaseException:
            self._give_back(counted)
            raise
        return counted

    def _give_back(self, counted: list[int]) -> None:
        """Gives back a lookup of each inode."""
        for inode in counted:
            self._fs.forget(inode, 1)

    @release_handler
    async def releasedir(self, fh: int) -> None:
        self._directories.pop(fh, None)
        await self._fs.releasedir(fh)

    @request_handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Does nothing: changes of a directory are made when the server answers."""

    # -- making, removing, renaming names ---------------------------------------------------------------------------

    @request_handler
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.mkdir(parent_inode, name))

    @request_handler
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        device = (os.major(rdev), os.minor(rdev))
        return self._entry(await self._fs.mknod(parent_inode, name, mode, device))

    @request_handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.unlink(parent_inode, name)

    @request_handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.rmdir(parent_inode, name)

    @request_handler
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

    @request_handler
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.link(inode, new_parent_inode, new_name))

    @request_handler
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._entry(await self._fs.symlink(parent_inode, name, target))

    @request_handler
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return await self._fs.readlink(inode)

    # -- files ------------------------------------------------------------------------------------------------------

    @request_handler
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        result = await self._fs.open(inode, flags, ctx.pid)
        self._files[result.handle] = _opener(ctx, inode)
        return _opened(result)

    @request_handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        result, attributes = await self._fs.create(parent_inode, name, mode, flags)
        self._files[result.handle] = _opener(ctx, attributes.ino)
        return _opened(result), self._entry(attributes)

    @request_handler
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # pyfuse3 takes any contiguous buffer; nothing is copied here.
        data = await self._fs.read(fh, off, size)
        self.meters.bytes_read += len(data)
        return data  # type: ignore[return-value]

    @request_handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        taken = await self._fs.write(fh, off, buf)
        self.meters.bytes_written += taken
        return taken

    @request_handler
    async def flush(self, fh: int) -> None:
        await self._fs.flush(fh)

    @request_handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._fs.fsync(fh)

    @release_handler
    async def release(self, fh: int) -> None:
        self._files.pop(fh, None)
        await self._fs.release(fh)

    # -- extended attributes ----------------------------------------------------------------------------------------

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if not self._has_xattrs or is_foreign(name):  # the kernel asks before each write, and so does `ls -l`
            raise self._no_xattr.with_traceback(None)
        return await self._getxattr(inode, name, ctx)

    @request_handler
    async def _getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return await self._fs.getxattr(inode, name)

    @request_handler
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._require_xattrs()
        if self.owners_only_set_acl and name == CIFS_ACL and ctx.uid not in (0, self._fs.owner):
            raise FUSEError(errno.EPERM)  # as for chmod; the kernel does not check it for this attribute
        await self._fs.setxattr(inode, name, value)

    @request_handler
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        self._require_xattrs()
        return await self._fs.listxattr(inode)

    @request_handler
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._require_xattrs()
        await self._fs.removexattr(inode, name)

    def _require_xattrs(self) -> None:
        if not self._has_xattrs:
            raise self._no_xattr.with_traceback(None)

    # -- translation ------------------------------------------------------------------------------------------------

    def waiter(self, call: str, arguments: tuple[object, ...]) -> Waiter | None:
        """The program that waits for a request, None if that is not known: see waiters.py."""
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
        """The answer that there is no such name (a negative dentry), which the kernel may cache.

        Raises:
            DfsfsError: `error`, if it is not ENOENT.
        """
        if error.errno != errno.ENOENT:
            raise error
        entry = EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = entry.attr_timeout = self._fs.negative_timeout(parent_inode)
        return entry

    def _volume(self, size: VolumeSize) -> StatvfsData:
        data = StatvfsData()
        data.f_bsize = data.f_frsize = size.unit
        data.f_blocks = size.total // size.unit
        data.f_bfree = size.free // size.unit
        data.f_bavail = size.caller_free // size.unit
        data.f_namemax = NAME_UNITS_MAX
        return data

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
    # pyfuse3's default for keep_cache is True, whatever happened to the file since.
    return FileInfo(fh=result.handle, keep_cache=result.keep_cache, direct_io=result.direct)

"""MultiuserOperations: the handlers of a mount for many users (multiuser).

They do what those of other mounts do, for whoever asks: each request says so, but for those about something that is
open, which are done for the user who opened it. That is what a file descriptor means: it works for whom it is given to.
The kernel's questions for attributes belong to both: see descriptors.py.

Who asks the mount point for the extended attribute LOGOUT_XATTR has their own sessions ended, if what they logged in
with is gone: the control socket is for the mount's owner alone, but whose request this is the kernel says. Asked for
and not set, as nothing can be set where the mount is read-only.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyfuse3 import ROOT_INODE, FUSEError

from dfsfs.acting import ROOT, Caller, become
from dfsfs.control.places import LOGOUT_XATTR
from dfsfs.fuse.boundary import guarded
from dfsfs.fuse.descriptors import Descriptors
from dfsfs.fuse.operations import ABOUT_FILES, ABOUT_FOLDERS, DfsOperations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from pyfuse3 import EntryAttributes, RequestContext, SetattrFields

    from dfsfs.fuse.waiters import Waiter

    Handler = Callable[..., Coroutine[Any, Any, Any]]

ABOUT_NAMES = (
    *("lookup", "statfs", "mkdir", "mknod", "link", "symlink", "open", "create", "opendir"),
    *("readlink", "setxattr", "listxattr", "removexattr"),
)
"""Handlers whose last argument says who asks."""
REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESTALE, errno.EKEYEXPIRED})
"""Errors that say that somebody may not have the attributes, or has no login: the server hides some files."""


class MultiuserOperations(DfsOperations):
    """See the module's text."""

    owners_only_set_acl = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._descriptors: Descriptors | None = None
        self._no_xattr = FUSEError(errno.EOPNOTSUPP)  # after ENOSYS the kernel would never ask for it
        self.log_out: Callable[[Caller], Awaitable[bool]] = _has_no_sessions

    def mounted_as(self, device: str) -> None:
        """Says the mount's device number, MAJOR:MINOR. Before that, nobody is taken to have been given a descriptor."""
        self._descriptors = Descriptors(device)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        who = _become(ctx)
        try:
            return await super().getattr(inode, ctx)
        except FUSEError as error:
            opener = self._fs.opener(inode)
            if error.errno not in REFUSALS or opener is None or self._descriptors is None:
                raise
            if not await self._descriptors.has_open(who.uid, who.pid, inode):
                raise
            become(opener)
            return await super().getattr(inode, ctx)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        _become(ctx)
        with self._refusing((parent_inode, name)):
            await super().unlink(parent_inode, name, ctx)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        _become(ctx)
        with self._refusing((parent_inode, name)):
            await super().rmdir(parent_inode, name, ctx)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        _become(ctx)
        with self._refusing((parent_inode_old, name_old), (parent_inode_new, name_new)):
            await super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)

    @contextmanager
    def _refusing(self, *names: tuple[int, bytes]) -> Iterator[None]:
        """Makes a refusal of "there is no such name" if other users have one of the names: the kernel would drop it."""
        try:
            yield
        except FUSEError as error:
            if error.errno == errno.ENOENT and any(self._fs.is_others(*name) for name in names):
                raise FUSEError(errno.EACCES) from None
            raise

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        who = _become(ctx)
        if fh is not None:  # ftruncate(2)
            become(_opener(self._files, fh, who))
        return await super().setattr(inode, attr, fields, fh, ctx)

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        who = _become(ctx)
        if name == LOGOUT_XATTR.encode() and inode == ROOT_INODE:
            return await self._getxattr_logout(who, ctx)
        return await super().getxattr(inode, name, ctx)

    @guarded
    async def _getxattr_logout(self, who: Caller, ctx: RequestContext) -> bytes:
        return b"1" if await self.log_out(who) else b"0"


async def _has_no_sessions(who: Caller) -> bool:
    """What `MultiuserOperations.log_out` is before there can be any."""
    return False


def _become(ctx: RequestContext) -> Caller:
    who = Caller(ctx.uid, ctx.gid, ctx.pid)
    become(who)
    return who


def _for_caller(inner: Handler) -> Handler:
    async def handler(self: MultiuserOperations, *arguments: Any) -> Any:
        _become(arguments[-1])
        return await inner(self, *arguments)

    return handler


def _opener(table: dict[int, Waiter], handle: int, otherwise: Caller) -> Caller:
    waiter = table.get(handle)
    return otherwise if waiter is None else waiter.caller


def _for_opener(inner: Handler, table: str) -> Handler:
    async def handler(self: MultiuserOperations, handle: int, *arguments: Any) -> Any:
        become(_opener(getattr(self, table), handle, ROOT))
        return await inner(self, handle, *arguments)

    return handler


for _name in ABOUT_NAMES:
    setattr(MultiuserOperations, _name, _for_caller(getattr(DfsOperations, _name)))
for _name in (*ABOUT_FILES, "release"):
    setattr(MultiuserOperations, _name, _for_opener(getattr(DfsOperations, _name), "_files"))
for _name in (*ABOUT_FOLDERS, "releasedir"):
    setattr(MultiuserOperations, _name, _for_opener(getattr(DfsOperations, _name), "_folders"))

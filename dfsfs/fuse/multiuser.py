"""MultiuserOperations: the handlers of a mount for many users (option multiuser).

They do the same as those of other mounts, but as the user that the request comes from. Requests about an open file or
directory do not say who that is; they are done as the user who opened it, since a file descriptor works for each
process that it is given to. getattr and statx may be of either kind: see descriptors.py.

A user who gets the extended attribute LOGOUT_XATTR of the mount's root has their own sessions ended, if the credentials
that they logged in with are gone. The control socket is for the mount's owner alone, but the kernel says which user
makes this request. The attribute is got and not set, as nothing can be set on a mount that is read-only.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pyfuse3 import ROOT_INODE, FUSEError

from dfsfs.caller import ROOT, Caller, set_current_caller
from dfsfs.control.places import LOGOUT_XATTR
from dfsfs.fuse.boundary import request_handler
from dfsfs.fuse.descriptors import Descriptors
from dfsfs.fuse.kerneloperations import FILE_RANGE_CALLS, LOCK_CALLS, KernelOperations
from dfsfs.fuse.operations import DIRECTORY_HANDLE_CALLS, FILE_HANDLE_CALLS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from pyfuse3 import EntryAttributes, RequestContext, SetattrFields

    from dfsfs.fuse.waiters import Waiter

    Handler = Callable[..., Coroutine[Any, Any, Any]]

T = TypeVar("T")

CONTEXT_CALLS = (
    *("lookup", "statfs", "mkdir", "mknod", "link", "symlink", "open", "create", "opendir"),
    *("readlink", "setxattr", "listxattr", "removexattr", "statfs_of"),
)
"""Handlers whose last argument is the RequestContext, and that need nothing but the caller to be set."""
REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESTALE, errno.EKEYEXPIRED})
"""Errors of getattr for a user who may not read the attributes or has no login. ENOENT: servers hide files."""


class MultiuserOperations(KernelOperations):
    """See the module's text."""

    owners_only_set_acl = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._descriptors: Descriptors | None = None
        self._no_xattr = FUSEError(errno.EOPNOTSUPP)  # after ENOSYS the kernel would never ask for it
        self.log_out: Callable[[Caller], Awaitable[bool]] = _has_no_sessions

    def set_device(self, device: str) -> None:
        """Sets the mount's device number, MAJOR:MINOR. Until then, passed descriptors are not recognised."""
        self._descriptors = Descriptors(device)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return await self._as_opener_if_refused(super().getattr, inode, ctx)

    async def statx(self, inode: int, ctx: RequestContext) -> tuple[EntryAttributes, int | None]:
        return await self._as_opener_if_refused(super().statx, inode, ctx)

    async def _as_opener_if_refused(
        self, ask: Callable[[int, RequestContext], Awaitable[T]], inode: int, ctx: RequestContext
    ) -> T:
        """The answer for the caller; if that is refused, and they have a descriptor of the file, for its opener."""
        user = _become(ctx)
        try:
            return await ask(inode, ctx)
        except FUSEError as error:
            opener = self._fs.opener(inode)
            if error.errno not in REFUSALS or opener is None or self._descriptors is None:
                raise
            if not await self._descriptors.has_open(user.uid, user.pid, inode):
                raise
            set_current_caller(opener)
            return await ask(inode, ctx)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        _become(ctx)
        with self._keeping_others_names((parent_inode, name)):
            await super().unlink(parent_inode, name, ctx)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        _become(ctx)
        with self._keeping_others_names((parent_inode, name)):
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
        with self._keeping_others_names((parent_inode_old, name_old), (parent_inode_new, name_new)):
            await super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)

    @contextmanager
    def _keeping_others_names(self, *names: tuple[int, bytes]) -> Iterator[None]:
        """Turns ENOENT into EACCES if other users have one of the names: the kernel would drop its dentry for all."""
        try:
            yield
        except FUSEError as error:
            if error.errno == errno.ENOENT and any(self._fs.is_others(*name) for name in names):
                raise FUSEError(errno.EACCES) from None
            raise

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        user = _become(ctx)
        if fh is not None:  # ftruncate(2)
            set_current_caller(_opener(self._files, fh, user))
        return await super().setattr(inode, attr, fields, fh, ctx)

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        user = _become(ctx)
        if name == LOGOUT_XATTR.encode() and inode == ROOT_INODE:
            return await self._getxattr_logout(user, ctx)
        return await super().getxattr(inode, name, ctx)

    @request_handler
    async def _getxattr_logout(self, user: Caller, ctx: RequestContext) -> bytes:
        return b"1" if await self.log_out(user) else b"0"


async def _has_no_sessions(user: Caller) -> bool:
    """The value of `MultiuserOperations.log_out` until the mount has set it."""
    return False


def _become(ctx: RequestContext) -> Caller:
    """Sets the current caller of the task to the one of a request, and returns it."""
    user = Caller(ctx.uid, ctx.gid, ctx.pid)
    set_current_caller(user)
    return user


def _for_caller(inner: Handler) -> Handler:
    """The handler `inner`, run as the user in its last argument."""

    async def handler(self: MultiuserOperations, *arguments: Any) -> Any:
        _become(arguments[-1])
        return await inner(self, *arguments)

    return handler


def _opener(table: dict[int, Waiter], handle: int, otherwise: Caller) -> Caller:
    waiter = table.get(handle)
    return otherwise if waiter is None else waiter.caller


def _for_opener(inner: Handler, table: str) -> Handler:
    """The handler `inner`, run as the user who opened the handle. `table`: the attribute that has the handles."""

    async def handler(self: MultiuserOperations, handle: int, *arguments: Any) -> Any:
        set_current_caller(_opener(getattr(self, table), handle, ROOT))
        return await inner(self, handle, *arguments)

    return handler


for _name in CONTEXT_CALLS:
    setattr(MultiuserOperations, _name, _for_caller(getattr(KernelOperations, _name)))
for _name in (*FILE_HANDLE_CALLS, *FILE_RANGE_CALLS, *LOCK_CALLS, "release"):
    setattr(MultiuserOperations, _name, _for_opener(getattr(KernelOperations, _name), "_files"))
for _name in (*DIRECTORY_HANDLE_CALLS, "readdir_into", "releasedir"):
    setattr(MultiuserOperations, _name, _for_opener(getattr(KernelOperations, _name), "_directories"))

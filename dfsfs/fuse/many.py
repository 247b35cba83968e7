"""ManyOperations: the handlers of a mount for many users (multiuser).

They do what those of other mounts do, for whoever asks: each request says so, but for those about something that is
open, which are done for the user who opened it. That is what a file descriptor means: it works for whom it is given to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.acting import ROOT, Caller, become
from dfsfs.fuse.operations import DfsOperations

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pyfuse3 import EntryAttributes, FileInfo, RequestContext

    Handler = Callable[..., Coroutine[Any, Any, Any]]

ABOUT_NAMES = (
    *("lookup", "getattr", "setattr", "statfs", "mkdir", "mknod", "unlink", "rmdir", "rename", "link", "symlink"),
    *("readlink", "getxattr", "setxattr", "listxattr", "removexattr"),
)
"""Handlers whose last argument says who asks."""
ABOUT_FILES = ("read", "write", "flush", "fsync", "release")
ABOUT_FOLDERS = ("readdir", "fsyncdir", "releasedir")
"""Handlers whose first argument is what open, create or opendir gave."""


class ManyOperations(DfsOperations):
    """See the module's text."""

    owners_only_set_acl = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._files: dict[int, Caller] = {}
        self._folders: dict[int, Caller] = {}

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        who = _become(ctx)
        opened = await super().open(inode, flags, ctx)
        self._files[opened.fh] = who
        return opened

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        who = _become(ctx)
        opened, entry = await super().create(parent_inode, name, mode, flags, ctx)
        self._files[opened.fh] = who
        return opened, entry

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        who = _become(ctx)
        handle = await super().opendir(inode, ctx)
        self._folders[handle] = who
        return handle


def _become(ctx: RequestContext) -> Caller:
    who = Caller(ctx.uid, ctx.gid, ctx.pid)
    become(who)
    return who


def _for_caller(inner: Handler) -> Handler:
    async def handler(self: ManyOperations, *arguments: Any) -> Any:
        _become(arguments[-1])
        return await inner(self, *arguments)

    return handler


def _for_opener(inner: Handler, table: str, *, last: bool) -> Handler:
    async def handler(self: ManyOperations, handle: int, *arguments: Any) -> Any:
        openers: dict[int, Caller] = getattr(self, table)
        become(openers.get(handle, ROOT))
        try:
            return await inner(self, handle, *arguments)
        finally:
            if last:
                openers.pop(handle, None)

    return handler


for _name in ABOUT_NAMES:
    setattr(ManyOperations, _name, _for_caller(getattr(DfsOperations, _name)))
for _name in ABOUT_FILES:
    setattr(ManyOperations, _name, _for_opener(getattr(DfsOperations, _name), "_files", last=_name == "release"))
for _name in ABOUT_FOLDERS:
    setattr(ManyOperations, _name, _for_opener(getattr(DfsOperations, _name), "_folders", last=_name == "releasedir"))

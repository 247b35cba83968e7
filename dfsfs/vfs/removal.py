"""Removal: the verbs that remove names. What is open is renamed to a hidden name instead: see sillyrename.py."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack, aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, PosixError
from dfsfs.vfs.names.hiddennames import clean_up_hidden_name, is_hidden_name, is_kept_name
from dfsfs.vfs.names.queries import stat_of
from dfsfs.vfs.names.removals import (
    allow_repeat,
    remove_directory_in_view,
    remove_file_in_view,
    remove_special_in_view,
)
from dfsfs.vfs.sillyrename import SillyRename

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.fileops import FileOperations
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup


class Removal:
    """Removes names. Names are wire names."""

    def __init__(self, lookup: Lookup, files: FileOperations) -> None:
        self._lookup = lookup
        self._files = files
        self._silly = SillyRename(lookup, files)

    async def unlink(self, parent: Inode, name: str) -> None:
        """Removes a file.

        Raises:
            PosixError: EBUSY, a DFS link; EISDIR, a directory.
            DfsfsError: the server's answer.
        """
        inode = await self._find_ordinary(parent, name)
        try:
            if inode.is_directory:
                raise PosixError(errno.EISDIR, f"{name} is a directory")
            async with self._files.on_server.opens_blocked(inode):
                await self._unlink(parent, name, inode)
        finally:
            self._lookup.table.release(inode)

    async def _unlink(self, parent: Inode, name: str, inode: Inode) -> None:
        is_known = inode.stat is not None and self._lookup.attributes.is_fresh(inode)
        attributes = inode.stat.attributes if inode.stat is not None and is_known else 0
        with self._changing(parent, name, inode) as said:
            in_use = self._files.on_server.in_use(inode)
            if in_use and inode.silly is None and await self._silly.hide(parent, name, inode, said):
                return
            async with AsyncExitStack() as stack:
                if inode.silly is not None and self._files.on_server.in_use(inode):
                    # It has a hidden name already, but the server keeps this one while the file is open by it.
                    await stack.enter_async_context(self._files.on_server.closed_on_server(inode))
                if inode.is_reparse_point:
                    await self._remove(parent, name, remove_special_in_view, said)
                else:
                    await self._remove(parent, name, partial(remove_file_in_view, attributes=attributes), said)

    async def rmdir(self, parent: Inode, name: str) -> None:
        """Removes an empty directory.

        Raises:
            PosixError: EBUSY, a DFS link; ENOTDIR, a file.
            DfsfsError: the server's answer, ENOTEMPTY if it is not empty.
        """
        inode = await self._find_ordinary(parent, name)
        try:
            if not inode.is_directory:
                raise PosixError(errno.ENOTDIR, f"{name} is not a directory")
            await self._remove_directory(parent, name, inode)
        finally:
            self._lookup.table.release(inode)

    async def _remove_directory(self, parent: Inode, name: str, inode: Inode) -> None:
        """Removes a directory that is empty but for hidden names."""
        try:
            await self._remove_empty(parent, name, inode)
        except DfsfsError as error:
            if error.errno != errno.ENOTEMPTY or not await self._clear_hidden(parent, inode):
                raise
            await self._remove_empty(parent, name, inode)

    async def _remove_empty(self, parent: Inode, name: str, inode: Inode) -> None:
        async with self._lookup.directory_renames.removing(inode):
            with self._changing(parent, name, inode) as said:
                await self._remove(parent, name, remove_directory_in_view, said)

    async def _clear_hidden(self, parent: Inode, directory: Inode) -> bool:
        """Moves files that were removed from a directory while they were open out of it. Whether nothing else was in
        it.
        """
        found = await self._lookup.run(directory, names_in)
        if not all(map(is_hidden_name, found)):
            return False
        for name in found:
            inode = self._lookup.table.child(directory, name)
            mine = inode is not None and inode.is_silly_name(directory, name)
            if mine or not await self._is_cleaned_up(directory, name):
                await self._move_out(directory, name, parent, inode)
        return True

    async def _is_cleaned_up(self, directory: Inode, name: str) -> bool:
        """Cleans up a hidden name of another mount. Whether nothing has the name then, or it is a `kept` name, under
        which something is set aside: that stays, and the directory is not empty.
        """
        await clean_up_hidden_name(self._lookup, directory, name)
        if is_kept_name(name):
            return True
        try:
            await self._lookup.run_in(directory, name, stat_of)
        except DfsfsError as error:
            return error.errno == errno.ENOENT
        return False

    async def _move_out(self, directory: Inode, name: str, parent: Inode, inode: Inode | None) -> None:
        """Moves a hidden file, which may still be open, from a directory that is to be removed into the one above."""
        if inode is None:

            async def moved_out(attempt: Attempt) -> None:
                target = self._silly.destination(attempt, directory, parent, name)
                await attempt.tree.rename(attempt.path, target, replace=False)

            await self._silly.run_in(directory, name, moved_out)
            return
        hidden = self._lookup.hidden_names.make_deleted_name()
        try:
            with self._changing(directory, name, inode), self._lookup.attributes.changing_name(parent, hidden):
                await self._silly.move(directory, name, inode, parent, hidden)
        except BaseException:
            self._lookup.hidden_names.release(hidden)
            raise
        self._lookup.hidden_names.release(name)

    async def _find_ordinary(self, parent: Inode, name: str) -> Inode:
        """The file or directory of a name, to be removed or renamed. It is held: the caller releases it.

        Raises:
            PosixError: EBUSY, it is a DFS link.
        """
        await self._files.dirty.write_back_name(parent, name)
        inode = await self._lookup.look_up(parent, name)
        if inode.is_link or (inode.stat is not None and inode.stat.is_marked_link):
            self._lookup.table.prune(inode)
            raise PosixError(errno.EBUSY, f"{name} is a DFS link")
        self._files.on_server.close_deferred(inode)
        self._lookup.table.hold(inode)
        return inode

    async def _remove(
        self,
        parent: Inode,
        name: str,
        operation: Callable[[Attempt], Awaitable[FileStat | None]],
        said: dict[Inode, FileStat],
    ) -> None:
        """Runs an operation that removes a name, and applies it to the inode table. What the server says of the
        directory goes to `said`. That a request whose answer was lost has removed the name already is no error.
        """
        try:
            directory = await self._silly.run_in(parent, name, allow_repeat(operation))
        except DfsfsError as error:
            if error.errno == errno.ENOENT and not await self._others_have(parent, name):
                self._lookup.table.drop_name(parent, name)
            raise
        if directory is not None:
            said[parent] = directory
        self._lookup.table.remove_name(parent, name)

    async def _others_have(self, parent: Inode, name: str) -> bool:
        inode = self._lookup.table.child(parent, name)
        return inode is not None and await self._lookup.others.still_see(inode, parent, name)

    @contextmanager
    def _changing(self, parent: Inode, name: str, *inodes: Inode) -> Iterator[dict[Inode, FileStat]]:
        """While the block runs, a name and the inodes are being changed: see ordering.py. What it gets is that of
        `AttributeCache.changing_names`.
        """
        with self._lookup.attributes.changing_names((parent, name)) as said, self._lookup.table.changing(*inodes):
            yield said


async def names_in(attempt: Attempt) -> list[str]:
    """The operation that lists a directory: all names if all are hidden, else some names, of which one is not
    hidden.
    """
    found: list[str] = []
    async with aclosing(attempt.tree.list(attempt.path)) as listing:
        async for batch in listing:
            found += [entry.name for entry in batch]
            if not all(is_hidden_name(entry.name) for entry in batch):
                break
    return found

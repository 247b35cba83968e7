"""Removing: the verbs that remove names. What is open is hidden instead: see hiding.py."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from dfsfs.errors import DfsfsError, PosixError
from dfsfs.unc import UncPath
from dfsfs.vfs.hiding import Hiding, removal, remove_directory
from dfsfs.vfs.leftovers import is_hidden_name, is_kept_name, remove_leftover
from dfsfs.vfs.questions import stat_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.fscc import FileStat
    from dfsfs.vfs.files import Files
    from dfsfs.vfs.nodes import Node
    from dfsfs.vfs.places import Places

T = TypeVar("T")


class Removing:
    """See the module's text. Names are wire names."""

    def __init__(self, places: Places, files: Files) -> None:
        self._places = places
        self._files = files
        self._hiding = Hiding(places, files)

    async def unlink(self, parent: Node, name: str) -> None:
        """Removes a file.

        Raises:
            PosixError: EBUSY, a DFS link; EISDIR, a folder.
            DfsfsError: the server's answer.
        """
        node = await self._ordinary(parent, name)
        try:
            if node.is_directory:
                raise PosixError(errno.EISDIR, f"{name} is a directory")
            async with self._files.barred(node):
                seen = await self._unlink(parent, name, node)
            if seen is not None:
                # The kernel asks for the folder before it removes the next file.
                self._places.note(parent, seen, self._places.table.moment)
        finally:
            self._places.table.release(node)

    async def _unlink(self, parent: Node, name: str, node: Node) -> FileStat | None:
        """What the server says of the folder then, if that is sure to be true."""
        with self._changing(parent, name, node):
            begun = parent.changed
            if self._files.in_use(node) and node.hidden is None and await self._hiding.hide(parent, name, node):
                return None
            async with AsyncExitStack() as stack:
                if node.hidden is not None and self._files.in_use(node):
                    # It has a hidden name already. A server keeps this one for as long as the file is open by it.
                    await stack.enter_async_context(self._files.parked(node))
                seen = await self._remove(parent, name, _remove_special if node.is_reparse_point else _remove_file)
                self._places.table.remove_name(parent, name)
            return seen if parent.changing == 1 and parent.changed == begun else None

    async def rmdir(self, parent: Node, name: str) -> None:
        """Removes an empty folder.

        Raises:
            PosixError: EBUSY, a DFS link; ENOTDIR, a file.
            DfsfsError: the server's answer, ENOTEMPTY if it is not empty.
        """
        node = await self._ordinary(parent, name)
        try:
            if not node.is_directory:
                raise PosixError(errno.ENOTDIR, f"{name} is not a directory")
            await self._remove_folder(parent, name, node)
        finally:
            self._places.table.release(node)

    async def _remove_folder(self, parent: Node, name: str, node: Node) -> None:
        """Removes a folder in which nothing is to be seen."""
        try:
            await self._remove_empty(parent, name, node)
        except DfsfsError as error:
            if error.errno != errno.ENOTEMPTY or not await self._clear(parent, node):
                raise
            await self._remove_empty(parent, name, node)

    async def _remove_empty(self, parent: Node, name: str, node: Node) -> None:
        with self._changing(parent, name, node):
            await self._remove(parent, name, remove_directory)
            self._places.table.remove_name(parent, name)

    async def _clear(self, parent: Node, folder: Node) -> bool:
        """Takes out of a folder what was removed from it while it was open. Whether nothing else is in it."""
        found = await self._places.run(folder, names_in)
        if not all(map(is_hidden_name, found)):
            return False
        for name in found:
            node = self._places.table.child(folder, name)
            mine = node is not None and node.is_hidden_as(folder, name)
            if mine or not await self._is_put_right(folder, name):
                await self._move_out(folder, name, parent, node)
        return True

    async def _is_put_right(self, folder: Node, name: str) -> bool:
        """Puts back what a hidden file of others stood in the way of. Whether nothing has the hidden name then, or what
        has it stays where it is (what was set aside under a kept name): the folder is not empty, and is not made so.
        """
        await remove_leftover(self._places, folder, name)
        if is_kept_name(name):
            return True
        try:
            await self._places.run_in(folder, name, stat_of)
        except DfsfsError as error:
            return error.errno == errno.ENOENT
        return False

    async def _move_out(self, folder: Node, name: str, parent: Node, node: Node | None) -> None:
        """Moves a hidden file, which somebody may still have open, out of a folder that is removed."""
        if node is None:

            async def moved_out(attempt: Attempt) -> None:
                target = self._hiding.destination(attempt, folder, parent, name)
                await attempt.tree.rename(attempt.path, target, replace=False)

            await self._hiding.run_in(folder, name, moved_out)
            return
        hidden = self._places.hidden.new_deleted()
        try:
            with self._changing(folder, name, node), self._places.changing_name(parent, hidden):
                await self._hiding.move(folder, name, node, parent, hidden)
        except BaseException:
            self._places.hidden.ended(hidden)
            raise
        self._places.hidden.ended(name)

    async def _ordinary(self, parent: Node, name: str) -> Node:
        """The file or folder of that name, which may be removed or renamed. Holds it; to be released by the caller.

        Raises:
            PosixError: EBUSY, it is a DFS link.
        """
        await self._files.settle_name(parent, name)
        node = await self._places.look_up(parent, name)
        if node.is_link or (node.stat is not None and node.stat.is_marked_link):
            self._places.table.prune(node)
            raise PosixError(errno.EBUSY, f"{name} is a DFS link")
        self._files.let_go(node)
        self._places.table.hold(node)
        return node

    async def _remove(self, parent: Node, name: str, operation: Callable[[Attempt], Awaitable[T]]) -> T | None:
        """Returns what the operation does, None if it had been done by a request that was lost."""
        try:
            return await self._hiding.run_in(parent, name, removal(operation))
        except DfsfsError as error:
            if error.errno == errno.ENOENT and not await self._others_have(parent, name):
                self._places.table.drop_name(parent, name)
            raise

    async def _others_have(self, parent: Node, name: str) -> bool:
        node = self._places.table.child(parent, name)
        return node is not None and await self._places.others.still_have(node, parent, name)

    @contextmanager
    def _changing(self, parent: Node, name: str, *nodes: Node) -> Iterator[None]:
        """For the length of the block, a name and what has it are being changed: see known.py."""
        with self._places.changing_name(parent, name), self._places.table.changing(*nodes):
            yield


async def _remove_special(attempt: Attempt) -> None:
    """The operation that removes a symbolic link, device, fifo or socket."""
    await attempt.tree.remove_special(attempt.path)


async def _remove_file(attempt: Attempt) -> FileStat | None:
    """The operation that removes a file; what is known of its folder then."""
    return await attempt.tree.remove_file_from(UncPath(attempt.path.components[:-1]), attempt.path)


async def names_in(attempt: Attempt) -> list[str]:
    """The operation that lists a folder of which nothing can be seen; else some of its names, one of which can."""
    found: list[str] = []
    async with aclosing(attempt.tree.list(attempt.path)) as listing:
        async for batch in listing:
            found += [entry.name for entry in batch]
            if not all(is_hidden_name(entry.name) for entry in batch):
                break
    return found

"""Entries: the verbs that make, remove and rename names.

Nothing here may damage a namespace. A removal or renaming is sent only after a stat of that very name, or a kept
answer to one that is not too old, has said that it is an ordinary file or folder; a DFS link is EBUSY before anything
is sent, and a name that has become a link in the meantime is refused by the server, which makes it EBUSY as well.
Between two links, or a link and its surroundings, a rename is EXDEV.

A request that was repeated after a lost connection may find its own traces. A removal that finds nothing has
succeeded. A rename that finds no source has succeeded if the source's file is at the new name. An exclusive create or
mkdir that finds the name taken is EIO: nobody can know whose it is.

A file that is open through this mount is not removed but renamed to a hidden name in its folder, so that its name is
free at once and its data can still be read; the last close removes it (leftovers.py has what is left of a mount that
died). If that can't be done it is removed, and then the name goes when the last handle is closed. The same for a file
that another takes the place of.
"""

from __future__ import annotations

import errno
import logging
import stat as posix
from typing import TYPE_CHECKING, TypeVar

from dfsfs.acting import caller
from dfsfs.errors import DfsfsError, PosixError, SmbError
from dfsfs.namespace.junction import Attempt, Covered, Location
from dfsfs.smb.fscc import FileAttributes, FileStat, encode_basic_information
from dfsfs.unc import UncPath, fold_name
from dfsfs.vfs.leftovers import is_hidden_name, new_hidden_name, remove_leftover
from dfsfs.vfs.opening import raise_if_unknown
from dfsfs.vfs.views import Origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.reparse import Special
    from dfsfs.vfs.files import Files
    from dfsfs.vfs.nodes import Node
    from dfsfs.vfs.places import Places

log = logging.getLogger("dfsfs.vfs")

T = TypeVar("T")

PARKED_TRIES = 3
"""How often files are closed for the rename of a folder: programs may open them again in the meantime."""
RENAME_NOREPLACE = 1
"""renameat2(2)."""


class Entries:
    """See the module's text. Names are wire names.

    `files_for_links`: symbolic links are made as files, also where the server has something better.
    """

    def __init__(self, places: Places, files: Files, *, files_for_links: bool = False) -> None:
        self._files_for_links = files_for_links
        self._places = places
        self._files = files

    # -- making -----------------------------------------------------------------------------------------------------

    async def mkdir(self, parent: Node, name: str) -> Node:
        """Makes a folder. Counts no lookup.

        Raises:
            PosixError: EEXIST, the name is a DFS link; EIO, see the module's text.
            DfsfsError: the server's answer.
        """

        node = await self._make(parent, name, lambda attempt: attempt.tree.make_directory(attempt.path))
        assert node.share is not None
        origin = Origin(node.share, self._places.table.epoch, self._places.clock(), caller().uid)
        self._places.views.keep(node, (), origin)
        return node

    async def make_special(self, parent: Node, name: str, special: Special) -> Node:
        """Makes a symbolic link, device, fifo or socket. Counts no lookup.

        Raises:
            PosixError: EEXIST, the name is a DFS link; EPERM, the server has nothing for it; EIO, see the module's
                text.
            DfsfsError: the server's answer.
        """

        as_file = self._files_for_links and special.kind == posix.S_IFLNK

        def make(attempt: Attempt) -> Awaitable[FileStat]:
            tree = attempt.tree
            return (tree.make_mfsymlink if as_file else tree.make_special)(attempt.path, special)

        try:
            return await self._make(parent, name, make)
        except SmbError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENODATA):
                raise PosixError(errno.EPERM, f"{name}: the server has no form for that") from None
            raise

    async def _make(self, parent: Node, name: str, making: Callable[[Attempt], Awaitable[FileStat]]) -> Node:
        """The node of what `making` makes under a name that nothing has."""

        async def operation(attempt: Attempt) -> tuple[FileStat, UncPath]:
            try:
                return await making(attempt), attempt.tree.volume
            except DfsfsError as error:
                raise_if_unknown(attempt, error)
                raise

        try:
            stat, share = await self._places.run_in(parent, name, operation)
        except Covered as link:
            raise PosixError(errno.EEXIST, f"{link.prefix} is a DFS link") from None
        self._places.made(parent, name, stat)
        node = self._places.table.observe(parent, name, stat, share)
        self._places.table.changed(node)
        self._places.note(node, stat, node.changes)
        return node

    async def link(self, node: Node, parent: Node, name: str) -> None:
        """Gives a file one more name.

        Raises:
            PosixError: EPERM, a folder; EEXIST, the name is taken; EXDEV, file and folder are not behind the same DFS
                link.
            DfsfsError: the server's answer.
        """
        if node.is_directory:
            raise PosixError(errno.EPERM, f"{node.name} is a directory")
        if self._places.location(node).junction is not self._places.location(parent).junction:
            raise PosixError(errno.EXDEV, f"{node.name} can't have a name behind another DFS link")
        await self._files.settle(node)
        destination = self._places.location(parent).child(name)

        async def operation(attempt: Attempt) -> tuple[FileStat, UncPath]:
            target = attempt.binding.target.join(destination.components)
            link = attempt.tree.link_special if node.is_reparse_point else attempt.tree.link
            try:
                await link(attempt.path, target)
            except DfsfsError as error:
                if not attempt.repeated or error.errno != errno.EEXIST or not await _is_there(attempt, target, node):
                    raise
            return await attempt.tree.stat(target), attempt.tree.volume

        self._files.let_go(node)
        try:
            stat, share = await self._places.run(node, operation)
        except Covered as link:
            raise PosixError(errno.EEXIST, f"{link.prefix} is a DFS link") from None
        except SmbError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise PosixError(errno.EPERM, f"{name}: the server has no hard links") from None
            raise
        self._places.made(parent, name, stat)
        self._places.table.changed(node)
        if self._places.table.observe(parent, name, stat, share) is node:
            self._places.note(node, stat, node.changes)

    # -- removing ---------------------------------------------------------------------------------------------------

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
            if self._files.is_open(node) and node.hidden is None and await self._hide(parent, name, node):
                return
            before = parent.changes
            seen = await self._remove(parent, name, _remove_special if node.is_reparse_point else _remove_file)
            unchanged = before == parent.changes
            self._removed(parent, name, node)
            if seen is not None and unchanged:
                # The kernel asks for the folder before it removes the next file.
                self._places.note(parent, seen, parent.changes)
        finally:
            self._places.table.release(node)

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
            await self._remove(parent, name, _remove_directory)
        except DfsfsError as error:
            if error.errno != errno.ENOTEMPTY or not await self._clear(parent, node):
                raise
            await self._remove(parent, name, _remove_directory)
        self._removed(parent, name, node)

    async def _clear(self, parent: Node, folder: Node) -> bool:
        """Takes out of a folder what was removed from it while it was open. Whether nothing else is in it."""

        async def names(attempt: Attempt) -> list[str]:
            return [entry.name async for batch in attempt.tree.list(attempt.path) for entry in batch]

        found = await self._places.run(folder, names)
        if not all(map(is_hidden_name, found)):
            return False
        for name in found:
            node = self._places.table.child(folder, name)
            if node is not None and node.is_hidden_as(folder, name):
                hidden = new_hidden_name()
                destination = self._places.location(parent).child(hidden)
                await self._send_rename(folder, name, destination, node, replace=False)
                self._renamed(folder, name, node, parent, hidden)
            else:
                await remove_leftover(self._places, folder, name)
        return True

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

    async def _remove(self, parent: Node, name: str, removal: Callable[[Attempt], Awaitable[T]]) -> T | None:
        """Returns what the removal does, None if it had been done by a request that was lost."""

        async def operation(attempt: Attempt) -> T | None:
            try:
                return await removal(attempt)
            except DfsfsError as error:
                if not attempt.repeated or error.errno != errno.ENOENT:
                    raise
                return None

        try:
            return await self._run_in(parent, name, operation)
        except DfsfsError as error:
            if error.errno == errno.ENOENT and (node := self._places.table.child(parent, name)) is not None:
                self._removed(parent, name, node)
            raise

    async def _run_in(self, parent: Node, name: str, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        try:
            return await self._places.run_in(parent, name, operation)
        except Covered as link:
            raise PosixError(errno.EBUSY, f"{link.prefix} is a DFS link") from None

    def _removed(self, parent: Node, name: str, node: Node) -> None:
        self._places.table.entry_changed(parent, name)
        self._places.table.changed(node)
        self._places.table.drop_name(parent, name)

    async def _hide(self, parent: Node, name: str, node: Node) -> bool:
        """Renames an open file out of the way. Whether that worked."""
        hidden = new_hidden_name()
        try:
            await self._files.hold_open(node)
            await self._send_rename(parent, name, self._places.location(parent).child(hidden), node, replace=False)
        except DfsfsError as error:
            log.info("%s is open and can't be renamed out of the way: %s", name, error)
            return False
        self._places.table.entry_changed(parent, name)
        self._places.table.changed(node)
        self._renamed(parent, name, node, parent, hidden)
        node.hidden, node.remover = (parent, hidden), caller()
        return True

    # -- renaming ---------------------------------------------------------------------------------------------------

    async def rename(self, old_parent: Node, old_name: str, new_parent: Node, new_name: str, flags: int) -> None:
        """Renames a file or folder, over another of its kind unless `flags` has RENAME_NOREPLACE.

        Raises:
            PosixError: EINVAL, other flags, or a folder would go below itself; EXDEV, the two folders are not behind
                the same DFS link; EBUSY, one of the names is a link; EEXIST, EISDIR, ENOTDIR as in rename(2).
            DfsfsError: the server's answer.
        """
        if flags & ~RENAME_NOREPLACE:
            raise PosixError(errno.EINVAL, "an exchange of two names is not possible over SMB")
        if self._places.location(old_parent).junction is not self._places.location(new_parent).junction:
            raise PosixError(errno.EXDEV, f"{old_name} can't be renamed across a DFS link")
        node = await self._ordinary(old_parent, old_name)
        victim: Node | None = None
        try:
            if node in self._places.table.above(new_parent):
                raise PosixError(errno.EINVAL, f"{old_name} can't be moved below itself")
            victim = await self._victim(new_parent, new_name)
            itself = old_parent is new_parent and fold_name(old_name) == fold_name(new_name)
            if victim is not None and not itself and flags & RENAME_NOREPLACE:
                raise PosixError(errno.EEXIST, f"{new_name} exists")
            if victim is node and not itself:
                return  # two names of one file: rename(2) leaves both
            await self._replace(old_parent, old_name, node, new_parent, new_name, None if itself else victim)
        finally:
            for held in (node, victim):
                if held is not None:
                    self._places.table.release(held)

    async def _victim(self, parent: Node, name: str) -> Node | None:
        try:
            return await self._ordinary(parent, name)
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    async def _replace(
        self, old_parent: Node, old_name: str, node: Node, new_parent: Node, new_name: str, victim: Node | None
    ) -> None:
        """Sends the rename after making way for it, and puts things back if it fails."""
        destination = self._places.location(new_parent).child(new_name)
        restore: Callable[[], Awaitable[None]] | None = None
        if victim is not None:
            restore = await self._make_way(node, new_parent, new_name, victim)
        try:
            await self._send_rename_parked(
                old_parent, old_name, destination, node, replace=victim is not None and not node.is_directory
            )
        except DfsfsError:
            if restore is not None:
                await restore()
            raise
        self._places.table.entry_changed(old_parent, old_name)
        self._places.table.entry_changed(new_parent, new_name)
        self._places.table.changed(node)
        self._renamed(old_parent, old_name, node, new_parent, new_name)

    def _renamed(self, old_parent: Node, old_name: str, node: Node, parent: Node, name: str) -> None:
        table = self._places.table
        if table.child(old_parent, old_name) is node:
            table.rename(old_parent, old_name, parent, name)
        elif table.child(parent, name) is not node:
            # The name was taken for another file's in the meantime. So is what was known under its new name.
            table.drop_name(parent, name)

    async def _make_way(
        self, node: Node, parent: Node, name: str, victim: Node
    ) -> Callable[[], Awaitable[None]] | None:
        """Does what has to be done with the file or folder whose place `node` takes. Returns what undoes it."""
        if node.is_directory:
            if not victim.is_directory:
                raise PosixError(errno.ENOTDIR, f"{name} is not a directory")
            await self._remove_folder(parent, name, victim)
            return None
        if victim.is_directory:
            raise PosixError(errno.EISDIR, f"{name} is a directory")
        if self._files.is_open(victim) and victim.hidden is None and await self._hide(parent, name, victim):
            return lambda: self._unhide(victim, name)
        stat = victim.stat
        if stat is not None and stat.attributes & FileAttributes.READONLY:
            # Windows refuses to replace a read-only file; POSIX asks for write permission on the folder only.
            await self._set_attributes(victim, FileAttributes.NORMAL)
            return lambda: self._set_attributes(victim, stat.attributes)
        return None

    async def _unhide(self, victim: Node, name: str) -> None:
        assert victim.hidden is not None
        parent, hidden = victim.hidden
        try:
            destination = self._places.location(parent).child(name)
            await self._send_rename(parent, hidden, destination, victim, replace=False)
        except DfsfsError as error:
            log.warning("%s could not be put back after a failed rename: %s", name, error)
            return
        self._places.table.changed(victim)
        self._renamed(parent, hidden, victim, parent, name)
        victim.hidden = None

    async def _set_attributes(self, node: Node, attributes: int) -> None:
        info = encode_basic_information(None, None, None, None, attributes)
        await self._places.run(node, lambda attempt: attempt.tree.set_basic(attempt.path, info))
        self._places.table.changed(node)

    async def _send_rename_parked(
        self, parent: Node, name: str, destination: Location, node: Node, *, replace: bool
    ) -> None:
        """Sends a rename; of a folder that the server refuses because of open files in it, without them."""
        for _ in range(PARKED_TRIES):
            try:
                return await self._send_rename(parent, name, destination, node, replace=replace)
            except DfsfsError as error:
                if not node.is_directory or error.errno not in (errno.EACCES, errno.EBUSY):
                    raise
                if not await self._files.park_below(node):
                    raise
        await self._send_rename(parent, name, destination, node, replace=replace)

    async def _send_rename(self, parent: Node, name: str, destination: Location, node: Node, *, replace: bool) -> None:
        async def operation(attempt: Attempt) -> None:
            target = attempt.binding.target.join(destination.components)
            rename = attempt.tree.rename_special if node.is_reparse_point else attempt.tree.rename
            try:
                await rename(attempt.path, target, replace=replace)
            except DfsfsError as error:
                if not attempt.repeated or error.errno not in (errno.ENOENT, errno.EEXIST):
                    raise
                if not await _is_there(attempt, target, node):
                    raise

        await self._run_in(parent, name, operation)


async def _remove_special(attempt: Attempt) -> None:
    """The operation that removes a symbolic link, device, fifo or socket."""
    await attempt.tree.remove_special(attempt.path)


async def _remove_directory(attempt: Attempt) -> None:
    """The operation that removes an empty folder."""
    await attempt.tree.remove_directory(attempt.path)


async def _remove_file(attempt: Attempt) -> FileStat | None:
    """The operation that removes a file; what is known of its folder then."""
    return await attempt.tree.remove_file_from(UncPath(attempt.path.components[:-1]), attempt.path)


async def _is_there(attempt: Attempt, target: UncPath, node: Node) -> bool:
    """Whether a lost rename has been carried out: the file is at its new name, by the id that the server gave it."""
    try:
        stat = await attempt.tree.stat(target)
    except DfsfsError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return bool(node.file_id) and node.share == attempt.tree.volume and stat.file_id == node.file_id

"""SillyRename: makes way for the removal or replacement of what is still open, so that a crash at any moment loses
nothing. NFS calls it a silly rename.

What follows is each request that changes something, in its order, and what the server has after a crash behind it
(docs/design/crash-safety.md has the table of all operations).

    unlink of an open file B       RENAME B -> X                    X, to be removed: what the program wanted
    rename A over an open file B   LINK B -> X                      A, B, and B once more as X: nothing is lost
                                   (CLOSE of our handles)           the same
                                   RENAME A -> B, replacing         B is the new file, X the old one, to be removed
    ... where there are no links   MKDIR K                          an empty directory that no listing shows
                                   RENAME B -> K/B                  B is missing: the next listing puts it back
                                   RENAME A -> B, replacing         B is the new file; the next listing removes K/B
                                   RENAME K/B -> X, RMDIR K         X, to be removed

X and K are names of hiddennames.py, as is the name of B in K. A server refuses to replace a file that is open, so our
handles are closed for the one request that replaces it (`ServerHandles.closed_on_server`) and opened again under X.
Where the request fails, X is removed and they are opened again under B.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError, Disposition, PosixError
from dfsfs.namespace.junction import PathNotCovered
from dfsfs.vfs.names.hiddennames import get_aside_name
from dfsfs.vfs.names.inode import SillyName
from dfsfs.vfs.names.removals import allow_repeat, is_renamed, remove_directory, remove_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.data.fileops import FileOperations
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replacement:
    """A rename over `victim`: `send` sends the one request that does it, `note` applies it to the inode table, `undo`
    renames back.
    """

    parent: Inode
    name: str
    victim: Inode
    inode: Inode
    """The file or directory that gets the name."""
    send: Callable[[], Awaitable[dict[Inode, FileStat]]]
    note: Callable[[], None]
    undo: Callable[[], Awaitable[None]]


class SillyRename:
    """See the module's text. Names are wire names."""

    def __init__(self, lookup: Lookup, files: FileOperations) -> None:
        self._lookup = lookup
        self._files = files
        self._table = lookup.table

    # -- an open file that is removed ---------------------------------------------------------------------------------

    async def hide(self, parent: Inode, name: str, inode: Inode, said: dict[Inode, FileStat]) -> bool:
        """Renames an open file to a hidden name. Whether the server did so. What it says of the directory goes to
        `said`.

        If another client has given the name to another file, it is that one which is hidden, and removed.
        """
        hidden = self._lookup.hidden_names.make_deleted_name()
        try:
            await self._files.on_server.ensure_open(inode)
            is_other = await self._send_hiding(parent, name, inode, hidden, said)
        except DfsfsError as error:
            self._lookup.hidden_names.release(hidden)
            log.info("%s is open and can't be renamed out of the way: %s", name, error)
            return False
        except BaseException:
            self._lookup.hidden_names.release(hidden)
            raise
        if is_other:
            said.clear()
            self._table.drop_name(parent, name)
            await self._remove_link(parent, hidden)
            return True
        self.apply_rename(parent, name, inode, parent, hidden)
        await self._mark_hidden(inode, parent, hidden)
        return True

    async def _send_hiding(
        self, parent: Inode, name: str, inode: Inode, hidden: str, said: dict[Inode, FileStat]
    ) -> bool:
        """Sends the rename to a hidden name. Whether another file than the inode's had the name. Raises as run_in."""

        async def operation(attempt: Attempt) -> tuple[bool, FileStat | None]:
            target = self.destination(attempt, parent, parent, hidden)
            try:
                stat, (directory,) = await attempt.tree.rename_and_stat(attempt.path, target, [target.parent])
            except DfsfsError as error:
                if not attempt.is_replay or error.errno not in (errno.ENOENT, errno.EEXIST):
                    raise
                if not await is_renamed(attempt, target, inode):
                    raise
                return False, None
            return not self._table.same_file(inode, stat, attempt.tree.volume), directory

        async with self._lookup.directory_renames.run_when_free(parent):
            is_other, directory = await self.run_in(parent, name, operation)
        if directory is not None:
            said[parent] = directory
        return is_other

    async def _mark_hidden(self, inode: Inode, parent: Inode, hidden: str) -> None:
        """From now on the last close removes the file. If that has come already, it is removed now."""
        inode.silly = SillyName(parent, hidden, current_caller())
        try:
            await self._files.remove_silly_renamed(inode)
        except DfsfsError as error:
            log.info("%s is left until its folder is listed: %s", hidden, error)

    # -- an open file that another takes the place of -----------------------------------------------------------------

    async def replace(self, what: Replacement) -> None:
        """Gives the name of an open file to another file.

        Raises:
            DfsfsError: what the request, or the way to it, came to. The file has its name then.
        """
        parent, name, victim = what.parent, what.name, what.victim
        if victim.silly is not None:
            # It has a hidden name already, from another of its names that was removed here.
            async with self._files.on_server.closed_on_server(victim):
                await what.send()
                self._table.drop_name(parent, name)
                what.note()
            return
        hidden = await self._link(parent, name, victim)
        if hidden is None:
            await self.replace_aside(what)
            return
        try:
            async with self._files.on_server.closed_on_server(victim):
                try:
                    await what.send()
                except DfsfsError as error:
                    if error.disposition is Disposition.RETURN:
                        await self._remove_link(parent, hidden)
                    raise  # after other errors it may have been done, and then the old file has no other name
                self._apply_move(victim, parent, name, hidden)
                what.note()
        except BaseException:
            self._lookup.hidden_names.release(hidden)
            raise
        victim.silly = SillyName(parent, hidden, current_caller())
        try:
            await self._files.on_server.ensure_open(victim)
        except DfsfsError as error:
            log.info("%s was replaced and can't be opened again under another name: %s", name, error)
        await self._mark_hidden(victim, parent, hidden)

    async def _link(self, parent: Inode, name: str, victim: Inode) -> str | None:
        """Gives a file a hidden name besides its own by a hard link; None if the server refuses that."""
        hidden = self._lookup.hidden_names.make_deleted_name()

        async def operation(attempt: Attempt) -> None:
            target = self.destination(attempt, parent, parent, hidden)
            try:
                await attempt.tree.link(attempt.path, target)
            except DfsfsError as error:
                if not attempt.is_replay or error.errno != errno.EEXIST:
                    raise

        try:
            await self.run_in(parent, name, operation)
        except DfsfsError as error:
            self._lookup.hidden_names.release(hidden)
            if error.disposition is not Disposition.RETURN or error.errno == errno.ENOENT:
                raise
            log.debug("%s gets no second name, so it will be set aside: %s", name, error)
            return None
        except BaseException:
            self._lookup.hidden_names.release(hidden)
            raise
        return hidden

    async def _remove_link(self, parent: Inode, hidden: str) -> None:
        """Removes a hidden name of a file that is not open here by it."""
        try:
            await self._lookup.run_in(parent, hidden, allow_repeat(remove_file))
        except DfsfsError as error:
            log.info("%s is left until its folder is listed: %s", hidden, error)
        finally:
            self._lookup.hidden_names.release(hidden)

    def _apply_move(self, victim: Inode, parent: Inode, name: str, hidden: str) -> None:
        """Applies to the table that the file has the hidden name only, before its handles are opened again."""
        if self._table.child(parent, name) is victim:
            self._table.rename(parent, name, parent, hidden)
        elif victim.detached and victim.stat is not None and victim.share is not None:
            self._table.observe(parent, hidden, victim.stat, victim.share, exact=True)

    # -- where there are no hard links, and for directories ----------------------------------------------------------

    async def replace_aside(self, what: Replacement) -> None:
        """Sets a file or an empty directory aside, gives its name to another one, and removes it.

        Raises:
            DfsfsError: what the request, or the way to it, came to; ENOTEMPTY, the directory was not empty after all.
                The file or directory has its name then, or gets it back from the next listing.
        """
        parent, name, victim = what.parent, what.name, what.victim
        aside, directory = await self._set_aside(parent, name, victim, what.inode)
        try:
            await what.send()
            if victim.is_directory:
                await self._remove_aside(aside, directory, what)
        except DfsfsError:
            await self._put_back(parent, name, victim, aside, directory)
            raise
        except BaseException:
            self._lookup.hidden_names.release(aside)  # the next listing cleans up what it finds
            self._table.release(directory)
            raise
        what.note()
        try:
            if not victim.is_directory:
                await self._release_aside(parent, name, victim, aside, directory)
        finally:
            await self._end_aside(parent, aside, directory)

    async def _set_aside(self, parent: Inode, name: str, victim: Inode, inode: Inode) -> tuple[str, Inode]:
        """Moves a file or directory into a hidden directory. The name of that, and its inode, which is held."""
        aside = self._lookup.hidden_names.make_kept_name(
            inode.file_id or (inode.stat.file_id if inode.stat is not None else 0)
        )

        async def operation(attempt: Attempt) -> tuple[FileStat, UncPath]:
            try:
                stat = await attempt.tree.make_directory(attempt.path)
            except DfsfsError as error:
                if not attempt.is_replay or error.errno != errno.EEXIST:
                    raise
                stat = await attempt.tree.stat(attempt.path)  # no other client makes one of that name
            return stat, attempt.tree.volume

        try:
            stat, share = await self.run_in(parent, aside, operation)
        except BaseException:
            self._lookup.hidden_names.release(aside)
            raise
        directory = self._table.observe(parent, aside, stat, share, exact=True)
        self._lookup.attributes.set_unconfirmed(directory, stat)
        self._table.hold(directory)
        try:
            await self._files.on_server.ensure_open(victim)
            await self.move(parent, name, victim, directory, get_aside_name(aside, name))
        except BaseException:
            await self._end_aside(parent, aside, directory)
            raise
        return aside, directory

    async def _remove_aside(self, aside: str, directory: Inode, what: Replacement) -> None:
        """Removes an empty directory that was replaced. If it is not empty, the rename is undone."""
        inside = get_aside_name(aside, what.name)
        try:
            await self._lookup.run_in(directory, inside, allow_repeat(remove_directory))
        except DfsfsError:
            await what.undo()
            raise
        self._table.remove_name(directory, inside)

    async def _release_aside(self, parent: Inode, name: str, victim: Inode, aside: str, directory: Inode) -> None:
        """Gives a replaced file a hidden name under which its last close removes it. If that fails, a listing removes
        it.
        """
        hidden = self._lookup.hidden_names.make_deleted_name()
        try:
            await self.move(directory, get_aside_name(aside, name), victim, parent, hidden)
        except DfsfsError as error:
            self._lookup.hidden_names.release(hidden)
            log.info("%s was replaced, and stays aside until its folder is listed: %s", name, error)
            return
        except BaseException:
            self._lookup.hidden_names.release(hidden)
            raise
        await self._mark_hidden(victim, parent, hidden)

    async def _put_back(self, parent: Inode, name: str, victim: Inode, aside: str, directory: Inode) -> None:
        try:
            await self.move(directory, get_aside_name(aside, name), victim, parent, name)
        except DfsfsError as error:
            log.warning("%s could not be put back after a failed rename, and will be later: %s", name, error)
        finally:
            await self._end_aside(parent, aside, directory)

    async def _end_aside(self, parent: Inode, aside: str, directory: Inode) -> None:
        """Removes the hidden directory, which is empty unless something has failed. If that fails or is cancelled, the
        next listing cleans it up.
        """
        try:
            await self._lookup.run_in(parent, aside, allow_repeat(remove_directory))
        except DfsfsError as error:
            log.info("%s is left until its folder is listed: %s", aside, error)
        else:
            self._table.remove_name(parent, aside)
        finally:
            self._lookup.hidden_names.release(aside)
            self._table.release(directory)

    # -- pieces -------------------------------------------------------------------------------------------------------

    def destination(self, attempt: Attempt, source: Inode, directory: Inode, name: str) -> UncPath:
        """The path of a name in a directory, on the target to which an attempt for `source` goes. Operations call it
        when they run, as the directory may be renamed before.


        Raises:
            PosixError: EXDEV, it is behind another DFS link by now; ESTALE, it has no place any more.
        """
        location = self._lookup.get_location(directory)
        if location.junction is not self._lookup.get_location(source).junction:
            raise PosixError(errno.EXDEV, f"{name} would be behind another DFS link")
        return attempt.binding.target.join(location.child(name).components)

    async def run_in(self, parent: Inode, name: str, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Lookup.run_in. Raises: PosixError: EBUSY, the name is a DFS link."""
        try:
            return await self._lookup.run_in(parent, name, operation)
        except PathNotCovered as link:
            raise PosixError(errno.EBUSY, f"{link.prefix} is a DFS link") from None

    async def move(self, old_parent: Inode, old_name: str, inode: Inode, parent: Inode, name: str) -> None:
        """Renames to a name that does not exist, and applies that to the table. Raises as run_in."""
        await self.send_rename(old_parent, old_name, inode, parent, name, replace=False, seen=())
        self.apply_rename(old_parent, old_name, inode, parent, name)

    async def send_rename(
        self,
        old_parent: Inode,
        old_name: str,
        inode: Inode,
        parent: Inode,
        name: str,
        *,
        replace: bool,
        seen: Collection[Inode],
    ) -> dict[Inode, FileStat]:
        """Sends one rename. What the server says after it of those of the two directories that are `seen`. Raises as
        run_in.
        """

        async def operation(attempt: Attempt) -> dict[Inode, FileStat]:
            target = self.destination(attempt, old_parent, parent, name)
            rename = attempt.tree.special.rename if inode.is_reparse_point else attempt.tree.rename
            paths = {old_parent: attempt.path.parent, parent: target.parent}
            wanted = [directory for directory in paths if directory in seen]
            try:
                stats = await rename(attempt.path, target, replace=replace, seen=[paths[each] for each in wanted])
            except DfsfsError as error:
                if not attempt.is_replay or error.errno not in (errno.ENOENT, errno.EEXIST):
                    raise
                if not await is_renamed(attempt, target, inode):
                    raise
                return {}
            return {directory: stat for directory, stat in zip(wanted, stats, strict=True) if stat is not None}

        async with self._lookup.directory_renames.run_when_free(old_parent, parent):
            return await self.run_in(old_parent, old_name, operation)

    def apply_rename(self, old_parent: Inode, old_name: str, inode: Inode, parent: Inode, name: str) -> None:
        """Applies a rename that was carried out to the table."""
        table = self._table
        if table.child(old_parent, old_name) is inode:
            table.rename(old_parent, old_name, parent, name)
        elif table.child(parent, name) is not inode:
            # By now the table has another inode under the old name. What it has under the new one is wrong, too.
            table.drop_name(parent, name)

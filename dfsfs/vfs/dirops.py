"""DirectoryOperations: the verbs that make, remove and rename names.

Nothing here may damage a namespace. A removal or rename is sent only after a stat of that very name, or the cached
answer to one that is not too old, has said that it is an ordinary file or directory. A DFS link is EBUSY before
anything is sent, and a name that has become a link in the meantime is refused by the server, which is EBUSY as well.
Between two links, or a link and its surroundings, a rename is EXDEV.

A request that was repeated after a lost connection may find what it has done before. A removal that finds nothing has
succeeded. A rename that finds no source has succeeded if the source's file is at the new name. An exclusive create or
mkdir that finds the name taken is EIO: it cannot be known whose it is.

A file that is open through this mount is not removed but renamed to a hidden name in its directory, so that its name is
free at once and its data can still be read; the last close removes it. If that fails it is removed, and the name goes
when the last handle is closed. What is done with a file whose place another takes is in sillyrename.py; what becomes of
hidden names when a mount has died, in hiddennames.py.

While a name is removed or renamed no open of its file begins (pending.py), so that it is known what is in the way.
Where a server still refuses, the handles of this mount are closed and it is asked again before the program gets an
error; other clients, who may only keep a handle, are asked once to close it.
"""

from __future__ import annotations

import errno
import logging
import stat as posix
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError, Disposition, PosixError, SmbError
from dfsfs.namespace.junction import Attempt, PathNotCovered
from dfsfs.smb.wire.constants import Access, CreateDisposition, FileAttributes
from dfsfs.smb.wire.fscc import FileStat, encode_attributes
from dfsfs.unanswered import watch
from dfsfs.vfs.data.opener import raise_if_ambiguous
from dfsfs.vfs.names.dircache import Origin
from dfsfs.vfs.names.hiddennames import is_hidden_name
from dfsfs.vfs.names.removals import is_renamed
from dfsfs.vfs.removal import Removal, names_in
from dfsfs.vfs.sillyrename import Replacement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from dfsfs.smb.wire.reparse import SpecialFile
    from dfsfs.unc import UncPath
    from dfsfs.vfs.data.fileops import FileOperations
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

T = TypeVar("T")

TRIES = 6
"""Times that a server is asked to replace a file, or to rename a directory, while handles of this mount, or ones that
another client only keeps, are in the way."""
TRY_PAUSE = 0.004
"""Seconds before the second of these tries; doubled with each one."""
PUT_BACK_TIMEOUT = 2.0
"""Seconds for which a program that was killed, or whose time is up, waits until a file that it has not replaced is
read-only again."""
RENAME_NOREPLACE = 1
"""The flag of renameat2(2)."""


class DirectoryOperations(Removal):
    """See the module's text. Names are wire names.

    `mfsymlinks`: symbolic links are made as files, also where the server has something better.
    """

    def __init__(self, lookup: Lookup, files: FileOperations, *, mfsymlinks: bool = False) -> None:
        super().__init__(lookup, files)
        self._mfsymlinks = mfsymlinks

    # -- making -----------------------------------------------------------------------------------------------------

    async def mkdir(self, parent: Inode, name: str) -> Inode:
        """Makes a directory. Counts no lookup.

        Raises:
            PosixError: EEXIST, the name is a DFS link; EIO, see the module's text.
            DfsfsError: the server's answer.
        """

        inode = await self._make(parent, name, lambda attempt: attempt.tree.make_directory(attempt.path))
        assert inode.share is not None
        origin = Origin(inode.share, self._lookup.table.version, self._lookup.clock(), current_caller().uid)
        self._lookup.attributes.dircache.add(inode, (), origin)
        return inode

    async def make_special(self, parent: Inode, name: str, special: SpecialFile) -> Inode:
        """Makes a symbolic link, device, fifo or socket. Counts no lookup.

        Raises:
            PosixError: EEXIST, the name is a DFS link; EPERM, the server has nothing for it; EIO, see the module's
                text.
            DfsfsError: the server's answer.
        """

        as_file = self._mfsymlinks and special.kind == posix.S_IFLNK

        def make(attempt: Attempt) -> Awaitable[FileStat]:
            files = attempt.tree.special
            return (files.make_mfsymlink if as_file else files.make)(attempt.path, special)

        try:
            return await self._make(parent, name, make)
        except SmbError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENODATA):
                raise PosixError(errno.EPERM, f"{name}: the server has no form for that") from None
            raise

    async def _make(self, parent: Inode, name: str, create: Callable[[Attempt], Awaitable[FileStat]]) -> Inode:
        """Runs `create` at a name that does not exist. The inode of what it makes."""

        async def operation(attempt: Attempt) -> tuple[FileStat, UncPath]:
            try:
                return await create(attempt), attempt.tree.volume
            except DfsfsError as error:
                raise_if_ambiguous(attempt, error)
                raise

        await self._lookup.attributes.wait_for_name_change(parent, name)
        try:
            with self._lookup.attributes.creating_name(parent, name) as made:
                stat, share = await self._lookup.run_in(parent, name, operation)
                made(stat)
        except PathNotCovered as link:
            raise PosixError(errno.EEXIST, f"{link.prefix} is a DFS link") from None
        inode = self._lookup.table.observe(parent, name, stat, share, exact=True)
        self._lookup.attributes.update(inode, stat, self._lookup.table.version)
        return inode

    async def link(self, inode: Inode, parent: Inode, name: str) -> None:
        """Gives a file one more name.

        Raises:
            PosixError: EPERM, a directory; EEXIST, the name is taken; EXDEV, file and directory are not behind the same
                DFS link.
            DfsfsError: the server's answer.
        """
        if inode.is_directory:
            raise PosixError(errno.EPERM, f"{inode.name} is a directory")
        if self._lookup.get_location(inode).junction is not self._lookup.get_location(parent).junction:
            raise PosixError(errno.EXDEV, f"{inode.name} can't have a name behind another DFS link")
        await self._files.dirty.write_back(inode)

        async def operation(attempt: Attempt) -> tuple[FileStat, UncPath]:
            target, tree = self._silly.destination(attempt, inode, parent, name), attempt.tree
            try:
                if inode.is_reparse_point:
                    await tree.special.link(attempt.path, target)
                elif not tree.special.may_be_special(stat := await tree.link(attempt.path, target)):
                    return stat, tree.volume
            except DfsfsError as error:
                if not attempt.is_replay or error.errno != errno.EEXIST or not await is_renamed(attempt, target, inode):
                    raise
            return await tree.stat(target), tree.volume

        self._files.on_server.close_deferred(inode)
        await self._lookup.revalidate_hard_link(inode)
        await self._files.on_server.wait_closes(inode)
        await self._lookup.attributes.wait_for_name_change(parent, name)
        table = self._lookup.table
        begun, alone = table.begin_change(inode), False
        with watch() as unanswered:
            try:
                with self._lookup.attributes.creating_name(parent, name) as made:
                    async with self._lookup.directory_renames.run_when_free(inode, parent):
                        stat, share = await self._lookup.run(inode, operation)
                    made(stat)
            except PathNotCovered as link:
                raise PosixError(errno.EEXIST, f"{link.prefix} is a DFS link") from None
            except SmbError as error:
                if error.errno == errno.EOPNOTSUPP:
                    raise PosixError(errno.EPERM, f"{name}: the server has no hard links") from None
                raise
            finally:
                alone = table.end_change(inode, begun, unanswered=unanswered)
        if table.observe(parent, name, stat, share, exact=True) is not inode:
            return
        if alone:
            self._lookup.attributes.update(inode, stat, table.version)
        elif inode.stat is not None:
            # A listing does not say how many names a file has, and must not make it one.
            self._lookup.attributes.set_unconfirmed(inode, replace(inode.stat, links=stat.links))

    # -- renaming ---------------------------------------------------------------------------------------------------

    async def rename(self, old_parent: Inode, old_name: str, new_parent: Inode, new_name: str, flags: int) -> None:
        """Renames a file or directory, over another of its kind unless `flags` has RENAME_NOREPLACE.

        Raises:
            PosixError: EINVAL, other flags, or a directory would go below itself; EXDEV, the two directories are not
                behind the same DFS link; EBUSY, one of the names is a link; EEXIST, EISDIR, ENOTDIR as in rename(2).
            DfsfsError: the server's answer.
        """
        if flags & ~RENAME_NOREPLACE:
            raise PosixError(errno.EINVAL, "an exchange of two names is not possible over SMB")
        if self._lookup.get_location(old_parent).junction is not self._lookup.get_location(new_parent).junction:
            raise PosixError(errno.EXDEV, f"{old_name} can't be renamed across a DFS link")
        inode = await self._find_ordinary(old_parent, old_name)
        try:
            if inode in self._lookup.table.iter_ancestors(new_parent):
                raise PosixError(errno.EINVAL, f"{old_name} can't be moved below itself")
            step = _RenameStep(old_parent, old_name, inode, new_parent, new_name)
            if not await self._rename_over(step, flags, again=False):
                await self._rename_over(step, flags, again=True)
        finally:
            self._lookup.table.release(inode)

    async def _rename_over(self, step: _RenameStep, flags: int, *, again: bool) -> bool:
        """Renames, over what has the new name if there is something. Whether that was done; if not, the new name is
        asked for and it is tried once more, with `again`: another client may have given the name to another file, and
        the server refuses a rename that was right for the old one.
        """
        parent, name, table = step.new_parent, step.new_name, self._lookup.table
        victim = await self._find_victim(parent, name)
        try:
            itself = (step.old_parent, table.get_exact_name(step.old_parent, step.old_name)) == (
                parent,
                table.get_exact_name(parent, name),
            )
            if victim is not None and not itself and flags & RENAME_NOREPLACE:
                raise PosixError(errno.EEXIST, f"{name} exists")
            if victim is step.inode and not itself:
                return True  # two names of one file: rename(2) leaves both
            async with self._hold(step.inode):
                with (
                    self._lookup.attributes.changing_names((step.old_parent, step.old_name), (parent, name)) as said,
                    table.changing(step.inode),
                ):
                    await self._rename(step, None if itself else victim, said)
        except DfsfsError as error:
            was_absent = victim is None and error.errno == errno.EEXIST and not flags & RENAME_NOREPLACE
            was_another = victim is not None and _is_refusal(error)
            if again or not (was_absent or was_another):
                raise
            table.invalidate_name(parent, name)
            if victim is not None:
                table.invalidate(victim)
            return False
        finally:
            if victim is not None:
                table.release(victim)
        return True

    def _hold(self, inode: Inode) -> AbstractAsyncContextManager[None]:
        """A block in which no request for a file or directory begins under its old path."""
        if inode.is_directory:
            return self._lookup.directory_renames.hold(inode)
        return self._files.on_server.opens_blocked(inode)

    async def _find_victim(self, parent: Inode, name: str) -> Inode | None:
        if self._lookup.is_known_absent(parent, name):
            return None  # if another client has made it since, the server refuses to replace it, and it is asked for
        try:
            return await self._find_ordinary(parent, name)
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    async def _rename(self, step: _RenameStep, victim: Inode | None, said: dict[Inode, FileStat]) -> None:
        """Makes way for the rename, sends it, and notes it. What the server says of the directories goes to `said`, if
        the rename is all that it takes.
        """
        inode, name = step.inode, step.new_name
        if victim is None:
            said.update(await self._send(step, replace=False))
            self._apply(step)
        elif inode.is_directory:
            if not victim.is_directory:
                raise PosixError(errno.ENOTDIR, f"{name} is not a directory")
            await self._replace_directory(step, victim)
        elif victim.is_directory:
            raise PosixError(errno.EISDIR, f"{name} is a directory")
        else:
            async with self._files.on_server.opens_blocked(victim):
                with self._lookup.table.changing(victim):
                    await self._replace_file(step, victim, said)

    async def _send(self, step: _RenameStep, *, replace: bool) -> dict[Inode, FileStat]:
        """Sends the rename. If a server refuses it for a directory with open files in it, they are closed there for the
        time. Returns what the server says of the directories after it.
        """
        for tries in range(TRIES):
            try:
                return await self._send_once(step, replace=replace)
            except DfsfsError as error:
                if not step.inode.is_directory or not _is_refusal(error):
                    raise
            if tries:  # a file may just be opened, or closed without waiting for the server
                await trio.sleep(TRY_PAUSE * 2**tries)
            await self._files.on_server.close_within_on_server(step.inode)
        return await self._send_once(step, replace=replace)

    async def _send_once(self, step: _RenameStep, *, replace: bool) -> dict[Inode, FileStat]:
        old, new = (step.old_parent, step.old_name), (step.new_parent, step.new_name)
        seen = (step.old_parent, step.new_parent)
        return await self._silly.send_rename(*old, step.inode, *new, replace=replace, seen=seen)

    def _apply(self, step: _RenameStep) -> None:
        """Applies the rename to the inode table."""
        self._silly.apply_rename(step.old_parent, step.old_name, step.inode, step.new_parent, step.new_name)

    def _make_replacement(self, step: _RenameStep, victim: Inode) -> Replacement:
        async def undo() -> None:
            new, old = (step.new_parent, step.new_name), (step.old_parent, step.old_name)
            await self._silly.send_rename(*new, step.inode, *old, replace=False, seen=())

        send, note = partial(self._send, step, replace=not victim.is_directory), partial(self._apply, step)
        return Replacement(step.new_parent, step.new_name, victim, step.inode, send, note, undo)

    async def _replace_directory(self, step: _RenameStep, victim: Inode) -> None:
        """Gives a directory the name of an empty one."""
        found = await self._lookup.run(victim, names_in)
        if found and not (all(map(is_hidden_name, found)) and await self._clear_hidden(step.new_parent, victim)):
            raise PosixError(errno.ENOTEMPTY, f"{step.new_name} is not empty")
        async with self._lookup.directory_renames.removing(victim):
            await self._silly.replace_aside(self._make_replacement(step, victim))

    async def _replace_file(self, step: _RenameStep, victim: Inode, said: dict[Inode, FileStat]) -> None:
        """Gives a file the name of another one, which programs of this mount may have open."""
        stat = victim.stat
        read_only = stat is not None and bool(stat.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY)
        try:
            try:
                if read_only:
                    # Windows refuses to replace a read-only file. POSIX asks for write permission on the directory.
                    await self._set_attributes(victim, FileAttributes.FILE_ATTRIBUTE_NORMAL)
                await self._replace_until_possible(self._make_replacement(step, victim), said)
            except DfsfsError:
                if read_only and stat is not None:
                    await self._put_attributes_back(victim, stat.attributes)
                raise
        except trio.Cancelled:
            if read_only and stat is not None:
                with trio.CancelScope(shield=True), trio.move_on_after(PUT_BACK_TIMEOUT):
                    await self._put_attributes_back(victim, stat.attributes)
            raise

    async def _replace_until_possible(self, what: Replacement, said: dict[Inode, FileStat]) -> None:
        for tries in range(TRIES):
            is_last = tries == TRIES - 1
            try:
                return await self._replace_once(what, said, aside=is_last)
            except DfsfsError as error:
                still_there = self._lookup.table.child(what.parent, what.name) is what.victim
                if not _is_refusal(error) or is_last or not still_there:
                    raise
                if not await self._files.on_server.close_unused(what.victim) and (
                    tries or not await self._ask_others(what)
                ):
                    raise
            await trio.sleep(TRY_PAUSE * 2**tries)
        return None

    async def _replace_once(self, what: Replacement, said: dict[Inode, FileStat], *, aside: bool) -> None:
        """`aside`: other clients have the file open, too, so that the server does not replace it, but may rename it."""
        if not self._files.on_server.in_use(what.victim):
            said.update(await what.send())
            what.note()
        elif aside:
            await self._silly.replace_aside(what)
        else:
            await self._silly.replace(what)

    async def _ask_others(self, what: Replacement) -> bool:
        """Asks other clients that only keep a handle on a file to close it. Whether it makes sense to try again."""
        try:
            return await self._silly.run_in(
                what.parent, what.name, lambda attempt: attempt.tree.break_handle_leases(attempt.path)
            )
        except DfsfsError:
            return False

    async def _set_attributes(self, inode: Inode, attributes: int) -> None:
        info = encode_attributes(attributes)
        with self._lookup.table.changing(inode):
            await self._lookup.run(inode, lambda attempt: attempt.tree.set_basic(attempt.path, info))

    async def _put_attributes_back(self, inode: Inode, attributes: int) -> None:
        """Gives a file that was not replaced its attributes again, if it surely is that file: perhaps it was replaced,
        and only the answer lost, or others have given its name to another one.
        """
        info, access = encode_attributes(attributes), Access.FILE_READ_ATTRIBUTES | Access.FILE_WRITE_ATTRIBUTES

        async def operation(attempt: Attempt) -> None:
            file = await attempt.tree.open(attempt.path, access=access, disposition=CreateDisposition.FILE_OPEN)
            try:
                if inode.file_id and (file.stat.file_id, attempt.tree.volume) == (inode.file_id, inode.share):
                    await file.set_basic(info)
            finally:
                await file.close()

        try:
            with self._lookup.table.changing(inode):
                await self._lookup.run(inode, operation)
        except DfsfsError as error:
            log.info("%s was not replaced, and may not be read-only any more: %s", inode.name, error)


@dataclass(frozen=True, slots=True)
class _RenameStep:
    """What is to be renamed, and to what."""

    old_parent: Inode
    old_name: str
    inode: Inode
    new_parent: Inode
    new_name: str


def _is_refusal(error: DfsfsError) -> bool:
    """Whether a server may have refused an operation because a file is open."""
    is_answer = isinstance(error, SmbError) and error.disposition is Disposition.RETURN
    return is_answer and error.errno in (errno.EACCES, errno.EBUSY)

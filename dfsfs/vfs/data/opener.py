"""Opener: from a name or an inode to an open file, with as few requests as will do.

    a handle whose close was deferred (deferredclose.py)                      no request
    a small file that was prefetched (prefetch.py)                            no request
    else a CREATE under a lease (caching.py), with a READ if the file is small

The caller has to close the file that it gets.
"""

from __future__ import annotations

import contextlib
import errno
import os
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError, PosixError, SmbError
from dfsfs.namespace.junction import Attempt, PathNotCovered, TargetBinding
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Access, CreateDisposition, FileAttributes
from dfsfs.unanswered import watch
from dfsfs.vfs.data.caching import CacheMode
from dfsfs.vfs.data.deferredclose import ANY_PROCESS
from dfsfs.vfs.data.openfile import OpenFile
from dfsfs.vfs.data.openflags import access_of, disposition_of, is_synchronous, only_reads, options_of
from dfsfs.vfs.data.prefetch import INLINE_SIZE
from dfsfs.vfs.data.writeback import Writeback
from dfsfs.vfs.names.inode import NO_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.caching import FileLeases
    from dfsfs.vfs.data.prefetch import Prefetch
    from dfsfs.vfs.data.writeback import Budget
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

_OVERWRITE_ATTRIBUTES = FileAttributes.FILE_ATTRIBUTE_HIDDEN | FileAttributes.FILE_ATTRIBUTE_SYSTEM
"""Attributes of a file that an overwriting open has to repeat, or it is refused (MS-FSA 2.1.5.1.2.1)."""


class Opener:
    """See the module's text. `budget`: what all files of the mount may have dirty together."""

    def __init__(self, lookup: Lookup, leases: FileLeases, prefetch: Prefetch, budget: Budget) -> None:
        self._lookup = lookup
        self._leases = leases
        self._prefetch = prefetch
        self._budget = budget

    async def open(self, inode: Inode, flags: int, process: int) -> OpenFile:
        """Opens a file for a process.

        Raises:
            PosixError: ESTALE, another file has its name. If it was only to be read, that one is open then for the
                process's next try.
            DfsfsError: the server's answer.
        """
        reads = only_reads(flags) and self._leases.mode is not CacheMode.NONE
        before = inode.stat if inode.local_writes is None else None  # the kernel knows itself when it has written
        file = await self._open_deferred(inode, flags, process) if reads else None
        if file is None:
            file = await self._open_by_name(inode, flags, process, reads=reads)
        if reads and self._lookup.attributes.lifetimes.files > 0 and not self._lookup.attributes.access.is_needed:
            self._prefetch.note_open(inode)  # not for many users: what it fetches is given to any program
        stat = file.opened
        # It takes in the answers to what makes or changes a file whatever it was told to forget meanwhile, and is told
        # in vain to forget a file that it has just looked up: then what it was told last is not what is known here.
        is_size_new = not flags & os.O_TRUNC and inode.kernel_size not in (NO_SIZE, stat.size)
        if is_size_new or (before is not None and _visible(before) != _visible(stat)):
            # Else the kernel would believe the old size for a while, and end reads there. Or it believes in the link
            # count of 1 that a listing gives each file.
            try:
                await self._leases.kernel.invalidate_attributes(inode.ino)
            except trio.Cancelled:
                self._discard(inode, file.remote[0])
                raise
        return file

    async def open_ahead(self, place: tuple[Inode | None, str], flags: int, process: int) -> None:
        """Opens the file that has a name now for the next try of a process, whose first one has failed with ESTALE,
        unless that try has opened it. If it can't be opened, the next try will say so.
        """
        directory, name = place
        deferred = self._leases.deferred
        if directory is None or not only_reads(flags) or self._leases.mode is CacheMode.NONE:
            return
        if process == ANY_PROCESS or deferred.has_parked(process):
            return
        with contextlib.suppress(DfsfsError):
            found = await self._lookup.look_up(directory, name)
            self._lookup.table.hold(found)
            try:
                if found.is_directory:
                    return
                remote, binding = (await self._open_by_name(found, flags, process, reads=True)).remote
                if not deferred.park(process, found, Access.READ, remote, binding):
                    self._discard(found, remote)
            finally:
                self._lookup.table.release(found)

    async def create(self, parent: Inode, name: str, mode: int, flags: int) -> OpenFile:
        """Makes and opens a file, or opens the one that is there unless O_EXCL is given.

        Raises:
            PosixError: EEXIST or EISDIR, the name is a DFS link; EIO, see `raise_if_ambiguous`.
            DfsfsError: the server's answer.
        """
        access, disposition = access_of(flags), disposition_of(flags)
        known = self._lookup.table.child(parent, name)
        attributes = FileAttributes.FILE_ATTRIBUTE_NORMAL if mode & 0o200 else FileAttributes.FILE_ATTRIBUTE_READONLY

        async def operation(attempt: Attempt) -> tuple[RemoteFile, TargetBinding]:
            try:
                remote = await self._open_leased(
                    attempt,
                    known,
                    access,
                    partial(
                        attempt.tree.open,
                        attempt.path,
                        access=access,
                        disposition=disposition,
                        options=options_of(flags),
                        attributes=attributes,
                    ),
                )
            except DfsfsError as error:
                raise_if_ambiguous(attempt, error)
                raise
            return remote, attempt.binding

        table, alone = self._lookup.table, False
        started = table.version
        begun = table.begin_change(known) if known is not None else 0
        with watch() as unanswered:
            try:
                with self._lookup.attributes.creating_name(parent, name) as made:
                    remote, binding = await self._lookup.run_in(parent, name, operation)
                    made(remote.stat)
            except PathNotCovered as link:
                code = errno.EEXIST if flags & os.O_EXCL else errno.EISDIR
                raise PosixError(code, f"{link.prefix} is a DFS link") from None
            finally:
                if known is not None:
                    alone = table.end_change(known, begun, unanswered=unanswered)
        inode = table.observe(parent, name, remote.stat, remote.tree.volume)
        if inode is not known:
            self._leases.adopt(inode, remote.lease)
            alone = not inode.has_changed_since(started)
        asked = table.version if alone else started
        if not self._lookup.attributes.update(inode, remote.stat, asked):
            table.distrust_changes(inode)
        return self._file_of(inode, remote, binding, flags, self._lookup.clock(), asked)

    async def _open_deferred(self, inode: Inode, flags: int, process: int) -> OpenFile | None:
        """The file with a handle whose close was deferred, None if there is no such handle or it is of no use."""
        location = inode.location
        binding = location.junction.for_caller().binding if location is not None else None
        remote = self._leases.deferred.take(inode, access_of(flags), binding, process)
        if remote is None or binding is None:
            return None
        if inode.lease is not remote.lease:
            self._leases.adopt(inode, remote.lease)  # the inode is new: the kernel had forgotten the one before
        asked = inode.asked
        if inode.expires <= self._lookup.clock() or inode.stat is None or inode.has_changed_since(asked):
            asked = self._lookup.table.version
            try:
                stat = await remote.query()  # the answer is about the file, and not about its name
                if not await self._lookup.accept(inode, stat, remote.tree.volume, asked, by_name=False):
                    self._lookup.table.distrust_changes(inode)
            except (DfsfsError, trio.Cancelled) as error:
                self._discard(inode, remote)
                if isinstance(error, DfsfsError):
                    return None
                raise
        assert inode.stat is not None
        remote.stat = inode.stat
        return self._file_of(inode, remote, binding, flags, self._lookup.clock(), asked)

    async def _open_by_name(self, inode: Inode, flags: int, process: int, *, reads: bool) -> OpenFile:
        """The file as it was prefetched, or else opened on the server. `reads`: its data may come along."""
        access, known = access_of(flags), inode.stat
        truncate = bool(flags & os.O_TRUNC)

        async def operation(attempt: Attempt) -> tuple[RemoteFile, TargetBinding]:
            remote = await self._open_leased(
                attempt,
                inode,
                access,
                partial(
                    attempt.tree.open,
                    attempt.path,
                    access=access,
                    disposition=CreateDisposition.FILE_OVERWRITE if truncate else CreateDisposition.FILE_OPEN,
                    options=options_of(flags),
                    attributes=known.attributes & _OVERWRITE_ATTRIBUTES if truncate and known is not None else 0,
                    read=inline_size,
                ),
            )
            return remote, attempt.binding

        if truncate:
            # O_TRUNC empties the file that has the name before the answer says which one that is.
            await self._lookup.revalidate_hard_link(inode)
        reads = reads and self._lookup.attributes.lifetimes.files > 0
        is_small = known is not None and known.size <= INLINE_SIZE
        inline_size = INLINE_SIZE if reads and is_small and not self._leases.has_data(inode) else 0
        time, table = self._lookup.clock(), self._lookup.table
        asked = begun = table.begin_change(inode) if truncate else table.version
        with watch() as unanswered:
            try:
                fetched = await self._prefetch.take(inode) if reads else None
                if fetched is not None:
                    remote, binding, time, asked = fetched
                else:
                    remote, binding = await self._lookup.run_by_name(inode, operation)
            finally:
                if truncate and table.end_change(inode, begun, unanswered=unanswered):
                    asked = table.version
        parent, name = inode.parent, inode.name
        is_overtaken = parent is None or table.has_name_changed_since(parent, name, asked)
        try:
            if not await self._lookup.accept(inode, remote.stat, remote.tree.volume, asked):
                table.distrust_changes(inode)
        except (DfsfsError, trio.Cancelled) as error:
            is_replaced = isinstance(error, DfsfsError) and error.errno == errno.ESTALE
            may_park = is_replaced and reads and fetched is None and not is_overtaken
            if parent is None or not may_park or not self._park(process, inode, (parent, name), remote, binding, asked):
                self._discard(inode, remote)
            raise
        if fetched is not None:
            self._lookup.attributes.limit_to(inode, time)
        if remote.lease is not inode.lease and remote.lease is not None:
            self._leases.adopt(inode, remote.lease)
        file = self._file_of(inode, remote, binding, flags, time, asked)
        if truncate:
            remote.is_written = True
            file.note_write()
        return file

    def _park(
        self,
        process: int,
        replaced: Inode,
        place: tuple[Inode, str],
        remote: RemoteFile,
        binding: TargetBinding,
        asked: int,
    ) -> bool:
        """Keeps what a name has led to instead of `replaced` for the second try of the process. Whether it is kept."""
        table, volume = self._lookup.table, remote.tree.volume
        known = table.child(*place)
        if table.is_name_changing(*place) or (known is not None and not table.same_file(known, remote.stat, volume)):
            return False
        found = table.observe(*place, remote.stat, volume)
        if not self._leases.deferred.park(process, found, Access.READ, remote, binding):
            table.prune(found)
            return False
        self._lookup.attributes.update(found, remote.stat, asked)
        if remote.lease is not None:
            if replaced.lease is remote.lease:
                self._leases.adopt(replaced, None)
            if found.lease is not remote.lease:
                self._leases.adopt(found, remote.lease)
        return True

    async def _open_leased(
        self,
        attempt: Attempt,
        inode: Inode | None,
        access: Access,
        opening: Callable[..., Awaitable[RemoteFile]],
    ) -> RemoteFile:
        """Opens a file under the lease of its inode; `opening` sends the request.

        A server refuses a lease key for any file but the one that it belongs to (MS-SMB2 3.3.5.9.8). Then the name has
        become another file's, which is opened under a lease of its own.
        """
        request = self._leases.request(attempt, inode, access)
        try:
            return await opening(lease=request)
        except SmbError as error:
            if error.status != NtStatus.INVALID_PARAMETER or request is None or not request.lease.was_granted:
                raise
        return await opening(lease=self._leases.request(attempt, None, access))

    def _file_of(
        self, inode: Inode, remote: RemoteFile, binding: TargetBinding, flags: int, time: float, asked: int
    ) -> OpenFile:
        return OpenFile(
            inode,
            access_of(flags),
            remote,
            binding,
            Writeback(self._budget),
            asked=asked,
            appends=bool(flags & os.O_APPEND),
            synchronous=is_synchronous(flags) or self._leases.mode is CacheMode.NONE,
            reads_ahead=not flags & os.O_DIRECT and self._leases.mode is not CacheMode.NONE,
            is_direct=bool(flags & os.O_DIRECT) and self._leases.mode is not CacheMode.NONE,
            inline_expires=time + self._lookup.attributes.lifetimes.files,
            ask_lease=self._leases.request,
        )

    def _discard(self, inode: Inode, remote: RemoteFile) -> None:
        remote.discard()
        self._leases.note_close(inode, remote.lease)


def _visible(stat: FileStat) -> tuple[int, int, int]:
    """What programs see of a file that an open may find changed. A listing has no link counts."""
    return stat.size, stat.written, stat.links or 1


def raise_if_ambiguous(attempt: Attempt, error: DfsfsError) -> None:
    """Turns EEXIST into EIO if the request was repeated: the file may have been made by the first one, whose answer was
    lost.

    Raises:
        PosixError: EIO.
    """
    if attempt.is_replay and error.errno == errno.EEXIST:
        text = f"{attempt.path} exists, but the connection was lost while it was made: perhaps by this request"
        raise PosixError(errno.EIO, text) from error

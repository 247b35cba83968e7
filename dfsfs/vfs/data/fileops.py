"""FileOperations: the open files of a mount: its parts, and opening and closing.

    OpenFileTable     which files are open                                             filetable.py
    FileData          reading, writing, flush and fsync, by the number of the handle   filedata.py
    FileRanges        holes, and room in advance                                       ranges.py
    RangeCopy         copies that stay on the server                                   rangecopy.py
    DirtyData         what was written and is not on the server yet                    dirtydata.py
    FileAttributes    asking for and setting size, times and attributes                fileattrs.py
    LocalAttributes   size and time of a file that is being written here               localattrs.py
    ServerHandles     getting the handles on a file out of the way                     serverhandles.py
    FileLeases        what may be kept of a file while the server promises to say      caching.py
    FileLocks         the locks of programs: fcntl's byte ranges, and flock's          filelocks.py

How a file is opened is in opener.py, what a handle does when its connection is lost in openfile.py.

A file that is removed while it is open is renamed by dirops.py to a hidden name; the last release removes it.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.background import contain, keep_going
from dfsfs.caller import override_caller
from dfsfs.errors import DfsfsError, PosixError
from dfsfs.vfs.data.caching import CacheMode, FileLeases
from dfsfs.vfs.data.dirtydata import DirtyData
from dfsfs.vfs.data.fileattrs import FileAttributes
from dfsfs.vfs.data.filedata import FileData
from dfsfs.vfs.data.filelocks import FileLocks
from dfsfs.vfs.data.filerunner import FileRunner
from dfsfs.vfs.data.filetable import OpenFileTable
from dfsfs.vfs.data.localattrs import LocalAttributes
from dfsfs.vfs.data.lockedfiles import LockedFiles
from dfsfs.vfs.data.opener import Opener
from dfsfs.vfs.data.pending import PendingOperations
from dfsfs.vfs.data.prefetch import Prefetch
from dfsfs.vfs.data.rangecopy import RangeCopy
from dfsfs.vfs.data.ranges import FileRanges
from dfsfs.vfs.data.readahead import ReadAhead
from dfsfs.vfs.data.serverhandles import ServerHandles
from dfsfs.vfs.data.staleopens import StaleOpens
from dfsfs.vfs.data.writeback import Budget
from dfsfs.vfs.names.ordering import ASKS
from dfsfs.vfs.names.removals import allow_repeat, remove_file

if TYPE_CHECKING:
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.data.caching import Caching, KernelCache
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")


@dataclass(frozen=True, slots=True)
class OpenResult:
    """`handle` is the number for later calls; `keep_cache`: whether the pages that the kernel has of the file are good;
    `direct`: whether it must not use its page cache (FOPEN_DIRECT_IO).
    """

    handle: int
    keep_cache: bool
    direct: bool


class FileOperations:
    """See the module's text."""

    def __init__(self, lookup: Lookup, kernel: KernelCache, caching: Caching) -> None:
        self._lookup = lookup
        self._pending = PendingOperations()
        self._prefetch = Prefetch(lookup)
        self._read_ahead = ReadAhead(caching.read_ahead)
        self._foreign_locks = LockedFiles(lookup.clock)
        self._stale = StaleOpens(lookup.clock)
        runner = FileRunner(lookup)
        self.table = table = OpenFileTable()
        self.locks = FileLocks(table)
        self.dirty = dirty = DirtyData(lookup, table, runner, self._pending)
        self.leases = leases = FileLeases(lookup, kernel, caching, dirty.write_back)
        self.local = local = LocalAttributes(lookup, runner, dirty, self._pending)
        self.on_server = ServerHandles(lookup, table, runner, dirty, leases, self._prefetch, self._pending)
        self.attributes = FileAttributes(lookup, table, runner, dirty, local, self.on_server, self._pending)
        foreign = self._foreign_locks
        self.data = FileData(lookup, table, runner, dirty, local, leases, self._read_ahead, foreign, self._pending)
        self.ranges = FileRanges(lookup, table, runner, dirty, local, leases)
        self.copies = RangeCopy(lookup, table, runner, dirty, local, leases)
        self._opener = Opener(lookup, leases, self._prefetch, Budget())
        lookup.handle_limit.give_back = leases.deferred.close_on_connection

    async def serve(self) -> None:
        """Sends what programs leave unsent, answers lease breaks, closes deferred handles and gives prefetches up.
        Runs until it is cancelled.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, "leases", self.leases.serve)
            nursery.start_soon(keep_going, "prefetch", self._prefetch.serve)
            nursery.start_soon(keep_going, "folders on the way", self._lookup.offline.serve)
            nursery.start_soon(keep_going, "listings for names", self._lookup.readers.serve)
            await keep_going("writes", partial(self.dirty.serve, nursery))

    def shrink(self) -> None:
        """Drops what was listed, fetched or read ahead and has not been used of late: a shrinker, as Linux calls it."""
        now = self._lookup.clock()
        self._lookup.attributes.dircache.drop_old(now)
        self._read_ahead.drop_old(now)
        self._prefetch.drop_old()
        for file in self.table.files:
            file.drop_old_inline(now)
            if file.allocated is not None and now >= file.allocated.expires:
                file.allocated = None

    # -- opening ----------------------------------------------------------------------------------------------------

    async def open(self, ino: int, flags: int, process: int = 0) -> OpenResult:
        """Opens a file for a process, whose number is 0 if it is not known.

        If the file has lost its name to another one, the kernel is given ESTALE, upon which it looks the name up again
        and opens what it finds, which is open already if it is only read (deferredclose.py). It does that once for each
        open(2). If the second file has been replaced by then, too, the program gets the file that has the name now: all
        that can be asked of an open that comes at the same time. `Inode.forwarded` is that file, and the kernel keeps
        none of its data, which would be under the number of the other one.

        Raises:
            PosixError: EISDIR, it is a directory; ESTALE, another file has its name.
            DfsfsError: the server's answer.
        """
        inode = self._lookup.get_inode(ino)
        if inode.is_directory:
            raise PosixError(errno.EISDIR, f"{inode.name} is a directory")
        place = (inode.parent, inode.name) if inode.parent is not None else inode.detached_from
        if inode.has_moved:
            place = None  # that is not the name that the program has asked for
        await self.dirty.write_back(inode)
        try:
            result = await self._open(inode, flags, process)
            if place is not None:
                self._stale.note_open(process, place)
            return result
        except DfsfsError as error:
            await self.remove_silly_renamed(inode)  # if it was removed meanwhile, this would have been its last close
            if error.errno != errno.ESTALE or place is None:
                raise
            if not self._stale.note_stale(process, place):
                await self._opener.open_ahead(place, flags, process)
                raise
            if self.table.is_open(inode):
                raise  # its attributes and data are those that other programs have open
        return await self._open_instead(inode, place, flags, process)

    async def _open(self, inode: Inode, flags: int, process: int) -> OpenResult:
        async with self._pending.opening(inode), self._lookup.directory_renames.run_when_free(inode):
            if not flags & os.O_TRUNC:
                return await self._register(await self._opener.open(inode, flags, process))
            async with self.dirty.resizing(inode):
                return await self._register(await self._opener.open(inode, flags, process))

    async def _open_instead(
        self, inode: Inode, place: tuple[Inode | None, str], flags: int, process: int
    ) -> OpenResult:
        """Opens the file that has a name now, for a program that has asked for the one that had it before."""
        directory, name = place
        assert directory is not None, "only what was in a directory can have lost its place"
        for _ in range(ASKS):
            found = await self._lookup.look_up(directory, name)
            if found.is_directory:
                raise PosixError(errno.EISDIR, f"{name} is a directory")
            self._lookup.table.hold(found)
            try:
                result = await self._open(found, flags, process)
            except DfsfsError as error:
                await self.remove_silly_renamed(found)
                if error.errno != errno.ESTALE:
                    raise
            else:
                if found is not inode:
                    inode.forwarded = found
                    self.table.get(result.handle).opened_instead_of = inode
                return replace(result, keep_cache=False, direct=True)
            finally:
                self._lookup.table.release(found)
        raise PosixError(errno.ESTALE, f"{name} is replaced again and again")

    async def create(self, parent: Inode, name: str, mode: int, flags: int) -> tuple[OpenResult, Inode]:
        """Makes and opens a file, or opens the one that is there unless O_EXCL is given. Counts no lookup.

        Raises:
            PosixError: EEXIST or EISDIR, the name is a DFS link; EIO, see `raise_if_ambiguous`.
            DfsfsError: the server's answer.
        """
        await self.dirty.write_back_name(parent, name)
        await self._lookup.attributes.wait_for_name_change(parent, name)
        known = self._lookup.table.child(parent, name)
        if known is None:
            return await self._create(parent, name, mode, flags)
        async with self._pending.opening(known):
            return await self._create(parent, name, mode, flags)

    async def _create(self, parent: Inode, name: str, mode: int, flags: int) -> tuple[OpenResult, Inode]:
        async with self._lookup.directory_renames.run_when_free(parent):
            file = await self._opener.create(parent, name, mode, flags)
            return await self._register(file), file.inode

    async def _register(self, file: OpenFile) -> OpenResult:
        inode, stat = file.inode, file.opened
        self._lookup.table.hold(inode)
        handle = self.table.add(file)
        inode.writers += file.writable
        if file.writable:
            try:
                await self.local.begin(file)
            except BaseException:
                await self.release(handle)  # which leaves nothing, and waits for nothing if this was cancelled
                raise
        keep_cache = self.leases.note_open(inode, stat, file.remote[0].tree.server_time())
        if has_locks := self._foreign_locks.note_open(inode, file.remote[0]):
            file.synchronous = True  # each write gets its own error
        return OpenResult(handle, keep_cache, direct=has_locks or self.leases.mode is CacheMode.NONE)

    # -- closing ----------------------------------------------------------------------------------------------------

    async def release(self, handle: int) -> None:
        """Closes a file. The kernel drops the answer to FUSE_RELEASE, so an error goes to the log.

        Locks end first, without waiting: the kernel may give the number of their owner to the next file that is opened.
        """
        file = self.table.remove_handle(handle)
        if file is None:
            return
        self.locks.forget_handle(file.inode, handle)
        if file.read_streams is not None:
            file.read_streams.clear()
        if file.opened_instead_of is not None:
            file.opened_instead_of.forwarded = None
        inode, table = file.inode, self._lookup.table
        begun = table.begin_close(inode) if file.close_moves_times else None
        closed = _Closed()
        try:
            await self._close(file, closed)
        except DfsfsError as error:
            log.warning("closing %s: %s", inode.name, error)
        finally:
            inode.writers -= file.writable
            alone = begun is not None and table.end_change(inode, begun, keeps_attributes=True)
            if file.writable and not inode.writers:
                self.local.end(inode, closed.stat if alone and closed.written is not None else None)
            self.leases.note_close(inode, file.lease)
            table.release(inode)

    async def _close(self, file: OpenFile, closed: _Closed) -> None:
        """Sends what was written through a handle and closes it, or keeps it for the next open.

        Raises:
            DfsfsError: the server's answer. The handle is closed all the same.
        """
        inode = file.inode
        try:
            with self._pending.closing(inode):
                await self.dirty.drain(file)
                await self._pending.wait_times(inode)
                async with self._lookup.directory_renames.run_when_free(inode):
                    self._remove(file)
                    closed.is_deferred = self._defer_close(file)
                    if not closed.is_deferred:
                        closed.written = await self.local.find_close_time(file)
                        if closed.written is None and file.close_moves_times:
                            self.local.forget_write_time(inode)
                        closed.stat = await file.close(closed.written)
        finally:
            self._remove(file)
            if not closed.is_deferred:
                file.discard()  # if this was cancelled, or failed, before it was closed
            await self.remove_silly_renamed(inode)

    def _remove(self, file: OpenFile) -> None:
        """The handle has no user any more. What was written through it is on the server, or lost."""
        self.table.remove_file(file)
        self.dirty.discard(file)
        if (error := file.writeback.take_error()) is not None:
            log.warning("closing %s: %s", file.inode.name, error)

    def _defer_close(self, file: OpenFile) -> bool:
        """Keeps a handle for the next open of the file, if it is fit for that. Returns whether it was kept."""
        inode = file.inode
        if file.writable or inode.silly is not None or not file.is_current or inode.location is None:
            return False
        if self._pending.are_opens_blocked(inode):
            return False
        if inode.lease is not file.lease or not inode.has_read_lease:
            return False
        return self.leases.deferred.put(inode, file.access, *file.remote)

    async def remove_silly_renamed(self, inode: Inode) -> None:
        """Removes the hidden name of a file that was removed here while it was open, if it is not open any more.

        Raises:
            DfsfsError: the server's answer. A later listing will find the name.
        """
        if self.on_server.in_use(inode) or (silly := inode.take_silly_name()) is None:
            return
        directory, name = silly.directory, silly.name
        self.on_server.close_deferred(inode)
        lookup = self._lookup
        try:
            changing = lookup.attributes.changing_name(directory, name)
            with override_caller(silly.remover), changing, lookup.table.changing(inode):
                await lookup.run_in(directory, name, allow_repeat(remove_file))
        finally:
            lookup.hidden_names.release(name)
            lookup.table.remove_name(directory, name)

    async def close_all(self) -> None:
        """Closes everything that is still open, at the end of the mount: all at the same time, as one server may be
        silent for longer than that end may take.
        """
        self._prefetch.clear()
        self.leases.deferred.clear()
        async with trio.open_nursery() as nursery:
            for handle in self.table.handle_numbers:
                nursery.start_soon(contain, "closing", partial(self.release, handle))
        self.leases.deferred.clear()


@dataclass(slots=True)
class _Closed:
    """What a close has come to, also if it was cancelled."""

    is_deferred: bool = False
    """Whether the handle is kept for the next open."""
    written: int | None = None
    """The last write time that it was closed with, in ns since 1970."""
    stat: FileStat | None = None
    """What the server said of the file then."""

"""FileOperations: the verbs on open files. How a file is opened is in opener.py, what a handle does when its connection
is lost in openfile.py, and what is kept of a file, when and for how long, in caching.py.

A write returns as soon as its data is taken; it is sent in larger pieces, several at once, see writeback.py. flush,
which is what close(2) waits for, returns when the server has everything, and so does whatever asks the server about the
file: a read, stat, truncation or another open. An error is given to the program once, by the write, flush or fsync that
comes next. fsync also has the server write to its disk. Of a file opened with O_SYNC or O_DSYNC each write waits until
its data is there. What a program leaves unsent is sent after LINGER seconds.

A file that is removed while it is open is renamed by dirops.py to a hidden name; the last release removes it.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.background import contain, keep_going
from dfsfs.caller import override_caller
from dfsfs.errors import DfsfsError, PosixError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.tree.lockedranges import is_lock_conflict
from dfsfs.smb.wire.constants import Access, LeaseState
from dfsfs.vfs.data.caching import CacheMode
from dfsfs.vfs.data.filetable import FileTable, raise_writeback_error
from dfsfs.vfs.data.lockedfiles import LockedFiles
from dfsfs.vfs.data.opener import Opener
from dfsfs.vfs.data.staleopens import StaleOpens
from dfsfs.vfs.data.writeback import Budget
from dfsfs.vfs.names.ordering import ASKS
from dfsfs.vfs.names.removals import allow_repeat, remove_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.copychunk import Range
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.data.caching import Caching, KernelCache
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

# Bound once: each read and write looks at one of them.
_READ_CACHING, _WRITE_CACHING = LeaseState.SMB2_LEASE_READ_CACHING, LeaseState.SMB2_LEASE_WRITE_CACHING
T = TypeVar("T")

INVALIDATE_TIMEOUT = 0.2
"""Seconds for which a write waits for the kernel to forget what readers have got meanwhile. If writes fill the queue of
requests that the kernel does not wait for, reads are behind them, and what is to be forgotten waits for those reads.
"""
LINGER = 1.0
"""Seconds that data may lie here before it is sent although it is little."""


@dataclass(frozen=True, slots=True)
class OpenResult:
    """`handle` is the number for later calls; `keep_cache`: whether data that the kernel has of the file is good;
    `direct`: whether it must keep none.
    """

    handle: int
    keep_cache: bool
    direct: bool


class FileOperations(FileTable):
    """The open files of a mount, by handle number."""

    def __init__(self, lookup: Lookup, kernel: KernelCache, caching: Caching) -> None:
        super().__init__(lookup, kernel, caching)
        self._next = 1
        self._written = trio.Event()
        self._stale = StaleOpens(lookup.clock)
        self._locks = LockedFiles(lookup.clock)
        self._opener = Opener(lookup, self._leases, self._prefetch, Budget())

    async def serve(self) -> None:
        """Sends what programs leave unsent, answers lease breaks, asks for folders. Runs until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, "leases", self._leases.serve)
            nursery.start_soon(keep_going, "prefetch", self._prefetch.serve)
            nursery.start_soon(keep_going, "folders on the way", self._lookup.offline.serve)
            await keep_going("writes", partial(self._send_unsent, nursery))

    async def _send_unsent(self, nursery: trio.Nursery) -> None:
        while True:
            await self._written.wait()
            await trio.sleep(LINGER)
            self._written = trio.Event()
            for file in self._handles.values():
                if file.writeback.pending:
                    nursery.start_soon(contain, "writes", partial(self._drain, file))

    # -- opening and closing ----------------------------------------------------------------------------------------

    async def open(self, ino: int, flags: int, process: int = 0) -> OpenResult:
        """Opens a file for a process, whose number is 0 if it is not known.

        A program that opens a name while somebody replaces its file again and again is told ESTALE once, upon which the
        kernel looks the name up again, and tries once more. If the file has been replaced by then, it gets the one that
        has its name now: all that can be asked of an open that comes at the same time. `Inode.forwarded` is that file,
        and nothing of its data is kept under the number of the other one.

        Raises:
            PosixError: EISDIR, it is a folder; ESTALE, another file has its name.
            DfsfsError: the server's answer.
        """
        inode = self._lookup.get_inode(ino)
        if inode.is_directory:
            raise PosixError(errno.EISDIR, f"{inode.name} is a directory")
        place = (inode.parent, inode.name) if inode.parent is not None else inode.detached_from
        await self.write_back(inode)
        try:
            result = await self._open(inode, flags)
            self._stale.opened(process, place)
            return result
        except DfsfsError as error:
            await self.remove_silly_renamed(
                inode
            )  # if it was removed meanwhile, for whom this would have been the last close
            if error.errno != errno.ESTALE or place is None or not self._stale.note_stale(process, place):
                raise
            if self.is_open(inode):
                raise  # what is shown of it belongs to those who have it open
        return await self._open_instead(inode, place, flags)

    async def _open(self, inode: Inode, flags: int) -> OpenResult:
        async with self._pending.opening(inode), self._lookup.directory_renames.run_when_free(inode):
            if not flags & os.O_TRUNC:
                return await self._register(await self._opener.open(inode, flags))
            async with self._resizing(inode):
                return await self._register(await self._opener.open(inode, flags))

    @asynccontextmanager
    async def _resizing(self, inode: Inode) -> AsyncIterator[None]:
        """While a file is cut or extended, what is to be written to it waits, and what was written is on the server."""
        with self._pending.resizing(inode):
            await self.write_back(inode)
            yield

    async def _open_instead(self, inode: Inode, place: tuple[Inode | None, str], flags: int) -> OpenResult:
        """Opens the file that has a name now, for a program that has asked for the one that had it before."""
        folder, name = place
        assert folder is not None, "only what was in a folder can have lost its place"
        for _ in range(ASKS):
            found = await self._lookup.look_up(folder, name)
            if found.is_directory:
                raise PosixError(errno.EISDIR, f"{name} is a directory")
            self._lookup.table.hold(found)
            try:
                result = await self._open(found, flags)
            except DfsfsError as error:
                await self.remove_silly_renamed(found)
                if error.errno != errno.ESTALE:
                    raise
            else:
                if found is not inode:
                    inode.forwarded = found
                    self._handles[result.handle].opened_instead_of = inode
                return replace(result, keep_cache=False, direct=True)
            finally:
                self._lookup.table.release(found)
        raise PosixError(errno.ESTALE, f"{name} is replaced again and again")

    async def create(self, parent: Inode, name: str, mode: int, flags: int) -> tuple[OpenResult, Inode]:
        """Makes and opens a file, or opens the one that is there unless O_EXCL is given. Counts no lookup.

        Raises:
            PosixError: EEXIST or EISDIR, the name is a DFS link; EIO, see opener.py.
            DfsfsError: the server's answer.
        """
        await self.write_back_name(parent, name)
        known = self._lookup.table.child(parent, name)
        async with AsyncExitStack() as stack:
            if known is not None:
                await stack.enter_async_context(self._pending.opening(known))
            await stack.enter_async_context(self._lookup.directory_renames.run_when_free(parent))
            file = await self._opener.create(parent, name, mode, flags)
            return await self._register(file), file.inode

    async def _register(self, file: OpenFile) -> OpenResult:
        inode, stat = file.inode, file.opened
        self._lookup.table.hold(inode)
        self._by_inode.setdefault(inode, []).append(file)
        handle, self._next = self._next, self._next + 1
        self._handles[handle] = file
        inode.writers += file.writable
        if file.writable:
            try:
                await self._begin_local_writes(file)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self.release(handle)
                raise
        keep_cache = self._leases.opened(inode, stat, file.remote[1].tree.server_time())
        if has_locks := self._locks.opened(inode, file.remote[0]):
            file.synchronous = True  # each write hears of its own error
        return OpenResult(handle, keep_cache, direct=has_locks or self._leases.mode is CacheMode.NONE)

    async def release(self, handle: int) -> None:
        """Closes a file. Nobody hears of an error any more, so it goes to the log."""
        file = self._handles.pop(handle, None)
        if file is None:
            return
        if file.read_streams is not None:
            file.read_streams.clear()
        if file.opened_instead_of is not None:
            file.opened_instead_of.forwarded = None
        inode, table = file.inode, self._lookup.table
        begun = table.begin_close(inode) if file.close_moves_times else None
        stat: FileStat | None = None
        written: int | None = None
        kept = False
        try:
            try:
                with self._pending.closing(inode):
                    await self._drain(file)
                    async with self._lookup.directory_renames.run_when_free(inode):
                        self._remove(file)
                        if not (kept := self._defer_close(file)):
                            written = await self._find_close_time(file)
                            if written is None and file.close_moves_times:
                                self._forget_write_time(inode)
                            stat = await file.close(written)
            finally:
                self._remove(file)
                if not kept:
                    file.discard()  # if it was given up before it was closed
                await self.remove_silly_renamed(inode)
        except DfsfsError as error:
            log.warning("closing %s: %s", inode.name, error)
        finally:
            inode.writers -= file.writable
            alone = begun is not None and table.end_change(inode, begun, keeps_attributes=True)
            if file.writable and not inode.writers:
                self._end_local_writes(inode, stat if alone and written is not None else None)
            self._leases.ended(inode, file.lease)
            table.release(inode)

    async def remove_silly_renamed(self, inode: Inode) -> None:
        """Removes a file, or the one of its names, that was removed here while it was open, if it is not any more.

        Raises:
            DfsfsError: the server's answer. A later listing will find it.
        """
        if self.in_use(inode) or (silly := inode.take_silly_name()) is None:
            return
        folder, name = silly.directory, silly.name
        self.close_deferred(inode)
        try:
            with (
                override_caller(silly.remover),
                self._lookup.attributes.changing_name(folder, name),
                self._lookup.table.changing(inode),
            ):
                await self._lookup.run_in(folder, name, allow_repeat(remove_file))
        finally:
            self._lookup.hidden_names.release(name)
            self._lookup.table.remove_name(folder, name)

    def _defer_close(self, file: OpenFile) -> bool:
        """Whether the handle stays open for the next program that opens the file."""
        inode = file.inode
        if file.writable or inode.silly is not None or not file.is_current or inode.location is None:
            return False
        if self._pending.are_opens_blocked(inode):
            return False
        if inode.lease is not file.lease or not inode.has_read_lease:
            return False
        return self._leases.deferred.put(inode, file.access, *file.remote)

    async def close_all(self) -> None:
        """Closes everything that is still open, at the end of the mount."""
        self._prefetch.clear()
        self._leases.deferred.clear()
        for handle in list(self._handles):
            await self.release(handle)
        self._leases.deferred.clear()

    # -- data -------------------------------------------------------------------------------------------------------

    async def read(self, handle: int, offset: int, size: int) -> Buffer:
        """Up to `size` bytes; fewer only at the end of the file. Raises DfsfsError."""
        file = self._file(handle)
        if (known := file.read_inline(offset, size, self._lookup.clock())) is not None:
            return known
        await self.write_back(file.inode)
        if self._leases.needs_renewal(file.inode, _READ_CACHING):
            await self._run(file, lambda attempt: self._leases.renew(file.inode, attempt, _READ_CACHING))
        self._leases.reads(file.inode)
        found = file.read_ahead(self._read_ahead, offset, size) if file.reads_ahead else None
        if found is not None and (data := await found.data()) is not None:
            return data
        try:
            return await self._run(file, lambda attempt: file.read(attempt, offset, size))
        except SmbError as error:
            if is_lock_conflict(error):
                self._locks.note_conflict(file.inode)
            raise

    async def write(self, handle: int, offset: int, data: Buffer) -> int:
        """Takes all of `data`; see the module's text for when the server has it. Raises DfsfsError."""
        file = self._file(handle)
        inode = file.inode
        for other in tuple(self._by_inode[inode]):
            if other is not file and other.writeback.pending:
                await self._drain(other)
        own = inode.local_writes
        if not file.writable or own is None:
            raise PosixError(errno.EBADF, f"{inode.name} is not open to be written")
        await self._pending.wait_resizes(inode)
        # While others have the file open, they may have appended to it.
        is_shared = not inode.is_exclusive and self._leases.mode is not CacheMode.LOOSE
        if own.is_size_unsure or (file.appends and is_shared):
            await self._refresh_size(file, own)
        believed = max(inode.kernel_size, offset + len(data))
        if file.appends and offset != own.append_offset and not file.is_of_a_map(offset, len(data)):
            offset = own.append_offset
            self._leases.invalidate_soon(inode)  # the kernel has put the data where it believes the end to be
        self._note_kernel_size(inode, believed)
        begun = self._lookup.table.begin_change(inode, keeps_attributes=True)
        own.reserved = max(own.reserved, offset + len(data))  # at once: what somebody else appends goes behind it
        try:
            if file.synchronous or await self._writes_through(file) or not await self._buffer(file, offset, data):
                await self._write_now(file, offset, data)
        except BaseException:
            self._note_lost_write(inode)
            raise
        finally:
            self._lookup.table.end_change(inode, begun, keeps_attributes=True)
        own.size, own.bytes_written = max(own.size, offset + len(data)), own.bytes_written + len(data)
        self._note_write_time(file, own)
        return len(data)

    async def _write_now(self, file: OpenFile, offset: int, data: Buffer) -> None:
        """Has the server write data, and waits for it."""
        # The kernel drops what it has of that part before the write, but not what readers put there during one that is
        # asynchronous.
        forgets = file.is_direct and any(not other.is_direct for other in self._by_inode.get(file.inode, ()))
        try:
            await self._run(file, lambda attempt: file.write(attempt, offset, data))
            if forgets:
                with trio.move_on_after(INVALIDATE_TIMEOUT):
                    await self._leases.kernel.forget(file.inode.ino)
        except BaseException:
            if forgets:
                self._leases.invalidate_soon(file.inode)  # perhaps it was written
            raise

    async def _writes_through(self, file: OpenFile) -> bool:
        """Whether others have the file open and must see what is written at once."""
        if not self._leases.writes_through(file.inode):
            return False
        if self._leases.needs_renewal(file.inode, _WRITE_CACHING):
            await self._run(file, lambda attempt: self._leases.renew(file.inode, attempt, _WRITE_CACHING))
            if not self._leases.writes_through(file.inode):
                return False
        await self._drain_or_raise(file)
        return True

    async def _buffer(self, file: OpenFile, offset: int, data: Buffer) -> bool:
        """Whether data was taken to be written behind the program's back, perhaps after waiting for room."""
        while True:
            raise_writeback_error(file)
            if file.buffer_write(offset, data):
                if file.dirty_since is None:
                    file.dirty_since = self._lookup.table.begin_change(file.inode, keeps_attributes=True)
                self._written.set()
                return True
            if not file.writeback.pending:
                return False
            await file.wait_oldest(self._rewrite(file))
            self._note_answered_write(file)

    async def flush(self, handle: int) -> None:
        """Says whether what was written has reached the server and is not lost. Raises DfsfsError if not."""
        file = self._file(handle)
        await self._drain_or_raise(file)
        if file.close_moves_times and file.access & Access.FILE_READ_DATA:
            # It may have been mapped, and the kernel does not drop attributes for what it writes back of a map.
            await self._leases.kernel.invalidate_attributes(file.inode.ino)
        if (file.unsynced or file.poisoned) and not file.is_current:
            await self._run(file, file.check_target)

    async def fsync(self, handle: int) -> None:
        """Has the server write the file to its disk. Raises DfsfsError."""
        file: OpenFile | None = self._file(handle)
        assert file is not None
        await self.write_back(file.inode)
        raise_writeback_error(file)
        if not file.writable:
            # A server refuses FLUSH on such a handle (MS-SMB2 3.3.5.11); what else this mount wrote still counts.
            file = self.writable(file.inode)
        if file is not None:
            await self._run(file, file.flush)

    async def copy(self, reader: OpenFile, writer: OpenFile, wanted: Range) -> None:
        """Has the server copy a part of one open file into another one. Raises DfsfsError, EXDEV on two servers."""
        await self._run(reader, reader.check_target)
        source, inode = reader.remote[0], writer.inode
        try:
            with self._lookup.table.changing(inode):
                await self._run(writer, lambda attempt: writer.copy_from(attempt, source, wanted))
            await self._leases.kernel.forget(inode.ino)
        except BaseException:
            self._note_lost_write(inode)
            self._leases.invalidate_soon(inode)  # a part may have been copied, and who is cancelled waits for nothing
            raise
        if inode.local_writes is not None:
            inode.local_writes.size = max(inode.local_writes.size, wanted.target + wanted.length)
            self._note_write_time(writer, inode.local_writes)

    async def set_size(self, inode: Inode, handle: int | None, size: int) -> None:
        """Cuts or extends a file, through a handle if one may write. Raises DfsfsError."""
        async with self._resizing(inode):
            file = self._handles.get(handle) if handle is not None else None
            if file is None or not file.writable:
                file = self.writable(inode)
            await (self._truncate_by_name(inode, size) if file is None else self._truncate_handle(file, size, handle))
        self._note_kernel_size(inode, size)

    async def _truncate_handle(self, file: OpenFile, size: int, handle: int | None) -> None:
        """Sets the size through a handle; `handle` None: it is another program's, and may be closed meanwhile."""
        inode, table = file.inode, self._lookup.table
        begun = table.begin_change(inode, keeps_attributes=True)
        try:
            await self._run(file, lambda attempt: file.set_size(attempt, size))
        except SmbError as error:
            if error.status != NtStatus.FILE_CLOSED or handle is not None:
                raise
            await self._truncate_by_name(inode, size)
        finally:
            table.end_change(inode, begun, keeps_attributes=True)
        if inode.local_writes is not None:
            inode.local_writes.set_size(size)
            self._note_write_time(file, inode.local_writes)

    async def _truncate_by_name(self, inode: Inode, size: int) -> None:
        moves_time = inode.stat is None or inode.stat.size != size or inode.local_writes is not None

        async def operation(attempt: Attempt) -> FileStat:
            written = attempt.tree.server_time() if moves_time else None
            return await attempt.tree.set_size(attempt.path, size, written)

        self.close_deferred(inode)
        table = self._lookup.table
        begun, alone = table.begin_change(inode), False
        try:
            stat = await self._lookup.change_by_name(inode, operation)
        finally:
            alone = table.end_change(inode, begun)
        if moves_time:
            self._note_time_set(inode)
        if inode.local_writes is not None:  # whoever had it open for writing is just closing it
            inode.local_writes.set_size(size)
            inode.local_writes.written = stat.written
        if alone:
            self._lookup.attributes.update(inode, stat, table.version)

    async def set_basic(self, inode: Inode, info: bytes, *, sets_time: bool) -> FileStat | None:
        """Sets times and attributes. Through every handle that has written, or else its close sets the times again.

        `sets_time`: the last write time is among them. Returns what the server knows of the file then, if it was asked.
        """
        await self.write_back(inode)
        written = [file for file in self._handles_of_caller(inode) if file.written]
        stat: FileStat | None = None
        for file in written:
            stat = await self._set_basic_on(file, info)
        if not written:
            stat = await self._lookup.change_by_name(inode, lambda attempt: _set_basic(attempt, inode, info))
        if sets_time:
            self._note_time_set(inode)
            if inode.local_writes is not None:
                inode.local_writes.written = 0
            for file in self._by_inode.get(inode, ()):
                file.close_moves_times = False
        return stat

    async def _set_basic_on(self, file: OpenFile, info: bytes) -> FileStat:
        return await self._run(file, lambda attempt: file.set_basic(attempt, info))


async def _set_basic(attempt: Attempt, inode: Inode, info: bytes) -> FileStat | None:
    """The operation that sets times and attributes by name. What the server says of the file then, if it was asked."""
    if inode.is_reparse_point:
        await attempt.tree.set_basic_special(attempt.path, info)
        return None
    return await attempt.tree.set_basic(attempt.path, info)

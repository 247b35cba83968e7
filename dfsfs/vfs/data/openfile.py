"""OpenFile: a file that a program has open, through reconnects and failovers.

A RemoteFile dies with its connection; the program's file does not. Each operation asks for a live handle with the
attempt it is part of, and one of these happens:

    the handle is alive, its target is the attempt's    it is used
    same target, handle lost (reconnect)                opened again by path; another file id there means ESTALE.
                                                        Positioned writes may be sent again: the result is the same
    another target, handle alive (failback)             it is used where it is: see `is_on_former_target`
    another target (failover), written through it       POISONED: what this server acknowledged may not be on that one.
                                                        write, flush, fsync and so close(2) say EIO from now on
    another target, nothing written through it          opened again by path if size and last write time are those of
                                                        the open; else, or if the file was changed through this mount in
                                                        the meantime, ESTALE

A small file's data comes along when it is opened, or was fetched before anybody asked (prefetch.py); then the handle is
closed already, which is the second case, should anybody want more than that data. It is used for as long as attributes
are believed, and only while nothing changes the file here. If the file has been replaced by then, the program goes on
with what was fetched of the old one, if that is all of it: that is the file which it has opened. So it does if the
server has no more handles (handlelimit.py).

Which target a handle is on counts, not the generation: a junction that went to another target and came back finds its
handles good. A file without a place (removed or replaced on the server) has no path to open it again by: it is used as
long as its handle lives.

Concurrency: one task opens again, the others wait for `_lock` and use what it got. The lock is taken while nothing
else of the file system is held.

What this does not do: it retries nothing (`Namespace.run` does), and it does not know the handle numbers of the kernel.
"""

from __future__ import annotations

import errno
import logging
import mmap
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError, Disposition, PosixError
from dfsfs.smb.tree.lockedranges import read_around_locks
from dfsfs.smb.wire.constants import Access, CreateDisposition, CreateOptions
from dfsfs.vfs.data.readahead import ReadStreams
from dfsfs.vfs.names.handlelimit import is_handle_shortage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dfsfs.namespace.junction import Attempt, TargetBinding
    from dfsfs.smb.connection.leases import Lease, LeaseRequest
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.wire.copychunk import Range
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.data.readahead import AheadData, ReadAhead
    from dfsfs.vfs.data.writeback import Rewrite, Writeback
    from dfsfs.vfs.names.inodetable import Inode

    LeaseSource = Callable[[Attempt, Inode, Access], LeaseRequest | None]
    """The lease that a file is to be opened with."""

log = logging.getLogger("dfsfs.vfs")

PAGE = mmap.PAGESIZE
"""Bytes of the kernel's pages."""
COPY_MAX = 16 * 1024
"""Bytes of a file's beginning that are copied from the answer that they came in, which shares a buffer of 64 KiB with
others. Larger ones have most of a buffer."""


class OpenFile:
    """See the module's text. Operations take the attempt that they are part of, or None for a file without a place.

    All of them raise PosixError (ESTALE, EIO as above) and what the RemoteFile raises.
    """

    __slots__ = (
        "_ask_lease",
        "_binding",
        "_breaks_at_open",
        "_changes_at_open",
        "_closed",
        "_discarded",
        "_has_left_target",
        "_inline",
        "_inline_expires",
        "_lock",
        "_opened",
        "_poison",
        "_remote",
        "_whole_file",
        "access",
        "appends",
        "asked",
        "close_moves_times",
        "dirty_since",
        "inode",
        "is_direct",
        "opened_instead_of",
        "read_streams",
        "reads_ahead",
        "synchronous",
        "unsynced",
        "user",
        "writeback",
        "written",
    )

    def __init__(
        self,
        inode: Inode,
        access: Access,
        remote: RemoteFile,
        binding: TargetBinding,
        writeback: Writeback,
        *,
        asked: int,
        appends: bool = False,
        synchronous: bool = False,
        reads_ahead: bool = False,
        is_direct: bool = False,
        inline_expires: float = 0.0,
        ask_lease: LeaseSource,
    ) -> None:
        self.inode = inode
        self.user = current_caller()
        """Who has opened it: everything that is done with the handle is done for them."""
        self.access = access
        self.asked = asked
        """The moment at which `opened`, and the data that came along, was asked for: see ordering.py."""
        self.dirty_since: int | None = None
        """The moment since which something that was written waits to be acknowledged."""
        self.close_moves_times = False
        """Whether the server will move the file's times when the handle is closed."""
        self.writeback = writeback
        """What was written and the server has not acknowledged yet."""
        self.read_streams: ReadStreams | None = None
        """What is read ahead, if anything was read that calls for it."""
        self.appends = appends
        """Opened with O_APPEND."""
        self.synchronous = synchronous
        """Opened with O_SYNC, O_DSYNC or O_DIRECT: each write waits for the server."""
        self.reads_ahead = reads_ahead
        """Whether what the program may read next is asked for before it does."""
        self.is_direct = is_direct
        """Opened with O_DIRECT: what is written does not go through the kernel's page cache."""
        self.opened_instead_of: Inode | None = None
        """The file that the program had asked for, if that had lost its name: see Files.open."""
        self.written = False
        """Whether a change through this handle was acknowledged to the program."""
        self.unsynced = False
        """Whether a change was acknowledged since the last fsync."""
        self._remote = remote
        self._binding = binding
        self._opened: FileStat = remote.stat
        self._changes_at_open = inode.change_count
        self._breaks_at_open = inode.page_cache.breaks
        self._ask_lease = ask_lease
        self._inline, remote.inline_data = _copy_if_small(remote.inline_data), None
        is_all = self._inline is not None and len(self._inline) >= remote.stat.size
        self._whole_file = self._inline if is_all and not remote.alive else None
        self._inline_expires = inline_expires
        self._poison: PosixError | None = None
        self._has_left_target = False
        self._closed = self._discarded = False
        self._lock = trio.Lock()

    @property
    def writable(self) -> bool:
        return bool(self.access & Access.FILE_WRITE_DATA)

    @property
    def alive(self) -> bool:
        return self._remote.alive

    @property
    def poisoned(self) -> bool:
        return self._poison is not None

    @property
    def opened(self) -> FileStat:
        """What the server said when the file was opened."""
        return self._opened

    @property
    def lease(self) -> Lease | None:
        """The lease that the handle is under."""
        return self._remote.lease

    @property
    def remote(self) -> tuple[RemoteFile, TargetBinding]:
        """The handle and where it is."""
        return self._remote, self._binding

    @property
    def is_current(self) -> bool:
        """Whether the handle is alive and on the target that its inode leads to now: then nothing can have been
        lost."""
        location = self.inode.location
        if self._poison is not None or not self._remote.alive:
            return False
        binding = location.junction.binding if location is not None else None
        return binding is None or binding.target == self._binding.target

    @property
    def is_on_former_target(self) -> bool:
        """Whether the handle lives on a target that its junction has left for a better one. It stays good there."""
        location = self.inode.location
        if location is None or self._has_left_target or not self._remote.alive:
            return False
        binding = location.junction.binding
        return binding is not None and binding.target != self._binding.target

    def leave_target(self) -> None:
        """The target that the handle is on does not serve it any more: the next operation opens it on another one."""
        self._has_left_target = True

    # -- operations -------------------------------------------------------------------------------------------------

    async def read(self, attempt: Attempt | None, offset: int, size: int) -> Buffer:
        """Up to `size` bytes at `offset`; fewer only at the end of the file."""
        try:
            remote = self._usable_for(attempt) or await self._reopen(attempt)
        except DfsfsError as error:
            if self._whole_file is None or not _leaves_inline_data(error):
                raise
            return memoryview(self._whole_file)[offset : offset + size]
        return await read_around_locks(remote, offset, size)

    async def write(self, attempt: Attempt | None, offset: int, data: Buffer) -> None:
        """Writes all of `data`; it is on the server when this returns."""
        remote = self._usable_for(attempt) or await self._reopen(attempt)
        await remote.write(offset, data)
        self.note_write()

    def is_of_a_map(self, offset: int, size: int) -> bool:
        """Whether data that comes by way of a file opened with O_APPEND was written to a memory map of it.

        That belongs where it says. The kernel writes maps back in whole pages, through a handle that may read and
        write, inside of the size that it believes in (`Inode.kernel_size`); and it has appended data begin at that
        size.
        """
        own = self.inode.local_writes
        if (
            own is None
            or not (self.access & Access.FILE_READ_DATA)
            or offset % PAGE
            or offset == self.inode.kernel_size
        ):
            return False
        return offset + size <= own.size and (size % PAGE == 0 or offset + size == own.size)

    def note_write(self) -> None:
        """Data of the file was changed through this handle."""
        self.written = self.unsynced = self.close_moves_times = True

    def read_inline(self, offset: int, size: int, now: float) -> Buffer | None:
        """What a read would give, if that came along with the open and is still to be believed."""
        head = self._inline
        if head is None:
            return None
        overtaken = self.inode.has_changed_since(self.asked) or self.inode.page_cache.breaks != self._breaks_at_open
        if now >= self._inline_expires or overtaken or self._poison is not None:
            self._inline = None
            return None
        if offset + size > len(head) and len(head) < self._opened.size:
            return None
        return memoryview(head)[offset : offset + size]

    def drop_old_inline(self, now: float) -> None:
        """Lets go of what came along with the open, if it is not to be believed any more."""
        if now >= self._inline_expires:
            self._inline = None

    def read_ahead(self, ahead: ReadAhead, offset: int, size: int) -> AheadData | None:
        """Takes note of a read, starts what may be read next, and returns the way to the data if that is coming."""
        if not self.is_current:
            return None
        if self.read_streams is None:
            self.read_streams = ReadStreams(ahead)
        inode = self.inode
        end = (
            inode.local_writes.size
            if inode.local_writes is not None
            else inode.stat.size
            if inode.stat is not None
            else 0
        )
        return self.read_streams.find(
            self._remote, (self._remote, inode.changed_at, inode.page_cache.breaks), offset, size, end
        )

    def buffer_write(self, offset: int, data: Buffer) -> bool:
        """Takes data to be written without waiting, if there is room and the handle is the right one for it."""
        if not (self.writable and self.is_current and self.writeback.add(self._remote, offset, data)):
            return False
        self.note_write()
        return True

    async def drain(self, rewrite: Rewrite) -> None:
        """Returns when nothing is outstanding; an error is kept in `writeback`."""
        await self.writeback.drain(self._remote, rewrite)

    async def wait_oldest(self, rewrite: Rewrite) -> None:
        """Returns when the oldest of what is outstanding is on the server, or its error is kept in `writeback`."""
        await self.writeback.wait_oldest(self._remote, rewrite)

    async def set_size(self, attempt: Attempt | None, size: int) -> None:
        remote = self._usable_for(attempt) or await self._reopen(attempt)
        await remote.set_size(size)
        self.note_write()

    async def set_basic(self, attempt: Attempt | None, info: bytes) -> FileStat:
        """Sets times and attributes. On a handle that has written, so that its close does not set the times again."""
        remote = self._usable_for(attempt) or await self._reopen(attempt)
        return await remote.set_basic(info)

    async def query(self, attempt: Attempt | None) -> FileStat:
        try:
            remote = self._usable_for(attempt) or await self._reopen(attempt)
        except DfsfsError as error:
            if self._whole_file is None or not _leaves_inline_data(error):
                raise
            return self._opened
        return await remote.query()

    async def copy_from(self, attempt: Attempt | None, source: RemoteFile, wanted: Range) -> None:
        """Has the server write a part of another file into this one.

        Raises:
            PosixError: EXDEV, the other file is on another server.
        """
        remote = self._usable_for(attempt) or await self._reopen(attempt)
        if remote.tree.connection is not source.tree.connection:
            raise PosixError(errno.EXDEV, f"{source.path} and {remote.path} are not on one server")
        await remote.copy_from(source, wanted)
        self.note_write()

    async def flush(self, attempt: Attempt | None) -> None:
        """Returns when what was written is on the server's disk."""
        remote = self._usable_for(attempt) or await self._reopen(attempt)
        await remote.flush()
        self.unsynced = False

    async def check_target(self, attempt: Attempt | None) -> None:
        """Makes sure that what was written has not been left behind on another target; sends nothing if it is here."""
        if self._usable_for(attempt) is None:
            await self._reopen(attempt)

    async def close(self, written: int | None = None) -> FileStat | None:
        """Closes the handle on the server, if it is still open there; nothing opens it again.

        `written`: the last write time that the file is to have, in ns since 1970, if not what the server makes of it.
        Returns what the server knows of the file then, if something was written and it says so.
        """
        self._closed = True
        async with self._lock:
            # One that was opened again has not been written through, and yet is the last to say.
            self._remote.is_written |= written is not None
            return await self._remote.close(written)

    def discard(self) -> None:
        """Closes the handle without waiting for the server; nothing opens it again. After `close` it does nothing."""
        self._closed = self._discarded = True
        self._remote.discard()

    async def close_on_server(self) -> None:
        """Closes the handle on the server for now; the next operation opens the file again, wherever it is then."""
        if self.read_streams is not None:
            self.read_streams.clear()
        async with self._lock:
            await self._remote.close()

    @asynccontextmanager
    async def closed_on_server(self, drain: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Closes the handle on the server, and lets nobody open it again before this ends: by its inode's name of then.

        `drain` returns when nothing is outstanding.
        """
        while True:
            await drain()
            async with self._lock:
                if self.writeback.pending and self._remote.alive:
                    continue
                if self.read_streams is not None:
                    self.read_streams.clear()
                await self._remote.close()
                yield
                return

    # -- which handle -----------------------------------------------------------------------------------------------

    def _usable_for(self, attempt: Attempt | None) -> RemoteFile | None:
        """The handle if it is fit for this attempt.

        Raises:
            PosixError: EIO if the file is poisoned.
        """
        if self._poison is not None:
            raise PosixError(self._poison.errno, str(self._poison))
        if self._remote.alive and (attempt is None or self._is_on(attempt)):
            return self._remote
        return None

    def _is_on(self, attempt: Attempt) -> bool:
        return attempt.binding is self._binding or attempt.binding.target == self._binding.target

    async def _reopen(self, attempt: Attempt | None) -> RemoteFile:
        """A new handle in place of one that was lost or is on another target."""
        if attempt is None:
            raise PosixError(errno.ESTALE, f"{self._remote.path} is gone, and so is the connection that it was open on")
        async with self._lock:
            remote = self._usable_for(attempt)
            if remote is not None:
                return remote
            if self._closed:
                raise PosixError(errno.EBADF, f"{self.inode.name} was closed in the meantime")
            attempt = self._at_current_path(attempt)
            if self._is_on(attempt):
                remote = await self._open(attempt)
                if self.inode.file_id and _differs(remote.stat.file_id, self._opened.file_id):
                    raise await _close_and_refuse(
                        remote, f"{attempt.path} is another file since the connection was lost"
                    )
            else:
                remote = await self._open_on_other_target(attempt)
            if self._discarded:
                raise await _close_and_refuse(remote, f"{self.inode.name} was closed in the meantime")
            self._remote.discard()
            self._remote, self._binding, self._has_left_target = remote, attempt.binding, False
            return remote

    async def _open_on_other_target(self, attempt: Attempt) -> RemoteFile:
        """A handle on another target, if nothing can have been lost or changed on the way there."""
        before = self._binding.target
        if self.written:
            text = f"{self.inode.name}: was written to on {before}; {attempt.binding.target} may not have that data"
            log.error("%s: this open file reports an error until it is closed", text)
            self._poison = PosixError(errno.EIO, text)
            raise self._poison
        if self.inode.change_count != self._changes_at_open:
            raise PosixError(errno.ESTALE, f"{attempt.path} was changed on {before} while it was open")
        remote = await self._open(attempt)
        now, then = remote.stat, self._opened
        if (now.size, now.written) != (then.size, then.written):
            raise await _close_and_refuse(remote, f"{attempt.path} is not the same as on {before}, where it was opened")
        self._opened = now
        return remote

    def _at_current_path(self, attempt: Attempt) -> Attempt:
        """The attempt at where the file is now: it may have been given another name while this waited."""
        location = self.inode.location
        if location is None:
            return attempt
        return replace(attempt, path=attempt.binding.target.join(location.components))

    async def _open(self, attempt: Attempt) -> RemoteFile:
        try:
            return await attempt.tree.open(
                attempt.path,
                access=self.access,
                disposition=CreateDisposition.FILE_OPEN,
                options=CreateOptions.FILE_NON_DIRECTORY_FILE,
                lease=self._ask_lease(attempt, self.inode, self.access),
            )
        except DfsfsError as error:
            if error.disposition is Disposition.RETURN and error.errno in (errno.ENOENT, errno.EISDIR):
                raise PosixError(errno.ESTALE, f"{attempt.path} can't be opened again: {error}") from error
            raise


def _leaves_inline_data(error: DfsfsError) -> bool:
    """Whether a file that can't be opened again is still what came along with its open: it has been replaced, or the
    server has no handle for it.
    """
    return (isinstance(error, PosixError) and error.errno == errno.ESTALE) or is_handle_shortage(error)


def _copy_if_small(head: Buffer | None) -> Buffer | None:
    """The beginning of a file, apart from the buffer that it came in: while a view of that is left, all of it stays."""
    return bytes(head) if head is not None and len(head) <= COPY_MAX else head


def _differs(one: int, other: int) -> bool:
    """Whether two file ids are of two files; 0 is none."""
    return bool(one and other and one != other)


async def _close_and_refuse(remote: RemoteFile, text: str) -> PosixError:
    try:
        await remote.close()
    except DfsfsError:
        pass  # nothing was written through it
    return PosixError(errno.ESTALE, text)

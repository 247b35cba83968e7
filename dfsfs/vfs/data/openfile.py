"""OpenFile: a file that a program has open, through reconnects and failovers.

A RemoteFile ends with its connection; the program's file does not. Each operation asks for a live handle for the
attempt that it is part of, and one of these happens:

    the handle is alive, its target is the attempt's    it is used
    same target, handle lost (reconnect)                opened again by path; another file id there means ESTALE.
                                                        Positioned writes may be sent again: the result is the same
    another target, handle alive (failback)             it is used where it is: see `is_on_former_target`
    another target (failover), written through it       POISONED: what this server acknowledged may not be on that one.
                                                        write, flush, fsync and so close(2) say EIO from now on
    another target, nothing written through it          opened again by path if size and last write time are those of
                                                        the open; else, or if the file was changed through this mount in
                                                        the meantime, ESTALE

Inline data is a small file's content that came with the answer to its open, or was prefetched (prefetch.py). In that
case the server's handle is closed already, and an operation that needs more than the data opens it again, as in the
second case. Inline data is used for as long as attributes are believed, and only while nothing changes the file here.
If the file has been replaced on the server by then, or the server has no handles left (handlelimit.py), reads go on
with the inline data if that is the whole file: it is of the file that the program has opened.

The target that a handle is on decides, not the junction's generation: handles are good again if the junction comes back
to their target. A file without a path (removed or replaced on the server) can't be opened again: it can be used for as
long as its handle lives.

Concurrency: one task opens again, the others wait for `_lock` and use what it got. No other lock of the file system is
held when it is taken.

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
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.data.ranges import KnownRanges
    from dfsfs.vfs.data.readahead import AheadData, ReadAhead
    from dfsfs.vfs.data.writeback import Rewrite, Writeback
    from dfsfs.vfs.names.inodetable import Inode

    LeaseSource = Callable[[Attempt, Inode, Access], LeaseRequest | None]
    """The lease that a file is to be opened with."""

log = logging.getLogger("dfsfs.vfs")

PAGE = mmap.PAGESIZE
"""Bytes of a page of the kernel."""
COPY_MAX = 16 * 1024
"""Bytes of the largest inline data that is copied out of the buffer that it was received into. That buffer has 64 KiB
and is shared with other answers; larger data takes most of one."""


class OpenFile:
    """See the module's text. Operations take the attempt that they are part of, or None for a file without a path.

    They raise PosixError (ESTALE and EIO as above) and what the RemoteFile raises.
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
        "allocated",
        "appends",
        "asked",
        "close_moves_times",
        "dirty_since",
        "has_written",
        "inode",
        "is_direct",
        "opened_instead_of",
        "read_streams",
        "reads_ahead",
        "synchronous",
        "unsynced",
        "user",
        "writeback",
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
        """The user who has opened it, for whom everything is done that is done with the handle."""
        self.access = access
        self.asked = asked
        """The moment (ordering.py) at which `opened` and the inline data were asked for."""
        self.dirty_since: int | None = None
        """The moment (ordering.py) at which the oldest write without an answer began, None if there is none."""
        self.close_moves_times = False
        """Whether the server will set the file's times when the handle is closed."""
        self.writeback = writeback
        """Data that was written and the server has not acknowledged."""
        self.allocated: KnownRanges | None = None
        """What its server said last of its holes, if it was asked."""
        self.read_streams: ReadStreams | None = None
        """The positions at which the file is read, and what is read ahead of them; None before the first read."""
        self.appends = appends
        """Whether it was opened with O_APPEND."""
        self.synchronous = synchronous
        """Whether each write waits for the server: O_SYNC, O_DSYNC, O_DIRECT, cache=none, locks of other clients."""
        self.reads_ahead = reads_ahead
        """Whether data is read ahead."""
        self.is_direct = is_direct
        """Whether it was opened with O_DIRECT: writes do not go through the kernel's page cache."""
        self.opened_instead_of: Inode | None = None
        """The file that the program had asked for, if this one has its name by now: see `FileOperations.open`."""
        self.has_written = False
        """Whether a change through this handle has succeeded, as far as the program knows."""
        self.unsynced = False
        """Whether there was such a change since the last fsync."""
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
        """The handle on the server, and the target that it is on."""
        return self._remote, self._binding

    @property
    def is_current(self) -> bool:
        """Whether the handle is alive and on the target that its inode leads to now: then nothing is lost."""
        location = self.inode.location
        if self._poison is not None or not self._remote.alive:
            return False
        binding = location.junction.for_caller().binding if location is not None else None
        return binding is None or binding.target == self._binding.target

    @property
    def is_on_former_target(self) -> bool:
        """Whether the handle is alive on a target that its junction has left for a better one. It is good there."""
        location = self.inode.location
        if location is None or self._has_left_target or not self._remote.alive:
            return False
        binding = location.junction.for_caller().binding
        return binding is not None and binding.target != self._binding.target

    def leave_target(self) -> None:
        """The former target does not serve the handle any more: the next operation opens the file on the new one."""
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

    def is_from_map(self, offset: int, size: int) -> bool:
        """Whether data that comes by way of a file opened with O_APPEND was written to a memory map of the file, and so
        belongs at its offset.

        The kernel writes maps back in whole pages, through a handle that may read and write, and not beyond the size
        that it believes in (`Inode.kernel_size`); what it appends begins at that size.
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
        """Records that data was changed through this handle."""
        self.has_written = self.unsynced = self.close_moves_times = True

    def read_inline(self, offset: int, size: int, now: float) -> Buffer | None:
        """What a read would give, if the inline data has it and may still be believed; else None."""
        data = self._inline
        if data is None:
            return None
        overtaken = self.inode.has_changed_since(self.asked) or self.inode.page_cache.breaks != self._breaks_at_open
        if now >= self._inline_expires or overtaken or self._poison is not None:
            self._inline = None
            return None
        if offset + size > len(data) and len(data) < self._opened.size:
            return None
        return memoryview(data)[offset : offset + size]

    def drop_old_inline(self, now: float) -> None:
        """Drops the inline data if it may not be believed any more. `now`: seconds of the file system's clock."""
        if now >= self._inline_expires:
            self._inline = None

    def read_ahead(self, ahead: ReadAhead, offset: int, size: int) -> AheadData | None:
        """Records a read and starts those that are expected next. Returns the data, or what is on its way of it, if it
        was read ahead; else None.
        """
        if not self.is_current:
            return None
        if self.read_streams is None:
            self.read_streams = ReadStreams(ahead)
        inode, local = self.inode, self.inode.local_writes
        end = local.size if local is not None else inode.stat.size if inode.stat is not None else 0
        stamp = (self._remote, inode.changed_at, inode.page_cache.breaks)
        return self.read_streams.find(self._remote, stamp, offset, size, end)

    def buffer_write(self, offset: int, data: Buffer) -> bool:
        """Takes data to be sent later. Returns False, and takes nothing, if there is no room or the handle is lost."""
        if not (self.writable and self.is_current and self.writeback.add(self._remote, offset, data)):
            return False
        self.note_write()
        return True

    async def drain(self, rewrite: Rewrite) -> None:
        """Returns when nothing is dirty any more; an error is kept in `writeback`."""
        await self.writeback.drain(self._remote, rewrite)

    async def wait_oldest(self, rewrite: Rewrite) -> None:
        """Returns when the oldest dirty data is on the server, or its error is kept in `writeback`."""
        await self.writeback.wait_oldest(self._remote, rewrite)

    async def set_size(self, attempt: Attempt | None, size: int) -> None:
        remote = self._usable_for(attempt) or await self._reopen(attempt)
        await remote.set_size(size)
        self.note_write()

    async def set_basic(self, attempt: Attempt | None, info: bytes) -> FileStat:
        """Sets times and attributes (FILE_BASIC_INFORMATION). Done through a handle that has written, this keeps its
        close from setting the times again.
        """
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

    async def get_handle(self, attempt: Attempt | None) -> RemoteFile:
        """The handle on the server, for what ranges.py and rangecopy.py do with it."""
        return self._usable_for(attempt) or await self._reopen(attempt)

    async def flush(self, attempt: Attempt | None) -> None:
        """Returns when what was written is on the server's disk."""
        remote = self._usable_for(attempt) or await self._reopen(attempt)
        await remote.flush()
        self.unsynced = False

    async def check_target(self, attempt: Attempt | None) -> None:
        """Makes sure that the target is the one that was written to. Sends nothing if the handle is good."""
        if self._usable_for(attempt) is None:
            await self._reopen(attempt)

    async def close(self, written: int | None = None) -> FileStat | None:
        """Closes the handle on the server, if it is still open there, for good.

        `written`: the last write time that the file is to have, in ns since 1970; None leaves it to the server.
        Returns what the server says of the file in its answer, None if nothing was written or it says nothing.
        """
        self._closed = True
        async with self._lock:
            # A handle that was opened again has not been written through, and yet its close sets the time.
            self._remote.is_written |= written is not None
            return await self._remote.close(written)

    def discard(self) -> None:
        """Closes the handle for good, without waiting for the server. After `close` it does nothing."""
        self._closed = self._discarded = True
        self._remote.discard()

    async def close_on_server(self) -> None:
        """Closes the handle on the server. The next operation opens the file again, under the path that it has then."""
        if self.read_streams is not None:
            self.read_streams.clear()
        async with self._lock:
            await self._remote.close()

    @asynccontextmanager
    async def closed_on_server(self, drain: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """While the block runs, the handle is closed on the server, and operations that need it wait. After that they
        open the file again, under the path that it has then. `drain` returns when nothing is dirty.
        """
        while True:
            await drain()
            async with self._lock:
                if self.writeback.is_dirty and self._remote.alive:
                    continue
                if self.read_streams is not None:
                    self.read_streams.clear()
                await self._remote.close()
                yield
                return

    # -- which handle -----------------------------------------------------------------------------------------------

    def _usable_for(self, attempt: Attempt | None) -> RemoteFile | None:
        """The handle if it is good for this attempt, else None. Raises: PosixError: EIO, the file is poisoned."""
        if self._poison is not None:
            raise PosixError(self._poison.errno, str(self._poison))
        if self._remote.alive and (attempt is None or self._is_on(attempt)):
            return self._remote
        return None

    def _is_on(self, attempt: Attempt) -> bool:
        return attempt.binding is self._binding or attempt.binding.target == self._binding.target

    async def _reopen(self, attempt: Attempt | None) -> RemoteFile:
        """Opens a new handle in place of one that was lost or is on another target."""
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
        """Opens a handle on another target, if nothing can have been lost or changed on the way there."""
        before = self._binding.target
        if self.has_written:
            text = f"{self.inode.name}: was written to on {before}; {attempt.binding.target} may not have that data"
            log.error("%s: this open file reports an error until it is closed", text)
            self._poison = PosixError(errno.EIO, text)
            raise self._poison.with_traceback(None)
        if self.inode.change_count != self._changes_at_open:
            raise PosixError(errno.ESTALE, f"{attempt.path} was changed on {before} while it was open")
        remote = await self._open(attempt)
        now, then = remote.stat, self._opened
        if (now.size, now.written) != (then.size, then.written):
            raise await _close_and_refuse(remote, f"{attempt.path} is not the same as on {before}, where it was opened")
        self._opened = now
        return remote

    def _at_current_path(self, attempt: Attempt) -> Attempt:
        """The attempt, with the path of the file now: it may have been renamed while this waited."""
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
    """Whether an error in opening a file again says nothing against its inline data: the file has been replaced, or the
    server has no handles left.
    """
    return (isinstance(error, PosixError) and error.errno == errno.ESTALE) or is_handle_shortage(error)


def _copy_if_small(data: Buffer | None) -> Buffer | None:
    """Inline data in memory of its own if it is small. A view keeps the whole buffer that it came in."""
    return bytes(data) if data is not None and len(data) <= COPY_MAX else data


def _differs(one: int, other: int) -> bool:
    """Whether two file ids are those of two files. 0 is no id."""
    return bool(one and other and one != other)


async def _close_and_refuse(remote: RemoteFile, text: str) -> PosixError:
    try:
        await remote.close()
    except DfsfsError:
        pass  # nothing was written through it
    return PosixError(errno.ESTALE, text)

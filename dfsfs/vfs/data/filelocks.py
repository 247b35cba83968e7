"""FileLocks: the locks of programs on open files, by the number of the handle: fcntl's byte ranges, and flock's.

Today a lock is known on this computer, and no server hears of it: it is kept by inode, whatever name or handle of the
file it was got through, and is as good after a failover as before. What is to ask servers goes behind the same methods:
each that gets or asks for a lock may wait, fail with DfsfsError, and be cancelled.

    getlk              F_GETLK
    setlk, setlkw      F_SETLK and F_SETLKW, also of open file descriptions
    flock, flockw      flock(2), with LOCK_NB and without
    release_locks      close(2) of any descriptor of the file by a process: FUSE_FLUSH
    forget_handle      the last use of an open file description has ended: FUSE_RELEASE. Its locks end here, as Linux
                       sends no unlock for them: it does not remember locks that a FUSE file system keeps

Cancellation. Who is cancelled while they wait have got nothing, and nothing of them is left. Either a lock is handed
over, by the task that lets go of it, or the request is taken back, by the task that cancels: both happen at once, and
not when the task that waits goes on, so what comes second finds no request any more. A task that has been given a lock
does not wait again before it returns, where it could still be cancelled.

There is no time limit: programs wait for locks until they get them or are interrupted, and that is the caller's to see.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.vfs.data.locktable import OFFSET_MAX, ByteRangeLock, LockStatistics, LockTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.errors import PosixError
    from dfsfs.vfs.data.filetable import OpenFileTable
    from dfsfs.vfs.data.locktable import LockBounds, LockKind
    from dfsfs.vfs.names.inodetable import Inode


class FileLocks:
    """See the module's text. `owner` is a number of the kernel's: see locktable.py.

    Every method that names a handle raises PosixError with EBADF if there is no such open file, but for the two that
    let go of locks.
    """

    def __init__(self, table: OpenFileTable, bounds: LockBounds | None = None) -> None:
        self._table = table
        self._ranges = LockTable["Inode"](bounds)
        self._flocks = LockTable["Inode"](bounds, flock=True)

    async def getlk(self, handle: int, owner: int, lock: ByteRangeLock) -> ByteRangeLock | None:
        """The first lock that is in the way of `lock`, None if there is none."""
        return self._ranges.find_conflict(self._table.get(handle).inode, owner, lock)

    async def setlk(self, handle: int, owner: int, lock: ByteRangeLock) -> None:
        """Gets a lock, or lets go of one, at once.

        Raises:
            PosixError: EAGAIN, a lock of another owner is in the way; ENOLCK, there are too many.
        """
        self._ranges.set(self._table.get(handle).inode, owner, handle, lock)

    async def setlkw(self, handle: int, owner: int, lock: ByteRangeLock) -> None:
        """Gets a lock as soon as nothing is in the way.

        Raises:
            PosixError: EDEADLK, it would wait for itself; ENOLCK, there are too many locks or programs that wait;
                EBADF, the handle was released meanwhile.
        """
        await self._wait(self._ranges, handle, owner, lock)

    async def flock(self, handle: int, owner: int, kind: LockKind) -> None:
        """Gets a lock of the whole file, or lets go of it, at once. One that is to be converted may be lost: flock(2).

        Raises:
            PosixError: EAGAIN (EWOULDBLOCK), a lock of another owner is in the way; ENOLCK, there are too many.
        """
        self._flocks.set(self._table.get(handle).inode, owner, handle, _whole(kind))

    async def flockw(self, handle: int, owner: int, kind: LockKind) -> None:
        """Gets a lock of the whole file as soon as nothing is in the way.

        Raises:
            PosixError: ENOLCK, there are too many locks or programs that wait; EBADF, the handle was released
                meanwhile.
        """
        await self._wait(self._flocks, handle, owner, _whole(kind))

    async def release_locks(self, handle: int, owner: int) -> None:
        """A process has closed a descriptor of a handle: it has no byte ranges of that file any more."""
        file = self._table.find(handle)
        if file is not None:
            self._ranges.release_owner(file.inode, owner)

    def forget_handle(self, inode: Inode, handle: int) -> None:
        """A handle of a file ends, and with it all locks that were got through it, of both kinds."""
        self._ranges.release_handle(inode, handle)
        self._flocks.release_handle(inode, handle)

    async def _wait(self, table: LockTable[Inode], handle: int, owner: int, lock: ByteRangeLock) -> None:
        end = _End()
        waiter = table.request(self._table.get(handle).inode, owner, handle, lock, end.note)
        if waiter is not None:
            await end.wait(partial(table.cancel, waiter))

    def statistics(self) -> LockStatistics:
        """Counts of both kinds together."""
        ranges, flocks = self._ranges.statistics(), self._flocks.statistics()
        return LockStatistics(ranges.ranges + flocks.ranges, ranges.waiters + flocks.waiters)

    def check_invariants(self) -> None:
        """Asserts the invariants of both tables. For tests."""
        self._ranges.check_invariants()
        self._flocks.check_invariants()


class _End:
    """How a request of this task, which waits, ends."""

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._error: PosixError | None = None

    def note(self, error: PosixError | None) -> None:
        self._error = error
        trio.lowlevel.reschedule(self._task)

    async def wait(self, cancel: Callable[[], None]) -> None:
        """Raises: PosixError: the request has failed. `cancel` takes it back in the moment of a cancellation."""

        def abort(_: object) -> trio.lowlevel.Abort:
            cancel()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if self._error is not None:
            raise self._error.with_traceback(None)


def _whole(kind: LockKind) -> ByteRangeLock:
    return ByteRangeLock(kind, 0, OFFSET_MAX)

"""Writeback: the dirty data of one open file, which is what a program has written and its server has not acknowledged.

Writes that follow one another are gathered into WRITEs of GATHER bytes, several of which are under way at once. Dirty
data is bounded, for each file by WINDOW and for the mount by a Budget; a program that writes faster than its server
waits in write(2).

    add          takes data without waiting, or refuses it: `wait_oldest` has to be called first
    wait_oldest  waits for the answer to the oldest WRITE; what was lost with its connection is written again
    drain        does that until nothing is dirty
    discard      gives up what is dirty, when the file is closed before it has been sent

The first error of the server is kept until `take_error` gives it to a write, fsync or close of the program, once. Data
that overlaps a WRITE under way waits for it, as a server may carry out WRITEs in any order.

Data is kept until its answer has come, so that nothing is lost with a connection. If it can't be sent again because the
target is another one now, `rewrite` raises that error: see openfile.py.

Concurrency: `add` and `send` never wait; `wait_oldest` and `drain` take turns under a lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.errors import DfsfsError, Disposition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.wire.messages import Buffer

    Rewrite = Callable[[int, Buffer], Awaitable[None]]
    """Writes data at an offset wherever the file is now, and waits for it."""

GATHER = 1024 * 1024
"""Bytes that are gathered before they are sent: as many as one WRITE carries."""
WINDOW = 8 * 1024 * 1024
"""Bytes that may be dirty of one file: what a line of 1 Gbit/s holds with a round trip of 60 ms."""
BUDGET = 64 * 1024 * 1024
"""Bytes that may be dirty in the whole mount."""


class PendingWrite(Protocol):
    """A WRITE under way, as RemoteFile.start_write gives it."""

    async def outcome(self) -> DfsfsError | None:
        """Waits for the answer and returns its error, None if everything was written. It can be waited for again after
        this was cancelled.
        """


class WritableFile(Protocol):
    """What can start a WRITE: a RemoteFile."""

    def start_write(self, offset: int, data: Buffer) -> PendingWrite: ...


class Budget:
    """Bytes that may be dirty in all files of a mount together."""

    def __init__(self, limit: int = BUDGET) -> None:
        self._limit = self._left = limit

    def take(self, size: int) -> bool:
        """Takes room for `size` bytes; returns False, and takes nothing, if there is not enough."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def release(self, size: int) -> None:
        self._left += size

    @property
    def taken(self) -> int:
        """Bytes for which room is taken."""
        return self._limit - self._left


@dataclass(slots=True)
class _Extent:
    offset: int
    data: Buffer
    write: PendingWrite | None
    """None if it could not even be sent."""

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class Writeback:
    """See the module's text."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._gathered: list[Buffer] = []
        self._start = 0
        self._size = 0
        self._sent: deque[_Extent] = deque()
        self._sent_size = 0
        self._error: DfsfsError | None = None
        self._lock = trio.Lock()

    @property
    def is_dirty(self) -> bool:
        """Whether the server has not acknowledged everything."""
        return bool(self._gathered or self._sent)

    @property
    def has_failed(self) -> bool:
        """Whether an error is kept."""
        return self._error is not None

    def take_error(self) -> DfsfsError | None:
        """Returns the error that was kept, and forgets it; None if there is none."""
        error, self._error = self._error, None
        return error

    # -- taking data ------------------------------------------------------------------------------------------------

    def add(self, remote: WritableFile, offset: int, data: Buffer) -> bool:
        """Takes data if there is room for it, it overlaps nothing under way, and no error is kept. Returns whether it
        was taken.
        """
        size, end = len(data), offset + len(data)
        if self._gathered and offset < self._start + self._size and self._start < end:
            self.send(remote)
        if self._error is not None or any(extent.offset < end and offset < extent.end for extent in self._sent):
            return False
        if self._sent_size + self._size + size > WINDOW and self.is_dirty:
            return False
        if not self._budget.take(size):
            return False
        if self._gathered and (offset != self._start + self._size or self._size + size > GATHER):
            self.send(remote)
        if not self._gathered:
            self._start = offset
        self._gathered.append(data)
        self._size += size
        if self._size >= GATHER:
            self.send(remote)
        return True

    def send(self, remote: WritableFile) -> None:
        """Sends what was gathered, without waiting."""
        if not self._gathered:
            return
        data = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        extent = _Extent(self._start, data, None)
        self._gathered, self._size = [], 0
        self._sent.append(extent)
        self._sent_size += len(data)
        try:
            extent.write = remote.start_write(extent.offset, data)
        except DfsfsError:
            pass  # the connection has ended; `wait_oldest` will write it again

    def discard(self) -> None:
        """Gives up what is dirty. Nothing may be added after that."""
        self._budget.release(self._sent_size + self._size)
        self._gathered.clear()
        self._sent.clear()
        self._size = self._sent_size = 0

    # -- waiting for answers ----------------------------------------------------------------------------------------

    async def drain(self, remote: WritableFile, rewrite: Rewrite) -> None:
        """Returns when nothing is dirty any more. Errors are kept."""
        self.send(remote)
        while self._sent:
            await self.wait_oldest(remote, rewrite)
            self.send(remote)

    async def wait_oldest(self, remote: WritableFile, rewrite: Rewrite) -> None:
        """Returns when the oldest data is on the server, or its error is kept. `rewrite` is called if it was lost."""
        async with self._lock:
            if not self._sent:
                self.send(remote)
            if not self._sent:
                return
            extent = self._sent[0]
            error = await extent.write.outcome() if extent.write is not None else None
            if extent.write is None or (error is not None and error.disposition is not Disposition.RETURN):
                extent.write = None
                error = await _catch_error(rewrite(extent.offset, extent.data))
            if not self._sent:
                return  # discarded meanwhile
            if error is not None and self._error is None:
                self._error = error
            self._sent.popleft()
            self._sent_size -= len(extent.data)
            self._budget.release(len(extent.data))


async def _catch_error(action: Awaitable[None]) -> DfsfsError | None:
    try:
        await action
    except DfsfsError as error:
        return error
    return None

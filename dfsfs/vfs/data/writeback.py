"""Writeback: what a program has written to one open file and its server has not acknowledged yet.

Writes that follow one another are gathered into WRITEs of GATHER bytes, and several of those are under way at once. How
much may be outstanding is bounded, for each file by WINDOW and for the mount by a Budget; a program that writes faster
than its server takes it waits in `write`.

    add       takes data without waiting, or refuses: something has to land first
    land_one  waits for the oldest WRITE; what was lost with its connection is written again
    drain     lands everything

The first error that a server gives is kept until somebody asks with `take_error`: a write, fsync or close of the
program, and each error once. What overlaps data under way waits for it, as a server may carry out WRITEs in any order.

Data is kept until its answer has come, and so nothing is lost with a connection. What can't be sent again, because the
target is another one now, is the error of `rewrite`: see openfile.py.

Concurrency: `add` and `send` never wait; `land_one` and `drain` take turns under a lock.
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
"""Bytes that are collected before they are sent: as many as one WRITE carries."""
WINDOW = 8 * 1024 * 1024
"""Bytes outstanding for one file: what a line of 1 Gbit/s with 60 ms of round trip holds."""
BUDGET = 64 * 1024 * 1024
"""Bytes outstanding for the whole mount."""


class PendingWrite(Protocol):
    """A WRITE under way, as RemoteFile.start_write gives it."""

    async def outcome(self) -> DfsfsError | None:
        """Waits for the answer; None if everything was written. Cancelling this wait gives up nothing."""


class WritableFile(Protocol):
    """What can start a WRITE."""

    def start_write(self, offset: int, data: Buffer) -> PendingWrite: ...


class Budget:
    """Bytes that all files of a mount may have outstanding together."""

    def __init__(self, limit: int = BUDGET) -> None:
        self._left = limit

    def take(self, size: int) -> bool:
        """Whether there was room for `size` bytes, which is taken then."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


@dataclass(slots=True)
class _Extent:
    offset: int
    data: Buffer
    write: PendingWrite | None
    """None: it could not even be sent."""

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
    def pending(self) -> bool:
        """Whether something is not acknowledged yet."""
        return bool(self._gathered or self._sent)

    @property
    def failed(self) -> bool:
        """Whether something was not written, and nobody has been told so yet."""
        return self._error is not None

    def take_error(self) -> DfsfsError | None:
        """The error that was kept; it is forgotten."""
        error, self._error = self._error, None
        return error

    # -- taking data ------------------------------------------------------------------------------------------------

    def add(self, remote: WritableFile, offset: int, data: Buffer) -> bool:
        """Takes data if there is room for it and nothing has failed. False: `land_one` first."""
        size, end = len(data), offset + len(data)
        if self._gathered and offset < self._start + self._size and self._start < end:
            self.send(remote)
        if self._error is not None or any(extent.offset < end and offset < extent.end for extent in self._sent):
            return False
        if self._sent_size + self._size + size > WINDOW and self.pending:
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
            pass  # the connection has ended; landing will write it again

    # -- landing ----------------------------------------------------------------------------------------------------

    async def drain(self, remote: WritableFile, rewrite: Rewrite) -> None:
        """Returns when nothing is outstanding any more."""
        self.send(remote)
        while self._sent:
            await self.land_one(remote, rewrite)
            self.send(remote)

    async def land_one(self, remote: WritableFile, rewrite: Rewrite) -> None:
        """Returns when the oldest data is on the server, or its error is kept."""
        async with self._lock:
            if not self._sent:
                self.send(remote)
            if not self._sent:
                return
            extent = self._sent[0]
            error = await extent.write.outcome() if extent.write is not None else None
            if extent.write is None or (error is not None and error.disposition is not Disposition.RETURN):
                extent.write = None
                error = await _error_of(rewrite(extent.offset, extent.data))
            if error is not None and self._error is None:
                self._error = error
            self._sent.popleft()
            self._sent_size -= len(extent.data)
            self._budget.give_back(len(extent.data))


async def _error_of(action: Awaitable[None]) -> DfsfsError | None:
    try:
        await action
    except DfsfsError as error:
        return error
    return None

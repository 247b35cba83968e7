"""A synthetic kernel: the other end of a socket in the place of /dev/fuse, and handlers that wait if they are told to.

A message of a SOCK_SEQPACKET socket is read as a whole, as a request of /dev/fuse is; its end is a read of 0 bytes.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pyfuse3
import trio
import trio.testing
from pyfuse3 import EntryAttributes

from dfsfs.fuse.abi.constants import Opcode
from dfsfs.fuse.abi.negotiation import Wanted
from dfsfs.fuse.device.capabilities import FLAGS
from dfsfs.fuse.device.loop import DeviceLoop
from tests.support.fuselayout import decode, encode, size_of
from tests.unit.fuse.abi.encoding import request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dfsfs.fuse.kerneloperations import KernelOperations

WANTED = Wanted(FLAGS, max_pages=32, max_readahead=1 << 20, max_background=64)
OFFERED = 0x7FFFFFFB | 0x7FF << 32
"""All flags that Linux 6.18 knows."""


class Operations:
    """Handlers: a lookup or a read with a name or an offset in `held` waits until it is let go."""

    def __init__(self) -> None:
        self.initialized: list[int] = []
        """For each FUSE_INIT, how many requests had been handled."""
        self.forgotten: list[tuple[int, int]] = []
        self.handled: list[object] = []
        """What was asked, in the order in which it was begun."""
        self.tasks: list[trio.lowlevel.Task] = []
        """Who has begun it."""
        self.held: dict[object, trio.Event] = {}
        self.under_way = self.most_under_way = 0
        self.written: list[bytes] = []

    def hold(self, *keys: object) -> None:
        for key in keys:
            self.held[key] = trio.Event()

    def release(self, *keys: object) -> None:
        for key in keys:
            self.held.pop(key).set()

    async def _begin(self, key: object) -> None:
        self.handled.append(key)
        self.tasks.append(trio.lowlevel.current_task())
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            if key in self.held:
                await self.held[key].wait()
        finally:
            self.under_way -= 1

    def init(self) -> None:
        self.initialized.append(len(self.handled))

    async def forget(self, forgets: Sequence[tuple[int, int]]) -> None:
        self.forgotten += [tuple(each) for each in forgets]  # type: ignore[misc]

    async def lookup(self, parent_inode: int, name: bytes, ctx: object) -> EntryAttributes:
        await self._begin(name)
        if name == b"missing":
            raise pyfuse3.FUSEError(errno.ENOENT)
        if name == b"broken":
            raise LookupError("as the test wants it")
        entry = EntryAttributes()
        entry.st_ino = len(name)
        return entry

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        await self._begin(offset)
        return b"%d" % offset

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        await self._begin(offset)
        self.written.append(data)
        return len(data)

    async def setlkw(self, fh: int, owner: int, lock: object) -> None:
        await self._begin(owner)


class SyntheticKernel:
    """Asks, and gets answers. `device` is what a DeviceLoop reads."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (ours, theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            each.setblocking(False)
        self.device = theirs.detach()
        self._socket = ours
        self._unique = 0
        self.replies: dict[int, list[tuple[int, bytes]]] = {}
        """By `unique`, the error and what follows the header, of each answer to it."""
        self.order: list[int] = []
        """Which requests were answered, one after the other."""

    def send(self, raw: bytes) -> None:
        """Has the device give these bytes to whoever reads next."""
        assert self._socket.send(raw) == len(raw)

    def ask(self, opcode: int, body: bytes = b"", nodeid: int = 1, uid: int = 0) -> int:
        """Sends a request; its `unique`."""
        self._unique += 2
        self.send(request(opcode, body, unique=self._unique, nodeid=nodeid, uid=uid, pid=os.getpid()))
        return self._unique

    def init(self, major: int = 7, minor: int = 45, offered: int = OFFERED) -> int:
        flags = {"flags": offered & 0xFFFFFFFF, "flags2": offered >> 32}
        raw = encode("fuse_init_in", major=major, minor=minor, max_readahead=1 << 17, **flags)
        return self.ask(Opcode.INIT, raw if (major, minor) >= (7, 36) else raw[:16])

    def lookup(self, name: bytes, uid: int = 0) -> int:
        return self.ask(Opcode.LOOKUP, name + b"\0", uid=uid)

    def read(self, offset: int) -> int:
        return self.ask(Opcode.READ, encode("fuse_read_in", fh=7, offset=offset, size=100))

    def end(self) -> None:
        """There will be no more requests; answers still arrive."""
        self._socket.shutdown(socket.SHUT_WR)

    def collect(self) -> None:
        """Takes the answers that are there."""
        while True:
            try:
                raw = self._socket.recv(1 << 20)
            except BlockingIOError:
                return
            if not raw:
                return
            header = decode("fuse_out_header", raw)
            assert header["len"] == len(raw), "the kernel answers EINVAL to that"
            error = -header["error"] % 2**32
            self.order.append(header["unique"])
            self.replies.setdefault(header["unique"], []).append((error, raw[size_of("fuse_out_header") :]))

    async def settle(self) -> None:
        """Lets the loop do what it can, and takes the answers."""
        await trio.testing.wait_all_tasks_blocked()
        self.collect()

    def answer(self, unique: int) -> tuple[int, bytes]:
        """The error of a request's only answer, and what follows its header."""
        self.collect()
        (answer,) = self.replies.get(unique, [])
        return answer

    def has_answered(self, unique: int) -> bool:
        self.collect()
        return unique in self.replies

    def close(self) -> None:
        self._socket.close()


class Session:
    """A loop that runs with a synthetic kernel."""

    def __init__(self, only_user: int | None = None) -> None:
        self.kernel, self.operations = SyntheticKernel(), Operations()
        self.interrupted: list[tuple[int, int]] = []
        """Which requests, and how many were under way then."""
        operations = cast("KernelOperations", self.operations)
        self.loop = DeviceLoop(self.kernel.device, operations, WANTED, self._interrupt, only_user=only_user)
        self.has_ended = trio.Event()
        self._task: trio.lowlevel.Task | None = None

    def _interrupt(self, unique: int) -> None:
        self.interrupted.append((unique, self.operations.under_way))

    async def run(self) -> None:
        self._task = trio.lowlevel.current_task()
        await self.loop.run()
        self.has_ended.set()

    @property
    def tasks(self) -> int:
        """Tasks of the loop."""
        assert self._task is not None
        return sum(len(nursery.child_tasks) for nursery in self._task.child_nurseries)

    def close(self) -> None:
        self.loop.close()
        self.kernel.close()


@asynccontextmanager
async def serving(only_user: int | None = None) -> AsyncIterator[Session]:
    """A session that has negotiated, and ends with the kernel's requests. At its end each was answered once."""
    session = Session(only_user)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            init = session.kernel.init()
            await session.kernel.settle()
            assert session.kernel.answer(init)[0] == 0
            yield session
            session.kernel.end()
        session.kernel.collect()
        assert session.has_ended.is_set()
        assert all(len(answers) == 1 for answers in session.kernel.replies.values())
    finally:
        session.close()

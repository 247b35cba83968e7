"""DeviceLoop: reads the kernel's requests, and runs their handlers.

One task leads: it reads a request and runs the handler's coroutine itself, step by step, so that a request that is
answered from what is known costs no switch of tasks. As soon as a handler waits, another task leads, and the one that
did goes on with its request. The tasks that have nothing to do are woken last in, first out.

After a request that was answered at once, the next one is mostly on its way: for POLLS passes of the scheduler the
device is read again before this sleeps, since waking a sleeping processor takes tens of microseconds. After FAIRNESS
requests without waiting, other tasks get their turn.

Waiting for a lock takes as long as another program likes. Such a request does not count against MAX_TASKS; how many
there may be, the table of locks says (vfs/data/locktable.py).

One buffer serves all tasks: a handler has copied what it needs of its request before it first waits.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import types
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    Abort,
    checkpoint,
    current_task,
    notify_closing,
    reschedule,
    wait_readable,
    wait_task_rescheduled,
)

from dfsfs.errors import PosixError
from dfsfs.fuse.abi import notifications, replies, requests
from dfsfs.fuse.abi.constants import MIN_READ_BUFFER, Opcode
from dfsfs.fuse.abi.negotiation import PAGE, UnsupportedKernel, Wanted, negotiate
from dfsfs.fuse.device.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from dfsfs.fuse.abi.negotiation import Negotiated
    from dfsfs.fuse.abi.requests import InHeader
    from dfsfs.fuse.kerneloperations import KernelOperations

log = logging.getLogger("dfsfs.fuse")

POLLS = 6
FAIRNESS = 32
SPARE_TASKS = 10
"""Tasks without a request that are kept."""
MAX_TASKS = 200
"""Requests that are handled at the same time at most; the kernel queues the others. There are so many because handlers
that wait for a dead server must not keep requests to another one waiting."""
_FORGETS = frozenset({int(Opcode.FORGET), int(Opcode.BATCH_FORGET)})
_INTERRUPT, _INIT, _DESTROY = int(Opcode.INTERRUPT), int(Opcode.INIT), int(Opcode.DESTROY)
_SETLKW = int(Opcode.SETLKW)


class DeviceLoop:
    """See the module's text. `device`: a descriptor of /dev/fuse that does not block; it is closed by `close`.
    `on_interrupt` is called with `unique` of a request that a signal has come for.
    """

    def __init__(
        self,
        device: int,
        operations: KernelOperations,
        wanted: Wanted,
        on_interrupt: Callable[[int], None],
        *,
        only_user: int | None = None,
    ) -> None:
        self._device = device
        self._operations = operations
        self._wanted = wanted
        self._on_interrupt = on_interrupt
        self._dispatcher = Dispatcher(operations, self._send, self._send_error, only_user)
        buffer = bytearray(max(MIN_READ_BUFFER, wanted.max_pages * PAGE + PAGE))
        self._buffers, self._view = [buffer], memoryview(buffer)
        self._context = copy_context()
        self._nursery: trio.Nursery | None = None
        self._lock_waits: set[trio.CancelScope] = set()
        self._idle: list[trio.lowlevel.Task] = []
        self._tasks = 0
        self._is_led = False
        self._ended = False
        self._is_asleep = False
        self.negotiated: Negotiated | None = None
        """What was agreed on with the kernel, as soon as it has asked."""

    async def run(self) -> None:
        """Serves requests until the file system is unmounted, or `stop` was called and the requests are answered.

        Raises:
            ExceptionGroup: of a PosixError: the kernel's FUSE is too old, or the device fails.
        """
        self._context = copy_context()
        async with trio.open_nursery() as self._nursery:
            self._start_leader()

    def stop(self) -> None:
        """No further request is read."""
        self._end()
        if self._is_asleep:
            notify_closing(self._device)

    def close(self) -> None:
        """Closes the device: if it was mounted here, programs that use it get ENOTCONN."""
        os.close(self._device)

    def invalidate(self, ino: int) -> None:
        """The kernel drops the attributes and all pages of an inode. It may wait for requests that are under way, so
        it is called in a thread.

        Raises:
            OSError: ENOENT, the kernel does not know it.
        """
        os.write(self._device, notifications.pack_inval_inode(ino))

    def invalidate_attributes(self, ino: int) -> None:
        """As `invalidate`, for the attributes alone."""
        os.write(self._device, notifications.pack_inval_attributes(ino))

    # -- tasks ------------------------------------------------------------------------------------------------------

    def _on_wait(self) -> None:
        """The handler that this task runs waits for the first time."""
        self._operations.task_scope = None
        self._start_leader()

    def _start_leader(self) -> None:
        """Has another task lead: an idle one, a new one, or, if there are too many, the first that gets done."""
        if self._idle:
            self._is_led = True
            reschedule(self._idle.pop())
        elif self._tasks < MAX_TASKS:
            assert self._nursery is not None
            self._is_led = True
            self._tasks += 1
            # Not in the context of the handler that has just begun to wait: what that has set is about its request.
            self._context.copy().run(self._nursery.start_soon, self._work)
        else:
            self._is_led = False

    def _end(self) -> None:
        """Has all tasks end that have no request, or wait for a lock."""
        self._ended = True
        while self._idle:
            reschedule(self._idle.pop())
        for scope in self._lock_waits:
            scope.cancel()

    async def _work(self) -> None:
        """One task: leads, finishes the request that it had to wait for, and is idle until it leads again.

        Its requests run in one scope, as long as none of them is cancelled: a scope for each takes a twentieth of a
        read's time.
        """
        leads = True
        try:
            while True:
                with trio.CancelScope() as scope:
                    while leads or await self._become_leader():
                        leads = False
                        await self._lead(scope)
                        if scope.cancel_called:
                            break
                    else:
                        return
        finally:
            self._tasks -= 1

    async def _become_leader(self) -> bool:
        """Waits until this task leads. False if it is not needed any more."""
        if self._ended:
            return False
        if not self._is_led:
            self._is_led = True
            return True
        if len(self._idle) >= SPARE_TASKS:
            return False
        task = current_task()
        self._idle.append(task)

        def abort(_: object) -> Abort:
            self._idle.remove(task)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)
        return not self._ended

    async def _lead(self, scope: trio.CancelScope) -> None:
        """Reads and answers requests until one had to wait, and is answered, or until there are no more. `scope`: that
        of this task, for a handler to run in.
        """
        answered = FAIRNESS
        while (request := await self._receive(POLLS if answered != FAIRNESS else 0)) is not None:
            coroutine = self._start(request, scope)
            if coroutine is not None:
                self._operations.task_scope = scope
                if await _run(coroutine, self._on_wait):
                    return
                self._operations.task_scope = None  # if no handler has taken it: the next one may be of another task
            answered -= 1
            if not answered:
                answered = FAIRNESS
                await checkpoint()
        self._is_led = False
        self._end()

    async def _receive(self, polls: int) -> memoryview | None:
        """The next request, None if there will be none. Raises: PosixError."""
        while not self._ended:
            try:
                length = os.readv(self._device, self._buffers)
                return self._view[:length] if length else None  # 0 bytes: the end, of a socket in the device's place
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return None  # unmounted
                if error.errno != errno.ENOENT:  # ENOENT: the program was killed before this could read its request
                    raise PosixError(error.errno or errno.EIO, f"FUSE: the device can't be read: {error}") from error
            if polls:
                polls -= 1
                await checkpoint()
            else:
                self._is_asleep = True
                try:
                    await wait_readable(self._device)
                except trio.ClosedResourceError:
                    pass  # by `stop`, which only says so: answers are still written
                finally:
                    self._is_asleep = False
        return None

    def _start(self, request: memoryview, scope: trio.CancelScope) -> Coroutine[Any, Any, None] | None:
        """The coroutine that answers a request; None if that is done. Raises: PosixError."""
        try:
            header = requests.parse_header(request)
            opcode = header.opcode
            if opcode in _FORGETS:
                return self._dispatcher.forget(header, request)
            if opcode == _INTERRUPT:
                self._on_interrupt(requests.parse_interrupt(bytes(request[requests.HEADER_SIZE :])))
            elif opcode == _INIT:
                self._negotiate(header, bytes(request[requests.HEADER_SIZE :]))
            elif opcode == _DESTROY:
                self._send(header.unique, b"")
            elif opcode == _SETLKW:
                return self._wait_for_lock(header, request)
            else:
                return self._dispatcher.handle(header, request, scope)
        except requests.MalformedRequest as error:
            log.error("FUSE: what the kernel has sent can't be read: %s", error)
        return None

    async def _wait_for_lock(self, header: InHeader, request: memoryview) -> None:
        """Answers a request that does not count. It begins before the next one is read, which may be its interrupt."""
        scope = trio.CancelScope()
        self._lock_waits.add(scope)
        self._tasks -= 1
        try:
            with scope:
                await self._dispatcher.handle(header, request)
        finally:
            self._tasks += 1
            self._lock_waits.discard(scope)

    def _negotiate(self, header: InHeader, body: bytes) -> None:
        try:
            reply, negotiated = negotiate(requests.parse_init(body), self._wanted)
        except UnsupportedKernel as error:
            self._send_error(header.unique, errno.EPROTO)
            raise PosixError(errno.EPROTO, f"FUSE: {error}") from None
        if negotiated is not None:
            self.negotiated = negotiated
            self._operations.init()
        self._send(header.unique, reply)

    # -- replies ----------------------------------------------------------------------------------------------------

    def _send(self, unique: int, reply: replies.Buffer) -> None:
        """Sends what a handler has answered. Raises nothing."""
        header = replies.pack_header(unique, len(reply))
        try:
            os.writev(self._device, (header, reply))
        except OSError as error:
            self._note_unsent(unique, error)

    def _send_error(self, unique: int, number: int) -> None:
        try:
            os.write(self._device, replies.pack_error(unique, number))
        except OSError as error:
            self._note_unsent(unique, error)

    def _note_unsent(self, unique: int, error: OSError) -> None:
        """ENOENT: nobody waits for the answer any more; ENODEV: the mount is gone. Anything else is our mistake, and
        the program would wait for ever.
        """
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return
        log.error("FUSE: the kernel does not take the answer to a request: %s", error)
        with contextlib.suppress(OSError):
            os.write(self._device, replies.pack_error(unique, errno.EIO))


@types.coroutine
def _run(coroutine: Coroutine[Any, Any, None], on_wait: Callable[[], None]) -> Generator[Any, Any, bool]:
    """Runs a coroutine in this task. `on_wait` is called before it waits for the first time; the result is whether it
    did.
    """
    try:
        trap = coroutine.send(None)
    except StopIteration:
        return False
    on_wait()
    while True:
        failure, value = None, None
        try:
            value = yield trap
        except BaseException as error:
            failure = error
        try:
            trap = coroutine.send(value) if failure is None else coroutine.throw(failure)
        except StopIteration:
            return True

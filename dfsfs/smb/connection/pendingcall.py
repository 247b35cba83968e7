"""PendingCall: a call under way, and the tasks that wait for it.

The task that receives an answer wakes those that wait for it directly. A wait has no cancel scope of its own: `Waits`
has the waits of a connection in the order in which their time is up, and the connection's timer ends them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import Abort, checkpoint_if_cancelled, current_task, reschedule, wait_task_rescheduled

from dfsfs.errors import ConnectionLost, DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Command
from dfsfs.unanswered import note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio.lowlevel import Task

    from dfsfs.smb.connection.calls import Call, Response, Route
    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.wire.messages import Request

RENEWALS = 2
"""How often the session is renewed for one call at most: it may expire again before the call is sent again."""
_EXPIRED = int(NtStatus.NETWORK_SESSION_EXPIRED)  # bound once: each answer is compared with it


class Waits:
    """Tasks that wait for something, each for `timeout` seconds at most by the clock `now`. They are woken when it has
    come, or when their time is up.
    """

    __slots__ = ("_deadlines", "_now", "timeout")

    def __init__(self, timeout: float, now: Callable[[], float]) -> None:
        self.timeout = timeout
        self._now = now
        self._deadlines: dict[Task, float] = {}
        """In the order of the times, as all waits are equally long."""

    def next_deadline(self) -> float:
        """When the time of the first of them is up, infinite if there is none."""
        return next(iter(self._deadlines.values()), math.inf)

    async def wait(self) -> None:
        """Waits until this task is woken: by `wake`, or because its time is up."""
        task, deadlines = current_task(), self._deadlines
        deadlines[task] = self._now() + self.timeout

        def abort(_: object) -> Abort:
            del deadlines[task]
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def wake(self, task: Task) -> None:
        """What a task waits for has come. Without effect on one that does not wait any more."""
        if self._deadlines.pop(task, None) is not None:
            reschedule(task)

    def expire(self, now: float) -> None:
        """Wakes the tasks whose time is up."""
        while self._deadlines and self.next_deadline() <= now:
            self.wake(next(iter(self._deadlines)))


class PendingCall:
    """A call under way. It is sent when it is waited for, if not before."""

    __slots__ = ("_call", "_connection", "_is_answered", "_received", "_tasks")

    def __init__(
        self,
        connection: Connection,
        requests: Sequence[Request],
        route: Route,
        received: Callable[[Response], None] | None,
    ) -> None:
        self._connection = connection
        self._received = received
        self._is_answered = False
        self._tasks: list[Task] = []
        self._call: Call = connection._submit(requests, route, received, self._set_answered)

    def _set_answered(self) -> None:
        self._is_answered = True
        for task in self._tasks:
            self._connection.waits.wake(task)

    async def wait(self) -> list[Response]:
        """The responses, in the order of the requests. Errors as in Connection.call. Abandons the call if cancelled."""
        try:
            await self.wait_done()
        except trio.Cancelled:
            self.give_up()  # also when the answer has just come: it may have opened a file
            raise
        return self.result()

    async def wait_done(self) -> None:
        """Waits until the call has its responses or an error. After the request timeout it is abandoned.

        A call that was refused because its session had expired is sent again as soon as that is renewed. Several tasks
        may wait; cancelling one of them does not abandon the call.
        """
        if self._is_answered:
            self._connection.flush()  # what this task has started besides, such as READs ahead
        else:
            await self._wait_once()
        for _ in range(RENEWALS):
            if not self._has_expired():
                return
            await self._renew_and_resend()
            if not self._is_answered:
                await self._wait_once()

    def _has_expired(self) -> bool:
        first = self._call.responses[0]
        return first is not None and first.header.status == _EXPIRED and self._call.error is None

    async def _renew_and_resend(self) -> None:
        """Renews the session and sends the call again. If that fails, the failure becomes the call's error."""
        connection, call, renew = self._connection, self._call, self._connection._renew
        if renew is None or call.requests[0].command in (Command.SMB2_SESSION_SETUP, Command.SMB2_LOGOFF):
            return
        try:
            await renew()
            connection.resend_refused()
            if self._call is call:  # else another task that waits for it was faster
                self._is_answered = False
                self._call = connection._submit(call.requests, call.route, self._received, self._set_answered)
        except DfsfsError as error:
            call.error = error
            self._is_answered |= self._call is call

    async def _wait_once(self) -> None:
        connection = self._connection
        await checkpoint_if_cancelled()  # what is given up already is not sent
        connection.flush()
        if self._is_answered:
            return  # there is no connection any more
        task = current_task()
        self._tasks.append(task)
        try:
            await connection.waits.wait()
        finally:
            self._tasks.remove(task)
        if not self._is_answered:
            self.give_up()
            command = self._call.requests[0].command.word
            detail = f"{command} was not answered within {connection.waits.timeout:g} seconds"
            self._call.error = ConnectionLost(connection.host, NtStatus.IO_TIMEOUT, detail)

    @property
    def is_done(self) -> bool:
        """Whether the call has its responses or an error, and will not be sent again."""
        return self._is_answered and not (self._has_expired() and self._connection._renew is not None)

    def result(self) -> list[Response]:
        """The responses of a call that is done, in the order of the requests. Errors as in Connection.call."""
        if self._call.error is not None:
            raise self._call.error.with_traceback(None)  # all calls of a lost connection share one error
        return [response for response in self._call.responses if response is not None]

    def give_up(self) -> None:
        """Abandons a call, and notes that what it changes may still change: see dfsfs/unanswered.py."""
        if self._call.may_be_carried_out:
            self._call.on_decided = note()
        self.abandon()

    def abandon(self) -> None:
        """Gives up the call. Tasks that still wait for it get an error at once."""
        self._connection.abandon(self._call)
        if not self._is_answered:
            what = f"{self._call.requests[0].command.word} to {self._connection.host} was given up"
            self._call.error = SmbError(NtStatus.CANCELLED, what)
            self._set_answered()

    @property
    def sent(self) -> bytes:
        """The message as sent, for the pre-authentication hash. Only of NEGOTIATE and SESSION_SETUP."""
        return self._call.sent

"""Connection: the trio shell around SmbProtocol, with one task that reads the socket and one that writes it.

How the pieces work together:

1. A caller submits to the protocol and parks on an event. If something may be sent, the writer is woken.
2. The writer takes `data_to_send` and sends it. It is the only task that sends, and nothing cancels it in the middle
   of a frame while the connection is meant to live.
3. The reader receives into `space` and feeds the protocol, which completes calls: their events are set, their callers
   run at the next turn of the loop. New credits may let queued calls go, so the reader wakes the writer.
4. A caller that is cancelled or runs into its timeout abandons the call and is free at once. The protocol deals with
   the late answer.
5. Whatever ends the connection (end of file, a reset, a broken or forged answer, silence, `close`) goes through `_end`:
   the first error is kept, the protocol fails every call with it, the socket closes, and `run` returns. Nobody is left
   waiting, and the next use of the connection raises the same error.

The owner of `run` is the pool's nursery. `run` never raises but for cancellation.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from dfsfs.errors import ConnectionLost, DfsfsError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Call, Response, Route, SecuredSession
from dfsfs.smb.connection.handshake import Exchange, Negotiated, Reply
from dfsfs.smb.connection.leases import Lease, LeaseBreak, LeaseTable, no_acknowledgement
from dfsfs.smb.wire.constants import Command
from dfsfs.smb.wire.messages import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from dfsfs.smb.connection.protocol import ProtocolStatistics, SmbProtocol
    from dfsfs.smb.connection.transport import Transport

log = logging.getLogger("dfsfs.smb")

T = TypeVar("T")

RENEWALS = 2
"""How often one call has its session renewed: it may expire once more before the call is sent again."""


class Connection:
    """An SMB connection to one server. `request_timeout` bounds each call, in seconds."""

    def __init__(self, host: str, transport: Transport, protocol: SmbProtocol, *, request_timeout: float) -> None:
        self.host = host
        self._transport = transport
        self._protocol = protocol
        self._request_timeout = request_timeout
        self._watch_interval = protocol.silence / 4
        self._negotiated: Negotiated | None = None
        self._negotiated_at = 0.0
        self.leases = LeaseTable()
        protocol.on_break = self._broken
        self._writable = trio.Event()
        self._closed = trio.Event()
        self._renew: Callable[[], Awaitable[None]] | None = None
        self._refused: list[tuple[Sequence[Request], Route, Callable[[], None]]] = []

    # -- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Moves bytes until the connection ends; then every call has failed and the socket is closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guard, self._read, nursery.cancel_scope)
                nursery.start_soon(self._guard, self._write, nursery.cancel_scope)
                nursery.start_soon(self._guard, self._watch, nursery.cancel_scope)
        finally:
            self._end(ConnectionLost(self.host, NtStatus.CONNECTION_DISCONNECTED, "the connection was closed"))

    async def _guard(self, work: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await work()
        except DfsfsError as error:
            self._end(error)
        except Exception:
            # A mistake of ours in here must cost this connection, and not the whole mount.
            log.exception("%s: the connection failed in an unexpected way", self.host)
            self._end(ConnectionLost(self.host, NtStatus.CONNECTION_DISCONNECTED, "it failed in an unexpected way"))
        scope.cancel()

    async def _read(self) -> None:
        protocol = self._protocol
        while True:
            count = await self._transport.receive_into(protocol.space())
            if count == 0:
                raise ConnectionLost(
                    self.host, NtStatus.CONNECTION_DISCONNECTED, "the server has closed the connection"
                )
            protocol.received(count, trio.current_time())
            if protocol.wants_to_send:
                self._writable.set()

    async def _write(self) -> None:
        protocol = self._protocol
        while True:
            await self._writable.wait()
            self._writable = trio.Event()
            while buffers := protocol.data_to_send(trio.current_time()):
                await self._transport.send(buffers)

    async def _watch(self) -> None:
        while True:
            # Requests that go out move the deadline nearer: a long sleep is no good, nor is a wake-up for each of them.
            await trio.sleep_until(min(self._protocol.next_deadline(), trio.current_time() + self._watch_interval))
            self._protocol.timer(trio.current_time())
            if self._protocol.wants_to_send:
                self._writable.set()

    def close(self) -> None:
        """Ends the connection at once; calls under way fail with ConnectionLost."""
        closed = ConnectionLost(self.host, NtStatus.CONNECTION_DISCONNECTED, "the connection was closed")
        self._end(closed, logging.DEBUG)

    def _end(self, error: DfsfsError, level: int = logging.INFO) -> None:
        if self._protocol.error is not None:
            return
        log.log(level, "%s: connection ended: %s", self.host, error)
        self._protocol.lost(error)
        self._transport.close()
        self._closed.set()
        for lease, before in self.leases.lost():
            lease.on_break(before, no_acknowledgement)

    @property
    def alive(self) -> bool:
        return self._protocol.error is None

    # -- calls ------------------------------------------------------------------------------------------------------

    def start(
        self, requests: Sequence[Request], route: Route, received: Callable[[Response], None] | None = None
    ) -> PendingCall:
        """Submits a call without waiting for it; the caller must either `wait` for the result or `abandon` it.

        `received` gets the answer to the first request before anything is looked at that came after it. A WireError
        that it raises ends the connection.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has ended, by this error.
        """
        event = trio.Event()
        return PendingCall(self, self._submitted(requests, route, received, event), event, received)

    def _submitted(
        self,
        requests: Sequence[Request],
        route: Route,
        received: Callable[[Response], None] | None,
        event: trio.Event,
    ) -> Call:
        done = event.set if received is None else lambda: _take_in(call, received, event)
        call: Call = self._protocol.submit(requests, route, done)
        if self._protocol.wants_to_send:
            self._writable.set()
        return call

    async def call(self, requests: Sequence[Request], route: Route) -> list[Response]:
        """Sends a request, or several as one related compound, and waits for all their answers, in order.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection ended before the answers came.
            ConnectionLost: with STATUS_IO_TIMEOUT if the answers did not come in time.
        """
        return await self.start(requests, route).wait()

    def post(self, requests: Sequence[Request], route: Route, answered: Callable[[], None] = lambda: None) -> None:
        """Sends a call whose outcome nobody needs, such as the CLOSE of a handle that was only read. Never waits, never
        fails: where the connection has ended, its handles have ended with it. Sent again if the session had expired.
        `answered` is called when the server has answered it, whatever it says.
        """
        if self.alive:
            self._submitted(requests, route, partial(self._posted, requests, route, answered), trio.Event())

    def _posted(
        self, requests: Sequence[Request], route: Route, answered: Callable[[], None], response: Response
    ) -> None:
        if response.status == NtStatus.NETWORK_SESSION_EXPIRED:
            self._refused.append((requests, route, answered))
        else:
            answered()

    def renewed(self) -> None:
        """The session has been renewed: what was refused until now, and nobody waits for, goes out again. Once: else a
        session that expires at every request would have them sent for ever."""
        refused, self._refused = self._refused, []
        for requests, route, answered in refused:
            if self.alive:
                self._submitted(requests, route, partial(_hear, answered), trio.Event())

    def _broken(self, notification: LeaseBreak) -> None:
        lease = self.leases.get(notification.key)
        if lease is None:
            return  # its last handle was closed in the meantime, and with that the server has what it wants
        before = lease.broken(notification)
        if notification.acknowledge or before != lease.state:
            lease.on_break(before, lambda: self._acknowledge(lease, lease.given_up()))

    def _acknowledge(self, lease: Lease, acknowledgement: Request | None) -> None:
        if acknowledgement is not None:
            self.post([acknowledgement], lease.route, lambda: self._acknowledge(lease, lease.acknowledged()))

    def abandon(self, call: Call) -> None:
        """Gives up a call; what it opens or has opened on the server is closed again."""
        self._protocol.abandon(call)
        if self._protocol.wants_to_send:
            self._writable.set()

    def io_size(self, limit: int) -> int:
        """The largest payload, up to `limit` bytes, for one request: bounded by the credits the server gives."""
        return self._protocol.io_size(limit)

    # -- handshake --------------------------------------------------------------------------------------------------

    @property
    def negotiated(self) -> Negotiated:
        """What server and client have agreed on; there is nothing before `negotiate`."""
        assert self._negotiated is not None, "negotiate comes first"
        return self._negotiated

    def server_time(self) -> int:
        """What the server's clock shows now, in nanoseconds since 1970, if it runs like ours since `negotiate`."""
        return self.negotiated.system_time + int((trio.current_time() - self._negotiated_at) * 10**9)

    def set_negotiated(self, negotiated: Negotiated, *, multi_credit: bool) -> None:
        """`multi_credit`: the server takes requests of more than one credit, so payloads may exceed 64 KiB."""
        self._negotiated, self._negotiated_at = negotiated, trio.current_time()
        self._protocol.multi_credit = multi_credit

    def add_session(self, session: SecuredSession, renew: Callable[[], Awaitable[None]] | None = None) -> None:
        """From now on answers of this session are checked with its keys. `renew` is called when it has expired."""
        self._protocol.add_session(session)
        self._renew = renew

    async def exchange(
        self, steps: Generator[Exchange, Reply, T], threads: trio.CapacityLimiter, route: Route | None = None
    ) -> T:
        """Runs a handshake: sends what it yields, gives it the answers, returns its result.

        A step may compute (NTLM) or wait for a KDC, so each runs in a thread, taken from `threads`. `route` is that of
        a session that is there already, for one that renews it.
        """
        resume: Reply | None = None
        while True:
            step = await trio.to_thread.run_sync(_advance, steps, resume, abandon_on_cancel=True, limiter=threads)
            if not isinstance(step, Exchange):
                return step.result
            request = Request(step.command, step.body)
            pending = self.start([request], route or Route(session_id=step.session_id))
            (response,) = await pending.wait()
            resume = Reply(
                status=response.status,
                session_id=response.header.session_id,
                body=response.message[64:],
                sent=pending.sent,
                received=response.message,
            )

    def statistics(self) -> ProtocolStatistics:
        return self._protocol.statistics()


class PendingCall:
    """A call under way."""

    __slots__ = ("_call", "_connection", "_event", "_received")

    def __init__(
        self, connection: Connection, call: Call, event: trio.Event, received: Callable[[Response], None] | None
    ) -> None:
        self._connection = connection
        self._call = call
        self._event = event
        self._received = received

    async def wait(self) -> list[Response]:
        """The answers, in the order of the requests. Errors as in Connection.call; abandons the call when cancelled."""
        try:
            await self.settle()
        except trio.Cancelled:
            self.abandon()  # also when the answer has just come: it may have opened a file
            raise
        return self.result()

    async def settle(self) -> None:
        """Waits until the call has its answers or an error, as long as a call may take; then it is given up.

        A call that was refused because its session had expired is sent again as soon as that is renewed. Several tasks
        may wait. Cancelling one of them gives up nothing.
        """
        await self._settle_once()
        for _ in range(RENEWALS):
            if not self._has_expired():
                return
            await self._renewed()
            await self._settle_once()

    def _has_expired(self) -> bool:
        first = self._call.responses[0]
        return self._call.error is None and first is not None and first.status == NtStatus.NETWORK_SESSION_EXPIRED

    async def _renewed(self) -> None:
        """Has the session renewed and the call sent again; what goes wrong with that is the call's error."""
        connection, call, renew = self._connection, self._call, self._connection._renew
        if renew is None or call.requests[0].command in (Command.SMB2_SESSION_SETUP, Command.SMB2_LOGOFF):
            return
        try:
            await renew()
            connection.renewed()
            if self._call is call:  # else another task that waits for it was faster
                event = trio.Event()
                self._call = connection._submitted(call.requests, call.route, self._received, event)
                self._event = event
        except DfsfsError as error:
            call.error = error

    async def _settle_once(self) -> None:
        connection, call = self._connection, self._call
        with trio.move_on_after(connection._request_timeout):
            await self._event.wait()
        if not self._event.is_set():
            self.abandon()
            command = call.requests[0].command.word
            detail = f"{command} was not answered within {connection._request_timeout:g} seconds"
            call.error = ConnectionLost(connection.host, NtStatus.IO_TIMEOUT, detail)
            self._event.set()

    @property
    def is_settled(self) -> bool:
        """Whether the call has its answers, or an error, and is not to be sent again."""
        return self._event.is_set() and not (self._has_expired() and self._connection._renew is not None)

    def result(self) -> list[Response]:
        """The answers of a call that is settled, in the order of the requests. Errors as in Connection.call."""
        if self._call.error is not None:
            raise self._call.error.with_traceback(None)  # that of all calls of a connection that was lost
        return [response for response in self._call.responses if response is not None]

    def abandon(self) -> None:
        """Nobody wants the answers any more. Whoever waits for them all the same gets an error at once."""
        self._connection.abandon(self._call)
        if not self._event.is_set():
            what = f"{self._call.requests[0].command.word} to {self._connection.host} was given up"
            self._call.error = SmbError(NtStatus.CANCELLED, what)
            self._event.set()

    @property
    def sent(self) -> bytes:
        """The message as it was sent, for the pre-authentication hash; handshake commands only."""
        return self._call.sent


@dataclass(frozen=True, slots=True)
class _Finished(Generic[T]):
    result: T


def _advance(steps: Generator[Exchange, Reply, T], resume: Reply | None) -> Exchange | _Finished[T]:
    try:
        return next(steps) if resume is None else steps.send(resume)
    except StopIteration as stop:
        return _Finished(stop.value)


def _hear(answered: Callable[[], None], response: Response) -> None:
    """The server has answered, whatever it says."""
    answered()


def _take_in(call: Call, received: Callable[[Response], None], event: trio.Event) -> None:
    response = call.responses[0]
    try:
        if call.error is None and response is not None:
            received(response)
    except WireError as error:
        call.error = error
        raise
    finally:
        event.set()

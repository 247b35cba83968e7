"""Connection: the trio shell around SmbProtocol, with one task that reads the socket and one that waits for room in it.

How the pieces work together:

1. A caller submits to the protocol. When it begins to wait, everything that is queued is sent (`flush`), in one call of
   the kernel and by the caller itself: that takes no other task. What nobody waits for yet is sent by the writer, when
   the tasks that run now have had their turn.
2. `flush` never waits, so nothing cancels it in the middle of a frame. What the socket does not take at once is left to
   the writer, and nothing else is sent before it.
3. The reader receives into `get_buffer()` and feeds the protocol, which completes calls: that wakes their callers; they
   run at the next turn of the loop. New credits may let queued calls go, so the reader flushes.
4. A caller that is cancelled or runs into its timeout abandons the call and is free at once. The protocol deals with
   the late answer. The timer ends waits whose time is up (pendingcall.py).
5. Whatever ends the connection (end of file, a reset, a malformed or forged response, silence, `close`) goes through
   `_end`: the first error is kept, the protocol fails every call with it, the socket closes, and `run` returns. No
   caller is left waiting, and the next use of the connection raises the same error.

The owner of `run` is the pool's nursery. `run` never raises but for cancellation.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from dfsfs.errors import ConnectionLost, DfsfsError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Call, Response, Route, SecuredSession
from dfsfs.smb.connection.handshake import Exchange, Negotiated, Reply
from dfsfs.smb.connection.leases import Lease, LeaseBreak, LeaseTable, no_acknowledgement
from dfsfs.smb.connection.pendingcall import PendingCall, Waits
from dfsfs.smb.wire.messages import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from dfsfs.smb.connection.protocol import ProtocolStatistics, SmbProtocol
    from dfsfs.smb.connection.transport import Transport
    from dfsfs.smb.wire.messages import Buffer

log = logging.getLogger("dfsfs.smb")

T = TypeVar("T")


class Connection:
    """An SMB connection to one server. `request_timeout` bounds each call, in seconds."""

    def __init__(self, host: str, transport: Transport, protocol: SmbProtocol, *, request_timeout: float) -> None:
        self.host = host
        self._transport = transport
        self._protocol = protocol
        self._now = trio.lowlevel.current_clock().current_time  # trio.current_time, without its detours
        self.waits = Waits(request_timeout, self._now)
        # A wait that begins while the timer sleeps must not end before that wakes.
        self._watch_interval = min(protocol.silence / 4, request_timeout)
        self._negotiated: Negotiated | None = None
        self._negotiated_at = 0.0
        self.leases = LeaseTable()
        protocol.on_break = self._on_lease_break
        self._unsent: Sequence[Buffer] = ()
        """What the socket did not take, and has to be sent first."""
        self._writer_wakeup = trio.Event()
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
        except Exception as error:
            self._end_by(error)
        scope.cancel()

    async def _read(self) -> None:
        protocol, now = self._protocol, self._now
        while True:
            count = await self._transport.receive_into(protocol.get_buffer())
            if count == 0:
                raise ConnectionLost(
                    self.host, NtStatus.CONNECTION_DISCONNECTED, "the server has closed the connection"
                )
            protocol.buffer_updated(count, now())
            if protocol.wants_to_send:
                self.flush()

    def flush(self) -> None:
        """Sends what may be sent now, as far as it goes without waiting. A failure ends the connection."""
        protocol, transport = self._protocol, self._transport
        if self._unsent:
            return  # the writer is waiting for room
        try:
            while protocol.wants_to_send and not self._unsent:
                self._unsent = transport.send_now(protocol.data_to_send(self._now()))
        except Exception as error:
            self._end_by(error)
        if self._unsent:
            self._writer_wakeup.set()

    async def _write(self) -> None:
        while True:
            await self._writer_wakeup.wait()
            self._writer_wakeup = trio.Event()
            while self._unsent:
                await self._transport.wait_writable()
                self._unsent = self._transport.send_now(self._unsent)
            self.flush()

    async def _watch(self) -> None:
        protocol, waits, now = self._protocol, self.waits, self._now
        while True:
            # Sending a request may move the deadline nearer, so don't sleep for long; nor wake up for each request.
            latest = now() + self._watch_interval
            await trio.sleep_until(min(protocol.next_deadline(), waits.next_deadline(), latest))
            waits.expire(now())
            protocol.handle_timer(now())
            self._wake_writer()

    def _wake_writer(self) -> None:
        """Has what may be sent sent soon."""
        if self._protocol.wants_to_send:
            self._writer_wakeup.set()

    def close(self) -> None:
        """Ends the connection at once; calls under way fail with ConnectionLost."""
        closed = ConnectionLost(self.host, NtStatus.CONNECTION_DISCONNECTED, "the connection was closed")
        self._end(closed, logging.DEBUG)

    def _end_by(self, error: Exception) -> None:
        """Ends the connection because of an exception. A bug must end this connection, and not the whole mount."""
        if not isinstance(error, DfsfsError):
            log.error("%s: the connection failed in an unexpected way", self.host, exc_info=error)
            error = ConnectionLost(self.host, NtStatus.CONNECTION_DISCONNECTED, "it failed in an unexpected way")
        self._end(error)

    def _end(self, error: DfsfsError, level: int = logging.INFO) -> None:
        if self._protocol.error is not None:
            return
        log.log(level, "%s: connection ended: %s", self.host, error)
        self._protocol.connection_lost(error)
        self._unsent = ()
        self._transport.close()
        self._closed.set()
        for lease, before in self.leases.connection_lost():
            lease.on_break(before, no_acknowledgement)

    @property
    def alive(self) -> bool:
        return self._protocol.error is None

    # -- calls ------------------------------------------------------------------------------------------------------

    def start(
        self, requests: Sequence[Request], route: Route, received: Callable[[Response], None] | None = None
    ) -> PendingCall:
        """Submits a call without waiting for it; the caller must then `wait` for it or `abandon` it.

        `received` gets the response to the first request before any later message is processed. A WireError
        that it raises ends the connection.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has ended, by this error.
        """
        pending = PendingCall(self, requests, route, received)
        self._wake_writer()
        return pending

    def _submit(
        self,
        requests: Sequence[Request],
        route: Route,
        received: Callable[[Response], None] | None,
        answered: Callable[[], None],
    ) -> Call:
        done = answered if received is None else lambda: _deliver_response(call, received, answered)
        call: Call = self._protocol.submit(requests, route, done)
        return call

    async def call(
        self, requests: Sequence[Request], route: Route, received: Callable[[Response], None] | None = None
    ) -> list[Response]:
        """Sends a request, or several as one related compound, and waits for all responses. They are in the order of
        the requests. `received`: as in `start`.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection ended before they came.
            ConnectionLost: with STATUS_IO_TIMEOUT if they did not come within the request timeout.
        """
        return await PendingCall(self, requests, route, received).wait()

    def call_nowait(
        self, requests: Sequence[Request], route: Route, on_answer: Callable[[], None] = lambda: None
    ) -> None:
        """Sends a call whose responses are not needed, such as the CLOSE of a handle that was only read. Never waits,
        never fails: if the connection has ended, its handles have ended with it. If the session has expired, the call
        is sent again, once, after a renewal. `on_answer` is called when the server has answered, whatever the status.
        """
        if self.alive:
            self._submit(requests, route, partial(self._on_nowait_answer, requests, route, on_answer), _nothing)
            self._wake_writer()

    def _on_nowait_answer(
        self, requests: Sequence[Request], route: Route, on_answer: Callable[[], None], response: Response
    ) -> None:
        if response.status == NtStatus.NETWORK_SESSION_EXPIRED:
            self._refused.append((requests, route, on_answer))
        else:
            on_answer()

    def resend_refused(self) -> None:
        """Sends the calls of `call_nowait` again that were refused because the session had expired. Only once, as with
        a session that expires at every request that would never end.
        """
        refused, self._refused = self._refused, []
        for requests, route, on_answer in refused:
            if self.alive:
                self._submit(requests, route, partial(_ignore_response, on_answer), _nothing)
                self._wake_writer()

    def _on_lease_break(self, notification: LeaseBreak) -> None:
        lease = self.leases.get(notification.key)
        if lease is None:
            return  # the last handle under it was closed in the meantime, which ends the lease
        before = lease.apply_break(notification)
        if notification.acknowledge or before != lease.state:
            lease.on_break(before, lambda: self._acknowledge(lease, lease.finish_break()))

    def _acknowledge(self, lease: Lease, acknowledgement: Request | None) -> None:
        if acknowledgement is not None:
            self.call_nowait(
                [acknowledgement], lease.route, lambda: self._acknowledge(lease, lease.finish_acknowledgement())
            )

    def abandon(self, call: Call) -> None:
        """Gives up a call. A file that it opens, or has opened, is closed again."""
        self._protocol.abandon(call)
        self._wake_writer()

    def io_size(self, limit: int) -> int:
        """The largest payload, up to `limit` bytes, for one request: bounded by the credits the server gives."""
        return self._protocol.io_size(limit)

    # -- handshake --------------------------------------------------------------------------------------------------

    @property
    def negotiated(self) -> Negotiated:
        """The result of NEGOTIATE. Must not be asked for before `set_negotiated`."""
        assert self._negotiated is not None, "negotiate comes first"
        return self._negotiated

    def server_time(self) -> int:
        """The server's clock in nanoseconds since 1970: its SystemTime in NEGOTIATE and what has passed since then."""
        return self.negotiated.system_time + int((self._now() - self._negotiated_at) * 10**9)

    def set_negotiated(self, negotiated: Negotiated, *, multi_credit: bool) -> None:
        """`multi_credit`: the server takes requests of more than one credit, so that payloads may exceed 64 KiB."""
        self._negotiated, self._negotiated_at = negotiated, self._now()
        self._protocol.multi_credit = multi_credit

    def add_session(self, session: SecuredSession, renew: Callable[[], Awaitable[None]] | None = None) -> None:
        """Responses of this session are checked with its keys from now on. `renew` is awaited when it has expired."""
        self._protocol.add_session(session)
        self._renew = renew

    async def exchange(
        self, steps: Generator[Exchange, Reply, T], threads: trio.CapacityLimiter, route: Route | None = None
    ) -> T:
        """Runs a handshake: sends what it yields, sends the replies into it, returns its result.

        A step may compute (NTLM) or wait for a KDC, so each runs in a thread of `threads`. `route`: that of the
        existing session, if the handshake renews one.
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


@dataclass(frozen=True, slots=True)
class _Finished(Generic[T]):
    result: T


def _advance(steps: Generator[Exchange, Reply, T], resume: Reply | None) -> Exchange | _Finished[T]:
    try:
        return next(steps) if resume is None else steps.send(resume)
    except StopIteration as stop:
        return _Finished(stop.value)


def _ignore_response(on_answer: Callable[[], None], response: Response) -> None:
    """The `on_response` of a call that is not sent again whatever the status."""
    on_answer()


def _nothing() -> None:
    """What is told of the answers that nobody waits for."""


def _deliver_response(call: Call, received: Callable[[Response], None], answered: Callable[[], None]) -> None:
    response = call.responses[0]
    try:
        if call.error is None and response is not None:
            received(response)
    except WireError as error:
        call.error = error
        raise
    finally:
        answered()

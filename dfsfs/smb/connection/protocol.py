"""SmbProtocol: one SMB2 connection as an object without I/O (MS-SMB2 3.2.4, 3.2.5.1).

Inputs: `submit` (one request, or several as a related compound), `abandon`, `buffer_updated`, `handle_timer`,
`connection_lost`. Outputs: `data_to_send`, the `done` callback of each call, `next_deadline`. The shell in
connection.py moves the bytes.

Rules:

- Calls are sent in the order of their submission, each as soon as there are credits for all of it. If a call needs more
  credits than are available and nothing is in flight, ECHOs ask for more; if the server grants none, the call fails.
- A MessageId belongs to one request until its final response. A response to no request ends the connection.
- An abandoned call that was not sent is forgotten. One that was sent keeps its credits until its response comes; if
  that has opened a file, the file is closed. A CANCEL is sent only after STATUS_PENDING, and once for a MessageId:
  otherwise an attacker could provoke more of them with interim responses, which are not signed.
- On a signed session every response but STATUS_PENDING has a valid signature, on an encrypted one every response is
  encrypted. Anything else raises SecurityError, and the shell ends the connection (3.2.5.1.3).
- A server from which nothing comes for `silence` seconds while responses are due is lost (next_deadline, handle_timer).
  A request is not due after STATUS_PENDING, nor is the rest of its compound.
- A frame is no larger than the responses to one call in flight can be, or than a lease break if none is in flight.

Signing a large WRITE takes CPU time in `data_to_send`; nothing here waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.errors import ConnectionLost, DfsfsError, SecurityError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Call, Response, Route, SecuredSession
from dfsfs.smb.connection.credits import CreditStatistics, CreditWindow
from dfsfs.smb.connection.crypto import TRANSFORM_SIZE, verify
from dfsfs.smb.connection.framing import PREFIX_SIZE, FrameReader
from dfsfs.smb.connection.leases import LARGEST_BREAK, LeaseBreak, decode_break
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import (
    SMB2_FLAGS_ASYNC_COMMAND,
    SMB2_FLAGS_DFS_OPERATIONS,
    SMB2_FLAGS_RELATED_OPERATIONS,
    SMB2_FLAGS_SERVER_TO_REDIR,
    SMB2_FLAGS_SIGNED,
    Command,
)
from dfsfs.smb.wire.messages import HEADER, HEADER_SIZE, Buffer, Header, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of the largest frame that is accepted. Servers offer reads of 8 MiB at most."""
MAX_BATCH_BUFFERS = 256
"""Buffers after which `data_to_send` adds no call: far below the 1,024 that one sendmsg(2) takes."""
UNDECIDED_MAX = 60.0
"""Seconds after which a call that was given up is taken to be decided, though the server has not answered it."""
ECHO_LIMIT = 4
"""ECHOs in a row that ask for credits, before the call that needs them fails."""
UNSOLICITED = 0xFFFFFFFFFFFFFFFF
"""MessageId of an oplock or lease break notification (MS-SMB2 3.3.4.6)."""
_ZERO_SIGNATURE = b"\0" * 16
"""The Signature field while the signature is computed (MS-SMB2 3.1.4.1)."""
# Bound once: an attribute of an Enum takes five times as long as a global name (docs/decisions/001).
_CREATE, _ECHO = Command.SMB2_CREATE, Command.SMB2_ECHO
_PENDING, _SESSION_DELETED = int(NtStatus.PENDING), int(NtStatus.USER_SESSION_DELETED)
_HANDSHAKE = (Command.SMB2_NEGOTIATE, Command.SMB2_SESSION_SETUP)


@dataclass(frozen=True, slots=True)
class ProtocolStatistics:
    """A snapshot of one connection: calls that wait for credits, requests in flight, credits, totals so far."""

    queued: int
    in_flight: int
    credits: CreditStatistics
    requests_sent: int
    bytes_sent: int
    bytes_received: int


class SmbProtocol:
    """See the module's text. `silence` and `echo_interval` are seconds; `now` is any monotonic clock."""

    def __init__(self, host: str, *, max_credits: int, silence: float, echo_interval: float, now: float) -> None:
        self.host = host
        self.multi_credit = False  # set once negotiate has shown a server with LARGE_MTU
        self._frames = FrameReader(MAX_FRAME, self._expects)
        self._credits = CreditWindow(max_credits)
        self.silence = silence
        self._echo_interval = echo_interval
        self._last_received = now
        self._queue: deque[Call] = deque()
        self._urgent: list[Buffer] = []  # CANCELs: outside the order and the credits
        self._in_flight: dict[int, tuple[Call, int]] = {}  # MessageId -> call, index in it
        self._sessions: dict[int, SecuredSession] = {}
        self._echoes = 0
        self.error: DfsfsError | None = None
        """What ended the connection; None while it lives."""
        self._requests_sent = self._bytes_sent = self._bytes_received = 0
        self.on_break: Callable[[LeaseBreak], None] = lambda notification: None
        """Called for each lease break, in the order of what was received."""

    # -- sessions ---------------------------------------------------------------------------------------------------

    def add_session(self, session: SecuredSession) -> None:
        """Responses with this SessionId must be secured as the session demands from now on."""
        self._sessions[session.session_id] = session

    # -- calls ------------------------------------------------------------------------------------------------------

    def submit(self, requests: Sequence[Request], route: Route, done: Callable[[], None]) -> Call:
        """Queues a call. `done()` is called once, when it has all responses or its `error`, unless it is abandoned.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has already ended, by this error.
        """
        if self.error is not None:
            raise self.error.with_traceback(None)  # it would collect the frames of all callers otherwise
        count, charge = len(requests), sum([request.charge for request in requests])
        call = Call(tuple(requests), route, done, [None] * count, count, charge)
        self._queue.append(call)
        return call

    def abandon(self, call: Call) -> None:
        """Gives up a call, also one that is done. Its `done` will not be called. Doing it again has no effect."""
        if call.abandoned:
            return
        call.abandoned, call.done = True, _ignore
        if call.remaining == 0:
            self._close_orphan(call)
        if call.first_id < 0:
            if call.error is None:
                self._queue.remove(call)
            return
        for message_id, async_id in call.async_ids.items():
            self._cancel(call, message_id, async_id)

    def io_size(self, limit: int) -> int:
        """The largest payload in bytes, up to `limit`, that the credits of the connection pay for in one request."""
        if not self.multi_credit:
            return min(limit, messages.CREDIT_UNIT)
        return max(messages.CREDIT_UNIT, min(limit, self._credits.total * messages.CREDIT_UNIT))

    # -- sending ----------------------------------------------------------------------------------------------------

    @property
    def wants_to_send(self) -> bool:
        return bool(self._urgent) or (bool(self._queue) and (self._can_afford(self._queue[0]) or not self._in_flight))

    def data_to_send(self, now: float) -> list[Buffer]:
        """The frames that may go out now, as buffers for one gathering send; empty if there is nothing to send.

        Raises:
            ConnectionLost: there are no credits left, and nothing is in flight that could bring one: no request can
                ever be sent again.
        """
        buffers, self._urgent = self._urgent, []
        while self._queue and len(buffers) < MAX_BATCH_BUFFERS:
            if not self._can_afford(self._queue[0]):
                if self._in_flight:
                    break
                self._ask_for_credits()
                continue
            call = self._queue.popleft()
            call.sent_at = now
            if not self._is_answer_due():
                self._last_received = now  # silence only counts while an answer is due
            self._append_frame(buffers, self._encode_call(call), call.route)
        self._bytes_sent += sum(map(len, buffers))
        return buffers

    def _can_afford(self, call: Call) -> bool:
        return self._credits.can_take(call.charge if self.multi_credit else len(call.requests))

    def _ask_for_credits(self) -> None:
        """Queues an ECHO that asks for credits, or fails the first call, which needs more than there are. Nothing is in
        flight that could bring them."""
        call, available = self._queue[0], self._credits.statistics().available
        if not available:
            raise ConnectionLost(self.host, NtStatus.INSUFFICIENT_RESOURCES, "the server has taken all credits")
        if self._echoes < ECHO_LIMIT:
            self._echoes += 1
            self._queue.appendleft(Call((messages.encode_plain(_ECHO),), Route(), _ignore, [None], 1, 1))
            return
        self._queue.popleft()
        what = f"{call.requests[0].command.word} of {call.charge} credits to {self.host}, which grants {available}"
        self._fail(call, SmbError(NtStatus.INSUFFICIENT_RESOURCES, what))

    def _encode_call(self, call: Call) -> list[list[Buffer]]:
        """Each message of the call as buffers: header, body and padding in one, the payload of a WRITE not copied."""
        messages: list[list[Buffer]] = []
        last = len(call.requests) - 1
        signed = SMB2_FLAGS_SIGNED if self._must_sign(call.route) else 0
        for index, request in enumerate(call.requests):
            charge = request.charge if self.multi_credit else 1
            message_id = self._credits.take(charge)
            if index == 0:
                call.first_id = message_id
            self._in_flight[message_id] = (call, index)
            length = HEADER_SIZE + len(request.body) + len(request.payload)
            padding = 0 if index == last else -length % 8
            flags = signed | SMB2_FLAGS_RELATED_OPERATIONS if index else signed
            head = self._pack_header(call, request, charge, message_id, flags, 0 if index == last else length + padding)
            if request.payload:
                message: list[Buffer] = [head + request.body, request.payload]
                if padding:
                    message.append(bytes(padding))
            else:
                message = [head + request.body + bytes(padding)]
            if signed:
                self._sign(message, call.route, message_id)
            messages.append(message)
            self._requests_sent += 1
        if call.requests[0].command in _HANDSHAKE:
            call.sent = b"".join(messages[0])
        return messages

    def _pack_header(
        self, call: Call, request: Request, charge: int, message_id: int, flags: int, next_command: int
    ) -> bytearray:
        route = call.route
        if route.dfs and request.command is _CREATE:
            flags |= SMB2_FLAGS_DFS_OPERATIONS
        return bytearray(
            HEADER.pack(
                messages.SMB2_MAGIC,
                HEADER_SIZE,
                charge if self.multi_credit else 0,
                0,
                request.command,
                self._credits.credits_to_request(charge),
                flags,
                next_command,
                message_id,
                0xFEFF,
                route.tree_id,
                route.session_id,
                _ZERO_SIGNATURE,
            )
        )

    @staticmethod
    def _must_sign(route: Route) -> bool:
        return route.session is not None and route.session.keys is not None and not route.seal

    def _sign(self, message: list[Buffer], route: Route, message_id: int, *, is_cancel: bool = False) -> None:
        assert route.session is not None and route.session.keys is not None
        signature = route.session.keys.signer.sign(
            message, message_id=message_id, from_server=False, is_cancel=is_cancel
        )
        first = message[0]
        assert isinstance(first, bytearray)
        first[48:64] = signature

    def _append_frame(self, buffers: list[Buffer], messages: list[list[Buffer]], route: Route) -> None:
        parts = [part for message in messages for part in message]
        if route.seal:
            assert route.session is not None and route.session.keys is not None
            assert route.session.keys.sealer is not None
            parts = list(route.session.keys.sealer.seal(parts))
        buffers.append(sum(map(len, parts)).to_bytes(PREFIX_SIZE, "big"))
        buffers.extend(parts)

    def _cancel(self, call: Call, message_id: int, async_id: int) -> None:
        """Queues a CANCEL (MS-SMB2 3.2.4.24). It takes no credit and no MessageId, and has no response."""
        flags = SMB2_FLAGS_ASYNC_COMMAND | (SMB2_FLAGS_SIGNED if self._must_sign(call.route) else 0)
        request = messages.encode_plain(Command.SMB2_CANCEL)
        head = HEADER.pack(
            messages.SMB2_MAGIC,
            HEADER_SIZE,
            0,
            0,
            Command.SMB2_CANCEL,
            0,
            flags,
            0,
            message_id,
            async_id & 0xFFFFFFFF,
            async_id >> 32,
            call.route.session_id,
            _ZERO_SIGNATURE,
        )
        message: list[Buffer] = [bytearray(head) + request.body]
        try:
            if flags & SMB2_FLAGS_SIGNED:
                self._sign(message, call.route, message_id, is_cancel=True)
        except SecurityError:
            return  # the signer has forgotten whether it signed one for this MessageId: the request is not cancelled
        self._append_frame(self._urgent, [message], call.route)

    # -- receiving --------------------------------------------------------------------------------------------------

    def get_buffer(self) -> memoryview:
        """The buffer into which the shell has to receive the next bytes."""
        return self._frames.get_buffer()

    def buffer_updated(self, count: int, now: float) -> None:
        """`count` bytes have come into `get_buffer()`.

        Raises:
            WireError, SecurityError: a protocol violation; the shell must call `connection_lost` with it.
        """
        self._last_received = now
        self._bytes_received += count
        for frame in self._frames.buffer_updated(count):
            self._handle_frame(frame)

    def _expects(self, length: int) -> bool:
        """Whether a frame of so many bytes can be a response to a call in flight, or a lease break."""
        length -= TRANSFORM_SIZE
        if length <= LARGEST_BREAK:
            return True
        return any(length <= call.largest_answer for call, _ in self._in_flight.values())

    def _handle_frame(self, frame: memoryview) -> None:
        if frame[:4] != messages.TRANSFORM_MAGIC:
            self._handle_messages(frame, None)
            return
        if len(frame) < TRANSFORM_SIZE:
            raise WireError(f"an encrypted frame of {len(frame)} bytes")
        session_id = int.from_bytes(frame[44:52], "little")
        session = self._sessions.get(session_id)
        if session is None or session.keys is None or session.keys.sealer is None:
            raise WireError(f"{self.host} sent an encrypted frame for session {session_id:#x}, which has no keys")
        self._handle_messages(memoryview(session.keys.sealer.open(frame)), session_id)

    def _handle_messages(self, frame: memoryview, sealed_by: int | None) -> None:
        while True:
            header = messages.decode_header(frame)
            length = header.next_command or len(frame)
            if length < HEADER_SIZE or length > len(frame) or (header.next_command and length % 8):
                raise WireError(f"{self.host} sent a compound with NextCommand {header.next_command}")
            self._handle_message(header, frame[:length], sealed_by)
            if not header.next_command:
                return
            frame = frame[length:]

    def _handle_message(self, header: Header, message: memoryview, sealed_by: int | None) -> None:
        if not header.flags & SMB2_FLAGS_SERVER_TO_REDIR:
            raise WireError(f"{self.host} sent a request")
        if header.message_id == UNSOLICITED:
            self._handle_break(header, message)
            return
        entry = self._in_flight.get(header.message_id)
        if entry is None:
            raise WireError(f"{self.host} answered MessageId {header.message_id}, which was not asked")
        call, index = entry
        if header.command != call.requests[index].command:
            raise WireError(f"{self.host} answered {call.requests[index].command.word} with command {header.command}")
        interim = header.status == _PENDING and bool(header.flags & SMB2_FLAGS_ASYNC_COMMAND)
        if not (index and call.was_refused_as_expired):
            self._check_security(header, message, call.route, sealed_by, interim)
        self._credits.grant(header.credits)
        if interim:
            self._handle_pending(call, header)
            return
        del self._in_flight[header.message_id]
        self._credits.complete(call.requests[index].charge if self.multi_credit else 1)
        call.async_ids.pop(header.message_id, None)
        call.responses[index] = Response(header, message)
        call.remaining -= 1
        if call.remaining == 0:
            self._finish(call)

    def _handle_break(self, header: Header, message: memoryview) -> None:
        """Handles a break notification. It is not signed (MS-SMB2 3.2.5.1.3); a forged one only makes us cache less."""
        if not self._sessions:
            raise WireError(f"{self.host} sent a break notification before there was a session")
        if header.command != Command.SMB2_OPLOCK_BREAK:
            raise WireError(f"{self.host} sent command {header.command} without being asked")
        notification = decode_break(message)
        if notification is not None:
            self.on_break(notification)

    def _check_security(
        self, header: Header, message: memoryview, route: Route, sealed_by: int | None, interim: bool
    ) -> None:
        session = route.session
        if session is None or session.keys is None:
            return
        if header.status == _SESSION_DELETED:
            # A server that has forgotten the session has no key to sign or seal this with (Samba 4.17 sends zeros). A
            # forged one ends the connection, which an attacker in between can do anyway.
            raise ConnectionLost(self.host, header.status, "the server has ended the session")
        if sealed_by is not None:
            if sealed_by != session.session_id:
                raise SecurityError(f"{self.host} encrypted an answer with the keys of another session")
            return
        if route.seal:
            raise SecurityError(f"{self.host} answered an encrypted request in the clear")
        if interim:
            return  # MS-SMB2 3.2.5.1.3: interim responses are not signed; they carry nothing but credits
        if not header.flags & SMB2_FLAGS_SIGNED:
            raise SecurityError(f"{self.host} sent an unsigned answer on a signed session")
        verify(
            session.keys.signer,
            (message[:48], _ZERO_SIGNATURE, message[HEADER_SIZE:]),
            header.signature,
            message_id=header.message_id,
            from_server=True,
            is_cancel=False,
        )

    def _handle_pending(self, call: Call, header: Header) -> None:
        if header.message_id in call.async_ids:
            return  # a server sends one (MS-SMB2 3.3.4.2), and the request may be cancelled already
        call.async_ids[header.message_id] = header.async_id
        if call.abandoned:
            self._cancel(call, header.message_id, header.async_id)

    def _finish(self, call: Call) -> None:
        if call.requests[0].command is not _ECHO:
            self._echoes = 0
        if call.abandoned:
            self._close_orphan(call)
            call.decide()
        else:
            self._notify_done(call)

    @staticmethod
    def _notify_done(call: Call) -> None:
        """Calls `done`, and drops it: it refers to the call, and the two would be a cycle."""
        done, call.done = call.done, _ignore
        done()

    def _close_orphan(self, call: Call) -> None:
        """Closes the file that an abandoned call has opened, unless the call itself has a CLOSE."""
        first = call.responses[0]
        commands = [request.command for request in call.requests]
        if commands[0] is not _CREATE or Command.SMB2_CLOSE in commands or first is None or first.status:
            return
        if self.error is not None:
            return
        created = messages.decode_create(first.message)
        self.submit([messages.encode_close(created.file_id)], call.route, _ignore)

    # -- time and the end -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """The latest time at which `handle_timer` has to be called, by the clock of `now`."""
        return self._last_received + (self.silence if self._is_answer_due() else self._echo_interval)

    def handle_timer(self, now: float) -> None:
        """Frees unused buffers, and sends an ECHO on an idle connection. To be called every few seconds.

        Raises:
            ConnectionLost: responses are due and nothing has come for `silence` seconds.
        """
        self._frames.release_idle()
        for call in {call for call, _ in self._in_flight.values() if now - call.sent_at > UNDECIDED_MAX}:
            call.decide()
        if now < self.next_deadline():
            return
        if self._is_answer_due():
            raise ConnectionLost(self.host, NtStatus.IO_TIMEOUT, f"no answer for {self.silence:g} seconds")
        self._last_received = now
        self.submit([messages.encode_plain(_ECHO)], Route(), _ignore)

    def _is_answer_due(self) -> bool:
        """Whether a response is due. After STATUS_PENDING for a request, all of its compound is not."""
        return any(not call.async_ids for call, _ in self._in_flight.values())

    def connection_lost(self, error: DfsfsError) -> None:
        """Fails all calls with this error, now and later. The first call of this counts."""
        if self.error is not None:
            return
        self.error = error
        self._frames.close()
        calls = {id(call): call for call, _ in self._in_flight.values()}
        calls.update((id(call), call) for call in self._queue)
        self._in_flight.clear()
        self._queue.clear()
        self._urgent.clear()
        for call in calls.values():
            self._fail(call, error)

    def _fail(self, call: Call, error: DfsfsError) -> None:
        call.error = error
        call.decide()
        if not call.abandoned:
            self._notify_done(call)

    def statistics(self) -> ProtocolStatistics:
        return ProtocolStatistics(
            queued=len(self._queue),
            in_flight=len(self._in_flight),
            credits=self._credits.statistics(),
            requests_sent=self._requests_sent,
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
        )

    def check_invariants(self) -> None:
        self._credits.check_invariants()
        charges = (call.requests[index].charge if self.multi_credit else 1 for call, index in self._in_flight.values())
        assert sum(charges) == self._credits.statistics().outstanding or self.error is not None


def _ignore() -> None:
    """The `done` of calls whose outcome is not needed."""

"""Server: connections to one volume, whose requests and answers a test holds and lets go.

    frame comes in      a Held request lies in `requests`
    apply(request)      it is carried out, in one piece; its answer lies in `messages`. A request that has to wait for
                        the acknowledgement of a lease break stays, half done, until `may_apply` says that it can go on
    let_go(message)     the answer, or the notification of a break, reaches the client

With `holds` False all of that happens by itself and at once, which is what tests of other things want.

The order in which messages reach a client is the test's, but for one thing: a break follows the answer that granted
what it takes back. A server may carry out requests of one connection in any order, and so may the test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Command
from tests.support.fakes.server import messages
from tests.support.fakes.server.describe import describe
from tests.support.fakes.server.errors import MustWait
from tests.support.fakes.server.requests import Answer, Session
from tests.support.fakes.server.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.smb.wire.constants import LeaseState
    from tests.support.fakes.server.leases import ServerLease
    from tests.support.fakes.server.messages import Part

CREDITS = 512
"""Credits that one connection may hold at most, in hand and in flight."""


@dataclass(slots=True, eq=False)
class Held:
    """A frame that has come in: one request or a compound."""

    connection: ServerConnection
    number: int
    parts: list[Part]
    answers: list[Answer] = field(default_factory=list)
    """To what is done already."""
    leases: list[bytes] = field(default_factory=list)
    """The keys of leases that it was granted."""
    waits: bool = False
    """Whether it was begun, and somebody has to acknowledge a break first."""

    def __str__(self) -> str:
        return f"{self.connection.name}#{self.number} {describe(self.parts)}"


@dataclass(slots=True, eq=False)
class Message:
    """What a client gets. `request`: what it answers; `after`: what has to reach the client before."""

    connection: ServerConnection
    data: bytes
    text: str = ""
    """Of a break: what it says."""
    request: Held | None = None
    after: Message | None = None
    arrived: bool = False

    def __str__(self) -> str:
        if self.request is None:
            return self.text
        statuses = " ".join(_status_name(status) for status, _ in self.request.answers)
        return f"{self.connection.name}#{self.request.number} {statuses}"


class Server:
    """See the module's text."""

    def __init__(self, volume: Volume | None = None, *, holds: bool = False) -> None:
        self.volume = volume or Volume()
        self.holds = holds
        self.lie: Callable[[Session, Part], Answer | None] | None = None
        """What a request is answered with instead, see hostile.py. For connections that are made from then on."""
        self.pause = 0.0
        """Seconds between two listings on a socket."""
        self.grants = True
        """Whether credits are granted; if not, none at all."""
        self.requests: list[Held] = []
        self.messages: list[Message] = []
        self.on_event: Callable[[str, Held | Message], None] = lambda what, about: None
        """Is told of each request that comes in (`sent`) and each lease break (`breaks`)."""
        self._connections: list[ServerConnection] = []

    def connect(
        self, deliver: Callable[[bytes], None], hang_up: Callable[[], None], name: str = ""
    ) -> ServerConnection:
        """A new client; `deliver` takes what is sent to it, `hang_up` that the connection has ended."""
        connection = ServerConnection(self, deliver, hang_up, name)
        self._connections.append(connection)
        return connection

    @property
    def opens(self) -> int:
        """Handles of all clients."""
        return len(self.volume.opens)

    def arrived(self, held: Held) -> None:
        self.requests.append(held)
        if not self.holds:
            self.run()

    def run(self) -> None:
        """Applies all that has come and lets go of all answers, until there is nothing to do."""
        while True:
            ready = [held for held in self.requests if self.may_apply(held)]
            if not ready and not self.messages:
                return
            for held in ready[:1]:
                self.apply(held)
            while self.messages:
                self.let_go(self.messages[0])

    def may_apply(self, held: Held) -> bool:
        """Whether a request can be carried out, or be gone on with, now."""
        return not held.waits

    def apply(self, held: Held) -> None:
        """Carries a request out, as far as it goes without waiting for a client."""
        held.connection.carry_out(held)

    def acknowledged(self) -> None:
        """A client has given something back, or has closed a handle: what waits may go on."""
        for held in self.requests:
            held.waits = False

    def may_let_go(self, message: Message) -> bool:
        return message.after is None or message.after.arrived

    def die(self) -> None:
        """The server is killed, and started again at once: it knows no more than what is on its disk."""
        self.volume.lose_handles()
        for connection in self._connections:
            connection.cut()

    def let_go(self, message: Message) -> None:
        """The message reaches its client."""
        self.messages.remove(message)
        message.arrived = True
        if message.connection.alive:
            message.connection.deliver(message.data)


class ServerConnection:
    """One client's connection."""

    def __init__(
        self, server: Server, deliver: Callable[[bytes], None], hang_up: Callable[[], None], name: str
    ) -> None:
        self.server = server
        self.name = name
        self.alive = True
        self.session = Session(server.volume, self, self._tell)
        self.session.lie = server.lie
        self.credits = 1
        """What the client has, in hand and in flight."""
        self._deliver = deliver
        self._hang_up = hang_up
        self._buffer = b""
        self._count = 0
        self._last_granting: dict[bytes, Message] = {}

    # -- bytes ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes of the client, in pieces of any size."""
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            frame, self._buffer = self._buffer[4:end], self._buffer[end:]
            self._frame(frame)

    def _frame(self, frame: bytes) -> None:
        parts = messages.split(frame)
        if parts[0].command is Command.SMB2_CANCEL:
            return  # what waits here is done soon enough
        self._count += 1
        charge = sum(max(1, part.header.credit_charge) for part in parts)
        self.credits -= charge
        assert self.credits >= 0, f"the client has sent {-self.credits} credits more than it has"
        held = Held(self, self._count, parts)
        self.server.on_event("sent", held)
        self.server.arrived(held)

    def deliver(self, data: bytes) -> None:
        self._deliver(len(data).to_bytes(4, "big") + data)

    def cut(self) -> None:
        """The connection ends: handles are closed, what was asked and what was to be answered is gone."""
        if not self.alive:
            return
        self.alive = False
        self.server.requests = [held for held in self.server.requests if held.connection is not self]
        self.server.messages = [message for message in self.server.messages if message.connection is not self]
        self.session.end()
        self.server.acknowledged()
        self._hang_up()

    # -- requests ---------------------------------------------------------------------------------------------------

    def carry_out(self, held: Held) -> None:
        """See Server.apply."""
        for part in held.parts[len(held.answers) :]:
            try:
                held.answers.append(self.session.carry_out(part))
            except MustWait:
                held.waits = True
                self._promise(held, part)
                return
            if self.session.apply_grant is not None:
                held.leases.append(self.session.apply_grant)
            if part.command in (Command.SMB2_OPLOCK_BREAK, Command.SMB2_CLOSE, Command.SMB2_TREE_DISCONNECT):
                self.server.acknowledged()
        self.server.requests.remove(held)
        self._answer(held)

    def _promise(self, held: Held, part: Part) -> None:
        """STATUS_PENDING, which costs no credit and tells the client to go on waiting (MS-SMB2 3.3.4.2)."""
        self.deliver(messages.pack(part, NtStatus.PENDING, messages.ERROR_BODY, 0, async_id=held.number))

    def _answer(self, held: Held) -> None:
        packed, last = [], len(held.parts) - 1
        for index, (part, (status, body)) in enumerate(zip(held.parts, held.answers, strict=True)):
            credits = self._grant(part)
            packed.append(messages.pack(part, status, body, credits, related=part.is_related, is_last=index == last))
        message = Message(self, b"".join(packed), request=held)
        self.server.messages.append(message)
        # A break of what this answer grants has to reach the client after it.
        self._last_granting.update(dict.fromkeys(held.leases, message))

    def _grant(self, part: Part) -> int:
        """What is asked for, as long as the client does not have CREDITS already; at least one."""
        credits = max(1, min(part.header.credits, CREDITS - self.credits)) if self.server.grants else 0
        self.credits += credits
        return credits

    def _tell(self, lease: ServerLease, left: LeaseState, acknowledge: bool) -> None:
        data = messages.lease_break(lease.key, lease.state, left, lease.epoch, acknowledge=acknowledge)
        text = f"{self.name} break of lease {lease.key[:2].hex()} to {left!r}"
        message = Message(self, data, text, after=self._last_granting.get(lease.key))
        self.server.on_event("breaks", message)
        self.server.messages.append(message)


def _status_name(status: int) -> str:
    try:
        return NtStatus(status).name
    except ValueError:
        return f"{status:#x}"

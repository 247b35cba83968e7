"""Calls: a request or compound on a connection, the session and tree that it is sent under, and its responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.messages import CREDIT_UNIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.errors import DfsfsError
    from dfsfs.smb.connection.crypto import SessionKeys
    from dfsfs.smb.wire.messages import Header, Request


ANSWER_OVERHEAD = 4096
"""Bytes of an answer besides its payload: header, body, padding, and the contexts of NEGOTIATE and CREATE."""


class SecuredSession(Protocol):
    """What SmbProtocol needs of a session; handshake.Session has it."""

    @property
    def session_id(self) -> int: ...
    @property
    def keys(self) -> SessionKeys | None: ...
    @property
    def encrypt(self) -> bool: ...


class Response(NamedTuple):
    """A final response: its header, and the whole message as received, including the header."""

    header: Header
    message: memoryview

    @property
    def status(self) -> int:
        return self.header.status


@dataclass(frozen=True, slots=True)
class Route:
    """The session and tree that a call is sent under. `dfs` sets SMB2_FLAGS_DFS_OPERATIONS on its CREATEs; `seal`
    encrypts it.
    """

    session: SecuredSession | None = None
    session_id: int = 0
    tree_id: int = 0
    dfs: bool = False
    seal: bool = False


@dataclass(slots=True, eq=False)
class Call:
    """A submitted request or compound, and its responses so far."""

    requests: tuple[Request, ...]
    route: Route
    done: Callable[[], None]
    responses: list[Response | None]
    remaining: int
    charge: int
    """The credits that it takes."""
    first_id: int = -1  # MessageId; negative while it is not sent
    async_ids: dict[int, int] = field(default_factory=dict)  # MessageId -> AsyncId of what is pending at the server
    sent_at: float = 0.0
    sent: bytes = b""  # the message as sent, kept for handshakes only
    error: DfsfsError | None = None
    abandoned: bool = False
    on_decided: Callable[[], None] | None = None
    """Of a call that was given up: is called when the server will do no more of it, see dfsfs/unanswered.py."""

    @property
    def may_be_carried_out(self) -> bool:
        """Whether the server has the call and has not answered, and it was not given up before."""
        return self.first_id >= 0 and self.remaining > 0 and self.error is None and not self.abandoned

    def decide(self) -> None:
        """The server will do no more of the call."""
        told, self.on_decided = self.on_decided, None
        if told is not None:
            told()

    @property
    def largest_answer(self) -> int:
        """The most bytes that all responses have together: its credits pay for their payload (MS-SMB2 3.3.5.2.5)."""
        return self.charge * CREDIT_UNIT + len(self.requests) * ANSWER_OVERHEAD

    @property
    def was_refused_as_expired(self) -> bool:
        """Whether the server has said, under signature, that the session has expired: then it did nothing of the call,
        and no other answer to it counts. Samba 4.17 has no session any more for the rest of a compound, and signs its
        answers to that with anything.
        """
        first = self.responses[0]
        return first is not None and first.status == NtStatus.NETWORK_SESSION_EXPIRED

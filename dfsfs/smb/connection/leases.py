"""Leases: a server's promise to notify us before another client changes a file (MS-SMB2 2.2.13.2.8, 2.2.23.2).

A lease belongs to a file, under a key that the client makes, and covers every handle that was opened with that key. It
has up to three parts:

    READ     data and attributes may be cached: no other client writes without a break
    HANDLE   the handle may be kept after the program has closed it: an open that conflicts with it causes a break
    WRITE    no other client has the file open: written data may be cached

The server takes parts back with a break. If it wants an acknowledgement, it lets the other client wait for that, so it
must not be sent before the promise it makes is true: see `Lease.on_break`. A lease ends with its last handle, and with
the connection.

Grants and breaks have to be processed in the order in which the server sent them, or a lease would be trusted that is
already broken. So they are processed where messages are received, and not by the task that waits for the response.

Pure code.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dfsfs.errors import WireError
from dfsfs.smb.wire.constants import SMB2_CREATE_REQUEST_LEASE, SMB2_LEASE_FLAG_BREAK_IN_PROGRESS, Command, LeaseState
from dfsfs.smb.wire.messages import HEADER_SIZE, Request
from dfsfs.smb.wire.missing_constants import SMB2_NOTIFY_BREAK_LEASE_FLAG_ACK_REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.smb.connection.calls import Route
    from dfsfs.unc import UncPath

    Acknowledge = Callable[[], None]

KEY_SIZE = 16
"""Bytes of a lease key."""
_CONTEXT = struct.Struct("<IHHHHI")
_V1 = struct.Struct("<16sIIQ")
_V2 = struct.Struct("<16sIIQ16sHH")
_CREATE_CONTEXTS = struct.Struct("<II")
_CREATE_CONTEXTS_AT = HEADER_SIZE + 80
"""Offset of CreateContextsOffset in a CREATE response (MS-SMB2 2.2.14)."""
_BREAK = struct.Struct("<HHI16sIIIII")
_ACKNOWLEDGEMENT = struct.Struct("<HHI16sIQ")
_OPLOCK_BREAK_SIZE = 24
"""Bytes of the body of an oplock break notification (MS-SMB2 2.2.23.1)."""
_SHARED, _WRITE = LeaseState.SHARED, LeaseState.SMB2_LEASE_WRITE_CACHING
LARGEST_BREAK = HEADER_SIZE + _BREAK.size
"""Bytes of the largest message that is no response to a request."""


@dataclass(frozen=True, slots=True)
class LeaseBreak:
    """A lease break notification (MS-SMB2 2.2.23.2)."""

    key: bytes
    state: LeaseState
    """The parts that are left."""
    acknowledge: bool
    epoch: int


class Lease:
    """One lease, as this client knows it. `key` has KEY_SIZE bytes and is unique; `version` is 1 for dialect 2.1 and 2
    from 3.0 on. `path` is the name under which the file is opened: some servers tie the key to it. `route` is that of
    its tree.

    `on_break` is called as soon as a part of the lease is lost, also with the connection. Its arguments are the state
    before, and a function to call once nothing depends on the lost parts any more, which may send the acknowledgement.
    It must not wait. If it is called again before that, one call of the function is enough for both.

    However many breaks a server sends, at most one acknowledgement is in flight: the next one waits until the server
    has answered the one before, and covers all breaks in between.
    """

    def __init__(self, key: bytes, version: int, path: UncPath, route: Route) -> None:
        self.key = key
        self.version = version
        self.path = path
        self.route = route
        self.on_break: Callable[[LeaseState, Acknowledge], None] = acknowledge_at_once
        self.state = LeaseState.SMB2_LEASE_NONE
        self.opens = 0
        """Handles under the lease, including those that are being opened."""
        self.was_granted = False
        """Whether the server has ever granted a part of it."""
        self.given: LeaseState | None = None
        """What the last CREATE response granted; None if a break was in progress."""
        self.refused: dict[LeaseState, float] = {}
        """When the server last refused each state, by the clock of the caller that stores it."""
        self.is_breaking = False
        """Whether the server waits for an acknowledgement."""
        self.is_lost = False
        """Whether it has ended with its connection."""
        self._epoch = 0
        self._owed: LeaseState | None = None
        self._is_released = True
        self._is_acknowledging = False

    def has(self, parts: LeaseState) -> bool:
        """Whether it has all of these parts. Each read and write asks; `&` of an IntFlag takes three times as long."""
        return int(self.state) & int(parts) == parts

    @property
    def is_shared(self) -> bool:
        """Whether it has both READ and HANDLE."""
        return self.has(_SHARED)

    @property
    def is_exclusive(self) -> bool:
        """Whether no other client has the file open."""
        return self.has(_WRITE) and not self.is_breaking

    def __repr__(self) -> str:
        return f"<Lease {self.key.hex()} {self.state!r} of {self.opens} handles>"

    def request(self, wanted: LeaseState) -> bytes:
        """The create context that requests the wanted parts, and those that the lease already has."""
        state = wanted | self.state
        if self.version == 1:
            data = _V1.pack(self.key, state, 0, 0)
        else:
            data = _V2.pack(self.key, state, 0, 0, bytes(KEY_SIZE), self._epoch, 0)
        return (
            _CONTEXT.pack(0, _CONTEXT.size, len(SMB2_CREATE_REQUEST_LEASE), 0, 24, len(data))
            + SMB2_CREATE_REQUEST_LEASE
            + bytes(4)
            + data
        )

    def apply_grant(self, message: memoryview) -> None:
        """Updates the lease from a CREATE response, which may grant none.

        Raises:
            WireError: the create contexts are malformed, or of another lease.
        """
        data = find_context(message, SMB2_CREATE_REQUEST_LEASE)
        if data is None:
            self.given = None if self.is_breaking else LeaseState.SMB2_LEASE_NONE
            return
        layout = _V1 if self.version == 1 else _V2
        if len(data) < layout.size:
            raise WireError(f"a lease context of {len(data)} bytes")
        key, state, flags, _, *rest = layout.unpack_from(data)
        if key != self.key:
            raise WireError("a CREATE was answered with a lease that was not asked for")
        granted = LeaseState(state & LeaseState.ALL)
        # Until it has the acknowledgement, the server still names the parts that it is taking back.
        breaks = self.is_breaking or flags & SMB2_LEASE_FLAG_BREAK_IN_PROGRESS
        self.state = self.state & granted if breaks else granted
        self.given = None if breaks else granted
        self.was_granted = self.was_granted or bool(self.state)
        if rest:
            self._epoch = rest[1]

    def apply_break(self, notification: LeaseBreak) -> LeaseState:
        """Updates the lease from a break; returns the state before."""
        before = self.state
        self.state &= notification.state
        self._epoch = notification.epoch
        if notification.acknowledge:
            self.is_breaking = True
            self._owed = notification.state if self._owed is None else self._owed & notification.state
        if notification.acknowledge or before != self.state:
            self._is_released = False
        return before

    def finish_break(self) -> Request | None:
        """To be called when nothing depends any more on the lost parts. Returns the acknowledgement to send now, if the
        server waits for one; `finish_acknowledgement` has to be called once that is answered.
        """
        self._is_released = True
        return self._acknowledgement()

    def finish_acknowledgement(self) -> Request | None:
        """To be called when the server has answered an acknowledgement. Returns the next one to send, if any."""
        self._is_acknowledging = False
        return self._acknowledgement()

    def _acknowledgement(self) -> Request | None:
        if self._is_acknowledging or not self._is_released:
            return None
        owed, self._owed, self.is_breaking = self._owed, None, False
        if owed is None or not self.opens:
            return None
        self._is_acknowledging = True
        return encode_acknowledgement(self.key, owed)


class LeaseRequest(NamedTuple):
    """A lease and the parts of it that a CREATE is to request."""

    lease: Lease
    wanted: LeaseState


class LeaseTable:
    """The leases of one connection, by their keys."""

    def __init__(self) -> None:
        self._leases: dict[bytes, Lease] = {}

    def get(self, key: bytes) -> Lease | None:
        return self._leases.get(key)

    def add_handle(self, lease: Lease) -> None:
        """Counts a handle that is being opened under the lease."""
        lease.opens += 1
        self._leases[lease.key] = lease

    def remove_handle(self, lease: Lease) -> None:
        """Counts a handle that was closed, or could not be opened. The lease ends with the last one."""
        lease.opens -= 1
        if not lease.opens:
            lease.state = LeaseState.SMB2_LEASE_NONE
            self._leases.pop(lease.key, None)

    def connection_lost(self) -> list[tuple[Lease, LeaseState]]:
        """Ends all leases. Returns those that had a part, and their states before."""
        were = [(lease, lease.state) for lease in self._leases.values() if lease.state]
        for lease in self._leases.values():
            lease.state, lease.is_lost = LeaseState.SMB2_LEASE_NONE, True
        self._leases.clear()
        return were


def no_acknowledgement() -> None:
    """The `acknowledge` for a lease that was lost with its connection."""


def acknowledge_at_once(before: LeaseState, acknowledge: Acknowledge) -> None:
    """The `on_break` of a lease on which nothing depends."""
    acknowledge()


def find_context(message: memoryview, name: bytes) -> memoryview | None:
    """The data of a create context in the answer to a CREATE (MS-SMB2 2.2.13.2, 2.2.14).

    Raises:
        WireError: an offset or length in the contexts is wrong.
    """
    if len(message) < _CREATE_CONTEXTS_AT + _CREATE_CONTEXTS.size:
        raise WireError(f"CREATE response of {len(message)} bytes")
    start, length = _CREATE_CONTEXTS.unpack_from(message, _CREATE_CONTEXTS_AT)
    if not length:
        return None
    if start < HEADER_SIZE or start + length > len(message):
        raise WireError(f"create contexts of {length} bytes at {start} lie outside the {len(message)} bytes received")
    contexts = message[start : start + length]
    while True:
        if len(contexts) < _CONTEXT.size:
            raise WireError(f"a create context of {len(contexts)} bytes")
        following, name_offset, name_length, _, data_offset, data_length = _CONTEXT.unpack_from(contexts)
        end = following or len(contexts)
        if following and (following < _CONTEXT.size or following % 8 or following > len(contexts)):
            raise WireError(f"a create context whose next one is at {following}")
        if name_offset + name_length > end or data_offset + data_length > end:
            raise WireError("a create context whose parts lie outside of it")
        if contexts[name_offset : name_offset + name_length] == name:
            return contexts[data_offset : data_offset + data_length]
        if not following:
            return None
        contexts = contexts[following:]


def decode_break(message: memoryview) -> LeaseBreak | None:
    """A break notification; None if it is about an oplock, of which dfsfs asks for none.

    Raises:
        WireError: it is neither, or not of exactly its size.
    """
    size = int.from_bytes(message[HEADER_SIZE : HEADER_SIZE + 2], "little")
    if size not in (_OPLOCK_BREAK_SIZE, _BREAK.size) or len(message) != HEADER_SIZE + size:
        raise WireError(f"a break notification of {len(message)} bytes with StructureSize {size}")
    if size == _OPLOCK_BREAK_SIZE:
        return None
    _, epoch, flags, key, _, state, *_ = _BREAK.unpack_from(message, HEADER_SIZE)
    return LeaseBreak(
        key, LeaseState(state & LeaseState.ALL), bool(flags & SMB2_NOTIFY_BREAK_LEASE_FLAG_ACK_REQUIRED), epoch
    )


def encode_acknowledgement(key: bytes, state: LeaseState) -> Request:
    """LEASE_BREAK acknowledgement (MS-SMB2 2.2.24.2): the lease is no more than `state` now."""
    return Request(Command.SMB2_OPLOCK_BREAK, _ACKNOWLEDGEMENT.pack(36, 0, 0, key, state, 0))

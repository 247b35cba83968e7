"""LeaseCaching: a server's promise to say so before somebody else may change a file (MS-SMB2 2.2.13.2.8, 2.2.23.2,
2.2.24.2).

A lease belongs to a file, under a key of our own making, and covers every handle that was opened with that key. It has
up to three parts:

    READ     data and attributes may be kept: nobody writes without our being told
    HANDLE   the handle may stay open after the program has closed it: whoever minds makes the server ask for it back
    WRITE    nobody else has the file open: data that is written may wait here

The server takes parts back with a break. If it wants an acknowledgement, it lets nobody go on before that has come, so
it must not be sent before the promise it makes is true: see `Lease.on_break`. It ends with the last handle, and with
the connection.

What a server grants and what it breaks has to be seen in the order in which it was sent, or a lease would be believed
that is broken already. So grants and breaks are taken in where the message is received, not by the task that waits.

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
_CONTEXT = struct.Struct("<IHHHHI")
_V1 = struct.Struct("<16sIIQ")
_V2 = struct.Struct("<16sIIQ16sHH")
_CREATE_CONTEXTS = struct.Struct("<II")
_CREATE_CONTEXTS_AT = HEADER_SIZE + 80
_BREAK = struct.Struct("<HHI16sIIIII")
_ACKNOWLEDGEMENT = struct.Struct("<HHI16sIQ")
_OPLOCK_BREAK_SIZE = 24
"""Bytes of the body of an oplock break notification (MS-SMB2 2.2.23.1)."""
LARGEST_BREAK = HEADER_SIZE + _BREAK.size
"""Bytes of the largest message that no request asks for."""


@dataclass(frozen=True, slots=True)
class LeaseBreak:
    """A server's notification that it takes something back (MS-SMB2 2.2.23.2)."""

    key: bytes
    state: LeaseState
    """What is left."""
    acknowledge: bool
    epoch: int


class Lease:
    """One lease, as this client knows it. `key` has KEY_SIZE bytes, and no other lease has the same; `version` is 1 for
    dialect 2.1 and 2 from 3.0 on.

    `path` is the name under which the file is opened: some servers tie the key to it. `route` is that of its tree.

    `on_break` is called as soon as a part of the lease is gone, also with the connection. Its arguments are what the
    lease was, and what has to be called once nothing depends on the lost parts any more: that may send the
    acknowledgement. It must not wait. When it is called again before that, one call afterwards answers for both.

    However many breaks a server sends, it owes one acknowledgement at most: the next one waits until the server has
    answered the one before, and says all that was lost in between.
    """

    def __init__(self, key: bytes, version: int, path: UncPath, route: Route) -> None:
        self.key = key
        self.version = version
        self.path = path
        self.route = route
        self.on_break: Callable[[LeaseState, Acknowledge], None] = agree
        self.state = LeaseState.SMB2_LEASE_NONE
        self.opens = 0
        """Handles under the lease, those included that are just being opened."""
        self.was_granted = False
        """Whether the server has ever given it."""
        self.given: LeaseState | None = None
        """What the answer to the last CREATE gave; None if something was just being taken back."""
        self.refused: dict[LeaseState, float] = {}
        """When the server did not give what was asked for, by the clock of whoever asks."""
        self.is_breaking = False
        """Whether the server waits for an acknowledgement."""
        self.is_lost = False
        """Whether it has ended with its connection."""
        self._epoch = 0
        self._owed: LeaseState | None = None
        self._is_given_up = True
        self._is_acknowledging = False

    @property
    def is_shared(self) -> bool:
        """Whether it has both READ and HANDLE."""
        return self.state & LeaseState.SHARED == LeaseState.SHARED

    @property
    def is_exclusive(self) -> bool:
        """Whether nobody else has the file open."""
        return bool(self.state & LeaseState.SMB2_LEASE_WRITE_CACHING) and not self.is_breaking

    def __repr__(self) -> str:
        return f"<Lease {self.key.hex()} {self.state!r} of {self.opens} handles>"

    def request(self, wanted: LeaseState) -> bytes:
        """The create context that asks for a lease of at least what it is already."""
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

    def granted(self, message: memoryview) -> None:
        """Takes in what the answer to a CREATE says of the lease; nothing if the server gave none.

        Raises:
            WireError: the contexts of the answer can't be read.
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
        # Until it has the acknowledgement, a server names what it is just taking back.
        breaks = self.is_breaking or flags & SMB2_LEASE_FLAG_BREAK_IN_PROGRESS
        self.state = self.state & granted if breaks else granted
        self.given = None if breaks else granted
        self.was_granted = self.was_granted or bool(self.state)
        if rest:
            self._epoch = rest[1]

    def broken(self, notification: LeaseBreak) -> LeaseState:
        """Takes in a break; returns what the lease was before."""
        before = self.state
        self.state &= notification.state
        self._epoch = notification.epoch
        if notification.acknowledge:
            self.is_breaking = True
            self._owed = notification.state if self._owed is None else self._owed & notification.state
        if notification.acknowledge or before != self.state:
            self._is_given_up = False
        return before

    def given_up(self) -> Request | None:
        """Nothing depends any more on what was lost. The acknowledgement to send now, if the server waits for one;
        whoever sends it calls `acknowledged` once it is answered.
        """
        self._is_given_up = True
        return self._acknowledgement()

    def acknowledged(self) -> Request | None:
        """The server has answered an acknowledgement. The next one to send now, as in `given_up`."""
        self._is_acknowledging = False
        return self._acknowledgement()

    def _acknowledgement(self) -> Request | None:
        if self._is_acknowledging or not self._is_given_up:
            return None
        owed, self._owed, self.is_breaking = self._owed, None, False
        if owed is None or not self.opens:
            return None
        self._is_acknowledging = True
        return encode_acknowledgement(self.key, owed)


class LeaseRequest(NamedTuple):
    """What is wanted of a lease with the next CREATE under its key."""

    lease: Lease
    wanted: LeaseState


class LeaseTable:
    """The leases of one connection, by their keys."""

    def __init__(self) -> None:
        self._leases: dict[bytes, Lease] = {}

    def get(self, key: bytes) -> Lease | None:
        return self._leases.get(key)

    def opened(self, lease: Lease) -> None:
        """A handle is being opened under the lease."""
        lease.opens += 1
        self._leases[lease.key] = lease

    def closed(self, lease: Lease) -> None:
        """A handle under the lease was closed, or was not opened after all. The server forgets it with the last one."""
        lease.opens -= 1
        if not lease.opens:
            lease.state = LeaseState.SMB2_LEASE_NONE
            self._leases.pop(lease.key, None)

    def lost(self) -> list[tuple[Lease, LeaseState]]:
        """The connection has ended: no lease is left. Returns what they were."""
        were = [(lease, lease.state) for lease in self._leases.values() if lease.state]
        for lease in self._leases.values():
            lease.state, lease.is_lost = LeaseState.SMB2_LEASE_NONE, True
        self._leases.clear()
        return were


def no_acknowledgement() -> None:
    """The acknowledgement of a loss that no server waits for."""


def agree(before: LeaseState, acknowledge: Acknowledge) -> None:
    """What becomes of a break of a lease under which nothing is kept yet."""
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

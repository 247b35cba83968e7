"""Memory at a server's discretion: what comes unasked is small, what is kept is bounded, whatever a server sends."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dfsfs.errors import ConnectionLost, WireError
from dfsfs.smb.connection.buffers import MAX_POOLED_BYTES, BufferPool
from dfsfs.smb.connection.calls import Call, Route
from dfsfs.smb.connection.connection import Connection
from dfsfs.smb.connection.leases import Lease, LeaseBreak, decode_break
from dfsfs.smb.connection.protocol import UNSOLICITED, SmbProtocol
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import SMB2_FLAGS_SERVER_TO_REDIR, Command, LeaseState
from dfsfs.smb.wire.messages import CREDIT_UNIT, HEADER
from dfsfs.unc import UncPath
from tests.conftest import OFTEN
from tests.support.fakes.peer import Peer
from tests.support.fakes.server.client import PlainSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dfsfs.smb.connection.leases import Acknowledge
    from dfsfs.smb.wire.messages import Buffer

MIB = 1024 * 1024
KEY = bytes(range(16))
LEASE_BREAK, OPLOCK_BREAK = 44, 24
"""Bytes of the bodies (MS-SMB2 2.2.23)."""


def notification(body: bytes, command: int = Command.SMB2_OPLOCK_BREAK) -> bytes:
    """An unasked message, with its length in front."""
    flags = SMB2_FLAGS_SERVER_TO_REDIR
    header = HEADER.pack(b"\xfeSMB", 64, 0, 0, command, 0, flags, 0, UNSOLICITED, 0, 0, 0, bytes(16))
    return (64 + len(body)).to_bytes(4, "big") + header + body


def lease_break(state: int, *, acknowledge: bool = True, key: bytes = KEY) -> bytes:
    return notification(struct.pack("<HHI16sIIIII", 44, 0, int(acknowledge), key, 7, state, 0, 0, 0))


def protocol(*, in_session: bool = True) -> SmbProtocol:
    made = SmbProtocol("fs1", max_credits=128, silence=10, echo_interval=60, now=0)
    made.multi_credit = True
    made._credits.grant(500)
    if in_session:
        made.add_session(PlainSession())
    return made


@contextmanager
def memory(limit: int) -> Iterator[None]:
    """What is done inside never takes more than `limit` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# -- notifications ----------------------------------------------------------------------------------------------------


@OFTEN
@given(st.integers(0, 200), st.sampled_from([0, 23, 24, 25, 36, 43, 44, 45, 65535]))
def test_a_break_has_exactly_its_size(length: int, structure_size: int) -> None:
    body = struct.pack("<H", structure_size).ljust(length, b"\0")[:length]
    right = length >= 2 and structure_size == length and length in (LEASE_BREAK, OPLOCK_BREAK)
    try:
        decode_break(memoryview(bytes(64) + body))
    except WireError:
        assert not right
    else:
        assert right


@pytest.mark.parametrize("body", [lease_break(0)[68:], b"\x18\0" + bytes(22)], ids=["lease", "oplock"])
def test_a_break_comes_in_a_session_only(body: bytes) -> None:
    Peer(protocol()).deliver_bytes(notification(body))
    with pytest.raises(WireError, match="before there was a session"):
        Peer(protocol(in_session=False)).deliver_bytes(notification(body))


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("structure_size", [LEASE_BREAK, OPLOCK_BREAK])
@pytest.mark.parametrize("size", [70_000, MIB, 16 * MIB - 65])
def test_a_large_notification_gets_no_memory(in_session: bool, structure_size: int, size: int) -> None:
    one = protocol(in_session=in_session)
    message = notification(struct.pack("<H", structure_size).ljust(size, b"\0"))
    with memory(MIB), pytest.raises(WireError):
        Peer(one).deliver_bytes(message)


# -- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [0, 1, 65536, 65537, MIB, 8 * MIB])
def test_a_frame_is_no_larger_than_what_was_asked_for(asked: int) -> None:
    one = protocol()
    if asked:
        one.submit([messages.encode_read(b"F" * 16, 0, asked)], Route(), lambda: None)
        assert one.data_to_send(0)
    allowed = messages.charge_of(asked) * CREDIT_UNIT + 4096 if asked else 108
    with memory(MIB), pytest.raises(WireError, match="asked for"):
        Peer(one).deliver_bytes((allowed + 65536).to_bytes(4, "big") + bytes(65536))


@OFTEN
@given(
    st.lists(st.lists(st.integers(1, 2 * MIB), min_size=1, max_size=3), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=12),
    st.integers(1, 7 * MIB),
)
def test_what_may_come_is_what_some_call_in_flight_has_asked_for(
    sizes: list[list[int]], answered: list[int], length: int
) -> None:
    one = protocol()
    calls = [
        one.submit([messages.encode_read(b"F" * 16, 0, size) for size in call], Route(), _nothing) for call in sizes
    ]
    peer = Peer(one, credits=100)
    frames = [frame for _ in range(6) for frame in peer.requests()]
    waiting = dict(enumerate(zip(calls, frames, strict=False)))
    for index in answered:
        if index in waiting:
            peer.deliver([peer.answer(request, b"", status=0xC0000011) for request in waiting.pop(index)[1]])
    allowed = max((most(call) for call, _ in waiting.values()), default=0)
    assert one._expects(length + 52) == (length <= max(allowed, 108))


def most(call: Call) -> int:
    return sum(
        messages.charge_of(int.from_bytes(request.body[4:8], "little")) * 65536 + 4096 for request in call.requests
    )


def _nothing() -> None:
    pass


@OFTEN
@given(st.lists(st.tuples(st.integers(1, 16 * MIB), st.booleans()), max_size=30))
def test_the_pool_of_buffers_is_bounded_in_bytes(requests: list[tuple[int, bool]]) -> None:
    pool, held = BufferPool(), []
    for length, keeps in requests:
        view = pool.get(length)
        assert len(view) == length
        if keeps and length < MIB:
            held.append(view)
        assert pool.pooled_bytes <= MAX_POOLED_BYTES
        assert pool.pooled_bytes == sum(map(len, pool._buffers))


def test_the_largest_answers_leave_no_more_than_the_pool_may_have() -> None:
    pool = BufferPool()
    with memory(MAX_POOLED_BYTES + 17 * MIB):
        for _ in range(40):
            pool.get(16 * MIB)
    assert pool.pooled_bytes <= MAX_POOLED_BYTES


def test_buffers_that_nobody_asks_for_are_given_back() -> None:
    pool = BufferPool()
    view = pool.get(MIB)
    pool.release_idle()
    assert pool.pooled_bytes == MIB
    pool.release_idle()
    assert pool.pooled_bytes == 0
    view[:4] = b"good"
    assert pool.get(MIB).obj is not view.obj


def test_an_idle_connection_gives_its_buffers_back_and_so_does_one_that_has_ended() -> None:
    for end in (
        lambda made: [made.handle_timer(1), made.handle_timer(2)],
        lambda made: made.connection_lost(ConnectionLost("fs1", 0, "cut")),
    ):
        made = protocol()
        made._frames._pool.get(MIB)
        assert made._frames.pooled_bytes == MIB
        end(made)
        assert made._frames.pooled_bytes == 0


def test_the_buffers_of_as_many_reads_as_usual_are_all_kept() -> None:
    pool = BufferPool()
    views = [pool.get(MIB + 80) for _ in range(16)]
    first = {id(view.obj) for view in views}
    del views[:]
    assert {id(view.obj) for view in [pool.get(MIB + 80) for _ in range(16)]} == first


# -- breaks without end -----------------------------------------------------------------------------------------------


class NoCredits:
    """A transport to a server that gives breaks and nothing else: what is sent never gets through."""

    def __init__(self, stream: bytes, repeats: int) -> None:
        self._stream, self._left = stream, repeats
        self.drained = trio.Event()

    async def receive_into(self, buffer: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        if not self._left:
            self.drained.set()
            await trio.sleep_forever()
        self._left -= 1
        assert len(self._stream) <= 4096
        buffer[: len(self._stream)] = self._stream
        return len(self._stream)

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        return buffers

    async def wait_writable(self) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        pass


async def flooded(lease: Lease) -> Connection:
    """A connection that got 60,000 breaks of one lease, each with what there was to lose."""
    transport = NoCredits(b"".join(lease_break(state) for state in (7, 3, 1, 0)) * 9, 1700)
    connection = Connection("fs1", transport, protocol(), request_timeout=5)
    connection.leases.add_handle(lease)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await transport.drained.wait()
        nursery.cancel_scope.cancel()
    return connection


def new_lease() -> Lease:
    lease = Lease(KEY, 2, UncPath(("fs1", "data", "file")), Route())
    lease.state = LeaseState.ALL
    return lease


async def test_breaks_without_end_make_one_acknowledgement() -> None:
    connection = Connection("fs1", NoCredits(b"", 0), protocol(), request_timeout=5)
    lease = new_lease()
    connection.leases.add_handle(lease)
    for _ in range(1000):
        Peer(connection._protocol).deliver_bytes(lease_break(3))
        Peer(connection._protocol).deliver_bytes(lease_break(1))
    assert connection.statistics().queued == 1


async def test_breaks_without_end_take_no_memory() -> None:
    tracemalloc.start()
    try:
        await flooded(new_lease())
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


class AnyBreaks(RuleBasedStateMachine):
    """One lease: breaks whenever the server likes, an owner that gives up whenever it is ready, answers at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.lease = new_lease()
        self.lease.opens = 1
        self.waiting: list[LeaseState] = []
        """What the server has asked for since it got the last acknowledgement."""
        self.told = 0
        self.is_given_up = True
        self.in_flight: list[LeaseState] = []

    @rule(state=st.integers(0, 7), acknowledge=st.booleans())
    def take_back(self, state: int, acknowledge: bool) -> None:
        left = LeaseState(state)
        before = self.lease.apply_break(LeaseBreak(KEY, left, acknowledge, 1))
        assert self.lease.state == before & left
        if acknowledge:
            self.waiting.append(left)
        if acknowledge or before != self.lease.state:
            self.is_given_up = False

    @rule(state=st.integers(0, 7))
    def grant(self, state: int) -> None:
        """As an answer to a CREATE."""
        if not self.lease.is_breaking:
            self.lease.state = LeaseState(state)

    @rule()
    def give_up(self) -> None:
        self.is_given_up = True
        self._sent(self.lease.finish_break())

    @rule()
    def answer(self) -> None:
        if self.in_flight:
            self.in_flight.clear()
            self._sent(self.lease.finish_acknowledgement())

    def _sent(self, request: messages.Request | None) -> None:
        if request is None:
            assert self.in_flight or not self.waiting or not self.is_given_up
            return
        assert self.is_given_up and self.waiting
        said = LeaseState(int.from_bytes(request.body[24:28], "little"))
        for left in self.waiting:
            assert not said & ~left, "more is kept than the server has left"
        self.waiting.clear()
        self.in_flight.append(said)

    @invariant()
    def one_acknowledgement_at_most(self) -> None:
        assert len(self.in_flight) <= 1

    @invariant()
    def it_is_breaking_while_something_is_owed(self) -> None:
        if self.waiting:
            assert self.lease.is_breaking


TestAnyBreaks = AnyBreaks.TestCase
TestAnyBreaks.settings = OFTEN


async def test_what_is_broken_while_an_acknowledgement_is_on_its_way_is_acknowledged_after_it() -> None:
    """Samba sends the next break when it has the acknowledgement of the first, before it answers that."""
    connection = Connection("fs1", NoCredits(b"", 0), protocol(), request_timeout=5)
    peer, lease, seen = Peer(connection._protocol), new_lease(), list[LeaseState]()
    connection.leases.add_handle(lease)

    def on_break(before: LeaseState, acknowledge: Acknowledge) -> None:
        seen.append(before)
        acknowledge()

    lease.on_break = on_break
    peer.deliver_bytes(lease_break(3))
    ((first,),) = peer.requests()
    peer.deliver_bytes(lease_break(1) + lease_break(0))
    assert peer.requests() == [] and seen == [LeaseState.ALL, LeaseState.SHARED, LeaseState.SMB2_LEASE_READ_CACHING]
    was_breaking = lease.is_breaking
    peer.deliver([peer.answer(first, bytes(36))])
    ((second,),) = peer.requests()
    assert [int.from_bytes(sent.body[24:28], "little") for sent in (first, second)] == [3, 0]
    assert was_breaking and not lease.is_breaking
    peer.deliver([peer.answer(second, bytes(36))])
    assert peer.requests() == []

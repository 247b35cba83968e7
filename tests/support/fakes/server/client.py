"""dfsfs's own client on the server in memory: a Connection and a Tree, as a handshake would have left them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import ConnectionLost
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.connection import Connection
from dfsfs.smb.connection.handshake import Negotiated, Offer
from dfsfs.smb.connection.protocol import SmbProtocol
from dfsfs.smb.tree.channel import IoLimits
from dfsfs.smb.tree.compounds import PathChannel
from dfsfs.smb.tree.tree import Tree
from dfsfs.smb.wire.constants import SMB2_GLOBAL_CAP_LEASING, Command, Dialect, SigningAlgorithm
from dfsfs.smb.wire.messages import encode_plain
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dfsfs.smb.connection.crypto import SessionKeys
    from dfsfs.smb.wire.messages import Buffer
    from tests.support.fakes.server.server import Server, ServerConnection

SHARE = UncPath(("fs1", "data"))
TREE_ID = 5
SESSION_ID = 9
CREDITS = 128
IO_SIZE = 1024 * 1024
REQUEST_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class PlainSession:
    """A session without keys: nothing is signed."""

    session_id: int = SESSION_ID
    keys: SessionKeys | None = None
    encrypt: bool = False


class MemoryTransport:
    """The client's end: what it sends is with the server at once, what the server lets go of it receives."""

    def __init__(self, server: Server, name: str) -> None:
        self.server: ServerConnection = server.connect(self._deliver, self._hang_up, name)
        self._received = bytearray()
        self._something = trio.Event()
        self._ended = False

    def _deliver(self, data: bytes) -> None:
        self._received += data
        self._something.set()

    def _hang_up(self) -> None:
        self._ended = True
        self._something.set()

    async def receive_into(self, buffer: memoryview) -> int:
        while not self._received:
            if self._ended:
                return 0
            self._something = trio.Event()
            await self._something.wait()
        count = min(len(buffer), len(self._received))
        buffer[:count] = self._received[:count]
        del self._received[:count]
        return count

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        if self._ended:
            raise ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "the connection was cut")
        self.server.receive(b"".join(buffers))
        return ()

    async def wait_writable(self) -> None:
        """There is always room."""

    def close(self) -> None:
        self._ended = True
        self._something.set()
        self.server.cut()


def connect(
    server: Server, name: str = "", *, share: UncPath = SHARE, dialect: Dialect = Dialect.SMB_3_1_1, dfs: bool = False
) -> Tree:
    """A tree on a connection of its own, whose `run` is up to the caller."""
    transport = MemoryTransport(server, name)
    protocol = SmbProtocol("fs1", max_credits=CREDITS, silence=10, echo_interval=60, now=trio.current_time())
    connection = Connection("fs1", transport, protocol, request_timeout=REQUEST_TIMEOUT)
    connection.set_negotiated(_negotiated(dialect, server), multi_credit=True)
    connection.add_session(PlainSession())
    _fill_with_credits(protocol, transport)
    route = Route(session_id=SESSION_ID, tree_id=TREE_ID, dfs=dfs)
    return Tree(PathChannel(connection, share, route, IoLimits(IO_SIZE, IO_SIZE, IO_SIZE)))


def transport_of(tree: Tree) -> MemoryTransport:
    transport = tree.connection._transport
    assert isinstance(transport, MemoryTransport)
    return transport


@asynccontextmanager
async def connected(server: Server, name: str = "", *, dialect: Dialect = Dialect.SMB_3_1_1) -> AsyncIterator[Tree]:
    """A tree that lives as long as the block."""
    tree = connect(server, name, dialect=dialect)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.connection.run)
        yield tree
        nursery.cancel_scope.cancel()


def _negotiated(dialect: Dialect, server: Server) -> Negotiated:
    return Negotiated(
        offer=Offer((dialect,), bytes(16), bytes(32), (), (SigningAlgorithm.AES_CMAC,), "fs1"),
        dialect=dialect,
        server_guid=bytes(16),
        security_mode=0,
        capabilities=SMB2_GLOBAL_CAP_LEASING,
        max_transact=IO_SIZE,
        max_read=IO_SIZE,
        max_write=IO_SIZE,
        signing=SigningAlgorithm.AES_CMAC,
        cipher=None,
        security_buffer=b"",
        preauth_hash=b"",
        system_time=server.volume.now,
    )


def _fill_with_credits(protocol: SmbProtocol, transport: MemoryTransport) -> None:
    """One ECHO in place of a handshake: it asks for all credits that the client wants."""
    server = transport.server.server
    holds, server.holds = server.holds, False
    protocol.submit([encode_plain(Command.SMB2_ECHO)], Route(), lambda: None)
    transport.server.receive(b"".join(protocol.data_to_send(trio.current_time())))
    server.holds = holds
    answer = bytes(transport._received)
    transport._received.clear()
    protocol.get_buffer()[: len(answer)] = answer
    protocol.buffer_updated(len(answer), trio.current_time())

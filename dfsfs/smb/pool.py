"""Pool: the mount's connections, one for each server, shared by all its trees (MS-SMB2 3.2.4.2).

`tree(share)` gives a live tree connect, made when it is first asked for: TCP connect, negotiate, session setup and tree
connect. Callers that ask for the same server or share at the same time wait for one attempt and share its result, also
its failure; callers for different servers never wait for each other. A dead tree or connection is replaced at the next
request for it. Attempts run in the pool's own nursery, so a caller that is cancelled does not take the others with it.

The time for an attempt is bounded as a whole: a host that accepts the TCP connection and then says nothing costs no
more than one that does not answer at all.

A target's name stays a name down to `_connect`, where `hosts`, `ip` or the resolver turns it into addresses.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import trio

from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError, SecurityError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb import wire
from dfsfs.smb.calls import Route
from dfsfs.smb.channel import IoLimits
from dfsfs.smb.connection import Connection
from dfsfs.smb.handshake import (
    Offer,
    Session,
    check_validate_negotiate,
    decode_tree_connect,
    encode_tree_connect,
    encode_validate_negotiate,
    make_authenticator,
    negotiate,
    session_setup,
)
from dfsfs.smb.protocol import ProtocolStatistics, SmbProtocol
from dfsfs.smb.security import Cipher, Dialect, SigningAlgorithm
from dfsfs.smb.transport import connect
from dfsfs.smb.tree import SHARE_CAP_DFS, Tree
from dfsfs.smb.wire import Command, Fsctl, Request
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from dfsfs.smb.credentials import Credentials

log = logging.getLogger("dfsfs.smb")

CAP_LARGE_MTU = 0x00000004
"""The server takes requests of more than one credit (MS-SMB2 2.2.4)."""
SHARE_ENCRYPT_DATA = 0x00008000
"""The share wants everything encrypted (MS-SMB2 2.2.10)."""
GOODBYE_TIMEOUT = 1.0
"""Seconds that an unmount gives its last requests (tree disconnect, logoff) to reach the servers."""

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """How servers are reached. Times in seconds, sizes in bytes; `read_size` and `write_size` None: what the server
    offers.
    """

    port: int = 445
    address: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    dialects: tuple[Dialect, ...] = (Dialect.SMB_2_1, Dialect.SMB_3_0, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1)
    seal: bool = False
    connect_timeout: float = 8.0
    request_timeout: float = 30.0
    silence_timeout: float = 10.0
    echo_interval: float = 60.0
    max_credits: int = 1024
    read_size: int | None = None
    write_size: int | None = None


class SingleFlight(Generic[K, T]):
    """Work that is done once for all who ask for it at the same time. Runs in `nursery`, whatever becomes of the
    askers.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[K, _Flight[T]] = {}

    async def do(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work()`, or its DfsfsError, started by whoever asks first."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            self._nursery.start_soon(self._run, key, flight, work)
        await flight.landed.wait()
        if flight.error is not None:
            raise flight.error
        assert flight.results
        return flight.results[0]

    async def _run(self, key: K, flight: _Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            flight.results.append(await work())
        except DfsfsError as error:
            flight.error = error
        except Exception as error:
            # A mistake of ours in here must cost those who wait for it, and not the whole mount.
            log.exception("connecting to %s failed in an unexpected way", key)
            flight.error = DfsfsError(f"connecting to {key} failed in an unexpected way: {error!r}")
        finally:
            del self._flights[key]
            if not flight.results and flight.error is None:
                flight.error = ConnectError("", NtStatus.CONNECTION_DISCONNECTED, "the mount is being taken down")
            flight.landed.set()


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    landed: trio.Event = field(default_factory=trio.Event)
    results: list[T] = field(default_factory=list)
    error: DfsfsError | None = None


@dataclass(slots=True, eq=False)
class _Server:
    """A server as the pool knows it: its connection, the session on it, and the trees of that session by share."""

    host: str
    connection: Connection
    session: Session
    trees: dict[UncPath, Tree] = field(default_factory=dict)


class Pool:
    """Use as an asynchronous context manager; leaving it ends every session and connection."""

    def __init__(self, settings: TransportSettings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._client_guid = uuid.uuid4().bytes
        self._servers: dict[str, _Server] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._server_flights: SingleFlight[str, _Server] = SingleFlight(self._nursery)
        self._tree_flights: SingleFlight[UncPath, Tree] = SingleFlight(self._nursery)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(GOODBYE_TIMEOUT):
            for server in self._servers.values():
                if server.connection.alive:
                    await self._say_goodbye(server)
        self._nursery.cancel_scope.cancel()
        await self._stack.aclose()

    # -- what the namespace asks for --------------------------------------------------------------------------------

    async def tree(self, share: UncPath) -> Tree:
        """A live tree connect to `//host/share`.

        Raises:
            ConnectError: the server can't be reached, or says nothing within the connect timeout.
            SmbError: it refuses the session (LOGON_FAILURE) or the share (BAD_NETWORK_NAME, ACCESS_DENIED).
            SecurityError, WireError, ConnectionLost: the exchange failed on the way.
        """
        server = self._servers.get(fold_name(share.host))
        if server is not None and server.connection.alive:
            tree = server.trees.get(share)
            if tree is not None and tree.alive:
                return tree
        return await self._tree_flights.do(share, lambda: self._new_tree(share))

    async def ipc(self, host: str) -> Tree:
        """The tree for requests to the server itself, such as referrals. Errors as in tree."""
        return await self.tree(UncPath((host, "IPC$")))

    def statistics(self) -> Mapping[str, ProtocolStatistics]:
        """Snapshots of the live connections by host."""
        return {s.host: s.connection.statistics() for s in self._servers.values() if s.connection.alive}

    # -- connecting -------------------------------------------------------------------------------------------------

    async def _new_tree(self, share: UncPath) -> Tree:
        server = await self._server(share.host)
        body = encode_tree_connect(f"\\\\{share.host}\\{share.components[1]}")
        route = self._route(server.session)
        (response,) = await server.connection.call([Request(Command.TREE_CONNECT, body)], route)
        if response.status != NtStatus.SUCCESS:
            raise SmbError(response.status, f"connecting to {share}")
        connected = decode_tree_connect(response.message)
        seal = route.seal or bool(connected.share_flags & SHARE_ENCRYPT_DATA)
        if seal and server.session.keys.sealer is None:
            raise SecurityError(
                f"{share} asks for encryption, which {server.connection.negotiated.dialect.name} has not"
            )
        dfs = bool(connected.capabilities & SHARE_CAP_DFS)
        session = server.session
        route = Route(session, session.session_id, response.header.tree_id, dfs, seal)
        tree = Tree(server.connection, share, route, self._limits(server.connection))
        if not server.trees:
            await self._validate_negotiate(server, route)
        server.trees[share] = tree
        return tree

    def _route(self, session: Session) -> Route:
        return Route(session, session.session_id, seal=session.encrypt)

    def _limits(self, connection: Connection) -> IoLimits:
        negotiated, settings = connection.negotiated, self._settings
        return IoLimits(
            read=min(negotiated.max_read, settings.read_size or negotiated.max_read),
            write=min(negotiated.max_write, settings.write_size or negotiated.max_write),
            transact=negotiated.max_transact,
        )

    async def _validate_negotiate(self, server: _Server, route: Route) -> None:
        """Repeats the negotiation's outcome under the session's signature (MS-SMB2 3.2.5.5), where 3.1.1 does not
        protect it.
        """
        connection = server.connection
        if connection.negotiated.dialect not in (Dialect.SMB_3_0, Dialect.SMB_3_0_2):
            return
        question = encode_validate_negotiate(connection.negotiated)
        (response,) = await connection.call([wire.encode_ioctl(Fsctl.VALIDATE_NEGOTIATE_INFO, question, 64)], route)
        try:
            if response.status != NtStatus.SUCCESS:
                raise SecurityError(f"{server.host} does not confirm how the connection was negotiated")
            check_validate_negotiate(connection.negotiated, bytes(wire.decode_ioctl(response.message, 64)))
        except (SecurityError, WireError):
            connection.close()
            raise

    async def _server(self, host: str) -> _Server:
        key = fold_name(host)
        server = self._servers.get(key)
        if server is not None and server.connection.alive:
            return server
        server = await self._server_flights.do(key, lambda: self._new_server(host))
        return server

    async def _new_server(self, host: str) -> _Server:
        with trio.move_on_after(self._settings.connect_timeout):
            server = await self._connect(host)
            self._servers[fold_name(host)] = server
            return server
        detail = f"no answer within {self._settings.connect_timeout:g} seconds (port {self._settings.port})"
        raise ConnectError(host, NtStatus.IO_TIMEOUT, detail)

    async def _connect(self, host: str) -> _Server:
        settings = self._settings
        transport = await connect(host, self._address(host), settings.port, settings.source)
        protocol = SmbProtocol(
            host,
            max_credits=settings.max_credits,
            silence=settings.silence_timeout,
            echo_interval=settings.echo_interval,
            now=trio.current_time(),
        )
        connection = Connection(host, transport, protocol, request_timeout=settings.request_timeout)
        self._nursery.start_soon(connection.run)
        try:
            return await self._authenticate(host, connection)
        except ConnectionLost as error:
            connection.close()
            raise ConnectError(host, error.status, f"during negotiate and session setup: {error}") from error
        except BaseException:
            connection.close()
            raise

    def _address(self, host: str) -> str:
        if self._settings.address is not None:
            return self._settings.address
        return self._settings.hosts.get(fold_name(host), host)

    async def _authenticate(self, host: str, connection: Connection) -> _Server:
        offer = Offer(
            dialects=self._settings.dialects,
            client_guid=self._client_guid,
            salt=os.urandom(32),
            ciphers=(Cipher.AES128_GCM, Cipher.AES256_GCM, Cipher.AES128_CCM, Cipher.AES256_CCM),
            signing=(SigningAlgorithm.AES_GMAC, SigningAlgorithm.AES_CMAC, SigningAlgorithm.HMAC_SHA256),
            host=host,
        )
        negotiated = await connection.exchange(negotiate(offer))
        connection.set_negotiated(negotiated, multi_credit=bool(negotiated.capabilities & CAP_LARGE_MTU))
        authenticator = make_authenticator(self._credentials, host)
        steps = session_setup(negotiated, authenticator, sealing_wanted=self._settings.seal)
        session = await connection.exchange(steps)
        connection.add_session(session)
        return _Server(host, connection, session)

    async def _say_goodbye(self, server: _Server) -> None:
        for tree in server.trees.values():
            tree.disconnect()
        with contextlib.suppress(DfsfsError):
            await server.connection.call([wire.encode_plain(Command.LOGOFF)], self._route(server.session))
        server.connection.close()

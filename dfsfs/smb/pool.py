"""Pool: the mount's connections, one for each server, shared by all its trees (MS-SMB2 3.2.4.2).

`connect_tree(share)` returns a live tree connect, which is made when it is first asked for: TCP connect, negotiate,
session setup and tree connect. Callers that ask for the same server or share at the same time share one attempt and its
outcome, also a failure; callers for different servers never wait for each other. A dead tree or connection is replaced
by the next call. Attempts run in the pool's nursery, so a cancelled caller does not affect the others.

dialer.py connects and negotiates. The time of an attempt is bounded: a host that accepts the TCP connection and then
says nothing costs no more time than one that does not answer at all. A ticket is asked for once the server has
answered, and has a bound of its own, since a slow KDC is not the server's fault.

When a server says that a session has expired, the connection has it renewed, and sends again what was refused: the user
logs in again within the same session (MS-SMB2 3.2.5.1.6), and its open files stay open.

Servers are known by their names here; dialer.py turns them into addresses, with hostnames.py and the resolver.
"""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

import trio

from dfsfs.background import keep_going
from dfsfs.errors import (
    ConnectError,
    ConnectionLost,
    DfsfsError,
    MutualAuthenticationRequired,
    SecurityError,
    SetupRefused,
    SmbError,
    TicketError,
)
from dfsfs.ntstatus import NtStatus
from dfsfs.singleflight import InNursery, SingleFlight
from dfsfs.smb.auth.credentials import SERVICE, Credentials, KerberosCredentials
from dfsfs.smb.auth.hostnames import HostNames
from dfsfs.smb.auth.kerberos import renew_if_due
from dfsfs.smb.auth.loginlock import LoginLock
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.dialer import Dialer
from dfsfs.smb.connection.handshake import (
    Session,
    decode_tree_connect,
    encode_tree_connect,
    session_renewal,
    session_setup,
)
from dfsfs.smb.connection.validation import validate_negotiate
from dfsfs.smb.sessioninfo import SessionInfo, describe
from dfsfs.smb.tree.channel import IoLimits
from dfsfs.smb.tree.compounds import PathChannel
from dfsfs.smb.tree.tree import Tree
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import SMB2_SHARE_CAP_DFS, SMB2_SHAREFLAG_ENCRYPT_DATA, Command
from dfsfs.smb.wire.messages import Request
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from dfsfs.smb.auth.credentials import Login
    from dfsfs.smb.auth.gss import Authenticator
    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.connection.protocol import ProtocolStatistics
    from dfsfs.smb.connection.settings import TransportSettings

log = logging.getLogger("dfsfs.smb")

HARDENED_SHARES = ("SYSVOL", "NETLOGON")
"""Shares with policies and scripts that computers execute: used only with mutual authentication (Windows: hardened UNC
paths).
"""
WRONG_PASSWORD_STATUSES = frozenset(
    {NtStatus.LOGON_FAILURE, NtStatus.WRONG_PASSWORD, NtStatus.PASSWORD_EXPIRED, NtStatus.PASSWORD_MUST_CHANGE}
)
"""Statuses after which password2 is tried."""
TICKET_CHECK_INTERVAL = 60.0
"""Seconds between two checks whether a ticket has to be renewed."""
RENEWAL_TRIES = 3
"""How often the renewal of an expired session is tried."""
RENEWAL_RETRY_DELAY = 1.0
"""Seconds between two tries to renew a session: a ticket may have expired by the server's clock, but not by ours."""
REFUSAL_CACHE_TIME = 2.0
"""Seconds for which the failure of a renewal is also raised for later callers."""
LOGOFF_TIMEOUT = 0.25
"""Seconds that the end of a mount waits for answers to LOGOFF. It is sent without them, and a server ends the session
also with its connection.
"""

OWN_LOGIN_THREADS = 16
"""Threads in which the mount's own logins wait for KDCs. They have a limiter of their own, as a KDC that is down blocks
them for long.
"""


@dataclass(slots=True, eq=False)
class _Server:
    """A server with its connection, the session on it, and the trees of that session by share."""

    host: str
    name: str
    """The full name of the server at the login."""
    address: str
    connection: Connection
    session: Session
    trees: dict[UncPath, Tree] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.host


class Pool:
    """Use as an asynchronous context manager; leaving it ends all sessions and connections. `threads`: the limiter for
    the threads of its logins, such as a user's (dfsfs/threads.py); None: that of the mount's own logins.
    """

    def __init__(
        self,
        settings: TransportSettings,
        login: Login,
        names: HostNames | None = None,
        threads: trio.CapacityLimiter | None = None,
    ) -> None:
        self._settings = settings
        self.login = login
        """The login of new sessions; existing sessions are not affected."""
        self.names = names or HostNames(settings.hosts)
        """Maps names of servers to names in DNS and Kerberos."""
        self._login_lock = LoginLock()
        self._threads = threads or trio.CapacityLimiter(OWN_LOGIN_THREADS)
        self._servers: dict[str, _Server] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._dialer = Dialer(self._settings, self.names, self._threads, self._nursery)
        connects, renews = (
            InNursery(self._nursery, "connecting to"),
            InNursery(self._nursery, "renewing the session on"),
        )
        self._server_flights: SingleFlight[str, _Server] = SingleFlight(connects)
        self._tree_flights: SingleFlight[UncPath, Tree] = SingleFlight(connects)
        self._renewals: SingleFlight[_Server, None] = SingleFlight(renews, keep_failures=REFUSAL_CACHE_TIME)
        if isinstance(self.login, KerberosCredentials) and self.login.has_cache:
            self._nursery.start_soon(keep_going, "tickets", partial(self._keep_ticket_renewed, self.login))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(LOGOFF_TIMEOUT):
            async with trio.open_nursery() as nursery:
                for server in self._servers.values():
                    if server.connection.alive:
                        nursery.start_soon(self._log_off, server)
        self._nursery.cancel_scope.cancel()
        await self._stack.aclose()

    # -- TreeProvider -----------------------------------------------------------------------------------------------

    async def connect_tree(self, share: UncPath) -> Tree:
        """A live tree connect to `//host/share`.

        Raises:
            ConnectError: the server can't be reached, or does not answer within the connect timeout.
            SmbError: it refuses the session (LOGON_FAILURE) or the share (BAD_NETWORK_NAME, ACCESS_DENIED).
            TicketError: there is no Kerberos ticket for the server.
            LoginNotAllowed: the server is none of `login_hosts`.
            UnprovenServer: the share is one of HARDENED_SHARES, and the server is not authenticated.
            SecurityError, WireError, ConnectionLost: the connection ended on the way.
        """
        server = self._servers.get(fold_name(share.host))
        if server is not None and server.connection.alive:
            tree = server.trees.get(share)
            if tree is not None and tree.alive:
                return tree
        return await self._tree_flights.do(share, lambda: self._connect_new_tree(share))

    def is_logged_in(self, host: str) -> bool:
        """Whether there is a session on a server. Its connection may be dead without our knowing yet."""
        server = self._servers.get(fold_name(host))
        return server is not None and server.connection.alive

    @asynccontextmanager
    async def hold_connection(self, host: str) -> AsyncIterator[None]:
        """Waits until a server has answered, without a login; returns at once if there is a session. Until the end of
        the block the connection is kept for a session; if none has taken it by then, it is closed.

        Raises:
            DfsfsError: as in connect_tree, as far as they can happen before a login.
        """
        if self.is_logged_in(host):
            yield
            return
        async with self._dialer.hold_connection(host):
            yield

    async def connect_ipc(self, host: str) -> Tree:
        """The tree for requests to the server itself, such as referrals. Errors as in connect_tree."""
        return await self.connect_tree(UncPath((host, "IPC$")))

    @property
    def waiting(self) -> int:
        """How many connections are being made, or have no session yet."""
        return len(self._dialer)

    def statistics(self) -> Mapping[str, ProtocolStatistics]:
        """Statistics of the live connections by host."""
        return {s.host: s.connection.statistics() for s in self._servers.values() if s.connection.alive}

    def sessions(self) -> list[SessionInfo]:
        """The live sessions."""
        return [
            describe(
                *(server.host, server.name, server.address, server.connection, server.session, self.login),
                [tree for tree in server.trees.values() if tree.alive],
            )
            for server in self._servers.values()
            if server.connection.alive
        ]

    # -- connecting -------------------------------------------------------------------------------------------------

    async def _connect_new_tree(self, share: UncPath) -> Tree:
        server = await self._get_server(share.host)
        if self._settings.hardened and not server.session.mutual and share.key[1] in HARDENED_SHARES:
            raise MutualAuthenticationRequired(share)
        body = encode_tree_connect(f"\\\\{share.host}\\{share.components[1]}")
        route = self._make_route(server.session)
        (response,) = await server.connection.call([Request(Command.SMB2_TREE_CONNECT, body)], route)
        if response.status != NtStatus.SUCCESS:
            raise SetupRefused(response.status, f"connecting to {share}")
        connected = decode_tree_connect(response.message)
        seal = route.seal or bool(connected.share_flags & SMB2_SHAREFLAG_ENCRYPT_DATA)
        if seal and server.session.keys.sealer is None:
            raise SecurityError(
                f"{share} asks for encryption, which {server.connection.negotiated.dialect.name} has not"
            )
        dfs = bool(connected.capabilities & SMB2_SHARE_CAP_DFS)
        session = server.session
        route = Route(session, session.session_id, response.header.tree_id, dfs, seal)
        channel = PathChannel(server.connection, share, route, self._make_limits(server.connection))
        tree = Tree(channel, maximal_access=connected.maximal_access, mfsymlinks=self._settings.mfsymlinks)
        if not server.trees:
            await validate_negotiate(server.connection, route)
        server.trees[share] = tree
        return tree

    def _make_route(self, session: Session) -> Route:
        return Route(session, session.session_id, seal=session.encrypt)

    def _make_limits(self, connection: Connection) -> IoLimits:
        negotiated, settings = connection.negotiated, self._settings
        return IoLimits(
            read=min(negotiated.max_read, settings.read_size or negotiated.max_read),
            write=min(negotiated.max_write, settings.write_size or negotiated.max_write),
            transact=negotiated.max_transact,
        )

    async def _get_server(self, host: str) -> _Server:
        key = fold_name(host)
        server = self._servers.get(key)
        if server is not None and server.connection.alive:
            return server
        server = await self._server_flights.do(key, lambda: self._connect_server(host))
        return server

    async def _connect_server(self, host: str) -> _Server:
        opened = await self._dialer.take(host)
        connection = opened.connection
        try:
            server = await self._log_in(host, opened.name, opened.address, connection)
        except ConnectionLost as error:
            connection.close()
            raise ConnectError(host, error.status, f"during session setup: {error}") from error
        except BaseException:
            connection.close()
            raise
        self._servers[fold_name(host)] = server
        return server

    # -- logging in -------------------------------------------------------------------------------------------------

    async def _log_in(self, host: str, name: str, address: str, connection: Connection) -> _Server:
        """Makes the session, with password2 if the server refuses the first. Errors as in connect_tree."""
        other = self.login.other if isinstance(self.login, Credentials) else None
        try:
            async with self._login_lock.hold(self.login):
                return await self._log_in_once(host, name, address, connection)
        except SmbError as error:
            if other is None or error.status not in WRONG_PASSWORD_STATUSES:
                raise
        self.login = other
        async with self._login_lock.hold(other):
            return await self._log_in_once(host, name, address, connection)

    async def _log_in_once(self, host: str, name: str, address: str, connection: Connection) -> _Server:
        authenticator = await self._prepare_login(name)
        with trio.move_on_after(self._settings.login_timeout):
            previous = self._get_lost_session_id(host, address, connection)
            steps = session_setup(
                connection.negotiated, authenticator, sealing_wanted=self._settings.seal, previous=previous
            )
            server = _Server(host, name, address, connection, await connection.exchange(steps, self._threads))
            connection.add_session(server.session, lambda: self._renew(server))
            return server
        raise self._dialer.make_timeout_error(host, self._settings.login_timeout)

    def _get_lost_session_id(self, host: str, address: str, connection: Connection) -> int:
        """The id of our session on the same server (address and GUID) that was lost with its connection; else 0.

        The server may not have noticed the loss. Then open files of that session conflict with ours, and breaks of
        their leases take until the server's time-out: 35 seconds each with Samba.
        """
        lost = self._servers.get(fold_name(host))
        if lost is None or lost.address != address:
            return 0
        same = lost.connection.negotiated.server_guid == connection.negotiated.server_guid
        return lost.session.session_id if same else 0

    async def _keep_ticket_renewed(self, login: KerberosCredentials) -> None:
        """Renews the ticket in the user's cache whenever it is due, for as long as the KDC allows that."""
        while True:
            await trio.sleep(TICKET_CHECK_INTERVAL)
            try:
                due = partial(renew_if_due, login, time.time())
                if await trio.to_thread.run_sync(due, abandon_on_cancel=True, limiter=self._threads):
                    log.info("the ticket of %s was renewed", login.principal)
            except Exception as error:
                # Not an error yet: a login that has no ticket reports the reason.
                log.debug("the ticket of %s is not renewed: %s", login.principal, error)

    async def _prepare_login(self, name: str) -> Authenticator:
        """An authenticator for a server whose first token is made, for which a KDC may have to be asked.

        Raises:
            TicketError: there is no ticket, or no answer within the ticket timeout.
        """
        domain = self.names.domain_of(name)
        # A KDC's answer that it does not know the SPN is not authenticated, so `hardened` has no fallback.
        domains = (domain,) if self._settings.hardened else dict.fromkeys((domain, ""))
        if isinstance(self.login, KerberosCredentials) and self.names.finder is not None:
            await self.names.finder.find_live_controller()
        with trio.move_on_after(self._settings.ticket_timeout):
            begin = partial(_begin_login, self.login, name, tuple(domains))
            return await trio.to_thread.run_sync(begin, abandon_on_cancel=True, limiter=self._threads)
        reason = f"no answer within {self._settings.ticket_timeout:g} seconds"
        raise TicketError(f"{SERVICE}/{name}", self.login.principal, reason, kdc_unreachable=True)

    async def _renew(self, server: _Server) -> None:
        """Renews an expired session, once for all callers at the same time.

        Raises:
            TicketError, SmbError: the login fails.
            ConnectionLost, SecurityError, WireError: the connection has ended.
        """
        await self._renewals.do(server, lambda: self._renew_now(server))

    async def _renew_now(self, server: _Server) -> None:
        for left in reversed(range(RENEWAL_TRIES)):
            try:
                authenticator = await self._prepare_login(server.name)
                await self._reauthenticate(server, authenticator)
            except (TicketError, SmbError) as error:
                if not left or isinstance(error, TicketError):
                    raise
                await trio.sleep(RENEWAL_RETRY_DELAY)
            else:
                log.info("%s: the session had expired, and was renewed", server.host)
                return

    async def _reauthenticate(self, server: _Server, authenticator: Authenticator) -> None:
        timeout, connection = self._settings.login_timeout, server.connection
        steps = session_renewal(connection.negotiated, authenticator, server.session)
        with trio.move_on_after(timeout):
            await connection.exchange(steps, self._threads, self._make_route(server.session))
            return
        connection.close()
        raise ConnectionLost(server.host, NtStatus.IO_TIMEOUT, f"no renewal within {timeout:g} seconds")

    async def _log_off(self, server: _Server) -> None:
        for tree in server.trees.values():
            tree.disconnect()
        with contextlib.suppress(DfsfsError):
            await server.connection.call([messages.encode_plain(Command.SMB2_LOGOFF)], self._make_route(server.session))
        server.connection.close()


def load_login_libraries() -> None:
    """Imports what logins need: spnego takes 70 ms. To be called in a thread, as a login also does without it."""
    import dfsfs.smb.auth.gss  # noqa: F401


def _begin_login(login: Login, name: str, domains: tuple[str, ...]) -> Authenticator:
    """An authenticator whose first token is made. Errors as in `Authenticator.step`. May block."""
    from dfsfs.smb.auth.gss import PreparedAuthenticator, make_authenticator

    prepared = PreparedAuthenticator(make_authenticator(login, name, domains))
    prepared.make_first_token()
    return prepared

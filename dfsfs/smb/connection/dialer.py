"""Dialer: connects to servers and negotiates, which is all that can be had without a login (MS-SMB2 3.2.4.2.1, .2).

`hold_connection(host)` holds a negotiated connection for the length of its block, `take(host)` hands it to a session.
Callers that ask for the same host at the same time share one attempt. When the last of them leaves, an attempt that is
under way is cancelled, and a connection that was not taken is closed. So several servers can be tried at once, and
nothing is left of those that were not needed.

A domain's name stands for its controllers, and a server may have several addresses. They are tried in order, the next
one after happyeyeballs.ATTEMPT_DELAY seconds without an answer. Only the response to NEGOTIATE counts as an answer: the
kernel of a server that hangs still accepts connections.
"""

from __future__ import annotations

import logging
import os
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.background import contain
from dfsfs.errors import SERVER_FAULTS, ConnectError, ConnectionLost, DfsfsError, LoginNotAllowed
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race
from dfsfs.smb.auth.hostnames import HostNames, select_allowed
from dfsfs.smb.connection.connection import Connection
from dfsfs.smb.connection.handshake import Offer, negotiate
from dfsfs.smb.connection.protocol import SmbProtocol
from dfsfs.smb.connection.transport import connect
from dfsfs.smb.wire.constants import SMB2_GLOBAL_CAP_LARGE_MTU, Cipher, SigningAlgorithm
from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dfsfs.smb.connection.settings import TransportSettings
    from dfsfs.smb.connection.transport import TcpTransport

log = logging.getLogger("dfsfs.smb")

MAX_TAKE_ATTEMPTS = 4
"""How many connections `take` makes at most: a server may close one that waits for its login."""


@dataclass(frozen=True, slots=True)
class DialedConnection:
    """A negotiated connection to the server `name`, a full name, at `address`."""

    name: str
    address: str
    connection: Connection


@dataclass(slots=True, eq=False)
class _Attempt:
    """An attempt under way, or its outcome: `opened` until it is taken, or `error`."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    holders: int = 0
    opened: DialedConnection | None = None
    error: DfsfsError | None = None


class Dialer:
    """See the module's text. Connections live in `nursery`."""

    def __init__(
        self, settings: TransportSettings, names: HostNames, threads: trio.CapacityLimiter, nursery: trio.Nursery
    ) -> None:
        self._settings = settings
        self._names = names
        self._threads = threads
        self._nursery = nursery
        self._client_guid = uuid.uuid4().bytes
        self._attempts: dict[str, _Attempt] = {}

    def __len__(self) -> int:
        """How many attempts are under way, or have made a connection that is not taken yet."""
        return len(self._attempts)

    @asynccontextmanager
    async def hold_connection(self, host: str) -> AsyncIterator[None]:
        """Waits until the server has answered. The connection is kept for `take` until the end of the block.

        Raises:
            ConnectError: the server can't be reached, or says nothing within the connect timeout.
            LoginNotAllowed: the server is none of `login_hosts`; nothing was sent to it.
            SetupRefused, SecurityError, WireError: the negotiation failed.
        """
        async with self._hold(host):
            yield

    async def take(self, host: str) -> DialedConnection:
        """A connection that belongs to the caller from now on. Raises as `hold_connection`."""
        for _ in range(MAX_TAKE_ATTEMPTS):
            async with self._hold(host) as attempt:
                opened, attempt.opened = attempt.opened, None
                self._forget(host, attempt)
                if opened is not None and opened.connection.alive:
                    return opened  # else another one was faster, or the server has closed it since
        raise ConnectError(host, NtStatus.CONNECTION_RESET, "it closes connections as soon as they are made")

    def make_timeout_error(self, host: str, seconds: float) -> ConnectError:
        """The error for a server that has not answered for so many seconds."""
        detail = f"no answer within {seconds:g} seconds (port {self._settings.port})"
        return ConnectError(host, NtStatus.IO_TIMEOUT, detail)

    # -- attempts ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _hold(self, host: str) -> AsyncIterator[_Attempt]:
        attempt = self._attempts.get(fold_name(host))
        if attempt is None:
            attempt = self._attempts[fold_name(host)] = _Attempt()
            self._nursery.start_soon(self._dial, host, attempt)
        attempt.holders += 1
        try:
            await attempt.done.wait()
            if attempt.error is not None:
                raise attempt.error.with_traceback(None)
            yield attempt
        finally:
            attempt.holders -= 1
            if not attempt.holders:
                self._forget(host, attempt)
                attempt.scope.cancel()
                if attempt.opened is not None:
                    attempt.opened.connection.close()

    def _forget(self, host: str, attempt: _Attempt) -> None:
        if self._attempts.get(fold_name(host)) is attempt:
            del self._attempts[fold_name(host)]

    async def _dial(self, host: str, attempt: _Attempt) -> None:
        try:
            with attempt.scope:
                with trio.move_on_after(self._settings.connect_timeout):
                    attempt.opened = await self._open(host)
                if attempt.opened is None:
                    attempt.error = self.make_timeout_error(host, self._settings.connect_timeout)
        except DfsfsError as error:
            attempt.error = error
        except Exception as error:
            # A bug must fail the callers of this attempt, and not the nursery of the whole mount.
            log.exception("connecting to %s failed in an unexpected way", host)
            attempt.error = DfsfsError(f"connecting to {host} failed in an unexpected way: {error!r}")
        finally:
            if attempt.opened is None:
                self._forget(host, attempt)
                attempt.error = attempt.error or ConnectError(host, NtStatus.CONNECTION_DISCONNECTED, "it was given up")
            elif not attempt.holders:
                attempt.opened.connection.close()
            attempt.done.set()

    async def _open(self, host: str) -> DialedConnection:
        hosts = [select_allowed(self._settings.login_hosts, host, each) for each in self._names.find_servers(host)]
        if not any(hosts):
            raise LoginNotAllowed(host)
        finish = await race(
            filter(None, hosts),
            partial(self._open_one, host),
            lambda error: error.disposition in SERVER_FAULTS,
            discard=lambda opened: opened.connection.close(),
        )
        if finish.winners:
            return finish.winners[0][1]
        raise finish.failures[-1 if finish.is_final else 0][1]

    async def _open_one(self, host: str, names: Sequence[tuple[str, str]]) -> DialedConnection:
        """Connects to one server. `names`: those that it may have, each with the name or address to look up. They are
        guesses that may belong to several servers, so the next one is tried only after the one before has failed.
        """
        failure = ConnectError(host, NtStatus.BAD_NETWORK_PATH, "no address is known")
        for name, address in names:
            try:
                finder, settings = self._names.finder, self._settings
                transport = await connect(host, address, settings.port, settings.source, finder)
            except ConnectError as error:
                if failure.status == NtStatus.BAD_NETWORK_PATH:
                    failure = error  # that a server refuses says more than that another name has no address
            else:
                return DialedConnection(name, transport.address, await self._negotiate(host, name, transport))
        raise failure

    async def _negotiate(self, host: str, name: str, transport: TcpTransport) -> Connection:
        settings = self._settings
        protocol = SmbProtocol(
            host,
            max_credits=settings.max_credits,
            silence=settings.silence_timeout,
            echo_interval=settings.echo_interval,
            now=trio.current_time(),
        )
        connection = Connection(host, transport, protocol, request_timeout=settings.request_timeout)
        self._nursery.start_soon(contain, "connections", connection.run)
        offer = Offer(
            dialects=settings.dialects,
            client_guid=self._client_guid,
            salt=os.urandom(32),
            ciphers=(Cipher.AES_128_GCM, Cipher.AES_256_GCM, Cipher.AES_128_CCM, Cipher.AES_256_CCM),
            signing=(SigningAlgorithm.AES_GMAC, SigningAlgorithm.AES_CMAC, SigningAlgorithm.HMAC_SHA256),
            host=name,
        )
        try:
            negotiated = await connection.exchange(negotiate(offer), self._threads)
        except ConnectionLost as error:
            connection.close()
            raise ConnectError(host, error.status, f"during negotiate: {error}") from error
        except BaseException:
            connection.close()
            raise
        connection.set_negotiated(negotiated, multi_credit=bool(negotiated.capabilities & SMB2_GLOBAL_CAP_LARGE_MTU))
        return connection

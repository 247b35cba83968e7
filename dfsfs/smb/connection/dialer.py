"""Dialer: connects to servers and negotiates, which is all that can be had without a login (MS-SMB2 3.2.4.2.1, .2).

`reached(host)` holds a negotiated connection for as long as its block lasts, `take(host)` is how a session gets it.
Whoever asks for the same host at the same time shares one attempt. When nobody holds it any more, the attempt is
cancelled, and a connection that nobody has taken is closed: so several servers can be tried at once, and nothing is
left of those that were not needed.

A domain's name stands for its controllers, and a server may have several addresses. They are tried in their order, the
next one after heat.HEAD_START seconds without an answer. An answer is the one to NEGOTIATE: a server that hangs still
takes connections, as its kernel does that.
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
from dfsfs.errors import UNREACHED, ConnectError, ConnectionLost, DfsfsError, LoginNotAllowed
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race
from dfsfs.smb.auth.hostnames import HostNames, listed
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

TAKES = 4
"""Connections that are made for one session: a server may close one that waits for its turn."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A negotiated connection. `name`: the full name of the server, `address` the one that it has."""

    name: str
    address: str
    connection: Connection


@dataclass(slots=True, eq=False)
class _Call:
    """An attempt under way, or what it has come to."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    landed: trio.Event = field(default_factory=trio.Event)
    holders: int = 0
    opened: Opened | None = None
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
        self._calls: dict[str, _Call] = {}

    def __len__(self) -> int:
        """How many attempts are under way, or have come to a connection that was not taken."""
        return len(self._calls)

    @asynccontextmanager
    async def reached(self, host: str) -> AsyncIterator[None]:
        """Waits until the server has answered; it is kept for `take` until the end of the block.

        Raises:
            ConnectError: the server can't be reached, or says nothing within the connect timeout.
            LoginNotAllowed: the server is none of `login_hosts`; nothing was sent to it.
            SetupRefused, SecurityError, WireError: it answers, and it is of no use.
        """
        async with self._held(host):
            yield

    async def take(self, host: str) -> Opened:
        """The connection to a server; whoever asks for the next one makes another. Raises as `reached`."""
        for _ in range(TAKES):
            async with self._held(host) as call:
                opened, call.opened = call.opened, None
                self._forget(host, call)
                if opened is not None and opened.connection.alive:
                    return opened  # else another one was faster, or the server has closed it since
        raise ConnectError(host, NtStatus.CONNECTION_RESET, "it closes connections as soon as they are made")

    def silent(self, host: str, seconds: float) -> ConnectError:
        """What it is called when a server says nothing for so long."""
        detail = f"no answer within {seconds:g} seconds (port {self._settings.port})"
        return ConnectError(host, NtStatus.IO_TIMEOUT, detail)

    # -- attempts ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _held(self, host: str) -> AsyncIterator[_Call]:
        call = self._calls.get(fold_name(host))
        if call is None:
            call = self._calls[fold_name(host)] = _Call()
            self._nursery.start_soon(self._dial, host, call)
        call.holders += 1
        try:
            await call.landed.wait()
            if call.error is not None:
                raise call.error.with_traceback(None)
            yield call
        finally:
            call.holders -= 1
            if not call.holders:
                self._forget(host, call)
                call.scope.cancel()
                if call.opened is not None:
                    call.opened.connection.close()

    def _forget(self, host: str, call: _Call) -> None:
        if self._calls.get(fold_name(host)) is call:
            del self._calls[fold_name(host)]

    async def _dial(self, host: str, call: _Call) -> None:
        try:
            with call.scope:
                with trio.move_on_after(self._settings.connect_timeout):
                    call.opened = await self._open(host)
                if call.opened is None:
                    call.error = self.silent(host, self._settings.connect_timeout)
        except DfsfsError as error:
            call.error = error
        except Exception as error:
            # A mistake of ours in here must cost those who wait for it, and not the whole mount.
            log.exception("connecting to %s failed in an unexpected way", host)
            call.error = DfsfsError(f"connecting to {host} failed in an unexpected way: {error!r}")
        finally:
            if call.opened is None:
                self._forget(host, call)
                call.error = call.error or ConnectError(host, NtStatus.CONNECTION_DISCONNECTED, "it was given up")
            elif not call.holders:
                call.opened.connection.close()
            call.landed.set()

    async def _open(self, host: str) -> Opened:
        hosts = [listed(self._settings.login_hosts, host, each) for each in self._names.stand_ins_for(host)]
        if not any(hosts):
            raise LoginNotAllowed(host)
        finish = await race(
            filter(None, hosts),
            partial(self._open_one, host),
            lambda error: error.disposition in UNREACHED,
            discard=lambda opened: opened.connection.close(),
        )
        if finish.winners:
            return finish.winners[0][1]
        raise finish.failures[-1 if finish.is_answer else 0][1]

    async def _open_one(self, host: str, names: Sequence[tuple[str, str]]) -> Opened:
        """`names`: those that one server may have, each with what to look up. They are guesses, and may be those of
        several servers, so the next one is not tried before one has failed.
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
                return Opened(name, transport.address, await self._negotiated(host, name, transport))
        raise failure

    async def _negotiated(self, host: str, name: str, transport: TcpTransport) -> Connection:
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

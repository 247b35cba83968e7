"""The seam to the network: a byte stream that receives into given buffers and sends several buffers at once.

`TcpTransport` is the real one. Everything above it takes any `Transport`, so that tests may put a pair in memory or a
faulty one in its place. Failures come out as ConnectError (`connect`) and ConnectionLost (afterwards), never as
OSError.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.errors import ConnectError, ConnectionLost
from dfsfs.heat import HEAD_START
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.auth.hostnames import HostFinder
    from dfsfs.smb.wire.messages import Buffer

SOCKET_BUFFER = 4 * 1024 * 1024
"""Send and receive buffer asked of the kernel, in bytes: several large READs in flight, so that a late reader does
not stop the server. The kernel caps it at net.core.[rw]mem_max."""

HOSTS_FILE = 0.05
"""Seconds for a name that the computer knows by itself: what /etc/hosts says goes before everything else."""

_STATUSES = {
    errno.ECONNREFUSED: NtStatus.CONNECTION_REFUSED,
    errno.ETIMEDOUT: NtStatus.IO_TIMEOUT,
    errno.EHOSTUNREACH: NtStatus.HOST_UNREACHABLE,
    errno.EHOSTDOWN: NtStatus.HOST_UNREACHABLE,
    errno.ENETUNREACH: NtStatus.NETWORK_UNREACHABLE,
    errno.ENETDOWN: NtStatus.NETWORK_UNREACHABLE,
    errno.ECONNRESET: NtStatus.CONNECTION_RESET,
    errno.EPIPE: NtStatus.CONNECTION_RESET,
}


class Transport(Protocol):
    """A connected stream. One task receives and one sends; after a cancelled `send` only `close` is of use."""

    async def receive_into(self, buffer: memoryview) -> int:
        """Waits for bytes; returns how many were put into `buffer`, 0 at the end of the stream."""

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Sends all buffers, in order."""

    def close(self) -> None:
        """Ends the stream at once; whoever waits in the other methods gets ConnectionLost."""


class TcpTransport:
    """A Transport over TCP."""

    def __init__(self, sock: trio.socket.SocketType, host: str, address: str = "") -> None:
        self._socket = sock
        self._host = host
        self.address = address

    async def receive_into(self, buffer: memoryview) -> int:
        try:
            return await self._socket.recv_into(buffer)
        except (OSError, trio.ClosedResourceError) as error:
            raise self._lost(error) from error

    async def send(self, buffers: Sequence[Buffer]) -> None:
        try:
            pending = [memoryview(buffer) for buffer in buffers if len(buffer)]
            while pending:
                sent = await self._socket.sendmsg(pending)
                while pending and sent >= len(pending[0]):
                    sent -= len(pending.pop(0))
                if sent:
                    pending[0] = pending[0][sent:]
        except (OSError, trio.ClosedResourceError) as error:
            raise self._lost(error) from error

    def close(self) -> None:
        self._socket.close()

    def _lost(self, error: OSError | trio.ClosedResourceError) -> ConnectionLost:
        code = error.errno if isinstance(error, OSError) else errno.EPIPE
        status = _STATUSES.get(code or 0, NtStatus.CONNECTION_DISCONNECTED)
        return ConnectionLost(self._host, status, f"the connection ended: {_reason(error)}")


async def connect(
    host: str, address: str, port: int, source: str | None = None, finder: HostFinder | None = None
) -> TcpTransport:
    """Opens a TCP connection to one of `address`'s addresses (a name or an IP address): the first that accepts one, the
    next one tried after a while without an answer (RFC 8305).

    `host` is the name for messages, `source` a local address to connect from, `finder` a second source of addresses.
    The caller bounds the time.

    Raises:
        ConnectError: the name has no address, or none of them accepts; the last failure is the one reported.
    """
    places = await _addresses(host, address, port, finder)
    finish = await race(
        places, partial(_connected, host, port, source), lambda error: True, discard=lambda transport: transport.close()
    )
    if finish.winners:
        return finish.winners[0][1]
    if finish.failures:
        raise finish.failures[-1][1]
    raise ConnectError(host, NtStatus.BAD_NETWORK_PATH, f"no address is known for {address}")


async def _connected(host: str, port: int, source: str | None, place: AddressInfo) -> TcpTransport:
    family, kind, protocol, _, target = place
    sock = trio.socket.socket(family, kind, protocol)
    try:
        _tune(sock)
        if source is not None:
            await sock.bind((source, 0))
        await sock.connect(target)
    except OSError as error:
        sock.close()
        status = _STATUSES.get(error.errno or 0, NtStatus.BAD_NETWORK_PATH)
        raise ConnectError(host, status, f"{target[0]} port {port}: {_reason(error)}") from error
    except BaseException:
        sock.close()
        raise
    return TcpTransport(sock, host, str(target[0]))


AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...]]


async def _addresses(host: str, address: str, port: int, finder: HostFinder | None) -> Sequence[AddressInfo]:
    """The system's word for where a host is, or the finder's if the system's resolver says nothing for a while."""

    async def by_system() -> Sequence[AddressInfo]:
        return await _resolved(host, address, port)

    async def by_finder() -> Sequence[AddressInfo]:
        found = (
            [] if finder is None else [await _resolved(host, each, port) for each in await finder.addresses(address)]
        )
        if not found:
            raise ConnectError(host, NtStatus.BAD_NETWORK_PATH, f"can't find an address for {address}")
        return [place for places in found for place in places]

    if finder is None:
        return await by_system()
    finish = await race(
        (by_system, by_finder),
        lambda ask: ask(),
        lambda error: True,
        head_start=HOSTS_FILE if finder.is_ahead else HEAD_START,
    )
    if finish.winners:
        return finish.winners[0][1]
    raise next(error for ask, error in finish.failures if ask is by_system)


async def _resolved(host: str, address: str, port: int) -> Sequence[AddressInfo]:
    try:
        return await trio.socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
    except (OSError, UnicodeError) as error:
        detail = f"can't find an address for {address}: {_reason(error)}"
        raise ConnectError(host, NtStatus.BAD_NETWORK_PATH, detail) from error


def _tune(sock: trio.socket.SocketType) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # trio's own text repeats the address
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # getaddrinfo(3) has numbers of its own, below zero
    return str(error) or type(error).__name__

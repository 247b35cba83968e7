"""The seam to the network: a byte stream that receives into given buffers and sends several buffers at once.

`TcpTransport` is the real one. Everything above it takes any `Transport`, so that tests may put a pair in memory or a
faulty one in its place. Failures come out as ConnectError (`connect`) and ConnectionLost (afterwards), never as
OSError.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.errors import ConnectError, ConnectionLost
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.wire import Buffer

SOCKET_BUFFER = 4 * 1024 * 1024
"""Send and receive buffer asked of the kernel, in bytes: several large READs in flight, so that a late reader does
not stop the server. The kernel caps it at net.core.[rw]mem_max."""

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


async def connect(host: str, address: str, port: int, source: str | None = None) -> TcpTransport:
    """Opens a TCP connection to the first of `address`'s addresses (a name or an IP address) that accepts one.

    `host` is the name for messages, `source` a local address to connect from. The caller bounds the time.

    Raises:
        ConnectError: the name has no address, or none of them accepts; the last failure is the one reported.
    """
    failure = ConnectError(host, NtStatus.BAD_NETWORK_PATH, f"no address is known for {address}")
    for family, kind, protocol, _, target in await _addresses(host, address, port):
        sock = trio.socket.socket(family, kind, protocol)
        try:
            _tune(sock)
            if source is not None:
                await sock.bind((source, 0))
            await sock.connect(target)
        except OSError as error:
            sock.close()
            status = _STATUSES.get(error.errno or 0, NtStatus.BAD_NETWORK_PATH)
            failure = ConnectError(host, status, f"{target[0]} port {port}: {_reason(error)}")
        except BaseException:
            sock.close()
            raise
        else:
            return TcpTransport(sock, host, str(target[0]))
    raise failure


AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...]]


async def _addresses(host: str, address: str, port: int) -> Sequence[AddressInfo]:
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

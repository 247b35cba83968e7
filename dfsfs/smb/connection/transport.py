"""Transport: a byte stream that receives into given buffers, and sends several buffers at once without waiting.

`TcpTransport` is the one over TCP. The layers above take any `Transport`, so that tests can use one in memory. Failures
are raised as ConnectError by `connect` and as ConnectionLost afterwards, never as OSError.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.errors import ConnectError, ConnectionLost
from dfsfs.happyeyeballs import ATTEMPT_DELAY
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.auth.hostnames import HostFinder
    from dfsfs.smb.wire.messages import Buffer

SOCKET_BUFFER = 4 * 1024 * 1024
"""Bytes of the send and the receive buffer that are asked of the kernel, which caps them at net.core.[rw]mem_max: room
for several large READs, so that the server does not have to wait while this process is busy.
"""

HOSTS_FILE_DELAY = 0.05
"""Seconds before our own questions to DNS begin: enough for the system's resolver to find a name in /etc/hosts, which
takes precedence.
"""

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
    """A connected stream. One task receives, and one waits until more can be sent."""

    async def receive_into(self, buffer: memoryview) -> int:
        """Waits for bytes; returns how many were put into `buffer`, 0 at the end of the stream."""

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Sends as much of the buffers, in order, as can be sent without waiting. Returns what is left of them, which
        has to be sent before anything else.
        """

    async def wait_writable(self) -> None:
        """Waits until more can be sent."""

    def close(self) -> None:
        """Ends the stream at once; calls of the other methods that are under way raise ConnectionLost."""


class TcpTransport:
    """A Transport over TCP. It takes a connected socket over from trio, whose own methods go through the scheduler once
    more for each call, and ask for data that is not there yet before they wait.
    """

    def __init__(self, sock: trio.socket.SocketType, host: str, address: str = "") -> None:
        self._socket = socket.socket(fileno=sock.detach())
        self._socket.setblocking(False)
        self._may_have_more = False
        """Whether the last call left bytes in the socket, as far as is known."""
        self._host = host
        self.address = address

    async def receive_into(self, buffer: memoryview) -> int:
        try:
            if self._may_have_more:
                await trio.lowlevel.checkpoint()
            else:
                await self._wait_readable()
            while True:
                try:
                    count = self._socket.recv_into(buffer)
                except BlockingIOError:
                    await self._wait_readable()
                else:
                    self._may_have_more = count == len(buffer)
                    return count
        except (OSError, trio.ClosedResourceError) as error:
            raise self._make_lost_error(error) from error

    async def _wait_readable(self) -> None:
        self._require_open()
        await trio.lowlevel.wait_readable(self._socket)

    def _require_open(self) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("it was closed here")

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        left = buffers
        try:
            while left:
                left = _after(left, self._socket.sendmsg(left))
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._make_lost_error(error) from error
        return left

    async def wait_writable(self) -> None:
        try:
            self._require_open()
            await trio.lowlevel.wait_writable(self._socket)
        except (OSError, trio.ClosedResourceError) as error:
            raise self._make_lost_error(error) from error

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _make_lost_error(self, error: OSError | trio.ClosedResourceError) -> ConnectionLost:
        code = error.errno if isinstance(error, OSError) else errno.EPIPE
        status = _STATUSES.get(code or 0, NtStatus.CONNECTION_DISCONNECTED)
        return ConnectionLost(self._host, status, f"the connection ended: {_reason(error)}")


def _after(buffers: Sequence[Buffer], sent: int) -> Sequence[Buffer]:
    """What is left of buffers when so many bytes were sent."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return ()


async def connect(
    host: str, address: str, port: int, source: str | None = None, finder: HostFinder | None = None
) -> TcpTransport:
    """Opens a TCP connection to the first IP address of `address` (a name or an IP address) that accepts one. They are
    tried in the order of RFC 8305.

    `host` is the name for messages, `source` a local address to connect from, `finder` a second source of addresses.
    The caller has to bound the time.

    Raises:
        ConnectError: the name has no address, or none of them accepts; the last failure is the one reported.
    """
    places = await _find_addresses(host, address, port, finder)
    finish = await race(
        places,
        partial(_connect_one, host, port, source),
        lambda error: True,
        discard=lambda transport: transport.close(),
    )
    if finish.winners:
        return finish.winners[0][1]
    if finish.failures:
        raise finish.failures[-1][1]
    raise ConnectError(host, NtStatus.BAD_NETWORK_PATH, f"no address is known for {address}")


async def _connect_one(host: str, port: int, source: str | None, place: AddressInfo) -> TcpTransport:
    family, kind, protocol, _, target = place
    sock = trio.socket.socket(family, kind, protocol)
    try:
        _set_socket_options(sock)
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


async def _find_addresses(host: str, address: str, port: int, finder: HostFinder | None) -> Sequence[AddressInfo]:
    """The addresses of a host by the system's resolver, or by the finder if the resolver does not answer in time."""

    async def by_system() -> Sequence[AddressInfo]:
        return await _resolve(host, address, port)

    async def by_finder() -> Sequence[AddressInfo]:
        found = (
            []
            if finder is None
            else [await _resolve(host, each, port) for each in await finder.find_addresses(address)]
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
        attempt_delay=HOSTS_FILE_DELAY if finder.expects_slow_resolver else ATTEMPT_DELAY,
    )
    if finish.winners:
        return finish.winners[0][1]
    raise next(error for ask, error in finish.failures if ask is by_system)


async def _resolve(host: str, address: str, port: int) -> Sequence[AddressInfo]:
    try:
        return await trio.socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
    except (OSError, UnicodeError) as error:
        detail = f"can't find an address for {address}: {_reason(error)}"
        raise ConnectError(host, NtStatus.BAD_NETWORK_PATH, detail) from error


def _set_socket_options(sock: trio.socket.SocketType) -> None:
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

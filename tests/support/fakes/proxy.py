"""A proxy between dfsfs and a server: counts the requests that pass, and changes them or their answers on the way.

    with Proxy(lab.address("proxy"), lab.address("fs1")) as proxy:
        proxy.tamper = flip_payload_bit
        ...  # //PROXY/data is fs1's share
        assert proxy.changed

Threads, because the client under test is another process. Leaving it ends every connection and thread. What is sealed
passes, but can't be looked into.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

PORT = 445
HEADER = 64
"""Bytes of an SMB2 header (MS-SMB2 2.2.1)."""
PLAIN = b"\xfeSMB"
SEALED = b"\xfdSMB"
COMMAND, STATUS, FLAGS, NEXT, SIGNATURE = 12, 8, 16, 20, 48
"""Offsets in the header."""
SIGNED = 0x8
"""SMB2_FLAGS_SIGNED."""

NEGOTIATE, SESSION_SETUP, CREATE, READ, QUERY_DIRECTORY = 0, 1, 5, 8, 14
"""Commands (MS-SMB2 2.2.1.2)."""


def messages(frame: bytes) -> Iterator[bytes]:
    """The messages of a compound; one that is sealed has none."""
    start = 0
    while frame[start : start + 4] == PLAIN:
        (following,) = struct.unpack_from("<I", frame, start + NEXT)
        yield frame[start : start + following] if following else frame[start:]
        if not following:
            return
        start += following


def command(message: bytes) -> int:
    return int.from_bytes(message[COMMAND : COMMAND + 2], "little")


def status(message: bytes) -> int:
    return int.from_bytes(message[STATUS : STATUS + 4], "little")


class Proxy:
    """See the module's text. `tamper` gets each frame from the server and returns what the client is to see,
    `tamper_request` each frame from the client and returns what the server is to see.
    """

    def __init__(self, address: str, server: str) -> None:
        self.address = address
        self.tamper: Callable[[bytes], bytes] | None = None
        self.tamper_request: Callable[[bytes], bytes] | None = None
        self.changed = 0
        """Frames that were changed."""
        self.requests: list[int] = []
        """The commands of all requests that were not sealed, in their order; those of a compound one by one."""
        self.frames = 0
        """Frames from the client: a compound is one."""
        self._last = 0.0
        self._server = server
        self._servers_kept: list[socket.socket] | None = None
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.address, PORT))
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._listener)
        kept, self._servers_kept = self._servers_kept or [], None
        self._open += kept
        self.disconnect()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def is_quiet(self, seconds: float) -> bool:
        """Whether the client has sent nothing for so long."""
        return time.monotonic() - self._last > seconds

    def disconnect(self) -> None:
        """Ends all connections; new ones are taken."""
        while self._open:
            self._end(self._open.pop())

    def lose(self) -> None:
        """Ends all connections for the client, and the server does not hear of it until the proxy ends."""
        self._servers_kept = []
        self.disconnect()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._server, PORT), timeout=10)
            except OSError:
                return
            server.settimeout(None)
            for end in (client, server):  # or a frame waits 40 ms for the acknowledgement of the one before it
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [client, server]
            self._start(self._pump, client, server, self._seen)
            self._start(self._pump, server, client, self._changed)

    def _seen(self, frame: bytes) -> bytes:
        self.frames += 1
        self._last = time.monotonic()
        self.requests += map(command, messages(frame))
        return self._tampered(self.tamper_request, frame)

    def _changed(self, frame: bytes) -> bytes:
        return self._tampered(self.tamper, frame)

    def _tampered(self, tamper: Callable[[bytes], bytes] | None, frame: bytes) -> bytes:
        if tamper is None:
            return frame
        other = tamper(frame)
        self.changed += other != frame
        return other

    def _pump(self, source: socket.socket, sink: socket.socket, look: Callable[[bytes], bytes]) -> None:
        """Passes frames on until one side has enough (MS-SMB2 2.1: four bytes of length before each)."""
        try:
            while length := self._exactly(source, 4):
                frame = look(self._exactly(source, int.from_bytes(length, "big")))
                sink.sendall(len(frame).to_bytes(4, "big") + frame)
        except OSError:
            pass
        self._end(source)
        self._end(sink)

    @staticmethod
    def _exactly(source: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = source.recv(size - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return bytes(data)

    def _end(self, end: socket.socket) -> None:
        if self._servers_kept is not None and self._leads_to_server(end):
            self._servers_kept.append(end)
            return
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()

    def _leads_to_server(self, end: socket.socket) -> bool:
        try:
            return bool(end.getpeername()[0] == self._server)
        except OSError:
            return False

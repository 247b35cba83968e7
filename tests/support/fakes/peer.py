"""The other end of an SmbProtocol: cuts what the client sends into requests, and packs answers.

No I/O. `Peer.deliver` feeds bytes to the protocol as a socket would, in pieces of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.smb.wire.constants import SMB2_FLAGS_ASYNC_COMMAND, SMB2_FLAGS_SERVER_TO_REDIR, Command
from dfsfs.smb.wire.messages import HEADER, HEADER_SIZE, SMB2_MAGIC, Buffer, Header, decode_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.smb.connection.protocol import SmbProtocol

EMPTY_BODIES = {
    Command.SMB2_CLOSE: b"\x3c\x00" + bytes(58),
    Command.SMB2_ECHO: b"\x04\x00\x00\x00",
    Command.SMB2_FLUSH: b"\x04\x00\x00\x00",
}
ERROR_BODY = b"\x09\x00\x00\x00\x00\x00\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as the peer sees it."""

    header: Header
    body: bytes

    @property
    def command(self) -> Command:
        return Command(self.header.command)


def split_frames(stream: bytes) -> list[bytes]:
    frames = []
    while stream:
        length = int.from_bytes(stream[:4], "big")
        frames.append(stream[4 : 4 + length])
        assert len(frames[-1]) == length, "the client sent half a frame"
        stream = stream[4 + length :]
    return frames


def split_compound(frame: bytes) -> list[Sent]:
    requests = []
    while True:
        header = decode_header(memoryview(frame))
        end = header.next_command or len(frame)
        requests.append(Sent(header, frame[HEADER_SIZE:end]))
        if not header.next_command:
            return requests
        frame = frame[end:]


def read_body(data: bytes) -> bytes:
    """The body of a READ response."""
    return b"\x11\x00" + bytes([HEADER_SIZE + 16, 0]) + len(data).to_bytes(4, "little") + bytes(8) + data


def create_body(file_id: bytes = b"F" * 16) -> bytes:
    """The body of a CREATE response for an empty file."""
    return b"\x59\x00" + bytes(62) + file_id + bytes(8)


class Peer:
    """Talks to one protocol. `credits` are granted with every answer."""

    def __init__(self, protocol: SmbProtocol, *, credits: int = 1) -> None:
        self.protocol = protocol
        self.credits = credits

    def requests(self, now: float = 0.0) -> list[list[Sent]]:
        """What the client sends now: one list for each frame."""
        buffers: list[Buffer] = self.protocol.data_to_send(now)
        return [split_compound(frame) for frame in split_frames(b"".join(buffers))]

    def answer(
        self,
        request: Sent,
        body: bytes | None = None,
        *,
        status: int = 0,
        flags: int = 0,
        signature: bytes = bytes(16),
        next_command: int = 0,
        async_id: int = 0,
        message_id: int | None = None,
        command: int | None = None,
        credits: int | None = None,
    ) -> bytes:
        """The message that answers a request; anything may be made wrong."""
        if body is None:
            body = ERROR_BODY if status else EMPTY_BODIES[request.command]
        return (
            HEADER.pack(
                SMB2_MAGIC,
                HEADER_SIZE,
                request.header.credit_charge,
                status,
                request.header.command if command is None else command,
                self.credits if credits is None else credits,
                SMB2_FLAGS_SERVER_TO_REDIR | flags,
                next_command,
                request.header.message_id if message_id is None else message_id,
                async_id & 0xFFFFFFFF,
                async_id >> 32 if async_id else request.header.tree_id,
                request.header.session_id,
                signature,
            )
            + body
        )

    def pending(self, request: Sent, async_id: int = 77) -> bytes:
        return self.answer(request, status=0x103, flags=SMB2_FLAGS_ASYNC_COMMAND, async_id=async_id)

    def deliver(self, messages: Iterable[bytes], now: float = 0.0, piece: int = 1 << 20) -> None:
        """Each message in a frame of its own."""
        stream = b"".join(len(message).to_bytes(4, "big") + message for message in messages)
        self.deliver_bytes(stream, now, piece)

    def deliver_bytes(self, stream: bytes, now: float = 0.0, piece: int = 1 << 20) -> None:
        position = 0
        while position < len(stream):
            space = self.protocol.get_buffer()
            count = min(len(space), piece, len(stream) - position)
            space[:count] = stream[position : position + count]
            position += count
            self.protocol.buffer_updated(count, now)

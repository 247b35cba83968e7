"""Listener: the server in memory on a socket, for real mounts: with negotiate, NTLM and signatures as a real one has.

    with Listener(Server(), "127.1.2.3") as listener:
        mount.dfsfs //127.1.2.3/data DIR -o nodfs,username=LAB/USER      PASSWD=PASSWORD

Dialect 3.1.1, signed with AES-CMAC, no encryption. What a test wants to go wrong is in `Server.lie`, and in the fields
of the listener that say so.

One thread for each connection, one lock around the server; all end with the `with` block.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import spnego

from dfsfs.filetime import ns_to_filetime
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.crypto import SessionKeys, derive_session_keys, preauth_update
from dfsfs.smb.wire.constants import SMB2_FLAGS_SIGNED, SMB2_GLOBAL_CAP_LARGE_MTU, Command, Dialect, SigningAlgorithm
from dfsfs.smb.wire.messages import HEADER_SIZE, decode_header
from tests.support.fakes.server import messages

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.fakes.server.messages import Part
    from tests.support.fakes.server.server import Server

PORT = 445
USER, DOMAIN, PASSWORD = "user", "LAB", "correct horse"
IO_SIZE = 1024 * 1024
SESSION_ID, TREE_ID = 0x51, 0x71
_NEGOTIATE = struct.Struct("<HHHH16sIIIIQQHHI")
_SETUP = struct.Struct("<HHHH")
_SETUP_REQUEST = struct.Struct("<HBBIIHHQ")
_TREE = struct.Struct("<HBBIII")
_OWN = (Command.SMB2_NEGOTIATE, Command.SMB2_SESSION_SETUP, Command.SMB2_TREE_CONNECT, Command.SMB2_LOGOFF)


class Listener:
    """See the module's text."""

    def __init__(self, server: Server, address: str) -> None:
        self.server = server
        self.address = address
        self.lock = threading.RLock()
        self.never_done = False
        """Every SESSION_SETUP is answered with MORE_PROCESSING_REQUIRED."""
        self.logins = 0
        """SESSION_SETUPs that have come."""
        self._socket: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        users = self._stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".users"))
        users.write(f"{DOMAIN}:{USER}:{PASSWORD}\n")
        users.flush()
        before = os.environ.get("NTLM_USER_FILE")
        os.environ["NTLM_USER_FILE"] = users.name
        self._stack.callback(_restore, "NTLM_USER_FILE", before)
        self._socket = socket.create_server((self.address, PORT))
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._socket is not None
        for end in (self._socket, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._stack.close()

    def cut(self) -> None:
        """All connections end."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _start(self, work: Any, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        assert self._socket is not None
        while True:
            try:
                end, _ = self._socket.accept()
            except OSError:
                return
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends.append(end)
            self._start(_Client(self, end).serve)


class _Client:
    """One connection."""

    def __init__(self, listener: Listener, end: socket.socket) -> None:
        self._listener = listener
        self._end = end
        self._connection = listener.server.connect(self._deliver, lambda: None, "client")
        self._hash = bytes(64)
        self._login: Any = None
        self._keys: SessionKeys | None = None

    def serve(self) -> None:
        """Takes requests until the client is gone."""
        with contextlib.suppress(OSError):
            while (prefix := self._receive(4)) and (frame := self._receive(int.from_bytes(prefix, "big"))):
                part = messages.split(frame)[0]
                with self._listener.lock:
                    if part.command in _OWN:
                        self._handle(part, frame)
                    else:
                        self._connection.receive(prefix + frame)
                pause = self._listener.server.pause
                if pause and part.command is Command.SMB2_QUERY_DIRECTORY:
                    time.sleep(pause)
        with self._listener.lock:
            self._connection.cut()
        self._end.close()

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._end.recv(size - len(data))
            if not piece:
                return b""
            data += piece
        return bytes(data)

    def _deliver(self, data: bytes) -> None:
        signed, rest = bytearray(), data[4:]
        while rest:
            header = decode_header(memoryview(rest))
            end = header.next_command or len(rest)
            signed += self._signed(rest[:end], header.message_id, header.status)
            rest = rest[end:]
        self._end.sendall(len(signed).to_bytes(4, "big") + signed)

    def _signed(self, message: bytes, message_id: int, status: int) -> bytes:
        if self._keys is None or status == NtStatus.PENDING or message_id == messages.UNSOLICITED:
            return message
        head = bytearray(message)
        head[16:20] = (int.from_bytes(head[16:20], "little") | SMB2_FLAGS_SIGNED).to_bytes(4, "little")
        head[48:64] = bytes(16)
        head[48:64] = self._keys.signer.sign([bytes(head)], message_id=message_id, from_server=True, is_cancel=False)
        return bytes(head)

    # -- what the server in memory does not know --------------------------------------------------------------------

    def _handle(self, part: Part, frame: bytes) -> None:
        connection = self._connection
        connection.credits -= 1
        if part.command is Command.SMB2_NEGOTIATE:
            answer = self._packed(part, NtStatus.SUCCESS, self._negotiate())
            self._hash = preauth_update(preauth_update(self._hash, frame), answer)
        elif part.command is Command.SMB2_SESSION_SETUP:
            answer = self._session_setup(part, frame)
        elif part.command is Command.SMB2_TREE_CONNECT:
            answer = self._packed(part, NtStatus.SUCCESS, _TREE.pack(16, 1, 0, 0, 0, 0x001F01FF))
        else:
            answer = self._packed(part, NtStatus.SUCCESS, messages.PLAIN_BODY)
        connection.deliver(answer)

    def _packed(self, part: Part, status: int, body: bytes) -> bytes:
        header = part.header._replace(session_id=SESSION_ID, tree_id=TREE_ID)
        granted = self._connection._grant(part)
        return messages.pack(part._replace(header=header), status, body, granted)

    def _negotiate(self) -> bytes:
        contexts = struct.pack("<HHIHHH", 1, 38, 0, 1, 32, 1) + os.urandom(32)
        contexts += bytes(-len(contexts) % 8)
        contexts += struct.pack("<HHIHH", 8, 4, 0, 1, SigningAlgorithm.AES_CMAC)
        now = ns_to_filetime(time.time_ns())
        sizes = (IO_SIZE, IO_SIZE, IO_SIZE)
        at = HEADER_SIZE + _NEGOTIATE.size
        return (
            _NEGOTIATE.pack(
                65, 3, Dialect.SMB_3_1_1, 2, bytes(16), SMB2_GLOBAL_CAP_LARGE_MTU, *sizes, now, 0, at, 0, at
            )
            + contexts
        )

    def _session_setup(self, part: Part, frame: bytes) -> bytes:
        self._listener.logins += 1
        *_, at, size, _ = _SETUP_REQUEST.unpack_from(part.body)
        token = part.body[at - HEADER_SIZE :][:size]
        if self._login is None or (self._login.complete and not self._listener.never_done):
            self._login = spnego.server(protocol="ntlm")
        if self._keys is None:
            self._hash = preauth_update(self._hash, frame)
        out = b"" if self._login.complete else self._login.step(token) or b""
        done = self._login.complete and not self._listener.never_done
        body = _SETUP.pack(9, 0, HEADER_SIZE + _SETUP.size, len(out)) + (out or b"\0")
        if not done:
            answer = self._packed(part, NtStatus.MORE_PROCESSING_REQUIRED, body)
            if self._keys is None:
                self._hash = preauth_update(self._hash, answer)
            return answer
        if self._keys is None:
            self._keys = derive_session_keys(
                self._login.session_key,
                SESSION_ID,
                Dialect.SMB_3_1_1,
                preauth_hash=self._hash,
                signing=SigningAlgorithm.AES_CMAC,
                cipher=None,
            )
        return self._packed(part, NtStatus.SUCCESS, body)


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value

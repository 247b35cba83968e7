"""What daemons log that the tests start: they write to a journal that belongs to the tests (DFSFS_JOURNAL)."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ERROR = 3
"""The priority of errors (syslog(3)); worse ones have lower numbers."""
LARGEST = 256 * 1024
"""Bytes of a datagram at most."""


@dataclass(frozen=True, slots=True)
class Record:
    """A message of a daemon, and the mount point that it serves."""

    priority: int
    part: str
    message: str
    mountpoint: str

    def __str__(self) -> str:
        return f"<{self.priority}> {self.mountpoint} {self.part}: {self.message}"


def fields_of(datagram: bytes) -> dict[str, str]:
    """A datagram of the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), read as the journal does."""
    fields: dict[str, str] = {}
    rest = datagram
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[9 + size :]
        fields[name.decode()] = value.decode()
    return fields


def decode(datagram: bytes) -> Record:
    """A record of dfsfs in a datagram of the journal."""
    fields = fields_of(datagram)
    return Record(int(fields["PRIORITY"]), fields["DFSFS_PART"], fields["MESSAGE"], fields.get("DFSFS_MOUNT", ""))


class Journal:
    """A journal at `address`. A thread takes what comes, as the kernel has room for a few messages only."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(str(address))
        self._socket.setblocking(False)
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._end, self._wakes = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self) -> list[Record]:
        """What was logged since the last call."""
        with self._lock:
            self._receive()
            taken, self._records = self._records, []
        return taken

    def close(self) -> None:
        self._wakes.close()
        self._thread.join()
        self._end.close()
        self._socket.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._end], [], [])
            if self._end in ready:
                return
            with self._lock:
                self._receive()

    def _receive(self) -> None:
        """Takes all that is there. The lock is held."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._records.append(decode(self._socket.recv(LARGEST)))

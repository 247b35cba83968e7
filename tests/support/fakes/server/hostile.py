"""What a hostile server says: answers that never end, and answers that no honest server gives.

A lie is a function that is asked before each request is carried out, and gives the answer or None. `Lies` asks the one
for the folder that a listing is of; everything else is answered honestly.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Command, CtlCode
from tests.support.fakes.server import messages
from tests.support.fakes.server.errors import Refused
from tests.support.fakes.server.requests import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fakes.server.messages import Part
    from tests.support.fakes.server.requests import Session
    from tests.support.fakes.server.volume import Inode

_ENTRY = struct.Struct("<IIQQQQQQIIIBB24sHQ")
CROWD_STEP = 144
"""Bytes of an entry of `endless`, whose names have 18 characters."""
_NOON = 133_000_000_000_000_000
"""A time in 2022 (100 ns since 1601)."""

Listed = tuple[str, int, int]
"""A name, a size and a file id."""


def entries(rows: list[Listed]) -> bytes:
    """An answer to QUERY_DIRECTORY with whatever names and sizes."""
    packed, last = [], len(rows) - 1
    for index, (name, size, number) in enumerate(rows):
        encoded = name.encode("utf-16-le", "surrogatepass")
        step = -(-(_ENTRY.size + len(encoded)) // 8) * 8
        following = 0 if index == last else step
        times = (_NOON, _NOON, _NOON, _NOON)
        fixed = _ENTRY.pack(following, 0, *times, size, 4096, 0x20, len(encoded), 0, 0, 0, bytes(24), 0, number)
        packed.append((fixed + encoded).ljust(following, b"\0"))
    return b"".join(packed)


@dataclass
class Lies:
    """Of listings, by the name of the folder: what the n-th answer is, None for the end."""

    listings: dict[str, Callable[[int, int], bytes | None]] = field(default_factory=dict)
    expires: Callable[[], bool] = lambda: False
    """Whether the session is said to have expired, asked for each CREATE."""
    snapshots: int | None = None
    """By how many bytes more than there is room for the list of snapshots is said to be."""
    all_of: Inode | None = None
    """Whatever is asked for has the attributes of this one."""
    asked: dict[str, int] = field(default_factory=dict)
    """How many answers were given for each folder."""

    def __call__(self, session: Session, part: Part) -> Answer | None:
        if part.command is Command.SMB2_QUERY_DIRECTORY:
            return self._listing(session, part)
        if part.command is Command.SMB2_QUERY_INFO and self.all_of is not None:
            about = messages.all_information(self.all_of, 1, "", pending=False)
            return Answer(NtStatus.SUCCESS, messages.output_body(about))
        if part.command is Command.SMB2_CREATE and self.expires():
            return Answer(NtStatus.NETWORK_SESSION_EXPIRED, messages.ERROR_BODY)
        if part.command is Command.SMB2_IOCTL and self.snapshots is not None:
            handle, code, *_ = messages.parse_ioctl(part.body)
            if code == CtlCode.FSCTL_SRV_ENUMERATE_SNAPSHOTS:
                room = int.from_bytes(part.body[44:48], "little")
                data = struct.pack("<III", 1, 0, room + self.snapshots)
                return Answer(NtStatus.SUCCESS, messages.ioctl_body(code, handle, data))
        return None

    def _listing(self, session: Session, part: Part) -> Answer | None:
        handle, _, _, _, size = messages.parse_query_directory(part.body)
        try:
            opened = session._open(handle)
        except Refused:
            return None
        name = opened.place[0].children[opened.place[1]][0] if opened.place is not None else ""
        lie = self.listings.get(name)
        if lie is None:
            return None
        count = self.asked.get(name, 0)
        self.asked[name] = count + 1
        data = lie(count, size)
        if data is None:
            return Answer(NtStatus.NO_MORE_FILES, messages.ERROR_BODY)
        return Answer(NtStatus.SUCCESS, messages.output_body(data))


@cache
def _crowd(size: int) -> bytes:
    """As many names of one length as there is room for."""
    return entries([(f"name-{0:06d}-{row:06d}", 1, row + 1000) for row in range(size // CROWD_STEP)])


def endless(count: int, size: int) -> bytes:
    """New names for ever, as many as there is room for."""
    found, name = bytearray(_crowd(size)), f"name-{count:06d}".encode("utf-16-le")
    for start in range(0, len(found), CROWD_STEP):
        found[start + 100 : start + 103] = (count + 1).to_bytes(3, "little")  # the upper half of the file id
        found[start + _ENTRY.size : start + _ENTRY.size + len(name)] = name
    return bytes(found)


def same(count: int, size: int) -> bytes:
    """The same names for ever."""
    return _crowd(size)


def drip(count: int, size: int) -> bytes:
    """The same name for ever, one in each answer."""
    return entries([("again", 1, 1000)])


def nothing(count: int, size: int) -> bytes:
    """Answers without an entry, for ever."""
    return b""


def dots(count: int, size: int) -> bytes:
    """Nothing but the folder itself, for ever."""
    return entries([(".", 0, 1)])


def odd(count: int, size: int) -> bytes | None:
    """Two good entries among those that no file can have."""
    rows = [("good", 1, 1000), ("x" * 5000, 1, 1001), ("negative", 2**63, 1002), ("", 1, 1003), ("fine", 1, 1004)]
    return entries(rows) if count == 0 else None

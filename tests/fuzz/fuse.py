"""A fuzz target for the codec of the kernel's FUSE. The first byte of an input is an opcode, and the rest the request's
body; a whole request for FUSE_WRITE, and for what is no opcode.

The kernel is no enemy, but what it writes goes through the C layout of another version, and a mistake here is one for
every program that uses the mount.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["dfsfs.fuse.abi"]):
    from dfsfs.fuse.abi import requests
    from dfsfs.fuse.abi.constants import InitFlag, Opcode
    from dfsfs.fuse.abi.negotiation import UnsupportedKernel, Wanted, negotiate
    from dfsfs.fuse.abi.requests import HEADER_SIZE, InHeader, MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = Wanted(InitFlag(2**43 - 1), 256, 1 << 20, 64)


def whole(data: bytes) -> None:
    header = requests.parse_header(data)
    assert header.len == len(data) >= HEADER_SIZE
    assert requests.FUSE_IN_HEADER.pack(*header) == data[:HEADER_SIZE]


def init(data: bytes) -> None:
    asked = requests.parse_init(data)
    try:
        reply, agreed = negotiate(asked, WANTED)
    except UnsupportedKernel:
        assert (asked.major, asked.minor) < (7, 31)
        return
    assert len(reply) == 64
    assert (agreed is None) == (asked.major > 7)
    if agreed is not None:
        assert not agreed.flags & ~(asked.flags | asked.flags2 << 32)


def write(data: bytes) -> None:
    given, taken = requests.parse_write(data)
    assert len(taken) == given.size <= len(data) - requests.WRITE_HEADERS


def setxattr(data: bytes) -> None:
    given, name, value = requests.parse_setxattr(data)
    assert len(value) == given.size and b"\0" not in name
    assert data[8:].startswith(name + b"\0" + value)


def batch_forget(data: bytes) -> None:
    assert 16 * len(requests.parse_batch_forget(data)) <= len(data) - 8


def names(count: int, start: int, parse: Callable[[bytes], list[bytes]]) -> Callable[[bytes], None]:
    """What is read from `start` on, as so many names."""

    def read(data: bytes) -> None:
        found = parse(data)
        assert len(found) == count
        assert data[start:].startswith(b"".join(name + b"\0" for name in found))
        assert not any(b"\0" in name for name in found)

    return read


def times(data: bytes) -> None:
    atime, mtime = requests.parse_setattr(data).get_times(lambda: 0)
    assert -(2**95) < atime < 2**95 and -(2**95) < mtime < 2**95


READERS: dict[int, Callable[[bytes], object]] = {
    Opcode.INIT: init,
    Opcode.WRITE: write,
    Opcode.SETXATTR: setxattr,
    Opcode.BATCH_FORGET: batch_forget,
    Opcode.SETATTR: times,
    Opcode.GETATTR: requests.parse_getattr,
    Opcode.OPEN: requests.parse_open,
    Opcode.RELEASE: requests.parse_release,
    Opcode.FLUSH: requests.parse_flush,
    Opcode.READ: requests.parse_read,
    Opcode.FSYNC: requests.parse_fsync,
    Opcode.SETLK: requests.parse_lk,
    Opcode.FALLOCATE: requests.parse_fallocate,
    Opcode.LSEEK: requests.parse_lseek,
    Opcode.STATX: requests.parse_statx,
    Opcode.COPY_FILE_RANGE: requests.parse_copy_file_range,
    Opcode.LISTXATTR: requests.parse_listxattr,
    Opcode.INTERRUPT: requests.parse_interrupt,
    Opcode.FORGET: lambda data: requests.parse_forget(InHeader(*range(9)), data),
    Opcode.LOOKUP: names(1, 0, lambda data: [requests.parse_name(data)]),
    Opcode.SYMLINK: names(2, 0, lambda data: requests.parse_names(data, 2)),
    Opcode.MKNOD: names(1, 16, lambda data: requests.parse_mknod(data)[1]),
    Opcode.MKDIR: names(1, 8, lambda data: requests.parse_mkdir(data)[1]),
    Opcode.CREATE: names(1, 16, lambda data: requests.parse_create(data)[1]),
    Opcode.RENAME: names(2, 8, lambda data: requests.parse_rename(data)[1]),
    Opcode.RENAME2: names(2, 16, lambda data: requests.parse_rename2(data)[1]),
    Opcode.LINK: names(1, 8, lambda data: [requests.parse_link(data)[1]]),
    Opcode.GETXATTR: names(1, 8, lambda data: requests.parse_getxattr(data)[1]),
}
"""By opcode; of requests that look the same, one."""


def one_input(data: bytes) -> None:
    """Raises nothing but AssertionError, for a parser that lies, or what a parser must not raise."""
    try:
        READERS.get(data[0] if data else 0, whole)(data[1:])
    except MalformedRequest:
        pass


def main() -> None:
    atheris.Setup([f"{sys.executable} -m tests.fuzz.fuse", *sys.argv[1:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Replies to the kernel: values to bytes. Names and fields as in linux/fuse.h.

A reply is a fuse_out_header and what belongs to the request's opcode, or the header alone with an error.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfuse3 import EntryAttributes, StatvfsData

Buffer = bytes | bytearray | memoryview
NS = 1_000_000_000
_U64_MAX, _U32_MAX = 2**64 - 1, 2**32 - 1

FUSE_OUT_HEADER = Struct("=IiQ")
HEADER_SIZE = FUSE_OUT_HEADER.size
FUSE_ATTR = Struct("=QQQQQQIIIIIIIIII")
FUSE_ENTRY_OUT = Struct("=QQQQII" + FUSE_ATTR.format[1:])
FUSE_ATTR_OUT = Struct("=QII" + FUSE_ATTR.format[1:])
FUSE_OPEN_OUT = Struct("=QII")
FUSE_WRITE_OUT = Struct("=II")
FUSE_GETXATTR_OUT = FUSE_WRITE_OUT
FUSE_STATFS_OUT = Struct("=QQQQQIIII24x")
FUSE_LK_OUT = Struct("=QQII")
FUSE_LSEEK_OUT = Struct("=Q")
FUSE_COPY_FILE_RANGE_OUT = Struct("=Q")
FUSE_STATX_OUT = Struct("=QII16x" + "IIQIIIHHQQQQ" + "qIi" * 4 + "IIII112x")
"""struct fuse_statx_out (7.39)"""
FUSE_DIRENT = Struct("=QQII")
FUSE_DIRENTPLUS = Struct(FUSE_ENTRY_OUT.format + FUSE_DIRENT.format[1:])
_DIRENT_AT = FUSE_DIRENT.size
_DIRENTPLUS_AT = FUSE_DIRENTPLUS.size
_PADDING = tuple(bytes(count) for count in range(8))

STATX_BASIC_STATS, STATX_BTIME = 0x7FF, 0x800
"""Bits of statx(2)'s stx_mask."""


def pack_header(unique: int, length: int) -> bytes:
    """The header of a reply that `length` bytes follow."""
    return FUSE_OUT_HEADER.pack(HEADER_SIZE + length, 0, unique)


def pack_error(unique: int, number: int) -> bytes:
    """A whole reply: the request has failed with an errno."""
    return FUSE_OUT_HEADER.pack(HEADER_SIZE, -number, unique)


def split_timeout(seconds: float) -> tuple[int, int]:
    """A time-out as whole seconds and nanoseconds."""
    whole = int(seconds)
    return whole, int((seconds - whole) * NS)


def encode_dev(device: int) -> int:
    """A device number as the kernel's new_encode_dev makes it: 32 bits of st_rdev, as glibc has them."""
    return device & _U32_MAX


def make_dev(major: int, minor: int) -> int:
    """The same of a major number (12 bits) and a minor number (20 bits)."""
    return (minor & 0xFF | major << 8 | (minor & ~0xFF) << 12) & _U32_MAX


def split_dev(device: int) -> tuple[int, int]:
    """The major and the minor number of st_rdev, as far as the kernel has them."""
    return device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00


def pack_entry(entry: EntryAttributes) -> bytes:
    """struct fuse_entry_out: of a name that was looked up or made. st_ino 0: there is no such name."""
    entry_valid, entry_nsec = split_timeout(entry.entry_timeout)
    attr_valid, attr_nsec = split_timeout(entry.attr_timeout)
    times = (entry_valid, attr_valid, entry_nsec, attr_nsec)
    return FUSE_ENTRY_OUT.pack(entry.st_ino, entry.generation, *times, *_attr_fields(entry))


def pack_attr(entry: EntryAttributes) -> bytes:
    """struct fuse_attr_out"""
    return FUSE_ATTR_OUT.pack(*split_timeout(entry.attr_timeout), 0, *_attr_fields(entry))


def _attr_fields(entry: EntryAttributes) -> tuple[int, ...]:
    """The fields of struct fuse_attr."""
    atime, mtime, ctime = entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns
    return (
        *(entry.st_ino, entry.st_size, entry.st_blocks),
        *((atime // NS) & _U64_MAX, (mtime // NS) & _U64_MAX, (ctime // NS) & _U64_MAX),
        *(atime % NS, mtime % NS, ctime % NS),
        *(entry.st_mode, entry.st_nlink, entry.st_uid, entry.st_gid, encode_dev(entry.st_rdev), entry.st_blksize, 0),
    )


def pack_statx(entry: EntryAttributes, btime_ns: int | None) -> bytes:
    """struct fuse_statx_out (7.39). `btime_ns`: when the file was made, None if that is not known."""
    attr_valid, attr_nsec = split_timeout(entry.attr_timeout)
    times = (
        part
        for time in (entry.st_atime_ns, btime_ns or 0, entry.st_ctime_ns, entry.st_mtime_ns)
        for part in (time // NS, time % NS, 0)
    )
    mask = STATX_BASIC_STATS if btime_ns is None else STATX_BASIC_STATS | STATX_BTIME
    return FUSE_STATX_OUT.pack(
        *(attr_valid, attr_nsec, 0, mask, entry.st_blksize, 0, entry.st_nlink, entry.st_uid, entry.st_gid),
        *(entry.st_mode, 0, entry.st_ino, entry.st_size, entry.st_blocks, 0),
        *times,
        *(*split_dev(entry.st_rdev), 0, 0),
    )


def pack_statfs(data: StatvfsData) -> bytes:
    """struct fuse_statfs_out"""
    return FUSE_STATFS_OUT.pack(
        *(data.f_blocks, data.f_bfree, data.f_bavail, data.f_files, data.f_ffree),
        *(data.f_bsize, data.f_namemax, data.f_frsize, 0),
    )


def pack_names(names: Iterable[bytes]) -> bytes:
    """The value of listxattr(2): each name ends with NUL."""
    return b"".join(name + b"\0" for name in names)


class HasAttributes(Protocol):
    """What an entry of a listing says of a file. Times are in nanoseconds since 1970."""

    @property
    def ino(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def device(self) -> tuple[int, int]:
        """Its major and minor number, of a device."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def blksize(self) -> int: ...
    @property
    def atime_ns(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...


class DirentPlusBuffer:
    """The reply to FUSE_READDIRPLUS: a struct fuse_direntplus for each name. `size`: bytes that it may have."""

    keeps_lookups = True
    """Whether the kernel counts a lookup of each node, but for `.` and `..`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._length = 0
        self._parts: list[bytes] = []

    def add(self, name: bytes, attributes: HasAttributes, timeouts: tuple[float, float], next_offset: int) -> bool:
        """Adds an entry; False if there is no room for it. `timeouts`: seconds that the name and the attributes hold.
        `next_offset`: the offset of the entry that follows.
        """
        padding = -len(name) % 8
        length = self._length + _DIRENTPLUS_AT + len(name) + padding
        if length > self._size:
            return False
        self._length = length
        entry_timeout, attr_timeout = timeouts
        entry_valid, attr_valid = int(entry_timeout), int(attr_timeout)
        atime, mtime, ctime = attributes.atime_ns, attributes.mtime_ns, attributes.ctime_ns
        ino, mode = attributes.ino, attributes.mode
        major, minor = attributes.device
        self._parts.append(
            FUSE_DIRENTPLUS.pack(
                *(ino, 0, entry_valid, attr_valid),
                *(int((entry_timeout - entry_valid) * NS), int((attr_timeout - attr_valid) * NS)),
                *(ino, attributes.size, attributes.blocks),
                *((atime // NS) & _U64_MAX, (mtime // NS) & _U64_MAX, (ctime // NS) & _U64_MAX),
                *(atime % NS, mtime % NS, ctime % NS, mode, attributes.nlink, attributes.uid, attributes.gid),
                *(make_dev(major, minor) if major or minor else 0, attributes.blksize, 0),
                *(ino, next_offset, len(name), mode >> 12),
            )
            + name
            + _PADDING[padding]
        )
        return True

    def to_bytes(self) -> bytes:
        """What was added."""
        return b"".join(self._parts)


class DirentBuffer:
    """The reply to FUSE_READDIR: a struct fuse_dirent for each name. `size`: bytes that it may have."""

    keeps_lookups = False

    def __init__(self, size: int) -> None:
        self._size = size
        self._length = 0
        self._parts: list[bytes] = []

    def add(self, name: bytes, attributes: HasAttributes, timeouts: tuple[float, float], next_offset: int) -> bool:
        """As in DirentPlusBuffer; the kernel is told the number and the type alone."""
        padding = -len(name) % 8
        length = self._length + _DIRENT_AT + len(name) + padding
        if length > self._size:
            return False
        self._length = length
        dirent = FUSE_DIRENT.pack(attributes.ino, next_offset, len(name), attributes.mode >> 12)
        self._parts.append(dirent + name + _PADDING[padding])
        return True

    def to_bytes(self) -> bytes:
        """What was added."""
        return b"".join(self._parts)

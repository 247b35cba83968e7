"""Requests of the kernel: bytes to frozen values. Each class is a structure of linux/fuse.h, with its fields' names.

A request is a fuse_in_header, the structure that belongs to its opcode, then names or data. `parse_*` read what follows
the header; they check that it is there, and that names end.
"""

from __future__ import annotations

from operator import itemgetter
from struct import Struct, calcsize
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dfsfs.fuse.abi.constants import (
    FATTR_ATIME,
    FATTR_ATIME_NOW,
    FATTR_FH,
    FATTR_GID,
    FATTR_MODE,
    FATTR_MTIME,
    FATTR_MTIME_NOW,
    FATTR_SIZE,
    FATTR_UID,
)

if TYPE_CHECKING:
    from collections.abc import Callable


NS = 1_000_000_000


class MalformedRequest(ValueError):
    """Bytes that are no request of FUSE, or not of the version that was agreed on."""


class InHeader(NamedTuple):
    """struct fuse_in_header: the beginning of a request, and its RequestContext for a handler."""

    len: int
    """Bytes of the request, this header included."""
    opcode: int
    unique: int
    """Names the request in its reply and in FUSE_INTERRUPT."""
    nodeid: int
    uid: int
    gid: int
    pid: int
    """The thread that asks; 0 if it is in another PID namespace, or the kernel itself."""
    total_extlen: int
    """Units of 8 bytes that extensions have at the end (7.38)."""
    padding: int


FUSE_IN_HEADER = Struct("=IIQQIIIHH")
HEADER_SIZE = FUSE_IN_HEADER.size
WRITE_IN_SIZE = calcsize("=QQIIQII")
WRITE_HEADERS = HEADER_SIZE + WRITE_IN_SIZE
"""Bytes of a FUSE_WRITE before its data."""


def parse_header(request: memoryview | bytes) -> InHeader:
    """The header of a request.

    Raises:
        MalformedRequest: it is shorter than a header, or of another length than it says.
    """
    if len(request) < HEADER_SIZE:
        raise MalformedRequest(f"a request of {len(request)} bytes")
    header = InHeader._make(FUSE_IN_HEADER.unpack_from(request))
    if header.len != len(request):
        raise MalformedRequest(f"a request of {len(request)} bytes, which says that it has {header.len}")
    return header


class InitIn(NamedTuple):
    """struct fuse_init_in. flags2 has bits 32 to 63 of the flags (7.36)."""

    major: int
    minor: int
    max_readahead: int
    flags: int
    flags2: int


class ForgetOne(NamedTuple):
    """struct fuse_forget_one: how many lookups of a node the kernel gives back."""

    nodeid: int
    nlookup: int


class GetattrIn(NamedTuple):
    """struct fuse_getattr_in"""

    getattr_flags: int
    dummy: int
    fh: int


class SetattrIn(NamedTuple):
    """struct fuse_setattr_in: and a SetattrFields for a handler."""

    valid: int
    padding: int
    fh: int
    size: int
    lock_owner: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    unused4: int
    uid: int
    gid: int
    unused5: int

    @property
    def update_size(self) -> bool:
        return bool(self.valid & FATTR_SIZE)

    @property
    def update_mode(self) -> bool:
        return bool(self.valid & FATTR_MODE)

    @property
    def update_uid(self) -> bool:
        return bool(self.valid & FATTR_UID)

    @property
    def update_gid(self) -> bool:
        return bool(self.valid & FATTR_GID)

    @property
    def update_atime(self) -> bool:
        return bool(self.valid & (FATTR_ATIME | FATTR_ATIME_NOW))

    @property
    def update_mtime(self) -> bool:
        return bool(self.valid & (FATTR_MTIME | FATTR_MTIME_NOW))

    def get_times(self, now: Callable[[], int]) -> tuple[int, int]:
        """st_atime and st_mtime in nanoseconds since 1970, which count if they are to be updated. `now` is a clock."""
        return (
            now() if self.valid & FATTR_ATIME_NOW else self.atime * NS + self.atimensec,
            now() if self.valid & FATTR_MTIME_NOW else self.mtime * NS + self.mtimensec,
        )

    @property
    def handle(self) -> int | None:
        """The handle of ftruncate(2); None if the file is named."""
        return self.fh if self.valid & FATTR_FH else None


class MknodIn(NamedTuple):
    """struct fuse_mknod_in"""

    mode: int
    rdev: int
    umask: int
    padding: int


class MkdirIn(NamedTuple):
    """struct fuse_mkdir_in"""

    mode: int
    umask: int


class Rename2In(NamedTuple):
    """struct fuse_rename2_in; of fuse_rename_in with flags 0."""

    newdir: int
    flags: int
    padding: int


class OpenIn(NamedTuple):
    """struct fuse_open_in, of FUSE_OPEN and FUSE_OPENDIR."""

    flags: int
    open_flags: int


class CreateIn(NamedTuple):
    """struct fuse_create_in"""

    flags: int
    mode: int
    umask: int
    open_flags: int


class ReleaseIn(NamedTuple):
    """struct fuse_release_in, of FUSE_RELEASE and FUSE_RELEASEDIR."""

    fh: int
    flags: int
    release_flags: int
    lock_owner: int


class FlushIn(NamedTuple):
    """struct fuse_flush_in"""

    fh: int
    unused: int
    padding: int
    lock_owner: int


class ReadIn(NamedTuple):
    """struct fuse_read_in, of FUSE_READ, FUSE_READDIR and FUSE_READDIRPLUS."""

    fh: int
    offset: int
    size: int
    read_flags: int
    lock_owner: int
    flags: int
    padding: int


class WriteIn(NamedTuple):
    """struct fuse_write_in, which `size` bytes of data follow."""

    fh: int
    offset: int
    size: int
    write_flags: int
    lock_owner: int
    flags: int
    padding: int


class FsyncIn(NamedTuple):
    """struct fuse_fsync_in, of FUSE_FSYNC and FUSE_FSYNCDIR."""

    fh: int
    fsync_flags: int
    padding: int


class GetxattrIn(NamedTuple):
    """struct fuse_getxattr_in, of FUSE_GETXATTR and FUSE_LISTXATTR. A size of 0 asks for the length of the value."""

    size: int
    padding: int


class SetxattrIn(NamedTuple):
    """struct fuse_setxattr_in as it is without SETXATTR_EXT."""

    size: int
    flags: int


class LkIn(NamedTuple):
    """struct fuse_lk_in with its fuse_file_lock: bytes `start` to `end`, the last one included."""

    fh: int
    owner: int
    start: int
    end: int
    type: int
    pid: int
    lk_flags: int
    padding: int


class FallocateIn(NamedTuple):
    """struct fuse_fallocate_in"""

    fh: int
    offset: int
    length: int
    mode: int
    padding: int


class LseekIn(NamedTuple):
    """struct fuse_lseek_in"""

    fh: int
    offset: int
    whence: int
    padding: int


class CopyFileRangeIn(NamedTuple):
    """struct fuse_copy_file_range_in, of FUSE_COPY_FILE_RANGE and FUSE_COPY_FILE_RANGE_64."""

    fh_in: int
    off_in: int
    nodeid_out: int
    fh_out: int
    off_out: int
    len: int
    flags: int


class StatxIn(NamedTuple):
    """struct fuse_statx_in (7.39)"""

    getattr_flags: int
    reserved: int
    fh: int
    sx_flags: int
    sx_mask: int


T = TypeVar("T")


def _structure(layout: str, make: Callable[..., T]) -> Callable[[bytes], T]:
    """A parser of requests that are one structure. What a newer kernel puts behind it is left alone."""
    structure = Struct(layout)
    size, unpack = structure.size, structure.unpack_from

    def parse(body: bytes) -> T:
        if len(body) < size:
            raise MalformedRequest(f"{len(body)} bytes where {size} are needed")
        return make(unpack(body))

    return parse


def _structure_and_names(layout: str, make: Callable[..., T], count: int) -> Callable[[bytes], tuple[T, list[bytes]]]:
    """A parser of requests that are a structure and so many names."""
    parse, size = _structure(layout, make), calcsize(layout)

    def parse_both(body: bytes) -> tuple[T, list[bytes]]:
        return parse(body), parse_names(body, count, size)

    return parse_both


def parse_names(body: bytes, count: int = 1, start: int = 0) -> list[bytes]:
    """The names, each of which ends with NUL, in a request's body from `start` on.

    Raises:
        MalformedRequest: there are fewer than `count`.
    """
    names = body[start:].split(b"\0", count)
    if len(names) <= count:
        raise MalformedRequest(f"{len(names) - 1} names where {count} are needed")
    del names[count:]
    return names


def parse_name(body: bytes) -> bytes:
    """The name that a request's body is. Raises: MalformedRequest: it does not end."""
    end = body.find(b"\0")
    if end < 0:
        raise MalformedRequest("a name that does not end")
    return body[:end]


parse_getattr = _structure("=IIQ", GetattrIn._make)
parse_setattr = _structure("=IIQQQqqqIIIIIIII", SetattrIn._make)
parse_open = _structure("=II", OpenIn._make)
parse_release = _structure("=QIIQ", ReleaseIn._make)
parse_flush = _structure("=QIIQ", FlushIn._make)
parse_read = _structure("=QQIIQII", ReadIn._make)
parse_fsync = _structure("=QII", FsyncIn._make)
parse_lk = _structure("=QQQQIIII", LkIn._make)
parse_fallocate = _structure("=QQQII", FallocateIn._make)
parse_lseek = _structure("=QqII", LseekIn._make)
parse_copy_file_range = _structure("=QQQQQQQ", CopyFileRangeIn._make)
parse_statx = _structure("=IIQII", StatxIn._make)
parse_listxattr = _structure("=II", GetxattrIn._make)
parse_mknod = _structure_and_names("=IIII", MknodIn._make, 1)
parse_mkdir = _structure_and_names("=II", MkdirIn._make, 1)
parse_create = _structure_and_names("=IIII", CreateIn._make, 1)
parse_rename2 = _structure_and_names("=QII", Rename2In._make, 2)
parse_getxattr = _structure_and_names("=II", GetxattrIn._make, 1)
_parse_u64 = _structure("=Q", itemgetter(0))
_parse_forget_count = _structure("=II", itemgetter(0))
_parse_setxattr = _structure("=II", SetxattrIn._make)
_parse_init = _structure("=IIII", tuple)
_U32, _FORGET_ONE, _WRITE_IN = Struct("=I"), Struct("=QQ"), Struct("=QQIIQII")


def parse_init(body: bytes) -> InitIn:
    """FUSE_INIT's request. Raises: MalformedRequest."""
    major, minor, max_readahead, flags = _parse_init(body)
    flags2 = _U32.unpack_from(body, 16)[0] if len(body) >= 20 else 0
    return InitIn(major, minor, max_readahead, flags, flags2)


def parse_write(request: memoryview | bytes) -> tuple[WriteIn, bytes]:
    """A whole FUSE_WRITE, its header included: what is written where, and a copy of the data.

    Raises:
        MalformedRequest: it is shorter than it says.
    """
    if len(request) < WRITE_HEADERS:
        raise MalformedRequest(f"a FUSE_WRITE of {len(request)} bytes")
    write = WriteIn._make(_WRITE_IN.unpack_from(request, HEADER_SIZE))
    data = bytes(request[WRITE_HEADERS : WRITE_HEADERS + write.size])
    if len(data) != write.size:
        raise MalformedRequest(f"{len(data)} bytes of data, where {write.size} are written")
    return write, data


def parse_setxattr(body: bytes) -> tuple[SetxattrIn, bytes, bytes]:
    """FUSE_SETXATTR: the structure, the attribute's name and its value. Raises: MalformedRequest."""
    xattr = _parse_setxattr(body)
    (name,) = parse_names(body, 1, 8)
    value = body[8 + len(name) + 1 :][: xattr.size]
    if len(value) != xattr.size:
        raise MalformedRequest(f"a value of {len(value)} bytes, where {xattr.size} are set")
    return xattr, name, value


def parse_rename(body: bytes) -> tuple[Rename2In, list[bytes]]:
    """FUSE_RENAME, which has no flags: the new directory, and both names. Raises: MalformedRequest."""
    return Rename2In(_parse_u64(body), 0, 0), parse_names(body, 2, 8)


def parse_link(body: bytes) -> tuple[int, bytes]:
    """FUSE_LINK: the node that gets another name, and that name. Raises: MalformedRequest."""
    return _parse_u64(body), parse_names(body, 1, 8)[0]


def parse_interrupt(body: bytes) -> int:
    """FUSE_INTERRUPT: `unique` of the request that a signal has come for. Raises: MalformedRequest."""
    return int(_parse_u64(body))


def parse_forget(header: InHeader, body: bytes) -> list[ForgetOne]:
    """FUSE_FORGET. Raises: MalformedRequest."""
    return [ForgetOne(header.nodeid, _parse_u64(body))]


def parse_batch_forget(body: bytes) -> list[ForgetOne]:
    """FUSE_BATCH_FORGET. Raises: MalformedRequest: there are fewer than it says."""
    count, start = _parse_forget_count(body), 8
    end = start + count * _FORGET_ONE.size
    if len(body) < end:
        raise MalformedRequest(f"{len(body)} bytes for {count} nodes that are forgotten")
    return [ForgetOne._make(one) for one in _FORGET_ONE.iter_unpack(body[start:end])]

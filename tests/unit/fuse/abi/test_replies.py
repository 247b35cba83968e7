"""Replies and notifications, read back by their layout in C."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfuse3 import EntryAttributes, StatvfsData

from dfsfs.fuse.abi import notifications, replies
from dfsfs.fuse.abi.replies import NS, DirentBuffer, DirentPlusBuffer
from tests.support.fuselayout import constant, decode, size_of

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
TIMES = st.integers(-(2**40), 2**40).flatmap(lambda s: st.integers(s * NS, s * NS + NS - 1))
"""Nanoseconds since 1970: before and after, for 34,000 years."""
TIMEOUTS = st.floats(0, 1e9)
MODES = st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR]).flatmap(
    lambda kind: st.integers(0, 0o7777).map(lambda bits: kind | bits)
)


def devices() -> st.SearchStrategy[tuple[int, int]]:
    """As large as the kernel has them: 12 and 20 bits."""
    return st.tuples(st.integers(0, 2**12 - 1), st.integers(0, 2**20 - 1))


@st.composite
def entries(draw: st.DrawFn) -> EntryAttributes:
    entry = EntryAttributes()
    entry.st_ino, entry.generation = draw(U64), draw(U64)
    entry.entry_timeout, entry.attr_timeout = draw(TIMEOUTS), draw(TIMEOUTS)
    entry.st_mode, entry.st_nlink = draw(MODES), draw(U32)
    entry.st_uid, entry.st_gid = draw(U32), draw(U32)
    entry.st_rdev = os.makedev(*draw(devices()))
    entry.st_size, entry.st_blocks = draw(OFFSETS), draw(OFFSETS)
    entry.st_blksize = draw(st.integers(0, 2**31 - 1))
    entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = draw(TIMES), draw(TIMES), draw(TIMES)
    return entry


def time_of(fields: dict[str, int], name: str) -> int:
    """Nanoseconds, of a time whose seconds have a sign, as in the kernel."""
    seconds = fields[name]
    assert fields[f"{name}nsec"] < NS
    return (seconds - 2**64 if seconds >= 2**63 else seconds) * NS + fields[f"{name}nsec"]


def assert_timeout(fields: dict[str, int], name: str, seconds: float) -> None:
    """To the nanosecond, or to what a float is exact to."""
    said = fields[name] * NS + fields[f"{name}_nsec"]
    assert fields[f"{name}_nsec"] < NS
    assert abs(Fraction(seconds) * NS - said) < 1 + Fraction(seconds) * NS / 2**50


def assert_attributes(fields: dict[str, int], entry: EntryAttributes) -> None:
    """struct fuse_attr."""
    for name in ("ino", "size", "blocks", "mode", "nlink", "uid", "gid", "blksize"):
        assert fields[name] == getattr(entry, f"st_{name}"), name
    for name in ("atime", "mtime", "ctime"):
        assert time_of(fields, name) == getattr(entry, f"st_{name}_ns"), name
    major, minor = os.major(entry.st_rdev), os.minor(entry.st_rdev)
    assert fields["rdev"] == (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12, "as new_encode_dev has it"
    assert fields["flags"] == 0


def inner(fields: dict[str, int], prefix: str) -> dict[str, int]:
    """The fields of a structure inside another one."""
    return {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}


@given(entry=entries())
def test_an_entry(entry: EntryAttributes) -> None:
    raw = replies.pack_entry(entry)
    fields = decode("fuse_entry_out", raw)
    assert len(raw) == size_of("fuse_entry_out")
    assert (fields["nodeid"], fields["generation"]) == (entry.st_ino, entry.generation)
    assert_timeout(fields, "entry_valid", entry.entry_timeout)
    assert_timeout(fields, "attr_valid", entry.attr_timeout)
    assert_attributes(inner(fields, "attr."), entry)


@given(entry=entries())
def test_attributes(entry: EntryAttributes) -> None:
    raw = replies.pack_attr(entry)
    fields = decode("fuse_attr_out", raw)
    assert len(raw) == size_of("fuse_attr_out")
    assert_timeout(fields, "attr_valid", entry.attr_timeout)
    assert_attributes(inner(fields, "attr."), entry)


@given(entry=entries(), btime=st.none() | TIMES)
def test_statx(entry: EntryAttributes, btime: int | None) -> None:
    raw = replies.pack_statx(entry, btime)
    fields = decode("fuse_statx_out", raw)
    assert len(raw) == size_of("fuse_statx_out")
    assert_timeout(fields, "attr_valid", entry.attr_timeout)
    found = inner(fields, "stat.")
    for name in ("ino", "size", "blocks", "mode", "nlink", "uid", "gid", "blksize"):
        assert found[name] == getattr(entry, f"st_{name}"), name
    assert (found["rdev_major"], found["rdev_minor"]) == (os.major(entry.st_rdev), os.minor(entry.st_rdev))
    assert (found["attributes"], found["attributes_mask"]) == (0, 0)
    # statx(2): STATX_BASIC_STATS is 0x7ff, STATX_BTIME 0x800.
    assert found["mask"] == (0x7FF if btime is None else 0xFFF)
    times = {"atime": entry.st_atime_ns, "mtime": entry.st_mtime_ns, "ctime": entry.st_ctime_ns, "btime": btime or 0}
    for name, value in times.items():
        parts = {name: found[f"{name}.tv_sec"], f"{name}nsec": found[f"{name}.tv_nsec"]}
        assert time_of(parts, name) == value, name


@given(numbers=st.lists(OFFSETS, min_size=5, max_size=5), sizes=st.lists(U32, min_size=3, max_size=3))
def test_statfs(numbers: list[int], sizes: list[int]) -> None:
    data = StatvfsData()
    data.f_blocks, data.f_bfree, data.f_bavail, data.f_files, data.f_ffree = numbers
    data.f_bsize, data.f_frsize, data.f_namemax = sizes
    raw = replies.pack_statfs(data)
    fields = inner(decode("fuse_statfs_out", raw), "st.")
    assert len(raw) == size_of("fuse_statfs_out")
    assert [fields[name] for name in ("blocks", "bfree", "bavail", "files", "ffree")] == numbers
    assert [fields[name] for name in ("bsize", "frsize", "namelen")] == sizes


@given(unique=U64, length=st.integers(0, 2**31))
def test_the_header(unique: int, length: int) -> None:
    fields = decode("fuse_out_header", replies.pack_header(unique, length))
    assert fields == {"len": size_of("fuse_out_header") + length, "error": 0, "unique": unique}


@given(unique=U64, number=st.integers(1, 511))
def test_an_error(unique: int, number: int) -> None:
    fields = decode("fuse_out_header", replies.pack_error(unique, number))
    assert fields == {"len": size_of("fuse_out_header"), "error": 2**32 - number, "unique": unique}


@given(seconds=st.floats(0, 1e15))
def test_a_timeout_has_less_than_a_second_of_nanoseconds(seconds: float) -> None:
    whole, nanoseconds = replies.split_timeout(seconds)
    assert whole == int(seconds) and 0 <= nanoseconds < NS


@pytest.mark.parametrize(
    ("raw", "structure", "fields"),
    [
        (replies.FUSE_OPEN_OUT.pack(7, 2, 0), "fuse_open_out", {"fh": 7, "open_flags": 2, "backing_id": 0}),
        (replies.FUSE_WRITE_OUT.pack(9, 0), "fuse_write_out", {"size": 9, "padding": 0}),
        (replies.FUSE_GETXATTR_OUT.pack(9, 0), "fuse_getxattr_out", {"size": 9, "padding": 0}),
        (replies.FUSE_LSEEK_OUT.pack(1 << 40), "fuse_lseek_out", {"offset": 1 << 40}),
        (replies.FUSE_COPY_FILE_RANGE_OUT.pack(1 << 40), "fuse_copy_file_range_out", {"bytes_copied": 1 << 40}),
        (replies.FUSE_LK_OUT.pack(1, 2, 3, 4), "fuse_lk_out", {"lk.start": 1, "lk.end": 2, "lk.type": 3, "lk.pid": 4}),
    ],
)
def test_small_structures(raw: bytes, structure: str, fields: dict[str, int]) -> None:
    assert decode(structure, raw) == fields


@given(names=st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_names_of_attributes(names: list[bytes]) -> None:
    names = [name.replace(b"\0", b".") for name in names]
    assert replies.pack_names(names).split(b"\0") == [*names, b""]


# -- listings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a listing says of a file."""

    ino: int
    mode: int
    nlink: int
    device: tuple[int, int]
    uid: int
    gid: int
    size: int
    blocks: int
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


attributes = st.builds(
    *(Attributes, U64, MODES, U32, devices(), U32, U32, OFFSETS, OFFSETS, st.integers(0, 2**31 - 1)),
    *(TIMES, TIMES, TIMES),
)
file_names = st.binary(min_size=1, max_size=30).map(lambda name: name.replace(b"\0", b"x"))
listings = st.lists(st.tuples(file_names, attributes, st.tuples(TIMEOUTS, TIMEOUTS), OFFSETS), max_size=4)


def read_listing(raw: bytes, structure: str) -> list[tuple[dict[str, int], bytes]]:
    """Entries as the kernel goes through them (fs/fuse/readdir.c): each begins at a multiple of 8."""
    found, at, prefix = [], 0, "dirent." if structure == "fuse_direntplus" else ""
    while at < len(raw):
        fields = decode(structure, raw[at:])
        name_at = at + size_of(structure)
        name = raw[name_at : name_at + fields[f"{prefix}namelen"]]
        assert len(name) == fields[f"{prefix}namelen"] > 0
        at = name_at + (len(name) + 7) // 8 * 8
        assert at <= len(raw), "the padding of the last entry is there"
        assert not raw[name_at + len(name) : at].strip(b"\0")
        found.append((fields, name))
    return found


@given(listing=listings, size=st.integers(0, 700))
def test_readdirplus(listing: list[tuple[bytes, Attributes, tuple[float, float], int]], size: int) -> None:
    buffer, taken = DirentPlusBuffer(size), []
    for name, about, timeouts, next_offset in listing:
        if not buffer.add(name, about, timeouts, next_offset):
            needed = len(buffer.to_bytes()) + size_of("fuse_direntplus") + (len(name) + 7) // 8 * 8
            assert needed > size, "there was room"
            break
        taken.append((name, about, timeouts, next_offset))
    raw = buffer.to_bytes()
    assert len(raw) <= size
    found = read_listing(raw, "fuse_direntplus")
    assert len(found) == len(taken)
    for (fields, name), (given_name, about, timeouts, next_offset) in zip(found, taken, strict=True):
        assert name == given_name
        assert (fields["dirent.ino"], fields["dirent.off"]) == (about.ino, next_offset)
        assert fields["dirent.type"] == stat.S_IFMT(about.mode) >> 12
        assert fields["entry_out.nodeid"] == about.ino
        assert_timeout(fields, "entry_out.entry_valid", timeouts[0])
        assert_timeout(fields, "entry_out.attr_valid", timeouts[1])
        entry = EntryAttributes()
        for each in ("ino", "mode", "nlink", "uid", "gid", "size", "blocks", "blksize"):
            setattr(entry, f"st_{each}", getattr(about, each))
        for each in ("atime_ns", "mtime_ns", "ctime_ns"):
            setattr(entry, f"st_{each}", getattr(about, each))
        entry.st_rdev = os.makedev(*about.device)
        assert_attributes(inner(fields, "entry_out.attr."), entry)


@given(listing=listings, size=st.integers(0, 180))
def test_readdir(listing: list[tuple[bytes, Attributes, tuple[float, float], int]], size: int) -> None:
    buffer, taken = DirentBuffer(size), []
    for name, about, timeouts, next_offset in listing:
        if not buffer.add(name, about, timeouts, next_offset):
            needed = len(buffer.to_bytes()) + size_of("fuse_dirent") + (len(name) + 7) // 8 * 8
            assert needed > size, "there was room"
            break
        taken.append((name, about.ino, next_offset, stat.S_IFMT(about.mode) >> 12))
    raw = buffer.to_bytes()
    assert len(raw) <= size
    found = [(name, each["ino"], each["off"], each["type"]) for each, name in read_listing(raw, "fuse_dirent")]
    assert found == taken


# -- notifications -----------------------------------------------------------------------------------------------------


@given(ino=U64)
def test_invalidations(ino: int) -> None:
    """Of pages from offset 0 on, with length 0, all; of none with a negative offset (fs/fuse/inode.c)."""
    for pack, offset in ((notifications.pack_inval_inode, 0), (notifications.pack_inval_attributes, 2**64 - 1)):
        raw = pack(ino)
        length = size_of("fuse_out_header") + size_of("fuse_notify_inval_inode_out")
        header = decode("fuse_out_header", raw)
        assert header == {"len": length, "error": constant("FUSE_NOTIFY_INVAL_INODE"), "unique": 0}
        assert len(raw) == length
        body = decode("fuse_notify_inval_inode_out", raw[size_of("fuse_out_header") :])
        assert body == {"ino": ino, "off": offset, "len": 0}

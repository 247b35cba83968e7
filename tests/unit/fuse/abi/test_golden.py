"""What Linux 6.18 has asked, and taken for an answer: see tests/fixtures/README.md and tests/support/fuserecorder.py,
whose `play` has the calls that these requests are of.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyfuse3 import EntryAttributes, StatvfsData

from dfsfs.fuse.abi import constants, replies, requests
from dfsfs.fuse.abi.constants import Opcode
from dfsfs.fuse.abi.negotiation import Wanted, negotiate
from dfsfs.fuse.device.capabilities import FLAGS
from tests.support.fuselayout import decode, size_of
from tests.unit.fuse.abi.test_replies import Attributes, inner

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURE = Path(__file__).parents[3] / "fixtures" / "fuse-linux-6.18.jsonl"
PARSERS: dict[Opcode, Callable[[bytes], Any]] = {
    **dict.fromkeys((Opcode.LOOKUP, Opcode.UNLINK, Opcode.RMDIR, Opcode.REMOVEXATTR), requests.parse_name),
    **dict.fromkeys((Opcode.OPEN, Opcode.OPENDIR), requests.parse_open),
    **dict.fromkeys((Opcode.READ, Opcode.READDIR, Opcode.READDIRPLUS), requests.parse_read),
    **dict.fromkeys((Opcode.RELEASE, Opcode.RELEASEDIR), requests.parse_release),
    **dict.fromkeys((Opcode.FSYNC, Opcode.FSYNCDIR), requests.parse_fsync),
    **dict.fromkeys((Opcode.GETLK, Opcode.SETLK, Opcode.SETLKW), requests.parse_lk),
    **dict.fromkeys((Opcode.COPY_FILE_RANGE, Opcode.COPY_FILE_RANGE_64), requests.parse_copy_file_range),
    **dict.fromkeys((Opcode.CREATE, Opcode.TMPFILE), requests.parse_create),
    Opcode.GETATTR: requests.parse_getattr,
    Opcode.SETATTR: requests.parse_setattr,
    Opcode.SYMLINK: lambda body: requests.parse_names(body, 2),
    Opcode.MKNOD: requests.parse_mknod,
    Opcode.MKDIR: requests.parse_mkdir,
    Opcode.RENAME: requests.parse_rename,
    Opcode.RENAME2: requests.parse_rename2,
    Opcode.LINK: requests.parse_link,
    Opcode.SETXATTR: requests.parse_setxattr,
    Opcode.GETXATTR: requests.parse_getxattr,
    Opcode.LISTXATTR: requests.parse_listxattr,
    Opcode.FLUSH: requests.parse_flush,
    Opcode.INIT: requests.parse_init,
    Opcode.INTERRUPT: requests.parse_interrupt,
    Opcode.BATCH_FORGET: requests.parse_batch_forget,
    Opcode.FALLOCATE: requests.parse_fallocate,
    Opcode.LSEEK: requests.parse_lseek,
    Opcode.STATX: requests.parse_statx,
}
"""What reads the body of each request. FUSE_WRITE and FUSE_FORGET are read with their headers."""
UNREAD = {Opcode.STATFS, Opcode.READLINK, Opcode.ACCESS, Opcode.IOCTL, Opcode.POLL}
"""Requests in whose body there is nothing, or nothing that is needed."""

ROOT, FILE, DIR, COPY, SLOW = 1, 2, 3, 8, 9
"""Node ids. A handle of a file is 1000 more, of a directory 2000."""


class Exchange:
    """A request, and its reply; without one if it has none."""

    def __init__(self, line: str) -> None:
        recorded = json.loads(line)
        self.request = bytes.fromhex(recorded["request"])
        self.reply = bytes.fromhex(recorded["reply"]) if "reply" in recorded else None
        self.header = requests.parse_header(self.request)
        self.opcode = Opcode(self.header.opcode)
        self.body = self.request[requests.HEADER_SIZE :]
        if self.opcode is Opcode.WRITE:
            self.parsed: Any = requests.parse_write(self.request)
        elif self.opcode is Opcode.FORGET:
            self.parsed = requests.parse_forget(self.header, self.body)
        elif self.opcode not in UNREAD:
            self.parsed = PARSERS[self.opcode](self.body)

    @property
    def answer(self) -> bytes:
        """What follows the reply's header."""
        assert self.reply is not None
        return self.reply[replies.HEADER_SIZE :]

    @property
    def error(self) -> int:
        assert self.reply is not None
        return -decode("fuse_out_header", self.reply)["error"] % 2**32


@functools.cache
def recorded() -> list[Exchange]:
    return [Exchange(line) for line in FIXTURE.read_text().splitlines()]


def all_of(*opcodes: Opcode) -> list[Exchange]:
    found = [exchange for exchange in recorded() if exchange.opcode in opcodes]
    assert found
    return found


def parsed_of(*opcodes: Opcode) -> list[Any]:
    return [exchange.parsed for exchange in all_of(*opcodes)]


# -- requests ----------------------------------------------------------------------------------------------------------


def test_the_headers() -> None:
    root_or_kernel = {(header.uid, header.gid, header.pid) for header in (each.header for each in recorded())}
    assert root_or_kernel == {(0, 0, 4711), (0, 0, 0)}
    assert not any(each.header.total_extlen for each in recorded())
    uniques = [each.header.unique for each in recorded()]
    assert len(set(uniques)) == len(uniques)
    nodes = [each.header.nodeid for each in all_of(Opcode.FSYNC, Opcode.FLUSH)]
    assert nodes == [FILE, FILE, FILE, COPY, FILE, FILE, SLOW, SLOW]


def test_init() -> None:
    (init,) = parsed_of(Opcode.INIT)
    assert (init.major, init.minor, init.max_readahead) == (7, 45, 128 << 10)
    _, agreed = negotiate(init, Wanted(FLAGS, 256, 1 << 20, 64))
    assert agreed is not None
    assert (agreed.minor, agreed.flags, agreed.max_write) == (45, FLAGS, 1 << 20)


def test_names() -> None:
    assert parsed_of(Opcode.LOOKUP)[:2] == [b"missing", b"file"]
    assert parsed_of(Opcode.UNLINK) == [b"hard", b"gone0", b"gone1", b"gone2"]
    assert parsed_of(Opcode.RMDIR) == [b"empty"]
    assert parsed_of(Opcode.SYMLINK) == [[b"link", b"../file"]]
    assert parsed_of(Opcode.LINK) == [(FILE, b"hard")]
    assert [each.header.nodeid for each in all_of(Opcode.LINK)] == [DIR]


def test_what_is_made() -> None:
    masked = 0o666 & ~0o027
    regular, directory = stat.S_IFREG, 0o777 & ~0o027
    assert parsed_of(Opcode.CREATE) == [
        ((os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_LARGEFILE | 0x8000, regular | masked, 0o027, 0), [b"file"]),
        ((os.O_CREAT | os.O_TRUNC | os.O_WRONLY | 0x8000, regular | 0o600, 0o027, 0), [b"copy"]),
        ((os.O_CREAT | os.O_WRONLY | 0x8000, regular | 0o600, 0o027, 0), [b"slow"]),
    ]
    assert parsed_of(Opcode.MKDIR) == [((directory, 0o027), [b"dir"]), ((directory, 0o027), [b"empty"])]
    fifo, device, *gone = parsed_of(Opcode.MKNOD)
    assert fifo == ((stat.S_IFIFO | 0o600, 0, 0o027, 0), [b"fifo"])
    assert device == ((stat.S_IFCHR | 0o640, os.makedev(259, 70_000), 0o027, 0), [b"device"])
    assert gone == [((regular | 0o600, 0, 0o027, 0), [f"gone{number}".encode()]) for number in range(3)]
    ((temporary, (name,)),) = parsed_of(Opcode.TMPFILE)
    assert (temporary.mode, name) == (regular | 0o600, b"/"), "an O_TMPFILE has no name"


def test_renames() -> None:
    assert parsed_of(Opcode.RENAME) == [((ROOT, 0, 0), [b"fifo", b"pipe"])]
    exchange = ((ROOT, 2, 0), [b"pipe", b"file"])  # RENAME_EXCHANGE, there and back
    assert parsed_of(Opcode.RENAME2) == [((DIR, 1, 0), [b"pipe", b"pipe"]), exchange, exchange]


def test_changes_of_attributes() -> None:
    cut, times, now, short, by_name, mode, owner = parsed_of(Opcode.SETATTR)
    assert (cut.update_size, cut.size, cut.handle) == (True, 3, 1000 + FILE)
    assert cut.valid & constants.FATTR_LOCKOWNER and cut.lock_owner
    assert times.update_atime and times.update_mtime and not times.update_size
    assert times.get_times(lambda: 0) == (-1_500_000_000, 1_234_567_890_123_456_789)
    assert now.get_times(lambda: 42) == (42, 42)
    assert now.valid & constants.FATTR_ATIME_NOW and now.valid & constants.FATTR_MTIME_NOW
    assert short.get_times(lambda: 0) == (7, 8)
    assert (by_name.update_size, by_name.size, by_name.handle) == (True, 5, None)
    assert (mode.update_mode, mode.mode) == (True, stat.S_IFREG | 0o640)
    assert (owner.update_uid, owner.update_gid, owner.uid, owner.gid) == (True, True, 12, 34)
    assert owner.valid & constants.FATTR_KILL_SUIDGID and not owner.update_mode, "as HANDLE_KILLPRIV_V2 has it"


def test_attributes() -> None:
    assert parsed_of(Opcode.GETATTR) == [(0, 0, 0), (0, 0, 0)]
    assert parsed_of(Opcode.STATX) == [(0, 0, 0, 0, 0xFFF)], "with the birth time"


def test_data() -> None:
    first, more = parsed_of(Opcode.WRITE)
    assert (first[0].fh, first[0].offset, first[1]) == (1000 + FILE, 0, b"hello world\n")
    assert (more[0].offset, more[1]) == (5, bytes(range(256)))
    assert not first[0].write_flags & constants.WRITE_CACHE
    read, slow = parsed_of(Opcode.READ)
    assert (read.fh, read.offset, read.size) == (1000 + FILE, 0, 4096)
    assert (slow.fh, slow.offset, slow.size) == (1000 + SLOW, 0, 10)
    assert slow.read_flags == 2 and slow.lock_owner, "FUSE_READ_LOCKOWNER, with direct I/O"
    assert parsed_of(Opcode.FSYNC) == [(1000 + FILE, 0, 0), (1000 + FILE, constants.FSYNC_FDATASYNC, 0)]
    assert parsed_of(Opcode.FALLOCATE) == [(1000 + FILE, 4096, 100, 3, 0)], "punch a hole, and keep the size"
    assert parsed_of(Opcode.LSEEK) == [(1000 + FILE, 1, os.SEEK_DATA, 0), (1000 + FILE, 2, os.SEEK_HOLE, 0)]
    copies = [(1000 + FILE, 5, COPY, 1000 + COPY, 6, 100, 0), (1000 + FILE, 0, COPY, 1000 + COPY, 0, 10, 0)]
    assert parsed_of(Opcode.COPY_FILE_RANGE_64) == copies[:1], "of 7.45: asked once, and not again after ENOSYS"
    assert parsed_of(Opcode.COPY_FILE_RANGE) == copies


def test_opening_and_closing() -> None:
    opened = [(each.header.nodeid, each.parsed.flags & ~0x8000) for each in all_of(Opcode.OPEN)]
    flags = [os.O_RDWR | os.O_APPEND, os.O_RDONLY, os.O_RDWR, os.O_RDONLY]
    assert [each[1] for each in opened] == flags
    released = parsed_of(Opcode.RELEASE)
    assert [each.fh - 1000 for each in released] == [FILE, COPY, FILE, FILE, FILE, SLOW, SLOW]
    unlocking = [each for each in released if each.release_flags]
    assert [each.release_flags for each in unlocking] == [constants.RELEASE_FLOCK_UNLOCK]
    (flock,) = [each for each in parsed_of(Opcode.SETLKW) if each.lk_flags]
    assert unlocking[0].lock_owner == flock.owner
    assert [each.fh for each in parsed_of(Opcode.RELEASEDIR)] == [2000 + DIR]


def test_locks() -> None:
    (exclusive,) = parsed_of(Opcode.SETLK)
    assert (exclusive.start, exclusive.end, exclusive.type) == (20, 29, fcntl.F_WRLCK)
    shared, unlock, flock = parsed_of(Opcode.SETLKW)
    assert (shared.start, shared.end, shared.type) == (5, 2**63 - 1, fcntl.F_RDLCK)
    assert (unlock.start, unlock.end, unlock.type) == (20, 29, fcntl.F_UNLCK)
    assert (flock.type, flock.lk_flags) == (fcntl.F_WRLCK, constants.LK_FLOCK)
    (asked,) = parsed_of(Opcode.GETLK)
    assert (asked.start, asked.end, asked.type, asked.pid) == (10, 19, fcntl.F_RDLCK, 0)
    owners = {each.owner for each in (exclusive, shared, unlock, asked)}
    assert owners == {each.lock_owner for each in parsed_of(Opcode.FLUSH)}, "a program's, and flock has the file's"
    assert flock.owner not in owners


def test_extended_attributes() -> None:
    assert parsed_of(Opcode.SETXATTR) == [
        ((5, 0), b"user.one", b"value"),
        ((0, os.XATTR_CREATE), b"user.two", b""),
        ((8, os.XATTR_REPLACE), b"user.two", b"\0binary\0"),
        ((0, 0), b"user.late", b""),
    ]
    asked = [(given.size, *names) for given, names in parsed_of(Opcode.GETXATTR)]
    of_user = [each for each in asked if each[1].startswith(b"user.")]
    assert of_user == [(0, b"user.two"), (128, b"user.two"), (128, b"user.none")]
    assert [each.size for each in parsed_of(Opcode.LISTXATTR)] == [0, 256]
    assert parsed_of(Opcode.REMOVEXATTR) == [b"user.one"]


def test_listings() -> None:
    assert [each.fh for each in parsed_of(Opcode.READDIRPLUS, Opcode.READDIR)] == [2000 + DIR] * 3
    assert [each.offset for each in parsed_of(Opcode.READDIRPLUS, Opcode.READDIR)] == [0, 3, 5]
    assert [each.flags for each in parsed_of(Opcode.OPENDIR)] == [os.O_DIRECTORY | 0x8000]
    assert parsed_of(Opcode.FSYNCDIR) == [(2000 + DIR, 0, 0)]


def test_an_interrupt() -> None:
    """Its own `unique` is the request's with bit 0 set."""
    (interrupt,) = all_of(Opcode.INTERRUPT)
    slow = all_of(Opcode.READ)[-1]
    assert interrupt.parsed == slow.header.unique == interrupt.header.unique ^ 1


def test_forgetting() -> None:
    last = parsed_of(Opcode.BATCH_FORGET)[-1]
    assert last == [(10, 1), (11, 1), (12, 1)]
    assert all(count for forgets in parsed_of(Opcode.FORGET) for _, count in forgets)


# -- replies -----------------------------------------------------------------------------------------------------------


TIMES = ("atime", "mtime", "ctime")


def entry_of(attributes: dict[str, int]) -> EntryAttributes:
    """What the recorder has answered, as dfsfs has it."""
    entry = EntryAttributes()
    entry.st_ino, entry.st_size, entry.st_blocks = attributes["ino"], attributes["size"], attributes["blocks"]
    entry.st_mode, entry.st_nlink, entry.st_rdev = attributes["mode"], attributes["nlink"], attributes["rdev"]
    entry.st_blksize, entry.st_uid, entry.st_gid = attributes["blksize"], attributes["uid"], attributes["gid"]
    for name in TIMES:
        setattr(entry, f"st_{name}_ns", attributes[name] * 10**9 + attributes[f"{name}nsec"])
    entry.entry_timeout, entry.attr_timeout, entry.generation = 1.5, 2.25, 0
    return entry


def test_errors() -> None:
    failed = [each for each in recorded() if each.reply is not None and each.error]
    assert len(failed) > 10
    for each in failed:
        assert replies.pack_error(each.header.unique, each.error) == each.reply


def test_headers_of_replies() -> None:
    for each in recorded():
        if each.reply is not None and not each.error:
            assert replies.pack_header(each.header.unique, len(each.answer)) == each.reply[: replies.HEADER_SIZE]


@pytest.mark.parametrize("opcode", [Opcode.LOOKUP, Opcode.MKNOD, Opcode.MKDIR, Opcode.SYMLINK, Opcode.LINK])
def test_entries(opcode: Opcode) -> None:
    answers = [each.answer for each in all_of(opcode) if not each.error]
    assert answers
    for answer in answers:
        fields = decode("fuse_entry_out", answer)
        assert replies.pack_entry(entry_of(inner(fields, "attr."))) == answer


def test_entries_of_new_files() -> None:
    for each in all_of(Opcode.CREATE):
        fields, opened = decode("fuse_entry_out", each.answer), each.answer[size_of("fuse_entry_out") :]
        out = decode("fuse_open_out", opened)
        packed = replies.pack_entry(entry_of(inner(fields, "attr.")))
        assert packed + replies.FUSE_OPEN_OUT.pack(out["fh"], out["open_flags"], 0) == each.answer


def test_attributes_that_were_answered() -> None:
    for each in all_of(Opcode.GETATTR, Opcode.SETATTR):
        fields = decode("fuse_attr_out", each.answer)
        assert replies.pack_attr(entry_of(inner(fields, "attr."))) == each.answer


def test_statx_that_was_answered() -> None:
    (each,) = all_of(Opcode.STATX)
    fields = inner(decode("fuse_statx_out", each.answer), "stat.")
    names = {f"{name}{part}": fields[f"{name}.tv_{part or 'sec'}"] for name in TIMES for part in ("", "nsec")}
    entry = entry_of(fields | names | {"rdev": 0})
    assert replies.pack_statx(entry, 1_599_999_999_999_999_999) == each.answer


def test_statfs_that_was_answered() -> None:
    (each,) = all_of(Opcode.STATFS)
    data = StatvfsData()
    data.f_blocks, data.f_bfree, data.f_bavail, data.f_files, data.f_ffree = 1000, 600, 500, 100, 50
    data.f_bsize, data.f_namemax, data.f_frsize = 4096, 255, 4096
    assert replies.pack_statfs(data) == each.answer


def test_small_replies() -> None:
    for each in all_of(Opcode.WRITE):
        assert replies.FUSE_WRITE_OUT.pack(len(each.parsed[1]), 0) == each.answer
    assert [each.answer for each in all_of(Opcode.LSEEK)] == [replies.FUSE_LSEEK_OUT.pack(at) for at in (1, 3)]
    assert [each.answer for each in all_of(Opcode.GETLK)] == [replies.FUSE_LK_OUT.pack(10, 19, fcntl.F_WRLCK, 1)]
    asked, names = all_of(Opcode.LISTXATTR)
    assert names.answer == replies.pack_names([b"user.one", b"user.two"])
    assert asked.answer == replies.FUSE_GETXATTR_OUT.pack(len(names.answer), 0)


def test_listings_that_were_answered() -> None:
    """`.` and `..` are entries, too; padding ends each."""
    (plus,), (rest, end) = all_of(Opcode.READDIRPLUS), all_of(Opcode.READDIR)
    names = [(b".", ROOT), (b"..", ROOT), (b"device", 5), (b"link", 6), (b"pipe", 4)]
    modes = {ROOT: stat.S_IFDIR | 0o755, 4: stat.S_IFIFO | 0o600, 5: stat.S_IFCHR | 0o640, 6: stat.S_IFLNK | 0o777}

    def about(ino: int) -> Attributes:
        device = (259, 70_000) if ino == 5 else (0, 0)
        size = len("../file") if ino == 6 else 0
        times = [(1_600_000_000 + number) * 10**9 + 1 + number for number in range(3)]
        return Attributes(ino, modes[ino], 1, device, 0, 0, size, (size + 511) // 512, 4096, *times)

    buffer = replies.DirentPlusBuffer(plus.parsed.size)
    for number, (name, ino) in enumerate(names[:3]):
        assert buffer.add(name, about(ino), (1.5, 2.25), number + 1)
    assert buffer.to_bytes() == plus.answer
    small = replies.DirentBuffer(rest.parsed.size)
    for number, (name, ino) in enumerate(names[3:], 3):
        assert small.add(name, about(ino), (1.5, 2.25), number + 1)
    assert small.to_bytes() == rest.answer
    assert end.answer == b""

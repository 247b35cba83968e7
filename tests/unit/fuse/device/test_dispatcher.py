"""Dispatcher: a recorded session of Linux 6.18, with handlers that answer what was answered then.

Each request must reach its handler with what the kernel has said, and the reply must have the bytes that the kernel was
content with (tests/fixtures/README.md). Calls about locks are left out: their handlers have types of their own.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, cast

import pytest
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, StatvfsData

from dfsfs.fuse.abi import replies
from dfsfs.fuse.abi.constants import Opcode
from dfsfs.fuse.abi.requests import InHeader, SetattrIn
from dfsfs.fuse.device.dispatcher import HANDLERS, Dispatcher
from tests.support.fuselayout import constant, decode, size_of
from tests.unit.fuse.abi.test_golden import DIR, FILE, Exchange, all_of, entry_of, recorded
from tests.unit.fuse.abi.test_replies import Attributes, inner, read_listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.fuse.kerneloperations import KernelOperations

UNLIKE = {
    *(Opcode.INIT, Opcode.INTERRUPT, Opcode.FORGET, Opcode.BATCH_FORGET),  # the loop's
    *(Opcode.GETLK, Opcode.SETLK, Opcode.SETLKW),
    *(Opcode.ACCESS, Opcode.POLL, Opcode.TMPFILE),  # no handlers
}
NOTHING = {
    *(Opcode.UNLINK, Opcode.RMDIR, Opcode.RENAME, Opcode.RENAME2, Opcode.RELEASE, Opcode.FSYNC, Opcode.SETXATTR),
    *(Opcode.REMOVEXATTR, Opcode.FLUSH, Opcode.RELEASEDIR, Opcode.FSYNCDIR, Opcode.FALLOCATE),
}
"""Calls whose handlers return nothing."""


class Scripted:
    """Handlers of any name: what each was called with, and what the next one returns or raises."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.result: Any = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def handler(*arguments: object) -> Any:
            self.calls.append((name, *(each for each in arguments if type(each) is not InHeader)))
            if isinstance(self.result, Exception):
                raise self.result
            return self.result(*arguments) if callable(self.result) else self.result

        return handler


class Played:
    """One exchange, played again."""

    def __init__(self) -> None:
        self.operations, self.replies = Scripted(), list[bytes]()
        self._dispatcher = Dispatcher(cast("KernelOperations", self.operations), self._send, self._send_error)

    def _send(self, unique: int, reply: replies.Buffer) -> None:
        self.replies.append(replies.pack_header(unique, len(reply)) + bytes(reply))

    def _send_error(self, unique: int, number: int) -> None:
        self.replies.append(replies.pack_error(unique, number))

    async def play(self, exchange: Exchange, result: Any) -> tuple[object, ...]:
        """The calls of handlers, the last one alone if there is one."""
        self.operations.result = result
        await self._dispatcher.handle(exchange.header, memoryview(exchange.request))
        return self.operations.calls[-1] if self.operations.calls else ()


def opened(answer: bytes) -> FileInfo:
    fields = decode("fuse_open_out", answer)
    flags = fields["open_flags"]
    return FileInfo(
        fh=fields["fh"],
        keep_cache=bool(flags & constant("FOPEN_KEEP_CACHE")),
        direct_io=bool(flags & constant("FOPEN_DIRECT_IO")),
    )


def entry(answer: bytes, structure: str = "fuse_entry_out") -> EntryAttributes:
    return entry_of(inner(decode(structure, answer), "attr."))


def volume() -> StatvfsData:
    data = StatvfsData()
    data.f_blocks, data.f_bfree, data.f_bavail, data.f_files, data.f_ffree = 1000, 600, 500, 100, 50
    data.f_bsize, data.f_namemax, data.f_frsize = 4096, 255, 4096
    return data


def fill(answer: bytes, *, plus: bool) -> Callable[..., None]:
    """A handler that adds what a listing had."""

    def add(fh: int, start: int, buffer: replies.DirentBuffer | replies.DirentPlusBuffer) -> None:
        prefix = "dirent." if plus else ""
        for fields, name in read_listing(answer, "fuse_direntplus" if plus else "fuse_dirent"):
            mode, size, blocks, nlink, device = fields[f"{prefix}type"] << 12, 0, 0, 0, (0, 0)
            if plus:
                about = inner(fields, "entry_out.attr.")
                mode, size, blocks, nlink = about["mode"], about["size"], about["blocks"], about["nlink"]
                device = (os.major(about["rdev"]), os.minor(about["rdev"]))
            times = [(1_600_000_000 + number) * 10**9 + 1 + number for number in range(3)]
            found = Attributes(fields[f"{prefix}ino"], mode, nlink, device, 0, 0, size, blocks, 4096, *times)
            assert buffer.add(name, found, (1.5, 2.25), fields[f"{prefix}off"])

    return add


def result_of(exchange: Exchange) -> Any:
    """What a handler has to return for the reply that was recorded."""
    if exchange.error:
        return FUSEError(exchange.error)
    opcode, answer = exchange.opcode, exchange.answer
    if opcode in NOTHING:
        return None
    if opcode in (Opcode.READ, Opcode.READLINK):
        return answer
    if opcode in (Opcode.GETATTR, Opcode.SETATTR):
        return entry(answer, "fuse_attr_out")
    results: dict[Opcode, Callable[[], Any]] = {
        Opcode.CREATE: lambda: (opened(answer[size_of("fuse_entry_out") :]), entry(answer)),
        Opcode.OPEN: lambda: opened(answer),
        Opcode.OPENDIR: lambda: decode("fuse_open_out", answer)["fh"],
        Opcode.WRITE: lambda: len(exchange.parsed[1]),
        Opcode.STATFS: volume,
        Opcode.GETXATTR: lambda: b"\0binary\0",
        Opcode.LISTXATTR: lambda: [b"user.one", b"user.two"],
        Opcode.READDIR: lambda: fill(answer, plus=False),
        Opcode.READDIRPLUS: lambda: fill(answer, plus=True),
        Opcode.LSEEK: lambda: decode("fuse_lseek_out", answer)["offset"],
        Opcode.COPY_FILE_RANGE: lambda: decode("fuse_write_out", answer)["size"],
        Opcode.STATX: lambda: (entry_of_statx(answer), 1_599_999_999_999_999_999),
    }
    return results.get(opcode, lambda: entry(answer))()


def entry_of_statx(answer: bytes) -> EntryAttributes:
    fields = inner(decode("fuse_statx_out", answer), "stat.")
    for name in ("atime", "mtime", "ctime"):
        fields |= {name: fields[f"{name}.tv_sec"], f"{name}nsec": fields[f"{name}.tv_nsec"]}
    return entry_of(fields | {"rdev": 0})


PLAYED = [
    exchange
    for exchange in recorded()
    if exchange.opcode in HANDLERS
    and exchange.opcode not in UNLIKE
    and not (exchange.opcode is Opcode.SETXATTR and exchange.parsed[0].flags)
]


@pytest.mark.parametrize("exchange", PLAYED, ids=[f"{number}-{each.opcode.name}" for number, each in enumerate(PLAYED)])
async def test_a_recorded_request_gets_the_recorded_reply(exchange: Exchange) -> None:
    played = Played()
    await played.play(exchange, result_of(exchange))
    assert played.replies == [exchange.reply]


async def calls_of(opcode: Opcode) -> list[tuple[object, ...]]:
    return [await Played().play(each, result_of(each)) for each in all_of(opcode) if each in PLAYED]


async def test_what_handlers_are_called_with() -> None:
    assert (await calls_of(Opcode.LOOKUP))[:2] == [("lookup", 1, b"missing"), ("lookup", 1, b"file")]
    regular, masked = stat.S_IFREG, 0o666 & ~0o027
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | 0x8000
    assert (await calls_of(Opcode.CREATE))[0] == ("create", 1, b"file", regular | masked, flags)
    mknods = await calls_of(Opcode.MKNOD)
    assert mknods[:2] == [
        ("mknod", DIR, b"fifo", stat.S_IFIFO | 0o600, 0),
        ("mknod", DIR, b"device", stat.S_IFCHR | 0o640, os.makedev(259, 70_000)),
    ]
    assert (await calls_of(Opcode.MKDIR))[0] == ("mkdir", 1, b"dir", 0o777 & ~0o027)
    assert await calls_of(Opcode.SYMLINK) == [("symlink", DIR, b"link", b"../file")]
    assert await calls_of(Opcode.LINK) == [("link", FILE, DIR, b"hard")]
    assert (await calls_of(Opcode.UNLINK))[0] == ("unlink", DIR, b"hard")
    assert await calls_of(Opcode.RMDIR) == [("rmdir", 1, b"empty")]
    assert await calls_of(Opcode.RENAME) == [("rename", DIR, b"fifo", 1, b"pipe", 0)]
    assert (await calls_of(Opcode.RENAME2))[0] == ("rename", 1, b"pipe", DIR, b"pipe", 1)
    assert (await calls_of(Opcode.WRITE))[0] == ("write", 1000 + FILE, 0, b"hello world\n")
    assert (await calls_of(Opcode.READ))[0] == ("read", 1000 + FILE, 0, 4096)
    assert await calls_of(Opcode.FSYNC) == [("fsync", 1000 + FILE, False), ("fsync", 1000 + FILE, True)]
    assert (await calls_of(Opcode.FLUSH))[0][:2] == ("flush", 1000 + FILE)
    assert (await calls_of(Opcode.RELEASE))[0] == ("release", 1000 + FILE)
    assert await calls_of(Opcode.OPENDIR) == [("opendir", DIR)]
    assert await calls_of(Opcode.RELEASEDIR) == [("releasedir", 2000 + DIR)]
    assert (await calls_of(Opcode.SETXATTR))[0] == ("setxattr", FILE, b"user.one", b"value")
    assert await calls_of(Opcode.REMOVEXATTR) == [("removexattr", FILE, b"user.one")]
    assert (await calls_of(Opcode.STATFS))[0][0] in ("statfs", "statfs_of")


async def test_setattr() -> None:
    """The values, and which of them count."""
    cut, times, now, *_, mode, owner = await calls_of(Opcode.SETATTR)

    def parts(call: tuple[object, ...]) -> tuple[EntryAttributes, SetattrIn, object]:
        assert call[:2] == ("setattr", FILE)
        return cast("EntryAttributes", call[2]), cast("SetattrIn", call[3]), call[4]

    values, fields, handle = parts(cut)
    assert (values.st_size, fields.update_size, handle) == (3, True, 1000 + FILE)
    values, fields, handle = parts(times)
    assert (values.st_atime_ns, values.st_mtime_ns, handle) == (-1_500_000_000, 1_234_567_890_123_456_789, None)
    assert fields.update_atime and fields.update_mtime and not fields.update_size
    values, fields, _ = parts(now)
    assert values.st_atime_ns == values.st_mtime_ns or values.st_mtime_ns - values.st_atime_ns < 10**9
    assert values.st_mtime_ns > 1_700_000_000 * 10**9, "this computer's clock"
    assert fields.update_atime and fields.update_mtime
    values, fields, _ = parts(mode)
    assert fields.update_mode and stat.S_IMODE(values.st_mode) == 0o640
    values, fields, _ = parts(owner)
    assert fields.update_uid and fields.update_gid and (values.st_uid, values.st_gid) == (12, 34)


@pytest.mark.parametrize(
    ("flag", "there", "code"),
    [
        (os.XATTR_CREATE, FUSEError(errno.ENODATA), None),
        (os.XATTR_CREATE, b"value", errno.EEXIST),
        (os.XATTR_CREATE, FUSEError(errno.EIO), errno.EIO),
        (os.XATTR_REPLACE, FUSEError(errno.ENODATA), errno.ENODATA),
        (os.XATTR_REPLACE, b"value", None),
        (os.XATTR_REPLACE, FUSEError(errno.EIO), errno.EIO),
    ],
)
async def test_setxattr_with_a_condition(flag: int, there: bytes | FUSEError, code: int | None) -> None:
    """Whatever the attribute's value is, it is asked for first, and set only if the condition holds."""
    (exchange,) = (each for each in all_of(Opcode.SETXATTR) if each.parsed[0].flags == flag)
    played = Played()

    def answer(*arguments: object) -> object:
        if len(arguments) == 4:  # setxattr
            return None
        if isinstance(there, FUSEError):
            raise there
        return there

    await played.play(exchange, answer)
    called = [call[0] for call in played.operations.calls]
    assert called == (["getxattr", "setxattr"] if code is None else ["getxattr"])
    unique = exchange.header.unique
    assert played.replies == [replies.pack_header(unique, 0) if code is None else replies.pack_error(unique, code)]


async def test_a_value_that_is_longer_than_there_is_room_for() -> None:
    (exchange,) = (each for each in all_of(Opcode.GETXATTR) if each.parsed[0].size == 128 and not each.error)
    for length, error in ((128, None), (129, errno.ERANGE)):
        played = Played()
        await played.play(exchange, bytes(length))
        unique = exchange.header.unique
        whole = replies.pack_header(unique, length) + bytes(length)
        assert played.replies == [whole if error is None else replies.pack_error(unique, error)]

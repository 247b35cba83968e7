"""Records what a real kernel asks of a FUSE file system, and what it is answered. As root, with /dev/fuse:

    python -m tests.support.fuserecorder > tests/fixtures/fuse-linux-VERSION.jsonl

A child process makes the calls of `play`, one after the other; this process is the file system, with the C layout of
tests/support/fuselayout.py and nothing of dfsfs. One JSON object a line: `request` and `reply` in hexadecimal, as they
went through /dev/fuse; no reply where FUSE has none. Process ids, which are of the machine, are replaced by 4711.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import stat
import struct
import tempfile
import time
from dataclasses import dataclass, field

from tests.support.fuselayout import constant, decode, encode, enum_of, size_of

PID = 4711
FLAGS = (
    *("ASYNC_READ", "POSIX_LOCKS", "ATOMIC_O_TRUNC", "BIG_WRITES", "FLOCK_LOCKS", "DO_READDIRPLUS"),
    *("READDIRPLUS_AUTO", "ASYNC_DIO", "PARALLEL_DIROPS", "HANDLE_KILLPRIV_V2", "MAX_PAGES"),
)
SECONDS = 1_600_000_000
"""Whatever is not set has these times, and another nanosecond each."""
PAGE_OF_ENTRIES = 3
"""Entries of a directory in one reply."""
LATE = 0.1
"""Seconds in which no request is read, so that what is forgotten gathers."""
libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Node:
    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, int] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    rdev: int = 0
    nlink: int = 1


class Failure(Exception):
    """A reply that is an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Recorder:
    """The file system, and what went through its device."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.lines: list[dict[str, str]] = []
        self.nodes = {1: Node(stat.S_IFDIR | 0o755)}
        self.waiting: tuple[int, int] | None = None
        """The line and `unique` of a read that only an interrupt ends."""
        self.is_late = False

    def serve(self) -> None:
        """Answers until the file system is unmounted."""
        while True:
            if self.is_late:
                time.sleep(LATE)
            try:
                request = os.read(self.device, 1 << 21)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                raise
            self.lines.append({"request": self._anonymous(request)})
            self._answer(request)

    @staticmethod
    def _anonymous(request: bytes) -> str:
        pid = struct.pack("=I", PID)
        return (request[:32] + pid + request[36:] if any(request[32:36]) else request).hex()

    def _answer(self, request: bytes) -> None:
        header, body = decode("fuse_in_header", request), request[size_of("fuse_in_header") :]
        names = {constant(name): name.removeprefix("FUSE_").lower() for name in enum_of("fuse_opcode")}
        handler = getattr(self, names[header["opcode"]], None)
        error, reply = 0, b""
        try:
            if handler is None:
                raise Failure(errno.ENOSYS)
            reply = handler(header, body)
        except Failure as failure:
            error = failure.number
        if reply is not None:
            self._send(header["unique"], reply, error, len(self.lines) - 1)

    def _send(self, unique: int, reply: bytes, error: int, line: int) -> None:
        whole = encode("fuse_out_header", len=16 + len(reply), error=-error, unique=unique) + reply
        os.write(self.device, whole)
        self.lines[line]["reply"] = whole.hex()

    # -- what replies are made of -----------------------------------------------------------------------------------

    def _attributes(self, ino: int, prefix: str = "attr.") -> dict[str, int]:
        node = self.nodes[ino]
        size = len(node.data)
        found = {"ino": ino, "size": size, "blocks": (size + 511) // 512, "mode": node.mode, "nlink": node.nlink}
        found |= {"rdev": node.rdev, "blksize": 4096}
        for number, name in enumerate(("atime", "mtime", "ctime")):
            found |= {name: SECONDS + number, f"{name}nsec": 1 + number}
        return {prefix + name: value for name, value in found.items()}

    def _entry(self, ino: int, prefix: str = "") -> dict[str, int]:
        valid = {"entry_valid": 1, "entry_valid_nsec": 500_000_000, "attr_valid": 2, "attr_valid_nsec": 250_000_000}
        head = {prefix + name: value for name, value in ({"nodeid": ino} | valid).items()}
        return head | self._attributes(ino, f"{prefix}attr.")

    def _make(self, parent: int, name: bytes, mode: int, data: bytes = b"", rdev: int = 0) -> bytes:
        ino = max(self.nodes) + 1
        self.nodes[ino] = Node(mode, bytearray(data), rdev=rdev)
        self.nodes[parent].names[name] = ino
        return encode("fuse_entry_out", **self._entry(ino))

    def _find(self, parent: int, name: bytes) -> int:
        if name not in self.nodes[parent].names:
            raise Failure(errno.ENOENT)
        return self.nodes[parent].names[name]

    # -- requests ---------------------------------------------------------------------------------------------------

    def init(self, header: dict[str, int], body: bytes) -> bytes:
        flags = sum(constant(f"FUSE_{name}") for name in FLAGS)
        sizes = {"max_readahead": 1 << 17, "max_background": 12, "congestion_threshold": 9, "max_write": 1 << 20}
        minor = constant("FUSE_KERNEL_MINOR_VERSION")
        return encode("fuse_init_out", major=7, minor=minor, flags=flags, time_gran=1, max_pages=256, **sizes)

    def lookup(self, header: dict[str, int], body: bytes) -> bytes:
        return encode("fuse_entry_out", **self._entry(self._find(header["nodeid"], body[:-1])))

    def forget(self, header: dict[str, int], body: bytes) -> None: ...

    def batch_forget(self, header: dict[str, int], body: bytes) -> None: ...

    def interrupt(self, header: dict[str, int], body: bytes) -> None:
        assert self.waiting is not None
        line, unique = self.waiting
        self._send(unique, b"", errno.EINTR, line)

    def getattr(self, header: dict[str, int], body: bytes) -> bytes:
        return encode("fuse_attr_out", attr_valid=2, attr_valid_nsec=250_000_000, **self._attributes(header["nodeid"]))

    def setattr(self, header: dict[str, int], body: bytes) -> bytes:
        fields, node = decode("fuse_setattr_in", body), self.nodes[header["nodeid"]]
        if fields["valid"] & constant("FATTR_SIZE"):
            node.data = node.data[: fields["size"]].ljust(fields["size"], b"\0")
        if fields["valid"] & constant("FATTR_MODE"):
            node.mode = fields["mode"]
        return self.getattr(header, body)

    def statx(self, header: dict[str, int], body: bytes) -> bytes:
        known = self._attributes(header["nodeid"], "")
        fields = {name: known[name] for name in ("ino", "size", "blocks", "mode", "nlink", "blksize")}
        for name in ("atime", "mtime", "ctime"):
            fields |= {f"{name}.tv_sec": known[name], f"{name}.tv_nsec": known[f"{name}nsec"]}
        fields |= {"mask": 0xFFF, "btime.tv_sec": SECONDS - 1, "btime.tv_nsec": 999_999_999}
        stat_fields = {f"stat.{name}": value for name, value in fields.items()}
        return encode("fuse_statx_out", attr_valid=2, attr_valid_nsec=250_000_000, **stat_fields)

    def readlink(self, header: dict[str, int], body: bytes) -> bytes:
        return bytes(self.nodes[header["nodeid"]].data)

    def symlink(self, header: dict[str, int], body: bytes) -> bytes:
        name, target, _ = body.split(b"\0")
        return self._make(header["nodeid"], name, stat.S_IFLNK | 0o777, target)

    def mknod(self, header: dict[str, int], body: bytes) -> bytes:
        fields = decode("fuse_mknod_in", body)
        return self._make(header["nodeid"], body[16:-1], fields["mode"], rdev=fields["rdev"])

    def mkdir(self, header: dict[str, int], body: bytes) -> bytes:
        return self._make(header["nodeid"], body[8:-1], stat.S_IFDIR | decode("fuse_mkdir_in", body)["mode"])

    def unlink(self, header: dict[str, int], body: bytes) -> bytes:
        self.nodes[self._find(header["nodeid"], body[:-1])].nlink -= 1
        del self.nodes[header["nodeid"]].names[body[:-1]]
        return b""

    rmdir = unlink

    def rename(self, header: dict[str, int], body: bytes) -> bytes:
        return self._rename(header["nodeid"], decode("fuse_rename_in", body)["newdir"], body[8:], 0)

    def rename2(self, header: dict[str, int], body: bytes) -> bytes:
        fields = decode("fuse_rename2_in", body)
        return self._rename(header["nodeid"], fields["newdir"], body[16:], fields["flags"])

    def _rename(self, parent: int, newdir: int, names: bytes, flags: int) -> bytes:
        old, new, _ = names.split(b"\0")
        source, target = self.nodes[parent].names, self.nodes[newdir].names
        moved, there = self._find(parent, old), target.get(new)
        del source[old]
        target[new] = moved
        if flags & 2 and there is not None:
            source[old] = there
        return b""

    def link(self, header: dict[str, int], body: bytes) -> bytes:
        ino = decode("fuse_link_in", body)["oldnodeid"]
        self.nodes[ino].nlink += 1
        self.nodes[header["nodeid"]].names[body[8:-1]] = ino
        return encode("fuse_entry_out", **self._entry(ino))

    def _open(self, ino: int) -> bytes:
        slow = self.nodes[1].names.get(b"slow") == ino
        flags = constant("FOPEN_DIRECT_IO") if slow else constant("FOPEN_KEEP_CACHE")
        return encode("fuse_open_out", fh=1000 + ino, open_flags=flags)

    def open(self, header: dict[str, int], body: bytes) -> bytes:
        return self._open(header["nodeid"])

    def opendir(self, header: dict[str, int], body: bytes) -> bytes:
        return encode("fuse_open_out", fh=2000 + header["nodeid"])

    def create(self, header: dict[str, int], body: bytes) -> bytes:
        name = body[16:-1]
        entry = self._make(header["nodeid"], name, decode("fuse_create_in", body)["mode"])
        return entry + self._open(self.nodes[header["nodeid"]].names[name])

    def read(self, header: dict[str, int], body: bytes) -> bytes | None:
        fields = decode("fuse_read_in", body)
        if self.nodes[1].names.get(b"slow") == header["nodeid"]:
            self.waiting = len(self.lines) - 1, header["unique"]
            return None
        return bytes(self.nodes[header["nodeid"]].data[fields["offset"] :][: fields["size"]])

    def write(self, header: dict[str, int], body: bytes) -> bytes:
        fields, data = decode("fuse_write_in", body), self.nodes[header["nodeid"]].data
        at = fields["offset"]
        if len(data) < at:
            data.extend(bytes(at - len(data)))
        data[at : at + fields["size"]] = body[40:]
        return encode("fuse_write_out", size=fields["size"])

    def _nothing(self, header: dict[str, int], body: bytes) -> bytes:
        return b""

    flush = fsync = release = releasedir = fsyncdir = access = fallocate = setlk = setlkw = _nothing

    def getlk(self, header: dict[str, int], body: bytes) -> bytes:
        fields = {"lk.start": 10, "lk.end": 19, "lk.type": fcntl.F_WRLCK, "lk.pid": 1}
        return encode("fuse_lk_out", **fields)

    def statfs(self, header: dict[str, int], body: bytes) -> bytes:
        numbers = {"blocks": 1000, "bfree": 600, "bavail": 500, "files": 100, "ffree": 50}
        numbers |= {"bsize": 4096, "namelen": 255, "frsize": 4096}
        return encode("fuse_statfs_out", **{f"st.{name}": value for name, value in numbers.items()})

    def lseek(self, header: dict[str, int], body: bytes) -> bytes:
        fields = decode("fuse_lseek_in", body)
        return encode("fuse_lseek_out", offset=fields["offset"] + (fields["whence"] == os.SEEK_HOLE))

    def copy_file_range(self, header: dict[str, int], body: bytes) -> bytes:
        return encode("fuse_write_out", size=decode("fuse_copy_file_range_in", body)["len"])

    def ioctl(self, header: dict[str, int], body: bytes) -> bytes:
        raise Failure(errno.ENOTTY)

    # -- listings ---------------------------------------------------------------------------------------------------

    def _list(self, header: dict[str, int], body: bytes, *, plus: bool) -> bytes:
        start, found = decode("fuse_read_in", body)["offset"], b""
        entries = [(b".", 1), (b"..", 1), *self.nodes[header["nodeid"]].names.items()]
        for number, (name, ino) in enumerate(entries[start : start + PAGE_OF_ENTRIES], start + 1):
            about = {"ino": ino, "off": number, "namelen": len(name), "type": self.nodes[ino].mode >> 12}
            if plus:
                about = self._entry(ino, "entry_out.") | {f"dirent.{key}": value for key, value in about.items()}
            found += encode("fuse_direntplus" if plus else "fuse_dirent", **about) + name + bytes(-len(name) % 8)
        return found

    def readdir(self, header: dict[str, int], body: bytes) -> bytes:
        return self._list(header, body, plus=False)

    def readdirplus(self, header: dict[str, int], body: bytes) -> bytes:
        return self._list(header, body, plus=True)

    # -- extended attributes ----------------------------------------------------------------------------------------

    def setxattr(self, header: dict[str, int], body: bytes) -> bytes:
        size, _ = struct.unpack_from("=II", body)
        self.is_late = self.is_late or b"user.late\0" in body
        name = body[8:].split(b"\0")[0]
        self.nodes[header["nodeid"]].xattrs[name] = body[8 + len(name) + 1 :][:size]
        return b""

    def getxattr(self, header: dict[str, int], body: bytes) -> bytes:
        xattrs, name = self.nodes[header["nodeid"]].xattrs, body[8:-1]
        if name not in xattrs:
            raise Failure(errno.ENODATA)
        return self._sized(xattrs[name], decode("fuse_getxattr_in", body)["size"])

    def listxattr(self, header: dict[str, int], body: bytes) -> bytes:
        names = b"".join(name + b"\0" for name in self.nodes[header["nodeid"]].xattrs)
        return self._sized(names, decode("fuse_getxattr_in", body)["size"])

    def _sized(self, value: bytes, size: int) -> bytes:
        return value if size else encode("fuse_getxattr_out", size=len(value))

    def removexattr(self, header: dict[str, int], body: bytes) -> bytes:
        del self.nodes[header["nodeid"]].xattrs[body[:-1]]
        return b""


def call(name: str, *arguments: object) -> None:
    """A function of libc that Python has not, or not as it is."""
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)


def play(root: str) -> None:
    """The calls that are recorded."""
    os.chdir(root)
    os.umask(0o027)
    with contextlib.suppress(FileNotFoundError):
        os.stat("missing")
    play_file()
    play_names()
    play_data()
    play_xattrs()
    play_locks()
    play_listing()
    play_interrupt()
    play_forgetting()


def play_file() -> None:
    fd = os.open("file", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    os.write(fd, b"hello world\n")
    os.fsync(fd)
    os.fdatasync(fd)
    os.ftruncate(fd, 3)
    os.utime(fd, ns=(-1_500_000_000, 1_234_567_890_123_456_789))
    os.close(fd)
    os.utime("file")
    os.utime("file", ns=(7, 8))
    os.truncate("file", 5)
    os.chmod("file", 0o640)
    os.chown("file", 12, 34)
    os.access("file", os.R_OK | os.W_OK)
    os.statvfs("file")
    call("statx", -100, b"file", 0, 0xFFF, ctypes.create_string_buffer(256))


def play_names() -> None:
    os.mkdir("dir", 0o777)
    os.mknod("dir/fifo", stat.S_IFIFO | 0o600)
    os.mknod("dir/device", stat.S_IFCHR | 0o660, os.makedev(259, 70_000))
    os.symlink("../file", "dir/link")
    os.readlink("dir/link")
    os.link("file", "dir/hard")
    os.rename("dir/fifo", "pipe")
    call("renameat2", -100, b"pipe", -100, b"dir/pipe", 1)
    call("renameat2", -100, b"dir/pipe", -100, b"file", 2)
    call("renameat2", -100, b"dir/pipe", -100, b"file", 2)
    os.unlink("dir/hard")
    os.mkdir("empty")
    os.rmdir("empty")


def play_data() -> None:
    fd = os.open("file", os.O_RDWR | os.O_APPEND)
    os.pread(fd, 100, 0)
    call("statx", fd, b"", 0x3000, 0x7FF, ctypes.create_string_buffer(256))  # AT_EMPTY_PATH, AT_STATX_FORCE_SYNC
    os.write(fd, bytes(range(256)))
    call("fallocate", fd, 3, ctypes.c_long(4096), ctypes.c_long(100))
    os.lseek(fd, 1, os.SEEK_DATA)
    os.lseek(fd, 2, os.SEEK_HOLE)
    with os.fdopen(os.open("copy", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as copy:
        os.copy_file_range(fd, copy.fileno(), 100, 5, 6)
        os.copy_file_range(fd, copy.fileno(), 10, 0, 0)
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, 0x80086601, bytearray(8))  # FS_IOC_GETFLAGS
    select.select([fd], [], [], 0)
    os.close(fd)
    with contextlib.suppress(OSError):
        os.close(os.open("dir", os.O_TMPFILE | os.O_RDWR, 0o600))


def play_xattrs() -> None:
    os.setxattr("file", "user.one", b"value")
    with contextlib.suppress(OSError):
        os.setxattr("file", "user.two", b"", os.XATTR_CREATE)
    os.setxattr("file", "user.two", b"\0binary\0", os.XATTR_REPLACE)
    call("getxattr", b"file", b"user.two", None, ctypes.c_size_t(0))
    os.getxattr("file", "user.two")
    with contextlib.suppress(OSError):
        os.getxattr("file", "user.none")
    call("listxattr", b"file", None, ctypes.c_size_t(0))
    os.listxattr("file")
    os.removexattr("file", "user.one")


def play_locks() -> None:
    fd = os.open("file", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
    fcntl.lockf(fd, fcntl.LOCK_SH, 0, 5)
    fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 10, 10, 0))
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)


def play_listing() -> None:
    fd = os.open("dir", os.O_RDONLY | os.O_DIRECTORY)
    os.listdir(fd)
    os.fsync(fd)
    os.close(fd)


def play_interrupt() -> None:
    os.close(os.open("slow", os.O_CREAT | os.O_WRONLY, 0o600))
    fd = os.open("slow", os.O_RDONLY)

    def ended(number: int, frame: object) -> None:
        raise InterruptedError

    signal.signal(signal.SIGALRM, ended)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with contextlib.suppress(InterruptedError):
        os.read(fd, 10)
    os.close(fd)


def play_forgetting() -> None:
    for number in range(3):
        os.mknod(f"gone{number}", 0o600)
    held = [os.open(f"gone{number}", os.O_PATH) for number in range(3)]
    for number in range(3):
        os.unlink(f"gone{number}")
    os.setxattr("file", "user.late", b"")
    for descriptor in held:
        os.close(descriptor)
    time.sleep(2 * LATE)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        device = os.open("/dev/fuse", os.O_RDWR)
        data = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        call("mount", b"recorder", folder.encode(), b"fuse.recorder", ctypes.c_ulong(0), data)
        child = os.fork()
        if child == 0:
            os.close(device)
            code = 1
            try:
                play(folder)
                code = 0
            finally:
                os.chdir("/")
                call("umount2", folder.encode(), 2)
                os._exit(code)
        recorder = Recorder(device)
        recorder.serve()
        assert os.waitpid(child, 0)[1] == 0, "a call has failed"
    for line in recorder.lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()

"""A small mount on the server in memory, with a modelled kernel above it: what two operations meet in.

    /a /b     files that come before f in the listing
    /f        a file, of which /g is another name
    /v        another file
    /d/x      a file in a folder
    /e        an empty folder

Everything is known when a scene begins, and all of it so long that it has to be asked for again.
"""

from __future__ import annotations

import os
import stat as posix
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from dfsfs.errors import DfsfsError, Disposition
from dfsfs.namespace.junction import Attempt, Junction, Location
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb.wire.constants import SMB2_FLAGS_RELATED_OPERATIONS
from dfsfs.smb.wire.messages import HEADER, HEADER_SIZE, SMB2_MAGIC, Request, decode_header
from dfsfs.smb.wire.reparse import decode_mfsymlink
from dfsfs.vfs.data.caching import CacheMode, Caching
from dfsfs.vfs.filesystem import FileSystem
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.mapping import NameMapping, Ownership
from tests.shell.kernel import Kernel
from tests.shell.model import ROOT, File, Model
from tests.support.fakes.server.client import SHARE, connect, transport_of
from tests.support.fakes.server.messages import split
from tests.support.fakes.server.server import Server
from tests.support.fakes.server.volume import Inode as ServerInode
from tests.support.fakes.server.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath
    from tests.shell.dcache import Stat

ACTIMEO = 1.0
HIDDEN = ".dfsfs_deleted_"
OLD, VICTIM = b"old!", b"victim"
OTHER = "other"
"""The name of the other client."""
OPEN = {
    "r:f": ("f", os.O_RDONLY),
    "w:f": ("f", os.O_RDWR),
    "a:f": ("f", os.O_RDWR | os.O_APPEND),
    "b:f": ("f", os.O_WRONLY | os.O_APPEND),
    "w:g": ("g", os.O_RDWR),
    "r:v": ("v", os.O_RDONLY),
}
"""Descriptors that may be open when a scene begins."""
_FILES = {"a": (5, b"a"), "b": (6, b"b"), "f": (1, OLD), "v": (2, VICTIM), "d/x": (7, b"x")}
_FOLDERS = {"d": 3, "e": 4}
_NUMBERS = {path: number for path, (number, _) in _FILES.items()} | _FOLDERS | {"g": 1}


class OneShare:
    """A namespace that is one share. `again` gives a new tree when the connection has ended; without, it has ended for
    good.
    """

    has_static_links = False

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.again: Callable[[], Tree] | None = None
        self._junction = Junction(SHARE)
        self._junction.bind(SHARE, tree, 0.0)

    def root(self) -> Location:
        return Location(self._junction)

    def junction(self, prefix: UncPath) -> Junction:
        assert prefix == SHARE
        return self._junction

    async def run(self, location: Location, operation: Callable[[Attempt], Awaitable[Any]]) -> Any:
        is_replay = False
        while True:
            binding = location.junction.binding
            if binding is None or not binding.tree.alive:
                if self.again is None:
                    assert binding is not None
                    return await operation(self._attempt(binding, location, is_replay))
                self.tree = self.again()
                binding = self._junction.bind(SHARE, self.tree, 0.0)
            try:
                return await operation(self._attempt(binding, location, is_replay))
            except DfsfsError as error:
                if error.disposition is not Disposition.RECONNECT or self.again is None:
                    raise
                is_replay = True

    async def run_hedged(self, location: Location, operation: Callable[[Attempt], Awaitable[Any]]) -> Any:
        return await self.run(location, operation)

    def refresh_if_due(self, junction: Junction) -> None:
        """No referral stands behind a share."""

    @staticmethod
    def _attempt(binding: Any, location: Location, is_replay: bool) -> Attempt:
        return Attempt(binding, binding.target.join(location.components), is_replay)


class _Cache:
    """The kernel as the file system sees it, which is there before the kernel is."""

    def __init__(self) -> None:
        self.kernel: Kernel | None = None

    async def invalidate(self, ino: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.kernel is not None:
            await self.kernel.forget(ino)

    async def invalidate_attributes(self, ino: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.kernel is not None:
            await self.kernel.invalidate_attributes(ino)


class OtherClient:
    """Another client of the server, which keeps nothing: it sends one compound after the other."""

    def __init__(self, server: Server) -> None:
        self._answered = trio.Event()
        self._answer = b""
        self._connection = server.connect(self._deliver, lambda: None, OTHER)
        self._next = 0

    def _deliver(self, data: bytes) -> None:
        self._answer = data
        if decode_header(memoryview(data)[4:]).status != NtStatus.PENDING:
            self._answered.set()

    async def ask(self, *requests: Request) -> int:
        """Sends a compound; the first status that is a failure, or SUCCESS."""
        self._answered = trio.Event()
        self._connection.credits = len(requests)
        self._connection.receive(self._packed(requests))
        await self._answered.wait()
        statuses = [part.header.status for part in split(self._answer[4:])]
        return next((status for status in statuses if is_failure(status)), NtStatus.SUCCESS)

    def _packed(self, requests: tuple[Request, ...]) -> bytes:
        packed = b""
        for index, request in enumerate(requests):
            body = request.body + bytes(request.payload)
            is_last = index == len(requests) - 1
            body += b"" if is_last else bytes(-len(body) % 8)
            flags = SMB2_FLAGS_RELATED_OPERATIONS if index else 0
            following = 0 if is_last else HEADER_SIZE + len(body)
            fields = (SMB2_MAGIC, 64, 1, 0, request.command, 1, flags, following, self._next, 0, 5, 10, bytes(16))
            packed += HEADER.pack(*fields) + body
            self._next += 1
        return len(packed).to_bytes(4, "big") + packed


class Scene:
    """See the module's text."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        mode: CacheMode = CacheMode.STRICT,
        leases: bool = True,
        server: Server | None = None,
    ) -> None:
        """`server`: one on which there are files already."""
        self.server = server or _new_server()
        if not leases:
            self.server.volume.leases.given &= 0
        self._nursery = nursery
        self.other = OtherClient(self.server)
        cache = _Cache()
        namespace: Any = OneShare(self._connected())
        self.share: OneShare = namespace
        self.share.again = self._connected
        self.fs = FileSystem(
            namespace,
            namespace.root(),
            names=NameMapping(),
            ownership=Ownership(uid=7, gid=8, file_mode=0o644, dir_mode=0o755),
            lifetimes=Lifetimes(ACTIMEO, ACTIMEO),
            clock=trio.current_time,
            caching=Caching(mode),
            kernel=cache,
            mfsymlinks=True,
        )
        self.kernel = cache.kernel = Kernel(self.fs, trio.current_time, nursery.start_soon)
        self.pause: Callable[[str], Awaitable[None]] = _go_on
        """Waits until the schedule has something go on that programs do in several steps."""
        self.fds: dict[str, int] = {}
        self.times: dict[str, int] = {}
        self._numbers: dict[int, int] = {}
        self._inodes = {inode: _NUMBERS[path] for path, inode in self.server.volume.walk() if path in _NUMBERS}
        nursery.start_soon(self.fs.serve)

    def _connected(self) -> Tree:
        tree = connect(self.server)
        self._nursery.start_soon(tree.connection.run)
        return tree

    def start(self, task: Callable[[], Awaitable[object]]) -> None:
        """Runs something beside the operations."""
        self._nursery.start_soon(task)

    @property
    def tree(self) -> Tree:
        """The tree of the connection that there is now."""
        return self.share.tree

    async def prepare(self, needs: tuple[str, ...]) -> None:
        """Has the kernel know everything, and opens what is needed."""
        f = await self.kernel.stat("f")  # a listing would not say how many names it has
        for path in ("", "d"):
            for name, ino in (await self.kernel.listdir(path)).items():
                self._numbers[ino] = _NUMBERS[f"{path}/{name}" if path else name]
        self.times["f"] = f.mtime
        for fd in needs:
            self.fds[fd] = await self.kernel.open(*OPEN[fd])

    def number_of(self, ino: int) -> int:
        """The model's number of an inode; 0 if nobody knew it when the scene began."""
        return self._numbers.get(ino, 0)

    def seen(self, stat: Stat) -> tuple[int, int, int, int]:
        """A stat as the model has it."""
        size = stat.size if stat.kind != posix.S_IFDIR else 0
        nlink = stat.nlink if stat.kind != posix.S_IFDIR else 2
        return (self.number_of(stat.ino), stat.kind, size, nlink)

    def truth(self, *, with_hidden: bool) -> dict[str, tuple[int, bytes, int]]:
        """What is on the server, as Model.tree shows it."""
        found = {}
        for path, inode in self.server.volume.walk():
            if HIDDEN in path and not with_hidden:
                continue
            special = decode_mfsymlink(bytes(inode.data))
            data = bytes(inode.data) if special is None else special.target.encode()
            number = _BY_ID.get(inode.file_id, 0)
            found[path] = (number, data, 0 if inode.is_directory else len(inode.names))
        return found

    def as_model(self, descriptors: dict[str, int]) -> Model:
        """What is on the server now, as a model, without hidden files. `descriptors`: which files are open."""
        found = Model()
        for path, inode in self.server.volume.walk():
            if HIDDEN in path:
                continue
            number = self._inodes.setdefault(inode, found.next)
            found.next = max(found.next, number + 1)
            if number not in found.files:
                found.files[number] = _file_of(inode)
            folder, name = found.parent(path)
            found.entries(folder)[name] = number
        for inode, number in self._inodes.items():
            found.files.setdefault(number, _file_of(inode))
        for fd, number in descriptors.items():
            found.open[fd] = (number, False)
        return found

    @property
    def connection(self) -> Any:
        return transport_of(self.tree).server


async def _go_on(what: str) -> None:
    """Nothing waits where no schedule says when it goes on."""


def _new_server() -> Server:
    server, begun = Server(), trio.current_time()
    server.volume.clock = lambda: trio.current_time() - begun
    fill(server.volume)
    return server


def _file_of(inode: ServerInode) -> File:
    special = decode_mfsymlink(bytes(inode.data))
    links = sum(HIDDEN not in folder.children[key][0] for folder, key in inode.names)
    if special is not None:
        return File(posix.S_IFLNK, special.target.encode(), links=links)
    if inode.is_directory:
        return File(posix.S_IFDIR, entries={}, links=2)
    return File(posix.S_IFREG, bytes(inode.data), links=links)


def fill(volume: Volume) -> None:
    for path in _FOLDERS:
        volume.add_folder(path)
    for path, (_, data) in _FILES.items():
        inode = volume.add_file(path, data)
        if path == "f":
            volume.add_name("g", inode)


def _ids() -> dict[int, int]:
    """The model's numbers by the server's file ids."""
    volume = Volume()
    fill(volume)
    return {volume.at(path).file_id: number for path, number in _NUMBERS.items()}


_BY_ID = _ids()


def model(needs: tuple[str, ...]) -> Model:
    """The same in the model."""
    start = Model()
    for path, number in _FOLDERS.items():
        start.add(path, File(posix.S_IFDIR, entries={}, links=2), number)
    for path, (number, data) in _FILES.items():
        start.add(path, File(posix.S_IFREG, data), number)
    start.entries(ROOT)["g"] = 1
    start.files[1].links = 2
    for fd in needs:
        path, flags = OPEN[fd]
        start.open[fd] = (start.find(path), bool(flags & os.O_APPEND))
    return start

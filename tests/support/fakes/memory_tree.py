"""A share in memory: what Tree and RemoteFile do, without a server.

`MemoryStore` holds the files of a share and outlives its connections; `MemoryTree` is one connection to it. It answers
with the statuses of a Windows server where they matter to the file system: a removed file keeps its name until its last
handle is closed, an open or read-only file can't be replaced, a path through a DFS link is PATH_NOT_COVERED.

Faults: `store.before` and `store.after` are called with the verb and the path around every operation, and may raise. A
fault in `after` is a request that was carried out and whose answer was lost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import ConnectionLost, DfsfsError, SmbError
from dfsfs.filetime import filetime_to_ns
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.connection.leases import KEY_SIZE, Lease
from dfsfs.smb.wire.constants import Access, CreateDisposition, CreateOptions, FileAttributes, LeaseState
from dfsfs.smb.wire.fscc import DirEntry, FileStat, VolumeSize
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from dfsfs.smb.connection.leases import LeaseRequest
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.smb.wire.reparse import SpecialFile

REPARSE_TAG_DFS = 0x8000000A
BATCH = 50
YEAR = 365 * 86400 * 10**9
"""Nanoseconds by which the server's clock is ahead of what was written, so that no file is suspiciously young."""
BLOCK = 4096
_BASIC = struct.Struct("<qqqqII")


@dataclass(slots=True, eq=False)
class MemoryNode:
    """A file, a folder (`children` is not None) or a DFS link."""

    name: str
    file_id: int
    created: int
    children: dict[str, MemoryNode] | None = None
    link: bool = False
    data: bytearray = field(default_factory=bytearray)
    attributes: int = FileAttributes.FILE_ATTRIBUTE_ARCHIVE
    accessed: int = 0
    written: int = 0
    links: int = 1
    opens: int = 0
    delete_pending: bool = False
    locked: list[range] = field(default_factory=list)
    """What another client has locked."""
    spellings: dict[str, str] = field(default_factory=dict)
    """Its other names, by what they are when folded."""

    def spelled(self, folded: str) -> str:
        """One of its names as it is shown."""
        return self.spellings.get(folded, self.name)

    @property
    def stat(self) -> FileStat:
        directory = self.children is not None or self.link
        attributes = self.attributes | (FileAttributes.FILE_ATTRIBUTE_DIRECTORY if directory else 0)
        if self.link:
            attributes |= FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT
        return FileStat(
            created=self.created,
            accessed=self.accessed or self.created,
            written=self.written or self.created,
            changed=self.written or self.created,
            attributes=attributes,
            size=len(self.data),
            allocated=-(-len(self.data) // BLOCK) * BLOCK,
            file_id=self.file_id,
            links=self.links,
            reparse_tag=REPARSE_TAG_DFS if self.link else 0,
        )


class MemoryStore:
    """The files of a share. `mark_links` False: a listing shows a link as an ordinary folder, as some servers do."""

    def __init__(self, share: UncPath) -> None:
        self.share = share
        self.mark_links = True
        self.has_hard_links = False
        """Whether a file may have several names; FAT has none."""
        self.fetches: list[MemoryFetch] = []
        self.gives_leases = False
        self.refuses = LeaseState.SMB2_LEASE_NONE
        """Parts that no lease gets."""
        self.leases: dict[str, Lease] = {}
        """The last lease by the name of its file."""
        self.before: Callable[[str, UncPath], None] = lambda verb, path: None
        self.after: Callable[[str, UncPath], None] = lambda verb, path: None
        self.calls: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}
        """How long each verb takes; others take no time."""
        self.batch = BATCH
        """Entries of one answer to a listing."""
        self._now = 1_700_000_000 * 10**9
        self._ids = 1000
        self.root = self._new("")
        self.root.children = {}

    # -- for tests --------------------------------------------------------------------------------------------------

    def add_file(self, path: str, data: bytes = b"") -> MemoryNode:
        node = self._put(path)
        node.data += data
        return node

    def add_folder(self, path: str) -> MemoryNode:
        node = self._put(path)
        node.children = {}
        return node

    def add_link(self, path: str) -> MemoryNode:
        node = self._put(path)
        node.link = True
        return node

    def remove(self, path: str) -> None:
        *above, name = path.split("/")
        del self._children(above)[fold_name(name)]

    def find(self, path: str) -> MemoryNode | None:
        *above, name = path.split("/")
        return self._children(above).get(fold_name(name))

    def names(self, path: str = "") -> list[str]:
        children = self._children(path.split("/") if path else [])
        return sorted(child.spelled(folded) for folded, child in children.items())

    def tick(self) -> int:
        """The store's time, which moves on by a millisecond."""
        self._now += 10**6
        return self._now

    def _put(self, path: str) -> MemoryNode:
        *above, name = path.split("/")
        node = self._children(above)[fold_name(name)] = self._new(name)
        return node

    def _new(self, name: str) -> MemoryNode:
        self._ids += 1
        return MemoryNode(name, self._ids, self.tick())

    def _children(self, names: list[str]) -> dict[str, MemoryNode]:
        node = self.root
        for name in names:
            assert node.children is not None
            node = node.children[fold_name(name)]
        assert node.children is not None
        return node.children

    # -- for trees --------------------------------------------------------------------------------------------------

    def folder_of(self, path: UncPath, what: str) -> dict[str, MemoryNode]:
        """The children of the folder that `path` is in."""
        node = self.root
        for name in path.below_share[:-1]:
            assert node.children is not None
            child = node.children.get(fold_name(name))
            if child is None or (child.children is None and not child.link):
                raise SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, what)
            if child.link:
                raise SmbError(NtStatus.PATH_NOT_COVERED, what)
            node = child
        assert node.children is not None
        return node.children

    def at(self, path: UncPath, what: str) -> MemoryNode:
        if not path.below_share:
            return self.root
        node = self.folder_of(path, what).get(fold_name(path.components[-1]))
        if node is None:
            raise SmbError(NtStatus.OBJECT_NAME_NOT_FOUND, what)
        if node.link:
            raise SmbError(NtStatus.PATH_NOT_COVERED, what)
        if node.delete_pending:
            raise SmbError(NtStatus.DELETE_PENDING, what)
        return node

    def make(self, path: UncPath, what: str) -> MemoryNode:
        children = self.folder_of(path, what)
        name = path.components[-1]
        if fold_name(name) in children:
            raise SmbError(NtStatus.OBJECT_NAME_COLLISION, what)
        node = children[fold_name(name)] = self._new(name)
        return node

    def drop_name(self, path: UncPath, what: str) -> None:
        """Takes a name from what has it."""
        node = self.folder_of(path, what).pop(fold_name(path.components[-1]))
        node.links -= 1

    def drop(self, node: MemoryNode, within: MemoryNode | None = None) -> None:
        """Takes a node out of whatever folders it is in."""
        children = (within or self.root).children or {}
        for key, child in list(children.items()):
            if child is node:
                del children[key]
            else:
                self.drop(node, child)


def _basic(node: MemoryNode, info: bytes, now: int) -> None:
    _, accessed, written, _, attributes, _ = _BASIC.unpack(info[: _BASIC.size])
    node.accessed = filetime_to_ns(accessed) if accessed > 0 else node.accessed
    node.written = filetime_to_ns(written) if written > 0 else node.written
    if attributes:
        node.attributes = attributes & ~(FileAttributes.FILE_ATTRIBUTE_DIRECTORY | FileAttributes.FILE_ATTRIBUTE_NORMAL)


def _resize(node: MemoryNode, size: int) -> None:
    del node.data[size:]
    node.data.extend(bytes(size - len(node.data)))


class MemoryTree:
    """A connection to a store. `alive` turns False with `kill`."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.share = store.share
        self.is_dfs = True
        self.alive = True
        self.route = Route()
        self.special = MemorySpecialFiles(self)
        self.xattrs = MemoryXattrs()
        self.snapshots = MemorySnapshots()

    def kill(self) -> None:
        self.alive = False

    @property
    def connection(self) -> object:
        """Another one each time: nothing is copied on the server here, and programs read and write (EXDEV)."""
        return object()

    async def _enter(self, verb: str, path: UncPath) -> str:
        await trio.lowlevel.checkpoint()
        self.check_alive()
        self.store.calls.append((verb, "/".join(path.below_share)))
        if verb in self.store.seconds:
            await trio.sleep(self.store.seconds[verb])
        self.store.before(verb, path)
        self.check_alive()
        return f"{verb} of {path}"

    def check_alive(self) -> None:
        if not self.alive:
            raise ConnectionLost(self.share.host, NtStatus.CONNECTION_RESET, "the connection was killed by the test")

    def done(self, verb: str, path: UncPath) -> None:
        self.store.after(verb, path)

    async def stat(self, path: UncPath) -> FileStat:
        what = await self._enter("stat", path)
        stat = self.store.at(path, what).stat
        self.done("stat", path)
        return stat

    async def make_directory(self, path: UncPath) -> FileStat:
        what = await self._enter("mkdir", path)
        self._refuse_link(path, what)
        node = self.store.make(path, what)
        node.children = {}
        self.done("mkdir", path)
        return node.stat

    def _refuse_link(self, path: UncPath, what: str) -> None:
        node = self.store.folder_of(path, what).get(fold_name(path.components[-1]))
        if node is not None and node.link:
            raise SmbError(NtStatus.PATH_NOT_COVERED, what)

    async def open(
        self,
        path: UncPath,
        *,
        access: Access,
        disposition: CreateDisposition,
        options: CreateOptions = CreateOptions.NONE,
        attributes: int = 0,
        read: int = 0,
        lease: LeaseRequest | None = None,
    ) -> MemoryFile:
        what = await self._enter("open", path)
        node = self._opened(path, access, disposition, attributes, what)
        if options & CreateOptions.FILE_NON_DIRECTORY_FILE and node.children is not None:
            raise SmbError(NtStatus.FILE_IS_A_DIRECTORY, what)
        node.opens += 1
        self.done("open", path)
        file = MemoryFile(self, path, node, access, bytes(node.data[:read]) if read else None)
        if lease is not None:
            lease.lease.opens += 1
            self._grant(lease)
            file.lease = self.store.leases[path.below_share[-1]] = lease.lease
        return file

    @property
    def volume(self) -> UncPath:
        return self.share

    def at(self, snapshot_time: int | None) -> MemoryTree:
        return self

    def make_lease(self, path: UncPath) -> Lease | None:
        return Lease(bytes(KEY_SIZE), 2, path, self.route) if self.store.gives_leases else None

    async def renew(self, path: UncPath, access: Access, lease: LeaseRequest) -> None:
        await self._enter("renew", path)
        self._grant(lease)

    def _grant(self, lease: LeaseRequest) -> None:
        lease.lease.given = lease.wanted & ~self.store.refuses
        lease.lease.state |= lease.lease.given
        lease.lease.was_granted = True

    def server_time(self) -> int:
        return self.store.tick() + YEAR

    def start_fetch(self, path: UncPath, size: int) -> MemoryFetch:
        self.check_alive()
        return MemoryFetch(self, path, size)

    def _opened(
        self, path: UncPath, access: Access, disposition: CreateDisposition, attributes: int, what: str
    ) -> MemoryNode:
        try:
            node = self.store.at(path, what)
        except SmbError as error:
            makes = disposition in (
                CreateDisposition.FILE_CREATE,
                CreateDisposition.FILE_OPEN_IF,
                CreateDisposition.FILE_OVERWRITE_IF,
            )
            if error.status != NtStatus.OBJECT_NAME_NOT_FOUND or not makes:
                raise
            node = self.store.make(path, what)
            node.attributes = attributes & ~FileAttributes.FILE_ATTRIBUTE_NORMAL | FileAttributes.FILE_ATTRIBUTE_ARCHIVE
            return node
        if disposition is CreateDisposition.FILE_CREATE:
            raise SmbError(NtStatus.OBJECT_NAME_COLLISION, what)
        if access & Access.FILE_WRITE_DATA and node.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY:
            raise SmbError(NtStatus.ACCESS_DENIED, what)
        if disposition in (CreateDisposition.FILE_OVERWRITE, CreateDisposition.FILE_OVERWRITE_IF):
            node.data.clear()
            node.written = self.store.tick()
        return node

    def _see(self, directories: Sequence[UncPath]) -> list[FileStat | None]:
        return [self.store.at(directory, f"stat of {directory}").stat for directory in directories]

    async def remove_file(
        self, path: UncPath, seen: Sequence[UncPath] = (), attributes: int = 0
    ) -> list[FileStat | None]:
        what = await self._enter("unlink", path)
        node = self.store.at(path, what)
        if node.children is not None:
            raise SmbError(NtStatus.FILE_IS_A_DIRECTORY, what)
        if node.opens:
            node.delete_pending = True
        else:
            self.store.drop_name(path, what)
        self.done("unlink", path)
        return self._see(seen)

    async def remove_unused(self, path: UncPath) -> None:
        what = await self._enter("unlink unused", path)
        if self.store.at(path, what).opens:
            raise SmbError(NtStatus.SHARING_VIOLATION, what)
        self.store.drop_name(path, what)
        self.done("unlink unused", path)

    async def break_handle_leases(self, path: UncPath) -> bool:
        what = await self._enter("ask for", path)
        return not self.store.at(path, what).opens

    async def remove_directory(self, path: UncPath, seen: Sequence[UncPath] = ()) -> list[FileStat | None]:
        what = await self._enter("rmdir", path)
        node = self.store.at(path, what)
        if node.children is None:
            raise SmbError(NtStatus.NOT_A_DIRECTORY, what)
        if node.children:
            raise SmbError(NtStatus.DIRECTORY_NOT_EMPTY, what)
        self.store.drop(node)
        self.done("rmdir", path)
        return self._see(seen)

    async def rename(
        self, old: UncPath, new: UncPath, *, replace: bool, seen: Sequence[UncPath] = ()
    ) -> list[FileStat | None]:
        what = await self._enter("rename", old)
        node = self.store.at(old, what)
        self._refuse_link(new, what)
        children = self.store.folder_of(new, what)
        victim = children.get(fold_name(new.components[-1]))
        if victim is not None and victim is not node:
            if not replace:
                raise SmbError(NtStatus.OBJECT_NAME_COLLISION, what)
            if (
                victim.opens
                or victim.children is not None
                or victim.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY
            ):
                raise SmbError(NtStatus.ACCESS_DENIED, what)
            self.store.drop_name(new, what)
        self.store.drop_name(old, what)
        node.links += 1
        if node.spellings.pop(fold_name(old.components[-1]), None) is None:
            node.name = new.components[-1]
        else:
            node.spellings[fold_name(new.components[-1])] = new.components[-1]
        children[fold_name(new.components[-1])] = node
        self.done("rename", old)
        return self._see(seen)

    async def rename_and_stat(
        self, old: UncPath, new: UncPath, seen: Sequence[UncPath] = ()
    ) -> tuple[FileStat, list[FileStat | None]]:
        directories = await self.rename(old, new, replace=False, seen=seen)
        return self.store.at(new, f"stat of {new}").stat, directories

    async def link(self, path: UncPath, new: UncPath) -> FileStat:
        what = await self._enter("link", path)
        if not self.store.has_hard_links:
            raise SmbError(NtStatus.INVALID_DEVICE_REQUEST, what)
        node, children = self.store.at(path, what), self.store.folder_of(new, what)
        if fold_name(new.components[-1]) in children:
            raise SmbError(NtStatus.OBJECT_NAME_COLLISION, what)
        children[fold_name(new.components[-1])] = node
        node.spellings[fold_name(new.components[-1])] = new.components[-1]
        node.links += 1
        self.done("link", path)
        return node.stat

    async def set_basic(self, path: UncPath, info: bytes) -> FileStat:
        what = await self._enter("set_basic", path)
        node = self.store.at(path, what)
        _basic(node, info, self.store.tick())
        self.done("set_basic", path)
        return node.stat

    async def set_size(self, path: UncPath, size: int, written: int | None = None) -> FileStat:
        what = await self._enter("set_size", path)
        node = self.store.at(path, what)
        _resize(node, size)
        node.written = self.store.tick() if written is None else written
        self.done("set_size", path)
        return node.stat

    async def list(
        self, path: UncPath, output_size: Callable[[], int] | None = None
    ) -> AsyncGenerator[list[DirEntry], None]:
        what = await self._enter("list", path)
        node = self.store.at(path, what)
        if node.children is None:
            raise SmbError(NtStatus.NOT_A_DIRECTORY, what)
        entries = [DirEntry(child.spelled(folded), self._listed(child)) for folded, child in node.children.items()]
        for start in range(0, len(entries), self.store.batch):
            if start:
                await self._enter("list more", path)
            yield entries[start : start + self.store.batch]

    def _listed(self, node: MemoryNode) -> FileStat:
        if not node.link or self.store.mark_links:
            return replace(node.stat, links=0)
        plain = MemoryNode(node.name, 0, node.created, {})
        return plain.stat

    async def volume_size(self) -> VolumeSize:
        await self._enter("statfs", self.share)
        return VolumeSize(total=1 << 40, free=1 << 39, caller_free=1 << 38, unit=4096)


class MemorySpecialFiles:
    """The special files of a share that has none."""

    def __init__(self, tree: MemoryTree) -> None:
        self._tree = tree

    def may_be_special(self, stat: FileStat) -> bool:
        return False

    async def lstat(self, path: UncPath) -> FileStat:
        return await self._tree.stat(path)

    async def make(self, path: UncPath, special: SpecialFile) -> FileStat:
        raise SmbError(NtStatus.NOT_SUPPORTED, await self._tree._enter("make special", path))


class MemoryXattrs:
    """Of a file system that keeps nothing beside the data of its files."""

    async def query_features(self) -> int:
        return 0

    async def read_eas(self, path: UncPath) -> dict[bytes, bytes]:
        return {}


class MemorySnapshots:
    """Of a server that makes none."""

    async def list(self, path: UncPath) -> list[str]:
        return []


class MemoryFile:
    """An open file of a store."""

    def __init__(
        self, tree: MemoryTree, path: UncPath, node: MemoryNode, access: Access, inline_data: bytes | None
    ) -> None:
        self.inline_data = inline_data
        self.tree = tree
        self.path = path
        self.node = node
        self.stat = node.stat
        self.lease: Lease | None = None
        self.inline_data_is_locked = False
        self._access = access
        self._closed = False
        self.is_written = False

    @property
    def alive(self) -> bool:
        return self.tree.alive and not self._closed

    async def _enter(self, verb: str) -> None:
        await trio.lowlevel.checkpoint()
        self.tree.check_alive()
        self.tree.store.calls.append((verb, "/".join(self.path.below_share)))
        self.tree.store.before(verb, self.path)
        self.tree.check_alive()

    def _need(self, access: Access, verb: str) -> None:
        if not self._access & access:
            raise SmbError(NtStatus.ACCESS_DENIED, f"{verb} of {self.path}")

    async def read(self, offset: int, size: int) -> Buffer:
        await self._enter("read")
        self._need(Access.FILE_READ_DATA, "read")
        if any(part.start < offset + size and offset < part.stop for part in self.node.locked):
            raise SmbError(NtStatus.FILE_LOCK_CONFLICT, f"read of {self.path}")
        return bytes(self.node.data[offset : offset + size])

    def start_read(self, offset: int, size: int) -> MemoryRead:
        self.tree.check_alive()
        return MemoryRead(self, offset, size)

    async def write(self, offset: int, data: Buffer) -> None:
        await self._enter("write")
        self._need(Access.FILE_WRITE_DATA, "write")
        if offset > len(self.node.data):
            _resize(self.node, offset)
        self.is_written = True
        self.node.data[offset : offset + len(data)] = data
        self.node.written = self.tree.store.tick()
        self.tree.done("write", self.path)

    def start_write(self, offset: int, data: Buffer) -> MemoryWrite:
        self.tree.check_alive()
        return MemoryWrite(self, offset, data)

    async def flush(self) -> None:
        await self._enter("flush")
        self._need(Access.FILE_WRITE_DATA, "flush")

    async def set_size(self, size: int) -> None:
        await self._enter("set_size")
        self._need(Access.FILE_WRITE_DATA, "truncation")
        _resize(self.node, size)
        self.node.written = self.tree.store.tick()

    async def set_basic(self, info: bytes) -> FileStat:
        await self._enter("set_basic on handle")
        _basic(self.node, info, self.tree.store.tick())
        return self.node.stat

    async def query(self) -> FileStat:
        await self._enter("query")
        return self.node.stat

    async def close(self, written: int | None = None) -> FileStat | None:
        if self._closed:
            return None
        self.discard()
        await trio.lowlevel.checkpoint()
        self.tree.store.before("close", self.path)
        if not self.is_written:
            return None
        if written is not None:
            self.node.written = written
        return self.node.stat

    def discard(self) -> None:
        if self._closed:
            return
        self.tree.store.calls.append(("close", "/".join(self.path.below_share)))
        self._closed = True
        if self.lease is not None:
            self.lease.opens -= 1
        self.node.opens -= 1
        if self.node.delete_pending and not self.node.opens:
            self.tree.store.drop(self.node)


class MemoryRead:
    """A READ on its way: the data is as it was when it was asked for."""

    is_done = True

    def __init__(self, file: MemoryFile, offset: int, size: int) -> None:
        self.size = size
        self._data = bytes(file.node.data[offset : offset + size])
        file.tree.store.calls.append((f"read ahead {offset}+{size}", "/".join(file.path.below_share)))

    async def outcome(self) -> Buffer:
        await trio.lowlevel.checkpoint()
        return self._data

    def abandon(self) -> None:
        """Nothing to give up."""


class MemoryFetch:
    """A file on its way: it is as it was when it was asked for."""

    def __init__(self, tree: MemoryTree, path: UncPath, size: int) -> None:
        self.abandoned = self.taken = False
        tree.store.fetches.append(self)
        self._outcome: MemoryFile | SmbError
        tree.store.calls.append(("fetch", "/".join(path.below_share)))
        try:
            node = tree.store.at(path, f"fetch of {path}")
        except SmbError as error:
            self._outcome = error
        else:
            self._outcome = MemoryFile(tree, path, node, Access.READ, bytes(node.data[:size]))
            self._outcome._closed = True

    async def outcome(self) -> MemoryFile:
        self.taken = True
        await trio.lowlevel.checkpoint()
        if isinstance(self._outcome, SmbError):
            raise self._outcome
        return self._outcome

    def abandon(self) -> None:
        self.abandoned = True


class MemoryWrite:
    """A write under way: it is carried out when somebody wants to know its outcome."""

    def __init__(self, file: MemoryFile, offset: int, data: Buffer) -> None:
        self._file = file
        self._offset = offset
        self._data = data
        self._outcome: DfsfsError | None = None
        self.done = False

    async def outcome(self) -> DfsfsError | None:
        if not self.done:
            try:
                await self._file.write(self._offset, self._data)
            except DfsfsError as error:
                self._outcome = error
            self.done = True
        return self._outcome


def open_files(store: MemoryStore) -> Iterator[MemoryNode]:
    """What is open on a store."""
    stack = [store.root]
    while stack:
        node = stack.pop()
        if node.opens:
            yield node
        stack.extend((node.children or {}).values())

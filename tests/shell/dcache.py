"""What the kernel keeps of a FUSE file system: dentries, inodes, attributes, one page of data of each file.

As fs/fuse/dir.c and fs/fuse/inode.c of Linux 6.1 do it. An answer that was asked for before an inode changed here is
not taken in (its version), and none is while a write or a truncation is on its way.
"""

from __future__ import annotations

import errno
import stat as posix
from collections import Counter, deque
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from dfsfs.errors import DfsfsError
from dfsfs.vfs.names.inodetable import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dfsfs.vfs.filesystem import FileSystem
    from dfsfs.vfs.names.mapping import Attributes

T = TypeVar("T")

PAGE = 4096
NEVER = float("-inf")


class Stat(NamedTuple):
    """What stat(2) says."""

    ino: int
    kind: int
    size: int
    nlink: int
    mtime: int


class Told(NamedTuple):
    """An answer with attributes, and for how long the kernel may believe name and attributes."""

    attributes: Attributes
    name_for: float
    attributes_for: float


class Lock:
    """An i_rwsem: many readers or one writer, first come, first served."""

    def __init__(self) -> None:
        self._readers = 0
        self._writer = False
        self._waiting: deque[tuple[bool, trio.Event]] = deque()

    @asynccontextmanager
    async def held(self, *, shared: bool = False) -> AsyncIterator[None]:
        if self._waiting or self._writer or (self._readers and not shared):
            event = trio.Event()
            self._waiting.append((shared, event))
            await event.wait()
        else:
            self._take(shared)
        try:
            yield
        finally:
            if shared:
                self._readers -= 1
            else:
                self._writer = False
            while self._waiting and not self._writer and (self._waiting[0][0] or not self._readers):
                shared_next, event = self._waiting.popleft()
                self._take(shared_next)
                event.set()

    def _take(self, shared: bool) -> None:
        if shared:
            self._readers += 1
        else:
            self._writer = True


@dataclass(slots=True, eq=False)
class Inode:
    ino: int
    kind: int
    size: int = 0
    nlink: int = 1
    mtime: int = 0
    until: float = NEVER
    version: int = 0
    lookups: int = 0
    changes: int = 0
    """Writes and truncations that have ended."""
    unsure: bool = False
    """Whether an open with O_TRUNC has set the size to 0 while something else changed it: Linux takes no lock for that,
    and may be wrong until it asks for the size again."""
    growing: bool = False
    """FUSE_I_SIZE_UNSTABLE: a write or truncation is on its way."""
    page: bytes | None = None
    lock: Lock = field(default_factory=Lock)
    page_lock: Lock = field(default_factory=Lock)


@dataclass(slots=True, eq=False)
class Dentry:
    inode: Inode | None
    until: float


@dataclass(slots=True, eq=False)
class File:
    inode: Inode
    handle: int
    flags: int
    direct: bool


in_use: ContextVar[list[Inode]] = ContextVar("in_use")
"""The inodes that the system call of this task holds on to."""


class InodeCache:
    """See the module's text. It is a KernelCache, too.

    `gate` is awaited between the answer of the file system and the moment at which the kernel takes it in.
    """

    def __init__(self, fs: FileSystem, clock: Callable[[], float]) -> None:
        self.fs = fs
        self.gate: Callable[[str], Awaitable[None]] | None = None
        self.cut: list[str] = []
        """Sizes that became smaller without a truncation: what was mapped there is gone."""
        self._clock = clock
        self._root = Inode(ROOT, posix.S_IFDIR, nlink=2)
        self._inodes = {ROOT: self._root}
        self._dentries: dict[tuple[int, str], Dentry] = {}
        self._in_use: Counter[Inode] = Counter()
        self._version = 1

    # -- what the file system tells the kernel (KernelCache) ----------------------------------------------------------

    async def forget(self, ino: int) -> None:
        inode = self._inodes.get(ino)
        if inode is not None:
            self._expire(inode)
            async with inode.page_lock.held():
                inode.page = None

    async def invalidate_attributes(self, ino: int) -> None:
        inode = self._inodes.get(ino)
        if inode is not None:
            self._expire(inode)

    def _expire(self, inode: Inode) -> None:
        self._version += 1
        inode.version, inode.until = self._version, NEVER

    # -- dentries ---------------------------------------------------------------------------------------------------

    async def _parent(self, path: str) -> tuple[Inode, str]:
        above, _, name = path.rpartition("/")
        return (await self._walk(above) if above else self._root), name

    async def _walk(self, path: str) -> Inode:
        inode = self._root
        for name in path.split("/") if path else ():
            inode = await self._look_up(inode, name)
        return inode

    async def _look_up(self, folder: Inode, name: str) -> Inode:
        found = await self._revalidated(folder, name, fresh=False)
        if found is None:
            async with folder.lock.held(shared=True):
                found = await self._lookup_locked(folder, name)
        if found is None:
            raise OSError(errno.ENOENT, name)
        return self._use(found)

    def _use(self, inode: Inode) -> Inode:
        if (used := in_use.get(None)) is not None:
            used.append(inode)
            self._in_use[inode] += 1
        return inode

    async def _lookup_locked(self, folder: Inode, name: str, *, fresh: bool = False) -> Inode | None:
        """With the folder's lock held: what has the name."""
        found = await self._revalidated(folder, name, fresh=fresh)
        if found is not None:
            return found
        known = self._dentries.get((folder.ino, name))
        if known is not None and known.inode is None and not fresh:
            return None
        version = self._version
        told = await self._ask_lookup(folder, name)
        if isinstance(told, float):
            self._dentries[folder.ino, name] = Dentry(None, self._clock() + told)
            return None
        return self._linked(folder, name, told, version)

    async def _revalidated(self, folder: Inode, name: str, *, fresh: bool) -> Inode | None:
        """fuse_dentry_revalidate: what a dentry leads to, if it is good or turns out to be."""
        dentry = self._dentries.get((folder.ino, name))
        if dentry is None:
            return None
        if dentry.until > self._clock() and not fresh:
            return dentry.inode
        if dentry.inode is None:
            del self._dentries[folder.ino, name]
            return None
        self._use(dentry.inode)
        version = self._version
        told: Told | float = 0.0
        try:
            told = await self._ask_lookup(folder, name)
        except OSError:
            pass  # fuse_dentry_revalidate takes any error for a dentry that is not good any more
        inode = dentry.inode
        if isinstance(told, float) or not _is_of(told.attributes, inode):
            if not isinstance(told, float):
                self.fs.forget(told.attributes.ino, 1)
            if self._dentries.get((folder.ino, name)) is dentry:
                del self._dentries[folder.ino, name]
            return None
        inode.lookups += 1
        self._change_attributes(inode, told, version)
        dentry.until = self._clock() + told.name_for
        return inode

    async def _ask_lookup(self, folder: Inode, name: str) -> Told | float:
        """What has the name, or for how many seconds nothing may be believed to have it."""

        async def look_up() -> Told | float:
            try:
                known = self.fs.lookup_known(folder.ino, name.encode())
                found = known if known is not None else await self.fs.lookup(folder.ino, name.encode())
            except DfsfsError as error:
                if error.errno == errno.ENOENT:
                    return float(self.fs.negative_timeout(folder.ino))
                raise
            return self._told(found)

        return await self._ask(f"LOOKUP {name}", look_up())

    def _linked(self, folder: Inode, name: str, told: Told, version: int) -> Inode:
        """A new dentry, from the answer to LOOKUP, CREATE and the like."""
        inode = self._use(self._iget(told, version))
        self._dentries[folder.ino, name] = Dentry(inode, self._clock() + told.name_for)
        return inode

    def _entry(self, folder: Inode, name: str, told: Told, version: int) -> None:
        """fuse_direntplus_link. An entry without an inode id is a plain directory entry."""
        if not told.attributes.ino:
            return
        dentry = self._dentries.get((folder.ino, name))
        if dentry is not None and dentry.inode is not None and _is_of(told.attributes, dentry.inode):
            dentry.inode.lookups += 1
            self._change_attributes(dentry.inode, told, version)
            dentry.until = self._clock() + told.name_for
            return
        self._linked(folder, name, told, version)

    def _forget_path(self, path: str) -> None:
        ino = ROOT
        for name in path.split("/"):
            dentry = self._dentries.get((ino, name))
            if dentry is None or dentry.inode is None:
                self._dentries.pop((ino, name), None)
                return
            dentry.until, ino = NEVER, dentry.inode.ino

    # -- inodes -----------------------------------------------------------------------------------------------------

    def _iget(self, told: Told, version: int) -> Inode:
        attributes = told.attributes
        inode = self._inodes.get(attributes.ino)
        if inode is None or inode.kind != posix.S_IFMT(attributes.mode):
            inode = self._inodes[attributes.ino] = Inode(attributes.ino, posix.S_IFMT(attributes.mode))
            self._take_attributes(inode, told)
            inode.size = attributes.size
        else:
            self._change_attributes(inode, told, version)
        inode.lookups += 1
        return inode

    def _change_attributes(self, inode: Inode, told: Told, version: int) -> None:
        """fuse_change_attributes: unless something has changed here since the answer was asked for."""
        if inode.version > version or inode.growing:
            return
        before, attributes = inode.mtime, told.attributes
        self._take_attributes(inode, told)
        if attributes.size != inode.size or attributes.mtime_ns != before:
            self._resize(inode, attributes.size)
            inode.page = None

    def _take_attributes(self, inode: Inode, told: Told) -> None:
        self._version += 1
        inode.version = self._version
        inode.nlink, inode.mtime = told.attributes.nlink, told.attributes.mtime_ns
        inode.until = self._clock() + told.attributes_for

    def _resize(self, inode: Inode, size: int, *, cuts: bool = False) -> None:
        if size < inode.size:
            if not cuts:
                self.cut.append(f"inode {inode.ino} from {inode.size} to {size}")
            if inode.page is not None:
                inode.page = inode.page[:size].ljust(PAGE, b"\0")
        inode.size = size

    async def _fresh(self, inode: Inode) -> Attributes | None:
        """fuse_update_attributes: asks if what is known is too old."""
        if inode.until > self._clock():
            return None
        version = self._version

        async def getattr() -> Told:
            known = self.fs.getattr_known(inode.ino)
            return self._told(known if known is not None else await self.fs.getattr(inode.ino))

        told = await self._ask(f"GETATTR {inode.ino}", getattr())
        self._change_attributes(inode, told, version)
        return told.attributes

    async def _stat(self, inode: Inode) -> Stat:
        answer = await self._fresh(inode)
        if answer is not None:
            return Stat(inode.ino, inode.kind, answer.size, answer.nlink, answer.mtime_ns)
        return Stat(inode.ino, inode.kind, inode.size, inode.nlink, inode.mtime)

    def _told(self, attributes: Attributes) -> Told:
        """What fuse/operations.py makes of attributes at the moment at which it answers."""
        return Told(attributes, *self.fs.timeouts(attributes.ino))

    async def _telling(self, asked: Awaitable[Attributes]) -> Told:
        return self._told(await asked)

    async def _ask(self, what: str, asked: Awaitable[T]) -> T:
        try:
            answer = await asked
        except DfsfsError as error:
            if self.gate is not None:
                await self.gate(what)
            raise OSError(error.errno, f"{what}: {error}") from error
        if self.gate is not None:
            await self.gate(what)
        return answer


def _is_of(attributes: Attributes, inode: Inode) -> bool:
    """Whether an answer is about an inode."""
    return attributes.ino == inode.ino and posix.S_IFMT(attributes.mode) == inode.kind

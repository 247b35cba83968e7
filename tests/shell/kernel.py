"""What Linux does with a FUSE file system, as far as the order of things depends on it: system calls on a FileSystem.

Modelled is what decides which requests there are, which of them may overlap, and what programs see (fs/fuse and
fs/namei.c of Linux 6.1): what dcache.py keeps, the locks of inodes, open flags, a second try after ESTALE, and that
RELEASE comes after close has returned.

A program's view is the result of these methods: an OSError, or a value.
"""

from __future__ import annotations

import errno
import os
import stat as posix
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from dfsfs.vfs.data.ranges import FALLOC_FL_KEEP_SIZE
from dfsfs.vfs.filesystem import DOTS
from dfsfs.vfs.names.mapping import AttributeChanges
from tests.shell.dcache import NEVER, PAGE, Dentry, File, Inode, InodeCache, Lock, Stat, Told, in_use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from dfsfs.vfs.data.fileops import OpenResult
    from dfsfs.vfs.filesystem import FileSystem
    from dfsfs.vfs.names.mapping import Attributes

T = TypeVar("T")
P = ParamSpec("P")


def _system_call(
    method: Callable[Concatenate[Kernel, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Kernel, P], Coroutine[Any, Any, T]]:
    """A system call: what it has found on its way stays until it has returned. If that was ESTALE, and it was about
    paths, these are looked up once more without believing anything (LOOKUP_REVAL).
    """

    async def call(self: Kernel, /, *args: P.args, **kwargs: P.kwargs) -> T:
        used: list[Inode] = []
        token = in_use.set(used)
        try:
            return await method(self, *args, **kwargs)
        except OSError as error:
            paths = [arg for arg in args if isinstance(arg, str)]
            if error.errno != errno.ESTALE or not paths:
                raise
            for path in paths:
                self._forget_path(path)
            return await method(self, *args, **kwargs)
        finally:
            in_use.reset(token)
            self._in_use.subtract(used)

    call.__name__ = method.__name__
    return call


class Kernel(InodeCache):
    """See the module's text. `background` runs what a system call does not wait for."""

    def __init__(self, fs: FileSystem, clock: Callable[[], float], background: Callable[..., None]) -> None:
        super().__init__(fs, clock)
        self.files: dict[int, File] = {}
        self._background = background
        self._next_fd = 3

    # -- system calls on names ----------------------------------------------------------------------------------------

    @_system_call
    async def stat(self, path: str) -> Stat:
        return await self._stat(await self._walk(path))

    @_system_call
    async def fstat(self, fd: int) -> Stat:
        return await self._stat(self.files[fd].inode)

    @_system_call
    async def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        folder, name = await self._parent(path)
        if not flags & os.O_CREAT:
            return await self._open_inode(await self._walk(path), flags)
        async with folder.lock.held():
            inode = await self._lookup_locked(folder, name, fresh=bool(flags & os.O_EXCL))
            if inode is None:
                return await self._create(folder, name, flags, mode)
        if flags & os.O_EXCL:
            raise OSError(errno.EEXIST, path)
        return await self._open_inode(inode, flags)

    async def _create(self, folder: Inode, name: str, flags: int, mode: int) -> int:
        version = self._version

        async def create() -> tuple[OpenResult, Told]:
            result, attributes = await self.fs.create(folder.ino, name.encode(), mode, flags)
            return result, self._told(attributes)

        result, told = await self._ask(f"CREATE {name}", create())
        inode = self._linked(folder, name, told, version)
        self._expire(folder)
        return self._opened(inode, result.handle, flags, keep=result.keep_cache, direct=result.direct)

    async def _open_inode(self, inode: Inode, flags: int) -> int:
        if inode.kind == posix.S_IFDIR and flags & (os.O_ACCMODE | os.O_TRUNC):
            raise OSError(errno.EISDIR, "a directory")
        if inode.kind == posix.S_IFLNK:
            raise OSError(errno.ELOOP, "a symbolic link, which is not followed here")
        changes = inode.changes
        result = await self._ask(f"OPEN {inode.ino}", self.fs.open(inode.ino, flags & ~(os.O_CREAT | os.O_EXCL)))
        if flags & os.O_TRUNC:
            self._count_change(inode, changes)
            self._expire(inode)
            self._resize(inode, 0, cuts=True)
        return self._opened(inode, result.handle, flags, keep=result.keep_cache, direct=result.direct)

    def _opened(self, inode: Inode, handle: int, flags: int, *, keep: bool, direct: bool) -> int:
        if not keep:
            inode.page = None
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        self.files[fd] = File(inode, handle, flags, direct)
        return fd

    @_system_call
    async def unlink(self, path: str) -> None:
        await self._remove(path, is_folder=False)

    @_system_call
    async def rmdir(self, path: str) -> None:
        await self._remove(path, is_folder=True)

    async def _remove(self, path: str, *, is_folder: bool) -> None:
        folder, name = await self._parent(path)
        async with folder.lock.held():
            inode = await self._lookup_locked(folder, name)
            if inode is None:
                raise OSError(errno.ENOENT, path)
            if (inode.kind == posix.S_IFDIR) != is_folder:
                raise OSError(errno.ENOTDIR if is_folder else errno.EISDIR, path)
            async with inode.lock.held():
                verb = self.fs.rmdir if is_folder else self.fs.unlink
                try:
                    await self._ask(f"{'RMDIR' if is_folder else 'UNLINK'} {name}", verb(folder.ino, name.encode()))
                except OSError as error:
                    if error.errno == errno.ENOENT:
                        self._dentries.pop((folder.ino, name), None)
                    raise
                self._unlinked(folder, name, inode)

    def _unlinked(self, folder: Inode, name: str, inode: Inode) -> None:
        self._dentries.pop((folder.ino, name), None)
        self._expire(folder)
        self._expire(inode)
        inode.nlink = max(0, inode.nlink - 1) if inode.kind != posix.S_IFDIR else 0

    @_system_call
    async def rename(self, old: str, new: str) -> None:
        folder, old_name = await self._parent(old)
        parent, new_name = await self._parent(new)
        folders = sorted({folder, parent}, key=lambda locked: locked.ino)  # lock_rename: always in the same order
        async with _all_held([locked.lock for locked in folders]):
            await self._rename(folder, old_name, parent, new_name)

    async def _rename(self, folder: Inode, old_name: str, parent: Inode, new_name: str) -> None:
        inode = await self._lookup_locked(folder, old_name)
        if inode is None:
            raise OSError(errno.ENOENT, old_name)
        victim = await self._lookup_locked(parent, new_name, fresh=True)
        if victim is inode:
            return  # vfs_rename: two names of one file
        locked = sorted({inode, victim} - {None}, key=lambda held: held.ino if held is not None else 0)
        async with _all_held([held.lock for held in locked if held is not None and held.kind != posix.S_IFDIR]):
            asked = self.fs.rename(folder.ino, old_name.encode(), parent.ino, new_name.encode(), 0)
            try:
                await self._ask(f"RENAME {old_name} {new_name}", asked)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    self._dentries.pop((folder.ino, old_name), None)
                    self._dentries.pop((parent.ino, new_name), None)
                raise
            dentry = self._dentries.pop((folder.ino, old_name), Dentry(inode, NEVER))
            if victim is not None:
                self._unlinked(parent, new_name, victim)
            self._dentries[parent.ino, new_name] = dentry
            for changed in (folder, parent, inode):
                self._expire(changed)

    @_system_call
    async def link(self, path: str, new: str) -> None:
        inode = await self._walk(path)
        parent, name = await self._parent(new)
        async with parent.lock.held():
            if await self._lookup_locked(parent, name, fresh=True) is not None:
                raise OSError(errno.EEXIST, new)
            async with inode.lock.held():
                version = self._version
                asked = self._telling(self.fs.link(inode.ino, parent.ino, name.encode()))
                self._linked(parent, name, await self._ask(f"LINK {name}", asked), version)
                self._expire(parent)
                self._expire(inode)

    @_system_call
    async def mkdir(self, path: str) -> None:
        await self._make(path, "MKDIR", self.fs.mkdir)

    @_system_call
    async def symlink(self, target: str, path: str) -> None:
        await self._make(path, "SYMLINK", lambda parent, name: self.fs.symlink(parent, name, target.encode()))

    @_system_call
    async def mknod(self, path: str, mode: int) -> None:
        await self._make(path, "MKNOD", lambda parent, name: self.fs.mknod(parent, name, mode))

    async def _make(self, path: str, what: str, verb: Callable[[int, bytes], Awaitable[Attributes]]) -> None:
        folder, name = await self._parent(path)
        async with folder.lock.held():
            if await self._lookup_locked(folder, name, fresh=True) is not None:
                raise OSError(errno.EEXIST, path)
            version = self._version
            told = await self._ask(f"{what} {name}", self._telling(verb(folder.ino, name.encode())))
            self._linked(folder, name, told, version)
            self._expire(folder)

    @_system_call
    async def readlink(self, path: str) -> bytes:
        inode = await self._walk(path)
        return await self._ask(f"READLINK {inode.ino}", self.fs.readlink(inode.ino))

    @_system_call
    async def truncate(self, path: str, size: int) -> None:
        await self._setattr(await self._walk(path), AttributeChanges(size=size), None)

    @_system_call
    async def ftruncate(self, fd: int, size: int) -> None:
        file = self.files[fd]
        await self._setattr(file.inode, AttributeChanges(size=size), file.handle)

    @_system_call
    async def utime(self, path: str, mtime: int) -> None:
        await self._setattr(await self._walk(path), AttributeChanges(atime_ns=mtime, mtime_ns=mtime), None)

    async def _setattr(self, inode: Inode, changes: AttributeChanges, handle: int | None) -> None:
        async with inode.lock.held():
            inode.growing = changes.size is not None
            try:
                asked = self._telling(self.fs.setattr(inode.ino, changes, handle))
                told = await self._ask(f"SETATTR {inode.ino}", asked)
            finally:
                inode.growing = False
            self._take_attributes(inode, told)
            self._resize(inode, told.attributes.size, cuts=changes.size is not None)
            inode.changes += changes.size is not None

    @_system_call
    async def listdir(self, path: str, between: Callable[[], Awaitable[None]] | None = None) -> dict[str, int]:
        """Names and inode numbers. READDIRPLUS; if `between` is given, it is awaited after each four entries."""
        folder = await self._walk(path)
        handle = await self._ask("OPENDIR", self.fs.opendir(folder.ino))
        found: dict[str, int] = {}
        offset = 0
        try:
            while True:
                async with folder.lock.held(shared=True):
                    version = self._version
                    entries = await self._ask("READDIR", self._read_some(handle, offset, 4 if between else 100))
                    for name, told, following in entries:
                        offset = following
                        if name not in DOTS:
                            found[name.decode()] = told.attributes.ino
                            self._entry(folder, name.decode(), told, version)
                if not entries:
                    return found
                if between is not None:
                    await between()
        finally:
            await self.fs.releasedir(handle)

    async def _read_some(self, handle: int, offset: int, count: int) -> list[tuple[bytes, Told, int]]:
        """fuse/operations.py: if it fails, the kernel gets none of the entries, and the lookups are given back."""
        entries: list[tuple[bytes, Told, int]] = []
        stream = self.fs.readdir(handle, offset)
        try:
            async for name, attributes, following in stream:
                entries.append((name, self._told(attributes), following))
                if len(entries) == count:
                    break
        except BaseException:
            for name, told, _ in entries:
                if name not in DOTS:
                    self.fs.forget(told.attributes.ino, 1)
            raise
        finally:
            await stream.aclose()
        return entries

    # -- system calls on open files -----------------------------------------------------------------------------------

    @_system_call
    async def read(self, fd: int, offset: int, size: int) -> bytes:
        file = self.files[fd]
        inode = file.inode
        if file.direct or file.flags & os.O_DIRECT:
            return bytes(await self._ask(f"READ {inode.ino}", self.fs.read(file.handle, offset, size)))
        await self._fresh(inode)
        if offset >= inode.size:
            return b""
        async with inode.page_lock.held():
            if inode.page is None:
                version = self._version
                data = bytes(await self._ask(f"READ {inode.ino}", self.fs.read(file.handle, 0, PAGE)))
                if version >= inode.version and len(data) < inode.size and not inode.growing:
                    self._expire(inode)
                    self._resize(inode, len(data))
                inode.page = data.ljust(PAGE, b"\0")
            return inode.page[offset : min(offset + size, inode.size)]

    @_system_call
    async def write(self, fd: int, data: bytes, offset: int | None = None) -> int:
        """pwrite(2), or write(2) to a file opened with O_APPEND."""
        file = self.files[fd]
        inode = file.inode
        async with inode.lock.held():
            if offset is None or file.flags & os.O_APPEND:
                offset = inode.size
            if file.direct or file.flags & os.O_DIRECT:
                return await self._write(file, offset, data)
            async with inode.page_lock.held():
                if inode.page is None:
                    return await self._write(file, offset, data)
                inode.page = _patched(inode.page, offset, data)
            return await self._write(file, offset, data)

    def _count_change(self, inode: Inode, before: int) -> None:
        """A change of the data has ended; `before`: how many had when it began."""
        inode.unsure = inode.unsure or inode.changes != before
        inode.changes += 1

    async def _write(self, file: File, offset: int, data: bytes) -> int:
        inode = file.inode
        changes = inode.changes
        inode.growing = offset + len(data) > inode.size
        try:
            taken = await self._ask(f"WRITE {inode.ino} at {offset}", self.fs.write(file.handle, offset, data))
        finally:
            inode.growing = False
        self._expire(inode)
        self._count_change(inode, changes)
        inode.size = max(inode.size, offset + taken)
        return taken

    @_system_call
    async def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """fuse_file_fallocate."""
        file, end = self.files[fd], offset + length
        inode, keeps_size = file.inode, bool(mode & FALLOC_FL_KEEP_SIZE)
        async with inode.lock.held():
            changes = inode.changes
            inode.growing = not keeps_size
            try:
                await self._ask(f"FALLOCATE {inode.ino}", self.fs.fallocate(file.handle, mode, offset, length))
            finally:
                inode.growing = False
            if not keeps_size:
                inode.size = max(inode.size, end)
            self._count_change(inode, changes)
            self._expire(inode)
            if mode & ~FALLOC_FL_KEEP_SIZE:
                async with inode.page_lock.held():
                    if inode.page is not None:
                        inode.page = _patched(inode.page, offset, bytes(length))[:PAGE]

    @_system_call
    async def copy_file_range(self, fd_in: int, offset_in: int, fd_out: int, offset_out: int, length: int) -> int:
        """__fuse_copy_file_range, which cuts the range by the size that it knows (generic_copy_file_checks)."""
        source, target = self.files[fd_in], self.files[fd_out]
        length = min(length, source.inode.size - offset_in)
        if length <= 0:
            return 0
        inode = target.inode
        async with inode.lock.held():
            changes = inode.changes
            inode.growing = offset_out + length > inode.size
            try:
                asked = self.fs.copy_file_range(source.handle, offset_in, target.handle, offset_out, length)
                copied = await self._ask(f"COPY_FILE_RANGE {source.inode.ino} {inode.ino}", asked)
            finally:
                inode.growing = False
            async with inode.page_lock.held():
                inode.page = None
            inode.size = max(inode.size, offset_out + copied)
            self._count_change(inode, changes)
            self._expire(inode)
            return copied

    @_system_call
    async def lseek(self, fd: int, offset: int, whence: int) -> int:
        """fuse_lseek, for data and holes."""
        file = self.files[fd]
        async with file.inode.lock.held():
            return await self._ask(f"LSEEK {file.inode.ino}", self.fs.lseek(file.handle, offset, whence))

    @_system_call
    async def fsync(self, fd: int) -> None:
        file = self.files[fd]
        async with file.inode.lock.held():
            await self._ask(f"FSYNC {file.inode.ino}", self.fs.fsync(file.handle))

    @_system_call
    async def close(self, fd: int) -> None:
        file = self.files.pop(fd)
        try:
            await self._ask(f"FLUSH {file.inode.ino}", self.fs.flush(file.handle))
        finally:
            self._background(self.fs.release, file.handle)

    async def drop_caches(self) -> None:
        """The kernel gives up what no program has open."""
        self._dentries.clear()
        kept = {self._root, *(file.inode for file in self.files.values()), *+self._in_use}
        for inode in [inode for inode in self._inodes.values() if inode not in kept]:
            del self._inodes[inode.ino]
            self.fs.forget(inode.ino, inode.lookups)

    def size_of(self, fd: int) -> int | None:
        """i_size, which maps and reads go by whatever the time-out of attributes says; None: see Inode.unsure."""
        inode = self.files[fd].inode
        return None if inode.unsure else inode.size


def _patched(page: bytes, offset: int, data: bytes) -> bytes:
    return page[:offset].ljust(offset, b"\0") + data + page[offset + len(data) :]


@asynccontextmanager
async def _all_held(locks: list[Lock]) -> AsyncIterator[None]:
    if not locks:
        yield
        return
    async with locks[0].held(), _all_held(locks[1:]):
        yield

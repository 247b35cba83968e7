"""A share on a disk whose files have another number at each look: `python -m tests.support.lab.renumbering`.

That is what an SMB server sees of a disk behind a file system in user space (ntfs-3g, exfat, mergerfs on routers and
NAS): the number of a file is that of the kernel's node, and there is a new one when the kernel has forgotten the old.
Here the kernel is never let keep a name, so each lookup makes a number.

    with renumbered(lab.host("fs1"), "extra"):
        ...  # its clients get another file id (MS-FSCC 2.4.22) with each open

The program mounts itself over a folder, its argument, in the namespace of the host, so that only its server sees it,
and ends with it. Everything goes to the folder that it covers. Links and special files are left out.
"""

from __future__ import annotations

import errno
import os
import signal
import stat as posix
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, StatvfsData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyfuse3 import ReaddirToken, RequestContext, SetattrFields

    from tests.support.lab.samba import LabHost

READY = "ready"
TIMEOUT = 10.0
_STATVFS = (*("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax"),)


@contextmanager
def renumbered(host: LabHost, share: str) -> Iterator[Path]:
    """Covers a share that nobody is connected to; gives the folder below, where files have the numbers that last."""
    folder = host.share_path(share)
    assert host.connections() == 0, "a client would go on to use the folder below"
    target = str(min(host.pids()))
    command = ["nsenter", "-t", target, "-m", sys.executable, "-m", "tests.support.lab.renumbering", str(folder)]
    # In the host's mount namespace there is no working directory to find this package in.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == READY, "the file system did not start"
        yield folder
    finally:
        process.terminate()  # it unmounts itself
        try:
            process.wait(TIMEOUT)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _checked(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return call(*arguments, **options)
    except OSError as error:
        raise FUSEError(error.errno or errno.EIO) from None


class Renumbering(pyfuse3.Operations):
    """See the module's text. A number stands for a path; there may be many for one."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, root: str) -> None:
        super().__init__()
        self._paths: dict[int, str] = {pyfuse3.ROOT_INODE: root}
        self._lookups: dict[int, int] = {}
        self._next = pyfuse3.ROOT_INODE + 1
        self._listings: dict[int, list[str]] = {}

    def _below(self, parent: int, name: bytes) -> str:
        return os.path.join(self._path(parent), os.fsdecode(name))

    def _path(self, number: int) -> str:
        if number not in self._paths:
            raise FUSEError(errno.ESTALE)
        return self._paths[number]

    def _new(self, path: str) -> EntryAttributes:
        """Attributes under a number that nothing has had before. Counts a lookup."""
        about = _checked(os.lstat, path)
        number, self._next = self._next, self._next + 1
        self._paths[number], self._lookups[number] = path, 1
        return _attributes(about, number)

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._new(self._below(parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for number, count in inode_list:
            if number in self._lookups:
                self._lookups[number] -= count
                if self._lookups[number] <= 0:
                    del self._lookups[number], self._paths[number]

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return _attributes(_checked(os.stat, self._path(inode)), inode)

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        path = self._path(inode)
        about = _checked(os.stat, path)
        if fields.update_size:
            _checked(os.truncate, path if fh is None else fh, attr.st_size)
        if fields.update_mode:
            _checked(os.chmod, path, posix.S_IMODE(attr.st_mode))
        if fields.update_uid or fields.update_gid:
            uid = attr.st_uid if fields.update_uid else -1
            _checked(os.chown, path, uid, attr.st_gid if fields.update_gid else -1)
        if fields.update_atime or fields.update_mtime:
            accessed = attr.st_atime_ns if fields.update_atime else about.st_atime_ns
            written = attr.st_mtime_ns if fields.update_mtime else about.st_mtime_ns
            _checked(os.utime, path, ns=(accessed, written))
        return await self.getattr(inode, ctx)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        path = self._below(parent_inode, name)
        _checked(os.mkdir, path, mode & ~ctx.umask)
        os.chown(path, ctx.uid, ctx.gid)
        return self._new(path)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        _checked(os.unlink, self._below(parent_inode, name))

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        _checked(os.rmdir, self._below(parent_inode, name))

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        if flags:
            raise FUSEError(errno.EINVAL)
        old, new = self._below(parent_inode_old, name_old), self._below(parent_inode_new, name_new)
        _checked(os.rename, old, new)
        for number, path in self._paths.items():
            if path == old or path.startswith(f"{old}/"):
                self._paths[number] = new + path[len(old) :]

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        handle, self._next = self._next, self._next + 1
        self._listings[handle] = sorted(_checked(os.listdir, self._path(inode)))
        self._paths[handle] = self._path(inode)
        return handle

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        for at, name in enumerate(self._listings[fh][start_id:], start=start_id + 1):
            try:
                entry = self._new(os.path.join(self._paths[fh], name))
            except FUSEError:
                continue
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, at):
                await self.forget([(entry.st_ino, 1)])
                return

    async def releasedir(self, fh: int) -> None:
        del self._listings[fh], self._paths[fh]

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        handle = _checked(os.open, self._path(inode), flags & ~(os.O_CREAT | os.O_EXCL))
        return FileInfo(fh=handle, direct_io=True, keep_cache=False)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        path = self._below(parent_inode, name)
        handle = _checked(os.open, path, flags | os.O_CREAT, mode & ~ctx.umask)
        os.fchown(handle, ctx.uid, ctx.gid)
        return FileInfo(fh=handle, direct_io=True, keep_cache=False), self._new(path)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        data: bytes = _checked(os.pread, fh, size, off)
        return data

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        size: int = _checked(os.pwrite, fh, buf, off)
        return size

    async def flush(self, fh: int) -> None:
        """Nothing is kept."""

    async def fsync(self, fh: int, datasync: bool) -> None:
        _checked(os.fsync, fh)

    async def release(self, fh: int) -> None:
        os.close(fh)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        found, data = os.statvfs(self._path(pyfuse3.ROOT_INODE)), StatvfsData()
        for name in _STATVFS:
            setattr(data, name, getattr(found, name))
        return data

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        value: bytes = _checked(os.getxattr, self._path(inode), name)
        return value

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        _checked(os.setxattr, self._path(inode), name, value)

    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        return [os.fsencode(name) for name in _checked(os.listxattr, self._path(inode))]

    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        _checked(os.removexattr, self._path(inode), name)


def _attributes(about: os.stat_result, number: int) -> EntryAttributes:
    entry = EntryAttributes()
    entry.st_ino, entry.entry_timeout, entry.attr_timeout = number, 0, 0
    for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_blksize"):
        setattr(entry, name, getattr(about, name))
    entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = about.st_atime_ns, about.st_mtime_ns, about.st_ctime_ns
    return entry


async def _serve() -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pyfuse3.main)
            async for _ in signals:
                pyfuse3.terminate()
                return


def main() -> None:
    folder = sys.argv[1]
    below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    pyfuse3.init(
        Renumbering(f"/proc/self/fd/{below}"), folder, {"fsname=renumbering", "allow_other", "default_permissions"}
    )
    print(READY, flush=True)
    try:
        trio.run(_serve)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()

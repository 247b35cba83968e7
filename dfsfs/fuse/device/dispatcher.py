"""Dispatcher: which handler answers a request, with which arguments, and how its result is put into bytes.

A handler gets the request's header where pyfuse3 has a RequestContext: it has the same fields. What no handler is
there for is answered with ENOSYS, by which the kernel knows never to ask again. A request that can't be read is
answered with EIO, and said in the log: the kernel and this do not agree about the version, or it has a bug.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import TYPE_CHECKING, cast

import pyfuse3
import trio

from dfsfs.errors import PosixError
from dfsfs.fuse.abi import replies, requests
from dfsfs.fuse.abi.constants import (
    FOPEN_DIRECT_IO,
    FOPEN_KEEP_CACHE,
    FOPEN_NONSEEKABLE,
    FSYNC_FDATASYNC,
    LK_FLOCK,
    Opcode,
)
from dfsfs.fuse.requestcontext import current_request
from dfsfs.vfs.data.locktable import ByteRangeLock, LockKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyfuse3 import FileInfo, RequestContext, SetattrFields

    from dfsfs.fuse.abi.requests import InHeader
    from dfsfs.fuse.kerneloperations import KernelOperations

    Handler = Callable[["Dispatcher", InHeader, bytes], Awaitable["replies.Buffer"]]

log = logging.getLogger("dfsfs.fuse")

COPY_MAX = 1 << 30
"""Bytes of a copy_file_range(2) that are copied at most: the reply has 32 bits for their number."""
OTHERS_MAY = frozenset(
    {
        *(Opcode.INIT, Opcode.READ, Opcode.WRITE, Opcode.FSYNC, Opcode.RELEASE, Opcode.READDIR, Opcode.READDIRPLUS),
        *(Opcode.FSYNCDIR, Opcode.RELEASEDIR, Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.FLUSH),
    }
)
"""Requests about what is open already: with allow_root, descriptors that were passed on work for all users."""


class Dispatcher:
    """See the module's text. `send` writes a reply. `only_user`: with allow_root, the one user beside root who may use
    the mount; None for all.
    """

    def __init__(
        self,
        operations: KernelOperations,
        send: Callable[[int, replies.Buffer], None],
        send_error: Callable[[int, int], None],
        only_user: int | None = None,
    ) -> None:
        self.operations = operations
        self._send, self._send_error = send, send_error
        self._only_user = only_user

    async def handle(self, header: InHeader, request: memoryview, scope: trio.CancelScope | None = None) -> None:
        """Answers a request, also if this is cancelled. `request`, with the header, is used up when this first waits.
        `scope`: that of the task, which a handler may have taken. Raises nothing else.
        """
        unique, opcode = header.unique, header.opcode
        current_request.set(header)
        try:
            handler = HANDLERS.get(opcode)
            if handler is None:
                self._send_error(unique, errno.ENOSYS)
                return
            if self._only_user is not None and not self._may_use(header):
                self._send_error(unique, errno.EACCES)
                return
            # A view of the buffer for a write, which copies what it needs; else a copy.
            body = request if opcode == _WRITE else bytes(request[requests.HEADER_SIZE :])
            reply = await handler(self, header, cast("bytes", body))
        except pyfuse3.FUSEError as error:
            self._send_error(unique, error.errno)
        except PosixError as error:  # of what was asked for, before a handler is called
            self._send_error(unique, error.errno)
        except requests.MalformedRequest as error:
            log.error("FUSE: a request of the kernel, opcode %d, can't be read: %s", opcode, error)
            self._send_error(unique, errno.EIO)
        except Exception:
            log.exception("FUSE: a request, opcode %d, failed in an unexpected way; the program gets EIO", opcode)
            self._send_error(unique, errno.EIO)
        except trio.Cancelled:
            # A signal that came with the answer to the first question of a handler that has another one. Or
            # the end of the mount. Somebody else may have the device open, as one that was handed in: then the kernel
            # does not end the request, as it does in other cases with the same error.
            self._send_error(unique, errno.EINTR if scope is not None and scope.cancel_called else errno.ECONNABORTED)
            raise
        else:
            self._send(unique, reply)

    async def forget(self, header: InHeader, request: memoryview) -> None:
        """Does FUSE_FORGET and FUSE_BATCH_FORGET, which have no reply. Raises nothing."""
        try:
            body = bytes(request[requests.HEADER_SIZE :])
            if header.opcode == Opcode.FORGET:
                await self.operations.forget(requests.parse_forget(header, body))
            else:
                await self.operations.forget(requests.parse_batch_forget(body))
        except Exception:
            log.exception("FUSE: what the kernel forgets can't be read")

    def _may_use(self, header: InHeader) -> bool:
        return header.uid in (0, self._only_user) or header.opcode in OTHERS_MAY

    # -- names and attributes ---------------------------------------------------------------------------------------

    async def _lookup(self, header: InHeader, body: bytes) -> replies.Buffer:
        entry = await self.operations.lookup(header.nodeid, requests.parse_name(body), _context(header))
        return replies.pack_entry(entry)

    async def _getattr(self, header: InHeader, body: bytes) -> replies.Buffer:
        return replies.pack_attr(await self.operations.getattr(header.nodeid, _context(header)))

    async def _statx(self, header: InHeader, body: bytes) -> replies.Buffer:
        return replies.pack_statx(*await self.operations.statx(header.nodeid, _context(header)))

    async def _setattr(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_setattr(body)
        entry = pyfuse3.EntryAttributes()
        entry.st_size, entry.st_mode, entry.st_uid, entry.st_gid = given.size, given.mode, given.uid, given.gid
        entry.st_atime_ns, entry.st_mtime_ns = given.get_times(time.time_ns)
        fields = cast("SetattrFields", given)
        changed = await self.operations.setattr(header.nodeid, entry, fields, given.handle, _context(header))
        return replies.pack_attr(changed)

    async def _statfs(self, header: InHeader, body: bytes) -> replies.Buffer:
        return replies.pack_statfs(await self.operations.statfs_of(header.nodeid, _context(header)))

    async def _readlink(self, header: InHeader, body: bytes) -> replies.Buffer:
        return await self.operations.readlink(header.nodeid, _context(header))

    # -- making, removing, renaming names ---------------------------------------------------------------------------

    async def _mknod(self, header: InHeader, body: bytes) -> replies.Buffer:
        given, (name,) = requests.parse_mknod(body)
        return replies.pack_entry(
            await self.operations.mknod(header.nodeid, name, given.mode, given.rdev, _context(header))
        )

    async def _mkdir(self, header: InHeader, body: bytes) -> replies.Buffer:
        given, (name,) = requests.parse_mkdir(body)
        return replies.pack_entry(await self.operations.mkdir(header.nodeid, name, given.mode, _context(header)))

    async def _symlink(self, header: InHeader, body: bytes) -> replies.Buffer:
        name, target = requests.parse_names(body, 2)
        return replies.pack_entry(await self.operations.symlink(header.nodeid, name, target, _context(header)))

    async def _link(self, header: InHeader, body: bytes) -> replies.Buffer:
        nodeid, name = requests.parse_link(body)
        return replies.pack_entry(await self.operations.link(nodeid, header.nodeid, name, _context(header)))

    async def _unlink(self, header: InHeader, body: bytes) -> replies.Buffer:
        await self.operations.unlink(header.nodeid, requests.parse_name(body), _context(header))
        return b""

    async def _rmdir(self, header: InHeader, body: bytes) -> replies.Buffer:
        await self.operations.rmdir(header.nodeid, requests.parse_name(body), _context(header))
        return b""

    async def _rename(self, header: InHeader, body: bytes) -> replies.Buffer:
        parse = requests.parse_rename2 if header.opcode == Opcode.RENAME2 else requests.parse_rename
        given, (old, new) = parse(body)
        await self.operations.rename(header.nodeid, old, given.newdir, new, given.flags, _context(header))
        return b""

    # -- files ------------------------------------------------------------------------------------------------------

    async def _open(self, header: InHeader, body: bytes) -> replies.Buffer:
        opened = await self.operations.open(header.nodeid, requests.parse_open(body).flags, _context(header))
        return _pack_open(opened)

    async def _create(self, header: InHeader, body: bytes) -> replies.Buffer:
        given, (name,) = requests.parse_create(body)
        opened, entry = await self.operations.create(header.nodeid, name, given.mode, given.flags, _context(header))
        return replies.pack_entry(entry) + _pack_open(opened)

    async def _read(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_read(body)
        return await self.operations.read(given.fh, given.offset, given.size)

    async def _write(self, header: InHeader, body: bytes) -> replies.Buffer:
        given, data = requests.parse_write(body)
        return replies.FUSE_WRITE_OUT.pack(await self.operations.write(given.fh, given.offset, data), 0)

    async def _flush(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_flush(body)
        await self.operations.flush(given.fh, given.lock_owner)
        return b""

    async def _fsync(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_fsync(body)
        await self.operations.fsync(given.fh, bool(given.fsync_flags & FSYNC_FDATASYNC))
        return b""

    async def _release(self, header: InHeader, body: bytes) -> replies.Buffer:
        await self.operations.release(requests.parse_release(body).fh)
        return b""

    async def _lseek(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_lseek(body)
        return replies.FUSE_LSEEK_OUT.pack(await self.operations.lseek(given.fh, given.offset, given.whence))

    async def _fallocate(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_fallocate(body)
        await self.operations.fallocate(given.fh, given.mode, given.offset, given.length)
        return b""

    async def _copy_file_range(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_copy_file_range(body)
        copied = await self.operations.copy_file_range(
            given.fh_in, given.off_in, given.fh_out, given.off_out, min(given.len, COPY_MAX)
        )
        if header.opcode == Opcode.COPY_FILE_RANGE_64:
            return replies.FUSE_COPY_FILE_RANGE_OUT.pack(copied)
        return replies.FUSE_WRITE_OUT.pack(copied, 0)

    # -- locks ------------------------------------------------------------------------------------------------------

    async def _getlk(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_lk(body)
        if given.lk_flags & LK_FLOCK:
            raise pyfuse3.FUSEError(errno.EINVAL)  # flock(2) has no such call
        lock = _to_lock(given)
        found = await self.operations.getlk(given.fh, given.owner, lock)
        if found is None:
            return replies.FUSE_LK_OUT.pack(lock.start, lock.end, LockKind.UNLOCK, lock.pid)
        return replies.FUSE_LK_OUT.pack(found.start, found.end, found.kind, found.pid)

    async def _setlk(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_lk(body)
        if given.lk_flags & LK_FLOCK:
            await self.operations.flock(given.fh, given.owner, _to_kind(given))
        else:
            await self.operations.setlk(given.fh, given.owner, _to_lock(given))
        return b""

    async def _setlkw(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_lk(body)
        if given.lk_flags & LK_FLOCK:
            await self.operations.flockw(given.fh, given.owner, _to_kind(given))
        else:
            await self.operations.setlkw(given.fh, given.owner, _to_lock(given))
        return b""

    # -- directories ------------------------------------------------------------------------------------------------

    async def _opendir(self, header: InHeader, body: bytes) -> replies.Buffer:
        return replies.FUSE_OPEN_OUT.pack(await self.operations.opendir(header.nodeid, _context(header)), 0, 0)

    async def _readdir(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_read(body)
        return await self._list(given, replies.DirentBuffer(given.size))

    async def _readdirplus(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_read(body)
        return await self._list(given, replies.DirentPlusBuffer(given.size))

    async def _list(
        self, given: requests.ReadIn, buffer: replies.DirentBuffer | replies.DirentPlusBuffer
    ) -> replies.Buffer:
        await self.operations.readdir_into(given.fh, given.offset, buffer)
        return buffer.to_bytes()

    async def _fsyncdir(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_fsync(body)
        await self.operations.fsyncdir(given.fh, bool(given.fsync_flags & FSYNC_FDATASYNC))
        return b""

    async def _releasedir(self, header: InHeader, body: bytes) -> replies.Buffer:
        await self.operations.releasedir(requests.parse_release(body).fh)
        return b""

    # -- extended attributes ----------------------------------------------------------------------------------------

    async def _getxattr(self, header: InHeader, body: bytes) -> replies.Buffer:
        given, (name,) = requests.parse_getxattr(body)
        value = await self.operations.getxattr(header.nodeid, name, _context(header))
        return _fit(value, given.size)

    async def _listxattr(self, header: InHeader, body: bytes) -> replies.Buffer:
        given = requests.parse_listxattr(body)
        names = await self.operations.listxattr(header.nodeid, _context(header))
        return _fit(replies.pack_names(names), given.size)

    async def _setxattr(self, header: InHeader, body: bytes) -> replies.Buffer:
        given, name, value = requests.parse_setxattr(body)
        if given.flags:
            await self._require_xattr(header, name, exists=given.flags == os.XATTR_REPLACE)
        await self.operations.setxattr(header.nodeid, name, value, _context(header))
        return b""

    async def _require_xattr(self, header: InHeader, name: bytes, *, exists: bool) -> None:
        """Checks that there is an attribute, or none, before it is set (setxattr(2)). SMB has no request for both.

        Raises:
            FUSEError: ENODATA, EEXIST, or it can't be found out.
        """
        try:
            await self.operations.getxattr(header.nodeid, name, _context(header))
        except pyfuse3.FUSEError as error:
            if exists or error.errno != errno.ENODATA:
                raise
        else:
            if not exists:
                raise pyfuse3.FUSEError(errno.EEXIST)

    async def _removexattr(self, header: InHeader, body: bytes) -> replies.Buffer:
        await self.operations.removexattr(header.nodeid, requests.parse_name(body), _context(header))
        return b""

    async def _ioctl(self, header: InHeader, body: bytes) -> replies.Buffer:
        raise pyfuse3.FUSEError(errno.ENOTTY)  # as of a file that has none, and not ENOSYS: see ioctl(2)


_WRITE = int(Opcode.WRITE)
HANDLERS: dict[int, Handler] = {
    Opcode.LOOKUP: Dispatcher._lookup,
    Opcode.GETATTR: Dispatcher._getattr,
    Opcode.STATX: Dispatcher._statx,
    Opcode.SETATTR: Dispatcher._setattr,
    Opcode.STATFS: Dispatcher._statfs,
    Opcode.READLINK: Dispatcher._readlink,
    Opcode.MKNOD: Dispatcher._mknod,
    Opcode.MKDIR: Dispatcher._mkdir,
    Opcode.SYMLINK: Dispatcher._symlink,
    Opcode.LINK: Dispatcher._link,
    Opcode.UNLINK: Dispatcher._unlink,
    Opcode.RMDIR: Dispatcher._rmdir,
    Opcode.RENAME: Dispatcher._rename,
    Opcode.RENAME2: Dispatcher._rename,
    Opcode.OPEN: Dispatcher._open,
    Opcode.CREATE: Dispatcher._create,
    Opcode.READ: Dispatcher._read,
    Opcode.WRITE: Dispatcher._write,
    Opcode.FLUSH: Dispatcher._flush,
    Opcode.FSYNC: Dispatcher._fsync,
    Opcode.RELEASE: Dispatcher._release,
    Opcode.LSEEK: Dispatcher._lseek,
    Opcode.FALLOCATE: Dispatcher._fallocate,
    Opcode.COPY_FILE_RANGE: Dispatcher._copy_file_range,
    Opcode.COPY_FILE_RANGE_64: Dispatcher._copy_file_range,
    Opcode.GETLK: Dispatcher._getlk,
    Opcode.SETLK: Dispatcher._setlk,
    Opcode.SETLKW: Dispatcher._setlkw,
    Opcode.OPENDIR: Dispatcher._opendir,
    Opcode.READDIR: Dispatcher._readdir,
    Opcode.READDIRPLUS: Dispatcher._readdirplus,
    Opcode.FSYNCDIR: Dispatcher._fsyncdir,
    Opcode.RELEASEDIR: Dispatcher._releasedir,
    Opcode.GETXATTR: Dispatcher._getxattr,
    Opcode.LISTXATTR: Dispatcher._listxattr,
    Opcode.SETXATTR: Dispatcher._setxattr,
    Opcode.REMOVEXATTR: Dispatcher._removexattr,
    Opcode.IOCTL: Dispatcher._ioctl,
}
"""By opcode."""


def _context(header: InHeader) -> RequestContext:
    """The header as a RequestContext, which can't be made in Python; it has the same fields but for `umask`, which no
    handler here reads.
    """
    return cast("RequestContext", header)


def _pack_open(opened: FileInfo) -> bytes:
    """struct fuse_open_out"""
    flags = (
        (FOPEN_KEEP_CACHE if opened.keep_cache else 0)
        | (FOPEN_DIRECT_IO if opened.direct_io else 0)
        | (FOPEN_NONSEEKABLE if opened.nonseekable else 0)
    )
    return replies.FUSE_OPEN_OUT.pack(opened.fh, flags, 0)


def _to_kind(given: requests.LkIn) -> LockKind:
    try:
        return LockKind(given.type)
    except ValueError:
        raise pyfuse3.FUSEError(errno.EINVAL) from None


def _to_lock(given: requests.LkIn) -> ByteRangeLock:
    """What fcntl(2) is asked for. Raises: PosixError, FUSEError: EINVAL."""
    return ByteRangeLock(_to_kind(given), given.start, given.end, given.pid)


def _fit(value: bytes, size: int) -> replies.Buffer:
    """An extended attribute's value, or its length if `size` is 0. Raises: FUSEError: ERANGE, it is longer."""
    if size == 0:
        return replies.FUSE_GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise pyfuse3.FUSEError(errno.ERANGE)
    return value

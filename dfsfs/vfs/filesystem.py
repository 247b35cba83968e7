"""FileSystem: what a mounted namespace does, as the verbs of POSIX, on inode numbers and names in bytes.

This is all that a FUSE binding needs, and it knows nothing of one: tests drive it without a kernel. It puts the parts
together: lookup.py (inodes and what is known of them), fileops.py (open files), dirops.py (names), attrops.py
(attributes), opendir.py (listings), mapping.py (names and attributes on the wire).

References. `lookup`, `create` and `mkdir` count a lookup of the inode that they return, `readdir` one for each entry
that it yields; `forget` gives them back. A caller that does not pass an entry of `readdir` on gives it back at once.

Every verb raises DfsfsError only; its `errno` is the answer to the program. Verbs wait for servers as long as
`Namespace.run` lets them; a deadline for a whole request is set by the caller, as a cancellation.
"""

from __future__ import annotations

import errno
import os
import stat as posix
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.background import contain
from dfsfs.errors import DfsfsError, PosixError
from dfsfs.smb.wire.reparse import SpecialFile
from dfsfs.vfs.attrops import AttributeOperations
from dfsfs.vfs.data.caching import Caching, NoKernelCache
from dfsfs.vfs.data.fileops import FileOperations, OpenResult
from dfsfs.vfs.data.servercopy import COPY_XATTR, ServerCopy
from dfsfs.vfs.dirops import DirectoryOperations
from dfsfs.vfs.names.inode import FileSystemStatistics, refuse_loop, require_writable
from dfsfs.vfs.names.lookup import Lookup
from dfsfs.vfs.names.opendir import Listing
from dfsfs.vfs.names.snapshots import NAME as SNAPSHOTS
from dfsfs.vfs.names.snapshots import SnapshotListing, Snapshots
from dfsfs.vfs.xattrs import Xattrs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from dfsfs.caller import Caller
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Location
    from dfsfs.smb.wire.fscc import VolumeSize
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.data.caching import KernelCache
    from dfsfs.vfs.names.attrcache import Lifetimes
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.mapping import AttributeChanges, Attributes, NameMapping, Ownership

DOTS = (b".", b"..")
"""The first entries of every listing. The kernel never looks them up, and no lookup of them is counted."""


class FileSystem:
    """See the module's text.

    `root` is where the mount's root is in the namespace.
    """

    def __init__(
        self,
        namespace: Namespace,
        root: Location,
        *,
        names: NameMapping,
        ownership: Ownership,
        lifetimes: Lifetimes,
        clock: Callable[[], float],
        follow_links: bool = True,
        caching: Caching | None = None,
        kernel: KernelCache | None = None,
        mfsymlinks: bool = False,
        many_users: bool = False,
        server_numbers: bool = True,
    ) -> None:
        caching = caching or Caching()
        self._lookup = Lookup(
            namespace,
            root,
            names=names,
            ownership=ownership,
            lifetimes=lifetimes,
            clock=clock,
            follow_links=follow_links,
            many_users=many_users,
            server_numbers=server_numbers,
            trust_leases=caching.trust_leases,
        )
        self._files = FileOperations(self._lookup, kernel or NoKernelCache(), caching)
        self.has_open, self.shrink = self._files.table.has_open, self._files.shrink
        locks = self._files.locks  # filelocks.py
        self.getlk, self.setlk, self.setlkw = locks.getlk, locks.setlk, locks.setlkw
        self.flock, self.flockw, self.release_locks = locks.flock, locks.flockw, locks.release_locks
        self._dirops = DirectoryOperations(self._lookup, self._files, mfsymlinks=mfsymlinks)
        self._attrops = AttributeOperations(self._lookup, self._files, self._is_directory_open)
        self._xattrs = Xattrs(self._lookup, self._files)
        self._snapshots = Snapshots(self._lookup)
        self._server_copy = ServerCopy(self._lookup, self._files)
        self._listings: dict[int, Listing | SnapshotListing] = {}
        self._next_listing = 1

    # -- names and attributes ---------------------------------------------------------------------------------------

    async def lookup(self, parent: int, name: bytes) -> Attributes:
        """Finds a name in a directory. Counts a lookup."""
        directory, wire_name = self._lookup.get_directory(parent), self._to_wire(name)
        refuse_loop(directory)
        if directory.is_snapshot_dir:
            return self._count_lookup(await self._snapshots.look_up(directory, wire_name))
        if wire_name == SNAPSHOTS:
            known = self._lookup.table.child(directory, wire_name)
            if known is not None and known.is_snapshot_dir:
                return self._count_lookup(known)
        await self._files.dirty.write_back_name(directory, wire_name)
        try:
            return self._count_lookup(await self._lookup.look_up(directory, wire_name))
        except DfsfsError as error:
            if (
                error.errno != errno.ESTALE
                and (shared := await self._lookup.others.get(directory, wire_name)) is not None
            ):
                return self._count_lookup(shared)
            if wire_name != SNAPSHOTS or error.errno != errno.ENOENT:
                raise
        return self._count_lookup(await self._snapshots.observe_directory(directory))

    def other_spelling(self, ino: int, parent: int, name: bytes) -> bytes | None:
        """The name of an inode in a directory, if `name`, which leads to it, differs from that in case; else None."""
        inode, directory = self._lookup.table.get(ino), self._lookup.table.get(parent)
        if inode is None or directory is None:
            return None
        known = self._lookup.table.get_exact_name(directory, self._to_wire(name))
        if known == self._to_wire(name) or directory.children.get(known) is not inode:
            return None
        return self._lookup.name_mapping.from_wire(known)

    def lookup_known(self, parent: int, name: bytes) -> Attributes | None:
        """The answer of `lookup` if it can be given at once, else None."""
        lookup = self._lookup
        directory = lookup.table.get(parent)
        if directory is None or not directory.is_directory or directory.is_snapshot_dir or directory.is_loop:
            return None
        wire_name = lookup.name_mapping.to_wire(name)
        if wire_name == SNAPSHOTS:
            return None
        inode = lookup.lookup_cached(directory, wire_name)
        return None if inode is None else self._count_lookup(inode)

    def forget(self, ino: int, count: int) -> None:
        """Gives back `count` lookups."""
        self._lookup.table.forget(ino, count)

    async def getattr(self, ino: int) -> Attributes:
        """The attributes of an inode; a server is asked if those that are known are too old."""
        return self._reply(await self._attrops.refresh(self._lookup.get_inode(ino)))

    def getattr_known(self, ino: int) -> Attributes | None:
        """The answer of `getattr` if it can be given at once, else None."""
        inode = self._lookup.table.get(ino)
        if inode is None or not self._lookup.attributes.is_fresh(inode) or inode.forwarded is not None:
            return None
        if inode.pending_changes and inode.local_writes is not None:
            return None  # it may be about to be closed, and then its server says what it has allocated
        return self._reply(inode)

    async def setattr(self, ino: int, changes: AttributeChanges, handle: int | None = None) -> Attributes:
        """Changes a file's size and times, and its mode and owner as far as SMB has them: see mapping.py.

        Raises:
            PosixError: EBUSY, a DFS link that was not entered yet; EISDIR, the size of a directory.
            DfsfsError: the server's answer.
        """
        await self._attrops.change(self._get_writable_inode(ino), changes, handle)
        return await self.getattr(ino)

    def timeouts(self, ino: int) -> tuple[float, float]:
        """For how many seconds the kernel may keep an inode's name and its attributes."""
        inode = self._lookup.table.get(ino)
        if inode is None or self._lookup.attributes.access.is_needed:
            return 0.0, 0.0  # the kernel would show it to all users
        return self._lookup.attributes.timeouts(inode)

    def negative_timeout(self, parent: int) -> float:
        """For how many seconds the kernel may keep that a name, which was just looked up, is not in a directory."""
        directory, attributes = self._lookup.table.get(parent), self._lookup.attributes
        return 0.0 if directory is None or attributes.access.is_needed else attributes.negative_timeout(directory)

    # -- directories ------------------------------------------------------------------------------------------------

    async def opendir(self, ino: int) -> int:
        """Opens a directory. A DFS link is entered: the open fails if no target can be reached."""
        inode = self._lookup.get_directory(ino)
        refuse_loop(inode)
        if not inode.removed:
            self._lookup.get_location(inode)
        await self._lookup.enter(inode)
        listing = await self._snapshots.open_listing(inode) if inode.is_snapshot_dir else Listing(self._lookup, inode)
        try:
            await listing.begin()
        except BaseException:
            await listing.close()
            raise
        self._lookup.table.hold(inode)
        handle, self._next_listing = self._next_listing, self._next_listing + 1
        self._listings[handle] = listing
        return handle

    async def readdir(self, handle: int, offset: int) -> AsyncGenerator[tuple[bytes, Attributes, int], None]:
        """The entries of an open directory from `offset` on, each with the offset of the next one.

        Counts a lookup of each entry that it yields, but for `.` and `..`, which come first.
        """
        listing = self._get_listing(handle)
        if offset == 0:
            await listing.rewind()
        wanted = listing.limit_entries(offset)
        for name, inode in zip(
            DOTS[offset:], (listing.inode, listing.inode.parent or listing.inode)[offset:], strict=True
        ):
            listing.set_position(offset)
            offset += 1
            yield name, self._reply(inode), offset
        begun = False
        while wanted > 0 and (not begun or listing.is_loaded(offset - len(DOTS))):
            item = await listing.entry(offset - len(DOTS))
            if item is None:
                break
            posix_name, found = item
            listing.set_position(offset)
            offset += 1
            if found is not None:
                wanted, begun = wanted - 1, True
                yield posix_name, self._count_lookup(found), offset
        listing.set_position(offset)

    async def releasedir(self, handle: int) -> None:
        listing = self._listings.pop(handle, None)
        if listing is not None:
            try:
                await listing.close()
            finally:
                self._lookup.table.release(listing.inode)

    # -- names ------------------------------------------------------------------------------------------------------

    async def mkdir(self, parent: int, name: bytes) -> Attributes:
        """Makes a directory; its mode is the mount's. Counts a lookup."""
        return self._count_lookup(await self._dirops.mkdir(self._get_writable_directory(parent), self._to_wire(name)))

    async def mknod(self, parent: int, name: bytes, mode: int, device: tuple[int, int] = (0, 0)) -> Attributes:
        """Makes a file without opening it, or a device, fifo or socket; EEXIST if the name is taken. Counts a lookup.

        Raises:
            PosixError: EPERM, the server can't keep what `mode` asks for.
            DfsfsError: the server's answer.
        """
        kind = posix.S_IFMT(mode)
        if kind not in (0, posix.S_IFREG):
            special = SpecialFile(kind, device=device if kind in (posix.S_IFCHR, posix.S_IFBLK) else (0, 0))
            return await self._make_special(parent, name, special)
        result, attributes = await self.create(parent, name, mode, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            await self.release(result.handle)
        except BaseException:
            self.forget(attributes.ino, 1)
            raise
        return attributes

    async def symlink(self, parent: int, name: bytes, target: bytes) -> Attributes:
        """Makes a symbolic link. Counts a lookup."""
        return await self._make_special(parent, name, self._lookup.name_mapping.link_to_wire(target))

    async def _make_special(self, parent: int, name: bytes, special: SpecialFile) -> Attributes:
        directory = self._get_writable_directory(parent)
        return self._count_lookup(await self._dirops.make_special(directory, self._to_wire(name), special))

    async def readlink(self, ino: int) -> bytes:
        """The target of a symbolic link. Raises: PosixError: EINVAL, it is none."""
        await self.getattr(ino)
        stat = self._lookup.get_inode(ino).stat
        if stat is None or stat.kind != posix.S_IFLNK:
            raise PosixError(errno.EINVAL, f"inode {ino} is no symbolic link")
        return self._lookup.attributes.get_link_target(stat)

    async def link(self, ino: int, parent: int, name: bytes) -> Attributes:
        """Gives a file one more name. Counts a lookup."""
        inode = self._lookup.get_inode(ino)
        await self._dirops.link(inode, self._get_writable_directory(parent), self._to_wire(name))
        await self.getattr(ino)
        return self._count_lookup(inode)

    def is_others(self, parent: int, name: bytes) -> bool:
        """Whether users beside the caller were told of the file that has a name in a directory."""
        return self._lookup.others.have_seen(self._lookup.table.get(parent), self._to_wire(name))

    async def unlink(self, parent: int, name: bytes) -> None:
        await self._dirops.unlink(self._get_writable_directory(parent), self._to_wire(name))

    async def rmdir(self, parent: int, name: bytes) -> None:
        await self._dirops.rmdir(self._get_writable_directory(parent), self._to_wire(name))

    async def rename(self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        """`flags` as in renameat2(2)."""
        before, after = self._get_writable_directory(old_parent), self._get_writable_directory(new_parent)
        await self._dirops.rename(before, self._to_wire(old_name), after, self._to_wire(new_name), flags)

    # -- files ------------------------------------------------------------------------------------------------------

    async def open(self, ino: int, flags: int, process: int = 0) -> OpenResult:
        """`flags` as in open(2); `process`: the id of the process that opens it, 0 if that is not known."""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            self._get_writable_inode(ino)
        return await self._files.open(ino, flags, process)

    async def create(self, parent: int, name: bytes, mode: int, flags: int) -> tuple[OpenResult, Attributes]:
        """Makes and opens a file. Counts a lookup."""
        result, inode = await self._files.create(self._get_writable_directory(parent), self._to_wire(name), mode, flags)
        return result, self._count_lookup(inode)

    async def read(self, handle: int, offset: int, size: int) -> Buffer:
        return await self._files.data.read(handle, offset, size)

    async def write(self, handle: int, offset: int, data: Buffer) -> int:
        return await self._files.data.write(handle, offset, data)

    async def flush(self, handle: int, lock_owner: int | None = None) -> None:
        """close(2) of a descriptor. `lock_owner`, if given, lets go of its byte ranges, also if what was written can't
        be sent: the descriptor ends all the same.
        """
        try:
            await self._files.data.flush(handle)
        finally:
            if lock_owner is not None:
                await self.release_locks(handle, lock_owner)

    async def fsync(self, handle: int) -> None:
        await self._files.data.fsync(handle)

    async def release(self, handle: int) -> None:
        """The end of an open file description, and of all locks that were got through the handle."""
        await self._files.release(handle)

    async def serve(self) -> None:
        """Runs the background tasks, until it is cancelled."""
        await self._files.serve()

    @property
    def owner(self) -> int:
        """The uid that all files belong to."""
        return self._lookup.attributes.ownership.uid

    # -- parts of files: data/ranges.py and rangecopy.py ------------------------------------------------------------

    async def lseek(self, handle: int, offset: int, whence: int) -> int:
        """The offset of the next data or hole, for the `whence` SEEK_DATA or SEEK_HOLE of lseek(2); ENXIO as there."""
        return await self._files.ranges.seek(handle, offset, whence)

    async def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """`mode` as in fallocate(2): allocates, punches a hole or zeroes a range; EOPNOTSUPP for any other."""
        await self._files.ranges.allocate(handle, mode, offset, length)

    async def copy_file_range(
        self, handle_in: int, offset_in: int, handle_out: int, offset_out: int, length: int
    ) -> int:
        """Has the server copy; how many bytes it has copied, which may be fewer. EXDEV: it can't do that."""
        return await self._files.copies.copy_by_handle(handle_in, offset_in, handle_out, offset_out, length)

    # -- extended attributes ----------------------------------------------------------------------------------------

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        """See xattrs.py for this and the others."""
        return await self._xattrs.get(self._lookup.get_inode(ino), name)

    async def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        inode = self._get_writable_inode(ino)
        if name == COPY_XATTR:
            await self._server_copy.copy(inode, value)
            return
        await self._files.dirty.write_back(inode)
        await self._xattrs.set(inode, name, value)

    async def removexattr(self, ino: int, name: bytes) -> None:
        await self._xattrs.remove(self._get_writable_inode(ino), name)

    async def listxattr(self, ino: int) -> list[bytes]:
        return await self._xattrs.list(self._lookup.get_inode(ino))

    # -- the whole --------------------------------------------------------------------------------------------------

    async def statfs(self, ino: int) -> VolumeSize:
        """Size and free space of the share that an inode is on. A DFS link is entered: it fails as `opendir` does."""
        return await self._lookup.query_volume_size(self._lookup.get_inode(ino))

    async def close(self) -> None:
        """Closes files and directories that the kernel has left open."""
        async with trio.open_nursery() as nursery:
            for handle in list(self._listings):
                nursery.start_soon(contain, "closing", partial(self.releasedir, handle))
            nursery.start_soon(contain, "closing", self._lookup.readers.close)
            await self._files.close_all()

    def wire_names(self, names: Iterable[str]) -> list[str]:
        """Names of files as they are on the wire. Raises: PosixError: as NameMapping.to_wire."""
        return [self._to_wire(os.fsencode(name)) for name in names]

    def set_lifetimes(self, lifetimes: Lifetimes) -> None:
        """Sets for how long attributes and names are believed from now on."""
        self._lookup.attributes.set_lifetimes(lifetimes)

    async def write_back_user(self, uid: int) -> None:
        """Waits until all that a user has written is on its server. Errors are raised by the close of the file."""
        await self._files.dirty.write_back_user(uid)

    def opener(self, ino: int) -> Caller | None:
        """A user who has a file or directory open; None if none has."""
        inode = self._lookup.table.get(ino)
        listings = (listing.user for listing in self._listings.values() if listing.inode is inode)
        return None if inode is None else self._files.table.get_opener(inode) or next(listings, None)

    @property
    def open_files(self) -> int:
        """How many files programs have open."""
        return self._files.table.count

    @property
    def open_folders(self) -> int:
        """How many directories programs have open."""
        return len(self._listings)

    @property
    def known_inodes(self) -> int:
        """How many inodes are in the table."""
        return len(self._lookup.table)

    def statistics(self) -> FileSystemStatistics:
        locks = self._files.locks.statistics()
        return FileSystemStatistics(
            inodes=self._lookup.table.statistics(),
            open_files=self._files.table.count,
            open_directories=len(self._listings),
            locks=locks.ranges,
            lock_waiters=locks.waiters,
        )

    def check_invariants(self) -> None:
        """Asserts the invariants of the inode table and of the locks. For tests."""
        self._lookup.table.check_invariants()
        self._files.locks.check_invariants()

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _get_writable_inode(self, ino: int) -> Inode:
        """Raises: PosixError: EROFS, the inode is in a snapshot; ESTALE, there is none."""
        return require_writable(self._lookup.get_inode(ino))

    def _get_writable_directory(self, ino: int) -> Inode:
        """Raises: PosixError: EROFS, the directory is in a snapshot; ESTALE, there is none; ENOTDIR, it is a file."""
        return require_writable(self._lookup.get_directory(ino))

    def _to_wire(self, name: bytes) -> str:
        return self._lookup.name_mapping.to_wire(name)

    def _count_lookup(self, inode: Inode) -> Attributes:
        self._lookup.table.count_lookup(inode)
        return self._reply(inode)

    def _reply(self, inode: Inode) -> Attributes:
        """An inode's attributes as they are known, in a reply to the kernel."""
        attributes = self._lookup.attributes.get(inode)
        self._files.local.note_reply(inode, attributes)
        return attributes

    def _is_directory_open(self, directory: Inode) -> bool:
        """Whether a program has a directory open."""
        return directory.is_directory and any(listing.inode is directory for listing in self._listings.values())

    def _get_listing(self, handle: int) -> Listing | SnapshotListing:
        listing = self._listings.get(handle)
        if listing is None:
            raise PosixError(errno.EBADF, f"there is no open directory {handle}")
        return listing

"""Inode: what is known of one file, folder or DFS link of a mount. What inodes are, and what may be done with them, is
in inodetable.py; by which rule something is known, in ordering.py.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.caller import ROOT as ROOT_USER
from dfsfs.errors import PosixError

if TYPE_CHECKING:
    from dfsfs.caller import Caller
    from dfsfs.namespace.junction import Location
    from dfsfs.smb.connection.leases import Lease
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.dircache import CachedDirectory, LookupRate
    from dfsfs.vfs.names.ordering import ChangedNames, LocalWrites

ROOT = 1
"""The root's number, fixed by FUSE."""
NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Inode:
    """A file, folder or DFS link of the mount. Only InodeTable changes the fields of the first group."""

    ino: int
    name: str
    """As on the wire."""
    is_directory: bool
    parent: Inode | None = None
    hard_links: tuple[tuple[Inode, str], ...] = ()
    """Other folders and names that the file is in: hard links."""
    anchor: Location | None = None
    """The root's or the link's own location."""
    share: UncPath | None = None
    """The share that `file_id` belongs to."""
    file_id: int = 0
    lookups: int = 0
    open_count: int = 0
    children: dict[str, Inode] = field(default_factory=dict)
    """By their exact names, but for those that sleep."""
    packed_children: int = 0
    """How many inodes in it sleep: see packedinodes.py."""
    spellings: dict[str, str] | None = None
    """Of a directory: other spellings of names in it, as far as its server has said where they lead."""
    detached: bool = False
    removed: bool = False
    """Whether a program of this computer has removed it, or put another file in its place: so the kernel knows, too."""
    detached_from: tuple[Inode, str] | None = None
    """Where a detached inode was."""
    forwarded: Inode | None = None
    """The file that a program got which has opened this one by a name that was another file's by then."""
    is_loop: bool = False
    """Whether it is a directory that is above itself."""
    hidden: tuple[Inode, str] | None = None
    """Removed here by `remover` while it was open: still on the server, under a name that nobody is shown."""
    remover: Caller = ROOT_USER
    access_cache: dict[int, float] | None = None
    """In a mount of many users: until when each of them may be told what is known of it. See access.py."""

    is_snapshot_dir: bool = False
    """The folder `.snapshots`, which no server has: in it are the previous versions of the folder that it is in."""
    stat: FileStat | None = None
    """What the server said last. Of a link: what its folder's listing said, if that is known."""
    expires: float = NEVER
    """Until when `stat` may be believed, in seconds of the file system's clock."""
    name_revalidated: float = NEVER
    """When a server last said that the name is there. A lease covers the file, but not every server lets it cover the
    name: Samba 4.17 lets others remove and replace the file without a word."""
    asked: int = 0
    """The moment at which `stat` was asked for."""
    pending_changes: int = 0
    """How many changes made here are under way: ordering.py has the rule."""
    changed_at: int = 0
    """The moment at which the last of them began or ended, or something else made what is known doubtful."""
    change_count: int = 0
    """How many changes were made here."""
    changed_names: ChangedNames | None = None
    """Of a directory: which names in it were changed here."""
    page_cache_stamp: tuple[int, int] | None = None
    """Size and last write time of the file when the kernel began to keep its data."""
    cached_directory: CachedDirectory | None = None
    """What a folder's last listing said: see dircache.py."""
    lookup_rate: LookupRate | None = None
    """How much names of a folder are asked for."""
    lease: Lease | None = None
    """What the server has promised to say before others change the file: see caching.py."""
    page_cache_lease: Lease | None = None
    """The lease that has covered all data which the kernel has of the file, without a break."""
    read_without_lease: bool = False
    """Whether the kernel has read data while no lease covered it, though there is one."""
    lease_breaks: int = 0
    """How often the lease's READ was lost."""
    writers: int = 0
    """Handles that may write."""
    time_was_set: bool = False
    """Whether this mount has set its times: Samba then keeps them, whatever is written, while any handle is open."""
    had_hard_links: bool = False
    """Whether it had several names when it was in memory before. Listings, which do not say, are no proof of one."""
    local_writes: LocalWrites | None = None
    """What this mount's writes have made of a file that is open for writing here."""
    kernel_size: int = -1
    """The size that the kernel believes in, as far as can be told from what it was told."""

    @property
    def is_reparse_point(self) -> bool:
        """Whether the server has it as a reparse point that it does not follow: a symbolic link, a device and so on."""
        return self.stat is not None and self.stat.special is not None and bool(self.stat.reparse_tag)

    @property
    def is_link(self) -> bool:
        """Whether this is a DFS link."""
        return self.anchor is not None and self.parent is not None

    @property
    def is_in_snapshot(self) -> bool:
        """Whether this is, or is in, a snapshot: nothing can be changed there."""
        location = self.location
        return self.is_snapshot_dir or (location is not None and location.moment is not None)

    @property
    def has_read_lease(self) -> bool:
        """Whether the server says so before somebody else changes the file, and nobody here writes to it.

        While it is written to, a server may go on to change its times for seconds.
        """
        return self.lease is not None and self.lease.is_shared and not self.writers

    def has_changed_since(self, asked: int) -> bool:
        """Whether an answer that was asked for at that moment may not know of a change made here."""
        return self.pending_changes > 0 or self.changed_at > asked

    @property
    def is_exclusive(self) -> bool:
        """Whether the server says so before somebody else opens the file."""
        return self.lease is not None and self.lease.is_exclusive

    @property
    def dentries(self) -> tuple[tuple[Inode, str], ...]:
        """All folders and names that the inode is known by; none of the root and of what is detached."""
        return () if self.parent is None else ((self.parent, self.name), *self.hard_links)

    def is_silly_name(self, folder: Inode, name: str) -> bool:
        """Whether this is the name that the inode has after it was removed here."""
        return self.hidden is not None and self.hidden == (folder, name)

    @property
    def location(self) -> Location | None:
        """Where the inode is now, or None if it or one above it is detached."""
        names: list[str] = []
        inode: Inode | None = self
        while inode is not None and not inode.detached:
            if inode.anchor is not None:
                location = inode.anchor
                for name in reversed(names):
                    location = location.child(name)
                return location if inode._is_attached() else None
            names.append(inode.name)
            inode = inode.parent
        return None

    @property
    def name_location(self) -> Location | None:
        """Where the inode's name is. For a link that is in the folder that has the link; None for the root."""
        if self.parent is None or self.detached:
            return None
        location = self.parent.location
        return None if location is None else location.child(self.name)

    def _is_attached(self) -> bool:
        inode: Inode | None = self
        while inode is not None:
            if inode.detached:
                return False
            inode = inode.parent
        return True


def refuse_loop(folder: Inode) -> None:
    """Raises: PosixError: ELOOP, the folder is below itself."""
    if folder.is_loop:
        raise PosixError(errno.ELOOP, f"{folder.name} is a directory that it is in")


def require_writable(inode: Inode) -> Inode:
    """The inode, which may be changed. Raises: PosixError: EROFS, it is in a snapshot."""
    if inode.is_in_snapshot:
        raise PosixError(errno.EROFS, f"{inode.name} is in a snapshot")
    return inode


@dataclass(frozen=True, slots=True)
class InodeStatistics:
    """A snapshot of a InodeTable."""

    inodes: int
    links: int
    detached: int
    lookups: int
    packed: int = 0
    """How many of `inodes` sleep: see packedinodes.py."""


@dataclass(frozen=True, slots=True)
class FileSystemStatistics:
    """A snapshot of a file system."""

    inodes: InodeStatistics
    open_files: int
    open_directories: int

"""Inode: what is known of one file, directory or DFS link of a mount.

The module of each field's owner is in OWNERS; no other module assigns it. What several modules need to do to an inode
is a method here: its dentries (a directory and a name in it) change with the directory's `children`, and attributes are
expired by any module that learns that they may be wrong. tests/unit/vfs/test_inode_owners.py reads this from the
source.

State that few inodes have is in parts of its own, which are made when they are first needed: ListingState and
PageCacheState. 100,000 files that the kernel knows are 100,000 inodes, so a field here costs 0.8 MB.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from dfsfs.errors import PosixError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfsfs.caller import Caller
    from dfsfs.namespace.junction import Junction, Location
    from dfsfs.smb.connection.leases import Lease
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.dircache import CachedDirectory
    from dfsfs.vfs.names.lookuprate import LookupRate
    from dfsfs.vfs.names.ordering import ChangedNames, LocalWrites

ROOT = 1
"""The inode number of the root, which FUSE fixes."""
NO_SIZE = -1
"""Inode.kernel_size while the kernel has none."""
NEVER = float("-inf")
"""A time, in seconds of the file system's clock, that is always over."""

OWNERS: Final[Mapping[str, str]] = {
    "ino": "names.inodetable",
    "name": "names.inodetable",
    "is_directory": "names.inodetable",
    "parent": "names.inodetable",
    "hard_links": "names.inodetable",
    "detached": "names.inodetable",
    "detached_from": "names.inodetable",
    "anchor": "names.inodetable",
    "share": "names.inodetable",
    "file_id": "names.inodetable",
    "had_hard_links": "names.inodetable",
    "is_loop": "names.inodetable",
    "is_snapshot_dir": "names.inodetable",
    "removed": "names.inodetable",
    "pending_changes": "names.inodetable",
    "changed_at": "names.inodetable",
    "change_count": "names.inodetable",
    "changed_names": "names.inodetable",
    "lookups": "names.inodestore",
    "has_moved": "names.inodestore",
    "open_count": "names.inodestore",
    "children": "names.inodestore",
    "packed_children": "names.inodestore",
    "spellings": "names.inodestore",
    "stat": "names.attrcache",
    "expires": "names.attrcache",
    "name_revalidated": "names.attrcache",
    "asked": "names.attrcache",
    "access_cache": "names.access",
    "listing": "names.dircache",
    "page_cache": "data.caching",
    "kernel_size": "data.localattrs",
    "writers": "data.fileops",
    "forwarded": "data.fileops",
    "local_writes": "data.localattrs",
    "time_was_set": "data.localattrs",
    "silly": "sillyrename",
}
"""The module below dfsfs.vfs that assigns each field of an Inode, beside the Inode's own methods."""


@dataclass(slots=True, eq=False)
class ListingState:
    """What is cached of a directory's listing. Owned by names.dircache."""

    cached: CachedDirectory | None = None
    """What is believed of its last listing."""
    lookup_rate: LookupRate | None = None
    """How many names in it are looked up one by one."""


@dataclass(slots=True, eq=False)
class PageCacheState:
    """What is known of the data that the kernel caches of a file, and the lease on it. Owned by data.caching."""

    lease: Lease | None = None
    """The lease that the file was opened with last: the server breaks it before it lets others change the file."""
    stamp: tuple[int, int] | None = None
    """Size in bytes, and last write time in ns, of the file at the open from which on the kernel has kept its data."""
    data_lease: Lease | None = None
    """The lease that has covered all data in the page cache without a break."""
    read_without_lease: bool = False
    """Whether the kernel has read data while the lease had no READ."""
    breaks: int = 0
    """How often READ of the lease was lost, or something else has shown that the data may be wrong."""

    def forget_stamp(self) -> None:
        """Size and time say nothing of the data any more: the next open drops it, unless a lease has covered it."""
        if self.stamp is not None:
            self.stamp = None

    def distrust(self) -> None:
        """The data in the page cache is not covered by a lease any more."""
        self.breaks += 1
        self.data_lease = None


class _UnusedPageCache(PageCacheState):
    """Stands for the PageCacheState of an inode that has none, so that readers need not ask whether there is one."""

    __slots__ = ()

    def __init__(self) -> None:
        unused = PageCacheState()
        for each in fields(unused):
            object.__setattr__(self, each.name, getattr(unused, each.name))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of the shared page cache state can't be set: see Inode.use_page_cache")


NO_PAGE_CACHE: Final[PageCacheState] = _UnusedPageCache()


class _NoChildren(dict[str, "Inode"]):
    """The children of all that is no directory. An empty dict for each would take 64 bytes of each file."""

    __slots__ = ()

    def __setitem__(self, name: str, inode: Inode) -> None:
        raise TypeError(f"{name} can't be in what is no directory")


NO_CHILDREN: Final[dict[str, Inode]] = _NoChildren()


@dataclass(frozen=True, slots=True)
class SillyName:
    """The name that an open file has on its server since it was removed here: see sillyrename.py."""

    directory: Inode
    name: str
    remover: Caller
    """Who has removed it, and so removes this name at the last close."""


@dataclass(slots=True, eq=False)
class Inode:
    """A file, directory or DFS link of a mount."""

    # -- identity, and the dentries that it is known by
    ino: int
    name: str
    """Its name in `parent`, as on the wire."""
    is_directory: bool
    parent: Inode | None = None
    """The directory that it is in; None for the root and for what is detached."""
    hard_links: tuple[tuple[Inode, str], ...] = ()
    """Further dentries of the same file, each a directory and a name in it."""
    detached: bool = False
    """Whether it has no dentry any more: all were removed, or are other files' now."""
    detached_from: tuple[Inode, str] | None = None
    """The last dentry of a detached inode."""
    anchor: Location | None = None
    """The location that the root, a DFS link or a snapshot stands for; others have theirs below an anchor."""
    share: UncPath | None = None
    """The share that `file_id` belongs to."""
    file_id: int = 0
    """The server's file id; 0: none is known, or ids of that share are not used."""
    had_hard_links: bool = False
    """Whether it had several names when it was last in memory: listings, which do not say, are no proof of one."""
    is_loop: bool = False
    """Whether it is a directory that is also one of those above it."""
    is_snapshot_dir: bool = False
    """Whether it is the directory `.snapshots`, which no server has: it holds the snapshots of its parent."""
    removed: bool = False
    """Whether a program of this computer has removed its last name, or replaced it by another file's."""

    # -- changes made by this mount: ordering.py
    pending_changes: int = 0
    """Changes that have begun and not ended."""
    changed_at: int = 0
    """The version (InodeTable.version) at which a change last began or ended, or what is known was invalidated."""
    change_count: int = 0
    """Changes that have begun, ever."""
    changed_names: ChangedNames | None = None
    """Of a directory: the names in it that were changed."""

    # -- references, and what is in a directory
    lookups: int = 0
    """The kernel's references: FUSE's nlookup."""
    open_count: int = 0
    """What else holds the inode: open files and directories, operations that must find it again."""
    children: dict[str, Inode] = field(init=False)
    """Of a directory: the inodes in it by their exact names, but for those that are packed."""
    packed_children: int = 0
    """How many inodes in it are packed: see packedinodes.py."""
    spellings: dict[str, str] | None = None
    """Of a directory: other spellings that its server has led to names in it, each with that name."""

    # -- attributes, as servers have told them
    stat: FileStat | None = None
    """What a server said last. Of a DFS link that was not entered: what the listing of its directory said, if known."""
    expires: float = NEVER
    """Until when `stat` is believed, in seconds of the file system's clock."""
    name_revalidated: float = NEVER
    """When a server last said that the name is there, in seconds of the file system's clock. A lease covers the file,
    but not its name: Samba 4.17 lets others remove and replace a leased file without a break."""
    asked: int = 0
    """The version at which `stat` was asked for."""
    access_cache: dict[int, float] | None = None
    """With `multiuser`: until when each user, by uid, may be shown what is cached: see access.py."""
    listing: ListingState | None = None

    # -- the kernel's caches, and open files
    page_cache: PageCacheState = NO_PAGE_CACHE
    kernel_size: int = NO_SIZE
    """The size in bytes that the kernel believes in, as far as its requests and our replies tell; NO_SIZE: none yet."""
    writers: int = 0
    """Open files that may write."""
    has_moved: bool = False
    """Whether it has got another name while the kernel knew it: by which of them a program asks is not known."""
    forwarded: Inode | None = None
    """The file that was opened instead of this one, as it had taken over the name by then: see staleopens.py."""
    local_writes: LocalWrites | None = None
    """What this mount has made of a file that it has open for writing."""
    time_was_set: bool = False
    """Whether this mount has set its times. Samba then keeps them, whatever is written, while any handle is open."""
    silly: SillyName | None = None
    """Its hidden name, if it was removed here while it was open."""

    def __post_init__(self) -> None:
        self.children = {} if self.is_directory else NO_CHILDREN

    # -- dentries -----------------------------------------------------------------------------------------------------

    @property
    def dentries(self) -> tuple[tuple[Inode, str], ...]:
        """All directories and names that the inode is known by; none of the root and of what is detached."""
        return () if self.parent is None else ((self.parent, self.name), *self.hard_links)

    def is_silly_name(self, directory: Inode, name: str) -> bool:
        """Whether a dentry is the hidden name that the inode has since it was removed here."""
        return self.silly is not None and self.silly.directory is directory and self.silly.name == name

    def attach(self, directory: Inode, name: str) -> None:
        """Gives the inode one more dentry. One that was detached is there again."""
        self.has_moved = bool(self.lookups)
        if self.parent is None:
            self.parent, self.name, self.detached, self.removed, self.forwarded = directory, name, False, False, None
        else:
            self.hard_links = (*self.hard_links, (directory, name))
        directory.children[name] = self

    def move(self, old: tuple[Inode, str], directory: Inode, name: str) -> None:
        """Replaces one dentry by another."""
        del old[0].children[old[1]]
        directory.children[name] = self
        if self.is_silly_name(*old):
            assert self.silly is not None
            self.silly = SillyName(directory, name, self.silly.remover)
        if (self.parent, self.name) == old:
            self.parent, self.name = directory, name
        else:
            self.hard_links = (*(other for other in self.hard_links if other != old), (directory, name))

    def detach_from(self, directory: Inode, name: str) -> None:
        """Takes a dentry away; with the last one the inode is detached."""
        del directory.children[name]
        if (self.parent, self.name) != (directory, name):
            self.hard_links = tuple(other for other in self.hard_links if other != (directory, name))
        elif self.hard_links:
            (self.parent, self.name), *rest = self.hard_links
            self.hard_links = tuple(rest)
        else:
            self.detached, self.parent, self.detached_from = True, None, (directory, name)

    def drop(self) -> None:
        """Takes all dentries away: the inode leaves memory."""
        for directory, name in self.dentries:
            del directory.children[name]
        if self.parent is not None:
            self.parent, self.hard_links, self.detached = None, (), True

    def take_silly_name(self) -> SillyName | None:
        """The hidden name, which is the inode's no more: who takes it removes it."""
        silly, self.silly = self.silly, None
        return silly

    # -- what is cached -----------------------------------------------------------------------------------------------

    def expire_attributes(self) -> None:
        """What is known of the attributes is asked for before it is used again."""
        self.expires = NEVER

    def forget_attributes(self) -> None:
        """Nothing is known of the attributes any more: it stands for something else now."""
        self.stat, self.expires = None, NEVER

    def use_page_cache(self) -> PageCacheState:
        """The PageCacheState, to be changed by its owner."""
        if self.page_cache is NO_PAGE_CACHE:
            self.page_cache = PageCacheState()
        return self.page_cache

    def use_listing(self) -> ListingState:
        """The ListingState, to be changed by its owner."""
        if self.listing is None:
            self.listing = ListingState()
        return self.listing

    def has_changed_since(self, asked: int) -> bool:
        """Whether what was asked for at a version may not know of a change made here."""
        return self.pending_changes > 0 or self.changed_at > asked

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def is_reparse_point(self) -> bool:
        """Whether the server has it as a reparse point that it does not follow: a symbolic link, a device and so on."""
        return self.stat is not None and self.stat.special is not None and bool(self.stat.reparse_tag)

    @property
    def is_link(self) -> bool:
        """Whether this is a DFS link, or a snapshot, which leads to another place like one."""
        return self.anchor is not None and self.parent is not None

    @property
    def is_in_snapshot(self) -> bool:
        """Whether this is a snapshot, in one, or the directory of snapshots: nothing can be changed there."""
        location = self.location
        return self.is_snapshot_dir or (location is not None and location.snapshot_time is not None)

    @property
    def lease(self) -> Lease | None:
        """The lease that the file was opened with last."""
        return self.page_cache.lease

    @property
    def cached_directory(self) -> CachedDirectory | None:
        """Of a directory: its last listing, if that is cached as a whole."""
        cached = None if self.listing is None else self.listing.cached
        return cached if cached is not None and cached.complete else None

    @property
    def has_read_lease(self) -> bool:
        """Whether the server breaks a lease before others change the file, and no handle of this mount writes.

        While one writes, a server may go on to change the times for seconds.
        """
        lease = self.page_cache.lease
        return lease is not None and lease.is_shared and not self.writers

    @property
    def is_exclusive(self) -> bool:
        """Whether the server breaks a lease before others open the file."""
        lease = self.page_cache.lease
        return lease is not None and lease.is_exclusive

    @property
    def location(self) -> Location | None:
        """Where the inode is now, or None if it or one above it is detached."""
        names: list[str] = []
        inode: Inode | None = self
        while inode is not None and not inode.detached:
            anchor = inode.anchor
            if anchor is not None:
                if not inode._is_attached():
                    return None
                if not names:
                    return anchor
                return anchor.below(reversed(names))
            names.append(inode.name)
            inode = inode.parent
        return None

    @property
    def junction(self) -> Junction | None:
        """That of `location`, which takes less than that."""
        inode: Inode | None = self
        while inode is not None and not inode.detached:
            if inode.anchor is not None:
                return inode.anchor.junction if inode._is_attached() else None
            inode = inode.parent
        return None

    @property
    def name_location(self) -> Location | None:
        """Where the inode's name is: of a DFS link in the directory that has the link. None for the root."""
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


def refuse_loop(directory: Inode) -> None:
    """Raises: PosixError: ELOOP, the directory is also above itself."""
    if directory.is_loop:
        raise PosixError(errno.ELOOP, f"{directory.name} is a directory that it is in")


def require_writable(inode: Inode) -> Inode:
    """Returns the inode. Raises: PosixError: EROFS, it is in a snapshot."""
    if inode.is_in_snapshot:
        raise PosixError(errno.EROFS, f"{inode.name} is in a snapshot")
    return inode


@dataclass(frozen=True, slots=True)
class InodeStatistics:
    """Counts of an InodeTable."""

    inodes: int
    links: int
    detached: int
    lookups: int
    packed: int = 0
    """How many of `inodes` are packed: see packedinodes.py."""


@dataclass(frozen=True, slots=True)
class FileSystemStatistics:
    """Counts of a FileSystem."""

    inodes: InodeStatistics
    open_files: int
    open_directories: int
    locks: int = 0
    """Byte ranges and files that programs have locked."""
    lock_waiters: int = 0
    """Requests for locks that wait."""

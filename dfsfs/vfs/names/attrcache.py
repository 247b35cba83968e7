"""AttributeCache: what is known of the inodes of a mount, and for how long it is believed. It asks no server.

What a server says of an inode goes through `update`, which holds to the rule of ordering.py. Changes of names that are
made here go through `changing_name` and `creating_name`: look-ups of such a name wait until they have ended.

Concurrency: nothing here waits, but for `wait_for_name_change`.
"""

from __future__ import annotations

import errno
import math
import stat as posix
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from dfsfs.caller import current_caller
from dfsfs.errors import PosixError
from dfsfs.vfs.names.access import AccessCache
from dfsfs.vfs.names.dircache import CachedDirectory, DirCache
from dfsfs.vfs.names.inodetable import NEVER, ROOT, Inode, InodeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dfsfs.namespace.junction import Location
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.names.mapping import Attributes, NameMapping, Ownership
    from dfsfs.vfs.names.ordering import LocalWrites

ALLOCATION_UNIT = 4096
"""Bytes in which a file is taken to get its room on the server, until that says more: ext4's and NTFS's default."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how many seconds attributes and names are believed: of files (acregmax), and of directories and DFS links
    (acdirmax).
    """

    files: float = 1.0
    directories: float = 1.0


class AttributeCache:
    """See the module's text. The arguments are those of Lookup."""

    def __init__(
        self,
        root: Location,
        *,
        names: NameMapping,
        ownership: Ownership,
        lifetimes: Lifetimes,
        clock: Callable[[], float],
        many_users: bool,
        trust_leases: bool,
    ) -> None:
        self.access = AccessCache(many_users, clock, self.lifetime)
        self.table = InodeTable(root)
        self.dircache = DirCache(lifetimes.directories)
        self.name_mapping = names
        self.ownership = ownership
        self.lifetimes = lifetimes
        self.clock = clock
        self._trust_leases = trust_leases
        self._change_ended = trio.Event()

    @contextmanager
    def changing_name(self, directory: Inode, *names: str) -> Iterator[None]:
        """InodeTable.changing_name; look-ups of the names wait for so long."""
        with self.table.changing_name(directory, *names, ended=self._note_name_change):
            yield

    @contextmanager
    def changing_names(self, *places: tuple[Inode, str]) -> Iterator[dict[Inode, FileStat]]:
        """`changing_name` for names in one or more directories. What the server says of those, in the compound of the
        change, the block puts into the dictionary that it gets.

        The kernel asks for the attributes of a directory after each change of a name in it, to see whether the caller
        may make the next one.
        """
        names: dict[Inode, list[str]] = {}
        for directory, name in places:
            names.setdefault(directory, []).append(name)
        said: dict[Inode, FileStat] = {}
        with ExitStack() as stack:
            for directory in names:
                stack.enter_context(self.changing_name(directory, *names[directory]))
            begun = {directory: directory.changed_at for directory in names}
            yield said
            alone = [
                directory
                for directory in said
                if directory.pending_changes == 1 and directory.changed_at == begun[directory]
            ]
        for directory in alone:
            if not directory.pending_changes:
                self._update_changed_directory(directory, said[directory])

    def _update_changed_directory(self, directory: Inode, stat: FileStat) -> None:
        """Keeps what was said of a directory in the compound that has changed a name in it. The answer has no file id,
        so it says nothing of whose name the directory's is: that is asked for when it was to be asked for. Nor does it
        say whether the directory has extended attributes, and it may have got some since that was asked.
        """
        before = directory.stat
        if before is not None and before.is_plain_directory and stat.is_plain_directory:
            said = replace(stat, file_id=before.file_id, links=before.links, ea_size=-1)
            self.update(directory, said, self.table.version, by_name=False)

    def _note_name_change(self) -> None:
        self._change_ended.set()
        self._change_ended = trio.Event()

    async def wait_for_name_change(self, directory: Inode, name: str) -> None:
        """Returns when no change of a name is under way, also one that its program does not wait for any more: what
        that does to the name must not be done to what the name stands for by then.
        """
        while self.table.is_name_changing(directory, name):
            await self._change_ended.wait()

    def set_lifetimes(self, lifetimes: Lifetimes) -> None:
        """From now on attributes and names are believed for so long."""
        self.lifetimes = lifetimes
        self.dircache.lifetime = lifetimes.directories

    def is_valid(self, inode: Inode) -> bool:
        """Whether the inode's name and attributes can be shown without asking; a DFS link can while it is bound."""
        if inode.is_link and self.is_bound(inode):
            return True
        return (
            self._get_name_expiry(inode) > self.clock()
            and (inode.stat is not None or inode.is_link)
            and self.access.has(inode)
        )

    def _get_name_expiry(self, inode: Inode) -> float:
        """Until when the inode's first dentry is believed, in seconds of the clock."""
        return min(inode.expires, inode.name_revalidated + self.lifetime(inode))

    def is_bound(self, link: Inode) -> bool:
        """Whether a DFS link was entered, and the connection to its target is alive."""
        assert link.anchor is not None
        binding = link.anchor.junction.for_caller().binding
        return binding is not None and binding.tree.alive

    def is_fresh(self, inode: Inode) -> bool:
        """Whether the cached attributes of an inode may be shown to the current caller."""
        return inode.stat is not None and inode.expires > self.clock() and self.access.has(inode)

    def get_cached_directory(self, directory: Inode) -> CachedDirectory | None:
        """The cached listing of a directory, if the current caller has made it and it is not too old."""
        return self.dircache.get(directory, self.clock(), current_caller().uid)

    def drop_missing(self, directory: Inode, name: str) -> None:
        """A server has told the current caller that there is no such name. It is dropped unless other users may be
        shown it.
        """
        inode = self.table.child(directory, name)
        if inode is not None and not self.access.revoke(inode):
            self.table.drop_name(directory, name)

    def update(
        self, inode: Inode, stat: FileStat, asked: int, time: float | None = None, *, by_name: bool = True
    ) -> bool:
        """Keeps what a server said of an inode, unless a later question was answered already. It is believed unless a
        change made here has overtaken it.

        Args:
            asked: the version at which it was asked for.
            time: when the answer was received, in seconds of the clock; None: now.
            by_name: whether it was asked for by the inode's first name, which is there then, and not by another name
                or through a handle.

        Returns: whether no change has overtaken the answer.
        """
        self.access.grant(inode)
        now = self.clock() if time is None else time
        if by_name:
            inode.name_revalidated = max(inode.name_revalidated, now)
        overtaken = inode.has_changed_since(asked)
        if inode.stat is not None and asked < inode.asked:
            return not overtaken
        if not overtaken and inode.local_writes is not None:
            self._adopt(inode, inode.local_writes, stat)
        self._detect_remote_change(inode, stat)
        inode.stat, inode.asked = stat, asked
        if overtaken:
            inode.expires = NEVER
        else:
            inode.expires = math.inf if inode.has_read_lease and self._trust_leases else now + self.lifetime(inode)
        return not overtaken

    def set_listed(self, inode: Inode, stat: FileStat, time: float) -> None:
        """Keeps what a listing, received at `time` in seconds of the clock, said of a DFS link."""
        inode.stat, inode.expires = stat, time + self.lifetime(inode)

    def set_unconfirmed(self, inode: Inode, stat: FileStat) -> None:
        """Keeps attributes and leaves it open until when those that are known are believed."""
        inode.stat = stat

    def set_permanent(self, inode: Inode, stat: FileStat | None) -> None:
        """Keeps attributes of an inode that no server has: they never change."""
        inode.stat, inode.expires = stat, math.inf

    def believe_briefly(self, inode: Inode) -> None:
        """What is known of a DFS link is believed for one lifetime from now, as if a server had just said it."""
        inode.expires = self.clock() + self.lifetime(inode)

    def limit_to(self, inode: Inode, time: float) -> None:
        """What is known of a file was true at `time`, in seconds of the clock: it is believed for one lifetime from
        then.
        """
        inode.expires = min(inode.expires, time + self.lifetimes.files)

    def end_lease_trust(self, inode: Inode) -> None:
        """A lease ends that vouched for a file's attributes (trustlease): they are believed for one more lifetime."""
        if inode.expires == math.inf:
            inode.expires = self.clock() + self.lifetimes.files

    def _adopt(self, inode: Inode, own: LocalWrites, stat: FileStat) -> None:
        """Takes over size and last write time of a file that is open for writing here, as no write of ours is
        pending.
        """
        own.set_size(stat.size)
        if own.is_later(stat.written) and not inode.is_exclusive:
            own.written = 0

    def _detect_remote_change(self, inode: Inode, stat: FileStat) -> None:
        """A change that broke no lease, as by a process of the server itself, makes the page cache doubtful."""
        known = inode.stat
        if known is None:
            return
        if known.created != stat.created:  # the server may have reused the file id of a removed file
            inode.page_cache.forget_stamp()
        if inode.page_cache.data_lease is None or inode.changed_at > inode.asked:
            return
        if (known.size, known.written, known.created) != (stat.size, stat.written, stat.created):
            inode.page_cache.distrust()

    def note_size_set(self, inode: Inode, size: int) -> None:
        """A program of this mount has set the size of a file, in bytes, that is open for writing. What lay behind it
        takes no room any more, and a hole none yet: the server need not be asked.
        """
        own, stat = inode.local_writes, inode.stat
        if own is None:
            return
        if stat is not None:
            room = -(-size // ALLOCATION_UNIT) * ALLOCATION_UNIT
            inode.stat = replace(stat, allocated=min(apply_local_writes(stat, own).allocated, room))
            own.bytes_written = 0
        own.set_size(size)

    def get(self, inode: Inode) -> Attributes:
        """The attributes of the inode as they are known, however old.

        Raises:
            PosixError: EIO, the server says that the mount's root is a file. This is never shown: the kernel refuses an
                inode whose type has changed for good, and has no other root.
        """
        stat, own = inode.stat, inode.local_writes
        if inode.ino == ROOT and stat is not None and not stat.is_directory:
            raise PosixError(errno.EIO, "the server says that the mount's root is no folder")
        if stat is not None and inode.is_link and self.access.is_needed and not self.is_bound(inode):
            stat = stat if stat.is_dfs_link else None  # else it would show what users see who have entered it
        if stat is None or stat.is_dfs_link:
            return self.ownership.link_attributes(inode.ino, stat)
        if own is not None:
            stat = apply_local_writes(stat, own)
        attributes = self.ownership.attributes(inode.ino, stat)
        if stat.kind == posix.S_IFLNK:
            attributes = replace(attributes, size=len(self.get_link_target(stat)))
        if inode.removed:
            return replace(attributes, nlink=0)
        return attributes if inode.silly is None else replace(attributes, nlink=attributes.nlink - 1)

    def get_link_target(self, stat: FileStat) -> bytes:
        """The target of a symbolic link, of which `stat` are the attributes."""
        return b"" if stat.special is None else self.name_mapping.link_from_wire(stat.special)

    def timeouts(self, inode: Inode) -> tuple[float, float]:
        """For how many seconds from now the inode's name and its attributes are believed (entry_timeout,
        attr_timeout).
        """
        now, lifetime = self.clock(), self.lifetime(inode)
        attributes = max(0.0, min(lifetime, inode.expires - now))
        name = lifetime if inode.is_link else max(0.0, min(lifetime, self._get_name_expiry(inode) - now))
        return name, attributes

    def negative_timeout(self, directory: Inode) -> float:
        """For how many seconds from now it is believed that a name that was just looked up is not in a directory."""
        cached = self.get_cached_directory(directory)
        asked = cached.origin.time if cached is not None and cached.complete else self.clock()
        return max(0.0, asked + self.lifetimes.directories - self.clock())

    def lifetime(self, inode: Inode) -> float:
        """For how many seconds an answer about the inode is believed."""
        return self.lifetimes.directories if inode.is_directory else self.lifetimes.files

    def is_moved(self, inode: Inode, name: tuple[Inode | None, str], asked: int) -> bool:
        """Whether an answer about an inode's dentry `name`, asked for at a version, is overtaken by a change of
        names.
        """
        directory = inode.parent
        return (directory, inode.name) != name or (
            directory is not None and self.table.has_name_changed_since(directory, inode.name, asked)
        )

    @contextmanager
    def creating_name(self, directory: Inode, name: str) -> Iterator[Callable[[FileStat], None]]:
        """`changing_name` for a name that is created. The block calls the function that it gets with the attributes of
        the new file as the server has just sent them.

        The kernel asks for a directory's attributes after each name that is created in it. The directory's times are
        those at which the new file was last changed, by the same server's clock, so the server need not be asked.
        """
        before, expires = directory.stat, directory.expires
        made: list[FileStat] = []
        known = before is not None and expires > self.clock()
        with self.changing_name(directory, name):
            begun = directory.changed_at
            yield made.append
            alone = directory.pending_changes == 1 and directory.changed_at == begun
        if made and known and alone and before is not None and not directory.pending_changes:
            latest = max(before.written, made[0].changed)
            directory.stat = replace(before, written=latest, changed=latest)
            directory.expires, directory.asked = expires, self.table.version


def apply_local_writes(stat: FileStat, own: LocalWrites) -> FileStat:
    """The attributes of a file that is open for writing here: what the server said, and what was written since."""
    written = own.written or stat.written
    allocated = max(stat.allocated, min(own.size, stat.allocated + own.bytes_written))
    changed = own.written or stat.changed
    return replace(stat, size=own.size, allocated=allocated, written=written, changed=changed)

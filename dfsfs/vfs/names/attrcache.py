"""AttributeCache: what is known of the inodes of a mount, and for how long it is believed, without asking anybody.

What a server says of an inode goes through `update`, which holds to the rule of ordering.py. Changes of
names that are made here go through `changing_name` and `creating_name`: look-ups of such a name wait until they end.

Concurrency: nothing here waits, but for `wait_for_name_change`.
"""

from __future__ import annotations

import errno
import math
import stat as posix
from contextlib import contextmanager
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


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how many seconds attributes and names are believed: of files, and of folders and links."""

    files: float = 1.0
    folders: float = 1.0


class AttributeCache:
    """See the module's text. The arguments are those of Places."""

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
        self.dircache = DirCache(lifetimes.folders)
        self.name_mapping = names
        self.ownership = ownership
        self.lifetimes = lifetimes
        self.clock = clock
        self._trust_leases = trust_leases
        self._change_ended = trio.Event()

    @contextmanager
    def changing_name(self, folder: Inode, *names: str) -> Iterator[None]:
        """InodeTable.changing_name; whoever asks for one of the names waits until the block ends."""
        try:
            with self.table.changing_name(folder, *names):
                yield
        finally:
            self._change_ended.set()
            self._change_ended = trio.Event()

    async def wait_for_name_change(self, folder: Inode, name: str) -> None:
        while self.table.is_name_changing(folder, name):
            await self._change_ended.wait()

    def set_lifetimes(self, lifetimes: Lifetimes) -> None:
        """From now on attributes and names are believed for so long."""
        self.lifetimes = lifetimes
        self.dircache.lifetime = lifetimes.folders

    def is_valid(self, inode: Inode) -> bool:
        """Whether the inode can be answered for without asking: for a link, that it is there and where it leads."""
        if inode.is_link and self.is_bound(inode):
            return True
        return (
            self._get_name_expiry(inode) > self.clock()
            and (inode.stat is not None or inode.is_link)
            and self.access.has(inode)
        )

    def _get_name_expiry(self, inode: Inode) -> float:
        """Until when the inode's first name may be believed."""
        return min(inode.expires, inode.name_revalidated + self.lifetime(inode))

    def is_bound(self, link: Inode) -> bool:
        """Whether somebody has entered a link, and its target is still there."""
        assert link.anchor is not None
        binding = link.anchor.junction.binding
        return binding is not None and binding.tree.alive

    def is_fresh(self, inode: Inode) -> bool:
        """Whether what is known of an inode's attributes may be believed."""
        return inode.stat is not None and inode.expires > self.clock() and self.access.has(inode)

    def get_cached_directory(self, folder: Inode) -> CachedDirectory | None:
        """What a listing of the caller's own said of a folder not long ago."""
        return self.dircache.get(folder, self.clock(), current_caller().uid)

    def drop_missing(self, folder: Inode, name: str) -> None:
        """A server says that there is no such name. To others it may say something else; if not, they will find out."""
        inode = self.table.child(folder, name)
        if inode is not None and not self.access.revoke(inode):
            self.table.drop_name(folder, name)

    def update(
        self, inode: Inode, stat: FileStat, asked: int, time: float | None = None, *, by_name: bool = True
    ) -> bool:
        """Keeps what a server said of an inode, as far as no change made here, and no later answer, has overtaken it.

        `asked`: the moment at which it was asked for; `time`: when it was known, if not now; `by_name`: whether it
        was asked for by the inode's first name, and not by another one or through a handle, so that the name is there.
        Returns whether no change has overtaken it.
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
        """Keeps what a listing said at a time of a DFS link, or of what is shown as it is listed."""
        inode.stat, inode.expires = stat, time + self.lifetime(inode)

    def set_unconfirmed(self, inode: Inode, stat: FileStat) -> None:
        """Keeps what a server said, without believing it from now on: it is asked for again."""
        inode.stat = stat

    def set_permanent(self, inode: Inode, stat: FileStat | None) -> None:
        """What is shown of an inode that no server has never changes."""
        inode.stat, inode.expires = stat, math.inf

    def believe_briefly(self, inode: Inode) -> None:
        """What is known of an inode without asking is true for the lifetime of something that was just learnt."""
        inode.expires = self.clock() + self.lifetime(inode)

    def limit_to(self, inode: Inode, time: float) -> None:
        """What is known of an inode was true at a time, and is believed for one lifetime from then at most."""
        inode.expires = min(inode.expires, time + self.lifetimes.files)

    def end_lease_trust(self, inode: Inode) -> None:
        """A lease ends while which attributes were believed however old: they are for one lifetime from now on."""
        if inode.expires == math.inf:
            inode.expires = self.clock() + self.lifetimes.files

    def _adopt(self, inode: Inode, own: LocalWrites, stat: FileStat) -> None:
        """Takes over what a server knows of a file that is being written here, and knows better."""
        own.set_size(stat.size)
        if own.is_later(stat.written) and not inode.is_exclusive:
            own.written = 0

    def _detect_remote_change(self, inode: Inode, stat: FileStat) -> None:
        """A lease does not cover what processes of the server itself do: what it has covered may be wrong then."""
        known = inode.stat
        if known is None:
            return
        if known.created != stat.created:  # perhaps the server has given the id of a file that is gone to another one
            inode.page_cache.forget_stamp()
        if inode.page_cache.data_lease is None or inode.changed_at > inode.asked:
            return
        if (known.size, known.written, known.created) != (stat.size, stat.written, stat.created):
            inode.page_cache.distrust()

    def get(self, inode: Inode) -> Attributes:
        """What is known of the inode, however old.

        Raises:
            PosixError: EIO, the mount's root is no folder. Not even for a moment: the kernel never again believes in an
                inode whose type has changed, and has no other root.
        """
        stat, own = inode.stat, inode.local_writes
        if inode.ino == ROOT and stat is not None and not stat.is_directory:
            raise PosixError(errno.EIO, "the server says that the mount's root is no folder")
        if stat is not None and inode.is_link and self.access.is_needed and not self.is_bound(inode):
            stat = stat if stat.is_dfs_link else None  # what others have seen who have entered it
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
        """The target of a symbolic link."""
        return b"" if stat.special is None else self.name_mapping.link_from_wire(stat.special)

    def timeouts(self, inode: Inode) -> tuple[float, float]:
        """For how many seconds the inode's name and its attributes may be believed."""
        now, lifetime = self.clock(), self.lifetime(inode)
        attributes = max(0.0, min(lifetime, inode.expires - now))
        name = lifetime if inode.is_link else max(0.0, min(lifetime, self._get_name_expiry(inode) - now))
        return name, attributes

    def negative_timeout(self, folder: Inode) -> float:
        """For how many seconds it may be believed that a name, just looked up, is not in a folder."""
        view = self.get_cached_directory(folder)
        asked = self.clock() if view is None else view.origin.time
        return max(0.0, asked + self.lifetimes.folders - self.clock())

    def lifetime(self, inode: Inode) -> float:
        """For how many seconds something that was learnt of the inode this moment may be believed."""
        return self.lifetimes.folders if inode.is_directory else self.lifetimes.files

    def is_moved(self, inode: Inode, name: tuple[Inode | None, str], asked: int) -> bool:
        """Whether an answer about an inode's name is of another name now, or overtaken by a change of that."""
        folder = inode.parent
        return (folder, inode.name) != name or (
            folder is not None and self.table.has_name_changed_since(folder, inode.name, asked)
        )

    @contextmanager
    def creating_name(self, folder: Inode, name: str) -> Iterator[Callable[[FileStat], None]]:
        """`changing_name` for a name that is made. The block calls what it gets with what the server said of the new
        file at once.

        The kernel asks for the folder's attributes after each name that is made in it. Its times are those at which the
        new file was last changed, by the same server's clock, so that need not be asked.
        """
        before, expires = folder.stat, folder.expires
        made: list[FileStat] = []
        known = before is not None and expires > self.clock()
        with self.changing_name(folder, name):
            moment = folder.changed_at
            yield made.append
            alone = folder.pending_changes == 1 and folder.changed_at == moment
        if made and known and alone and before is not None:
            latest = max(before.written, made[0].changed)
            folder.stat = replace(before, written=latest, changed=latest)
            folder.expires, folder.asked = expires, self.table.version


def apply_local_writes(stat: FileStat, own: LocalWrites) -> FileStat:
    """What is known of a file that is being written here: what a server said, and what was written since."""
    written = own.written or stat.written
    allocated = max(stat.allocated, min(own.size, stat.allocated + own.bytes_written))
    changed = own.written or stat.changed
    return replace(stat, size=own.size, allocated=allocated, written=written, changed=changed)

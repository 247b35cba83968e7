"""Lookup: finds inodes by name, from what is cached or by asking a server.

Made of three parts: AttributeCache (what is known, and for how long it is believed), Router (sends operations to where
an inode or a name is, and finds DFS links), Revalidator (asks again, and notices what is gone).

A DFS link is shown without touching its target, with made-up attributes and the times of its directory's listing, until
a program enters it. While it is bound to a living target and its referral is good, its name is not asked for again: it
works while the namespace server is down. So do the directories on the way to such a link: offline.py.

With `multiuser` inodes are the same for all users, so that a directory has one number for all of them. Which users may
be shown what is cached is decided in access.py; what one user is refused, or told to be missing, is not taken from the
others: otherusers.py.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError, PosixError
from dfsfs.namespace.junction import Location, PathNotCovered
from dfsfs.vfs.names.absentnames import AbsentNames
from dfsfs.vfs.names.attrcache import AttributeCache, Lifetimes
from dfsfs.vfs.names.hiddennames import HiddenNames
from dfsfs.vfs.names.namereader import NameReaders
from dfsfs.vfs.names.offline import OfflineDirectories
from dfsfs.vfs.names.queries import is_same_but_for_id, stat_of
from dfsfs.vfs.names.revalidation import Revalidator
from dfsfs.vfs.names.routing import Router

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.namespace.client import Namespace
    from dfsfs.smb.wire.fscc import DirEntry, FileStat, VolumeSize
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.dircache import Origin
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.mapping import NameMapping, Ownership

log = logging.getLogger("dfsfs.vfs")


class Lookup:
    """See the module's text. `root` is the mount's root.

    Args:
        follow_links: if False, DFS links are shown as directories, and operations that lead through one fail.
        many_users: whether the mount has a login for each user (multiuser).
        server_numbers: whether servers' file ids make inode numbers (serverino).
        trust_leases: whether attributes are believed for as long as a lease covers the file, beyond their lifetime.
            Writes of processes of the server itself, which break no lease, are not seen then.
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
        follow_links: bool,
        many_users: bool = False,
        server_numbers: bool = True,
        trust_leases: bool = False,
    ) -> None:
        self.attributes = AttributeCache(
            root,
            names=names,
            ownership=ownership,
            lifetimes=lifetimes,
            clock=clock,
            many_users=many_users,
            trust_leases=trust_leases,
        )
        self.table = table = self.attributes.table
        self.clock, self.name_mapping = clock, names
        self.follow_links = follow_links
        self._namespace = namespace
        self._absent = AbsentNames(table)
        if not server_numbers:
            table.forget_ids()
        self.offline = OfflineDirectories(table, clock, self._is_live)
        self.hidden_names = HiddenNames()
        self.router = router = Router(namespace, table, self.offline)
        self.revalidator = revalidator = Revalidator(router, self.attributes, self.offline)
        self.directory_renames, self.handle_limit, self.others = (
            router.directory_renames,
            router.handle_limit,
            revalidator.others,
        )
        self.readers = NameReaders(router, self.attributes, clock)
        self.get_location, self.run, self.run_in = router.get_location, router.run, router.run_in
        self.run_by_name, self.change_by_name = revalidator.run_by_name, revalidator.change_by_name
        self.revalidate, self.accept = revalidator.revalidate, revalidator.accept
        self.revalidate_hard_link, self.check_ids = revalidator.revalidate_hard_link, revalidator.check_ids

    # -- inodes by number -------------------------------------------------------------------------------------------

    def get_inode(self, ino: int) -> Inode:
        """Raises: PosixError: ESTALE, there is no such inode."""
        inode = self.table.get(ino)
        if inode is None:
            raise PosixError(errno.ESTALE, f"there is no inode {ino}")
        return inode

    def get_directory(self, ino: int) -> Inode:
        """Raises: PosixError: ESTALE, there is no such inode; ENOTDIR, it is a file."""
        inode = self.get_inode(ino)
        if not inode.is_directory:
            raise PosixError(errno.ENOTDIR, f"{inode.name} is not a directory")
        return inode

    async def enter(self, directory: Inode) -> None:
        """Goes to the target of a DFS link that was not entered yet. Does nothing for any other directory.

        Raises:
            DfsfsError: no target can be reached.
        """
        if directory.is_link and not self.attributes.is_bound(directory):
            asked = self.table.version
            stat, share = await self.run(directory, stat_of)
            await self.accept(directory, stat, share, asked)

    async def query_volume_size(self, inode: Inode) -> VolumeSize:
        """Size and free space of the share that an inode is on. A DFS link is entered for that.

        Raises:
            PosixError: ESTALE, it was removed, and so was all that it was in.
            DfsfsError: the server's answer.
        """
        at: Inode | None = inode
        while at is not None and (at.location is None or at.is_snapshot_dir):
            at = at.parent or (at.detached_from[0] if at.detached_from is not None else None)
        if at is None:
            raise PosixError(errno.ESTALE, f"{inode.name} is not where it was")
        await self.enter(at)
        return await self.run(at, lambda attempt: attempt.tree.volume_size())

    # -- names ------------------------------------------------------------------------------------------------------

    async def look_up(self, parent: Inode, name: str) -> Inode:
        """The inode of a (wire) name in a directory, from the cache or from the server. Counts no lookup.

        Raises:
            DfsfsError: the server's answer, ENOENT if there is no such name.
        """
        while True:
            if (found := self.lookup_cached(parent, name)) is not None:
                return found
            # A name that is renamed back and forth is asked for alone: it would soon overtake a listing.
            is_read = not self.table.has_name_just_changed(parent, name) and await self.readers.read_for(parent, name)
            if is_read and (found := self.lookup_cached(parent, name)) is not None:
                return found
            await self.attributes.wait_for_name_change(parent, name)
            asked = self.table.version
            known = self.table.child(parent, name)
            answer = await self.offline.ask_briefly(known, partial(self._query_name, parent, name, asked))
            if not answer:
                answer = [known if known is self.table.child(parent, name) else None]
            if answer[0] is not None:
                return answer[0]

    async def _query_name(self, parent: Inode, name: str, asked: int) -> Inode | None:
        """Asks a server for a name. Its inode; None if a change has overtaken the answer. Raises as `look_up`."""
        known, begun = self.table.child(parent, name), self.clock()
        try:
            stat, share = await self.run_in(parent, name, stat_of)
            if known is not None and await self.revalidator.has_unstable_id(known, stat, share):
                self.revalidator.distrust_ids(share)
        except PathNotCovered as link:
            inode = self.router.get_link_inode(parent, name, link.prefix)
            # What a bound link shows is its target's root, and that was not asked yet.
            if self._is_live(inode):
                inode.expire_attributes()
            else:
                self.attributes.believe_briefly(inode)
            self.attributes.access.grant(inode)
            return inode
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                self._absent.add(parent, name, current_caller().uid, asked, self.clock())
            if known is not None and known is self.table.child(parent, name):
                if error.errno == errno.ENOENT:
                    is_others = await self.others.still_see(known, parent, name)
                    if not is_others and not self.table.has_name_changed_since(parent, name, asked):
                        self.attributes.drop_missing(parent, name)
                elif self.offline.mark_offline(known, error):
                    return known
            if self.table.has_name_changed_since(parent, name, asked):
                return None
            raise
        if self.table.has_name_changed_since(parent, name, asked):
            return None
        self._observe_listed_spelling(parent, name, stat, share)
        inode = self.table.observe(parent, name, stat, share, time=begun)
        self.attributes.update(inode, stat, asked, by_name=self._is_first_name(inode, parent, name))
        return inode

    def _observe_listed_spelling(self, parent: Inode, name: str, stat: FileStat, share: UncPath) -> None:
        """If a server has led a name to a file that has one name only, which is listed in another case, that is the
        name, and `name` a spelling of it. A rename from one to the other would do nothing if they were two names.
        """
        cached = self.attributes.get_cached_directory(parent)
        if cached is None or stat.links != 1 or not stat.file_id:
            return
        for entry, origin in cached.find_spellings(name):
            is_same = origin.share == share and entry.stat.file_id == stat.file_id
            if is_same and entry.name != name and not self.table.has_name_changed_since(parent, name, origin.asked):
                self.table.observe(parent, entry.name, stat, share, exact=True)

    def _is_first_name(self, inode: Inode, parent: Inode, name: str) -> bool:
        return inode.parent is parent and inode.name == self.table.get_exact_name(parent, name)

    def is_known_absent(self, directory: Inode, name: str) -> bool:
        """Whether a server has just told the current caller that there is no such name."""
        lifetime = self.attributes.lifetimes.directories
        return self._absent.has(directory, name, current_caller().uid, self.clock(), lifetime)

    def lookup_cached(self, directory: Inode, name: str) -> Inode | None:
        """The inode of a (wire) name as far as the cache knows it; None: a server has to be asked. Counts no lookup.

        Raises:
            PosixError: ENOENT, there is no such name.
        """
        if self.table.is_name_changing(directory, name):
            return None
        known = self.table.child(directory, name)
        if known is not None:
            if known.is_silly_name(directory, name):
                raise PosixError(errno.ENOENT, f"{name} was removed")
            is_first = not known.hard_links or (known.parent, known.name) == (directory, name)
            if (is_first and self._is_valid(known)) or self.offline.may_show_cached(known):
                return known
        cached = self.attributes.get_cached_directory(directory)
        if cached is None or self.table.has_name_changed_since(directory, name, cached.origin.asked):
            return None
        listed = cached.find(name)
        if listed is None:
            if not cached.lacks(name) or self._is_static_link(directory, name):
                return None
            if known is not None and self.attributes.access.others(known):
                return None  # whether it is gone for other users, too, has to be asked
            self.attributes.drop_missing(directory, name)
            raise PosixError(errno.ENOENT, f"{name} is not in the folder")
        entry, origin = listed
        if known is not None and is_same_but_for_id(known, entry.stat, origin.share):
            return None
        inode = self.update_from_listing(directory, entry, origin)
        if inode.is_link and inode.stat is entry.stat and self._is_live(inode):
            inode.expire_attributes()  # what a bound link shows is its target's root, and that was not asked yet
        return inode if self._is_valid(inode) else None

    def _is_static_link(self, directory: Inode, name: str) -> bool:
        """Whether a name is a link of dfs_static=, which no listing has."""
        namespace = self._namespace
        return namespace.has_static_links and bool(namespace.static_link(self.get_location(directory).child(name)))

    def update_from_listing(self, directory: Inode, entry: DirEntry, origin: Origin) -> Inode:
        """The inode of a listed entry, with the attributes of the listing. The name must not have been changed here
        since the listing was asked for.
        """
        known = self.table.child(directory, entry.name)
        is_hidden = known is not None and known.is_silly_name(directory, entry.name)
        if known is not None and (known.is_link or is_hidden) and entry.stat.is_directory == known.is_directory:
            if known.stat is None or known.stat.is_dfs_link:  # else it shows the attributes of the link's target
                if known.is_link:
                    self.attributes.set_listed(known, entry.stat, origin.time)
                else:
                    self.attributes.set_unconfirmed(known, entry.stat)
            self.attributes.access.grant(known)
            return known
        if self.follow_links and entry.stat.is_marked_link:
            inode = self.router.get_link_inode(
                directory, entry.name, self.get_location(directory).child(entry.name).unc
            )
            self.attributes.set_listed(inode, entry.stat, origin.time)
            self.attributes.access.grant(inode)
            return inode
        inode = self.table.observe(directory, entry.name, entry.stat, origin.share, exact=True, time=origin.time)
        if inode.local_writes is None:  # of a file that is being written a listing may have old attributes
            before, stat = inode.stat, entry.stat
            if before is not None and before.links > 1:
                stat = replace(stat, links=before.links)
            is_first = self._is_first_name(inode, directory, entry.name)
            self.attributes.update(inode, stat, origin.asked, origin.time, by_name=is_first)
            if stat is not entry.stat or inode.hard_links or inode.had_hard_links:
                inode.expire_attributes()  # a listing does not say how many links a file has, and that may have changed
        self.attributes.access.grant(inode)
        return inode

    def _is_live(self, link: Inode) -> bool:
        """Whether a DFS link is bound to a living target; has its referral refreshed in the background if that is
        due.
        """
        assert link.anchor is not None
        if not self.attributes.is_bound(link):
            return False
        self._namespace.refresh_if_due(link.anchor.junction)
        return True

    def _is_valid(self, inode: Inode) -> bool:
        """`AttributeCache.is_valid`, which has the referral of a link in use refreshed in the background if that is
        due.
        """
        return (inode.is_link and self._is_live(inode)) or self.attributes.is_valid(inode)

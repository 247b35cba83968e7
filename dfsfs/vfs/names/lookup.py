"""Lookup: from an inode to the server and back: finds inodes by name, runs operations there, keeps what was learnt.

Everything that the file system does on a server goes through `run` (at an inode) or `run_in` (at a name in a folder),
and those through `Namespace.run`. What they add is the discovery of DFS links. A server says PATH_NOT_COVERED, the
namespace finds out which link that is about, and raises Covered with its path:

    the name that was asked for     `look_up` makes a link inode of it; for other operations it is a refusal
    the inode itself                 it turns into a link in place, and the operation goes on behind it
    a folder above                  it turns into a link in place; ESTALE, so that the kernel walks the path once more

A link is looked at without touching its target: what it shows is made up, with the times that the listing of its folder
gave, until somebody enters it. While it is bound to a living target and its referral is good, its name is not asked for
again: it works while the namespace server is down. So do the folders on the way to such a link: offline.py.

Many users (multiuser): inodes are the same for all of them, so that a folder keeps its number whoever is in it. Who may
be told what is known of them is in access.py; what one user is refused, or told to be missing, is not taken from the
rest: otherusers.py.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dfsfs.caller import current_caller
from dfsfs.errors import DfsfsError, EndlessAnswer, PosixError
from dfsfs.namespace.junction import Location, PathNotCovered
from dfsfs.vfs.names.attrcache import AttributeCache, Lifetimes
from dfsfs.vfs.names.dircache import LookupRate, Origin
from dfsfs.vfs.names.dirrenames import DirectoryRenames
from dfsfs.vfs.names.hiddennames import HiddenNames
from dfsfs.vfs.names.inodetable import NEVER, Inode
from dfsfs.vfs.names.offline import OfflineDirectories
from dfsfs.vfs.names.otherusers import OtherUsers
from dfsfs.vfs.names.queries import entries_of, is_same_but_for_id, stat_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry, FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.mapping import NameMapping, Ownership

T = TypeVar("T")

log = logging.getLogger("dfsfs.vfs")

LOOK_AROUND = 20_000
"""Entries of a folder above which it is not listed for the sake of single names."""


class Lookup(AttributeCache):
    """See the module's text. `root` is the mount's root.

    `follow_links` False: DFS links are left alone, and everything that leads through one fails. `server_numbers` False:
    file ids of servers are not used. `trust_leases`: attributes are believed for as long as a lease covers the file,
    also beyond their lifetime; what processes of the server itself write is not seen then.
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
        super().__init__(
            root,
            names=names,
            ownership=ownership,
            lifetimes=lifetimes,
            clock=clock,
            many_users=many_users,
            trust_leases=trust_leases,
        )
        self.follow_links = follow_links
        self._namespace = namespace
        if not server_numbers:
            self.table.forget_ids()
        self.offline = OfflineDirectories(self.table, clock, self._is_live)
        self.hidden_names = HiddenNames()
        self.directory_renames = DirectoryRenames()
        self.others = OtherUsers(self.table, self.access_cache, self.revalidate)

    # -- inodes by number --------------------------------------------------------------------------------------------

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

    def get_location(self, inode: Inode) -> Location:
        """Raises: PosixError: ESTALE, the inode has no place any more."""
        location = inode.location
        if location is None:
            raise PosixError(errno.ESTALE, f"{inode.name} is not where it was")
        return location

    # -- operations -------------------------------------------------------------------------------------------------

    async def run(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` where the inode is; for a link that is its target's root.

        Raises:
            PosixError: ESTALE, the inode has no place any more.
            DfsfsError: what the operation or the way to a target came to.
        """
        try:
            return await self._run_here(inode, operation)
        except PathNotCovered:
            pass
        try:
            return await self._run_here(inode, operation)
        except PathNotCovered as link:
            raise self._make_link_error(link) from None

    async def _run_here(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run`, but raises Covered when the inode has just turned into a link, and goes no further."""
        await self.directory_renames.wait_until_free(inode)
        try:
            with self.directory_renames.running(inode):
                result = await self._send(self.get_location(inode), operation)
            if inode.is_link:
                self.offline.add_link(inode)
            return result
        except PathNotCovered as link:
            if self._convert_to_link(inode, link.prefix):
                raise
            raise self._make_link_error(link) from None

    async def run_by_name(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run`, for what the kernel has found by a name: if nothing is where the inode is thought to be, that is
        ESTALE, and the kernel looks up what it was given once more.
        """
        place, asked = (inode.parent, inode.name), self.table.version
        try:
            return await self.run(inode, operation)
        except DfsfsError as error:
            if error.errno != errno.ENOENT or place[0] is None or inode.is_link:
                raise
            if self.is_moved(inode, place, asked):
                raise PosixError(errno.ESTALE, f"{place[1]} has just been changed") from error
            if await self.others.still_see(inode, *place):
                raise
            raise self.drop_stale(inode, place) from error

    async def change_by_name(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run_by_name`, for a change. Raises as that and `revalidate_hard_link`."""
        await self.revalidate_hard_link(inode)
        return await self.run_by_name(inode, operation)

    async def revalidate_hard_link(self, inode: Inode) -> None:
        """Before a file that has several names is changed by the first of them: asks whether that is still its own, and
        not one that others gave to another file.

        Raises: as `revalidate`.
        """
        if inode.hard_links:
            inode.expires = NEVER
            await self.revalidate(inode)

    async def run_in(self, folder: Inode, name: str, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` at the (wire) name in a folder.

        Raises:
            Covered: the name is a DFS link, now at least.
            PosixError: ESTALE, the folder has no place any more.
            DfsfsError: what the operation or the way to a target came to.
        """
        await self.directory_renames.wait_until_free(folder)
        location = self.get_location(folder).child(name)
        try:
            with self.directory_renames.running(folder):
                result = await self._send(location, operation)
            if folder.is_link:
                self.offline.add_link(folder)
            return result
        except PathNotCovered as link:
            if link.prefix == location.unc:
                if self.table.child(folder, name) is not None:
                    self.table.prune(self.get_link_inode(folder, name, link.prefix))
                raise
            self._convert_to_link(folder, link.prefix)
            raise self._make_link_error(link) from None

    def _send(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Awaitable[T]:
        """A question may be asked of more than one server."""
        send = self._namespace.run_hedged if operation is stat_of else self._namespace.run
        return send(location, self.handle_limit.retry_with_fewer_handles(operation))

    def _is_live(self, link: Inode) -> bool:
        """Whether a link is bound to a living target. That it should be asked for again is left to the background."""
        assert link.anchor is not None
        if not self.is_bound(link):
            return False
        self._namespace.refresh_if_due(link.anchor.junction)
        return True

    def _convert_to_link(self, inode: Inode, prefix: UncPath) -> bool:
        """Turns what lies at `prefix`, the inode or one above it, into a link. Whether that was the inode itself."""
        for above in self.table.iter_ancestors(inode):
            if above.parent is None:
                anchor = above.location
                if anchor is not None and prefix.is_prefix_of(anchor.unc):
                    rest = prefix.rest_of(anchor.unc)
                    self.table.move_anchor(above, Location(self._namespace.junction(prefix), rest, anchor.moment))
                    return above is inode
                return False
            place = above.name_location
            if place is not None and place.unc == prefix:
                self.get_link_inode(above.parent, above.name, prefix)
                if above is inode:
                    return True
                self.table.prune(above)
                return False
        return False

    def _make_link_error(self, link: PathNotCovered) -> PosixError:
        return PosixError(errno.ESTALE, f"{link.prefix} has become a DFS link")

    def get_link_inode(self, parent: Inode, name: str, prefix: UncPath) -> Inode:
        """The inode of the link `name` in a folder; `prefix` is its namespace path."""
        location = parent.location
        moment = location.moment if location is not None else None
        return self.table.observe_link(parent, name, Location(self._namespace.junction(prefix), (), moment))

    # -- names ------------------------------------------------------------------------------------------------------

    async def look_up(self, parent: Inode, name: str) -> Inode:
        """The inode of a (wire) name in a folder, from what is known or from the server. Counts no lookup.

        Raises:
            DfsfsError: the server's answer, ENOENT if there is no such name.
        """
        while True:
            if (found := self.lookup_cached(parent, name)) is not None:
                return found
            # A name that is being renamed back and forth is asked for alone: it would overtake the listing of the rest.
            looks_around = not self.table.has_name_just_changed(parent, name) and await self._list_for_lookups(parent)
            if looks_around and (found := self.lookup_cached(parent, name)) is not None:
                return found
            await self._wait_for_name_change(parent, name)
            asked = self.table.version
            known = self.table.child(parent, name)
            try:
                answer = await self.offline.ask_briefly(known, partial(self._query_name, parent, name, asked))
            except DfsfsError:
                if self.table.has_name_changed_since(parent, name, asked):
                    continue
                raise
            if not answer:
                answer = [known if known is self.table.child(parent, name) else None]
            if answer[0] is not None:
                return answer[0]

    async def _query_name(self, parent: Inode, name: str, asked: int) -> Inode | None:
        """The inode that a server says has a name; None if a change has overtaken the answer. Raises as look_up."""
        known = self.table.child(parent, name)
        try:
            stat, share = await self.run_in(parent, name, stat_of)
            if known is not None and await self._has_unstable_id(known, stat, share):
                self.distrust_ids(share)
        except PathNotCovered as link:
            inode = self.get_link_inode(parent, name, link.prefix)
            # What a bound link shows is its target's root, and that was not asked yet.
            inode.expires = NEVER if self._is_live(inode) else self.clock() + self.lifetime(inode)
            self.access_cache.grant(inode)
            return inode
        except DfsfsError as error:
            if known is not None and known is self.table.child(parent, name):
                if error.errno == errno.ENOENT:
                    is_others = await self.others.still_see(known, parent, name)
                    if not is_others and not self.table.has_name_changed_since(parent, name, asked):
                        self._drop_missing(parent, name)
                elif self.offline.mark_offline(known, error):
                    return known
            raise
        if self.table.has_name_changed_since(parent, name, asked):
            return None
        inode = self.table.observe(parent, name, stat, share)
        self.update_attributes(inode, stat, asked, by_name=self._is_first_name(inode, parent, name))
        return inode

    def _is_first_name(self, inode: Inode, parent: Inode, name: str) -> bool:
        return inode.parent is parent and inode.name == self.table.get_exact_name(parent, name)

    async def check_ids(self, folder: Inode, entry: DirEntry, origin: Origin) -> None:
        """Makes sure that what a listing says is not of the file that is known but for its id. Raises as run_in."""
        known = self.table.child(folder, entry.name)
        if known is not None and await self._has_unstable_id(known, entry.stat, origin.share):
            self.distrust_ids(origin.share)

    async def _has_unstable_id(self, inode: Inode, stat: FileStat, share: UncPath) -> bool:
        """Whether a server gives another file id for the same file in each answer; `stat` is one of them."""
        if not is_same_but_for_id(inode, stat, share) or inode.parent is None:
            return False
        again, _ = await self.run_in(inode.parent, inode.name, stat_of)
        return again.created == stat.created and again.file_id != stat.file_id

    def distrust_ids(self, share: UncPath) -> None:
        """From now on, file ids of a share are not used."""
        log.warning("%s: its server gives other file ids for the same files; numbers of our own are used", share)
        self.table.forget_ids(share)

    def lookup_cached(self, folder: Inode, name: str) -> Inode | None:
        """The inode of a (wire) name, if that can be said without asking. Counts no lookup.

        Raises:
            PosixError: ENOENT, there is no such name.
        """
        if self.table.is_name_changing(folder, name):
            return None
        known = self.table.child(folder, name)
        if known is not None:
            if known.is_silly_name(folder, name):
                raise PosixError(errno.ENOENT, f"{name} was removed")
            is_first = not known.hard_links or (known.parent, known.name) == (folder, name)
            if (is_first and self.is_valid(known)) or self.offline.may_show_cached(known):
                return known
        view = self._get_cached_directory(folder)
        if view is None or self.table.has_name_changed_since(folder, name, view.origin.asked):
            return None
        entry = view.entries.get(name)
        if entry is not None and known is not None and is_same_but_for_id(known, entry.stat, view.origin.share):
            return None
        if entry is None:
            if view.has_other_case(name) or self._is_static_link(folder, name):
                return None
            if known is not None and self.access_cache.others(known):
                return None  # whether it is gone for those who have it, too, has to be asked
            self._drop_missing(folder, name)
            raise PosixError(errno.ENOENT, f"{name} is not in the folder")
        inode = self.update_from_listing(folder, entry, view.origin)
        if inode.is_link and inode.stat is entry.stat and self._is_live(inode):
            inode.expires = NEVER  # what a bound link shows is its target's root, and that was not asked yet
        return inode if self.is_valid(inode) else None

    def _is_static_link(self, folder: Inode, name: str) -> bool:
        """Whether a name is a link of dfs_static=: what lists the folder knows nothing of it."""
        namespace = self._namespace
        return namespace.has_static_links and bool(namespace.static_link(self.get_location(folder).child(name)))

    async def _list_for_lookups(self, folder: Inode) -> bool:
        """Lists a folder for its view if so many of its names are asked for. Whether it did; if not, it is no harm."""
        if self._get_cached_directory(folder) is not None:
            return False
        rate = folder.lookup_rate = folder.lookup_rate or LookupRate()
        if not rate.add_lookup(self.clock(), self.lifetimes.folders):
            return False
        asked = self.table.version
        begun = self.clock()
        rate.is_listing = True
        try:
            found, share = await self.run(folder, partial(entries_of, self.table, folder, LOOK_AROUND))
        except DfsfsError as error:
            rate.is_too_large = rate.is_too_large or isinstance(error, EndlessAnswer)
            return False
        finally:
            rate.is_listing = False
        if len(found) > LOOK_AROUND:
            rate.is_too_large = True
            return False
        self.dircache.add(folder, found, Origin(share, asked, begun, current_caller().uid))
        return True

    def update_from_listing(self, folder: Inode, entry: DirEntry, origin: Origin) -> Inode:
        """The inode of a listed entry. What has its name must not have been changed here since."""
        known = self.table.child(folder, entry.name)
        is_hidden = known is not None and known.is_silly_name(folder, entry.name)
        if known is not None and (known.is_link or is_hidden) and entry.stat.is_directory == known.is_directory:
            if known.stat is None or known.stat.is_dfs_link:  # else it shows what is behind it
                known.stat = entry.stat
                if known.is_link:
                    known.expires = origin.time + self.lifetime(known)
            self.access_cache.grant(known)
            return known
        if self.follow_links and entry.stat.is_marked_link:
            inode = self.get_link_inode(folder, entry.name, self.get_location(folder).child(entry.name).unc)
            inode.stat, inode.expires = entry.stat, origin.time + self.lifetime(inode)
            self.access_cache.grant(inode)
            return inode
        inode = self.table.observe(folder, entry.name, entry.stat, origin.share, exact=True)
        if inode.local_writes is None:  # of a file that is being written, a listing may say what was true before
            before, stat = inode.stat, entry.stat
            if before is not None and before.links > 1:
                stat = replace(stat, links=before.links)
            is_first = self._is_first_name(inode, folder, entry.name)
            self.update_attributes(inode, stat, origin.asked, origin.time, by_name=is_first)
            if stat is not entry.stat or inode.hard_links or inode.had_hard_links:
                inode.expires = NEVER  # a listing does not say how many names a file has, and that may have changed
        self.access_cache.grant(inode)
        return inode

    # -- attributes -------------------------------------------------------------------------------------------------

    async def revalidate(self, inode: Inode) -> bool:
        """Asks for the inode's attributes if they are too old. Whether no change made here has overtaken the answer.

        Of a link nothing is asked unless it is bound, and then once; if its target fails, it shows what it did before.

        Raises:
            PosixError: ESTALE, the inode is gone or another file has its name.
            DfsfsError: the server's answer.
        """
        if self.is_fresh(inode):
            return True
        if inode.is_link:
            await self._revalidate_link(inode)
            return True
        if self.offline.may_show_cached(inode):
            return True
        return (await self.offline.ask_briefly(inode, partial(self._revalidate, inode)) or [True])[0]

    async def _revalidate(self, inode: Inode) -> bool:
        asked, name = self.table.version, (inode.parent, inode.name)
        try:
            stat, share = await self._run_here(inode, stat_of)
        except PathNotCovered:
            if inode is not self.table.root:
                await self._revalidate_link(inode)
                return True
            stat, share = await self.run(inode, stat_of)
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                if self.is_moved(inode, name, asked):
                    return False
                if await self.others.still_see(inode, *name):
                    raise
                if self.is_moved(inode, name, asked):
                    return False
                raise self.drop_stale(inode, name) from error
            if self.offline.mark_offline(inode, error):
                return True
            raise
        return not self.is_moved(inode, name, asked) and await self.accept(inode, stat, share, asked)

    async def accept(self, inode: Inode, stat: FileStat, share: UncPath, asked: int) -> bool:
        """Keeps what a server said of the inode's place. Returns as `update_attributes` does.

        Raises:
            PosixError: ESTALE, it is not the inode's file any more.
            DfsfsError: the server was asked once more to be sure, and gave no answer.
        """
        if inode.parent is not None and not inode.is_link:
            if not self.table.same_file(inode, stat, share):
                if not await self._has_unstable_id(inode, stat, share):
                    raise self.drop_stale(inode, (inode.parent, inode.name))
                self.distrust_ids(share)
            inode.share, inode.file_id = share, self.table.get_file_id(stat, share)
        return self.update_attributes(inode, stat, asked)

    def drop_stale(self, inode: Inode, place: tuple[Inode | None, str]) -> PosixError:
        """Takes an inode off the folder and name by which it was asked for, as that has turned out to be gone or
        another file's.
        """
        folder, name = place
        if folder is not None:
            self.table.invalidate_name(folder, name)
            if folder.children.get(name) is inode:
                self._drop_missing(folder, name)
        return PosixError(errno.ESTALE, f"{inode.name} is gone, or is another file now")

    async def _revalidate_link(self, link: Inode) -> None:
        assert link.anchor is not None and link.parent is not None
        binding = link.anchor.junction.binding
        if binding is None and not self.access_cache.has(link):
            try:
                await self.run_in(link.parent, link.name, stat_of)
            except PathNotCovered:
                self.access_cache.grant(link)
        asked = self.table.version
        if binding is not None and binding.tree.alive:
            try:
                path = binding.target.join(link.anchor.components)
                self.update_attributes(link, await binding.tree.at(link.anchor.moment).stat(path), asked)
                return
            except DfsfsError:
                pass  # whoever enters the link will hear of it
        link.expires = self.clock() + self.lifetime(link)

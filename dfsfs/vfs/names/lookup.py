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

from dfsfs.acting import caller
from dfsfs.errors import DfsfsError, EndlessAnswer, PosixError
from dfsfs.namespace.junction import Covered, Location
from dfsfs.vfs.names.attrcache import AttributeCache, Lifetimes
from dfsfs.vfs.names.dircache import Demand, Origin
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
        self.unreached = OfflineDirectories(self.table, clock, self._is_live)
        self.hidden = HiddenNames()
        self.moving = DirectoryRenames()
        self.others = OtherUsers(self.table, self.proofs, self.refresh)

    # -- inodes by number --------------------------------------------------------------------------------------------

    def inode(self, ino: int) -> Inode:
        """Raises: PosixError: ESTALE, there is no such inode."""
        inode = self.table.get(ino)
        if inode is None:
            raise PosixError(errno.ESTALE, f"there is no inode {ino}")
        return inode

    def folder(self, ino: int) -> Inode:
        """Raises: PosixError: ESTALE, there is no such inode; ENOTDIR, it is a file."""
        inode = self.inode(ino)
        if not inode.is_directory:
            raise PosixError(errno.ENOTDIR, f"{inode.name} is not a directory")
        return inode

    def location(self, inode: Inode) -> Location:
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
        except Covered:
            pass
        try:
            return await self._run_here(inode, operation)
        except Covered as link:
            raise self._turned(link) from None

    async def _run_here(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run`, but raises Covered when the inode has just turned into a link, and goes no further."""
        await self.moving.free(inode)
        try:
            with self.moving.running(inode):
                result = await self._sent(self.location(inode), operation)
            if inode.is_link:
                self.unreached.keep(inode)
            return result
        except Covered as link:
            if self._uncover(inode, link.prefix):
                raise
            raise self._turned(link) from None

    async def run_by_name(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run`, for what the kernel has found by a name: if nothing is where the inode is thought to be, that is
        ESTALE, and the kernel looks up what it was given once more.
        """
        place, asked = (inode.parent, inode.name), self.table.moment
        try:
            return await self.run(inode, operation)
        except DfsfsError as error:
            if error.errno != errno.ENOENT or place[0] is None or inode.is_link:
                raise
            if self.is_moved(inode, place, asked):
                raise PosixError(errno.ESTALE, f"{place[1]} has just been changed") from error
            if await self.others.still_have(inode, *place):
                raise
            raise self.gone(inode, place) from error

    async def change_by_name(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Like `run_by_name`, for a change. Raises as that and `make_sure`."""
        await self.make_sure(inode)
        return await self.run_by_name(inode, operation)

    async def make_sure(self, inode: Inode) -> None:
        """Before a file that has several names is changed by the first of them: asks whether that is still its own, and
        not one that others gave to another file.

        Raises: as `refresh`.
        """
        if inode.more:
            inode.expires = NEVER
            await self.refresh(inode)

    async def run_in(self, folder: Inode, name: str, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` at the (wire) name in a folder.

        Raises:
            Covered: the name is a DFS link, now at least.
            PosixError: ESTALE, the folder has no place any more.
            DfsfsError: what the operation or the way to a target came to.
        """
        await self.moving.free(folder)
        location = self.location(folder).child(name)
        try:
            with self.moving.running(folder):
                result = await self._sent(location, operation)
            if folder.is_link:
                self.unreached.keep(folder)
            return result
        except Covered as link:
            if link.prefix == location.unc:
                if self.table.child(folder, name) is not None:
                    self.table.prune(self.link_inode(folder, name, link.prefix))
                raise
            self._uncover(folder, link.prefix)
            raise self._turned(link) from None

    def _sent(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Awaitable[T]:
        """A question may be asked of more than one server."""
        send = self._namespace.ask_at if operation is stat_of else self._namespace.run
        return send(location, self.handles.within(operation))

    def _is_live(self, link: Inode) -> bool:
        """Whether a link is bound to a living target. That it should be asked for again is left to the background."""
        assert link.anchor is not None
        if not self.is_bound(link):
            return False
        self._namespace.refresh_if_due(link.anchor.junction)
        return True

    def _uncover(self, inode: Inode, prefix: UncPath) -> bool:
        """Turns what lies at `prefix`, the inode or one above it, into a link. Whether that was the inode itself."""
        for above in self.table.above(inode):
            if above.parent is None:
                anchor = above.location
                if anchor is not None and prefix.is_prefix_of(anchor.unc):
                    rest = prefix.rest_of(anchor.unc)
                    self.table.move_anchor(above, Location(self._namespace.junction(prefix), rest, anchor.moment))
                    return above is inode
                return False
            place = above.place
            if place is not None and place.unc == prefix:
                self.link_inode(above.parent, above.name, prefix)
                if above is inode:
                    return True
                self.table.prune(above)
                return False
        return False

    def _turned(self, link: Covered) -> PosixError:
        return PosixError(errno.ESTALE, f"{link.prefix} has become a DFS link")

    def link_inode(self, parent: Inode, name: str, prefix: UncPath) -> Inode:
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
            if (found := self.known(parent, name)) is not None:
                return found
            # A name that is being renamed back and forth is asked for alone: it would overtake the listing of the rest.
            looks_around = not self.table.was_just_changed(parent, name) and await self._look_around(parent)
            if looks_around and (found := self.known(parent, name)) is not None:
                return found
            await self._until_unchanging(parent, name)
            asked = self.table.moment
            known = self.table.child(parent, name)
            try:
                answer = await self.unreached.in_time(known, partial(self._ask_for_name, parent, name, asked))
            except DfsfsError:
                if self.table.name_overtaken(parent, name, asked):
                    continue
                raise
            if not answer:
                answer = [known if known is self.table.child(parent, name) else None]
            if answer[0] is not None:
                return answer[0]

    async def _ask_for_name(self, parent: Inode, name: str, asked: int) -> Inode | None:
        """The inode that a server says has a name; None if a change has overtaken the answer. Raises as look_up."""
        known = self.table.child(parent, name)
        try:
            stat, share = await self.run_in(parent, name, stat_of)
            if known is not None and await self._changes_ids(known, stat, share):
                self.distrust_ids(share)
        except Covered as link:
            inode = self.link_inode(parent, name, link.prefix)
            # What a bound link shows is its target's root, and that was not asked yet.
            inode.expires = NEVER if self._is_live(inode) else self.clock() + self.lifetime(inode)
            self.proofs.note(inode)
            return inode
        except DfsfsError as error:
            if known is not None and known is self.table.child(parent, name):
                if error.errno == errno.ENOENT:
                    is_others = await self.others.still_have(known, parent, name)
                    if not is_others and not self.table.name_overtaken(parent, name, asked):
                        self._missed(parent, name)
                elif self.unreached.note(known, error):
                    return known
            raise
        if self.table.name_overtaken(parent, name, asked):
            return None
        inode = self.table.observe(parent, name, stat, share)
        self.note(inode, stat, asked, by_name=self._is_first_name(inode, parent, name))
        return inode

    def _is_first_name(self, inode: Inode, parent: Inode, name: str) -> bool:
        return inode.parent is parent and inode.name == self.table.name_of(parent, name)

    async def check_ids(self, folder: Inode, entry: DirEntry, origin: Origin) -> None:
        """Makes sure that what a listing says is not of the file that is known but for its id. Raises as run_in."""
        known = self.table.child(folder, entry.name)
        if known is not None and await self._changes_ids(known, entry.stat, origin.share):
            self.distrust_ids(origin.share)

    async def _changes_ids(self, inode: Inode, stat: FileStat, share: UncPath) -> bool:
        """Whether a server gives another file id for the same file in each answer; `stat` is one of them."""
        if not is_same_but_for_id(inode, stat, share) or inode.parent is None:
            return False
        again, _ = await self.run_in(inode.parent, inode.name, stat_of)
        return again.created == stat.created and again.file_id != stat.file_id

    def distrust_ids(self, share: UncPath) -> None:
        """From now on, file ids of a share are not used."""
        log.warning("%s: its server gives other file ids for the same files; numbers of our own are used", share)
        self.table.forget_ids(share)

    def known(self, folder: Inode, name: str) -> Inode | None:
        """The inode of a (wire) name, if that can be said without asking. Counts no lookup.

        Raises:
            PosixError: ENOENT, there is no such name.
        """
        if self.table.is_being_changed(folder, name):
            return None
        known = self.table.child(folder, name)
        if known is not None:
            if known.is_hidden_as(folder, name):
                raise PosixError(errno.ENOENT, f"{name} was removed")
            is_first = not known.more or (known.parent, known.name) == (folder, name)
            if (is_first and self.is_valid(known)) or self.unreached.covers(known):
                return known
        view = self._view(folder)
        if view is None or self.table.name_overtaken(folder, name, view.origin.asked):
            return None
        entry = view.entries.get(name)
        if entry is not None and known is not None and is_same_but_for_id(known, entry.stat, view.origin.share):
            return None
        if entry is None:
            if view.may_spell(name) or self._is_static_link(folder, name):
                return None
            if known is not None and self.proofs.others(known):
                return None  # whether it is gone for those who have it, too, has to be asked
            self._missed(folder, name)
            raise PosixError(errno.ENOENT, f"{name} is not in the folder")
        inode = self.listed(folder, entry, view.origin)
        if inode.is_link and inode.stat is entry.stat and self._is_live(inode):
            inode.expires = NEVER  # what a bound link shows is its target's root, and that was not asked yet
        return inode if self.is_valid(inode) else None

    def _is_static_link(self, folder: Inode, name: str) -> bool:
        """Whether a name is a link of dfs_static=: what lists the folder knows nothing of it."""
        return self._namespace.has_static_links and bool(self._namespace.static_link(self.location(folder).child(name)))

    async def _look_around(self, folder: Inode) -> bool:
        """Lists a folder for its view if so many of its names are asked for. Whether it did; if not, it is no harm."""
        if self._view(folder) is not None:
            return False
        demand = folder.demand = folder.demand or Demand()
        if not demand.asked(self.clock(), self.lifetimes.folders):
            return False
        asked = self.table.moment
        begun = self.clock()

        demand.busy = True
        try:
            found, share = await self.run(folder, partial(entries_of, self.table, folder, LOOK_AROUND))
        except DfsfsError as error:
            demand.hopeless = demand.hopeless or isinstance(error, EndlessAnswer)
            return False
        finally:
            demand.busy = False
        if len(found) > LOOK_AROUND:
            demand.hopeless = True
            return False
        self.views.keep(folder, found, Origin(share, asked, begun, caller().uid))
        return True

    def listed(self, folder: Inode, entry: DirEntry, origin: Origin) -> Inode:
        """The inode of a listed entry. What has its name must not have been changed here since."""
        known = self.table.child(folder, entry.name)
        is_hidden = known is not None and known.is_hidden_as(folder, entry.name)
        if known is not None and (known.is_link or is_hidden) and entry.stat.is_directory == known.is_directory:
            if known.stat is None or known.stat.is_dfs_link:  # else it shows what is behind it
                known.stat = entry.stat
                if known.is_link:
                    known.expires = origin.time + self.lifetime(known)
            self.proofs.note(known)
            return known
        if self.follow_links and entry.stat.is_marked_link:
            inode = self.link_inode(folder, entry.name, self.location(folder).child(entry.name).unc)
            inode.stat, inode.expires = entry.stat, origin.time + self.lifetime(inode)
            self.proofs.note(inode)
            return inode
        inode = self.table.observe(folder, entry.name, entry.stat, origin.share, exact=True)
        if inode.own is None:  # of a file that is being written, a listing may say what was true before
            before, stat = inode.stat, entry.stat
            if before is not None and before.links > 1:
                stat = replace(stat, links=before.links)
            is_first = self._is_first_name(inode, folder, entry.name)
            self.note(inode, stat, origin.asked, origin.time, by_name=is_first)
            if stat is not entry.stat or inode.more or inode.had_several_names:
                inode.expires = NEVER  # a listing does not say how many names a file has, and that may have changed
        self.proofs.note(inode)
        return inode

    # -- attributes -------------------------------------------------------------------------------------------------

    async def refresh(self, inode: Inode) -> bool:
        """Asks for the inode's attributes if they are too old. Whether no change made here has overtaken the answer.

        Of a link nothing is asked unless it is bound, and then once; if its target fails, it shows what it did before.

        Raises:
            PosixError: ESTALE, the inode is gone or another file has its name.
            DfsfsError: the server's answer.
        """
        if self.is_fresh(inode):
            return True
        if inode.is_link:
            await self._refresh_link(inode)
            return True
        if self.unreached.covers(inode):
            return True
        return (await self.unreached.in_time(inode, partial(self._refresh, inode)) or [True])[0]

    async def _refresh(self, inode: Inode) -> bool:
        asked, name = self.table.moment, (inode.parent, inode.name)
        try:
            stat, share = await self._run_here(inode, stat_of)
        except Covered:
            if inode is not self.table.root:
                await self._refresh_link(inode)
                return True
            stat, share = await self.run(inode, stat_of)
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                if self.is_moved(inode, name, asked):
                    return False
                if await self.others.still_have(inode, *name):
                    raise
                if self.is_moved(inode, name, asked):
                    return False
                raise self.gone(inode, name) from error
            if self.unreached.note(inode, error):
                return True
            raise
        return not self.is_moved(inode, name, asked) and await self.accept(inode, stat, share, asked)

    async def accept(self, inode: Inode, stat: FileStat, share: UncPath, asked: int) -> bool:
        """Keeps what a server said of the inode's place. Returns as `note` does.

        Raises:
            PosixError: ESTALE, it is not the inode's file any more.
            DfsfsError: the server was asked once more to be sure, and gave no answer.
        """
        if inode.parent is not None and not inode.is_link:
            if not self.table.same_file(inode, stat, share):
                if not await self._changes_ids(inode, stat, share):
                    raise self.gone(inode, (inode.parent, inode.name))
                self.distrust_ids(share)
            inode.share, inode.file_id = share, self.table.id_of(stat, share)
        return self.note(inode, stat, asked)

    def gone(self, inode: Inode, place: tuple[Inode | None, str]) -> PosixError:
        """Takes an inode off the folder and name by which it was asked for, as that has turned out to be gone or
        another file's.
        """
        folder, name = place
        if folder is not None:
            self.table.doubt_name(folder, name)
            if folder.children.get(name) is inode:
                self._missed(folder, name)
        return PosixError(errno.ESTALE, f"{inode.name} is gone, or is another file now")

    async def _refresh_link(self, link: Inode) -> None:
        assert link.anchor is not None and link.parent is not None
        binding = link.anchor.junction.binding
        if binding is None and not self.proofs.has(link):
            try:
                await self.run_in(link.parent, link.name, stat_of)
            except Covered:
                self.proofs.note(link)
        asked = self.table.moment
        if binding is not None and binding.tree.alive:
            try:
                path = binding.target.join(link.anchor.components)
                self.note(link, await binding.tree.at(link.anchor.moment).stat(path), asked)
                return
            except DfsfsError:
                pass  # whoever enters the link will hear of it
        link.expires = self.clock() + self.lifetime(link)

"""Revalidator: asks a server again what an inode is, and decides whether it still is what it was.

An inode whose name is gone, or another file's, is taken off that name, and the caller gets ESTALE, on which the kernel
looks the name up again. What one of many users is told to be missing is first asked for the users who were told
otherwise: otherusers.py. What cannot be asked, as its server is down, may be shown as it was last: offline.py.
"""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dfsfs.errors import DfsfsError, PosixError
from dfsfs.namespace.junction import PathNotCovered
from dfsfs.vfs.names.otherusers import OtherUsers
from dfsfs.vfs.names.queries import is_same_but_for_id, stat_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry, FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.attrcache import AttributeCache
    from dfsfs.vfs.names.dircache import Origin
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.offline import OfflineDirectories
    from dfsfs.vfs.names.routing import Router

T = TypeVar("T")

log = logging.getLogger("dfsfs.vfs")


class Revalidator:
    """See the module's text. `others` asks for users beside the current caller."""

    def __init__(self, router: Router, attributes: AttributeCache, offline: OfflineDirectories) -> None:
        self.others = OtherUsers(attributes.table, attributes.access, self.revalidate)
        self._router = router
        self._attributes = attributes
        self._offline = offline
        self._table = attributes.table

    async def revalidate(self, inode: Inode) -> bool:
        """Asks for the inode's attributes if they are too old. Whether no change made here has overtaken the answer.

        A DFS link is asked only while it is bound, and once; if its target fails, it stays as it is shown.

        Raises:
            PosixError: ESTALE, the name is gone, or another file has it.
            DfsfsError: the server's answer.
        """
        if self._attributes.is_fresh(inode):
            return True
        if inode.is_link:
            await self._revalidate_link(inode)
            return True
        if self._offline.may_show_cached(inode):
            return True
        return (await self._offline.ask_briefly(inode, partial(self._revalidate, inode)) or [True])[0]

    async def _revalidate(self, inode: Inode) -> bool:
        asked, name = self._table.version, (inode.parent, inode.name)
        try:
            stat, share = await self._router.run_once(inode, stat_of)
        except PathNotCovered:
            if inode is not self._table.root:
                await self._revalidate_link(inode)
                return True
            stat, share = await self._router.run(inode, stat_of)
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                if self._attributes.is_moved(inode, name, asked):
                    return False
                if await self.others.still_see(inode, *name):
                    raise
                if self._attributes.is_moved(inode, name, asked):
                    return False
                raise self.drop_stale(inode, name) from error
            if self._offline.mark_offline(inode, error):
                return True
            raise
        return not self._attributes.is_moved(inode, name, asked) and await self.accept(inode, stat, share, asked)

    async def accept(self, inode: Inode, stat: FileStat, share: UncPath, asked: int, *, by_name: bool = True) -> bool:
        """Keeps what a server said of the inode's place. Arguments and result are those of AttributeCache.update.

        Raises:
            PosixError: ESTALE, it is not the inode's file any more.
            DfsfsError: the server was asked once more to be sure, and gave no answer.
        """
        if inode.parent is not None and not inode.is_link:
            if not self._table.same_file(inode, stat, share):
                if not await self.has_unstable_id(inode, stat, share):
                    raise self.drop_stale(inode, (inode.parent, inode.name))
                self.distrust_ids(share)
            self._table.set_identity(inode, stat, share)
        return self._attributes.update(inode, stat, asked, by_name=by_name)

    def drop_stale(self, inode: Inode, place: tuple[Inode | None, str]) -> PosixError:
        """Takes a dentry from its inode, as the name is gone or another file's. Returns the error to raise."""
        directory, name = place
        if directory is not None:
            self._table.invalidate_name(directory, name)
            if directory.children.get(name) is inode:
                self._attributes.drop_missing(directory, name)
        return PosixError(errno.ESTALE, f"{inode.name} is gone, or is another file now")

    async def _revalidate_link(self, link: Inode) -> None:
        assert link.anchor is not None and link.parent is not None
        binding = link.anchor.junction.for_caller().binding
        if binding is None and not self._attributes.access.has(link):
            try:
                await self._router.run_in(link.parent, link.name, stat_of)
            except PathNotCovered:
                self._attributes.access.grant(link)
        asked = self._table.version
        if binding is not None and binding.tree.alive:
            try:
                path = binding.target.join(link.anchor.components)
                self._attributes.update(link, await binding.tree.at(link.anchor.snapshot_time).stat(path), asked)
                return
            except DfsfsError:
                pass  # it is reported when the link is entered
        self._attributes.believe_briefly(link)

    async def run_by_name(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """`Router.run` for an inode that the kernel has found by name: if nothing has that name, it is ESTALE instead
        of ENOENT, and the kernel looks up the name once more.
        """
        place, asked = (inode.parent, inode.name), self._table.version
        try:
            return await self._router.run(inode, operation)
        except DfsfsError as error:
            if error.errno != errno.ENOENT or place[0] is None or inode.is_link:
                raise
            if self._attributes.is_moved(inode, place, asked):
                raise PosixError(errno.ESTALE, f"{place[1]} has just been changed") from error
            if await self.others.still_see(inode, *place):
                raise
            raise self.drop_stale(inode, place) from error

    async def change_by_name(self, inode: Inode, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """`run_by_name` for an operation that changes the file. Raises as that and `revalidate_hard_link`."""
        await self.revalidate_hard_link(inode)
        return await self.run_by_name(inode, operation)

    async def revalidate_hard_link(self, inode: Inode) -> None:
        """Asks whether the first name of a file with several names is still its own, before the file is changed by it.

        Raises as `revalidate`.
        """
        if inode.hard_links:
            inode.expire_attributes()
            await self.revalidate(inode)

    async def check_ids(self, directory: Inode, entry: DirEntry, origin: Origin) -> None:
        """Finds out from a listed entry whether the file ids of its share are stable. Raises as Router.run_in."""
        known = self._table.child(directory, entry.name)
        if known is not None and await self.has_unstable_id(known, entry.stat, origin.share):
            self.distrust_ids(origin.share)

    async def has_unstable_id(self, inode: Inode, stat: FileStat, share: UncPath) -> bool:
        """Whether a server gives a file another id in each answer, of which `stat` is one. Asks once more to be
        sure.
        """
        if not is_same_but_for_id(inode, stat, share) or inode.parent is None:
            return False
        again, _ = await self._router.run_in(inode.parent, inode.name, stat_of)
        return again.created == stat.created and again.file_id != stat.file_id

    def distrust_ids(self, share: UncPath) -> None:
        """From now on the file ids of a share are not used."""
        log.warning("%s: its server gives other file ids for the same files; numbers of our own are used", share)
        self._table.forget_ids(share)

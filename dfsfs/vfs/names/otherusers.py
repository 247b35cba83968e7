"""OtherUsers: what one user of a `multiuser` mount may not see is not taken from the other users.

The kernel has one dentry for a name, for all users. If its question about a name that it knows is answered by an error,
or by "there is no such name", it drops the dentry for all of them: a program whose current directory that is finds
itself in one that is "(deleted)", and what is mounted below is gone. The inode is one for all users, too. So

    a user is refused a name      the kernel is told of the inode that other users were told of; what it then asks of
                                  that (attributes, an open, a listing) is asked for this user, and refused
    a user is told that there     a witness (access.py) is asked, with that user's login. As long as the server tells a
    is no such name               witness otherwise, the name is missing for this user only; else it is gone

The kernel also drops its dentry if the removal or rename of a name ends with "there is no such name"; a user who is
told that by a server, while others have seen the name, is refused instead (`have_seen`).

A witness who has no session any more cannot be asked, and is not logged in for that. Such a witness counts on a share
that has been seen to hide names (Samba's `veto files`, access based enumeration), and not on others: there, what
another client has removed has to make room for a new file.

A witness is asked through the connection that is there, for PATIENCE seconds at most.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from dfsfs.caller import Caller, override_caller
from dfsfs.errors import DfsfsError, Disposition
from dfsfs.vfs.names.inodetable import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Location, TargetBinding
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.access import AccessCache
    from dfsfs.vfs.names.inodetable import Inode, InodeTable

PATIENCE = 2.0
"""Seconds that a question on behalf of a witness may take."""


class OtherUsers:
    """See the module's text. `revalidate` is Revalidator.revalidate."""

    def __init__(
        self, table: InodeTable, access_cache: AccessCache, revalidate: Callable[[Inode], Awaitable[bool]]
    ) -> None:
        self._table = table
        self._access_cache = access_cache
        self._revalidate = revalidate
        self._hiding_shares: set[UncPath] = set()
        """Shares that have been seen to show a name to one user and to hide it from another."""

    async def get(self, directory: Inode, name: str) -> Inode | None:
        """The inode that the kernel is told of when a server refuses a name to the caller; None if no other user was
        told of it.

        The kernel takes over its attributes, too, and cuts its cached data to their size. So they are asked for if they
        are too old.
        """
        inode = self._get_shared(directory, name)
        if inode is None or inode.is_directory or inode.local_writes is not None or inode.expires > NEVER:
            return inode
        witness = Caller(self._access_cache.others(inode)[0], 0, is_background=True)
        with override_caller(witness), trio.move_on_after(PATIENCE), suppress(DfsfsError):
            await self._revalidate(inode)
        return self._get_shared(directory, name)

    def _get_shared(self, directory: Inode, name: str) -> Inode | None:
        inode = self._table.child(directory, name)
        if inode is None or inode.is_silly_name(directory, name) or not self._access_cache.others(inode):
            return None
        return inode

    def have_seen(self, directory: Inode | None, name: str) -> bool:
        """Whether users beside the caller were told of the inode that has a name."""
        return directory is not None and self._get_shared(directory, name) is not None

    async def still_see(self, inode: Inode, directory: Inode | None, name: str) -> bool:
        """Whether other users still see an inode under its name, of which a server has just told the caller that there
        is no such name. Users who are told the same are witnesses no more.
        """
        if directory is None or not self._access_cache.is_needed:
            return False
        self._access_cache.revoke(inode)
        for uid in self._access_cache.others(inode):
            with override_caller(Caller(uid, 0, is_background=True)):
                is_there = await self._ask(inode, directory, name)
                if is_there:
                    self._access_cache.grant(inode)
                    if inode.share is not None:
                        self._hiding_shares.add(inode.share)
                    return True
                if is_there is None and inode.share in self._hiding_shares:
                    return True
                self._access_cache.revoke(inode)
        return False

    async def _ask(self, inode: Inode, directory: Inode, name: str) -> bool | None:
        """Whether a server tells the current caller that the inode has the name; None if it cannot be asked."""
        location = directory.location
        if location is None:
            return False
        location = location.child(self._table.get_exact_name(directory, name))
        binding = location.junction.for_caller().binding
        if binding is None or not binding.tree.alive:
            return None
        try:
            with trio.move_on_after(PATIENCE):
                stat = await _stat(location, binding)
                return self._table.same_file(inode, stat, binding.tree.volume)
        except DfsfsError as error:
            if error.errno == errno.ENOENT:
                return False
            if error.disposition in (Disposition.RETURN, Disposition.REFER):
                return True  # refused now, or a DFS link: the name is there
        return None


async def _stat(location: Location, binding: TargetBinding) -> FileStat:
    return await binding.tree.at(location.snapshot_time).stat(binding.target.join(location.components))

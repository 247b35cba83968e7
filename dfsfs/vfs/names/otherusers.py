"""OtherUsers: what one user of a mount for many may not see is not taken from the rest.

The kernel has one entry for a name, whoever asks. If its question about a name that it knows is answered by an error,
or by "there is no such name", it drops the entry for everybody: whoever stands in that folder stands in one that is
"(deleted)", and what is mounted below is gone. And our inode is one for everybody, too. So

    a user is refused a name      the kernel is told of the inode that others were told of; what it then asks of that
                                  (attributes, an open, a listing) is asked for that user, and refused
    a user is told that there     a witness (access.py) is asked, under their own login. As long as there is one to whom
    is no such name               the server says something else, the absence is that user's; else the name is gone

The kernel also drops what it has of a name if the removal or rename of it ends with "there is no such name"; who is
told that by a server is refused instead (`have_seen`).

A witness who has no session any more can't be asked, and nobody is logged in for that. Such a one counts on a share
that has been seen to hide things (Samba's `veto files`, access based enumeration), and not on others: what was removed
there by somebody else has to make room for a new one.

A witness is asked through the connection that is there, with a bound of PATIENCE seconds.
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
"""Seconds that the answer for a witness may take."""


class OtherUsers:
    """See the module's text. `revalidate` asks for an inode's attributes."""

    def __init__(
        self, table: InodeTable, access_cache: AccessCache, revalidate: Callable[[Inode], Awaitable[bool]]
    ) -> None:
        self._table = table
        self._access_cache = access_cache
        self._revalidate = revalidate
        self._hiding_shares: set[UncPath] = set()
        """Shares that have been seen to show a name to one user and to hide it from another."""

    async def get(self, folder: Inode, name: str) -> Inode | None:
        """The inode that the kernel is told of when a server refuses a name to the caller; None if nobody else was told
        of it.

        The kernel takes its attributes, too, and cuts what it has of the file to its size. So they must be true.
        """
        inode = self._get_shared(folder, name)
        if inode is None or inode.is_directory or inode.local_writes is not None or inode.expires > NEVER:
            return inode
        witness = Caller(self._access_cache.others(inode)[0], 0, is_background=True)
        with override_caller(witness), trio.move_on_after(PATIENCE), suppress(DfsfsError):
            await self._revalidate(inode)
        return self._get_shared(folder, name)

    def _get_shared(self, folder: Inode, name: str) -> Inode | None:
        inode = self._table.child(folder, name)
        if inode is None or inode.is_silly_name(folder, name) or not self._access_cache.others(inode):
            return None
        return inode

    def have_seen(self, folder: Inode | None, name: str) -> bool:
        """Whether others were told of what has a name."""
        return folder is not None and self._get_shared(folder, name) is not None

    async def still_see(self, inode: Inode, folder: Inode | None, name: str) -> bool:
        """Whether others have the inode under its name, of which a server has just told the caller that there is no
        such thing. Those whom it tells the same are witnesses no more.
        """
        if folder is None or not self._access_cache.is_needed:
            return False
        self._access_cache.revoke(inode)
        for uid in self._access_cache.others(inode):
            with override_caller(Caller(uid, 0, is_background=True)):
                is_there = await self._ask(inode, folder, name)
                if is_there:
                    self._access_cache.grant(inode)
                    if inode.share is not None:
                        self._hiding_shares.add(inode.share)
                    return True
                if is_there is None and inode.share in self._hiding_shares:
                    return True
                self._access_cache.revoke(inode)
        return False

    async def _ask(self, inode: Inode, folder: Inode, name: str) -> bool | None:
        """Whether a server says to the caller that the inode has the name; None if nobody can be asked."""
        location = folder.location
        if location is None:
            return False
        location = location.child(self._table.get_exact_name(folder, name))
        binding = location.junction.binding
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
                return True  # refused now, or a DFS link: there is something
        return None


async def _stat(location: Location, binding: TargetBinding) -> FileStat:
    return await binding.tree.at(location.moment).stat(binding.target.join(location.components))

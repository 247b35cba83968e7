"""Which files other clients have locked parts of, so that they are read as programs ask and not by the page.

Through its page cache the kernel asks for whole pages, and a server refuses a READ of which one byte is locked. So a
page with a locked byte can't be had, and nothing may stand in for the rest of it. Without the page cache
(FOPEN_DIRECT_IO) a program's read(2) comes as it is: what is not locked can be read, and what is locked is its error
alone. That is chosen when the file is opened, so it has to be known then that somebody has locks. It is known from

    the answer to a READ that came along with the open, or to any READ of that file in the last REMEMBERED seconds
    the lease: a server gives no READ lease on a file with locks (MS-FSA 2.1.5.18), and takes the one that is there back

The second counts for shares that have given READ leases before: others may give none to anybody.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from dfsfs.smb.wire.constants import LeaseState

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inodetable import Inode

REMEMBERED = 60.0
"""Seconds for which a lock that was met is believed in, where there are no leases that tell."""


class LockedFiles:
    """See the module's text. Never waits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._met: OrderedDict[Inode, float] = OrderedDict()
        """Until when each is believed to have locks; the one met last at the end."""
        self._leasing: set[UncPath] = set()

    def met(self, inode: Inode) -> None:
        """A READ or WRITE was refused because of a lock."""
        now = self._clock()
        self._met[inode] = now + REMEMBERED
        self._met.move_to_end(inode)
        while next(iter(self._met.values())) <= now:
            self._met.popitem(last=False)

    def opened(self, inode: Inode, remote: RemoteFile) -> bool:
        """A file was opened. Whether somebody probably has locks on it."""
        if remote.head_is_locked:
            self.met(inode)
            return True
        # What was given, and not what is left of it by now: somebody who writes takes that back, too.
        given, share = remote.lease.given if remote.lease is not None else None, remote.tree.volume
        if given is not None and given & LeaseState.SMB2_LEASE_READ_CACHING:
            self._leasing.add(share)
            self._met.pop(inode, None)
            return False
        if given is not None and share in self._leasing:
            return True
        return self._met.get(inode, 0.0) > self._clock()

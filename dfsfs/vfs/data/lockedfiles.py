"""LockedFiles: which files other clients hold byte-range locks on, so that they are read around the page cache.

Through its page cache the kernel reads whole pages, and a server refuses a READ of which one byte is locked. So a page
with a locked byte can't be read, and the rest of it must not be filled with anything else. Without the page cache
(FOPEN_DIRECT_IO) a program's read(2) arrives as it is: bytes that are not locked can be read, and only a read of locked
ones fails. That is chosen when the file is opened, so the locks have to be known by then. They are known from

    the answer to a READ that came along with the open, or to any READ of that file in the last REMEMBERED seconds
    the lease: a server grants no READ lease on a file with locks (MS-FSA 2.1.5.18), and breaks one that it has granted

The second counts only on shares that have granted a READ lease before, as others may grant none at all.
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
"""Seconds for which a file counts as locked after a conflict, on shares without leases."""


class LockedFiles:
    """See the module's text. Never waits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._conflicts: OrderedDict[Inode, float] = OrderedDict()
        """Until when each is believed to have locks; the one met last at the end."""
        self._leasing_shares: set[UncPath] = set()

    def note_conflict(self, inode: Inode) -> None:
        """A READ or WRITE was refused because of a lock."""
        now = self._clock()
        self._conflicts[inode] = now + REMEMBERED
        self._conflicts.move_to_end(inode)
        while next(iter(self._conflicts.values())) <= now:
            self._conflicts.popitem(last=False)

    def note_open(self, inode: Inode, remote: RemoteFile) -> bool:
        """A file was opened. Returns whether another client probably has locks on it."""
        if remote.inline_data_is_locked:
            self.note_conflict(inode)
            return True
        # What was granted at first: a write of another client breaks the lease, too, and says nothing of locks.
        given, share = remote.lease.given if remote.lease is not None else None, remote.tree.volume
        if given is not None and given & LeaseState.SMB2_LEASE_READ_CACHING:
            self._leasing_shares.add(share)
            self._conflicts.pop(inode, None)
            return False
        if given is not None and share in self._leasing_shares:
            return True
        return self._conflicts.get(inode, 0.0) > self._clock()

"""Which users may be shown what is cached, in a mount with `multiuser`: an access cache, as NFS has one for each inode.

Inodes, and what servers said of them, are the same for all users, but a server may refuse one user what it has told
another. So a user is shown what is cached of an inode only if a server has told that user of it, too, no longer ago
than attributes are believed. Otherwise the server is asked on that user's behalf.

A user whom a server has told of an inode at any time is a WITNESS of it. If another user is told that there is no such
thing, the witnesses keep it: otherusers.py.

Pure, but for the current caller (dfsfs/caller.py). In a mount with one login every user may be shown everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.caller import current_caller
from dfsfs.vfs.names.inodetable import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.vfs.names.inodetable import Inode

WITNESSES = 16
"""Witnesses of an inode that are remembered: the users who were told last."""


class AccessCache:
    """See the module's text. `needed`: whether the mount has many users. `lifetime` returns for how many seconds the
    attributes of an inode are believed.
    """

    def __init__(self, needed: bool, clock: Callable[[], float], lifetime: Callable[[Inode], float]) -> None:
        self.is_needed = needed
        self._clock = clock
        self._lifetime = lifetime

    def grant(self, inode: Inode) -> None:
        """A server has told the current caller of an inode: it may be shown for its lifetime."""
        if not self.is_needed:
            return
        known = inode.access_cache = inode.access_cache if inode.access_cache is not None else {}
        known.pop(current_caller().uid, None)
        known[current_caller().uid] = self._clock() + self._lifetime(inode)
        if len(known) > WITNESSES:
            del known[next(iter(known))]

    def has(self, inode: Inode) -> bool:
        """Whether the current caller may be shown what is cached of an inode."""
        if not self.is_needed:
            return True
        return inode.access_cache is not None and inode.access_cache.get(current_caller().uid, NEVER) > self._clock()

    def revoke(self, inode: Inode) -> bool:
        """A server has told the current caller that there is no such inode. Whether another user may still be
        shown it.
        """
        if not self.is_needed or not inode.access_cache:
            return False
        inode.access_cache.pop(current_caller().uid, None)
        return any(until > self._clock() for until in inode.access_cache.values())

    def others(self, inode: Inode) -> tuple[int, ...]:
        """The uids of the witnesses but for the current caller, the one who was told last first."""
        if not self.is_needed or not inode.access_cache:
            return ()
        return tuple(uid for uid in reversed(inode.access_cache) if uid != current_caller().uid)

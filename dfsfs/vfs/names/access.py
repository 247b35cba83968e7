"""Who may be told what is known, and who else was, in a mount of many users.

Inodes, and what servers said of them, are the same for all users. But what a server has told one of them it may refuse
another one. So each user is told only what a server has told them, too, not longer ago than attributes are believed; if
not, the server is asked on their behalf.

Whoever was told of an inode by a server, however long ago, is a WITNESS: if another user is told that there is no such
thing, that is not taken from the witnesses (otherusers.py).

Pure but for the caller (dfsfs/caller.py). In a mount with one login everybody may be told everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.caller import current_caller
from dfsfs.vfs.names.inodetable import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.vfs.names.inodetable import Inode

WITNESSES = 16
"""Witnesses of an inode that are remembered: those who were told last."""


class AccessCache:
    """`is_needed`: whether there are many users. `lifetime` gives the seconds for which attributes of an inode are
    believed.
    """

    def __init__(self, needed: bool, clock: Callable[[], float], lifetime: Callable[[Inode], float]) -> None:
        self.is_needed = needed
        self._clock = clock
        self._lifetime = lifetime

    def grant(self, inode: Inode) -> None:
        """A server has told the caller of an inode."""
        if not self.is_needed:
            return
        known = inode.access_cache = inode.access_cache if inode.access_cache is not None else {}
        known.pop(current_caller().uid, None)
        known[current_caller().uid] = self._clock() + self._lifetime(inode)
        if len(known) > WITNESSES:
            del known[next(iter(known))]

    def has(self, inode: Inode) -> bool:
        """Whether the caller may be told what is known of an inode."""
        if not self.is_needed:
            return True
        return inode.access_cache is not None and inode.access_cache.get(current_caller().uid, NEVER) > self._clock()

    def revoke(self, inode: Inode) -> bool:
        """A server has told the caller that there is no such inode. Whether others still know better."""
        if not self.is_needed or not inode.access_cache:
            return False
        inode.access_cache.pop(current_caller().uid, None)
        return any(until > self._clock() for until in inode.access_cache.values())

    def others(self, inode: Inode) -> tuple[int, ...]:
        """The witnesses beside the caller, by their numbers, those who were told last first."""
        if not self.is_needed or not inode.access_cache:
            return ()
        return tuple(uid for uid in reversed(inode.access_cache) if uid != current_caller().uid)

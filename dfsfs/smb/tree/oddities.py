"""Oddities: what of a share's content makes no sense, each said once.

Whoever may write to a share can make a file that nobody can be shown as what it claims to be, and can make many. So
such a thing is said once and in few words, and after LIMIT of them no more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dfsfs.firstfew import FirstFew

if TYPE_CHECKING:
    from dfsfs.unc import UncPath

log = logging.getLogger("dfsfs.smb")

LIMIT = 100
"""Things that are said of one share."""


class Oddities:
    """What has been said of one share."""

    def __init__(self) -> None:
        self._said: FirstFew[tuple[UncPath, str]] = FirstFew(LIMIT)
        self._more = False

    def note(self, path: UncPath, what: str, consequence: str) -> None:
        """Says what is wrong with something at a path, and what is done about it, unless that was said before."""
        if self._said.take((path, what)):
            log.warning("%s: %s; %s", path, what, consequence)
        elif (path, what) not in self._said and not self._more:
            self._more = True
            log.warning("%s: more of its content makes no sense, which is not said any more", path.share)

"""ContentWarnings: logs malformed content of a share, such as reparse points, once for each file.

Users with write access can create many such files. So each is logged once, and after MAX_WARNINGS of them no more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dfsfs.firstfew import FirstFew

if TYPE_CHECKING:
    from dfsfs.unc import UncPath

log = logging.getLogger("dfsfs.smb")

MAX_WARNINGS = 100
"""The most warnings about one share."""


class ContentWarnings:
    """The warnings about one share so far."""

    def __init__(self) -> None:
        self._said: FirstFew[tuple[UncPath, str]] = FirstFew(MAX_WARNINGS)
        self._more = False

    def warn_once(self, path: UncPath, what: str, consequence: str) -> None:
        """Logs what is wrong with the object at a path, and the consequence, unless that was logged before."""
        if self._said.take((path, what)):
            log.warning("%s: %s; %s", path, what, consequence)
        elif (path, what) not in self._said and not self._more:
            self._more = True
            log.warning("%s: more of its content makes no sense, which is not said any more", path.share)

"""Folders on the way to links that work, when the servers of these folders are down: they are shown as they were
last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.errors import UNREACHED, DfsfsError
from dfsfs.vfs.nodes import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.vfs.nodes import Node

MEMORY = 30.0
"""Seconds during which such folders are not asked for again at servers that can't be reached."""


class Unreached:
    """`is_live`: whether a link leads to a living target, by a referral that is still good."""

    def __init__(self, clock: Callable[[], float], is_live: Callable[[Node], bool]) -> None:
        self._clock = clock
        self._is_live = is_live
        self._until: dict[object, float] = {}

    def covers(self, node: Node) -> bool:
        """Whether the node is to be shown as it was last, without asking."""
        place = node.parent.location if node.parent is not None else node.location
        if place is None or node.stat is None or self._clock() >= self._until.get(place.junction, NEVER):
            return False
        return self._serves(node)

    def note(self, node: Node, error: DfsfsError) -> bool:
        """Whether the node is to be shown as it was last, as its server is down and something below it is not."""
        if error.disposition not in UNREACHED or node.stat is None or not self._serves(node):
            return False
        place = node.parent.location if node.parent is not None else node.location
        if place is not None:
            self._until[place.junction] = self._clock() + MEMORY
        return True

    def _serves(self, node: Node) -> bool:
        """Whether a living link is known below the node."""
        return any(
            self._is_live(child) if child.is_link else self._serves(child)
            for child in node.children.values()
            if child.is_directory
        )

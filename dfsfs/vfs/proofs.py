"""Who may be told what is known, in a mount of many users.

Nodes, and what servers said of them, are the same for all users. But what a server has told one of them it may refuse
another one. So each user is told only what a server has told them, too, not longer ago than attributes are believed; if
not, the server is asked on their behalf.

Pure but for the caller (dfsfs/acting.py). In a mount with one login everybody may be told everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.acting import caller
from dfsfs.vfs.nodes import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.vfs.nodes import Node

TIDY = 16
"""Proofs of a node above which old ones are looked for."""


class Proofs:
    """`needed`: whether there are many users. `lifetime` gives the seconds for which attributes of a node are
    believed.
    """

    def __init__(self, needed: bool, clock: Callable[[], float], lifetime: Callable[[Node], float]) -> None:
        self.needed = needed
        self._clock = clock
        self._lifetime = lifetime

    def note(self, node: Node) -> None:
        """A server has told the caller of a node."""
        if not self.needed:
            return
        now = self._clock()
        if node.proofs is None or len(node.proofs) > TIDY:
            node.proofs = {uid: until for uid, until in (node.proofs or {}).items() if until > now}
        node.proofs[caller().uid] = now + self._lifetime(node)

    def has(self, node: Node) -> bool:
        """Whether the caller may be told what is known of a node."""
        if not self.needed:
            return True
        return node.proofs is not None and node.proofs.get(caller().uid, NEVER) > self._clock()

    def refute(self, node: Node) -> bool:
        """A server has told the caller that there is no such node. Whether others still know better."""
        if not self.needed or not node.proofs:
            return False
        node.proofs.pop(caller().uid, None)
        return any(until > self._clock() for until in node.proofs.values())

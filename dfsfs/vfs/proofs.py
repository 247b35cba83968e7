"""Who may be told what is known, and who else was, in a mount of many users.

Nodes, and what servers said of them, are the same for all users. But what a server has told one of them it may refuse
another one. So each user is told only what a server has told them, too, not longer ago than attributes are believed; if
not, the server is asked on their behalf.

Whoever was told of a node by a server, however long ago, is a WITNESS: if another user is told that there is no such
thing, that is not taken from the witnesses (others.py).

Pure but for the caller (dfsfs/acting.py). In a mount with one login everybody may be told everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.acting import caller
from dfsfs.vfs.nodes import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.vfs.nodes import Node

WITNESSES = 16
"""Witnesses of a node that are remembered: those who were told last."""


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
        known = node.proofs = node.proofs if node.proofs is not None else {}
        known.pop(caller().uid, None)
        known[caller().uid] = self._clock() + self._lifetime(node)
        if len(known) > WITNESSES:
            del known[next(iter(known))]

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

    def others(self, node: Node) -> tuple[int, ...]:
        """The witnesses beside the caller, by their numbers, those who were told last first."""
        if not self.needed or not node.proofs:
            return ()
        return tuple(uid for uid in reversed(node.proofs) if uid != caller().uid)

"""FirstFew: the first few of things of which somebody else decides how many there are.

What a server or a user names may be without end. So where each such thing is said once in the log, or counted by its
name, only those that came first are.

Pure.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FirstFew(Generic[K]):
    """At most `limit` things."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._things: set[K] = set()

    def __contains__(self, thing: K) -> bool:
        return thing in self._things

    def take(self, thing: K) -> bool:
        """Takes a thing in if there is room. Whether that is new: so that it is to be said now."""
        if thing in self._things or len(self._things) >= self._limit:
            return False
        self._things.add(thing)
        return True

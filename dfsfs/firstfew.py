"""FirstFew: the first few of things whose number is not bounded.

A server or a user may name any number of things. So where each such thing is logged once, or counted by its name, only
those that came first are.

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
        """Adds a thing if there is room. True if it was added: then it is to be logged now."""
        if thing in self._things or len(self._things) >= self._limit:
            return False
        self._things.add(thing)
        return True

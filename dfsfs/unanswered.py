"""Requests that nobody waits for any more, and that a server may still carry out.

A task that is cancelled, or whose time is up, leaves its request behind: the server has it, and does what it says when
it likes. So a change that was given up has not ended before the server has answered, or the connection has ended. What
has to go on for so long says so with `watch`; the connection says with `note` that a request is left behind. They are
layers apart, so what is watched is kept beside the calls in between, as the caller is (dfsfs/caller.py).
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Unanswered:
    """The requests of one block that were given up and are not answered. True if there are any."""

    __slots__ = ("_count", "_then")

    def __init__(self) -> None:
        self._count = 0
        self._then: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return self._count > 0

    def when_answered(self, then: Callable[[], None]) -> None:
        """Calls `then`, which must not raise, when all are answered: at once if there are none."""
        if self._count:
            self._then.append(then)
        else:
            then()

    def _add(self) -> None:
        self._count += 1

    def _answered(self) -> None:
        self._count -= 1
        if not self._count:
            waiting, self._then = self._then, []
            for then in waiting:
                then()


_watched: ContextVar[tuple[Unanswered, ...]] = ContextVar("unanswered", default=())


class watch:
    """A block. As its variable: the requests that this task, and tasks that it starts, give up while it runs."""

    __slots__ = ("_token",)  # no generator, as it is entered for each change: that takes three times as long

    def __enter__(self) -> Unanswered:
        unanswered = Unanswered()
        self._token = _watched.set((*_watched.get(), unanswered))
        return unanswered

    def __exit__(self, *exception: object) -> None:
        _watched.reset(self._token)


def note() -> Callable[[], None] | None:
    """This task gives up a request that a server may still carry out. What is to be called, once, when that is decided;
    None: nobody wants to know.
    """
    watched = _watched.get()
    for each in watched:
        each._add()
    return partial(_tell, watched) if watched else None


def _tell(watched: tuple[Unanswered, ...]) -> None:
    for each in watched:
        each._answered()

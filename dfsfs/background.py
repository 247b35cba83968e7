"""Tasks in the background of a mount, none of which may end it: a mistake of ours in one of them costs what it does.

An exception of a task would end the nursery that it is in, and so the mount, for all who use it. So whatever lasts as
long as a mount runs under `keep_going`, and what is done in passing, with nobody waiting for it, under `contain`. Both
let everything pass that is no `Exception`: cancellation is the end of the mount.

A failure is said with its traceback, once for each kind of it, and counted for `metrics=`.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import trio

from dfsfs.firstfew import FirstFew

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("dfsfs.background")

FIRST_PAUSE = 1.0
"""Seconds until a task is begun anew; twice as many with each failure."""
LONGEST_PAUSE = 60.0
"""The most of these. After as many seconds without a failure the next pause is the first one again."""
KINDS = 100
"""Kinds of failures that the log has: by task, exception and place."""

failures: Counter[str] = Counter()
"""How often a task has failed since this program began, by the task's name."""
_said: FirstFew[tuple[object, ...]] = FirstFew(KINDS)


async def keep_going(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Awaits `work()`, and once more after a pause whenever it fails. Returns when it does. `name` is for people."""
    pause = FIRST_PAUSE
    while True:
        begun = trio.current_time()
        try:
            await work()
            return
        except* Exception as group:
            if trio.current_time() - begun >= LONGEST_PAUSE:
                pause = FIRST_PAUSE
            _note(name, group, f"it begins anew in {pause:g} s")
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def contain(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Awaits `work()`, and returns also when it fails. `name` is that of all such tasks, for people."""
    try:
        await work()
    except* Exception as group:
        _note(name, group, "it is given up")


def _note(name: str, group: BaseExceptionGroup[Exception], consequence: str) -> None:
    failures[name] += 1
    error = _first(group)
    if _said.take((name, *_kind(error))):
        log.error("%s: failed in an unexpected way; %s. This is said once", name, consequence, exc_info=error)
    else:
        log.debug("%s: failed again, with %r; %s", name, error, consequence)


def _first(error: BaseException) -> BaseException:
    """What was raised, without the groups that nurseries have put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _kind(error: BaseException) -> tuple[object, ...]:
    """The exception's type and the place where it was raised."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = () if traceback is None else (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    return type(error), *place

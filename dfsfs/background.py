"""Background tasks of a mount, none of which may end it: an unexpected error in one costs what that task does.

An exception of a task would end the nursery that it is in, and so the mount, for all its users. So tasks that last as
long as a mount run under `keep_going`, and tasks that do one thing, and whose result no task waits for, under
`contain`. Both let pass what is not an `Exception`: cancellation is the end of the mount.

A failure is logged with its traceback, once for each kind of it, and counted for `metrics=`.
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
"""Seconds from a task's first failure until it starts again; doubled with each further failure."""
LONGEST_PAUSE = 60.0
"""The longest such pause, in seconds. After as many seconds without a failure the next pause is FIRST_PAUSE again."""
KINDS = 100
"""How many kinds of failures are logged as errors: by task, exception and place."""

failures: Counter[str] = Counter()
"""How often a task has failed since this program began, by the task's name."""
_logged: FirstFew[tuple[object, ...]] = FirstFew(KINDS)


async def keep_going(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Awaits `work()`, and again after a pause each time that it fails. Returns when it does. `name` is for the log."""
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
    """Awaits `work()`, and returns also when it fails. `name` is that of all such tasks, for the log."""
    try:
        await work()
    except* Exception as group:
        _note(name, group, "it is given up")


def _note(name: str, group: BaseExceptionGroup[Exception], consequence: str) -> None:
    failures[name] += 1
    error = _unwrap(group)
    if _logged.take((name, *_kind_of(error))):
        log.error("%s: failed in an unexpected way; %s. This is said once", name, consequence, exc_info=error)
    else:
        log.debug("%s: failed again, with %r; %s", name, error, consequence)


def _unwrap(error: BaseException) -> BaseException:
    """The first exception that was raised, without the groups that nurseries have put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _kind_of(error: BaseException) -> tuple[object, ...]:
    """The exception's type and the place where it was raised."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = () if traceback is None else (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    return type(error), *place

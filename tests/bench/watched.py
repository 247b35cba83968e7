"""A mount.dfsfs that also measures how late a task of its loop is: `python -m tests.bench.watched FILE WORDS...`.

A task of its own wants to be run every millisecond. How late it was each time is written to FILE when the mount ends:
lines of two numbers, microseconds in all, and of these the ones for which the kernel had no processor for the thread.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dfsfs.cli.mount import main

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

PERIOD = 0.001
"""Seconds between one run of the task and the next."""
KEPT = 1_000_000
"""Measurements at most: a quarter of an hour or more."""


def _waited_for_a_processor() -> int:
    """Nanoseconds for which this thread could have run, and another had the processor."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


async def _measure(late: list[tuple[float, float]]) -> None:
    while len(late) < KEPT:
        waited, due = _waited_for_a_processor(), trio.current_time() + PERIOD
        await trio.sleep_until(due)
        now = trio.current_time()
        late.append(((now - due) * 1e6, (_waited_for_a_processor() - waited) / 1e3))


async def _watched(late: list[tuple[float, float]], serve: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_measure, late)
        await serve(*arguments)
        nursery.cancel_scope.cancel()


def run() -> int:
    late: list[tuple[float, float]] = []
    run_loop = trio.run
    trio.run = lambda serve, *arguments, **options: run_loop(  # type: ignore[assignment]
        functools.partial(_watched, late, serve), *arguments, **options
    )
    try:
        return main([*sys.argv[2:], "--foreground"])
    finally:
        Path(sys.argv[1]).write_text("".join(f"{whole:.0f} {kernel:.0f}\n" for whole, kernel in late))


if __name__ == "__main__":
    sys.exit(run())

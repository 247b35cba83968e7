"""Programs beside a test: processes of their own, which the lock of the test's interpreter does not put in order."""

from __future__ import annotations

import contextlib
import multiprocessing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import ForkProcess

FORK = multiprocessing.get_context("fork")
ENDING = 30.0
"""Seconds in which a process has to end that was told to."""


@contextlib.contextmanager
def again_and_again(*actions: Callable[[], object]) -> Iterator[None]:
    """A process for each action that does it until the block ends.

    A file that is missing does not matter, and any other error fails the test, as the death of a process does.
    """
    stop, complaints = FORK.Event(), FORK.SimpleQueue()

    def go_on(action: Callable[[], object]) -> None:
        told = False
        while not stop.is_set():
            try:
                action()
            except FileNotFoundError:
                pass
            except (OSError, AssertionError) as error:
                if not told:
                    complaints.put(repr(error))
                told = True

    processes = [FORK.Process(target=go_on, args=(action,)) for action in actions]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        codes = ended(processes)
    told = []
    while not complaints.empty():
        told.append(complaints.get())
    assert told == [], f"programs beside: {told}"
    assert codes == [0] * len(codes), f"programs beside ended with {codes}"


def together(*actions: Callable[[], object]) -> list[int | None]:
    """Does all of them at once, each in a process; returns their exit codes, -7 for one that died of SIGBUS."""
    processes = [FORK.Process(target=action) for action in actions]
    for process in processes:
        process.start()
    return ended(processes)


def ended(processes: list[ForkProcess]) -> list[int | None]:
    """The exit codes of processes that are about to end; one that does not is killed, and has -9."""
    for process in processes:
        process.join(ENDING)
        if process.exitcode is None:
            process.kill()
            process.join()
    return [process.exitcode for process in processes]

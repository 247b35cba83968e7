"""Threads for what belongs to callers: how many a user has, and what becomes of those that are stuck."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfsfs.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE, BOB = 1, 2


@contextmanager
def gate() -> Iterator[threading.Event]:
    """What stuck threads wait for; open at the end, whatever happens."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


async def stuck(threads: Threads, uid: int, event: threading.Event) -> None:
    with pytest.raises(trio.TooSlowError):
        await threads.run(uid, event.wait, 0.05)


async def forgotten(threads: Threads) -> None:
    with trio.fail_after(10):
        while users_of(threads):  # noqa: ASYNC110 - threads say nothing when they end
            await trio.sleep(0.001)


def users_of(threads: Threads) -> int:
    """Of how many users something is kept. Under Python 3.13 errors hold themselves, until the next collection."""
    gc.collect()
    return threads.users


async def test_what_is_done_in_a_thread_is_given_back() -> None:
    threads, loop = Threads(1, 1), threading.get_ident()
    assert await threads.run(ALICE, threading.get_ident, 10) != loop
    assert threads.busy == 0
    await forgotten(threads)
    with pytest.raises(KeyError):
        await threads.run(ALICE, {}.popitem, 10)
    assert threads.busy == 0


async def test_stuck_threads_are_counted_until_they_end_and_leave_others_theirs() -> None:
    threads = Threads(2, 4)
    with gate() as event:
        for _ in range(3):
            await stuck(threads, ALICE, event)
        assert (threads.busy, users_of(threads)) == (2, 1)
        assert await threads.run(BOB, lambda: "his", 10) == "his"
        event.set()
        assert await threads.run(ALICE, lambda: "hers", 10) == "hers"
    await forgotten(threads)
    assert threads.busy == 0


async def test_there_is_a_bound_for_all_users_together() -> None:
    threads = Threads(2, 4)
    with gate() as event:
        for uid in range(10):
            await stuck(threads, uid, event)
        assert threads.busy == 4
        await stuck(threads, ALICE, event)
        assert threads.busy == 4 and users_of(threads) == 4, "who waited in vain has taken nothing along"


async def test_who_waits_gets_the_thread_that_comes_free() -> None:
    threads, order = Threads(1, 4), list[str]()

    async def use(name: str, event: threading.Event) -> None:
        await threads.run(ALICE, event.wait, 10)
        order.append(name)

    with gate() as event:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, "first", event)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(use, "second", event)
            await trio.testing.wait_all_tasks_blocked()
            assert threads.busy == 1
            event.set()
    assert order == ["first", "second"]

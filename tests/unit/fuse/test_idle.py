"""When a mount gives memory back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dfsfs.mount import idle

if TYPE_CHECKING:
    import pytest


class Mount:
    """So many requests came, and at these times memory was given back."""

    def __init__(self) -> None:
        self.requests = 0
        self.given: list[float] = []
        self._begun = trio.current_time()

    def give_back(self) -> None:
        self.given.append(trio.current_time() - self._begun)


async def served(mount: Mount, busy: float, quiet: float) -> None:
    """Requests come for some seconds, and then none."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(idle.serve, lambda: mount.requests, mount.give_back)
        with trio.move_on_after(busy):
            while True:
                mount.requests += 1
                await trio.sleep(0.1)
        await trio.sleep(quiet)
        nursery.cancel_scope.cancel()


async def test_once_when_it_becomes_idle(autojump_clock: object) -> None:
    mount = Mount()
    await served(mount, 5, 100)
    assert len(mount.given) == 1 and 5 < mount.given[0] <= 5 + 2 * idle.LOOK


async def test_never_when_nothing_was_done(autojump_clock: object) -> None:
    mount = Mount()
    await served(mount, 0, 200)
    assert mount.given == []


async def test_now_and_then_when_it_is_always_busy(autojump_clock: object) -> None:
    mount = Mount()
    await served(mount, 4 * idle.BUSY, 0)
    assert 3 <= len(mount.given) <= 4


async def test_without_a_c_library_that_can(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_find_malloc_trim", lambda: None)
    mount = Mount()
    await served(mount, 5, 20)
    assert len(mount.given) == 1

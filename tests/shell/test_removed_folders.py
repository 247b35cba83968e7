"""A folder is removed while a program reads it, and the server dies at each moment of that.

A server that is told to remove a folder which is open says that it has done so, and waits for the last close. The name
is there until then, and for good if the server dies before. So a removal of which a program was told that it was made
must not depend on what this mount has open.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfsfs.caller import ROOT, Caller, set_current_caller
from tests.shell.explorer import deterministic, quiet
from tests.shell.model import Failure
from tests.shell.scene import ACTIMEO, Scene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REMOVALS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "rmdir": lambda scene: scene.kernel.rmdir("d"),
    "rename over it": lambda scene: scene.kernel.rename("e", "d"),
}
ALICE = Caller(1001, 1001)
STEPS = 60
"""More than a removal takes."""
MAY_FAIL = frozenset(("EIO", "ESTALE"))
"""What a program may be told when the server has died."""

every_removal = pytest.mark.parametrize("removal", REMOVALS.values(), ids=REMOVALS)


class Reading:
    """A program that has read the first entries of /d, the only ones, and has not come to the end."""

    def __init__(self, scene: Scene, user: Caller) -> None:
        self.scene = scene
        self.user = user
        self.found: Any = None
        self.has_begun = trio.Event()
        self.goes_on = trio.Event()
        self.has_ended = trio.Event()

    async def run(self) -> None:
        set_current_caller(self.user)
        try:
            self.found = await self.scene.kernel.listdir("d", between=self._pause)
        except OSError as error:
            self.found = Failure(error.errno or 0)
        self.has_ended.set()

    async def _pause(self) -> None:
        self.has_begun.set()
        await self.goes_on.wait()

    async def end(self) -> None:
        self.goes_on.set()
        await self.has_ended.wait()


def play(
    test: Callable[[Scene, Reading, trio.testing.MockClock], Awaitable[None]],
    user: Caller = ROOT,
    *,
    empty: bool = True,
) -> None:
    """Runs a test in which a program has read a part of /d, which is empty by now unless `empty` says otherwise."""
    clock = trio.testing.MockClock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            scene = Scene(nursery)
            await scene.prepare(())
            await quiet()
            clock.jump(2 * ACTIMEO)
            await quiet()
            scene.connection.session.entries_at_once = 1  # else the end comes at once, and nothing stays open
            reading = Reading(scene, user)
            nursery.start_soon(reading.run)
            await reading.has_begun.wait()
            if empty:
                await scene.kernel.unlink("d/x")
            await test(scene, reading, clock)
            nursery.cancel_scope.cancel()

    with deterministic():
        trio.run(main, clock=clock, strict_exception_groups=True)


async def named(scene: Scene) -> dict[str, int]:
    """What a listing of the root says: the names, and which file or folder each is."""
    return {name: scene.number_of(ino) for name, ino in (await scene.kernel.listdir("")).items()}


def on_the_server(scene: Scene) -> dict[str, int]:
    return {path: number for path, (number, *_) in scene.truth(with_hidden=True).items() if "/" not in path}


@every_removal
def test_what_is_removed_while_it_is_read_is_gone_at_once(removal: Callable[[Scene], Awaitable[None]]) -> None:
    async def test(scene: Scene, reading: Reading, clock: trio.testing.MockClock) -> None:
        before = await named(scene)
        await removal(scene)
        del before["e" if removal is REMOVALS["rename over it"] else "d"]
        if "d" in before:
            before["d"] = 4
        assert await named(scene) == on_the_server(scene) == before
        if "d" not in before:
            await scene.kernel.mkdir("d")
        await reading.end()
        assert list(reading.found) == ["x"]
        assert "d" in await named(scene)
        await quiet()
        assert scene.server.opens == 0

    play(test)


def test_what_another_user_reads_is_gone_once_it_is_removed() -> None:
    async def test(scene: Scene, reading: Reading, clock: trio.testing.MockClock) -> None:
        await scene.kernel.rmdir("d")
        await quiet()
        assert "d" not in on_the_server(scene)
        assert "d" not in await named(scene)
        await reading.end()
        assert list(reading.found) == ["x"]

    play(test, ALICE)


def test_a_removal_that_is_refused_keeps_no_other_user_from_reading_on() -> None:
    async def test(scene: Scene, reading: Reading, clock: trio.testing.MockClock) -> None:
        with pytest.raises(OSError) as refused:
            await scene.kernel.rmdir("d")
        assert refused.value.errno == errno.ENOTEMPTY
        await quiet()
        assert scene.server.opens == 1, "the listing goes on where it was"
        await reading.end()
        assert list(reading.found) == ["x"]

    play(test, ALICE, empty=False)


@every_removal
def test_the_server_dies_while_what_is_read_is_removed(removal: Callable[[Scene], Awaitable[None]]) -> None:
    """At each step of it: what a program was told to be done is done."""

    async def cut(scene: Scene, reading: Reading, clock: trio.testing.MockClock, at: int) -> bool:
        before, result = on_the_server(scene), None
        ended = trio.Event()

        async def remove() -> None:
            nonlocal result
            try:
                await removal(scene)
            except OSError as error:
                result = Failure(error.errno or 0)
            ended.set()

        scene.server.holds = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove)
            await quiet()
            for _ in range(at):
                if scene.server.messages:
                    scene.server.let_go(scene.server.messages[0])
                elif scene.server.requests:
                    scene.server.apply(scene.server.requests[0])
                await quiet()
            was_ended = ended.is_set()
            scene.server.die()
            scene.server.holds = False
            scene.server.run()
            await ended.wait()
        for _ in range(2):  # what was set aside is put back or removed by a listing
            clock.jump(2 * ACTIMEO)
            listed = await named(scene)
            await quiet()
        truth = on_the_server(scene)
        told = f"the server died at step {at}, the program was told {result}; on the server is {truth}"
        assert listed == truth, told
        is_done = before["d"] not in truth.values()
        assert is_done or str(result) in MAY_FAIL, told
        await reading.end()
        assert isinstance(reading.found, dict) or str(reading.found) in MAY_FAIL
        return not was_ended

    for at in range(STEPS):
        cuts: list[bool] = []

        async def test(scene: Scene, reading: Reading, clock: trio.testing.MockClock, at: int = at) -> None:
            cuts.append(await cut(scene, reading, clock, at))  # noqa: B023

        play(test)
        if not cuts[0]:
            assert at > 1
            return
    raise AssertionError("it has not come to an end")

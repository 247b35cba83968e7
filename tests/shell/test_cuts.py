"""The connection, the server or the mount ends at each moment of an operation: nothing is lost by that.

Each operation that changes names is carried out with the files open that it is about, request by request; before or
after one of them the connection is cut. Then one of three things happens:

    cut     the mount connects again and ends what it has begun. What it tells the program has to be true: success is
            the state that the operation leads to, a failure that or the one before
    death   the same, and the server has forgotten what it was to remove once nobody has it open
    dead    the mount has gone with it. Whatever name is looked at on the server has what it had before, or what it
            has after the operation; and so it is when another mount has looked at the folders
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.shell.explorer import deterministic, quiet
from tests.shell.model import Failure, Model, outcomes
from tests.shell.operations import BY_NAME, Operation
from tests.shell.scene import ACTIMEO, Scene, model

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (
    "rename f to n|rename v to f|rename f to v|rename f to d/n|rename d/x to f|unlink f|unlink g|unlink v|"
    "mkdir n|rmdir e|link f to n|symlink n|open n new|open n or make|open f over|truncate f to 1|utime f|"
    "punch by w:f|allocate 9 by w:f|copy from r:v to w:f"
)
OPEN = {"closed": (), "open": ("r:f", "r:v"), "open for writing": ("w:f", "r:v")}
STEPS = 60
"""More than any operation takes."""
MAY_FAIL = frozenset(("EIO", "ESTALE"))
"""What a program may be told of an operation of which nobody knows what has come of it."""


class Cut:
    """One operation, cut at one of its steps; each request is two: it is carried out, and it is answered."""

    ends_afterwards = False
    """Whether it is also cut when the program has been told that it has ended."""

    def __init__(self, operation: Operation, needs: tuple[str, ...], at: int) -> None:
        self.operation = operation
        self.needs = tuple(dict.fromkeys((*operation.needs, *needs)))
        self.at = at
        self.ended = False
        self.result: Any = None
        self.was_cut = False
        self.scene: Scene
        (outcome,) = outcomes(model(self.needs), [operation.model])
        self.before, self.after, self.right = model(self.needs), outcome.state, outcome.results[0]

    async def run(self, clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
        """Until the operation has ended, or has been cut."""
        scene = self.scene = Scene(nursery)
        await scene.prepare(self.needs)
        await quiet()
        clock.jump(2 * ACTIMEO)
        await quiet()
        scene.server.holds = True
        nursery.start_soon(self._perform)
        await quiet()
        for step in range(STEPS):
            if self.ended:
                return
            if step == self.at:
                self.was_cut = True
                self.end()
                return
            server = scene.server
            ready = [held for held in server.requests if server.may_apply(held)]
            if server.messages:
                server.let_go(server.messages[0])
            elif ready:
                server.apply(ready[0])
            await quiet()

    def end(self) -> None:
        """What ends."""
        self.scene.connection.cut()

    async def _perform(self) -> None:
        try:
            self.result = await self.operation.real(self.scene)
        except OSError as error:
            self.result = Failure(error.errno or 0)
        self.ended = True

    def names(self, state: Model) -> dict[str, tuple[int, bytes]]:
        return {path: (number, data) for path, (number, data, _) in state.tree().items()}

    def truth(self) -> dict[str, tuple[int, bytes]]:
        return {path: (number, data) for path, (number, data, _) in self.scene.truth(with_hidden=False).items()}


def each_step(
    operation: Operation,
    needs: tuple[str, ...],
    judge: Callable[[Cut, trio.testing.MockClock], Any],
    kind: type[Cut] = Cut,
) -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        for at in range(STEPS):
            cut = kind(operation, needs, at)
            async with trio.open_nursery() as nursery:
                await cut.run(clock, nursery)
                if not cut.was_cut and cut.ends_afterwards:
                    cut.end()
                if cut.was_cut or cut.ends_afterwards:
                    await judge(cut, clock)
                nursery.cancel_scope.cancel()
            if not cut.was_cut:
                assert at > 1 and cut.result == cut.right
                return

    with deterministic():
        trio.run(main, clock=clock, strict_exception_groups=True)


every_operation = pytest.mark.parametrize("name", NAMES.split("|"), ids=lambda name: re.sub(r"\W+", "-", name))
however_open = pytest.mark.parametrize("needs", OPEN.values(), ids=OPEN)


async def connected_again(cut: Cut, clock: trio.testing.MockClock) -> None:
    scene = cut.scene
    scene.server.holds = False
    scene.server.run()
    for _ in range(5):
        await quiet()
        clock.jump(1.0)
    await quiet()
    assert cut.ended, f"cut at step {cut.at}: it hangs"
    for fd in scene.fds.values():
        try:
            await scene.kernel.close(fd)
        except OSError:
            pass  # what became of handles on files without a name is another question
    await scene.fs.close()
    await quiet()
    truth, before, after = cut.truth(), cut.names(cut.before), cut.names(cut.after)
    told = f"cut at step {cut.at}, the program was told {cut.result}; the server has {truth}"
    if isinstance(cut.result, Failure):
        assert str(cut.result) in MAY_FAIL, told
        assert truth in (before, after), told
    else:
        assert cut.result == cut.right and truth == after, told


@every_operation
@however_open
def test_the_connection_is_cut(name: str, needs: tuple[str, ...]) -> None:
    each_step(BY_NAME[name], needs, connected_again)


class Death(Cut):
    """One operation, at one of whose steps, or right after it, the server dies: it forgets what it was to remove with a
    last close.
    """

    ends_afterwards = True

    def end(self) -> None:
        self.scene.server.die()


@every_operation
@however_open
def test_the_server_dies(name: str, needs: tuple[str, ...]) -> None:
    each_step(BY_NAME[name], needs, connected_again, Death)


async def looked_at_by_another(cut: Cut, clock: trio.testing.MockClock) -> None:
    cut.scene.share.again = None
    await quiet()
    before, after = cut.names(cut.before), cut.names(cut.after)
    _check_names(cut, before, after)
    cut.scene.server.holds = False
    async with trio.open_nursery() as nursery:
        another = Scene(nursery, server=cut.scene.server)
        for _ in range(2):
            for folder in ("", "d"):
                await another.kernel.listdir(folder)
            await quiet()
            clock.jump(2 * ACTIMEO)
        await another.fs.close()
        await quiet()
        nursery.cancel_scope.cancel()
    _check_names(cut, before, after)


def _check_names(cut: Cut, before: dict[str, Any], after: dict[str, Any]) -> None:
    truth = cut.truth()
    for path in before | after:
        told = f"the mount died at step {cut.at}: {path} is {truth.get(path)}"
        assert truth.get(path) in (before.get(path), after.get(path)), told
    assert not truth.keys() - before.keys() - after.keys()


@every_operation
@however_open
def test_the_mount_dies(name: str, needs: tuple[str, ...]) -> None:
    each_step(BY_NAME[name], needs, looked_at_by_another)

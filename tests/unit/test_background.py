"""What becomes of a background task that fails: the mount goes on, and so does the task."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs import background
from dfsfs.background import FIRST_PAUSE, KINDS, LONGEST_PAUSE, contain, keep_going
from dfsfs.firstfew import FirstFew

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.logs("failed in an unexpected way")


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was said and counted before."""
    monkeypatch.setattr(background, "_logged", FirstFew(KINDS))
    monkeypatch.setattr(background, "failures", Counter())


class Work:
    """Fails so many times, each after `lasting` seconds, and then goes on until it is cancelled."""

    def __init__(self, failures: int, lasting: float = 0.0) -> None:
        self.failures = failures
        self.lasting = lasting
        self.begun: list[float] = []

    async def __call__(self) -> None:
        self.begun.append(trio.current_time())
        await trio.sleep(self.lasting)
        if len(self.begun) <= self.failures:
            raise ValueError(f"failure {len(self.begun)}")
        await trio.sleep_forever()

    def pauses(self) -> list[float]:
        ends = [begun + self.lasting for begun in self.begun]
        return [round(begun - end, 6) for end, begun in zip(ends, self.begun[1:], strict=False)]


async def beside(work: Callable[[], Awaitable[None]], seconds: float = 10_000.0) -> None:
    """Does work in the background of something that lasts so long."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_going, "tests", work)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()


async def test_it_begins_anew_after_a_pause_that_grows(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(failures=9)
    await beside(work)
    assert work.pauses() == [FIRST_PAUSE * 2**count for count in range(6)] + [LONGEST_PAUSE] * 3
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None and "failure 1" in caplog.text and "tests" in record.getMessage()
    assert background.failures == {"tests": 9}


async def test_after_a_while_that_went_well_the_pause_is_short_again(autojump_clock: object) -> None:
    work = Work(failures=5, lasting=LONGEST_PAUSE)
    await beside(work)
    assert work.pauses() == [FIRST_PAUSE] * 5


async def test_each_kind_of_failure_is_said_once(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    kinds = [ValueError, KeyError, ValueError, OSError, KeyError]

    async def work() -> None:
        if kinds:
            raise kinds.pop()()
        await trio.sleep_forever()

    await beside(work)
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 3
    for number in range(5 * KINDS):
        await contain(f"task {number}", Work(1))
    assert sum(record.levelname == "ERROR" for record in caplog.records) == KINDS


async def test_a_task_that_is_done_is_not_begun_anew(autojump_clock: object) -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    await keep_going("tests", work)
    assert done == [1]


@pytest.mark.parametrize("how", [keep_going, contain])
async def test_the_end_of_the_mount_passes(
    autojump_clock: object, how: Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
) -> None:
    """Also together with a failure at that moment: a task of several parts."""

    async def failing() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it is cancelled")

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(failing)

    with trio.move_on_after(5.0) as scope:
        await how("tests", work)
    assert scope.cancelled_caught and trio.current_time() < 1000.0
    assert background.failures == {"tests": 1}


async def test_what_a_program_ends_with_passes(autojump_clock: object) -> None:
    async def work() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await keep_going("tests", work)


async def test_what_is_done_once_is_not_begun_anew(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    work = Work(failures=9)
    await contain("tests", work)
    assert len(work.begun) == 1 and background.failures == {"tests": 1} and "failure 1" in caplog.text


# -- who uses it ------------------------------------------------------------------------------------------------------

GOES_WITH_ITS_CALLER = {
    "fuse.waiters look",  # whose caller waits for the nursery, and is such a task or a request
    "fuse.interrupts self._end_of_user",  # the same
    "namespace.explain probe_one",
    "smb.pool self._log_off",
    "namespace.health test_one",
    "namespace.enumeration enumerator.resolve_link",
    "namespace.enumeration self.resolve_link",
    "namespace.enumeration self._list_directory",
    "vfs.names.specialentries look",
}
LASTS = {
    "mount.assembly _cancel_without_answer",  # before there is a mount
    "mount.assembly import_in_thread",  # the same
    "fuse.session _announce",  # a mount that programs can't use had better end
    "fuse.device.loop self._work",  # what it runs raises nothing; a device that fails is the mount's end
    "fuse.session mount.end",  # the same
    "namespace.maintenance work_on",  # has `contain` inside
    "control.metrics _attend",  # the others catch all that is an Exception
    "control.server _attend",
    "smb.connection.connection self._guard",
    "smb.connection.dialer self._dial",
    "singleflight self._run",
    "vfs.names.offline self._ask_in_background",
}


def test_nothing_is_begun_in_the_background_that_can_end_the_mount() -> None:
    begun = set[str]()
    package = Path(background.__file__).parent
    for file in package.rglob("*.py"):
        module = ".".join(file.relative_to(package).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called, *arguments = node.func, *node.args
                if ast.unparse(called).endswith("_context.copy().run"):  # in another context
                    called, *arguments = arguments
                if isinstance(called, ast.Attribute) and called.attr == "start_soon":
                    begun.add(f"{module} {ast.unparse(arguments[0])}")
    others = {task for task in begun if task.split()[1] not in ("keep_going", "contain")}
    assert {task for task in others if not task.startswith(("cli.", "racing "))} == GOES_WITH_ITS_CALLER | LASTS

"""Every operation is cancelled at each of its checkpoints: see cancelling.py.

Afterwards no handle, credit, task, lock or byte of a bound is left, the server has all of the operation or nothing of
it, what was written before is there, and the program may try again.
"""

from __future__ import annotations

import os
import stat as posix
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.vfs.data import writeback
from dfsfs.vfs.data.caching import CacheMode
from dfsfs.vfs.data.locktable import OFFSET_MAX, ByteRangeLock, LockKind
from tests.shell.cancelling import Cancelled
from tests.shell.explorer import deterministic, quiet
from tests.shell.model import File
from tests.shell.operations import BY_NAME, Operation, opening, renaming, writing
from tests.shell.scene import VICTIM
from tests.shell.steps import make_steps, nothing_steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from dfsfs.vfs.filesystem import FileSystem
    from tests.shell.cancelling import Judge
    from tests.shell.scene import Scene

STEPS = 1000
"""More than any operation takes."""
NEEDS: dict[str, tuple[tuple[str, ...], tuple[Operation, ...]]] = {
    "closed": ((), ()),
    "open": (("r:f", "r:v"), ()),
    "written": (("w:f", "r:v"), (BY_NAME["write at 5 by w:f"],)),
}
"""What programs have open, and have done, when an operation begins."""
WITHOUT_LEASES: dict[str, dict[str, Any]] = {"no leases": {"leases": False}, "cache=none": {"mode": CacheMode.NONE}}


def at_each_step(
    operation: Operation,
    needs: tuple[str, ...] = (),
    begun: tuple[Operation, ...] = (),
    how: dict[str, Any] | None = None,
    judge: Judge | None = None,
) -> int:
    """At how many steps the operation was cancelled. For the arguments see Cancelled."""
    clock = trio.testing.MockClock()
    wrong: list[str] = []
    cancelled = 0

    async def main() -> None:
        nonlocal cancelled
        for at in range(1, STEPS):
            one = Cancelled(operation, needs, begun, how or {}, judge, at)
            async with trio.open_nursery() as nursery:
                await one.run(clock, nursery)
                nursery.cancel_scope.cancel()
            wrong.extend(f"at step {at}: {problem}" for problem in one.problems)
            cancelled += one.interrupted
            if one.is_over:
                assert at > 1 and not one.interrupted
                return

    with deterministic():
        trio.run(main, clock=clock, strict_exception_groups=True)
    assert not wrong, "\n".join(wrong)
    return cancelled


ON_FILES = [name for name, operation in BY_NAME.items() if operation.needs or name.startswith("open")]
"""Operations on open files, to which it makes a difference what is cached."""


@pytest.mark.parametrize("name", [name for name, operation in BY_NAME.items() if not operation.needs])
def test_an_operation_is_cancelled_with_nothing_open(name: str) -> None:
    at_each_step(BY_NAME[name])


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("needs", ["open", "written"])
def test_an_operation_is_cancelled(name: str, needs: str) -> None:
    at_each_step(BY_NAME[name], *NEEDS[needs])


@pytest.mark.parametrize("name", ON_FILES)
@pytest.mark.parametrize("how", WITHOUT_LEASES)
def test_an_operation_is_cancelled_without_leases(name: str, how: str) -> None:
    at_each_step(BY_NAME[name], *NEEDS["written"], WITHOUT_LEASES[how])


def test_there_are_many_checkpoints() -> None:
    """Else the other tests show little."""
    assert at_each_step(BY_NAME["rename v to f"], *NEEDS["open"]) >= 15
    assert at_each_step(BY_NAME["open n or make"]) >= 4


# -- what the kernel of the other tests has no system call for --------------------------------------------------------


def _asking(name: str, ask: Callable[[FileSystem, Scene], Awaitable[Any]], needs: tuple[str, ...] = ()) -> Operation:
    """A call of the file system that changes no name and no content."""

    async def real(scene: Scene) -> None:
        await ask(scene.kernel.fs, scene)

    return Operation(name, real, nothing_steps(), needs=needs)


def _handle(scene: Scene, fd: str) -> int:
    return scene.kernel.files[scene.fds[fd]].handle


def _ino(scene: Scene, fd: str) -> int:
    return scene.kernel.files[scene.fds[fd]].inode.ino


WRITE_LOCK = ByteRangeLock(LockKind.WRITE, 0, OFFSET_MAX)
UNLOCK = ByteRangeLock(LockKind.UNLOCK, 0, OFFSET_MAX)


async def _wait_for_lock(fs: FileSystem, scene: Scene) -> None:
    """Another program has the file locked, and unlocks it when this one waits."""
    other = _handle(scene, "r:f")
    await scene.fs.setlk(other, 1, WRITE_LOCK)

    async def unlock() -> None:
        await quiet()
        await scene.fs.setlk(other, 1, UNLOCK)

    scene.start(unlock)
    await fs.setlkw(_handle(scene, "w:f"), 2, WRITE_LOCK)
    await scene.fs.setlk(_handle(scene, "w:f"), 2, UNLOCK)


async def _wait_for_flock(fs: FileSystem, scene: Scene) -> None:
    """The same with flock(2)."""
    other = _handle(scene, "r:f")
    await scene.fs.flock(other, 1, LockKind.WRITE)

    async def unlock() -> None:
        await quiet()
        await scene.fs.flock(other, 1, LockKind.UNLOCK)

    scene.start(unlock)
    await fs.flockw(_handle(scene, "w:f"), 2, LockKind.READ)
    await scene.fs.flock(_handle(scene, "w:f"), 2, LockKind.UNLOCK)


async def _read_on(fs: FileSystem, scene: Scene) -> None:
    """Reads a file of 3 MiB that is on the server, from one handle on, so that READs are sent ahead."""
    for offset in range(0, LARGE, LARGE // 6):
        data = await fs.read(_handle(scene, "w:f"), offset, LARGE // 6)
        assert bytes(data) == b"x" * (LARGE // 6)


LARGE = 3 * 1024 * 1024
READ_ONLY = int(FileAttributes.FILE_ATTRIBUTE_READONLY)
QUESTIONS = (
    _asking("lock", _wait_for_lock, ("r:f", "w:f")),
    _asking("flock", _wait_for_flock, ("r:f", "w:f")),
    _asking("statfs", lambda fs, scene: fs.statfs(_ino(scene, "w:f")), ("w:f",)),
    _asking("listxattr", lambda fs, scene: fs.listxattr(_ino(scene, "w:f")), ("w:f",)),
    _asking("setxattr", lambda fs, scene: fs.setxattr(_ino(scene, "w:f"), b"user.a", b"1"), ("w:f",)),
    _asking("getxattr", lambda fs, scene: fs.getxattr(_ino(scene, "w:f"), b"user.dosattrib"), ("w:f",)),
    _asking("set attributes", lambda fs, scene: fs.setxattr(_ino(scene, "w:f"), b"user.dosattrib", b"0x22"), ("w:f",)),
)


@pytest.mark.parametrize("operation", QUESTIONS, ids=lambda operation: operation.name.replace(" ", "-"))
def test_a_call_is_cancelled(operation: Operation) -> None:
    assert at_each_step(operation, *NEEDS["written"]) >= 1


def test_reading_ahead_is_cancelled() -> None:
    large = writing("w:f", b"x" * LARGE, 0)
    synced = BY_NAME["fsync by w:f"]
    assert at_each_step(_asking("read on", _read_on, ("w:f",)), begun=(large, synced)) >= 6


@pytest.mark.parametrize(
    "name", ["write at 0 by w:f", "append by a:f", "fsync by w:f", "close w:f", "truncate w:f to 2"]
)
def test_an_operation_is_cancelled_that_waits_for_room(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As many bytes are dirty as may be."""
    monkeypatch.setattr(writeback, "WINDOW", 4)
    assert at_each_step(BY_NAME[name], *NEEDS["written"]) >= 1


def test_mknod_is_cancelled() -> None:
    async def real(scene: Scene) -> None:
        await scene.kernel.mknod("n", posix.S_IFREG | 0o644)

    assert at_each_step(Operation("mknod n", real, make_steps("n", lambda: File(posix.S_IFREG)))) >= 5


@pytest.mark.parametrize("name", ["list /", "list / in pieces"])
def test_a_listing_is_cancelled_that_takes_several_answers(name: str) -> None:
    async def divide(scene: Scene) -> None:
        scene.connection.session.entries_at_once = 2

    assert at_each_step(BY_NAME[name], begun=(Operation("divide", divide, nothing_steps()),)) >= 10


IN_D = opening("in d", "d/x", os.O_RDWR)


@pytest.mark.parametrize(
    "begun", [(), (IN_D,), (IN_D, writing("new in d", b"yy", 1))], ids=["closed", "open", "written"]
)
@pytest.mark.parametrize("new", ["n", "e"])
def test_the_rename_of_a_folder_is_cancelled(new: str, begun: tuple[Operation, ...]) -> None:
    assert at_each_step(renaming("d", new), begun=begun) >= 1


@pytest.mark.parametrize("name", ["rename f to v", "rename d/x to v", "unlink v"])
@pytest.mark.parametrize("needs", NEEDS)
def test_a_read_only_file_is_gone_or_stays_read_only(name: str, needs: str) -> None:
    def judge(scene: Scene) -> Iterable[str]:
        for path, inode in scene.server.volume.walk():
            if path == "v" and inode.data == VICTIM and not inode.attributes & READ_ONLY:
                yield "the file is there, and not read-only any more"

    async def protect(scene: Scene) -> None:
        scene.server.volume.at("v").attributes |= READ_ONLY

    needed, begun = NEEDS[needs]
    protection = Operation("protect v", protect, nothing_steps())
    at_each_step(BY_NAME.get(name) or renaming("d/x", "v"), needed, (protection, *begun), judge=judge)

"""One operation that is cancelled at one of its checkpoints, and what has to be as before then.

trio schedules tasks in steps, each from one checkpoint to the next. `StepCounter` counts the steps of all tasks but
that of the test, and ends the operation's wait after a given one, as an interrupt does (dfsfs/fuse/interrupts.py): the
call of the file system that is under way is cancelled, and its program gets EINTR. So an operation is cancelled before
its request was sent, after it was sent, when its answer has come and it was not yet looked at, and wherever it waits
besides.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from dfsfs.errors import DfsfsError, PosixError
from tests.shell.explorer import quiet
from tests.shell.model import Failure, Model, outcomes
from tests.shell.scene import ACTIMEO, OPEN, Scene, model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dfsfs.vfs.filesystem import FileSystem
    from dfsfs.vfs.names.inode import Inode
    from tests.shell.operations import Operation

    Judge = Callable[[Scene], Iterable[str]]

SETTLING = 7
"""Seconds in which whatever was begun has to end: longer than a close is deferred, or a removal waits."""
INTERRUPTED = Failure(errno.EINTR)
OWN = ".dfsfs_"
"""What the names begin with that no program sees."""
UNINTERRUPTIBLE = frozenset({"release", "releasedir", "forget", "serve", "close"})
"""What no program waits for."""


class Interruptible:
    """The file system as the kernel sees it through dfsfs/fuse: the call that is under way can be ended, with EINTR."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._under_way: list[trio.CancelScope] = []

    def interrupt(self) -> bool:
        """Whether there was a call to cancel."""
        for scope in self._under_way:
            scope.cancel()
        return bool(self._under_way)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        if name in UNINTERRUPTIBLE or not callable(found):
            return found
        if name == "readdir":
            return lambda *arguments: _Stream(self, found(*arguments))

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            return self.wait(result) if hasattr(result, "__await__") else result

        return call

    async def wait(self, awaited: Any) -> Any:
        with trio.CancelScope() as scope:
            self._under_way.append(scope)
            try:
                return await awaited
            finally:
                self._under_way.remove(scope)
        raise PosixError(errno.EINTR, "who waited for it was interrupted")


class _Stream:
    """Entries of a directory, each of which may be interrupted."""

    def __init__(self, interruptible: Interruptible, stream: Any) -> None:
        self._interruptible = interruptible
        self._stream = stream

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Any:
        return await self._interruptible.wait(anext(self._stream))

    async def aclose(self) -> None:
        await self._stream.aclose()


class StepCounter(trio.abc.Instrument):
    """Interrupts after the step number `at`, counted from 1."""

    def __init__(self, interruptible: Interruptible, at: int, test: trio.lowlevel.Task) -> None:
        self.count = 0
        self.interrupted = False
        self._interruptible = interruptible
        self._at = at
        self._test = test

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is not self._test:
            self.count += 1
            if self.count == self._at:
                self.interrupted = self._interruptible.interrupt()


class Cancelled:
    """An operation that is cancelled after the step `at`, and tried again. `begun` has operations that have ended when
    it begins, and whose outcome it must not spoil. `judge` says what else is wrong between the two tries.
    """

    def __init__(
        self,
        operation: Operation,
        needs: tuple[str, ...],
        begun: tuple[Operation, ...],
        how: dict[str, Any],
        judge: Judge | None,
        at: int,
    ) -> None:
        self.at = at
        self.interrupted = False
        """Whether a call of the file system was cancelled."""
        self.is_over = False
        """Whether the operation has fewer steps."""
        self.problems: list[str] = []
        self._operation = operation
        self._begun = begun
        all_needs = (*operation.needs, *needs, *(fd for each in begun for fd in each.needs))
        self._needs = tuple(fd for fd in dict.fromkeys(all_needs) if fd in OPEN)
        self._how = how
        self._judge_between = judge
        self._ended = False
        self._result: Any = None
        self.scene: Scene
        self._interruptible: Interruptible

    async def run(self, clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
        """Raises nothing but what a program may not see: what is wrong is in `problems`."""
        self.scene = scene = Scene(nursery, **self._how)
        await scene.prepare(self._needs)
        await _settle(clock, 2 * ACTIMEO)
        for each in self._begun:
            await each.real(scene)
        await quiet()
        tasks, credits = _tasks(), _credits(scene)
        await self._interrupt(nursery)
        if not (self.interrupted or self.is_over):
            return  # no program waited for anything at that step
        await _settle(clock, SETTLING)
        if not self._ended:
            self.problems.append("it hangs")
            return
        first = self._result
        self._check(_tasks(), tasks, "tasks")
        self._check(_credits(scene), credits, "credits")
        self._check(scene.fs.open_files, len(scene.kernel.files), "open files")
        self._check(scene.fs.open_folders, 0, "open folders")
        if self._judge_between is not None:
            self.problems += self._judge_between(scene)
        await self._perform()
        await self._close(clock, renamed=first == INTERRUPTED and self._operation.name.startswith("rename"))
        self._judge(first, self._result)
        self.problems += [*_leftovers(scene)]
        self._check(_credits(scene), credits, "credits at the end")

    def _check(self, found: object, right: object, what: str) -> None:
        if found != right:
            self.problems.append(f"{what}: {found}, and not {right}")

    async def _interrupt(self, nursery: trio.Nursery) -> None:
        scene = self.scene
        interruptible: Any = Interruptible(scene.fs)
        counter = StepCounter(interruptible, self.at, trio.lowlevel.current_task())
        scene.kernel.fs = interruptible
        trio.lowlevel.add_instrument(counter)
        try:
            nursery.start_soon(self._perform)
            for _ in range(2):  # what others wait for with `quiet` has still to happen
                await quiet()
        finally:
            trio.lowlevel.remove_instrument(counter)
            scene.kernel.fs = scene.fs
        self.interrupted, self.is_over = counter.interrupted, counter.count < self.at

    async def _perform(self) -> None:
        self._ended = False
        try:
            self._result = await self._operation.real(self.scene)
        except (OSError, DfsfsError) as error:
            self._result = Failure(error.errno or 0)
        self._ended = True

    async def _close(self, clock: trio.testing.MockClock, *, renamed: bool) -> None:
        """Programs close their files, others list the folders, and the kernel forgets all of it. `renamed`: whether
        something may have been renamed that the mount does not know of.
        """
        kernel = self.scene.kernel
        for fd in list(kernel.files):
            try:
                await kernel.close(fd)
            except OSError as error:
                # The mount has closed what was in the way of a rename, and has not heard that it was carried out.
                if not (error.errno == errno.ESTALE and renamed):
                    self.problems.append(f"close of a file: {error}")
        await _settle(clock, SETTLING)
        if any(OWN in path for path in _files(self.scene)):  # which a listing removes, or puts back
            for _ in range(2):
                for folder in ("", *_folders(self.scene)):
                    await kernel.listdir(folder)
                await _settle(clock, 2 * ACTIMEO)
        await kernel.drop_caches()
        await _settle(clock, SETTLING)

    def _judge(self, first: Any, second: Any) -> None:
        """The first try has come to all or nothing, the second one to what it comes to after that."""
        start = model(self._needs)
        for each in self._begun:
            ((_, start),) = outcomes(start, [each.model])
        ((right, after),) = outcomes(start, [self._operation.model])
        if first != INTERRUPTED:
            self._check((first,), right, "the first try")
        truth = _files(self.scene)
        possible = [(outcome.results, _files_of(outcome.state)) for outcome in self._seconds(start, after, first)]
        if ((second,), truth) not in possible:
            self.problems.append(f"in the end {(second, truth)}, and not one of {possible}")

    def _seconds(self, start: Model, after: Model, first: Any) -> Iterator[Any]:
        for state in (start, after) if first == INTERRUPTED else (after,):
            yield from outcomes(state, [self._operation.model])


async def _settle(clock: trio.testing.MockClock, seconds: float) -> None:
    """Lets all go on that can while time passes."""
    await quiet()
    passed = 0.0
    while passed < seconds:
        clock.jump(1.0)
        passed += 1.0
        await quiet()


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def _credits(scene: Scene) -> tuple[int, ...]:
    """Of the client and of the server: all are in hand, and nothing is asked or waits to be."""
    found = scene.tree.connection.statistics()
    return (
        found.credits.available,
        found.credits.outstanding,
        found.queued,
        found.in_flight,
        scene.connection.credits,
        len(scene.server.requests) + len(scene.server.messages),
    )


def _folders(scene: Scene) -> list[str]:
    return [path for path, inode in scene.server.volume.walk() if inode.is_directory and OWN not in path]


def _files(scene: Scene) -> dict[str, tuple[int, bytes]]:
    return {path: (number, data) for path, (number, data, _) in scene.truth(with_hidden=True).items()}


def _files_of(state: Model) -> dict[str, tuple[int, bytes]]:
    return {path: (number, data) for path, (number, data, _) in state.tree().items()}


def _leftovers(scene: Scene) -> Iterator[str]:
    """What is left though nothing is open, nothing is asked, and the kernel knows the root only."""
    files, lookup = scene.fs._files, scene.fs._lookup
    table, pending, renames = lookup.table, files._pending, lookup.directory_renames
    inodes = [table.get(ino) for ino in list(table._inodes)]
    counts: dict[str, object] = {
        "handles on the server": scene.server.opens,
        "hidden names on the server": sum(OWN in path for path in _files(scene)),
        "files": files.table._handles or files.table._by_inode,
        "listings": scene.fs._listings,
        "inodes beside the root": scene.fs.known_inodes - 1,
        "opens and closes": pending._busy or pending._blocked,
        "changes of sizes and times": pending._resizes or pending._times,
        "directories held": renames._held or renames._running or renames.open_directories,
        "hidden names": lookup.hidden_names._in_use,
        "lease breaks": files.leases.pending,
        "deferred closes": files.leases.deferred._handles,
        "prefetches": files._prefetch._fetches or files._prefetch._size,
        "locks": files.locks._ranges._files or files.locks._flocks._files,
        "bytes that are dirty": files._opener._budget.taken,
        "bytes read ahead": files._read_ahead.used,
        "changes": [inode for inode in inodes if inode is not None and inode.pending_changes],
        "changes of names": [name for inode in inodes for name in _changing(inode)],
    }
    yield from (f"{what}: {found}" for what, found in counts.items() if found)
    scene.fs.check_invariants()


def _changing(inode: Inode | None) -> Iterator[str]:
    changed = inode.changed_names if inode is not None else None
    yield from changed._under_way if changed is not None else ()

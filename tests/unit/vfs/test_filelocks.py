"""Locks of programs on open files: the verbs of the file system, and who waits and is cancelled."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.vfs.data.locktable import OFFSET_MAX, ByteRangeLock, LockBounds, LockKind
from tests.unit.vfs.lockmodel import CELLS, READ, UNLOCK, WRITE, ModelFile, lock_of
from tests.unit.vfs.test_locktable import CELL
from tests.unit.vfs.test_openfile import Pair
from tests.unit.vfs.world import World, fails

if TYPE_CHECKING:
    from dfsfs.unc import UncPath
    from dfsfs.vfs.filesystem import FileSystem

Way = Callable[["FileSystem", int, int, LockKind, bool], Coroutine[Any, Any, None]]
ALICE, BOB, CAROL = 0xA11CE, 0xB0B, 0xCA401


async def byte_range(fs: FileSystem, handle: int, owner: int, kind: LockKind, waits: bool) -> None:
    """A lock of all bytes by fcntl."""
    await (fs.setlkw if waits else fs.setlk)(handle, owner, whole(kind, owner))


async def flock(fs: FileSystem, handle: int, owner: int, kind: LockKind, waits: bool) -> None:
    await (fs.flockw if waits else fs.flock)(handle, owner, kind)


BOTH = pytest.mark.parametrize("way", [byte_range, flock])


def whole(kind: LockKind, pid: int = 0) -> ByteRangeLock:
    return ByteRangeLock(kind, 0, OFFSET_MAX, pid)


def unlocked(fs: FileSystem) -> bool:
    counts = fs.statistics()
    fs.check_invariants()
    return not counts.locks and not counts.lock_waiters


class Opened:
    """A world with files `a` and `b`, and handles on them by name: a1, a2, b1 and so on."""

    def __init__(self) -> None:
        self.world = World()
        for name in "ab":
            self.world.root.add_file(name, b"hello")
        self.fs = self.world.fs
        self.handles: dict[str, int] = {}

    async def open(self, *names: str) -> FileSystem:
        for name in names:
            ino = await self.world.ino(name[0])
            self.handles[name] = (await self.fs.open(ino, os.O_RDWR)).handle
        return self.fs

    def __getitem__(self, name: str) -> int:
        return self.handles[name]


@BOTH
async def test_a_lock_is_the_files_whatever_handle_it_was_got_through(way: Way, autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1", "a2", "b1")
    await way(fs, files["a1"], ALICE, WRITE, False)
    await fails(errno.EAGAIN, way(fs, files["a2"], BOB, READ, False))
    await way(fs, files["b1"], BOB, WRITE, False)
    await way(fs, files["a1"], ALICE, READ, False)
    await way(fs, files["a2"], BOB, READ, False)
    await way(fs, files["a1"], ALICE, UNLOCK, False)
    await way(fs, files["a2"], BOB, WRITE, True)
    for name in ("a1", "a2", "b1"):
        await fs.release(files[name])
    assert unlocked(fs)


async def test_a_lock_is_the_files_whatever_name_it_was_opened_by(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1")
    files.world.root.has_hard_links = True
    await fs.link(await files.world.ino("a"), 1, b"b2")
    files.handles["b2"] = (await fs.open(await files.world.ino("b2"), os.O_RDWR)).handle
    await fs.setlk(files["a1"], ALICE, whole(WRITE, 5))
    assert await fs.getlk(files["b2"], BOB, whole(READ)) == whole(WRITE, 5)
    await fs.unlink(1, b"a")
    assert await fs.getlk(files["b2"], BOB, whole(READ)) == whole(WRITE, 5)


async def test_flock_and_fcntl_do_not_know_each_other(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1", "a2")
    await fs.setlk(files["a1"], ALICE, whole(WRITE, 5))
    await fs.flock(files["a2"], BOB, WRITE)
    assert await fs.getlk(files["a2"], BOB, whole(READ)) == whole(WRITE, 5)
    await fs.flush(files["a1"], ALICE)
    assert await fs.getlk(files["a2"], BOB, whole(READ)) is None
    await fails(errno.EAGAIN, fs.flock(files["a1"], ALICE, READ))


async def test_who_closes_any_descriptor_has_no_byte_ranges_of_the_file_any_more(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1", "a2", "b1")
    await fs.setlk(files["a1"], ALICE, ByteRangeLock(WRITE, 0, 9))
    await fs.setlk(files["b1"], ALICE, ByteRangeLock(WRITE, 0, 9))
    await fs.setlk(files["a1"], BOB, ByteRangeLock(WRITE, 20, 29))
    await fs.flush(files["a2"])  # as pyfuse3 does it
    assert await fs.getlk(files["a1"], CAROL, whole(READ)) == ByteRangeLock(WRITE, 0, 9)
    await fs.flush(files["a2"], ALICE)
    assert await fs.getlk(files["a1"], CAROL, whole(READ)) == ByteRangeLock(WRITE, 20, 29)
    assert await fs.getlk(files["b1"], CAROL, whole(READ)) == ByteRangeLock(WRITE, 0, 9)
    await fs.release_locks(files["b1"], ALICE)
    assert await fs.getlk(files["b1"], CAROL, whole(READ)) is None
    await fs.release_locks(12345, ALICE)


async def test_a_close_that_can_not_send_lets_go_all_the_same(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1")
    await fs.setlk(files["a1"], ALICE, whole(WRITE))
    await fs.write(files["a1"], 0, b"x")

    def full(verb: str, path: UncPath) -> None:
        if verb == "write":
            raise SmbError(NtStatus.DISK_FULL, "a test")

    files.world.root.before = full
    await fails(errno.ENOSPC, fs.flush(files["a1"], ALICE))
    assert unlocked(fs)


async def test_an_open_file_description_takes_its_locks_with_it(autojump_clock: object) -> None:
    """Whoever owns them: what the kernel knows of no more, nobody can let go of."""
    files = Opened()
    fs = await files.open("a1", "a2")
    await fs.setlk(files["a1"], 0xF11E, ByteRangeLock(WRITE, 0, 9))
    await fs.setlk(files["a2"], 0xF11F, ByteRangeLock(WRITE, 10, 19))
    await fs.flock(files["a1"], 0xF11E, WRITE)
    await fs.release(files["a1"])
    assert await fs.getlk(files["a2"], BOB, whole(READ)) == ByteRangeLock(WRITE, 10, 19)
    await fs.flock(files["a2"], 0xF11F, WRITE)
    await fs.release(files["a2"])
    assert unlocked(fs)


async def test_the_locks_of_a_description_are_gone_before_its_data_is_sent(autojump_clock: object) -> None:
    """The kernel may give the number of their owner to the next file that is opened."""
    files = Opened()
    fs = await files.open("a1")
    await fs.flock(files["a1"], ALICE, WRITE)
    await fs.write(files["a1"], 0, b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fs.release, files["a1"])
        nursery.start_soon(run_one_step)
        await trio.testing.wait_all_tasks_blocked(0)
        assert unlocked(fs)


async def run_one_step() -> None:
    await trio.lowlevel.checkpoint()


async def test_locks_outlive_the_name_and_go_with_the_file(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1", "a2")
    ino = (await files.world.walk("a")).ino
    await fs.setlk(files["a1"], ALICE, whole(WRITE))
    await fs.unlink(1, b"a")
    await fails(errno.EAGAIN, fs.setlk(files["a2"], BOB, whole(READ)))
    before = fs.statistics().inodes.inodes
    for name in ("a1", "a2"):
        await fs.release(files[name])
    fs.forget(ino, 3)
    assert unlocked(fs) and fs.statistics().inodes.inodes < before


async def test_a_file_that_takes_the_name_has_locks_of_its_own(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1")
    await fs.setlk(files["a1"], ALICE, whole(WRITE))
    await fs.rename(1, b"b", 1, b"a", 0)
    await files.open("a2")
    await fs.setlk(files["a2"], BOB, whole(WRITE))
    assert fs.statistics().locks == 2


async def test_locks_stay_when_a_link_moves_to_another_target(autojump_clock: object) -> None:
    world = Pair()
    fs = world.fs
    ino, handle = await world.open(os.O_RDWR)
    await fs.setlk(handle, ALICE, whole(WRITE, 5))
    await fs.flock(handle, ALICE, WRITE)
    world.namespace.stop("//fs1/data")
    assert bytes(await fs.read(handle, 0, 3)) == b"con"
    await fs.write(handle, 0, b"C")
    await fs.flush(handle, BOB)
    assert bytes(world.copy.data) == b"Content"
    again = (await fs.open(ino, os.O_RDWR)).handle
    assert await fs.getlk(again, BOB, whole(READ)) == whole(WRITE, 5)
    await fails(errno.EAGAIN, fs.flock(again, BOB, READ))
    await fs.release(handle)
    assert unlocked(fs)


@pytest.mark.logs("reports an error until it is closed")
async def test_locks_of_a_file_that_is_lost_end_with_it(autojump_clock: object) -> None:
    """What its former target has acknowledged may not be on the other one: it fails from then on."""
    world = Pair()
    fs = world.fs
    _, handle = await world.open(os.O_RDWR)
    await fs.setlk(handle, ALICE, whole(WRITE, 5))
    await fs.write(handle, 0, b"C")
    await fs.flush(handle, BOB)
    world.namespace.stop("//fs1/data")
    await fails(errno.EIO, fs.flush(handle))
    assert await fs.getlk(handle, BOB, whole(READ)) == whole(WRITE, 5)
    await fails(errno.EIO, fs.flush(handle, ALICE))
    assert unlocked(fs)
    await fs.release(handle)


async def test_the_end_of_the_mount_leaves_nothing(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1", "b1")
    await fs.setlk(files["a1"], ALICE, whole(WRITE))
    await fs.flock(files["b1"], ALICE, WRITE)
    await fs.close()
    assert unlocked(fs)


async def test_there_is_no_such_handle(autojump_clock: object) -> None:
    fs = Opened().fs
    for action in (
        fs.getlk(1, ALICE, whole(READ)),
        fs.setlk(1, ALICE, whole(READ)),
        fs.setlkw(1, ALICE, whole(READ)),
        fs.flock(1, ALICE, READ),
        fs.flockw(1, ALICE, READ),
    ):
        await fails(errno.EBADF, action)


# -- waiting -------------------------------------------------------------------------------------------------------


class Program:
    """A task that waits for a lock. `got`: 0 or an errno, None while it waits or if it was cancelled."""

    def __init__(self, nursery: trio.Nursery, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.scope = trio.CancelScope()
        self.got: int | None = None
        self.has_ended = False
        nursery.start_soon(self._run, action)

    async def _run(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self.scope:
            try:
                await action()
                self.got = 0
            except DfsfsError as error:
                self.got = error.errno
            finally:
                self.has_ended = True


@BOTH
async def test_who_waits_gets_it_in_turn(way: Way, autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1", "a2", "a3")
    await way(fs, files["a1"], ALICE, WRITE, False)
    async with trio.open_nursery() as nursery:
        programs = []
        for name, owner in (("a2", BOB), ("a3", CAROL), ("a2", BOB + 1)):
            programs.append(Program(nursery, partial(way, fs, files[name], owner, WRITE, True)))
            await trio.testing.wait_all_tasks_blocked()
        programs[1].scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await way(fs, files["a1"], ALICE, UNLOCK, False)
        await trio.testing.wait_all_tasks_blocked()
        assert [program.got for program in programs] == [0, None, None]
        await way(fs, files["a2"], BOB, UNLOCK, False)
    assert [program.got for program in programs] == [0, None, 0]
    assert fs.statistics().lock_waiters == 0 and fs.statistics().locks == 1


async def test_a_deadlock_and_a_handle_that_is_released(autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1", "a2", "b1", "b2")
    await fs.setlk(files["a1"], ALICE, whole(WRITE, 1))
    await fs.setlk(files["b2"], BOB, whole(WRITE, 2))
    async with trio.open_nursery() as nursery:
        alice = Program(nursery, partial(fs.setlkw, files["b1"], ALICE, whole(WRITE, 1)))
        await trio.testing.wait_all_tasks_blocked()
        await fails(errno.EDEADLK, fs.setlkw(files["a2"], BOB, whole(WRITE, 2)))
        await fs.release(files["b1"])
    assert alice.got == errno.EBADF


@BOTH
async def test_a_thousand_wait_and_no_more_than_are_allowed(way: Way, autojump_clock: object) -> None:
    files = Opened()
    fs = await files.open("a1")
    await way(fs, files["a1"], ALICE, WRITE, False)
    most = LockBounds().waiters_of_file
    assert most >= 1000
    async with trio.open_nursery() as nursery:
        programs = [Program(nursery, partial(way, fs, files["a1"], owner, WRITE, True)) for owner in range(most + 5)]
        await trio.testing.wait_all_tasks_blocked()
        assert sum(program.got == errno.ENOLCK for program in programs) == 5
        assert fs.statistics().lock_waiters == most
        await way(fs, files["a1"], ALICE, UNLOCK, False)
        for _ in range(most):
            await trio.testing.wait_all_tasks_blocked()
            (owner,) = [owner for owner, program in enumerate(programs) if program.got == 0]
            await way(fs, files["a1"], owner, UNLOCK, False)
            programs[owner].got = None
    assert unlocked(fs)


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope before the n-th step of a task, or between the moment at which it is woken and that step."""

    def __init__(self, scope: trio.CancelScope, step: int, *, when_woken: bool) -> None:
        self.scope, self.left, self.task = scope, step, trio.lowlevel.current_task()
        self.when_woken = when_woken

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if self.when_woken:
            self._count(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.when_woken:
            self._count(task)

    def _count(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


@BOTH
@pytest.mark.parametrize("when_woken", [False, True])
@pytest.mark.parametrize("before", [0, 1, 2])
async def test_cancelled_at_every_checkpoint(way: Way, when_woken: bool, before: int, autojump_clock: object) -> None:
    """With `before` programs in the queue. Whoever was cancelled has no lock, and whoever was not has it."""
    step, outcomes = 0, set[bool]()
    while True:
        step += 1
        reached, got = await _cancelled_at(step, way, when_woken, before)
        outcomes.add(got)
        if not reached:
            break
    assert step >= 3 and outcomes == {False, True}


async def _cancelled_at(step: int, way: Way, when_woken: bool, before: int) -> tuple[bool, bool]:
    """Cancels who waits at its n-th step. Whether it came to that, and whether it got the lock."""
    files = Opened()
    fs = await files.open("a1")
    handle, got = files["a1"], False
    cancels: _CancelAtStep | None = None
    await way(fs, handle, ALICE, WRITE, False)

    async def program() -> None:
        nonlocal got, cancels
        with trio.CancelScope() as scope:
            cancels = _CancelAtStep(scope, step, when_woken=when_woken)
            trio.lowlevel.add_instrument(cancels)
            await trio.lowlevel.checkpoint()
            await way(fs, handle, BOB, WRITE, True)
            got = True
        assert cancels is not None
        trio.lowlevel.remove_instrument(cancels)

    async def another(owner: int) -> None:
        await way(fs, handle, owner, WRITE, True)
        await trio.lowlevel.checkpoint()
        await way(fs, handle, owner, UNLOCK, False)

    async with trio.open_nursery() as nursery:
        for at in range(before):
            nursery.start_soon(another, CAROL + at)
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(program)
        await trio.testing.wait_all_tasks_blocked()
        await way(fs, handle, ALICE, UNLOCK, False)
    counts = fs.statistics()
    assert (counts.locks, counts.lock_waiters) == (int(got), 0)
    fs.check_invariants()
    if not got:
        await way(fs, handle, ALICE, WRITE, False)
    assert cancels is not None
    return cancels.left <= 0, got


@BOTH
@pytest.mark.parametrize("is_cancelled_first", [False, True])
async def test_a_lock_that_gets_free_in_the_moment_of_the_cancellation(
    way: Way, is_cancelled_first: bool, autojump_clock: object
) -> None:
    files = Opened()
    fs = await files.open("a1")
    await way(fs, files["a1"], ALICE, WRITE, False)
    async with trio.open_nursery() as nursery:
        first = Program(nursery, partial(way, fs, files["a1"], BOB, WRITE, True))
        await trio.testing.wait_all_tasks_blocked()
        last = Program(nursery, partial(way, fs, files["a1"], CAROL, WRITE, True))
        await trio.testing.wait_all_tasks_blocked()
        if is_cancelled_first:
            first.scope.cancel()
        await way(fs, files["a1"], ALICE, UNLOCK, False)
        if not is_cancelled_first:
            first.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (first.got, last.got) == ((None, 0) if is_cancelled_first else (0, None))
        last.scope.cancel()
    assert fs.statistics().lock_waiters == 0 and fs.statistics().locks == 1


# -- histories by chance -------------------------------------------------------------------------------------------

WHO = st.integers(1, 3)
PART = st.just(range(CELLS)) | CELL
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), WHO, st.sampled_from([WRITE, READ]), PART),
        st.tuples(st.just("ask"), WHO, st.just(WRITE), st.just(range(CELLS))),
        st.tuples(st.just("cancel"), WHO),
        st.tuples(st.just("unlock"), WHO, st.just(UNLOCK), PART),
        st.tuples(st.just("close"), WHO),
        st.tuples(st.just("settle")),
    ),
    min_size=20,
    max_size=60,
)


@pytest.mark.parametrize("is_flock", [False, True])
@given(steps=STEPS)
def test_no_wake_up_is_lost_and_who_is_cancelled_has_nothing(is_flock: bool, steps: list[Any]) -> None:
    """Between two `settle`, everything happens before any task that is woken goes on: locks that are let go of meet
    cancellations in both orders.
    """
    trio.run(_history, is_flock, steps)


async def _history(is_flock: bool, steps: list[Any]) -> None:
    files = Opened()
    fs = await files.open("a1")
    handle, file, programs = files["a1"], ModelFile(), dict[int, Program]()

    async def lock(owner: int, kind: LockKind, cells: range, waits: bool = True) -> None:
        if is_flock:
            await flock(fs, handle, owner, kind, waits)
        else:
            await (fs.setlkw if waits else fs.setlk)(handle, owner, lock_of(kind, cells[0], cells[-1], owner))
        file.put(owner, kind, range(CELLS) if is_flock else cells, handle)

    def forget_ended() -> None:
        for owner in [owner for owner, program in programs.items() if program.has_ended]:
            del programs[owner]

    async def check() -> None:
        await trio.testing.wait_all_tasks_blocked()
        forget_ended()
        fs.check_invariants()
        counts = fs.statistics()
        assert counts.lock_waiters == len(programs)
        assert counts.locks == len({file.lock_at(at, cell) for at in file.order for cell in range(CELLS)} - {None})

    async with trio.open_nursery() as nursery:
        for call, *arguments in steps:
            owner = arguments[0] if arguments else 0
            forget_ended()
            if call == "settle":
                await check()
            elif call == "cancel" and owner in programs:
                programs[owner].scope.cancel()
            elif call == "ask" and owner not in programs:
                if is_flock and file.lock_at(owner, 0) not in (None, lock_of(arguments[1], 0, CELLS - 1, owner)):
                    file.put(owner, UNLOCK, range(CELLS), handle)  # it is given up first
                programs[owner] = Program(nursery, partial(lock, *arguments))
                await trio.lowlevel.checkpoint()
            elif call == "unlock" and owner not in programs:
                await lock(owner, arguments[1], arguments[2], waits=False)
            elif call == "close" and owner not in programs and not is_flock:
                await fs.flush(handle, owner)
                file.put(owner, UNLOCK, range(CELLS), handle)
        await check()
        for program in programs.values():
            program.scope.cancel()
    assert fs.statistics().lock_waiters == 0
    await fs.release(handle)
    assert unlocked(fs)

"""LockTable against a model of bytes, and the rules that one example shows best."""

from __future__ import annotations

import errno
import fcntl
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dfsfs.errors import PosixError
from dfsfs.vfs.data.locktable import (
    DEADLOCK_STEPS,
    OFFSET_MAX,
    STEPS_EACH,
    ByteRangeLock,
    LockBounds,
    LockKind,
    LockStatistics,
    LockTable,
    LockWaiter,
)
from tests.unit.vfs.lockmodel import CELLS, READ, UNLOCK, WRITE, Model, Wait, lock_of

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = st.sampled_from("ab")
OWNERS = st.integers(1, 4)
KINDS = st.sampled_from(LockKind)
LOCKING = st.sampled_from([READ, WRITE])
CELL = st.tuples(st.integers(0, CELLS - 1), st.integers(0, CELLS - 1)).map(lambda two: range(min(two), max(two) + 1))
THROUGH = st.integers(0, 1)
NOBODY = 99


def code_of(action: Callable[[], object]) -> int:
    """0, or the errno that something fails with."""
    try:
        action()
    except PosixError as error:
        return error.errno
    return 0


class Ends(list[int]):
    """How a request has ended: 0 or an errno."""

    def note(self, error: PosixError | None) -> None:
        self.append(0 if error is None else error.errno)


class _LocksAsInTheModel(RuleBasedStateMachine):
    flock = False
    files: st.SearchStrategy[str] = FILES
    cells: st.SearchStrategy[range] = CELL

    def __init__(self) -> None:
        super().__init__()
        self.table = LockTable[str](flock=self.flock)
        self.model = Model(flock=self.flock)
        self.waits: list[tuple[LockWaiter[str], Ends, Wait]] = []

    def lock(self, kind: LockKind, cells: range, owner: int) -> ByteRangeLock:
        return lock_of(kind, cells[0], cells[-1], owner)

    def do_set(self, file: str, owner: int, kind: LockKind, cells: range, through: int) -> None:
        handle = 10 * owner + through
        code = code_of(lambda: self.table.set(file, owner, handle, self.lock(kind, cells, owner)))
        assert code == self.model.set(file, owner, kind, cells, handle)

    def do_request(self, file: str, owner: int, kind: LockKind, cells: range, through: int) -> None:
        handle, ends, waiter = 10 * owner + through, Ends(), None
        lock = self.lock(kind, cells, owner)
        try:
            waiter = self.table.request(file, owner, handle, lock, ends.note)
            code = 0
        except PosixError as error:
            code = error.errno
        wait = self.model.request(file, owner, kind, cells, handle)
        if isinstance(wait, Wait):
            assert waiter is not None
            self.waits.append((waiter, ends, wait))
        else:
            assert waiter is None and code == wait and not ends

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = [at for at, (_, ends, _) in enumerate(self.waits) if not ends]
        if waiting:
            waiter, _, wait = self.waits.pop(data.draw(st.sampled_from(waiting)))
            self.table.cancel(waiter)
            self.model.file(waiter.file).waits.remove(wait)

    @rule(file=FILES, owner=OWNERS)
    def close_descriptor(self, file: str, owner: int) -> None:
        self.table.release_owner(file, owner)
        self.model.release_owner(file, owner)

    @rule(file=FILES, owner=OWNERS, through=THROUGH)
    def end_handle(self, file: str, owner: int, through: int) -> None:
        self.table.release_handle(file, 10 * owner + through)
        self.model.release_handle(file, 10 * owner + through)

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        self.table.check_invariants()
        for name in "ab":
            file = self.model.file(name)
            for owner in range(1, 5):
                for cell in range(CELLS):
                    own = self.table.find_conflict(name, owner, lock_of(UNLOCK, cell, cell, owner))
                    assert own == file.lock_at(owner, cell)
        for _, ends, wait in self.waits:
            assert ends == wait.ends
        counts = self.table.statistics()
        assert counts.waiters == sum(len(file.waits) for file in self.model.files.values())
        assert (counts.ranges > 0) == any(file.order for file in self.model.files.values())

    def teardown(self) -> None:
        for waiter, ends, _ in self.waits:
            if not ends:
                self.table.cancel(waiter)
        for name in "ab":
            for owner in range(1, 5):
                self.table.release_owner(name, owner)
        assert self.table.statistics() == LockStatistics(0, 0) and not self.table._files and not self.table._waits


class ByteRanges(_LocksAsInTheModel):
    @rule(file=FILES, owner=OWNERS, kind=KINDS, cells=CELL, through=THROUGH)
    def set(self, file: str, owner: int, kind: LockKind, cells: range, through: int) -> None:
        self.do_set(file, owner, kind, cells, through)

    @rule(file=FILES, owner=OWNERS, kind=LOCKING, cells=CELL, through=THROUGH)
    def request(self, file: str, owner: int, kind: LockKind, cells: range, through: int) -> None:
        self.do_request(file, owner, kind, cells, through)

    @rule(file=FILES, owner=OWNERS | st.just(NOBODY), kind=LOCKING, cells=CELL)
    def ask(self, file: str, owner: int, kind: LockKind, cells: range) -> None:
        found = self.table.find_conflict(file, owner, self.lock(kind, cells, owner))
        assert found == self.model.file(file).first_in_the_way(owner, kind, cells)


class WholeFiles(_LocksAsInTheModel):
    flock = True

    @rule(file=FILES, owner=OWNERS, kind=KINDS, through=THROUGH)
    def set(self, file: str, owner: int, kind: LockKind, through: int) -> None:
        self.do_set(file, owner, kind, range(CELLS), through)

    @rule(file=FILES, owner=OWNERS, kind=LOCKING, through=THROUGH)
    def request(self, file: str, owner: int, kind: LockKind, through: int) -> None:
        self.do_request(file, owner, kind, range(CELLS), through)


TestByteRanges = ByteRanges.TestCase
TestWholeFiles = WholeFiles.TestCase


def whole(kind: LockKind, pid: int = 0) -> ByteRangeLock:
    return ByteRangeLock(kind, 0, OFFSET_MAX, pid)


def byte(kind: LockKind, at: int, pid: int = 0) -> ByteRangeLock:
    return ByteRangeLock(kind, at, at, pid)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (0, OFFSET_MAX + 1), (2**64 - 1, 2**64)])
def test_what_is_no_range_of_bytes_is_no_lock(start: int, end: int) -> None:
    assert code_of(lambda: ByteRangeLock(READ, start, end)) == errno.EINVAL


def test_the_numbers_are_those_of_linux() -> None:
    assert (LockKind.READ, LockKind.WRITE, LockKind.UNLOCK) == (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)


def test_nobody_waits_while_the_lock_is_free() -> None:
    """Three wait in a row; the one in the middle gives up; each of the others gets the lock in its turn."""
    table, ends = LockTable[str](), [Ends() for _ in range(3)]
    table.set("f", 1, 1, whole(WRITE))
    waiters = [table.request("f", 2 + at, 2 + at, whole(WRITE), ends[at].note) for at in range(3)]
    assert waiters[1] is not None
    table.cancel(waiters[1])
    table.set("f", 1, 1, whole(UNLOCK))
    assert ends == [[0], [], []]
    table.release_owner("f", 2)
    assert ends == [[0], [], [0]]


def test_readers_get_it_together_and_a_writer_after_them() -> None:
    table, ends = LockTable[str](), [Ends() for _ in range(4)]
    table.set("f", 1, 1, whole(WRITE))
    for at, kind in enumerate([READ, WRITE, READ, READ]):
        table.request("f", 2 + at, 2 + at, whole(kind), ends[at].note)
    table.set("f", 1, 1, whole(UNLOCK))
    assert ends == [[0], [], [0], [0]], "who waits holds nothing, as in Linux"
    for owner in (2, 4, 5):
        table.release_owner("f", owner)
    assert ends[1] == [0]


def test_a_downgrade_lets_those_in_that_read() -> None:
    table, ends = LockTable[str](), Ends()
    table.set("f", 1, 1, whole(WRITE))
    table.request("f", 2, 2, byte(READ, 7), ends.note)
    table.set("f", 1, 1, ByteRangeLock(READ, 5, 9))
    assert ends == [0]
    assert table.find_conflict("f", 1, byte(WRITE, 7)) == byte(READ, 7)


def test_a_lock_that_is_granted_may_let_go_of_another_one() -> None:
    """The owner 2 has bytes 0 to 4 for writing, and waits to have bytes 0 to 9 for reading."""
    table, first, second = LockTable[str](), Ends(), Ends()
    table.set("f", 1, 1, byte(WRITE, 9))
    table.set("f", 2, 2, ByteRangeLock(WRITE, 0, 4))
    table.request("f", 3, 3, byte(READ, 0), first.note)
    table.request("f", 2, 2, ByteRangeLock(READ, 0, 9), second.note)
    table.set("f", 1, 1, byte(UNLOCK, 9))
    assert (first, second) == ([0], [0])


# -- deadlocks -----------------------------------------------------------------------------------------------------


def wait_in_a_circle(owners: int, pid_of_lock: Callable[[int], int], pid_of_wait: Callable[[int], int]) -> int:
    """Each of some owners has a byte and asks for the next one's. What the last of them gets: 0 if it waits."""
    table = LockTable[int]()
    for owner in range(owners):
        table.set(owner % 2, owner, owner, byte(WRITE, owner, pid_of_lock(owner)))
    code = 0
    for owner in range(owners):
        following = (owner + 1) % owners
        lock = byte(WRITE, following, pid_of_wait(owner))
        code = code_of(partial(table.request, following % 2, owner, owner, lock, Ends().note))
        assert not code or owner == owners - 1
        table.check_invariants()
    assert table.statistics().waiters == owners - bool(code)
    return code


@pytest.mark.parametrize("owners", [2, 3, 50])
def test_processes_do_not_wait_in_a_circle(owners: int) -> None:
    assert wait_in_a_circle(owners, lambda owner: 100 + owner, lambda owner: 100 + owner) == errno.EDEADLK
    assert wait_in_a_circle(owners, lambda owner: 0, lambda owner: 0) == errno.EDEADLK, "no pids are known"


@pytest.mark.parametrize("owners", [2, 3])
def test_descriptions_may(owners: int) -> None:
    assert wait_in_a_circle(owners, lambda owner: 100, lambda owner: 100) == 0, "all of one process"
    assert wait_in_a_circle(owners, lambda owner: 100 + owner, lambda owner: 200 + owner) == 0, "passed on to another"
    assert wait_in_a_circle(owners, lambda owner: 100 + owner // 2, lambda owner: 100 + owner // 2) == 0, "two of one"


def test_who_reads_with_another_and_both_want_to_write() -> None:
    table = LockTable[str]()
    for owner in (1, 2):
        table.set("f", owner, owner, whole(READ, owner))
    ends = Ends()
    assert table.request("f", 1, 1, whole(WRITE, 1), ends.note) is not None
    assert code_of(lambda: table.request("f", 2, 2, whole(WRITE, 2), Ends().note)) == errno.EDEADLK
    table.set("f", 2, 2, whole(UNLOCK, 2))
    assert ends == [0]


def test_a_circle_that_is_closed_by_a_lock_of_another_thread() -> None:
    """The process 1 waits for 2, and 2 for a byte of 3; then another thread of 1 gets a part in that byte."""
    table, of_1, of_2 = LockTable[str](), Ends(), Ends()
    table.set("f", 2, 2, byte(WRITE, 2, 2))
    table.set("f", 3, 3, byte(WRITE, 3, 3))
    table.request("f", 1, 1, byte(WRITE, 2, 1), of_1.note)
    table.request("f", 2, 2, byte(WRITE, 3, 2), of_2.note)
    table.set("f", 3, 3, byte(READ, 3, 3))
    assert (of_1, of_2) == ([], [])
    table.set("f", 1, 1, byte(READ, 3, 1))
    assert (of_1, of_2) == ([errno.EDEADLK], [])


def test_a_search_for_a_deadlock_ends() -> None:
    """Owners in a row, each waiting for the next one: a circle of them is found if it is not too long."""
    table = LockTable[int](LockBounds(waiters=10**6, ranges=10**6))
    last = DEADLOCK_STEPS // STEPS_EACH + 1
    for owner in range(last + 1):
        table.set(owner, owner, owner, whole(WRITE, owner + 1))
    for owner in range(last):
        assert table.request(owner + 1, owner, owner, whole(WRITE, owner + 1), Ends().note) is not None
    assert code_of(lambda: table.request(last - 10, last, last, whole(READ, last + 1), Ends().note)) == errno.EDEADLK
    assert table.request(0, last, last, whole(READ, last + 1), Ends().note) is not None, "given up"


# -- bounds --------------------------------------------------------------------------------------------------------


def test_there_is_a_bound_for_ranges() -> None:
    table = LockTable[str](LockBounds(ranges_of_file=3, ranges=5))
    for at in (0, 10, 20):
        table.set("f", 1, 1, byte(WRITE, at))
    assert code_of(lambda: table.set("f", 2, 2, byte(READ, 30))) == errno.ENOLCK
    assert code_of(lambda: table.request("f", 2, 2, byte(READ, 30), Ends().note)) == errno.ENOLCK
    table.set("f", 1, 1, ByteRangeLock(WRITE, 0, 10))  # joins two
    table.set("f", 1, 1, byte(READ, 0))
    assert code_of(lambda: table.set("f", 1, 1, byte(UNLOCK, 5))) == errno.ENOLCK, "it would split one"
    table.set("f", 1, 1, byte(UNLOCK, 20))
    table.set("f", 1, 1, byte(UNLOCK, 5))
    assert table.statistics().ranges == 3
    table.set("g", 1, 3, byte(WRITE, 0))
    table.set("g", 1, 3, byte(WRITE, 5))
    assert code_of(lambda: table.set("h", 1, 4, byte(WRITE, 0))) == errno.ENOLCK
    table.release_handle("g", 3)
    table.set("h", 1, 4, byte(WRITE, 0))
    table.check_invariants()


def test_there_is_a_bound_for_requests_that_wait() -> None:
    table = LockTable[str](LockBounds(waiters_of_file=2, waiters=3))
    for file in "fg":
        table.set(file, 1, 1, whole(WRITE, 1))
    waiters = [table.request("f", owner, owner, whole(READ, owner), Ends().note) for owner in (2, 3)]
    assert code_of(lambda: table.request("f", 4, 4, whole(READ, 4), Ends().note)) == errno.ENOLCK
    table.request("g", 4, 4, whole(READ, 4), Ends().note)
    assert code_of(lambda: table.request("g", 5, 5, whole(READ, 5), Ends().note)) == errno.ENOLCK
    assert waiters[0] is not None
    table.cancel(waiters[0])
    table.request("g", 5, 5, whole(READ, 5), Ends().note)
    table.check_invariants()


def test_a_request_that_has_waited_is_told_if_there_are_too_many_ranges_by_then() -> None:
    table, ends = LockTable[str](LockBounds(ranges_of_file=2)), Ends()
    table.set("f", 1, 1, byte(WRITE, 0))
    table.set("f", 3, 3, byte(WRITE, 5))
    table.request("f", 2, 2, byte(READ, 0), ends.note)
    table.set("f", 1, 1, byte(READ, 0))
    assert ends == [errno.ENOLCK]
    table.check_invariants()


# -- flock ---------------------------------------------------------------------------------------------------------


def test_a_conversion_that_fails_loses_the_lock() -> None:
    table = LockTable[str](flock=True)
    for owner in (1, 2):
        table.set("f", owner, owner, whole(READ))
    assert code_of(lambda: table.set("f", 1, 1, whole(WRITE))) == errno.EAGAIN
    assert table.find_conflict("f", 2, whole(WRITE)) is None
    table.set("f", 2, 2, whole(WRITE))


def test_who_converts_comes_before_those_who_wait() -> None:
    table, ends = LockTable[str](flock=True), Ends()
    table.set("f", 1, 1, whole(READ))
    table.request("f", 2, 2, whole(WRITE), ends.note)
    table.set("f", 1, 1, whole(WRITE))
    assert ends == []
    table.set("f", 1, 1, whole(READ))
    table.set("f", 1, 1, whole(UNLOCK))
    assert ends == [0]


def test_who_waits_to_convert_has_let_go() -> None:
    table, of_1, of_3 = LockTable[str](flock=True), Ends(), Ends()
    for owner in (1, 2):
        table.set("f", owner, owner, whole(READ))
    table.request("f", 3, 3, whole(WRITE), of_3.note)
    table.request("f", 1, 1, whole(WRITE), of_1.note)
    assert (of_1, of_3) == ([], [])
    table.release_handle("f", 2)
    assert (of_1, of_3) == ([], [0])

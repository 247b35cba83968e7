"""LockTable does what Linux does: processes lock a file of this computer, and get the answers of the table."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dfsfs.errors import PosixError
from dfsfs.vfs.data.locktable import OFFSET_MAX, ByteRangeLock, LockKind, LockTable

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES, SLOTS = 3, 2
PATIENCE = 30.0
"""Seconds that a process may take for what takes microseconds."""
READ, WRITE, UNLOCK = LockKind
LAST = 9


class Process:
    """A process of locker.py."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "tests.unit.vfs.locker", str(path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        self.pid = self._process.pid
        self._ended: list[int] = []

    def send(self, *call: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def do(self, *call: object) -> dict[str, Any]:
        """Sends a call and returns its answer; what is said meanwhile of the request that waits is kept."""
        self.send(*call)
        while "code" not in (answer := self.receive()):
            self._ended.append(answer["ended"])
        return answer

    def how_it_ended(self) -> int:
        """Waits until the request that waits has ended."""
        return self._ended.pop() if self._ended else int(self.receive()["ended"])

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Computer:
    """Some processes that have opened one file, SLOTS times each, and the table."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.inode = path.stat().st_ino
        self.processes = [Process(path) for _ in range(PROCESSES)]
        self.ranges, self.flocks = LockTable[str](), LockTable[str](flock=True)
        self.handles: dict[tuple[int, int], int] = {}
        self.next_handle = 1000
        for process in range(PROCESSES):
            for slot in range(SLOTS):
                self.open(process, slot)

    def open(self, process: int, slot: int) -> None:
        assert self.processes[process].do("open", slot)["code"] == 0
        self.handles[process, slot], self.next_handle = self.next_handle, self.next_handle + 1

    def close(self, process: int, slot: int) -> None:
        """As the kernel says it to FUSE: a FLUSH and a RELEASE."""
        self.processes[process].do("close", slot)
        handle = self.handles.pop((process, slot))
        self.ranges.release_owner("f", process)
        self.ranges.release_handle("f", handle)
        self.flocks.release_handle("f", handle)

    def reset(self) -> None:
        """Lets go of everything."""
        for process, slot in list(self.handles):
            self.close(process, slot)
            self.open(process, slot)
        assert not self.ranges.statistics().ranges and not self.flocks.statistics().ranges

    def owner(self, process: int, slot: int, ofd: bool) -> int:
        return self.handles[process, slot] if ofd else process

    def lock(self, process: int, ofd: bool, kind: LockKind, start: int, end: int) -> ByteRangeLock:
        return ByteRangeLock(kind, start, end, -1 if ofd else self.processes[process].pid)

    def count_waiting(self) -> int:
        """How many requests wait for a lock on the file, as the kernel says."""
        return sum(f":{self.inode} " in line and "->" in line for line in Path("/proc/locks").read_text().splitlines())

    def until_waiting(self, count: int) -> None:
        begun = time.monotonic()
        while self.count_waiting() != count:
            assert time.monotonic() < begun + PATIENCE, f"{self.count_waiting()} wait, and not {count}"
            os.sched_yield()


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computer]:
    computer = Computer(tmp_path_factory.mktemp("locks") / "file")
    try:
        yield computer
    finally:
        for process in computer.processes:
            process.end()


WHO = st.tuples(st.integers(0, PROCESSES - 1), st.integers(0, SLOTS - 1))
BYTES = st.tuples(st.integers(0, LAST), st.integers(0, LAST)).map(lambda two: (min(two), max(two)))
RANGES = BYTES.map(lambda two: (two[0], OFFSET_MAX if two[1] == LAST else two[1]))
STEPS = st.one_of(
    st.tuples(st.just("setlk"), WHO, st.booleans(), st.sampled_from(LockKind), RANGES),
    st.tuples(st.just("getlk"), WHO, st.booleans(), st.sampled_from([READ, WRITE]), RANGES),
    st.tuples(st.just("flock"), WHO, st.just(True), st.sampled_from(LockKind), RANGES),
    st.tuples(st.just("close"), WHO, st.just(False), st.just(UNLOCK), RANGES),
)


def answer_of_table(
    computer: Computer, call: str, who: tuple[int, int], ofd: bool, lock: ByteRangeLock
) -> dict[str, Any]:
    handle, owner = computer.handles[who], computer.owner(*who, ofd)
    try:
        if call == "setlk":
            computer.ranges.set("f", owner, handle, lock)
        elif call == "flock":
            computer.flocks.set("f", handle, handle, ByteRangeLock(lock.kind, 0, OFFSET_MAX))
        else:
            found = computer.ranges.find_conflict("f", owner, lock)
            return {"code": 0, "lock": found and [found.kind, found.start, found.end, found.pid]}
    except PosixError as error:
        return {"code": error.errno}
    return {"code": 0}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=30))
def test_the_answers_are_those_of_the_kernel(computer: Computer, steps: list[Any]) -> None:
    computer.reset()
    for call, who, ofd, kind, (start, end) in steps:
        process = computer.processes[who[0]]
        if call == "close":
            computer.close(*who)
            computer.open(*who)
            continue
        arguments = (who[1], int(kind)) if call == "flock" else (who[1], ofd, int(kind), start, end)
        lock = computer.lock(who[0], ofd, kind, start, end)
        assert answer_of_table(computer, call, who, ofd, lock) == process.do(call, *arguments), (call, who, ofd, lock)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(steps=[((0, 0), READ), ((1, 0), READ), ((0, 0), WRITE), ((1, 0), WRITE)])
@given(steps=st.lists(st.tuples(WHO, st.sampled_from(LockKind)), min_size=5, max_size=30))
def test_the_answers_of_flock_are_those_of_the_kernel(computer: Computer, steps: list[Any]) -> None:
    """Also that a conversion that fails has lost the lock."""
    computer.reset()
    for who, kind in steps:
        expected = answer_of_table(computer, "flock", who, True, ByteRangeLock(kind, 0, OFFSET_MAX))
        assert computer.processes[who[0]].do("flock", who[1], int(kind)) == expected, (who, kind)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(STEPS, max_size=12), st.tuples(st.booleans(), st.sampled_from([READ, WRITE]), RANGES), st.booleans())
def test_who_waits_gets_it_when_the_kernel_gives_it(
    computer: Computer, steps: list[Any], wanted: Any, is_interrupted: bool
) -> None:
    """The last process waits, through its first descriptor; the others lock and let go until it has what it wants."""
    computer.reset()
    last, (ofd, kind, (start, end)) = PROCESSES - 1, wanted
    process, handle = computer.processes[last], computer.handles[last, 0]
    lock = computer.lock(last, ofd, kind, start, end)
    computer.ranges.set("f", 0, computer.handles[0, 0], computer.lock(0, False, WRITE, start, end))
    assert computer.processes[0].do("setlk", 0, False, int(WRITE), start, end)["code"] == 0
    ends: list[PosixError | None] = []
    waiter = computer.ranges.request("f", computer.owner(last, 0, ofd), handle, lock, ends.append)
    assert waiter is not None
    process.do("wait", 0, ofd, int(kind), start, end)
    computer.until_waiting(1)
    for call, (at, slot), of_description, what, part in steps:
        if at == last or call in ("flock", "getlk"):
            continue
        other = computer.lock(at, of_description, what, *part)
        if call == "close":
            computer.close(at, slot)
            computer.open(at, slot)
        else:
            answer = answer_of_table(computer, call, (at, slot), of_description, other)
            assert answer == computer.processes[at].do(call, slot, of_description, int(what), *part)
        if ends:
            break
        computer.until_waiting(1)
    if not ends and is_interrupted:
        computer.ranges.cancel(waiter)
        process.do("interrupt")
        assert process.how_it_ended() == errno.EINTR
    else:
        for at, slot in [(at, slot) for at in range(last) for slot in range(SLOTS)]:
            computer.close(at, slot)
            computer.open(at, slot)
        assert ends == [None] and process.how_it_ended() == 0
    computer.until_waiting(0)
    for at in range(last):
        asked = computer.lock(at, False, WRITE, 0, OFFSET_MAX)
        answer = answer_of_table(computer, "getlk", (at, 0), False, asked)
        assert answer == computer.processes[at].do("getlk", 0, False, int(WRITE), 0, OFFSET_MAX)


def test_processes_that_would_wait_in_a_circle(computer: Computer) -> None:
    computer.reset()
    for at in range(PROCESSES):
        computer.ranges.set("f", at, computer.handles[at, 0], computer.lock(at, False, WRITE, at, at))
        computer.processes[at].do("setlk", 0, False, int(WRITE), at, at)
    for at in range(PROCESSES - 1):
        lock = computer.lock(at, False, WRITE, at + 1, at + 1)
        assert computer.ranges.request("f", at, computer.handles[at, 0], lock, lambda _: None) is not None
        computer.processes[at].do("wait", 0, False, int(WRITE), at + 1, at + 1)
        computer.until_waiting(at + 1)
    last = PROCESSES - 1
    with pytest.raises(PosixError) as caught:
        computer.ranges.request(
            "f", last, computer.handles[last, 0], computer.lock(last, False, WRITE, 0, 0), lambda _: None
        )
    computer.processes[last].do("wait", 0, False, int(WRITE), 0, 0)
    assert computer.processes[last].how_it_ended() == caught.value.errno == errno.EDEADLK
    for at in range(last, -1, -1):
        computer.close(at, 0)
        computer.open(at, 0)
        if at:
            assert computer.processes[at - 1].how_it_ended() == 0
    computer.until_waiting(0)
    assert computer.ranges.statistics().waiters == 0


def test_descriptions_wait_in_a_circle(computer: Computer) -> None:
    """Linux looks for no deadlock of open file descriptions: two of one process, each with a byte the other wants."""
    computer.reset()
    one, two = computer.processes[0], computer.processes[1]
    for process, at in ((one, 0), (two, 1)):
        process.do("setlk", 0, True, int(WRITE), at, at)
    one.do("wait", 0, True, int(WRITE), 1, 1)
    two.do("wait", 0, True, int(WRITE), 0, 0)
    computer.until_waiting(2)
    one.do("interrupt")
    assert one.how_it_ended() == errno.EINTR
    one.do("close", 0)
    assert two.how_it_ended() == 0
    one.do("open", 0)

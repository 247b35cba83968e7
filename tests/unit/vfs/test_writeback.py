"""What is written behind a program's back: gathered, bounded, in order where it matters, and never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from dfsfs.errors import ConnectionLost, DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.vfs.data.writeback import GATHER, WINDOW, Budget, Writeback

if TYPE_CHECKING:
    import random

KIB = 1024


class Disk:
    """A server's file. WRITEs are carried out when the test says so, in any order."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.sent: list[Sent] = []
        self.lost = False

    def start_write(self, offset: int, data: bytes | bytearray | memoryview) -> Sent:
        if self.lost:
            raise ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "as the test wants it")
        self.sent.append(Sent(self, offset, bytes(data)))
        return self.sent[-1]

    async def rewrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.put(offset, bytes(data))

    def put(self, offset: int, data: bytes) -> None:
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data


class Sent:
    def __init__(self, disk: Disk, offset: int, data: bytes) -> None:
        self.disk, self.offset, self.data = disk, offset, data
        self.error: DfsfsError | None = None
        self._event = trio.Event()

    @property
    def done(self) -> bool:
        return self._event.is_set()

    def answer(self, error: DfsfsError | None = None) -> None:
        if not self.done:
            if error is None:
                self.disk.put(self.offset, self.data)
            self.error = error
            self._event.set()

    async def outcome(self) -> DfsfsError | None:
        await self._event.wait()
        return self.error


def behind(limit: int = 1 << 30) -> tuple[Writeback, Disk]:
    return Writeback(Budget(limit)), Disk()


async def test_writes_in_a_row_are_gathered() -> None:
    written, disk = behind()
    for index in range(24):
        assert written.add(disk, index * 64 * KIB, bytes([index]) * 64 * KIB)
    assert [(one.offset, len(one.data)) for one in disk.sent] == [(0, GATHER)]
    disk.sent[0].answer()
    written.send(disk)
    assert [(one.offset, len(one.data)) for one in disk.sent[1:]] == [(GATHER, GATHER // 2)]
    disk.sent[1].answer()
    await written.drain(disk, disk.rewrite)
    assert disk.data == b"".join(bytes([index]) * 64 * KIB for index in range(24))
    assert not written.is_dirty


async def test_what_lies_elsewhere_is_sent_on_its_own() -> None:
    written, disk = behind()
    for offset in (0, 10, 5000):
        assert written.add(disk, offset, b"0123456789")
    assert [(one.offset, one.data) for one in disk.sent] == [(0, b"0123456789" * 2)]
    assert written.is_dirty


async def test_what_overlaps_data_under_way_has_to_wait() -> None:
    written, disk = behind()
    assert written.add(disk, 0, bytes(GATHER))
    assert not written.add(disk, GATHER - 1, b"xx")
    assert written.add(disk, GATHER + 10, b"x")
    disk.sent[0].answer()
    await written.wait_oldest(disk, disk.rewrite)
    assert written.add(disk, GATHER - 1, b"xx")


async def test_no_more_is_outstanding_than_the_window_and_the_budget() -> None:
    written, disk = behind()
    for index in range(WINDOW // GATHER):
        assert written.add(disk, index * GATHER, bytes(GATHER))
    assert not written.add(disk, WINDOW, b"x")
    budget = Budget(100)
    one, other = Writeback(budget), Writeback(budget)
    assert one.add(disk, 0, bytes(60))
    assert not other.add(disk, 0, bytes(60))
    one.send(disk)
    disk.sent[-1].answer()
    await one.drain(disk, disk.rewrite)
    assert other.add(disk, 0, bytes(60))


async def test_one_write_may_be_larger_than_the_window() -> None:
    written, disk = behind()
    assert written.add(disk, 0, bytes(2 * WINDOW))
    assert not written.add(disk, 2 * WINDOW, b"x")


async def test_the_first_error_is_kept_and_told_once() -> None:
    written, disk = behind()
    for offset, status in ((0, NtStatus.DISK_FULL), (2 * GATHER, NtStatus.ACCESS_DENIED), (9 * GATHER, None)):
        assert written.add(disk, offset, bytes(GATHER))
        disk.sent[-1].answer(SmbError(status, "as the test wants it") if status else None)
    await written.drain(disk, disk.rewrite)
    error = written.take_error()
    assert error is not None
    assert error.status == NtStatus.DISK_FULL
    assert written.take_error() is None
    assert not written.is_dirty


async def test_after_an_error_nothing_more_is_taken_until_it_was_told() -> None:
    written, disk = behind()
    assert written.add(disk, 0, bytes(GATHER))
    disk.sent[0].answer(SmbError(NtStatus.DISK_FULL, "as the test wants it"))
    await written.wait_oldest(disk, disk.rewrite)
    assert not written.add(disk, GATHER, b"x")
    assert written.take_error() is not None
    assert written.add(disk, GATHER, b"x")


@pytest.mark.parametrize("before", [True, False])
async def test_what_was_lost_with_its_connection_is_written_again(before: bool) -> None:
    written, disk = behind()
    disk.lost = before
    assert written.add(disk, 0, b"1" * GATHER)
    for one in disk.sent:
        one.answer(ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "as the test wants it"))
    assert not disk.data
    await written.drain(disk, disk.rewrite)
    assert disk.data == b"1" * GATHER
    assert written.take_error() is None


async def test_a_wait_that_is_cancelled_loses_nothing(autojump_clock: object) -> None:
    written, disk = behind()
    assert written.add(disk, 0, b"1" * GATHER)
    with trio.move_on_after(1):
        await written.drain(disk, disk.rewrite)
    assert written.is_dirty
    disk.sent[0].answer(ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "as the test wants it"))

    async def slow(offset: int, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(1):
        await written.drain(disk, slow)
    assert written.is_dirty
    await written.drain(disk, disk.rewrite)
    assert disk.data == b"1" * GATHER


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), max_size=20), st.randoms(use_true_random=False))
def test_the_file_is_what_the_program_wrote(writes: list[tuple[int, int]], dice: random.Random) -> None:
    """Whatever order the server carries WRITEs out in, and however many it loses."""
    unit = GATHER // 8

    async def run() -> None:
        written, disk = behind(5 * GATHER)
        model = Disk()

        def answer_some() -> None:
            waiting = [one for one in disk.sent if not one.done]
            for one in dice.sample(waiting, dice.randint(0, len(waiting))):
                lost = ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "as the test wants it")
                one.answer(lost if dice.random() < 0.2 else None)

        for index, (start, length) in enumerate(writes):
            data = bytes([index % 255 + 1]) * (length * unit)
            model.put(start * unit, data)
            while not written.add(disk, start * unit, data):
                while any(not one.done for one in disk.sent):
                    answer_some()
                await written.wait_oldest(disk, disk.rewrite)
            answer_some()
        written.send(disk)
        for one in disk.sent:
            one.answer()
        await written.drain(disk, disk.rewrite)
        assert disk.data == model.data

    trio.run(run)


@pytest.mark.parametrize("answered", [False, True])
async def test_what_is_discarded_is_waited_for_by_nobody(answered: bool, autojump_clock: object) -> None:
    """While a task waits for the answer to the first of it, and there is another file."""
    disk, budget = Disk(), Budget()
    discarded, other = Writeback(budget), Writeback(budget)
    assert all(discarded.add(disk, number * GATHER, bytes(GATHER)) for number in range(3)) and other.add(disk, 0, b"x")
    assert budget.taken == 3 * GATHER + 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(discarded.drain, disk, disk.rewrite)
        await trio.testing.wait_all_tasks_blocked()
        if answered:
            disk.sent[0].answer()
        discarded.discard()
        assert not discarded.is_dirty and budget.taken == 1
        disk.sent[0].answer()
    assert budget.taken == 1

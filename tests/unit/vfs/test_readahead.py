"""Reading ahead: which parts of a file are asked for before a program reads them, and that it gets the right ones."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import ConnectionLost, DfsfsError
from dfsfs.ntstatus import NtStatus
from dfsfs.vfs.data.readahead import ReadAhead, ReadStreams
from dfsfs.vfs.data.readahead_policy import FULL, LEFT, LIMIT, SEGMENT, SMALL, STREAMS, Stream, Streams

KIB, MIB = 1024, 1024 * 1024
CONTENT = random.Random(1).randbytes(3 * MIB + 777)


@dataclass(eq=False)
class Pending:
    data: bytes
    size: int
    failure: DfsfsError | None = None
    is_done: bool = False
    abandoned: bool = False

    async def outcome(self) -> bytes:
        await trio.lowlevel.checkpoint()
        self.is_done = True
        if self.failure is not None:
            raise self.failure
        return self.data

    def abandon(self) -> None:
        self.abandoned = True


@dataclass(eq=False)
class File:
    """A file that answers what it is asked for; `largest` is the most that one READ carries."""

    content: bytes = CONTENT
    largest: int = SEGMENT
    asked: list[tuple[int, int]] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    failure: DfsfsError | None = None
    refuses: bool = False

    def start_read(self, offset: int, size: int) -> Pending:
        if self.refuses:
            raise lost()
        size = min(size, self.largest)
        self.asked.append((offset, size))
        self.pending.append(Pending(self.content[offset : offset + size], size, self.failure))
        return self.pending[-1]


def lost() -> ConnectionLost:
    return ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "the connection was killed by the test")


async def read(reader: ReadStreams, file: File, offset: int, size: int, stamp: object = None) -> bytes | None:
    """What reading ahead has of a range."""
    found = reader.find(file, stamp, offset, size, len(file.content))
    data = None if found is None else await found.data()
    return None if data is None else bytes(data)


# -- the policy -------------------------------------------------------------------------------------------------------


def test_the_window_doubles_with_each_read_that_goes_on() -> None:
    stream, _ = Streams().begin(4096, 128 * KIB, LIMIT)
    assert stream.window == 0 and stream.next_range(1 << 40) is None
    windows = []
    for _ in range(8):
        stream.read(stream.position, 128 * KIB, LIMIT)
        windows.append(stream.window)
    assert windows == [SMALL, 2 * SMALL, 4 * SMALL, FULL, FULL, FULL, FULL, FULL]


def test_beyond_that_it_grows_when_the_program_waits_for_a_long_line() -> None:
    stream = Stream(0, 0, FULL)
    stream.note_wait(0.0, 0.1, LIMIT)
    assert stream.window == 2 * FULL
    stream.read(0, MIB, LIMIT)
    stream.note_wait(0.05, 0.15, LIMIT)
    assert stream.window == 2 * FULL
    for second in range(1, 6):
        stream.note_wait(second, second + 0.11, LIMIT)
    assert stream.window == LIMIT
    small = Stream(0, 0, SMALL)
    small.note_wait(0.0, 0.1, LIMIT)
    assert small.window == SMALL


def test_it_does_not_grow_when_answers_wait_for_each_other() -> None:
    stream = Stream(0, 0, FULL)
    stream.note_wait(0.0, 0.01, LIMIT)
    for second in range(1, 6):
        stream.note_wait(second, second + 0.03, LIMIT)
    assert stream.window == 2 * FULL


@pytest.mark.parametrize(
    ("round_trip", "least", "most"), [(0.0002, FULL, 4 * MIB), (0.02, 4 * MIB, 8 * MIB), (0.1, 16 * MIB, LIMIT)]
)
def test_the_window_is_what_a_line_of_1_gbit_holds(round_trip: float, least: int, most: int) -> None:
    """119 MiB in a second, one segment after the other."""
    stream, free = Stream(0, 0, FULL), 0.0
    waiting: deque[tuple[float, float]] = deque()
    now = 0.0
    for _ in range(400):
        while len(waiting) < stream.window // MIB:
            free = max(free, now) + 1 / 119
            waiting.append((now, free + round_trip))
        asked, comes = waiting.popleft()
        if comes > now:
            now = comes
            stream.note_wait(asked, now, LIMIT)
    assert least <= stream.window <= most


def test_who_begins_at_the_beginning_is_expected_to_go_on() -> None:
    stream, _ = Streams().begin(0, 128 * KIB, LIMIT)
    assert stream.next_range(MIB) == (128 * KIB, 256 * KIB)
    stream, _ = Streams().begin(0, 128 * KIB, 0)
    assert stream.next_range(MIB) is None


def test_nothing_is_asked_for_beyond_the_end() -> None:
    stream = Stream(MIB, MIB, FULL)
    assert stream.next_range(MIB) is None
    assert stream.next_range(MIB + 1) == (MIB, SEGMENT)


@pytest.mark.parametrize("size", [4 * KIB, 128 * KIB, 384 * KIB, MIB, 3 * MIB])
def test_what_is_asked_for_holds_a_whole_number_of_reads(size: int) -> None:
    stream = Stream(size, size, FULL, size)
    wanted = stream.next_range(1 << 40)
    assert wanted is not None
    assert wanted[1] % size == 0 or wanted[1] == SEGMENT
    assert wanted[1] <= SEGMENT


def test_random_reads_start_nothing() -> None:
    rng, reader, file = random.Random(3), ReadStreams(ReadAhead()), File(b"")
    for _ in range(500):
        assert reader.find(file, None, rng.randrange(1, 1 << 30), 4096, 1 << 30) is None
    assert file.asked == []


def test_no_more_streams_are_followed_than_there_is_room_for() -> None:
    streams = Streams()
    for index in range(STREAMS):
        assert streams.begin(index << 30, 4096, LIMIT)[1] is None
    first = streams.streams[0]
    streams.note_used(first)
    assert streams.begin(1 << 40, 4096, LIMIT)[1] is not first
    assert len(streams.streams) == STREAMS and streams.find(4096) is first


# -- getting the data -------------------------------------------------------------------------------------------------


@given(
    size=st.integers(3000, 300 * KIB),
    largest=st.sampled_from([64 * KIB, MIB]),
    end=st.sampled_from([0, 1, MIB, 3 * MIB + 9]),
)
def test_a_file_read_in_order_comes_out_as_it_is(size: int, largest: int, end: int) -> None:
    content = CONTENT[:end]
    file, ahead = File(content, largest), ReadAhead()
    reader = ReadStreams(ahead)
    hits = trio.run(partial(_read_through, reader, file, size))
    assert hits >= min(len(content) // size - 3, 0)
    reader.clear()
    assert ahead.used == 0


async def _read_through(reader: ReadStreams, file: File, size: int) -> int:
    hits = 0
    for offset in range(0, len(file.content), size):
        data = await read(reader, file, offset, size)
        hits += data is not None
        assert data is None or data == file.content[offset : offset + size]
    return hits


async def test_after_the_first_read_a_program_only_takes_what_is_on_its_way() -> None:
    file, reader = File(), ReadStreams(ReadAhead())
    missed = [
        offset for offset in range(0, len(CONTENT), 128 * KIB) if await read(reader, file, offset, 128 * KIB) is None
    ]
    assert missed == [0]
    assert [offset for offset, _ in file.asked] == sorted({offset for offset, _ in file.asked})  # nothing twice


@given(
    st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(1, 600 * KIB)), max_size=40), st.integers(0, 2 * MIB)
)
def test_any_reads_get_the_right_data_within_the_budget(reads: list[tuple[int, int]], budget: int) -> None:
    async def check() -> None:
        file, ahead = File(), ReadAhead(budget=budget)
        reader = ReadStreams(ahead)
        for offset, size in reads + [(offset, size) for offset, size in reads[:5]]:
            for at in (offset, offset + size, offset + 2 * size):
                data = await read(reader, file, at, size)
                assert data is None or data == CONTENT[at : at + size]
                assert ahead.used <= budget
        reader.clear()
        assert ahead.used == 0

    trio.run(check)


async def test_interleaved_streams_have_a_window_each() -> None:
    content = bytes(64 * MIB)
    file, reader = File(content), ReadStreams(ReadAhead())
    missed = 0
    for step in range(20):
        for begin in (0, 20 * MIB, 40 * MIB):
            missed += await read(reader, file, begin + step * 128 * KIB, 128 * KIB) is None
    assert missed <= 5  # the first of each, and the second where it is not the beginning of the file


async def test_pieces_of_one_read_may_come_in_any_order() -> None:
    file, reader = File(bytes(64 * MIB)), ReadStreams(ReadAhead())
    await read(reader, file, 0, MIB)
    await read(reader, file, MIB, MIB)
    missed = 0
    for base in range(2 * MIB, 40 * MIB, 4 * MIB):
        for piece in (1, 0, 3, 2):
            missed += await read(reader, file, base + piece * MIB, MIB) is None
    assert missed <= 12


async def test_who_waits_for_a_part_gets_it_though_the_rest_is_given_up() -> None:
    file, ahead = File(), ReadAhead()
    reader = ReadStreams(ahead)
    await read(reader, file, 0, 128 * KIB)
    found = reader.find(file, None, 128 * KIB, 128 * KIB, len(CONTENT))
    assert found is not None
    reader.clear()
    assert not file.pending[0].abandoned and all(pending.abandoned for pending in file.pending[1:])
    data = await found.data()
    assert data is not None and bytes(data) == CONTENT[128 * KIB : 256 * KIB]


async def test_a_seek_gives_up_what_lies_behind_the_budget() -> None:
    content = bytes(64 * MIB)
    file, ahead = File(content), ReadAhead(budget=4 * MIB)
    reader = ReadStreams(ahead)
    for offset in range(0, 4 * MIB, MIB):
        await read(reader, file, offset, MIB)
    before = len(file.pending)
    for offset in range(32 * MIB, 36 * MIB, MIB):
        await read(reader, file, offset, MIB)
    assert any(pending.abandoned for pending in file.pending[:before])
    assert ahead.used <= 4 * MIB


async def test_a_stream_that_the_program_has_left_is_given_up() -> None:
    file, ahead = File(bytes(64 * MIB)), ReadAhead()
    reader = ReadStreams(ahead)
    for offset in range(0, 4 * MIB, MIB):
        await read(reader, file, offset, MIB)
    on_their_way = file.pending[4:]
    assert on_their_way
    for step in range(LEFT + 1):
        await read(reader, file, 32 * MIB + step * 4 * KIB, 4 * KIB)
    assert all(pending.abandoned for pending in on_their_way)


def test_a_gap_that_nobody_fills_does_not_hold_the_window_for_ever() -> None:
    stream, _ = Streams().begin(0, 128 * KIB, LIMIT)
    for offset in range(256 * KIB, 8 * MIB, 128 * KIB):
        stream.read(offset, 128 * KIB, LIMIT)
    assert stream.window > SMALL


async def test_what_was_changed_since_is_asked_for_again() -> None:
    file, ahead = File(), ReadAhead()
    reader = ReadStreams(ahead)
    assert await read(reader, file, 0, 128 * KIB, 1) is None
    assert await read(reader, file, 128 * KIB, 128 * KIB, 2) is None
    assert file.pending[0].abandoned
    assert await read(reader, file, 256 * KIB, 128 * KIB, 2) == CONTENT[256 * KIB : 384 * KIB]


async def test_a_failure_is_left_to_the_programs_own_read() -> None:
    file, reader = File(failure=lost()), ReadStreams(ReadAhead())
    await read(reader, file, 0, 128 * KIB)
    assert await read(reader, file, 128 * KIB, 128 * KIB) is None
    file.refuses = True
    assert await read(reader, file, 256 * KIB, 128 * KIB) is None


async def test_a_file_that_shrank_ends_where_the_server_says() -> None:
    file, reader = File(CONTENT[: 200 * KIB]), ReadStreams(ReadAhead())
    assert reader.find(file, None, 0, 128 * KIB, MIB) is None
    found = reader.find(file, None, 128 * KIB, 128 * KIB, MIB)
    assert found is not None
    data = await found.data()
    assert data is not None and bytes(data) == CONTENT[128 * KIB : 200 * KIB]


async def test_a_window_of_nothing_reads_nothing_ahead() -> None:
    file, reader = File(), ReadStreams(ReadAhead(window=0))
    for offset in range(0, MIB, 128 * KIB):
        assert await read(reader, file, offset, 128 * KIB) is None
    assert file.asked == []


async def test_files_share_the_budget() -> None:
    ahead = ReadAhead(budget=8 * MIB)
    files = [File(bytes(64 * MIB)) for _ in range(8)]
    readers = [ReadStreams(ahead) for _ in files]
    for step in range(12):
        for file, reader in zip(files, readers, strict=True):
            await read(reader, file, step * MIB, MIB)
            assert ahead.used <= 8 * MIB
    assert all(len(file.asked) > 4 for file in files)
    for reader in readers:
        reader.clear()
    assert ahead.used == 0

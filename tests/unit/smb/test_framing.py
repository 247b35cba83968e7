"""FrameReader: however the stream is cut, the same frames come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.errors import WireError
from dfsfs.smb.connection.framing import CHUNK_SIZE, FrameReader


def feed(reader: FrameReader, stream: bytes, sizes: list[int]) -> list[bytes]:
    """Receives `stream` in pieces of the given sizes, in turn, as far as the reader's space allows."""
    frames: list[memoryview] = []
    position = turn = 0
    while position < len(stream):
        space = reader.get_buffer()
        assert len(space) > 0
        count = min(sizes[turn % len(sizes)], len(space), len(stream) - position)
        space[:count] = stream[position : position + count]
        frames += reader.buffer_updated(count)
        position += count
        turn += 1
    return [bytes(frame) for frame in frames]


def framed(bodies: list[bytes]) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


@given(
    st.lists(st.integers(1, 3 * CHUNK_SIZE), max_size=6),
    st.lists(st.sampled_from([1, 3, 4, 5, 1000, 65536, 10**6]), min_size=1, max_size=4),
)
def test_frames_do_not_depend_on_how_the_stream_is_cut(lengths: list[int], sizes: list[int]) -> None:
    if sum(lengths) > 20000 and max(sizes) < 1000:
        sizes = [*sizes, 65536]
    bodies = [bytes([index + 1]) * length for index, length in enumerate(lengths)]
    assert feed(FrameReader(10**7), framed(bodies), sizes) == bodies


def test_frames_stay_valid_while_more_is_received() -> None:
    reader = FrameReader(10**7)
    first = framed([b"a" * 50000])
    reader.get_buffer()[: len(first)] = first
    (kept,) = reader.buffer_updated(len(first))
    feed(reader, framed([b"b" * 200000, b"c" * 60000, b"d" * 60000]), [65536])
    assert bytes(kept) == b"a" * 50000


def test_a_large_frame_is_received_into_its_own_buffer() -> None:
    reader = FrameReader(10**7)
    stream = framed([b"x" * 10**6])
    reader.get_buffer()[:100] = stream[:100]
    assert reader.buffer_updated(100) == []
    assert len(reader.get_buffer()) == 10**6 - 96


@given(st.lists(st.tuples(st.integers(100_000, 300_000), st.booleans()), max_size=40))
def test_a_buffer_is_used_again_only_when_nobody_has_a_view_of_it(frames: list[tuple[int, bool]]) -> None:
    reader, kept = FrameReader(10**7), list[tuple[memoryview, bytes]]()
    for number, (length, keeps) in enumerate(frames):
        body = bytes([number]) * length
        (frame,) = whole(reader, body)
        if keeps:
            kept.append((frame[1000:2000], body[1000:2000]))
        del frame
    assert all(view == body for view, body in kept)


def test_buffers_nobody_looks_at_are_used_again() -> None:
    reader, seen = FrameReader(10**7), set[int]()
    for _ in range(50):
        (frame,) = whole(reader, bytes(10**6))
        seen.add(id(frame.obj))
        del frame
    assert len(seen) == 1


def whole(reader: FrameReader, body: bytes) -> list[memoryview]:
    """The frames that come of one, received in as few pieces as possible."""
    stream, frames, at = framed([body]), list[memoryview](), 0
    while at < len(stream):
        space = reader.get_buffer()
        count = min(len(space), len(stream) - at)
        space[:count] = stream[at : at + count]
        del space
        at += count
        frames += reader.buffer_updated(count)
    return frames


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        (b"\x83\x00\x00\x01", "not SMB"),
        (b"\x00\x00\x00\x00", "0 bytes"),
        (b"\x00\xff\xff\xff", "16777215 bytes"),
        (b"HTTP", "not SMB"),
    ],
)
def test_a_bad_prefix_is_an_error(prefix: bytes, text: str) -> None:
    with pytest.raises(WireError, match=text):
        feed(FrameReader(1000), prefix + b"....", [8])

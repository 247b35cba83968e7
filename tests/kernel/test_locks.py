"""Files of which another SMB client has locked parts (byte-range locks, which SMB servers enforce)."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.kernel.mounts import refused, scratch, wait_until
from tests.samba.clients import LOCK_AT_ONCE, LOCK_EXCLUSIVE, LOCK_SHARED, locked_by_another, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount, pytest.mark.every_samba]

SMALL, LARGE = 10_000, 3_000_000
"""Bytes of a file that comes along with its open, and of one that does not."""
DATA = (bytes(range(251)) * (LARGE // 251 + 1))[:LARGE]


@pytest.fixture
def place(mount: Path) -> Iterator[Path]:
    """A new folder, so that nothing is known of what is in it."""
    with scratch(mount / "link-single") as work:
        (mount / "link-single" / "hello.txt").read_bytes()  # a file with a lease
        yield work


def while_locked(
    lab: Lab, path: Path, *ranges: tuple[int, int], then: Callable[[], None], flags: int = LOCK_EXCLUSIVE | LOCK_AT_ONCE
) -> None:
    """Does something while another client has locked these ranges, (offset, length), of a file in link-single."""
    share = share_of(lab, "fs1", "data")

    async def main() -> None:
        async with locked_by_another(lab, share.join([path.parent.name, path.name]), *ranges, flags=flags):
            await trio.to_thread.run_sync(then)

    trio.run(main)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    file = os.open(path, flags)
    try:
        yield file
    finally:
        os.close(file)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_is_not_locked_can_be_read(lab: Lab, place: Path, size: int) -> None:
    path = place / "file"
    path.write_bytes(DATA[:size])

    def look() -> None:
        with opened(path) as file:
            assert os.pread(file, 10, 500) == DATA[500:510]
            assert os.pread(file, 1 << 20, 100) == DATA[100:size][: 1 << 20]
            assert os.pread(file, 1 << 20, 4096) == DATA[4096:size][: 1 << 20]
            refused(errno.EACCES, lambda: os.pread(file, 1, 99))
            refused(errno.EACCES, lambda: os.pread(file, 10, 0))
            assert os.pread(file, 10, 500) == DATA[500:510]
        refused(errno.EACCES, path.read_bytes)

    while_locked(lab, path, (0, 100), then=look)
    assert path.read_bytes() == DATA[:size]


def test_nothing_stands_in_for_what_is_locked(lab: Lab, place: Path, tmp_path: Path) -> None:
    """Also not by the ways that go by the page: there fewer bytes than were asked for are the end of the file."""
    path = place / "file"
    path.write_bytes(DATA)

    def look() -> None:
        with opened(path) as file, (tmp_path / "out").open("wb") as out:
            refused(errno.EACCES, lambda: os.pread(file, 8192, 0))
            assert os.pread(file, 5000, 0) == DATA[:5000]
            assert os.pread(file, 100, 5001) == DATA[5001:5101]
            refused(errno.EACCES, lambda: os.sendfile(out.fileno(), file, 4096, LARGE))
            assert os.sendfile(out.fileno(), file, 0, LARGE) == 4096, "the pages before the locked one"
            assert os.stat(path).st_size == LARGE
        with path.open("rb") as buffered, pytest.raises(PermissionError):
            buffered.read()

    while_locked(lab, path, (5000, 1), (2_000_000, 7), then=look)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_copy_of_what_is_locked_fails_and_says_so(lab: Lab, place: Path, tmp_path: Path, size: int) -> None:
    """shutil.copyfile takes EAGAIN for the end of the file."""
    path = place / "file"
    path.write_bytes(DATA[:size])

    def copy() -> None:
        refused(errno.EACCES, lambda: shutil.copyfile(path, tmp_path / "copy"))

    while_locked(lab, path, (size // 2, 100), then=copy)
    shutil.copyfile(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA[:size]


def is_refused(file: int) -> bool:
    try:
        os.pread(file, 10, 0)
    except PermissionError:
        return True
    return False


def test_a_lock_that_comes_while_a_file_is_open(lab: Lab, place: Path) -> None:
    """The kernel asks for whole pages then: one with a locked byte can't be had until the file is opened again."""
    path = place / "file"
    path.write_bytes(DATA)
    with opened(path) as file:
        assert os.pread(file, 10, 500) == DATA[500:510]

        def look() -> None:
            assert os.pread(file, 10, 8192) == DATA[8192:8202]
            assert os.pread(file, 200_000, 4096) == DATA[4096:204_096]
            wait_until(lambda: is_refused(file), "the server has taken the lease back")
            with opened(path) as again:
                assert os.pread(again, 10, 500) == DATA[500:510]

        while_locked(lab, path, (0, 100), then=look)
        assert os.pread(file, 10, 0) == DATA[:10]


def test_a_lock_behind_the_end_locks_nothing_of_the_file(lab: Lab, place: Path) -> None:
    """As programs of Windows take them to agree with each other."""
    path = place / "file"
    path.write_bytes(DATA[:SMALL])

    def look() -> None:
        assert path.read_bytes() == DATA[:SMALL]

    with opened(path) as file:
        while_locked(lab, path, (SMALL, 1), (2**62, 10), then=look)

        def look_again() -> None:
            assert os.pread(file, 1 << 20, 0) == DATA[:SMALL]

        while_locked(lab, path, (SMALL, 1), then=look_again)


def test_locks_that_let_others_read(lab: Lab, place: Path) -> None:
    path = place / "file"
    path.write_bytes(DATA[:SMALL])

    def look() -> None:
        assert path.read_bytes() == DATA[:SMALL]
        with opened(path, os.O_WRONLY) as file:
            refused(errno.EACCES, lambda: os.pwrite(file, b"x", 50))
            assert os.pwrite(file, b"x", 100) == 1

    while_locked(lab, path, (0, 100), then=look, flags=LOCK_SHARED | LOCK_AT_ONCE)
    assert path.read_bytes() == DATA[:100] + b"x" + DATA[101:SMALL]


def test_what_is_not_locked_can_be_written(lab: Lab, place: Path) -> None:
    path = place / "file"
    path.write_bytes(DATA[:SMALL])

    def write() -> None:
        with opened(path, os.O_RDWR) as file:
            assert os.pwrite(file, b"abc", 500) == 3
            refused(errno.EACCES, lambda: os.pwrite(file, b"x" * 10, 95))
            assert os.pwrite(file, b"def", 503) == 3
            assert os.pread(file, 8, 499) == DATA[499:500] + b"abcdef" + DATA[506:507]

    while_locked(lab, path, (0, 100), then=write)
    assert path.read_bytes() == DATA[:500] + b"abcdef" + DATA[506:SMALL]


def test_a_file_without_locks_has_its_pages_again(lab: Lab, place: Path) -> None:
    path = place / "file"
    path.write_bytes(DATA[:SMALL])

    def look() -> None:
        with opened(path, os.O_RDWR) as file:
            refused(errno.ENODEV, lambda: mmap.mmap(file, 100))

    while_locked(lab, path, (0, 100), then=look)
    with opened(path, os.O_RDWR) as file, mmap.mmap(file, SMALL) as memory:
        assert memory[:] == DATA[:SMALL]

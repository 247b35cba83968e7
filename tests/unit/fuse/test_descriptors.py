"""Which programs have something open, as /proc says it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.fuse.descriptors import Descriptors, holds

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = os.getpid()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[int, int, str]]:
    """A descriptor of a file, the file's inode, and the device of its file system as the mount table has it."""
    path = tmp_path / "file"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    fields = dict(line.split(":\t") for line in Path(f"/proc/{ME}/fdinfo/{descriptor}").read_text().splitlines())
    mounts = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    yield descriptor, path.stat().st_ino, next(mount[2] for mount in mounts if mount[0] == fields["mnt_id"])
    os.close(descriptor)


def test_what_is_open(opened: tuple[int, int, str]) -> None:
    _, inode, device = opened
    assert holds(ME, inode, device)
    assert not holds(ME, inode + 1, device)
    assert not holds(ME, inode, "0:9999"), "another file system has its own numbers"
    assert not holds(0, inode, device)


def test_a_descriptor_that_gives_no_right_is_none(tmp_path: Path, opened: tuple[int, int, str]) -> None:
    *_, device = opened
    path = tmp_path / "other"
    path.touch()
    descriptor = os.open(path, os.O_PATH)
    try:
        assert not holds(ME, path.stat().st_ino, device)
    finally:
        os.close(descriptor)


def test_programs_that_have_it_not_and_that_are_gone(opened: tuple[int, int, str]) -> None:
    descriptor, inode, device = opened
    with subprocess.Popen(["sleep", "60"]) as without, subprocess.Popen(["sleep", "60"], pass_fds=[descriptor]) as has:
        try:
            assert not holds(without.pid, inode, device)
            assert holds(has.pid, inode, device)
        finally:
            without.kill()
            has.kill()
    assert not holds(has.pid, inode, device)


async def test_many_questions_at_once(opened: tuple[int, int, str]) -> None:
    _, inode, device = opened
    descriptors, answers = Descriptors(device), []

    async def ask(user: int) -> None:
        answers.append(await descriptors.has_open(user, ME, inode))

    async with trio.open_nursery() as nursery:
        for user in (1, 1, 1, 2, 2, 3):
            nursery.start_soon(ask, user)
    assert answers == [True] * 6
    with trio.fail_after(10):  # nothing is kept of users who ask no more
        while descriptors._threads.users:  # noqa: ASYNC110 - threads say nothing when they end
            await trio.sleep(0.01)

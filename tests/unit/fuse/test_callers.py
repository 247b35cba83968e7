"""Callers that put something in the way of who looks at them, on a real mount: they harm nobody but themselves."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from dfsfs.errors import PosixError
from dfsfs.fuse import caserename
from dfsfs.fuse.caserename import EACH
from tests.unit.fuse.test_mount import PATIENCE, PROJECT, Mount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

TRIES = 10
"""Mounts of which one should get the number of the mount before."""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Path]:
    """Where a mount can be aborted that nothing else ends any more."""
    folder = tmp_path / "fusectl"
    folder.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "fusectl", str(folder)], check=True, timeout=PATIENCE)
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=PATIENCE)


class Abortable(Mount):
    """A mount that can be ended by the kernel, when its own program can't be killed any more."""

    def __init__(self, directory: Path, control: Path) -> None:
        super().__init__(directory, "native")
        # Open from the beginning: the number in the path is that of the next mount on this machine once this one has
        # ended, and what is open belongs to this one.
        number = os.minor(os.stat(self.path).st_dev)
        self._switch = (control / str(number) / "abort").open("wb", buffering=0)

    def abort(self) -> None:
        """Ends the mount, if that has not happened yet."""
        self._switch.write(b"1")

    def destroy(self) -> None:
        self._switch.close()
        super().destroy()


@pytest.fixture
def mount(tmp_path: Path, control: Path) -> Iterator[Abortable]:
    running = Abortable(tmp_path, control)
    try:
        yield running
    finally:
        running.abort()
        running.destroy()
    assert "in the loop" not in running.log()


def test_a_mount_that_has_ended_takes_no_other_one_with_it(
    mount: Abortable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Mounts of other programs begin at any time, and get the number of one that has ended."""
    number = os.stat(mount.path).st_dev
    mount.unmount()
    mount.ended()
    for _ in range(TRIES):
        other = Mount(tmp_path_factory.mktemp("other"), "native")
        try:
            has_the_number = os.stat(other.path).st_dev == number
            mount.abort()
            assert "plain" in os.listdir(other.path)
        finally:
            other.destroy()
        if has_the_number:
            break  # else another program's mount was faster, and this one was spared without its own number


def test_a_mount_that_the_kernel_has_ended_is_taken_away(mount: Abortable) -> None:
    """By /sys/fs/fuse/connections/N/abort: otherwise everybody who looks gets ENOTCONN."""
    assert "plain" in os.listdir(mount.path)
    mount.abort()
    mount.ended()
    assert "the kernel has ended the connection" in mount.log()


@contextlib.contextmanager
def renaming(mount: Abortable, number: int, file: Path | str) -> Iterator[subprocess.Popen[str]]:
    """A program that renames `nameN` to `NAMEN`, and has swapped the page with that name while it is looked up."""
    old, new = mount.path / "gated" / f"name{number}", mount.path / "gated" / f"NAME{number}"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.fuse.renamer", str(old), str(new), str(file)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdin is not None and program.stdout is not None
            assert mount.process.stdin is not None and mount.process.stdout is not None
            assert program.stdout.readline() == "renaming\n"
            assert mount.process.stdout.readline() == "looked up\n"
            print(file=program.stdin, flush=True)
            assert program.stdout.readline() == "swapped\n"
            print(file=mount.process.stdin, flush=True)
            yield program
        except BaseException:
            mount.abort()
            raise
        finally:
            program.kill()


def looks(mount: Abortable) -> None:
    """Another program uses the mount, and asks for what the kernel does not know."""
    with subprocess.Popen(["ls", "-la", str(mount.path / "link")], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert "inside.txt" in program.communicate(timeout=PATIENCE / 4)[0]
        finally:
            program.kill()


def answer(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.communicate(timeout=PATIENCE)[0].strip()


def test_a_page_of_the_mount_itself_holds_nobody(mount: Abortable) -> None:
    with renaming(mount, 0, mount.path / "link" / "inside.txt") as program:
        looks(mount)
        assert answer(program) in ("done", "EBUSY")
    assert (mount.path / "gated" / "name0").read_text() == "gated"


def test_a_page_that_does_not_come_in_time_makes_the_rename_fail(mount: Abortable) -> None:
    started = time.monotonic()
    with renaming(mount, 0, mount.path / "stuck") as program:
        looks(mount)
        assert answer(program) == "EBUSY"
    assert time.monotonic() - started < PATIENCE / 4
    assert (mount.path / "gated" / "name0").read_text() == "gated"


def test_threads_that_are_stuck_are_few_and_keep_nothing_from_ending(mount: Abortable) -> None:
    answers = []
    with contextlib.ExitStack() as stack:
        for number in range(EACH + 1):
            program = stack.enter_context(renaming(mount, number, "-"))
            assert program.stdout is not None
            answers.append(program.stdout.readline().strip())
            looks(mount)
        # When no thread is left, nobody knows that it is a rename: it does nothing.
        assert answers == ["EBUSY"] * EACH + ["done"]
        assert sorted(os.listdir(mount.path / "gated")) == [f"name{number}" for number in range(4)]
        # Another user has threads of their own.
        (mount.path / "plain" / "his").touch()
        command = [sys.executable, "-c", "import os; os.rename('his', 'HIS')"]
        subprocess.run(command, cwd=mount.path / "plain", user=65534, check=True, timeout=PATIENCE)
        assert os.listdir(mount.path / "plain") == ["HIS"]
        mount.unmount()
        assert mount.ended() == "left open: [] 0 0\n"


@pytest.fixture
def foreigner() -> Iterator[int]:
    """A process in a user namespace of its own."""
    words = ["unshare", "--user", "sh", "-c", "echo ready && read end"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None and program.stdout.readline() == "ready\n"
        yield program.pid
        program.communicate("\n", timeout=PATIENCE)


async def test_one_person_with_many_numbers_takes_no_more_threads_than_another(
    monkeypatch: pytest.MonkeyPatch, foreigner: int
) -> None:
    """Who makes a user namespace has the numbers of /etc/subuid in it, 65,536 of them."""
    release = threading.Event()
    ours = os.getpid()

    def see(look: caserename._Look, old: bytes, new: bytes) -> bool:
        look.in_rename = True
        if look.thread != ours:
            release.wait(PATIENCE)
        return True

    monkeypatch.setattr(caserename._Look, "see", see)
    looked = caserename.RenameDetector()
    try:
        for number in range(caserename.TOTAL):
            with contextlib.suppress(PosixError):
                assert not await looked.renames_to(100_000 + number, foreigner, b"a", b"A")
        assert await looked.renames_to(1000, ours, b"a", b"A")
    finally:
        release.set()

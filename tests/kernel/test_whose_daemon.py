"""Tests end the daemons of their own mounts, and nobody else's."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import clean_up, daemons

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.mount]

ELSEWHERE = 'umount -a -l -t fuse.dfsfs; mount -t tmpfs tmpfs "$1" && mkdir "$2" && shift 2 && exec "$@"'
"""Another run of the tests, in a root folder of its own: a path leads to another place there. It holds no mount of runs
beside this one, which could not end meanwhile."""


@contextlib.contextmanager
def pretending(program: Path, mountpoint: Path, *before: str) -> Iterator[subprocess.Popen[str]]:
    """A process with the command line of a daemon for a mount point. `before`: what it is started by."""
    program.write_text("import sys\nprint('runs', flush=True)\nsys.stdin.read()\n")
    words = [*before, sys.executable, "-I", str(program), "//server/share", str(mountpoint)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "runs\n"
            yield process
        finally:
            process.kill()


def test_what_serves_a_mount_point_is_ended(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pretending(tmp_path / "mount.dfsfs", tmp_path / "m") as process:
        assert daemons(tmp_path / "m") == [process.pid]
        clean_up(tmp_path / "m")
        assert process.wait(30) == -signal.SIGKILL


def test_what_serves_another_place_of_the_same_path_is_left_alone(tmp_path: Path) -> None:
    """As in a run by scripts/in-release, whose folders in /tmp are called the same, and whose processes we see."""
    folder = tmp_path / "folder"
    (folder / "m").mkdir(parents=True)
    inside = ("unshare", "--mount", "sh", "-c", ELSEWHERE, "sh", str(folder), str(folder / "m"))
    with pretending(tmp_path / "mount.dfsfs", folder / "m", *inside) as process:
        assert daemons(folder / "m") == []
        clean_up(folder / "m")
        assert process.poll() is None
        process.communicate("", timeout=30)
        assert process.returncode == 0


def test_who_only_names_a_mount_point_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    inside = ("sh", "-c", 'shift 2; "$@"; exit $?', "sh", "timeout", str(tmp_path / "m"))
    with pretending(tmp_path / "mount.dfsfs", tmp_path / "m", *inside) as process:
        (daemon,) = daemons(tmp_path / "m")
        assert daemon != process.pid
        clean_up(tmp_path / "m")
        assert process.wait(30) == 128 + signal.SIGKILL

"""dfsfs logout beside a mount that does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mount

PATIENCE = 30.0
"""Seconds for anything here."""
SILENT = """
import stat, sys
import pyfuse3, trio

class Silent(pyfuse3.Operations):
    async def getattr(self, inode, ctx=None):
        about = pyfuse3.EntryAttributes()
        about.st_ino, about.st_mode = inode, stat.S_IFDIR | 0o755
        return about

    async def getxattr(self, inode, name, ctx):
        print("asked", flush=True)
        await trio.sleep_forever()

pyfuse3.init(Silent(), sys.argv[1], {"fsname=silent"})
print("ready", flush=True)
trio.run(pyfuse3.main)
"""
LOGOUT = """
import sys
from types import SimpleNamespace
from dfsfs.cli.commands import logout

logout.our_mounts = lambda: [SimpleNamespace(mountpoint=path, owner=0) for path in sys.argv[1:]]
logout.ANSWERING = 3.0
logout._end_sessions()
"""


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A mount that answers no question for an extended attribute, and its program."""
    place = tmp_path / "mnt"
    place.mkdir()
    with subprocess.Popen([sys.executable, "-c", SILENT, str(place)], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            yield place, program
        finally:
            program.kill()
            program.wait(PATIENCE)
            if os.path.ismount(place) or program.returncode:
                subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True, timeout=PATIENCE)


def test_it_is_not_held_by_a_mount_that_does_not_answer(
    silent: tuple[Path, subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The kernel lets nobody go whose request has been handed out, also not who is killed."""
    place, program = silent
    words = [sys.executable, "-c", LOGOUT, str(place), str(tmp_path)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as logout:
        try:
            _, said = logout.communicate(timeout=PATIENCE)
        finally:
            program.kill()  # which lets go of whoever waits for it
    assert program.stdout is not None
    assert program.stdout.readline() == "asked\n"
    assert logout.returncode == 0
    assert said.startswith(f"dfsfs: warning: the mount on {place} does not answer; ")
    assert said.count("\n") == 1

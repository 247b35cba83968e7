"""A namespace with fifty thousand links, as a company has them that gives each of its people a folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import daemons, mounted
from tests.support.lab import content

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

FOLDERS, EACH = 50, 1000
ENTERED = 100 if LONG else 10
"""Links of each folder through which a file is read."""
MEMORY = 300
"""MiB that the daemon may have at its most."""


@pytest.fixture
def many(lab: Lab) -> Iterator[str]:
    """The name of a folder of the namespace with folders full of links."""
    folder = lab.host("ns1").share_path("dfs") / "many"
    target = f"msdfs:{lab.address('fs1')}\\data,{lab.address('fs2')}\\data"
    try:
        for index in range(FOLDERS):
            (folder / f"{index}").mkdir(parents=True)
            for link in range(EACH):
                os.symlink(target, folder / f"{index}" / f"user-{link}")
        yield folder.name
    finally:
        shutil.rmtree(folder)


def most_memory(pid: int) -> int:
    """The most that a process had in memory, in MiB."""
    (line,) = (one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def test_fifty_thousand_links(lab: Lab, tmp_path: Path, many: str) -> None:
    expected = {f"user-{link}" for link in range(EACH)}
    with mounted(lab, tmp_path / "mnt") as mount:
        (daemon,) = daemons(mount)
        for index in range(FOLDERS):
            names = os.listdir(mount / many / f"{index}")
            assert len(names) == EACH
            assert set(names) == expected
        for index in range(FOLDERS):
            for link in range(0, EACH, EACH // ENTERED):
                assert (mount / many / f"{index}" / f"user-{link}" / "hello.txt").read_bytes() == content.HELLO
        assert most_memory(daemon) < MEMORY
        assert lab.host("fs1").connections() == 1

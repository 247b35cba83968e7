"""What a name costs does not depend on how many there are beside it: counted by a proxy between the mount and its
server, in folders of several sizes.

actimeo is long, so that it does not matter how long a busy machine takes. How names are read ahead of a program while
they are believed for a second is in tests/unit/vfs/test_namereader.py, in virtual time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import daemons, mounted, wait_until
from tests.support.fakes.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

SMALL = 1000
LARGE = [30_000, 100_000, *([1_000_000] if LONG else [])]
LOOKED_AT = 3000
"""Names of a large folder that a program looks at."""
MORE = 1.3
"""How much more a name may cost in a large folder."""
HELD_MAX = 64 + 30
"""MiB that a mount takes more for what it keeps of folders of any size, its own inodes included."""


class Folders:
    """A mount of fs1's share `data` through a proxy, and folders of several sizes in it."""

    def __init__(self, proxy: Proxy, mount: Path, served: Path) -> None:
        self.proxy = proxy
        self.mount = mount
        self.served = served

    def make(self, count: int) -> tuple[Path, list[str]]:
        """A folder of so many files, and their names in the server's order."""
        made = self.served / f"with {count}"
        made.mkdir()
        place = os.open(made, os.O_RDONLY)
        try:
            for number in range(count):
                os.mknod(f"document {number:07}.txt", 0o666, dir_fd=place)
        finally:
            os.close(place)
        return self.mount / self.served.name / made.name, os.listdir(made)

    def requests(self, folder: Path, action: Callable[[], object]) -> int:
        """The requests of an action, after the folder itself was asked for."""
        os.stat(folder)
        wait_until(lambda: self.proxy.is_quiet(0.3), "the line comes to rest")
        before = self.proxy.frames
        action()
        wait_until(lambda: self.proxy.is_quiet(0.3), "the line comes to rest")
        return self.proxy.frames - before


@pytest.fixture
def folders(lab: Lab, tmp_path: Path) -> Iterator[Folders]:
    served = lab.host("fs1").share_path("data") / "large folders"
    served.mkdir()
    try:
        with Proxy(f"{lab.net}.83", lab.address("fs1")) as proxy:
            with mounted(lab, tmp_path / "mnt", "actimeo=300", unc=f"//{proxy.address}/data") as mount:
                yield Folders(proxy, mount, served)
    finally:
        shutil.rmtree(served)


def look_at(folder: Path, names: list[str]) -> None:
    for name in names:
        os.stat(folder / name)


def resident(mountpoint: Path) -> float:
    """MiB of the mount's memory that are its own."""
    (pid,) = daemons(mountpoint)
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def test_the_cost_of_a_name(folders: Folders) -> None:
    small, names = folders.make(SMALL)
    allowed = MORE * folders.requests(small, partial(look_at, small, names)) / SMALL
    assert allowed < 0.04
    for count in LARGE:
        folder, names = folders.make(count)
        before = resident(folders.mount)
        looked_at = folders.requests(folder, partial(look_at, folder, names[:LOOKED_AT]))
        assert looked_at / LOOKED_AT <= allowed, f"stat in the order of a listing of {count}"
        for command in (["find", folder], ["ls", "-l", folder]):
            run = partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
            assert folders.requests(folder, run) / count <= allowed, f"{command[0]} of {count}"
        assert resident(folders.mount) - before < HELD_MAX + 400 * count / 2**20

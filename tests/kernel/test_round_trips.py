"""How many messages it takes: counted by a proxy between the mount and its server, and held to what the kernel's cifs
client was seen to need (each request and each answer counted as one packet).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted, wait_until
from tests.support.fakes.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

COUNT = 100
CLONED = 600
"""Files of a repository; it also has some hundred of git's own."""
NAMES = [f"file{index:03}" for index in range(COUNT)]
KERNEL = {
    "create": 4.0,
    "read": 6.0,
    "stat": 2.0,
    "unlink": 6.0,
    "ls -l": 0.01,
    "find": 0.63,
    "tar x": 8.7,
    "git clone": 9.9,
}
"""Packets per file or entry of the kernel's client."""
REPEATED = 16
"""Packets a second: the folder, the root and what is between them are asked for again once that is actimeo old. What
takes long because the machine is busy sends those, too: 32 in 2.2 s were seen.
"""


class Line:
    """A mount of fs1's share `data` through a proxy, and the folder of this test in it."""

    def __init__(self, proxy: Proxy, mount: Path, served: Path, scratch: Path) -> None:
        self.proxy = proxy
        self.folder = mount / served.name
        self.served = served
        self.scratch = scratch

    def packets(self, action: Callable[[], object]) -> int:
        """The packets that an action takes, late ones included, less what it asks again for taking long (REPEATED)."""
        self._come_to_rest()
        before, begin = self.proxy.frames, time.monotonic()
        action()
        seconds = time.monotonic() - begin
        self._come_to_rest()
        return max(0, 2 * (self.proxy.frames - before) - int(REPEATED * seconds))

    def _come_to_rest(self) -> None:
        """Until the mount has sent everything, and what it knows of names and attributes is too old."""
        wait_until(lambda: self.proxy.is_quiet(1.1), "the line comes to rest")

    def for_each(self, action: Callable[[Path], object]) -> None:
        """Does something with each of NAMES."""
        for name in NAMES:
            action(self.folder / name)

    def make(self, names: list[str], data: bytes = b"") -> None:
        """Makes files behind the mount's back."""
        for name in names:
            path = self.served / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        subprocess.run(["chown", "-R", f"--reference={self.served.parent}", str(self.served)], check=True)


@pytest.fixture
def line(lab: Lab, tmp_path: Path) -> Iterator[Line]:
    served = lab.host("fs1").share_path("data") / "counted"
    served.mkdir()
    shutil.chown(served, *(os.stat(served.parent).st_uid, os.stat(served.parent).st_gid))
    try:
        with Proxy(f"{lab.net}.82", lab.address("fs1")) as proxy:
            with mounted(lab, tmp_path / "mnt", unc=f"//{proxy.address}/data") as mount:
                yield Line(proxy, mount, served, tmp_path)
    finally:
        shutil.rmtree(served)


BEGINNING = 16
"""Packets more that an action may take before it finds its stride."""


def at_most(name: str, packets: int, count: int) -> None:
    assert packets <= KERNEL[name] * count + BEGINNING, f"{packets} packets for {count}"


def test_create(line: Line) -> None:
    at_most("create", line.packets(lambda: line.for_each(Path.touch)), COUNT)


def test_create_and_write(line: Line) -> None:
    """Three round trips for a small file, and a CLOSE that nobody waits for."""
    packets = line.packets(lambda: line.for_each(lambda path: path.write_bytes(b"data")))
    assert packets <= 6 * COUNT + BEGINNING


def test_read(line: Line) -> None:
    line.make(NAMES, b"data")
    at_most("read", line.packets(lambda: line.for_each(Path.read_bytes)), COUNT)


def test_stat(line: Line) -> None:
    line.make(NAMES)
    at_most("stat", line.packets(lambda: line.for_each(Path.stat)), COUNT)


def test_what_is_not_there(line: Line) -> None:
    line.make(NAMES)
    os.listdir(line.folder)
    assert line.packets(lambda: line.for_each(lambda path: path.with_suffix(".no").exists())) <= 20


def test_unlink(line: Line) -> None:
    line.make(NAMES)
    at_most("unlink", line.packets(lambda: line.for_each(Path.unlink)), COUNT)


def test_ls(line: Line) -> None:
    count = 2000
    line.make([f"an entry {index}" for index in range(count)])
    at_most(
        "ls -l", line.packets(lambda: subprocess.run(["ls", "-l", line.folder], check=True, capture_output=True)), count
    )


def test_find(line: Line) -> None:
    line.make([f"d{index}/f{file}" for index in range(50) for file in range(10)])
    at_most("find", line.packets(lambda: subprocess.run(["find", line.folder], check=True, capture_output=True)), 500)


def test_tar_x(line: Line) -> None:
    tree = line.scratch / "tree"
    for index in range(COUNT):
        (tree / f"d{index % 5}").mkdir(parents=True, exist_ok=True)
        (tree / f"d{index % 5}" / f"f{index}").write_bytes(bytes(2000))
    archive = line.scratch / "archive.tar"
    subprocess.run(["tar", "cf", archive, "-C", line.scratch, "tree"], check=True)
    at_most("tar x", line.packets(lambda: subprocess.run(["tar", "xf", archive, "-C", line.folder], check=True)), COUNT)


def test_git_clone(line: Line) -> None:
    repository = line.scratch / "repository"
    for index in range(CLONED):
        (repository / f"d{index % 5}").mkdir(parents=True, exist_ok=True)
        (repository / f"d{index % 5}" / f"f{index}").write_bytes(os.urandom(1000))
    git = ["git", "-C", str(repository), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "init", "-q", repository], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "everything"], check=True)
    clone = ["git", "clone", "-q", "--no-local", str(repository), str(line.folder / "clone")]
    at_most("git clone", line.packets(lambda: subprocess.run(clone, check=True, capture_output=True)), CLONED)

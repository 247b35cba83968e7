"""How many messages it takes: counted by a proxy between the mount and its server.

A packet is what crosses the line as one: a compound of requests is one, and so are its answers. A request is one SMB2
command, of which a compound has several. What programs do to many files is held to what the kernel's cifs client was
seen to need; single operations to what was reached here (OURS).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
OURS = {
    "rename": (2, 5),  # CREATE, SET_INFO, CLOSE; CREATE and CLOSE of the folder, whose attributes the kernel wants
    "rename between folders": (2, 7),
    "rename over": (2, 7),
    "rmdir": (2, 5),
    "unlink": (2, 5),
    "link": (2, 4),  # CREATE, SET_INFO, QUERY_INFO, CLOSE
    "symlink": (
        4,
        9,
    ),  # CREATE, which is undone, WRITE, SET_INFO; SET_INFO to keep it, CLOSE; CREATE, QUERY_INFO, CLOSE
    "utime": (2, 4),  # CREATE, SET_INFO, QUERY_INFO, CLOSE
    "futimens": (2, 2),  # SET_INFO, QUERY_INFO
    "fstat": (2, 1),  # QUERY_INFO
    "git object": (10, 16),  # create 2, WRITE, SET_INFO and CLOSE, link, unlink and two SET_INFO, as it is read-only
    "write and rename": (8, 11),
    "write, utime and rename": (10, 15),
}
"""Packets and requests per operation."""
REPEATED = 16
"""Packets a second: the folder, the root and what is between them are asked for again once that is actimeo old. What
takes long because the machine is busy sends those, too: 32 in 2.2 s were seen.
"""
REQUESTS_OF_QUESTION = 3
"""Requests of a question by name: CREATE, QUERY_INFO, CLOSE."""


class Cost(NamedTuple):
    """Of an action."""

    packets: int
    requests: int


class Line:
    """A mount of fs1's share `data` through a proxy, and the folder of this test in it."""

    def __init__(self, proxy: Proxy, mount: Path, served: Path, scratch: Path) -> None:
        self.proxy = proxy
        self.folder = mount / served.name
        self.served = served
        self.scratch = scratch
        self.repeated = REPEATED

    def packets(self, action: Callable[[], object]) -> int:
        """The packets that an action takes, late ones included, less what it asks again for taking long (REPEATED)."""
        return self.cost(action).packets

    def cost(self, action: Callable[[], object]) -> Cost:
        """As `packets`, and the requests."""
        self._come_to_rest()
        frames, requests, begin = self.proxy.frames, len(self.proxy.requests), time.monotonic()
        action()
        repeated = int(self.repeated / 2 * (time.monotonic() - begin))
        self._come_to_rest()
        return Cost(
            packets=max(0, 2 * (self.proxy.frames - frames - repeated)),
            requests=max(0, len(self.proxy.requests) - requests - repeated * REQUESTS_OF_QUESTION),
        )

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
    with line_to(lab, tmp_path) as found:
        yield found


@pytest.fixture
def patient(lab: Lab, tmp_path: Path) -> Iterator[Line]:
    """A mount that asks for nothing a second time while the test runs, however busy the machine is."""
    with line_to(lab, tmp_path, "actimeo=600") as found:
        found.repeated = 0
        yield found


@contextmanager
def line_to(lab: Lab, tmp_path: Path, options: str = "") -> Iterator[Line]:
    served = lab.host("fs1").share_path("data") / "counted"
    served.mkdir()
    shutil.chown(served, *(os.stat(served.parent).st_uid, os.stat(served.parent).st_gid))
    try:
        with Proxy(f"{lab.net}.82", lab.address("fs1")) as proxy:
            with mounted(lab, tmp_path / "mnt", options, unc=f"//{proxy.address}/data") as mount:
                yield Line(proxy, mount, served, tmp_path)
    finally:
        shutil.rmtree(served)


BEGINNING = 16
"""Packets more that an action may take before it finds its stride."""


def each_at_most(name: str, cost: Cost, beginnings: int = 1) -> None:
    """What each of COUNT operations takes, besides what it takes until a folder was listed for their names."""
    packets, requests = OURS[name]
    assert cost.packets <= packets * COUNT + BEGINNING * beginnings, cost
    assert cost.requests <= requests * COUNT + BEGINNING * beginnings * REQUESTS_OF_QUESTION // 2, cost


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


def test_unlink_of_one_after_the_other(patient: Line) -> None:
    patient.make(NAMES)
    each_at_most("unlink", patient.cost(lambda: patient.for_each(Path.unlink)))


def test_rename(patient: Line) -> None:
    patient.make(NAMES)
    each_at_most("rename", patient.cost(lambda: patient.for_each(lambda path: path.rename(path.with_suffix(".new")))))


def test_rename_between_folders(patient: Line) -> None:
    patient.make([*NAMES, "other/file"])
    other = patient.folder / "other"
    cost = patient.cost(lambda: patient.for_each(lambda path: path.rename(other / path.name)))
    each_at_most("rename between folders", cost, beginnings=2)


def test_rename_over(patient: Line) -> None:
    patient.make([*NAMES, *(f"other/{name}" for name in NAMES)])
    other = patient.folder / "other"
    cost = patient.cost(lambda: patient.for_each(lambda path: path.rename(other / path.name)))
    each_at_most("rename over", cost, beginnings=2)


def test_rename_of_one(patient: Line) -> None:
    """Of a folder that is not listed for its names: source and new name are asked for once, the folders on the way."""
    patient.make(["folder/file"])
    folder = patient.folder / "folder"
    cost = patient.cost(lambda: (folder / "file").rename(folder / "new"))
    assert cost.packets <= 2 * (4 + 1 + 1), "root, two folders and the file; the new name; the rename"


def test_rmdir(patient: Line) -> None:
    patient.make([f"{name}/file" for name in NAMES])
    for name in NAMES:
        (patient.served / name / "file").unlink()
    each_at_most("rmdir", patient.cost(lambda: patient.for_each(Path.rmdir)))


def test_link(patient: Line) -> None:
    patient.for_each(Path.touch)
    each_at_most("link", patient.cost(lambda: patient.for_each(lambda path: os.link(path, path.with_suffix(".two")))))


def test_symlink(patient: Line) -> None:
    """The first one also finds out whether the server has reparse points."""
    patient.make(["file"])
    cost = patient.cost(lambda: patient.for_each(lambda path: path.symlink_to("where/it/leads")))
    each_at_most("symlink", cost, beginnings=2)


def test_utime(patient: Line) -> None:
    patient.make(NAMES)
    each_at_most("utime", patient.cost(lambda: patient.for_each(lambda path: os.utime(path, (5, 5)))))


def test_futimens(patient: Line) -> None:
    patient.make(NAMES, b"data")
    with ExitStack() as stack:
        files = [stack.enter_context((patient.folder / name).open("r+b")) for name in NAMES]

        def set_times() -> None:
            for file in files:
                os.utime(file.fileno(), (5, 5))

        each_at_most("futimens", patient.cost(set_times))


def test_fstat(line: Line) -> None:
    """Once what came with the open is too old."""
    line.make(NAMES, b"data")
    with ExitStack() as stack:
        files = [stack.enter_context((line.folder / name).open("r+b")) for name in NAMES]
        each_at_most("fstat", line.cost(lambda: [os.fstat(file.fileno()) for file in files]))


def test_fstat_of_what_was_just_opened(line: Line) -> None:
    line.make(NAMES, b"data")

    def open_and_look(path: Path) -> None:
        with path.open("rb") as file:
            os.fstat(file.fileno())

    at_most("read", line.packets(lambda: line.for_each(open_and_look)), COUNT)


def test_git_object(patient: Line) -> None:
    """How git writes an object: read-only, and under another name first."""
    patient.make(["file"])

    def write(path: Path) -> None:
        passing = path.with_suffix(".tmp")
        file = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        os.write(file, b"data")
        os.close(file)
        os.link(passing, path)
        passing.unlink()

    each_at_most("git object", patient.cost(lambda: patient.for_each(write)))
    assert not (patient.folder / NAMES[0]).stat().st_mode & 0o222


def test_write_and_rename(patient: Line) -> None:
    patient.make(["file"])

    def write(path: Path) -> None:
        path.with_suffix(".tmp").write_bytes(b"data")
        path.with_suffix(".tmp").rename(path)

    each_at_most("write and rename", patient.cost(lambda: patient.for_each(write)))


def test_write_utime_and_rename(patient: Line) -> None:
    """As rsync does."""
    patient.make(["file"])

    def write(path: Path) -> None:
        passing = path.with_suffix(".tmp")
        passing.write_bytes(b"data")
        os.utime(passing, (5, 5))
        passing.rename(path)

    each_at_most("write, utime and rename", patient.cost(lambda: patient.for_each(write)))


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

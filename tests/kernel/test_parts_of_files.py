"""Programs that need more than reading and writing: holes, room, copies on the server, free space, birth times."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import carried, mounted, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

MIB = 1 << 20


@pytest.fixture(scope="module")
def top(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(lab, tmp_path_factory.mktemp("parts") / "dfs") as mountpoint:
        yield mountpoint


@pytest.fixture
def folder(top: Path) -> Iterator[Path]:
    with scratch(top / "link-single") as made:
        yield made


def run(*words: str | Path) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    return done.stdout


def with_hole(path: Path) -> bytes:
    """Makes a file of 3 MiB whose second MiB is a hole for the server, too. Returns its content."""
    content = os.urandom(MIB) + bytes(MIB) + os.urandom(MIB)
    path.write_bytes(content)
    run("fallocate", "--punch-hole", "--offset", str(MIB), "--length", str(MIB), path)
    return content


def data_of(path: Path) -> list[tuple[int, int]]:
    """The ranges of a file that hold data, as lseek(2) tells."""
    found, at = [], 0
    with path.open("rb") as file:
        while at < path.stat().st_size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.append((begin, at))
    return found


def test_a_hole_is_punched_and_found(folder: Path) -> None:
    content = with_hole(folder / "f")
    assert (folder / "f").read_bytes() == content
    assert data_of(folder / "f") == [(0, MIB), (2 * MIB, 3 * MIB)]
    assert (folder / "f").stat().st_blocks * 512 < 3 * MIB


def test_programs_that_dig_and_zero(folder: Path) -> None:
    (folder / "f").write_bytes(b"x" * MIB + bytes(MIB) + b"y" * MIB)
    run("fallocate", "--dig-holes", folder / "f")
    assert (folder / "f").read_bytes() == b"x" * MIB + bytes(MIB) + b"y" * MIB
    run("fallocate", "--zero-range", "--offset", "10", "--length", "1000", folder / "f")
    assert (folder / "f").read_bytes()[:2000] == b"x" * 10 + bytes(1000) + b"x" * 990
    run("fallocate", "--length", str(4 * MIB), folder / "f")
    assert (folder / "f").stat().st_size == 4 * MIB


@pytest.mark.parametrize("how", [("--sparse=always",), ("--sparse=auto",), ("--reflink=auto",), ("-a",)], ids="".join)
def test_cp(folder: Path, how: tuple[str, ...]) -> None:
    content = with_hole(folder / "from")
    run("cp", *how, folder / "from", folder / "to")
    assert (folder / "to").read_bytes() == content
    assert run("cmp", folder / "from", folder / "to") == ""


def test_cp_has_the_server_copy(folder: Path, lab: Lab) -> None:
    (folder / "from").write_bytes(os.urandom(16 * MIB))
    before = carried(lab)
    run("cp", "--reflink=auto", folder / "from", folder / "to")
    travelled = carried(lab) - before
    assert (folder / "from").read_bytes() == (folder / "to").read_bytes()
    assert travelled < MIB


def test_tar_keeps_holes(folder: Path, tmp_path: Path) -> None:
    content = with_hole(folder / "f")
    run("tar", "-S", "-cf", tmp_path / "a.tar", "-C", folder, "f")
    assert (tmp_path / "a.tar").stat().st_size < 2.5 * MIB
    (folder / "out").mkdir()
    run("tar", "-xf", tmp_path / "a.tar", "-C", folder / "out")
    assert (folder / "out" / "f").read_bytes() == content


def test_df_of_links_shows_their_own_shares(top: Path, lab: Lab) -> None:
    """Each answer is that of the link's share; the lab's are all on one disk, whose size each shows."""
    links = [name for name in os.listdir(top) if name in ("link-single", "link-multi", "link-rich", "link-past")]
    shown = run("df", "-B1", "--output=size,target", *(top / name for name in links)).splitlines()[1:]
    local = os.statvfs(lab.host("fs1").share_path("data"))
    assert len(shown) == len(links) >= 3
    assert {int(line.split()[0]) // MIB for line in shown} == {local.f_blocks * local.f_frsize // MIB}


def test_birth_times(folder: Path) -> None:
    (folder / "f").write_text("1")
    born = float(run("stat", "-c", "%W", folder / "f"))
    assert abs(born - time.time()) < 600
    os.utime(folder / "f", (1, 1))
    assert float(run("stat", "-c", "%W", folder / "f")) == born
    assert "Birth: 2" in run("stat", folder / "f")

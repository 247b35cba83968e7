"""`dfsfs cp` on real mounts: on one server, between servers, interrupted, and where it is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli import copying
from dfsfs.cli.parts import STEP, CopyError, Options
from tests.kernel.mounts import carried

if TYPE_CHECKING:
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

SIZE = 3 * STEP + 12345
DATA = random.Random(5).randbytes(SIZE)
COMMAND = str(Path(sys.executable).parent / "dfsfs")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, "cp", *map(str, words)], check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def source(work: Path) -> Path:
    path = work / "source"
    path.write_bytes(DATA)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def test_a_copy_on_one_server_does_not_travel(source: Path, lab: Lab) -> None:
    before = carried(lab)
    assert run(source, source.with_name("copy")).returncode == 0
    travelled = carried(lab) - before
    assert source.with_name("copy").read_bytes() == DATA
    assert travelled < SIZE // 10
    assert sorted(os.listdir(source.parent)) == ["copy", "source"]


def test_between_servers_and_from_elsewhere(source: Path, other: Path, tmp_path: Path) -> None:
    assert run(source, other / "copy").returncode == 0
    assert (other / "copy").read_bytes() == DATA
    assert run("-p", other / "copy", tmp_path).returncode == 0
    assert (tmp_path / "copy").read_bytes() == DATA
    assert run(tmp_path / "copy", source, other).returncode == 0
    assert (other / "source").read_bytes() == DATA


def test_a_copy_replaces_what_was_there_and_may_keep_the_time(source: Path) -> None:
    target = source.with_name("target")
    target.write_bytes(b"x" * (SIZE + 1))
    assert run("-p", source, target).returncode == 0
    assert target.read_bytes() == DATA
    assert target.stat().st_mtime == 1_600_000_000


def test_an_interrupted_copy_goes_on(source: Path) -> None:
    target = source.with_name("target")

    class Interruption(Exception):
        pass

    def interrupt(done: int) -> None:
        if done >= 2 * STEP:
            raise Interruption

    with pytest.raises(Interruption):
        copying.copy(source, target, Options(), interrupt)
    assert not target.exists()
    (part,) = [path for path in source.parent.iterdir() if path.suffix == ".part"]
    reported: list[int] = []
    copying.copy(source, target, Options(resume=True), reported.append)
    assert reported[0] > STEP
    assert target.read_bytes() == DATA
    assert not part.exists()


def test_what_was_left_of_another_version_is_not_gone_on_with(source: Path) -> None:
    def fail(done: int) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        copying.copy(source, source.with_name("target"), Options(), fail)
    changed = DATA[::-1]
    source.write_bytes(changed)
    copying.copy(source, source.with_name("target"), Options(resume=True))
    assert source.with_name("target").read_bytes() == changed


def test_a_link_at_the_name_of_the_part_is_not_written_through(source: Path, tmp_path: Path) -> None:
    """Everybody who may look at the source can work the name out."""
    target, victim = source.with_name("target"), tmp_path / "victim"
    victim.write_bytes(b"precious")
    part = copying._part_of(target, source.stat())
    part.symlink_to(victim)
    assert "is not what an interrupted copy leaves" in run("--continue", source, target).stderr
    assert part.is_symlink() and not target.exists()
    assert run("-p", source, target).returncode == 0
    assert victim.read_bytes() == b"precious"
    assert target.read_bytes() == DATA and not target.is_symlink() and not part.is_symlink()


def test_a_source_that_changes_is_an_error(source: Path) -> None:
    target = source.with_name("target")

    def change(done: int) -> None:
        with source.open("ab") as file:
            file.write(b"more")

    with pytest.raises(CopyError, match="has changed"):
        copying.copy(source, target, Options(), change)
    assert os.listdir(source.parent) == ["source"]


def test_what_is_refused(source: Path) -> None:
    for words, text in (
        ((source, source), "the same file"),
        ((source, source.with_name("SOURCE")), "the same file"),
        ((source.with_name("nothing"), source.with_name("x")), "No such file"),
        ((source.parent, source.with_name("x")), "Is a directory"),
        ((source,), "a file and a target are needed"),
        ((source, source, source.with_name("x")), "is not a folder"),
    ):
        result = run(*words)
        assert result.returncode and text in result.stderr, result.stderr
    assert source.read_bytes() == DATA


@pytest.mark.parametrize("value", ["1:0:0:10", "x", "-1:0:0:10", "{ino}:0:0:999999999", "{ino}:-1:0:10"])
def test_nobody_copies_what_he_has_not_opened(source: Path, value: str) -> None:
    (source.with_name("closed")).write_bytes(b"secret")
    ino = source.with_name("closed").stat().st_ino
    with source.with_name("target").open("wb") as file, pytest.raises(OSError, match="Errno"):
        os.setxattr(file.fileno(), "user.dfsfs.copy", value.format(ino=ino).encode())

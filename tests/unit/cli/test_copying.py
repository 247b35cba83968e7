"""The file in which `dfsfs cp` gathers a copy has a name that others can foresee: what they may have put there."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli import copying
from dfsfs.cli.parts import STEP, CopyError, Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = b"new" * 1000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def part_of(source: Path, target: Path) -> Path:
    """What anybody who may stat the source can work out."""
    return copying._part_of(target, source.stat())


@pytest.mark.parametrize("preserve", [False, True])
@pytest.mark.parametrize("lay", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_a_link_at_the_name_of_the_part_is_not_written_through(
    source: Path, victim: Path, lay: Callable[[Path, Path], None], preserve: bool
) -> None:
    target = source.with_name("target")
    lay(victim, part_of(source, target))
    copying.copy(source, target, Options(preserve=preserve))
    assert victim.read_bytes() == b"precious" and victim.stat().st_mtime == 1_000_000_000
    assert target.read_bytes() == DATA and not target.is_symlink()
    assert sorted(path.name for path in source.parent.iterdir()) == ["source", "target", "victim"]


@pytest.mark.parametrize("lay", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_nor_by_a_copy_that_goes_on(source: Path, victim: Path, lay: Callable[[Path, Path], None]) -> None:
    target = source.with_name("target")
    lay(victim, part_of(source, target))
    with pytest.raises(CopyError, match="is not what an interrupted copy leaves"):
        copying.copy(source, target, Options(resume=True))
    assert victim.read_bytes() == b"precious" and not target.exists()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [make_pipe, make_socket, os.mkdir])
def test_anything_else_there_is_refused_at_once_by_a_copy_that_goes_on(
    source: Path, make: Callable[[Path], None]
) -> None:
    target = source.with_name("target")
    make(part_of(source, target))
    with pytest.raises((CopyError, OSError)):
        copying.copy(source, target, Options(resume=True))
    assert not target.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_what_somebody_else_has_put_there_is_not_gone_on_with(source: Path) -> None:
    target = source.with_name("target")
    os.truncate(source, 3 * STEP)
    part = part_of(source, target)
    part.write_bytes(b"evil")
    os.truncate(part, 2 * STEP)
    os.chown(part, 65534, 65534)
    with pytest.raises(CopyError, match="is not what an interrupted copy leaves"):
        copying.copy(source, target, Options(resume=True))
    assert not target.exists()


def test_a_link_that_comes_back_between_two_steps_is_an_error(
    source: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is faster than the command gets an error out of it, and no data into the file."""
    target = source.with_name("target")
    part = part_of(source, target)
    part.symlink_to(victim)
    unlink = os.unlink

    def unlink_and_lay_again(path: str) -> None:
        unlink(path)
        os.symlink(victim, path)

    monkeypatch.setattr(os, "unlink", unlink_and_lay_again)
    with pytest.raises(FileExistsError):
        copying.copy(source, target, Options())
    assert victim.read_bytes() == b"precious" and not target.exists()


def test_what_an_interrupted_copy_has_left_is_replaced_or_gone_on_with(source: Path) -> None:
    target = source.with_name("target")
    for options in (Options(), Options(resume=True)):
        for left in (b"", DATA[: len(DATA) // 2], DATA + b"more"):
            part_of(source, target).write_bytes(left)
            copying.copy(source, target, options)
            assert target.read_bytes() == DATA
            target.unlink()

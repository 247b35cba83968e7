"""Previous versions through a real mount, on Samba's shadow_copy2."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mount_command, mounted, refused
from tests.support.lab.content import INSIDE, SNAPSHOTS, small_hello

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]


def test_snapshots_are_folders(mount: Path) -> None:
    past = mount / "link-past"
    assert ".snapshots" not in os.listdir(past)
    assert sorted(os.listdir(past / ".snapshots")) == list(SNAPSHOTS)
    for name in SNAPSHOTS:
        assert (past / ".snapshots" / name / "hello.txt").read_text() == f"hello in {name}\n"
    assert (past / "hello.txt").read_bytes() == small_hello("past")


def test_snapshots_of_a_folder(mount: Path) -> None:
    folder = mount / "link-past" / "folder"
    old = folder / ".snapshots" / SNAPSHOTS[0]
    assert sorted(os.listdir(old)) == ["gone.txt", "inside.txt"]
    assert (old / "inside.txt").read_text() == "an older file\n"
    assert (folder / "inside.txt").read_bytes() == INSIDE
    assert os.stat(old / "inside.txt").st_ino != os.stat(folder / "inside.txt").st_ino
    refused(errno.ENOENT, lambda: os.listdir(old / ".snapshots"))
    refused(errno.ENOENT, lambda: os.stat(folder / ".snapshots" / "@GMT-1999.01.01-00.00.00"))
    refused(errno.ENOENT, lambda: os.stat(folder / ".snapshots" / "yesterday"))


def test_the_past_does_not_change(mount: Path, tmp_path: Path) -> None:
    snapshots = mount / "link-past" / ".snapshots"
    old = snapshots / SNAPSHOTS[0]
    refused(errno.EROFS, lambda: (snapshots / "new").mkdir())
    refused(errno.EROFS, lambda: (old / "new").touch())
    refused(errno.EROFS, lambda: (old / "hello.txt").write_text("x"))
    refused(errno.EROFS, lambda: (old / "hello.txt").unlink())
    refused(errno.EROFS, lambda: (old / "hello.txt").rename(old / "other"))
    refused(errno.EROFS, lambda: (old / "folder").rmdir())
    refused(errno.EROFS, lambda: os.truncate(old / "hello.txt", 0))
    refused(errno.EROFS, lambda: os.utime(old / "hello.txt"))
    refused(errno.EROFS, lambda: os.setxattr(old / "hello.txt", "user.x", b"1"))
    refused(errno.EROFS, lambda: os.rmdir(old))
    refused(errno.EROFS, lambda: os.symlink("x", old / "link"))
    subprocess.run(["cp", "-a", str(old), str(tmp_path / "copy")], check=True, timeout=30)
    assert (tmp_path / "copy" / "folder" / "gone.txt").exists()


def test_servers_without_snapshots(mount: Path) -> None:
    refused(errno.ENOENT, lambda: os.listdir(mount / ".snapshots"))
    refused(errno.ENOENT, lambda: os.listdir(mount / "link-single" / ".snapshots"))


def test_a_name_of_the_server_comes_first(work: Path) -> None:
    (work / ".snapshots").mkdir()
    (work / ".snapshots" / "file").touch()
    assert os.listdir(work) == [".snapshots"]
    assert os.listdir(work / ".snapshots") == ["file"]


def test_a_mount_of_the_past(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "dfs", f"snapshot={SNAPSHOTS[0]}") as top:
        assert (top / "link-past" / "hello.txt").read_text() == f"hello in {SNAPSHOTS[0]}\n"
        assert sorted(os.listdir(top / "link-past" / "folder")) == ["gone.txt", "inside.txt"]
        assert "link-single" in os.listdir(top)
        refused(errno.ENOENT, lambda: os.listdir(top / "link-single"))  # Samba would show the present
        assert (top / "readme.txt").read_bytes()
        refused(errno.EROFS, lambda: (top / "link-past" / "hello.txt").write_text("x"))
        refused(errno.EROFS, lambda: (top / "new").mkdir())


def test_a_time_without_a_snapshot_is_no_mount(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "dfs").mkdir()
    unc = f"//{lab.address('fs3')}/past"
    user, password = lab.credentials
    result = mount_command(unc, tmp_path / "dfs", f"username={user},snapshot=@GMT-2020.01.01-00.00.00", password)
    assert result.returncode == 32
    assert "snapshot @GMT-2020.01.01-00.00.00" in result.stderr
    with mounted(lab, tmp_path / "dfs", f"snapshot={SNAPSHOTS[1]}", unc) as top:
        assert (top / "hello.txt").read_text() == f"hello in {SNAPSHOTS[1]}\n"

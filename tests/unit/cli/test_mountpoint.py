"""What is said of a mount point before anything is mounted. Real mounts: tests/kernel/test_mount_points.py."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dfsfs.cli import mountpoint
from dfsfs.cli.messages import MountError
from dfsfs.cli.mountpoint import check_mountpoint, check_that_nothing_is_hidden, clear_dead_mounts, has_ended
from dfsfs.control.places import MountEntry, mount_on

ROOT = Path(__file__).parent.parent.parent.parent


def mounted(monkeypatch: pytest.MonkeyPatch, place: Path, *, kind: str = "fuse.dfsfs", owner: int = 0) -> None:
    """Has a mount be there, as far as the kernel's list says."""
    top = MountEntry("0:51", str(place), kind, "//srv/ns", owner)
    monkeypatch.setattr(mountpoint, "mount_on", lambda path: (os.path.abspath(path), top))


def answers(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """What statfs(2) comes to, whatever a look at the folder says."""

    def statvfs(path: str) -> None:
        if code:
            raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr("dfsfs.cli.mountpoint.os.statvfs", statvfs)


@pytest.mark.parametrize("code", [errno.ENOTCONN, errno.ECONNABORTED])
def test_a_dead_mount_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int) -> None:
    mounted(monkeypatch, tmp_path)
    answers(monkeypatch, code)
    with pytest.raises(MountError, match=f"program has ended; take it away first: umount -l {tmp_path}"):
        check_mountpoint(str(tmp_path))


def test_to_a_user_with_the_command_that_a_user_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted(monkeypatch, tmp_path, owner=1000)
    answers(monkeypatch, errno.ENOTCONN)
    monkeypatch.setattr("dfsfs.cli.mountpoint.os.geteuid", lambda: 1000)
    assert clear_dead_mounts(str(tmp_path)) == []
    with pytest.raises(MountError, match=f"fusermount3 -uz {tmp_path}"):
        check_mountpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "owner", "code"),
    [("fuse.dfsfs", 0, 0), ("fuse.dfsfs", 0, errno.EIO), ("fuse.dfsfs", 1000, errno.ENOTCONN), ("fuse.x", 0, 107)],
)
def test_nothing_but_roots_own_dead_mounts_is_cleared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, owner: int, code: int
) -> None:
    mounted(monkeypatch, tmp_path, kind=kind, owner=owner)
    answers(monkeypatch, code)
    monkeypatch.setattr("dfsfs.cli.mountpoint.os.geteuid", lambda: 0)
    monkeypatch.setattr(mountpoint, "_detach", lambda path: pytest.fail(f"{path} was taken away"))
    assert clear_dead_mounts(str(tmp_path)) == []


def test_a_mount_of_ours_is_not_hidden_and_another_one_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted(monkeypatch, tmp_path)
    with pytest.raises(MountError, match=r"is //srv/ns already.*resource busy.*nonempty") as caught:
        check_that_nothing_is_hidden(str(tmp_path))
    assert caught.value.verdict.code == 32
    mounted(monkeypatch, tmp_path, kind="ext4")
    check_that_nothing_is_hidden(str(tmp_path))


def test_what_does_not_answer_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("dfsfs.cli.mountpoint.os.statvfs", lambda _path: released.wait(60))
    monkeypatch.setattr(mountpoint, "ANSWERING", 0.05)
    try:
        assert not has_ended("/anywhere")
    finally:
        released.set()


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (lambda _: None, 32, "does not exist; mkdir"),
        (lambda path: path.touch(), 32, "is not a directory"),
        (lambda path: path.symlink_to(path), 32, "can't be used: Too many levels"),
    ],
)
def test_no_folder(tmp_path: Path, make: object, code: int, said: str) -> None:
    assert callable(make)
    make(tmp_path / "m")
    with pytest.raises(MountError, match=said) as caught:
        check_mountpoint(str(tmp_path / "m"))
    assert caught.value.verdict.code == code


def test_what_is_mounted_on_a_folder_and_not_what_it_is_in(tmp_path: Path) -> None:
    assert mount_on(str(tmp_path)) == (str(tmp_path), None)
    absolute, top = mount_on("/proc/")
    assert absolute == "/proc" and top is not None and top.kind == "proc"


AUTOFS = """
import ctypes, os, sys
from dfsfs.cli.mountpoint import check_mountpoint, check_that_nothing_is_hidden, clear_dead_mounts
libc, place = ctypes.CDLL(None, use_errno=True), sys.argv[1]
_, requests = os.pipe()
os.setpgid(0, 0)
options = f"fd={requests},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
if libc.mount(b"auto", place.encode(), b"autofs", 0, options.encode()):
    sys.exit("no autofs: " + os.strerror(ctypes.get_errno()))
if os.fork() == 0:
    os.setsid()  # or autofs would take it for the program that mounts for it
    clear_dead_mounts(place)
    check_that_nothing_is_hidden(check_mountpoint(place))
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.mount
@pytest.mark.skipif("autofs" not in Path("/proc/filesystems").read_text(), reason="this kernel has no autofs")
def test_a_look_does_not_have_autofs_mount_what_is_to_be_mounted(tmp_path: Path) -> None:
    """It would wait for a mount that waits for it: systemd's automount units, and automount(8), start mount.dfsfs."""
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-c", AUTOFS, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30, cwd=ROOT)
    assert done.returncode == 7, done.stderr

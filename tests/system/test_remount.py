"""mount -o remount, and options that change how a mount waits and logs in."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import COMMAND, mount_command, mounted, refused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.samba import Lab
    from tests.system.conftest import Dfsfs

pytestmark = [pytest.mark.lab, pytest.mark.mount]


def remount(lab: Lab, mount: Path, options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What mount(8) does for `mount -o remount,OPTIONS`."""
    return subprocess.run(
        [COMMAND, lab.root_unc, str(mount), "-o", f"remount,{options}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_read_only_and_back(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m") as mount:
        path = mount / "link-single" / "remounted"
        path.write_text("x")
        assert remount(lab, mount, "ro").returncode == 0
        refused(errno.EROFS, lambda: path.write_text("y"))
        assert path.read_text() == "x"
        assert remount(lab, mount, "rw").returncode == 0
        path.unlink()


def test_times_change_in_the_running_program(lab: Lab, dfsfs: Dfsfs, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", "actimeo=60") as mount:
        folder = lab.host("fs1").share_path("data")
        refused(errno.ENOENT, lambda: os.stat(mount / "link-single" / "appears"))
        (folder / "appears").touch()
        try:
            assert remount(lab, mount, "actimeo=0,dfs_ttl_max=60").returncode == 0
            pid = dfsfs.json("status", mount)[0]["mount"]["pid"]
            by_mount2 = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}  # as FUSE takes no remount by fsconfig(2)
            # The kernel drops what it knew.
            subprocess.run(["mount", "-i", "-o", "remount", str(mount)], check=True, env=by_mount2)
            os.listdir(mount / "link-single")
            (mount / "link-multi" / "hello.txt").read_bytes()
            assert [entry["ttl"] for entry in dfsfs.json("cache", "show", mount / "link-multi")] == [60]
            assert dfsfs.json("status", mount)[0]["mount"]["pid"] == pid
        finally:
            (folder / "appears").unlink()


def test_what_cannot_change_is_refused_by_name(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", "uid=5") as mount:
        for options, name in (("uid=6", "uid"), ("seal", "seal"), ("cache=none", "cache"), ("vers=2.1,ro", "vers")):
            done = remount(lab, mount, options)
            assert done.returncode == 1
            assert f"can't be changed while it is mounted: {name}; umount, and mount again" in done.stderr
        assert remount(lab, mount, "uid=5,rw,relatime,user_id=0,group_id=0").returncode == 0
        (mount / "link-single" / "still-writable").touch()
        (mount / "link-single" / "still-writable").unlink()
    done = remount(lab, tmp_path / "m", "ro")
    assert done.returncode == 32 and "nothing of dfsfs is mounted on" in done.stderr


def test_a_new_password_is_for_the_next_session(lab: Lab, tmp_path: Path) -> None:
    user, password = lab.credentials
    with mounted(lab, tmp_path / "m") as mount:
        assert remount(lab, mount, f"username={user}", PASSWD="wrong now").returncode == 0
        os.listdir(mount)  # on the session that is there
        refused(errno.EACCES, lambda: os.listdir(mount / "link-single"))
        assert remount(lab, mount, f"username={user}", PASSWD=password).returncode == 0
        assert (mount / "link-single" / "hello.txt").read_bytes()


def test_a_second_password(lab: Lab, tmp_path: Path) -> None:
    user, password = lab.credentials
    with mounted(lab, tmp_path / "m", f"password=old,password2={password}") as mount:
        assert (mount / "link-multi" / "hello.txt").read_bytes()
        pid = next(entry for entry in os.listdir("/proc") if entry.isdigit() and _serves(entry, mount))
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                assert password.encode() not in file.read()
    both = tmp_path / "credentials"
    both.write_text(f"username={user}\npassword=old\npassword2={password}\n")
    both.chmod(0o600)
    done = mount_command(lab.root_unc, tmp_path / "m", f"credentials={both}", "")
    assert done.returncode == 32 or done.returncode == 0  # PASSWD is empty here, which counts before the file
    if done.returncode == 0:
        subprocess.run(["umount", str(tmp_path / "m")], check=True)


def _serves(pid: str, mount: Path) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return str(mount).encode() in file.read().split(b"\0")
    except OSError:
        return False


def test_guest_asks_for_no_password(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PASSWD"}
    done = subprocess.run(
        [COMMAND, lab.root_unc, str(tmp_path / "m"), "-o", "guest,username=nobody-at-all"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 32 and "STATUS_LOGON_FAILURE" in done.stderr


def test_hard_waits_until_the_server_is_back(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", "hard,actimeo=0,closetimeo=0") as mount:
        path = mount / "link-single" / "hello.txt"
        expected = path.read_bytes()
        found: list[bytes] = []
        lab.host("fs1").kill()
        try:
            reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
            begun = time.monotonic()
            reader.start()
            reader.join(timeout=6)
            assert reader.is_alive() and not found, "soft would have given an error long ago"
        finally:
            lab.host("fs1").start()
        reader.join(timeout=30)
        assert found == [expected]
        assert time.monotonic() - begun < 40


def test_a_hard_mount_of_a_server_that_is_down_fails(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    user, password = lab.credentials
    begun = time.monotonic()
    done = mount_command(f"//{lab.address('dead1')}/x", tmp_path / "m", f"username={user},hard", password)
    assert done.returncode == 32 and "connection refused" in done.stderr
    assert time.monotonic() - begun < 15


def test_sync_is_passed_on(lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", "sync") as mount:
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            (options,) = [line.split()[3] for line in mounts if line.split()[1] == str(mount)]
        assert "sync" in options.split(",")
        (mount / "link-single" / "synced").write_text("x")
        assert (lab.host("fs1").share_path("data") / "synced").read_text() == "x"
        (mount / "link-single" / "synced").unlink()

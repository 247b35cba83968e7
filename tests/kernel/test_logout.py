"""A mount for many users with stored logins: what is kept for them, and when it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import daemons, mounted, wait_until
from tests.kernel.people import STRANGER
from tests.support.lab.topology import ALICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab
    from tests.support.lab.topology import User

pytestmark = [pytest.mark.lab, pytest.mark.mount]

DFSFS = str(Path(sys.executable).parent / "dfsfs")
CROWD = """
import os, sys
place, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for uid in range(first, last):
    os.seteuid(uid)
    try:
        os.listdir(place)
        sys.exit("a user without a login sees something")
    except PermissionError:
        pass
    os.seteuid(0)
"""

DEAF = r"""
import ctypes, os, struct, subprocess, sys, threading

# A mount that takes requests and answers none but FUSE_INIT.
owner, uid, mountpoint, *words = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id={owner},group_id={owner},allow_other".encode()
assert libc.mount(b"deaf", mountpoint.encode(), b"fuse.dfsfs", 6, options) == 0, os.strerror(ctypes.get_errno())
unique = struct.unpack_from("<IIQ", os.read(device, 1 << 20))[2]
answer = struct.pack("<IIIIHHII32x", 7, 31, 131072, 0, 12, 9, 131072, 1)
os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
taken = []

def take():
    try:
        while True:
            taken.append(os.read(device, 1 << 20))
    except OSError:
        pass

threading.Thread(target=take, daemon=True).start()
asking = subprocess.Popen(words, user=int(uid), group=int(uid), extra_groups=())
try:
    code = asking.wait(40)
except subprocess.TimeoutExpired:
    code = 99
libc.umount2(mountpoint.encode(), 2)
os.close(device)  # now everything that waits for it gets an error
asking.kill()
asking.wait(30)
print("asked" if taken else "not asked")
sys.exit(code)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A mount point that everybody gets to."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder) / "dfs"


def run_as(user: User, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        user=user.uid,
        group=GROUP[1],
        extra_groups=(),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def resident(pid: int) -> int:
    """Bytes."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


def test_users_without_a_login_leave_nothing_behind(lab: Lab, place: Path) -> None:
    with mounted(lab, place, "multiuser") as mount:
        (daemon,) = daemons(mount)

        def visit(first: int, last: int) -> None:
            subprocess.run([sys.executable, "-c", CROWD, str(mount), str(first), str(last)], check=True, timeout=200)

        assert (mount / "link-multi" / "hello.txt").read_bytes()
        visit(200_000, 204_000)
        before = resident(daemon)
        visit(300_000, 302_000)
        grown = resident(daemon) - before
        assert grown < 2000 * 2500, f"{grown / 2000:.0f} bytes for each user"


@pytest.mark.parametrize("options", ["multiuser", "multiuser,ro", "multiuser,nouser_xattr"])
def test_logging_out_ends_sessions_at_once(lab: Lab, place: Path, options: str) -> None:
    host = lab.root_unc.strip("/").split("/")[0]
    with mounted(lab, place, f"{options},actimeo=0") as mount:
        file = str(mount / "link-multi" / "hello.txt")

        def sessions() -> int:
            words = [DFSFS, "status", str(mount), "--json"]
            told = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
            reports = told if isinstance(told, list) else [told]
            return sum(session["uid"] == ALICE.uid for report in reports for session in report["sessions"])

        stored = run_as(ALICE, DFSFS, "login", f"//{host}", "-u", ALICE.name, PASSWD=ALICE.password)
        assert stored.returncode == 0, stored.stderr
        try:
            wait_until(lambda: run_as(ALICE, "cat", file).returncode == 0, "the login is found")
            holder = subprocess.Popen(
                ["sh", "-c", f"exec 3<{file} && echo ready && read go && cat <&3"],
                user=ALICE.uid,
                group=GROUP[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
            assert sessions()
            asked = run_as(ALICE, "getfattr", "-n", "user.dfsfs.logout", str(mount))
            assert sessions() and run_as(ALICE, "cat", file).returncode == 0, asked.stderr + "the login is still there"
        finally:
            done = run_as(ALICE, DFSFS, "logout", f"//{host}")
        assert (done.returncode, done.stderr) == (0, "")
        assert sessions() == 0
        assert "Permission denied" in run_as(ALICE, "ls", str(mount / "link-multi")).stderr
        _, errors = holder.communicate("\n", timeout=30)
        assert holder.returncode != 0 and errors
        assert (mount / "link-multi" / "hello.txt").read_bytes(), "others go on"


@pytest.mark.parametrize(("owner", "asked"), [(0, True), (STRANGER.uid, False)], ids=["root's", "somebody's"])
def test_a_mount_that_never_answers_does_not_hold_who_logs_out(
    tmp_path: Path, place: Path, owner: int, *, asked: bool
) -> None:
    """Any user may have a mount, and may say that it is one of ours."""
    script = tmp_path / "deaf.py"
    script.write_text(DEAF)
    place.mkdir()
    stored = run_as(ALICE, DFSFS, "login", "//deaf.test", "-u", ALICE.name, PASSWD=ALICE.password)
    assert stored.returncode == 0, stored.stderr
    words = [sys.executable, str(script), str(owner), str(ALICE.uid), str(place), DFSFS, "logout", "//deaf.test"]
    done = subprocess.run(["unshare", "-m", *words], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "asked\n" if asked else "not asked\n"), done.stderr
    assert ("does not answer" in done.stderr) is asked

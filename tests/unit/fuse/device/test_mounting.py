"""Mounting: as root, as a normal user with fusermount3, in a user namespace, and with a descriptor that is handed in.

Real mounts are made in a mount namespace of their own, and go with it. There /mnt is a folder that all may enter, with
`m`, a mount point of nobody, and /dev/fuse is as udev leaves it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dfsfs.errors import PosixError
from dfsfs.fuse.device import mounting
from dfsfs.fuse.device.mounting import MountSpec, find_handed_in, open_device

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
PROJECT = Path(__file__).parents[4]
AS_NOBODY = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
MOUNT = "/mnt/project/.venv/bin/python -m tests.unit.fuse.device.mounter"
ODD = "//srv/a b,c\\d\t/Grüße"
"""A source with what separates and escapes options, and letters of more than a byte."""
SETUP = f"""
    set -e
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/project /mnt/m /mnt/others
    chown {NOBODY} /mnt/m
    mount --bind {PROJECT} /mnt/project
    mknod -m 666 /mnt/fuse c 10 229
    mount --bind /mnt/fuse /dev/fuse
    cd /mnt/project
"""


def run(script: str) -> dict[str, Any]:
    """What the mounter says in a mount namespace of its own."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SETUP + script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "SOURCE": ODD, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def refusal(script: str) -> str:
    """Why it can't be mounted: one line, about this mount point."""
    said = run(script)
    assert "error" in said, said
    assert "\n" not in said["error"]
    assert said["errno"]
    return str(said["error"])


# -- what is mounted --------------------------------------------------------------------------------------------------


@pytest.mark.mount
def test_root_with_each_option() -> None:
    said = run(f'{MOUNT} /mnt/m "$SOURCE" ro nosuid nodev noexec sync allow_other default_permissions')
    assert (said["type"], said["source"]) == ("fuse.test", ODD)
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(said["flags"])
    assert {"ro", "sync", "user_id=0", "group_id=0", "allow_other", "default_permissions"} == set(said["options"])
    assert not said["blocks"] and not said["inheritable"]


@pytest.mark.mount
def test_root_with_none() -> None:
    said = run(f"{MOUNT} /mnt/m //srv/ns suid dev")
    assert said["source"] == "//srv/ns"
    assert not {"ro", "nosuid", "nodev", "noexec"} & set(said["flags"])
    assert {"rw", "user_id=0", "group_id=0"} == set(said["options"])


@pytest.mark.mount
def test_allow_root_is_allow_other_to_the_kernel() -> None:
    assert "allow_other" in run(f"{MOUNT} /mnt/m //srv/ns allow_root")["options"]


@pytest.mark.mount
def test_a_normal_user() -> None:
    said = run(f'{AS_NOBODY} {MOUNT} /mnt/m "$SOURCE" ro noexec sync default_permissions')
    assert (said["type"], said["source"]) == ("fuse.test", ODD)
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(said["flags"])
    owner = {f"user_id={NOBODY}", f"group_id={NOBODY}"}
    assert {"ro", "sync", "default_permissions"} | owner == set(said["options"])
    assert not said["blocks"] and not said["inheritable"]


@pytest.mark.mount
def test_a_normal_user_gets_no_suid_and_no_devices() -> None:
    said = run(f"{AS_NOBODY} {MOUNT} /mnt/m //srv/ns suid dev")
    assert {"nosuid", "nodev"} <= set(said["flags"])


@pytest.mark.mount
def test_root_of_a_user_namespace_needs_nothing_but_the_device() -> None:
    mount = f"env PATH=/nonexistent {MOUNT} /mnt/m //srv/ns default_permissions"
    said = run(f"{AS_NOBODY} unshare --user --map-root-user --mount {mount}")
    assert (said["type"], said["source"]) == ("fuse.test", "//srv/ns")
    assert {"rw", "user_id=0", "group_id=0", "default_permissions"} == set(said["options"])


# -- what can't be mounted --------------------------------------------------------------------------------------------


@pytest.mark.mount
@pytest.mark.parametrize("who", ["", AS_NOBODY])
def test_no_mount_point(who: str) -> None:
    text = refusal(f"{who} {MOUNT} /mnt/missing //srv/ns")
    assert text == "FUSE can't mount on /mnt/missing: there is no such directory"


@pytest.mark.mount
@pytest.mark.parametrize("who", ["", AS_NOBODY])
def test_a_file_as_mount_point(who: str) -> None:
    """FUSE would take it, for a file system whose root is a file."""
    text = refusal(f"touch /mnt/file; chown {NOBODY} /mnt/file; {who} {MOUNT} /mnt/file //srv/ns")
    assert text == "FUSE can't mount on /mnt/file: it is not a directory"


@pytest.mark.mount
def test_somebody_elses_mount_point() -> None:
    text = refusal(f"{AS_NOBODY} {MOUNT} /mnt/others //srv/ns")
    assert re.search("FUSE can't mount on /mnt/others: fusermount3: .*no write access", text)


@pytest.mark.mount
def test_an_option_that_fusermount_refuses() -> None:
    conf = "echo > /mnt/conf; mount --bind /mnt/conf /etc/fuse.conf"
    text = refusal(f"{conf}; {AS_NOBODY} {MOUNT} /mnt/m //srv/ns allow_other")
    assert re.search("fusermount3: .*user_allow_other", text)


WITHOUT_DEVICE = "mkdir /mnt/dev; mknod -m 666 /mnt/dev/null c 1 3; mount --bind /mnt/dev /dev;"


@pytest.mark.mount
def test_root_without_the_device() -> None:
    text = refusal(f"{WITHOUT_DEVICE} {MOUNT} /mnt/m //srv/ns")
    assert text == "FUSE can't mount on /mnt/m: /dev/fuse can't be opened: No such file or directory"


@pytest.mark.mount
def test_a_normal_user_without_the_device() -> None:
    assert "fusermount3: fuse device not found" in refusal(f"{WITHOUT_DEVICE} {AS_NOBODY} {MOUNT} /mnt/m //srv/ns")


@pytest.mark.mount
def test_a_device_that_is_roots_alone() -> None:
    text = refusal(f"chmod 600 /dev/fuse; {AS_NOBODY} {MOUNT} /mnt/m //srv/ns")
    assert re.search("fusermount3: .*/dev/fuse: Permission denied", text)
    in_namespace = f"unshare --user --map-root-user --mount {MOUNT} /mnt/m //srv/ns"
    text = refusal(f"chmod 600 /dev/fuse; {AS_NOBODY} {in_namespace}")
    assert text == "FUSE can't mount on /mnt/m: /dev/fuse can't be opened: Permission denied"


@pytest.mark.mount
def test_a_normal_user_without_fusermount() -> None:
    text = refusal(f"{AS_NOBODY} env PATH=/nonexistent {MOUNT} /mnt/m //srv/ns")
    assert text == "FUSE can't mount on /mnt/m: there is no fusermount3, which mounts for other users than root"


@pytest.mark.mount
def test_root_that_may_not_mount() -> None:
    """Of a user namespace, in a mount namespace that is not its own. Both ways are named."""
    may_not = f"{AS_NOBODY} unshare --user --map-root-user"
    begin = "FUSE can't mount on /mnt/m: mount(2): Operation not permitted; "
    text = refusal(f"{may_not} {MOUNT} /mnt/m //srv/ns")
    assert text.startswith(f"{begin}fusermount3: ")
    text = refusal(f"{may_not} env PATH=/nonexistent {MOUNT} /mnt/m //srv/ns")
    assert text.startswith(f"{begin}there is no fusermount3")


# -- what fusermount3 may do ------------------------------------------------------------------------------------------


@pytest.fixture
def as_fusermount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program stands that is run as fusermount3, as for a normal user."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    return tmp_path / "fusermount3"


def write(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def failure(mountpoint: str) -> PosixError:
    with pytest.raises(PosixError) as caught:
        open_device(MountSpec(mountpoint, "//srv/ns", "test", frozenset()))
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_fusermount_that_hands_over_nothing(as_fusermount: Path, tmp_path: Path) -> None:
    write(as_fusermount, "exit 0")
    assert "fusermount3 has handed over no descriptor" in str(failure(str(tmp_path)))


def test_a_fusermount_that_says_nothing(as_fusermount: Path, tmp_path: Path) -> None:
    write(as_fusermount, "exit 3")
    assert str(failure(str(tmp_path))).endswith("fusermount3 ended with 3")


def test_a_fusermount_that_says_more_than_one_line(as_fusermount: Path, tmp_path: Path) -> None:
    write(as_fusermount, "echo first >&2; echo second >&2; exit 1")
    assert str(failure(str(tmp_path))).endswith(": first; second")


def test_a_fusermount_that_can_not_be_run(as_fusermount: Path, tmp_path: Path) -> None:
    as_fusermount.write_text("no program")
    as_fusermount.chmod(0o755)
    assert "fusermount3 can't be run: " in str(failure(str(tmp_path)))


def test_a_fusermount_that_does_not_end(as_fusermount: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "PATIENCE", 0.1)
    write(as_fusermount, "exec /bin/sleep 60")
    error = failure(str(tmp_path))
    assert error.errno == errno.ETIMEDOUT
    assert "fusermount3 has not ended after 0.1 seconds" in str(error)


# -- descriptors that are handed in -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mountpoint", "number"),
    [
        ("/dev/fd/0", 0),
        ("/dev/fd/17", 17),
        *((path, None) for path in ("/dev/fd/", "/dev/fd/-1", "/dev/fd/x", "/dev/fd/1/x", "/dev/fd/١", "/mnt", "3")),
    ],
)
def test_what_names_a_descriptor(mountpoint: str, number: int | None) -> None:
    assert find_handed_in(mountpoint) == number


@pytest.mark.parametrize("number", ["987654", str(2**31), "9" * 40])
def test_a_descriptor_that_is_none(number: str) -> None:
    error = failure(f"/dev/fd/{number}")
    assert str(error) == f"FUSE can't mount on /dev/fd/{number}: Bad file descriptor"
    assert error.errno == errno.EBADF


def test_a_descriptor_of_something_else() -> None:
    one, other = socket.socketpair()
    with one, other:
        error = failure(f"/dev/fd/{one.fileno()}")
        assert str(error) == f"FUSE can't mount on /dev/fd/{one.fileno()}: the descriptor is not of /dev/fuse"
        assert error.errno == errno.EINVAL


@pytest.fixture
def handed_in(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a mount that somebody else has made."""
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"test", os.fsencode(tmp_path), b"fuse.test", ctypes.c_ulong(0), data) == 0
    try:
        yield device
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True, timeout=30)
        os.close(device)


@pytest.mark.mount
def test_a_descriptor_is_served_and_stays_its_owners(handed_in: int) -> None:
    device = open_device(MountSpec(f"/dev/fd/{handed_in}", "//srv/ns", "test", frozenset({"ro"})))
    assert device != handed_in
    assert not os.get_inheritable(device) and not os.get_blocking(device)
    assert len(os.read(device, 1 << 17)) == 104, "FUSE_INIT"
    os.close(device)
    assert os.fstat(handed_in).st_rdev == os.makedev(10, 229)

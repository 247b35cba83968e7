"""Which mount a path is in, and where its socket is."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dfsfs.control import places
from dfsfs.control.places import MountEntry, folders_for, mount_of, parse_mounts, sockets_of, why_unsafe

if TYPE_CHECKING:
    from pathlib import Path

MOUNTINFO = r"""22 28 0:21 / /proc rw,nosuid shared:13 - proc proc rw
60 28 0:50 / /mnt/ns rw,relatime shared:31 - tmpfs tmpfs rw
61 60 0:51 / /mnt/ns rw,relatime shared:32 - fuse.dfsfs //dfs/ns rw,user_id=0,group_id=0,allow_other
62 28 0:52 / /mnt/with\040space rw - fuse.dfsfs //dfs/oth\134er rw,user_id=1000,group_id=1000
63 28 0:53 / / rw - ext4 /dev/sda1 rw
a line of nothing
64 28 0:54 / /mnt/ns/deeper rw - fuse.dfsfs //dfs/deeper rw,user_id=0
"""


def test_the_list_of_mounts() -> None:
    entries = parse_mounts(MOUNTINFO)
    assert [entry.device for entry in entries] == ["0:21", "0:50", "0:51", "0:52", "0:53", "0:54"]
    assert entries[3] == MountEntry("0:52", "/mnt/with space", "fuse.dfsfs", "//dfs/oth\\er", 1000)


@pytest.mark.parametrize(
    ("path", "device"),
    [
        ("/mnt/ns", "0:51"),
        ("/mnt/ns/a/b", "0:51"),
        ("/mnt/ns/deeper/a", "0:54"),
        ("/mnt/nsx", "0:53"),
        ("/mnt/with space/x", "0:52"),
        ("/elsewhere", "0:53"),
    ],
)
def test_the_mount_of_a_path(path: str, device: str) -> None:
    found = mount_of(path, parse_mounts(MOUNTINFO))
    assert found is not None and found.device == device


def test_a_path_may_be_in_no_mount() -> None:
    assert mount_of("/elsewhere", parse_mounts(MOUNTINFO.replace(" / / rw", " / /root rw"))) is None


USERS = MountEntry("0:51", "/mnt", "fuse.dfsfs", "//a/b", 1000)


def socket_in(folder: Path) -> str:
    """Something at the name of the mount's socket."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0-51.sock").touch()
    return str(folder / "0-51.sock")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A /tmp and a /run/user of its own, for user 1000 without XDG_RUNTIME_DIR."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    monkeypatch.setattr(places, "SHARED_FOLDER", str(tmp_path / "tmp"))
    monkeypatch.setattr(places, "USERS_FOLDERS", str(tmp_path / "users"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path / "tmp"


def test_where_sockets_are(monkeypatch: pytest.MonkeyPatch, shared: Path, tmp_path: Path) -> None:
    assert folders_for(0) == ["/run/dfsfs"]
    private = f"{shared}/dfsfs-1000"
    assert folders_for(1000) == [private]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert folders_for(1000) == [private]
    (tmp_path / "users" / "1000").mkdir(parents=True)
    assert folders_for(1000) == [f"{tmp_path}/users/1000/dfsfs", private], "root and cron(8) have no such variable"
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert folders_for(1000) == [f"{tmp_path}/run/dfsfs", f"{tmp_path}/users/1000/dfsfs", private]
    assert sockets_of(USERS) == []
    expected = [socket_in(tmp_path / "run" / "dfsfs"), socket_in(tmp_path / "users" / "1000" / "dfsfs")]
    assert sockets_of(USERS) == expected


def test_a_private_folder_is_used_if_others_can_change_nothing_in_it(
    monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    path, me = socket_in(shared / "dfsfs-1000"), os.getuid()
    (shared / "dfsfs-1000").chmod(0o700)
    users = replace(USERS, owner=me) if me else USERS
    monkeypatch.setattr(places, "private_folder", lambda owner: str(shared / "dfsfs-1000"))
    monkeypatch.setattr(places, "why_unsafe", lambda folder, owner: why_unsafe(folder, me))
    assert sockets_of(users) == [path]
    for mode in (0o777, 0o750, 0o701):
        (shared / "dfsfs-1000").chmod(mode)
        assert sockets_of(users) == [], oct(mode)
    (shared / "dfsfs-1000").chmod(0o700)
    shared.chmod(0o777)
    assert sockets_of(users) == [], "anybody may put another folder in its place"
    shared.chmod(0o1777)
    assert sockets_of(users) == [path]
    (shared / "dfsfs-1000").rename(shared / "elsewhere")
    (shared / "dfsfs-1000").symlink_to(shared / "elsewhere")
    assert sockets_of(users) == [], "a link is not followed"


def test_a_private_folder_of_somebody_else_is_not_used(shared: Path) -> None:
    folder = shared / "dfsfs-4321"
    socket_in(folder)
    folder.chmod(0o700)
    assert why_unsafe(str(folder), 4321) == f"{folder} is not a folder that only its owner may enter"
    assert sockets_of(replace(USERS, owner=4321)) == []

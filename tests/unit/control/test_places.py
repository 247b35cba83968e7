"""Which mount a path is in, and where its socket is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dfsfs.control.places import MountEntry, folder_for, mount_of, parse_mounts, socket_of

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


def test_where_sockets_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert folder_for(0) == "/run/dfsfs"
    assert socket_of(MountEntry("0:51", "/mnt", "fuse.dfsfs", "//a/b", 0)) == "/run/dfsfs/0-51.sock"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert socket_of(MountEntry("0:51", "/mnt", "fuse.dfsfs", "//a/b", 1000)) == f"{tmp_path}/dfsfs/0-51.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert folder_for(1000) is None
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert folder_for(1000) is None

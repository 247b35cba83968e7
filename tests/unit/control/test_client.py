"""Which mount a path is in, found without asking a mount."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dfsfs.control import client
from dfsfs.control.places import MountEntry, parse_mounts
from dfsfs.control.protocol import ControlError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`mnt` in it is taken for a mount; what is in there must not be looked at."""
    here = tmp_path.resolve()
    for name in ("mnt/deep", "outside"):
        (here / name).mkdir(parents=True)
    (here / "mnt/deep/away").symlink_to(here / "outside")
    (here / "link").symlink_to("outside/../mnt/deep")
    (here / "chain").symlink_to(here / "link")
    (here / "circle").symlink_to("circle")
    line = f"36 35 0:50 / {here}/mnt rw - fuse.dfsfs //dfs/ns rw,user_id=0,group_id=0"
    entries: list[MountEntry] = parse_mounts(line)
    assert len(entries) == 1
    monkeypatch.setattr(client, "our_mounts", lambda: entries)
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("mnt", ""),
        ("mnt/deep/away/x", "deep/away/x"),
        ("link", "deep"),
        ("link/away/x", "deep/away/x"),
        ("chain/away/../away", "deep/away"),
        ("./outside/../link/away", "deep/away"),
    ],
)
def test_links_that_lead_into_a_mount_are_followed_and_those_in_it_are_not(path: str, rest: str, folder: Path) -> None:
    entry, found = client.mount_at(path)
    assert (entry.mountpoint, found) == (f"{folder}/mnt", rest)


@pytest.mark.parametrize("path", ["outside", "nowhere/at/all", "circle/x", os.curdir])
def test_what_is_in_none_is_said_to_be(path: str, folder: Path) -> None:
    with pytest.raises(ControlError, match="is not in a mount of dfsfs"):
        client.mount_at(path)

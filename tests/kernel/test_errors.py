"""What goes wrong at mounting: an exit code, one line that names it, soon, and nothing left behind."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import daemons, is_mounted, mount_command, mounted, wait_until
from tests.support.lab import content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

SOON = 10.0
"""Seconds."""
USAGE, FAILED = 1, 32
"""Exit codes of mount(8)."""


def refused(unc: str, mountpoint: Path, options: str, password: str) -> tuple[int, str]:
    """Runs a mount that has to fail, soon and leaving nothing behind: exit code and the line that it prints."""
    started = time.monotonic()
    result = mount_command(unc, mountpoint, options, password)
    assert time.monotonic() - started < SOON
    assert result.returncode != 0
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("mount.dfsfs: ")
    assert "Traceback" not in lines[0] and password not in lines[0]
    assert not is_mounted(mountpoint)
    wait_until(lambda: not daemons(mountpoint), "no process is left")
    return result.returncode, lines[0]


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    path = tmp_path / "dfs"
    path.mkdir()
    return path


@pytest.fixture
def deaf_port(lab: Lab) -> Iterator[int]:
    """A port where connections are accepted and nobody ever answers."""
    with socket.create_server((lab.address("dead1"), 0)) as server:
        yield server.getsockname()[1]


def test_wrong_password(lab: Lab, mountpoint: Path) -> None:
    code, line = refused(lab.root_unc, mountpoint, "username=alice", "no-such-password-1")
    assert code == FAILED
    assert "alice" in line and lab.address("ns1") in line


def test_unknown_user(lab: Lab, mountpoint: Path) -> None:
    code, line = refused(lab.root_unc, mountpoint, "username=mallory", lab.credentials.password)
    assert code == FAILED
    assert "mallory" in line


def test_unknown_host(lab: Lab, mountpoint: Path) -> None:
    code, line = refused("//no-such-host.invalid/dfs", mountpoint, "username=alice", lab.credentials.password)
    assert code == FAILED
    assert "no-such-host.invalid" in line


def test_refused_port(lab: Lab, mountpoint: Path) -> None:
    unc = f"//{lab.address('dead1')}/dfs"
    code, line = refused(unc, mountpoint, "username=alice", lab.credentials.password)
    assert code == FAILED
    assert lab.address("dead1") in line and "445" in line and "refused" in line.lower()


def test_a_port_that_never_answers(lab: Lab, mountpoint: Path, deaf_port: int) -> None:
    unc = f"//{lab.address('dead1')}/dfs"
    options = f"username=alice,port={deaf_port},timeout=3,failover_timeout=3"
    code, line = refused(unc, mountpoint, options, lab.credentials.password)
    assert code == FAILED
    assert lab.address("dead1") in line


def test_unknown_share(lab: Lab, mountpoint: Path) -> None:
    unc = f"//{lab.address('ns1')}/nothing"
    code, line = refused(unc, mountpoint, "username=alice", lab.credentials.password)
    assert code == FAILED
    assert "nothing" in line


def test_unknown_folder_in_the_namespace(lab: Lab, mountpoint: Path) -> None:
    code, line = refused(f"{lab.root_unc}/no/folder", mountpoint, "username=alice", lab.credentials.password)
    assert code == FAILED
    assert "folder" in line


def test_a_mountpoint_that_is_not_there(lab: Lab, tmp_path: Path) -> None:
    code, line = refused(lab.root_unc, tmp_path / "absent", "username=alice", lab.credentials.password)
    assert code == FAILED
    assert str(tmp_path / "absent") in line
    assert not (tmp_path / "absent").exists()


def test_an_unknown_option_is_named_with_the_nearest_known(lab: Lab, mountpoint: Path) -> None:
    code, line = refused(lab.root_unc, mountpoint, "username=alice,actimo=3", lab.credentials.password)
    assert code == USAGE
    assert "actimo" in line and "actimeo" in line


def test_a_server_that_speaks_no_such_dialect(lab: Lab, mountpoint: Path) -> None:
    code, line = refused(lab.root_unc, mountpoint, "username=alice,vers=1.0", lab.credentials.password)
    assert code == USAGE
    assert "vers" in line


@pytest.mark.parametrize("options", ["", "nodfs"])
def test_a_share_that_is_not_dfs_mounts_as_what_it_is(lab: Lab, tmp_path: Path, options: str) -> None:
    unc = f"//{lab.address('fs1')}/data"
    with mounted(lab, tmp_path / "share", options, unc) as mount:
        assert (mount / "hello.txt").read_bytes() == content.HELLO
        (mount / "made-here.txt").write_text("text")
        os.unlink(mount / "made-here.txt")


def test_a_folder_of_the_namespace_can_be_mounted(lab: Lab, tmp_path: Path) -> None:
    """A folder in the root, a link, and a folder behind a link."""
    for number, (folder, name) in enumerate(
        {"dir": "note.txt", "dir/sub/link": "hello.txt", "link-single/folder": "inside.txt"}.items()
    ):
        with mounted(lab, tmp_path / str(number), unc=f"{lab.root_unc}/{folder}") as mount:
            assert (mount / name).read_bytes()

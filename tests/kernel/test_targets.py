"""Which target a mount uses: dfs_static, dfs_prefer and dfs_pin, servers that hang, and the way back."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import is_mounted, mount_command, mounted, wait_until
from tests.support.lab import content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemonlog import Journal
    from tests.support.lab.samba import Lab, LabHost

pytestmark = [pytest.mark.lab, pytest.mark.mount]

SILENCE = 4
"""Seconds without a word (timeout=) after which a server is left. Without the option it is 10, which a unit test of
fuse/test_session.py holds."""
HANG = SILENCE + 5.0
"""Seconds after which a program goes on although the server that it reads from hangs."""


@pytest.fixture
def first(lab: Lab) -> Iterator[LabHost]:
    """The first target of link-multi, running again at the end."""
    host = lab.host("fs1")
    yield host
    host.resume()
    if not host.running:
        host.start()


def serving(lab: Lab) -> set[str]:
    """The file servers that clients are connected to."""
    return {name for name in ("fs1", "fs2", "fs3") if lab.host(name).connections()}


@pytest.fixture
def static(lab: Lab, tmp_path: Path) -> Path:
    """A namespace in a file: its root on fs3, a link that prefers fs1 to fs2, one into another server's namespace."""
    file = tmp_path / "namespaces.toml"
    file.write_text(f"""
[[namespace]]
path = "//company/files"
targets = ["//{lab.address("fs3")}/secret"]

[[namespace.link]]
path = "folder/tools"
ttl = 5
failback = true
targets = [
  "//{lab.address("fs1")}/data",
  {{ path = "//{lab.address("fs2")}/data", priority = "global-low" }},
]

[[namespace.link]]
path = "elsewhere"
targets = ["//{lab.address("ns2")}/dfs2/deep"]
""")
    return file


def test_a_namespace_from_a_file(lab: Lab, tmp_path: Path, static: Path) -> None:
    with mounted(lab, tmp_path / "m", f"dfs_static={static}", "//company/files") as mount:
        assert "secret" in (mount / "hello.txt").read_text()
        assert (mount / "folder/tools/hello.txt").read_bytes() == content.HELLO
        assert (mount / "FOLDER/Tools/folder/inside.txt").read_bytes() == content.INSIDE
        assert (mount / "elsewhere/link/hello.txt").read_bytes() == content.HELLO
        with pytest.raises(OSError):
            (mount / "folder/tools").rmdir()
        assert serving(lab) == {"fs1", "fs3"}


def test_a_link_that_its_roots_share_has_no_folder_for(lab: Lab, tmp_path: Path, static: Path) -> None:
    """It is found also after the mount has seen the listing of the share: dfs_static= says more than that does."""
    with mounted(lab, tmp_path / "m", f"dfs_static={static}", "//company/files") as mount:
        assert "elsewhere" not in os.listdir(mount)
        assert (mount / "elsewhere/link/hello.txt").read_bytes() == content.HELLO
        with pytest.raises(FileNotFoundError):
            os.stat(mount / "elsewhere-else")


def test_a_file_that_makes_no_sense_is_no_mount(lab: Lab, tmp_path: Path, static: Path) -> None:
    static.write_text(static.read_text().replace("ttl = 5", "ttl = -5"))
    (tmp_path / "m").mkdir()
    options = f"username={lab.credentials.user},dfs_static={static}"
    result = mount_command("//company/files", tmp_path / "m", options, lab.credentials.password)
    assert result.returncode == 1
    assert f"{static} line 8: ttl = -5" in result.stderr
    assert not is_mounted(tmp_path / "m")


@pytest.mark.parametrize("option", ["dfs_prefer=*.13", "dfs_pin=link-multi://{fs2}/data"])
def test_the_mount_chooses(lab: Lab, tmp_path: Path, option: str) -> None:
    with mounted(lab, tmp_path / "m", option.format(fs2=lab.address("fs2"))) as mount:
        assert (mount / "link-multi/hello.txt").read_bytes() == content.HELLO
        assert serving(lab) == {"fs2"}


def test_logins_go_to_listed_hosts_only(lab: Lab, tmp_path: Path) -> None:
    """A target elsewhere is passed over, and not even connected to; where there is no other one, it is an error."""
    ns, fs1, fs2 = (lab.address(name) for name in ("ns1", "fs1", "fs2"))
    with mounted(lab, tmp_path / "m", f"actimeo=0,login_hosts={ns};{fs2}") as mount:
        assert (mount / "link-multi/hello.txt").read_bytes() == content.HELLO
        assert serving(lab) == {"fs2"}
        with pytest.raises(PermissionError):
            (mount / "link-single/hello.txt").read_bytes()
        assert serving(lab) == {"fs2"}
    (tmp_path / "m2").mkdir()
    options = f"username={lab.credentials.user},login_hosts=*.contoso.test;{fs1}"
    result = mount_command(lab.root_unc, tmp_path / "m2", options, lab.credentials.password)
    assert result.returncode == 32 and not is_mounted(tmp_path / "m2")
    assert f"{ns} gets no login" in result.stderr and "login_hosts=" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_server_that_hangs_is_left_soon_after_its_time_is_up(lab: Lab, first: LabHost, tmp_path: Path) -> None:
    """A program that reads gets no error, neither with the file open before the hang nor at a new open."""
    with mounted(lab, tmp_path / "m", f"actimeo=0,timeout={SILENCE}") as mount:
        with (mount / "link-multi/big.bin").open("rb", buffering=0) as file:
            begin = file.read(4096)
            first.pause()
            started = time.monotonic()
            file.seek(content.BIG_SIZE - 4096)
            end = file.read(4096)
            took = time.monotonic() - started
        assert (begin, end) == (content.big()[:4096], content.big()[-4096:])
        assert took < HANG
        assert (mount / "link-multi/hello.txt").read_bytes() == content.HELLO
        assert (mount / "link-multi/folder/inside.txt").read_bytes() == content.INSIDE
        assert time.monotonic() - started < HANG
        first.resume()


def test_a_server_that_dies_is_left_within_a_quarter_of_a_second(
    lab: Lab, first: LabHost, tmp_path: Path, daemon_log: Journal
) -> None:
    daemon_log.take()
    with mounted(lab, tmp_path / "m", "actimeo=0") as mount:
        with (mount / "link-multi/big.bin").open("rb", buffering=0) as file:
            file.read(4096)
            first.kill()
            started = time.monotonic()
            file.seek(content.BIG_SIZE - 4096)
            end = file.read(4096)
            took = time.monotonic() - started
        assert end == content.big()[-4096:]
        assert took < 0.25
        logged = [record for record in daemon_log.take() if record.mountpoint == str(mount)]
        assert any("failed over" in record.message for record in logged), list(map(str, logged))


def test_c097_failback_when_the_first_set_is_back(lab: Lab, first: LabHost, tmp_path: Path, static: Path) -> None:
    """A program that opens a file again and again sees no error; a file that is open stays where it is."""
    with mounted(lab, tmp_path / "m", f"dfs_static={static},actimeo=0", "//company/files") as mount:
        path = mount / "folder/tools/hello.txt"
        assert path.read_bytes() == content.HELLO
        first.stop()
        assert path.read_bytes() == content.HELLO
        assert serving(lab) == {"fs2", "fs3"}
        with (mount / "folder/tools/big.bin").open("rb", buffering=0) as left_open:
            begin = left_open.read(4096)
            first.start()

            def back() -> bool:
                assert path.read_bytes() == content.HELLO
                return first.connections() > 0

            wait_until(back, "the mount is back", seconds=90, every=0.1)
            left_open.seek(content.BIG_SIZE - 4096)
            assert (begin, left_open.read(4096)) == (content.big()[:4096], content.big()[-4096:])

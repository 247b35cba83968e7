"""Names and answers that others have chosen, in what commands write: of servers, and of mounts of other users."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.control.places import mounts, socket_name
from tests.kernel.mounts import mounted
from tests.support.fakes.evil import spoils, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab
    from tests.system.conftest import Dfsfs

pytestmark = [pytest.mark.lab, pytest.mark.mount]

NAME = "evil\x9b2J\u202egpj\x7f"
SHOWN = "evil\\x9b2J\\u202egpj\\x7f"
"""Below a space, Samba gives names of its own making instead."""
SOMEBODY = 54_321


@pytest.fixture
def link(lab: Lab) -> Iterator[str]:
    """A link and a file of such a name; the file is in the link's target."""
    root, data = (
        lab.host(lab.topology.root.host).share_path(lab.topology.root.share),
        lab.host("fs1").share_path("data"),
    )
    (root / NAME).symlink_to(f"msdfs:{lab.address('fs1')}\\data")
    (root / "bad-target").symlink_to(f"msdfs:{lab.address('fs1')}\\da\x1b]0;x\x07ta")
    (data / NAME).write_bytes(b"x")
    try:
        yield f"{lab.root_unc}/{NAME}"
    finally:
        for path in (root / NAME, root / "bad-target", data / NAME):
            path.unlink()


def test_names_on_servers(dfsfs: Dfsfs, lab: Lab, link: str) -> None:
    folder = f"{lab.root_unc}/link-single"
    for words in (["ls", folder], ["ls", "-l", folder], ["tree", lab.root_unc], ["check", lab.root_unc]):
        result = dfsfs(*words, *dfsfs.login)
        assert SHOWN in result.stdout and not spoils(result.stdout + result.stderr), words
        raw = dfsfs(*words, *dfsfs.login, "--json").stdout
        assert not spoils(raw) and any(NAME in text for text in texts(json.loads(raw))), words
    wrong = dfsfs("ls", link, *dfsfs.login)
    assert SHOWN in wrong.stderr and not spoils(wrong.stderr)


def test_a_target_that_no_server_can_be(dfsfs: Dfsfs, lab: Lab, link: str) -> None:
    result = dfsfs("explain", f"{lab.root_unc}/bad-target", *dfsfs.login)
    assert result.returncode == 32 and "control character" in result.stdout + result.stderr
    assert not spoils(result.stdout + result.stderr)


def test_names_in_what_a_mount_says(dfsfs: Dfsfs, lab: Lab, link: str, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m") as mount:
        path = mount / NAME
        assert NAME in os.listdir(path)
        for words in ("status", mount), ("cache", "show", mount), ("target", "list", path), ("explain", path):
            result = dfsfs(*words)
            assert SHOWN in result.stdout and not spoils(result.stdout + result.stderr), words
        drained = dfsfs.out("drain", lab.address("fs1"), "--mount", mount)
        assert SHOWN in drained and not spoils(drained)


REPORTER = """\
import os, socket, sys
os.setgid({uid}); os.setuid({uid})
listener = socket.socket(socket.AF_UNIX)
listener.bind({path!r})
listener.listen()
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall({line!r})
"""


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Path]:
    """A mount that the kernel lists as another user's and as ours in kind; it answers every access with an error."""
    place = tmp_path / "others\x1b[2J"
    place.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={device},rootmode=40000,user_id={SOMEBODY},group_id={SOMEBODY}"
        words = ["mount", "-i", "-t", "fuse.dfsfs", "-o", options, "//evil/\x1b[2J", str(place)]
        by_mount2 = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}  # by fsconfig(2), mount(8) does a little more
        subprocess.run(words, check=True, pass_fds=[device], timeout=30, env=by_mount2)
    finally:
        os.close(device)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)


@pytest.fixture
def runtime(others: Path) -> Iterator[Path]:
    """Where that user's sockets are."""
    top = Path(f"/run/user/{SOMEBODY}")
    (top / "dfsfs").mkdir(parents=True)
    for folder in (top, top / "dfsfs"):
        os.chown(folder, SOMEBODY, SOMEBODY)
    try:
        (entry,) = (entry for entry in mounts() if entry.mountpoint == str(others))
        yield top / "dfsfs" / socket_name(entry.device)
    finally:
        shutil.rmtree(top)


@pytest.mark.parametrize("line", [b'{"version": 1, "result": {"mount": "\\u001b[2J"}}\n', b"\x1b[2J\n", b""])
def test_another_user_does_not_end_what_root_sees(dfsfs: Dfsfs, mount: Path, runtime: Path, line: bytes) -> None:
    script = REPORTER.format(uid=SOMEBODY, path=str(runtime), line=line)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as reporter:
        assert reporter.stdout is not None and reporter.stdout.readline() == b"ready\n"
        try:
            result = dfsfs("status")
            as_json = dfsfs("status", "--json")
        finally:
            reporter.kill()
    lines = [text for text in result.stdout.splitlines() if text.endswith("others\\x1b[2J is //evil/\\x1b[2J")]
    assert result.returncode and len(lines) == 1 and "  NO ANSWER: " in result.stdout
    assert not spoils(result.stdout + result.stderr + as_json.stdout)
    assert f"{mount} is //" in result.stdout
    assert str(mount) in [report["mount"]["path"] for report in json.loads(as_json.stdout)]


def test_a_link_to_roots_socket_is_not_followed(dfsfs: Dfsfs, mount: Path, runtime: Path) -> None:
    (entry,) = (entry for entry in mounts() if entry.mountpoint == str(mount))
    runtime.symlink_to(f"/run/dfsfs/{socket_name(entry.device)}")
    result = dfsfs("status")
    assert "user 0 answers for the mount on" in result.stdout and f"is user {SOMEBODY}'s" in result.stdout
    assert f"{mount} is //" in result.stdout

"""docs/troubleshooting.md: the messages in it are those that the program prints."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import COMMAND, clean_up, is_mounted, signal_daemons, wait_until
from tests.system.conftest import PROGRAM

if TYPE_CHECKING:
    from tests.support.lab.samba import Lab
    from tests.system.conftest import Dfsfs

pytestmark = [pytest.mark.lab, pytest.mark.mount]

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES: list[str] = re.findall(r"(?m)^### `(.*)`$", TEXT)
ELSEWHERE = ("logging in with Kerberos", "user ...: ", "there is no /dev/fuse", "the mount was taken")
"""Those that other tests provoke: tests/ad, tests/unit/cli, tests/kernel/test_mount_points.py."""


def pattern_of(message: str) -> re.Pattern[str]:
    """A message as a pattern, in which `...` is anything."""
    return re.compile(".*".join(map(re.escape, message.split("..."))), re.IGNORECASE)


def said(words: list[str], **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PASSWD")}
    done = subprocess.run(
        words,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode != 0
    return done.stderr


def test_every_message_is_one_that_is_printed(lab: Lab, dfsfs: Dfsfs, tmp_path: Path) -> None:
    user, password = lab.credentials
    place = tmp_path / "m"
    place.mkdir()

    def mount(unc: str, options: str = "", where: Path = place, secret: str | None = password) -> str:
        login = f"username={user}" + (f",{options}" if options else "")
        known = {} if secret is None else {"PASSWD": secret}
        return said([COMMAND, unc, str(where), "-o", login], **known)

    dead, root, fs1 = lab.address("dead1"), lab.root_unc, lab.address("fs1")
    found = [
        mount(f"//{dead}/x"),
        mount("//no-such-host.invalid/x"),
        mount(root, secret="wrong"),
        mount(f"//{fs1}/nothing"),
        mount(f"//{fs1}/data/nothing"),
        mount(f"{root}/loop-a"),
        mount(f"{root}/link-denied"),
        mount(root, "actimoe=1"),
        mount(root, "dynperm"),
        mount(root, where=tmp_path / "gone"),
        mount(root, secret=None),
    ]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found.append(mount("//127.0.0.1/x", f"timeout=1,port={port}"))
        found.append(mount(root, f"metrics=127.0.0.1:{port}"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "figures"))
        listener.listen()
        found.append(mount(root, f"metrics={tmp_path / 'figures'}"))
    try:
        subprocess.run(
            [COMMAND, root, str(place), "-o", f"username={user}"], env={**os.environ, "PASSWD": password}, check=True
        )
        found.append(mount(root))
        (report,) = dfsfs.json("status", place)
        signal_daemons(place, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{report['mount']['pid']}"), "the program is gone")
        found.append(said([PROGRAM, "status", str(place)]))
        # Without -f it would be taken away: tests/kernel/test_mount_points.py.
        found.append(said([COMMAND, "-f", root, str(place), "-o", f"username={user}"], PASSWD=password))
    finally:
        clean_up(place)
    assert not is_mounted(place)
    text = "\n".join(found)
    missing = [one for one in MESSAGES if not pattern_of(one).search(text) and not one.startswith(ELSEWHERE)]
    known = ("Permission denied", "Input/output error")
    assert [one for one in missing if one not in known] == [], text


@pytest.mark.parametrize("message", [one for one in MESSAGES if one.startswith(ELSEWHERE)])
def test_the_others_are_put_together_of_what_is_in_the_source(message: str) -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "dfsfs").rglob("*.py"))
    message = message.replace("/dev/fuse", "{device}")
    pieces = [piece.strip(" :;") for piece in re.split(r"\.\.\.|; |: ", message) if len(piece) > 8]
    libraries = ("not found in Kerberos database", "Clock skew too great", "No Kerberos credentials")
    for piece in pieces:
        assert piece in source or piece.startswith(libraries), piece

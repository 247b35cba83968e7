"""Real mounts for tests: mount.dfsfs as users call it, and the certainty that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.lab.samba import Lab

COMMAND = str(Path(sys.executable).parent / "mount.dfsfs")
PATIENCE = 30.0
"""Seconds for anything that has to happen without a server being down."""


def mount_command(
    unc: str, mountpoint: Path, options: str, password: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs mount.dfsfs to its end, with the password in the environment."""
    return subprocess.run(
        [COMMAND, unc, str(mountpoint), "-o", options],
        env={**os.environ, "PASSWD": password, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def daemons(mountpoint: Path) -> list[int]:
    """The processes that serve a mount point: those that have it in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if str(mountpoint).encode() in words and any(word.endswith(b"mount.dfsfs") for word in words):
                    found.append(int(entry.name))
    return found


def is_mounted(mountpoint: Path) -> bool:
    """Looks in the mount table, so that a mount whose daemon is gone counts, and none is asked."""
    return any(line.split(" ")[4] == str(mountpoint) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE, every: float = 0.01) -> None:
    """Looks again and again, `every` so many seconds, until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} seconds still not: {what}"
        time.sleep(every)


def unmount(mountpoint: Path) -> None:
    """Unmounts and makes sure that the daemon ends."""
    subprocess.run(["umount", str(mountpoint)], check=True, timeout=PATIENCE)
    wait_until(lambda: not daemons(mountpoint), "the daemon ends")
    assert not is_mounted(mountpoint)


@contextlib.contextmanager
def mounted(lab: Lab, mountpoint: Path, options: str = "", unc: str | None = None) -> Iterator[Path]:
    """The lab's namespace (or `unc`) on a folder, which is made if need be; unmounted at the end whatever happens."""
    mountpoint.mkdir(exist_ok=True)
    user, password = lab.credentials
    words = ",".join(word for word in (f"username={user}", options) if word)
    try:
        result = mount_command(unc or lab.root_unc, mountpoint, words, password)
        assert result.returncode == 0, result.stderr
        yield mountpoint
        unmount(mountpoint)
    finally:
        clean_up(mountpoint)


@contextlib.contextmanager
def scratch(link: Path) -> Iterator[Path]:
    """An empty folder behind a link of a mount, removed with all that a test has put there."""
    folder = link / f"work-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True, timeout=120)


def clean_up(mountpoint: Path) -> None:
    """Takes away whatever is left of a mount."""
    if is_mounted(mountpoint):
        subprocess.run(["umount", "-l", str(mountpoint)], check=False, timeout=PATIENCE)
    for pid in daemons(mountpoint):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def refused(code: int, action: Callable[[], object]) -> None:
    """Does what has to fail with an errno."""
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as caught:
        action()
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code], caught.value

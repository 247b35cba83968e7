"""Real mounts for tests: mount.dfsfs as users call it, and the certainty that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.support.lab.samba import Lab

COMMAND = str(Path(sys.executable).parent / "mount.dfsfs")
PATIENCE = 30.0
"""Seconds for anything that has to happen without a server being down."""


def mount_command(
    unc: str, mountpoint: Path, options: str, password: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs mount.dfsfs to its end, with the password in a pipe: for one that is in PASSWD or in the options it starts
    itself anew, and most of these tests are not about that.
    """
    reader, writer = os.pipe()
    try:
        with open(writer, "w") as pipe:
            pipe.write(f"{password}\n")
        return subprocess.run(
            [COMMAND, unc, str(mountpoint), "-o", options],
            env={**os.environ, "PASSWD_FD": str(reader), **(environment or {})},
            pass_fds=(reader,),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    finally:
        os.close(reader)


@contextlib.contextmanager
def serving(mountpoint: Path) -> Iterator[dict[int, int]]:
    """The processes that serve a mount point, as pid -> pidfd, which are open for the length of the block.

    Other runs of the tests may have a mount point of the same path in a root folder of their own (scripts/in-release).
    """
    found = {}
    with contextlib.ExitStack() as stack:
        for name in os.listdir("/proc"):
            if name.isdigit() and _serves(name, mountpoint):
                try:
                    process = os.pidfd_open(int(name))
                except ProcessLookupError:
                    continue
                stack.callback(os.close, process)
                if _serves(name, mountpoint):  # else the number has passed to another process since it was looked at
                    found[int(name)] = process
        yield found


def _serves(pid: str, mountpoint: Path) -> bool:
    """Whether a process is a mount.dfsfs whose command line has a mount point that is the same place to it as to us."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        programs = [place for place, word in enumerate(words[:3]) if word.endswith(b"mount.dfsfs")]
        if not programs or os.fsencode(mountpoint) not in words[programs[0] :]:
            return False
        here, there = os.stat(mountpoint.parent), os.stat(f"/proc/{pid}/root{mountpoint.parent}")
    except OSError:
        return False  # it has ended
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def daemons(mountpoint: Path) -> list[int]:
    """The pids of the processes that serve a mount point. To be signalled they are found anew: `signal_daemons`."""
    with serving(mountpoint) as found:
        return sorted(found)


def signal_each(processes: Iterable[int], number: int) -> None:
    """Sends a signal to processes, given as pidfds."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)


def signal_daemons(mountpoint: Path, number: int) -> None:
    """Sends a signal to the processes that serve a mount point."""
    with serving(mountpoint) as found:
        signal_each(found.values(), number)


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


def carried(lab: Lab) -> int:
    """Bytes that went to fs1 and came from there, on the connections that there are now."""
    command = ["ss", "-tinH", "dst", lab.address("fs1")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    return sum(map(int, re.findall(r"bytes_(?:sent|received):(\d+)", shown)))


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
    signal_daemons(mountpoint, signal.SIGKILL)


def refused(code: int, action: Callable[[], object]) -> None:
    """Does what has to fail with an errno."""
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as caught:
        action()
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code], caught.value

"""What is mounted at a mount point already: a mount whose program has ended, or one in use that would be hidden."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.mounts import COMMAND, clean_up, daemons, is_mounted, mount_command, signal_daemons, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

DFSFS = str(Path(COMMAND).with_name("dfsfs"))
HOUR = "actimeo=3600"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "dfs"
    path.mkdir()
    yield path
    for _ in range(3):
        clean_up(path)


def mount(lab: Lab, place: Path, options: str = "") -> subprocess.CompletedProcess[str]:
    user, password = lab.credentials
    return mount_command(lab.root_unc, place, f"username={user},{options}", password)


def killed(place: Path) -> None:
    """Leaves a dead mount, of whose folder the kernel has the attributes for a while."""
    os.stat(place)
    assert len(daemons(place)) == 1
    signal_daemons(place, signal.SIGKILL)
    wait_until(lambda: not daemons(place), "the daemon is gone")
    assert is_mounted(place)


def unmounted(place: Path) -> None:
    subprocess.run(["umount", str(place)], check=True, timeout=30)
    wait_until(lambda: not daemons(place), "the daemon ends")


def test_roots_dead_mount_makes_way_for_the_next(lab: Lab, place: Path) -> None:
    assert mount(lab, place, HOUR).returncode == 0
    killed(place)
    again = mount(lab, place, HOUR)
    assert again.returncode == 0, again.stderr
    assert f"warning: a mount of {lab.root_unc} was on {place} whose program had ended" in again.stderr
    assert (place / "readme.txt").read_bytes()
    unmounted(place)
    assert not is_mounted(place), "the dead one is below it"


def test_a_trial_clears_nothing_and_says_what_is_there(lab: Lab, place: Path) -> None:
    assert mount(lab, place, HOUR).returncode == 0
    killed(place)
    user, _ = lab.credentials
    words = [COMMAND, "-f", lab.root_unc, str(place), "-o", f"username={user},password=x"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 32
    assert done.stderr.endswith(f"program has ended; take it away first: umount -l {place}\n")
    assert is_mounted(place)


def test_a_second_mount_would_hide_the_first(lab: Lab, place: Path) -> None:
    assert mount(lab, place).returncode == 0
    second = mount(lab, place)
    assert second.returncode == 32
    assert f"on {place} is {lab.root_unc} already, which would be hidden (Device or resource busy)" in second.stderr
    assert len(daemons(place)) == 1
    assert mount(lab, place, "nonempty").returncode == 0
    wait_until(lambda: len(daemons(place)) == 2, "both run")
    subprocess.run(["umount", str(place)], check=True, timeout=30)
    wait_until(lambda: len(daemons(place)) == 1, "the second has ended")
    assert (place / "readme.txt").read_bytes(), "the first is there again"
    unmounted(place)


def test_a_folder_in_a_mount_is_a_place_of_its_own(lab: Lab, place: Path) -> None:
    assert mount(lab, place).returncode == 0
    inner = place / "dir"
    try:
        assert mount(lab, inner).returncode == 0
        unmounted(inner)
    finally:
        clean_up(inner)
    unmounted(place)


def test_a_mount_that_was_taken_away_says_who_holds_it(lab: Lab, place: Path, tmp_path: Path) -> None:
    user, password = lab.credentials
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        serving = subprocess.Popen(
            [COMMAND, lab.root_unc, str(place), "-o", f"username={user},foreground"],
            env={**os.environ, "PASSWD": password},
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    holding: subprocess.Popen[str] | None = None
    try:
        wait_until(lambda: b"is mounted on" in log.read_bytes(), "it is mounted")
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; read line"]
        holding = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holding.stdout is not None and holding.stdout.readline() == "ready\n"
        subprocess.run(["umount", str(place)], check=True, timeout=30)
        (found,) = [one for one in status() if one["mount"]["path"] == str(place)]
        assert not found["mount"]["attached"]
        (holder,) = found["holders"]
        assert holder == {"pid": holding.pid, "command": "sh", "processes": 1, "path": str(place)}
        shown = subprocess.run([DFSFS, "status"], capture_output=True, text=True, check=False, timeout=60).stdout
        assert f"{lab.root_unc} was taken away from {place}, and goes on\n" in shown
        assert f"  held by process {holding.pid} (sh), which has it on {place}\n" in shown
        told = f"was taken away from {place}, and goes on: 1 other mount namespaces hold a copy: process {holding.pid}"
        wait_until(lambda: told.encode() in log.read_bytes(), "the log says it")
    finally:
        if holding is not None:
            holding.communicate("\n", timeout=30)
        try:
            assert serving.wait(timeout=30) == 0, "it ends with the last copy"
        finally:
            serving.kill()
            serving.wait()


def test_and_so_does_one_with_open_files(lab: Lab, place: Path) -> None:
    assert mount(lab, place).returncode == 0
    with (place / "readme.txt").open("rb"):
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)
        (found,) = [one for one in status() if one["mount"]["path"] == str(place)]
        assert (found["mount"]["attached"], found["holders"], found["files"]["open"]) == (False, [], 1)
    wait_until(lambda: not daemons(place), "the daemon ends")


def status() -> list[dict[str, Any]]:
    """What all mounts say that answer. One of somebody else's may not, and is none of our business."""
    done = subprocess.run([DFSFS, "status", "--json"], capture_output=True, text=True, check=False, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found

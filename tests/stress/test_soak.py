"""A soak: a storm, with a server that dies now and then, after which a mount takes no more than it did before.

What counts is the difference between two moments at which nothing goes on: after a first storm, in which everything was
done once, and after the long one. With DFSFS_LONG=1 for half an hour.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import PATIENCE, mounted
from tests.stress.storm import ENDING, STUCK
from tests.stress.test_storm import dying
from tests.support.lab.samba import Lab, free_net
from tests.support.lab.variants import SHARES, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.lab, pytest.mark.mount]

FIRST, SECONDS = (60.0, 1800.0) if LONG else (5.0, 8.0)
LINK = "link-single"
QUIET = 8.0
"""Seconds until a mount that has nothing to do has given back what it can."""
GROWTH = 1.3
"""How much more memory there may be at the end."""
MORE = {"descriptors": 4, "threads": 8, "tasks": 12}
"""How many more there may be of what comes and goes: trio keeps threads for ten seconds."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(free_net(), topology=VARIANTS) as running:
        yield running


def storm(place: Path, disk: Path, seconds: float, more: Sequence[str] = ()) -> None:
    """Lets a storm rage, in which nothing may go wrong."""
    command = [sys.executable, "-m", "tests.stress.storm", str(place / LINK), "--seconds", str(seconds)]
    process = subprocess.Popen(
        [*command, "--server-side-dir", str(disk), *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=seconds + STUCK + ENDING + PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output


def taken(place: Path) -> dict[str, int]:
    """What the mount's process takes, by its own account."""
    command = [str(Path(sys.executable).parent / "dfsfs"), "status", "--json", str(place)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    found: dict[str, int] = json.loads(answer.stdout)[0]["process"]
    return found


def settled(place: Path, limits: dict[str, float]) -> dict[str, int]:
    """What the process takes as soon as that is within limits, or after some time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = taken(place)
        if all(found[name] <= limit for name, limit in limits.items()) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_what_a_mount_takes_does_not_grow(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("fs1")
    disk = host.share_path(SHARES[LINK])
    with mounted(lab, tmp_path / "m") as place:
        storm(place, disk, FIRST)
        time.sleep(QUIET)
        before = taken(place)
        with dying(host, tmp_path / "outages") as more:
            storm(place, disk, SECONDS, more)
        limits = {"own": GROWTH * before["own"], **{name: before[name] + count for name, count in MORE.items()}}
        after = settled(place, limits)
    print(f"before {before}\nafter  {after}")
    assert {name: after[name] for name, limit in limits.items() if after[name] > limit} == {}

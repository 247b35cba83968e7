"""A storm in every way in which a share can be mounted. A sample in each run; with DFSFS_LONG=1 for minutes each."""

from __future__ import annotations

import contextlib
import mmap
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG, SAMBAS
from tests.kernel.mounts import PATIENCE, mounted
from tests.stress.storm import ENDING, STUCK
from tests.stress.world import Outages
from tests.support.lab.samba import Lab, free_net
from tests.support.lab.variants import SHARES, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.lab.samba import LabHost

pytestmark = [pytest.mark.lab, pytest.mark.mount]

SECONDS = 300.0 if LONG else 5.0
AWAY, THERE = 1.0, 20.0 if LONG else 2.5
"""Seconds for which the server is away, and for which it is there, when it dies again and again."""


@dataclass(frozen=True)
class Way:
    """A way to mount; `link` is a DFS link of VARIANTS."""

    name: str
    options: str = ""
    link: str = "link-single"
    mounts: int = 1
    dies: bool = False


WAYS = (
    Way("default"),
    Way("cache-none", "cache=none"),
    Way("cache-loose", "cache=loose"),
    Way("no-leases", link="link-plain"),
    Way("actimeo-0", "actimeo=0"),
    Way("actimeo-60", "actimeo=60"),
    Way("no-leases-actimeo-0", "actimeo=0", "link-plain"),
    Way("no-leases-actimeo-60", "actimeo=60", "link-plain"),
    Way("two-mounts", mounts=2),
    Way("two-mounts-no-leases", link="link-plain", mounts=2),
    Way("server-dies", dies=True),
    Way("server-dies-no-leases", link="link-plain", dies=True),
)
SAMPLE = {
    "stable": {"default", "no-leases", "actimeo-0", "server-dies"},
    "backports": {"default", "cache-none"},
}
"""What each run has time for. Two mounts that replace the same names are not in it: see docs/semantics.md."""
RUNS = [(samba, way) for samba in SAMBAS for way in WAYS if LONG or way.name in SAMPLE[samba]]


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with VARIANTS, of the Samba that a test names."""
    with Lab(free_net(), topology=VARIANTS, samba=SAMBAS[request.param]) as running:
        yield running


@contextlib.contextmanager
def dying(host: LabHost, notes: Path) -> Iterator[Sequence[str]]:
    """A server that is killed and comes back, again and again; in `notes` is written when."""
    notes.write_bytes(bytes(16))
    with notes.open("r+b") as file:
        outages = Outages.from_buffer(mmap.mmap(file.fileno(), 16))
    ended = threading.Event()

    def kill_and_start() -> None:
        while not ended.wait(THERE):
            outages.changed()
            host.kill()
            ended.wait(AWAY)
            host.start()
            outages.changed()

    thread = threading.Thread(target=kill_and_start)
    thread.start()
    try:
        yield ("--outages", str(notes))
        assert outages.number >= 2, "the server was never away"
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(("lab", "way"), RUNS, indirect=["lab"], ids=[f"{way.name}-{samba}" for samba, way in RUNS])
def test_nothing_is_wrong_in_a_storm(lab: Lab, tmp_path: Path, way: Way) -> None:
    """0 wrong bytes, sizes and times, 0 lost lines, 0 unexpected errors, nothing left behind."""
    host, seconds = lab.host("fs1"), SECONDS * (2 if way.dies else 1)
    with contextlib.ExitStack() as stack:
        mounts = [
            stack.enter_context(mounted(lab, tmp_path / f"m{number}", way.options)) for number in range(way.mounts)
        ]
        more = stack.enter_context(dying(host, tmp_path / "outages")) if way.dies else ()
        storm = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.stress.storm", *(str(mount / way.link) for mount in mounts)),
                *("--seconds", str(seconds), "--server-side-dir", str(host.share_path(SHARES[way.link])), *more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = storm.communicate(timeout=seconds + STUCK + ENDING + PATIENCE)
        finally:
            storm.kill()
            storm.wait()
    print(output)
    assert storm.returncode == 0, output
    done = re.search(r"(\d+) operations", output)
    assert done is not None and int(done[1]) > 100 * SECONDS / 5

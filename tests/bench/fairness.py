"""The command `scripts/bench --fairness`: whether programs that never pause keep others waiting.

Four processes call stat(2) without a pause on names that the mount knows by a listing, so that most are answered
without asking the server. Beside them a program reads what only the server can answer for, and a task of the loop
wants to run every millisecond (tests/bench/watched.py). The same is measured without the four.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.mounts import PATIENCE, is_mounted
from tests.support.lab.samba import Lab, free_net

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.synchronize import Event

SECONDS = 10.0
PROGRAMS = 4
NAMES = 10_000
"""In the folder of each program: more than it can ask for while the kernel believes an answer."""
LARGE = 256 * 1024 * 1024
"""Bytes of the file of which parts are read."""
PAUSE = 0.001
"""Seconds between two reads: this program is one that does pause."""
LINK = "link-single"


@dataclass(frozen=True)
class Spread:
    """Of some times, in microseconds."""

    median: float
    late: float
    """One of a hundred is longer."""
    most: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        ordered = sorted(times)
        return cls(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])

    def __str__(self) -> str:
        return f"{self.median:9.0f}{self.late:9.0f}{self.most:9.0f}"


def _stat_without_a_pause(folder: str, ended: Event, counts: multiprocessing.Queue[int]) -> None:
    count = 0
    while not ended.is_set():
        for number in range(NAMES):
            os.stat(f"{folder}/{number}")
            count += 1
            if count % 100 == 0 and ended.is_set():
                break
    counts.put(count)


@contextlib.contextmanager
def _programs(folder: Path, number: int) -> Iterator[list[int]]:
    """Processes that call stat(2) all the while. The list says in the end how often each of them did."""
    ended, done = multiprocessing.Event(), list[int]()
    counts: multiprocessing.Queue[int] = multiprocessing.Queue()
    processes = [
        multiprocessing.Process(target=_stat_without_a_pause, args=(str(folder / f"known{index}"), ended, counts))
        for index in range(number)
    ]
    for process in processes:
        process.start()
    try:
        yield done
    finally:
        ended.set()
        done += [counts.get(timeout=PATIENCE) for _ in processes]
        for process in processes:
            process.join()


def _read(path: Path) -> list[float]:
    """Microseconds that each read of 4 KiB takes at a place of a file that is not in the page cache."""
    times, chance = list[float](), random.Random(1)
    end = time.monotonic() + SECONDS
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        while (begin := time.monotonic()) < end:
            os.pread(file.fileno(), 4096, chance.randrange(LARGE // 4096) * 4096)
            times.append((time.monotonic() - begin) * 1e6)
            time.sleep(PAUSE)
    return times


@contextlib.contextmanager
def _watched(lab: Lab, mountpoint: Path, notes: Path) -> Iterator[None]:
    user, password = lab.credentials
    words = [lab.root_unc, str(mountpoint), "-o", f"username={user}"]
    mountpoint.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.watched", str(notes), *words], env={**os.environ, "PASSWD": password}
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_mounted(mountpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the mount is not there")
            time.sleep(0.05)
        yield
    finally:
        subprocess.run(["umount", str(mountpoint)], check=False)
        process.wait(PATIENCE)


def measure(lab: Lab, scratch: Path, programs: int) -> list[str]:
    """Lines of the table for so many programs that call stat(2) without a pause."""
    mountpoint, notes = scratch / f"mount{programs}", scratch / f"notes{programs}"
    with _watched(lab, mountpoint, notes):
        folder = mountpoint / LINK
        os.listdir(folder)
        with _programs(folder, programs) as done:
            reads = Spread.of(_read(folder / "large"))
    pairs = [[float(word) for word in line.split()] for line in notes.read_text().splitlines()]
    what = f"{programs} programs, {sum(done) / SECONDS:.0f} stat/s" if programs else "nobody else"
    return [
        f"{what:32}{'a read that asks the server':32}{reads}",
        f"{'':32}{'the task is late by':32}{Spread.of([late for late, _ in pairs])}",
        f"{'':32}{'of it, no processor was free':32}{Spread.of([kernel for _, kernel in pairs])}",
    ]


def main() -> int:
    """Prints the table: microseconds, the median, what one of a hundred is above, and the most."""
    with Lab(free_net()) as lab, tempfile.TemporaryDirectory(prefix="dfsfs-bench-") as scratch:
        data = lab.host("fs1").share_path("data")
        for index in range(PROGRAMS):
            (data / f"known{index}").mkdir()
            for number in range(NAMES):
                (data / f"known{index}" / str(number)).touch()
        (data / "large").write_bytes(os.urandom(LARGE))
        owner = data.stat()
        subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", str(data)], check=True)
        print(f"{'microseconds':64}{'median':>9}{'99 %':>9}{'most':>9}")
        for programs in (0, PROGRAMS):
            print("\n".join(measure(lab, Path(scratch), programs)), flush=True)
    return 0

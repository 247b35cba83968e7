"""The command `scripts/memory`: how much memory a mount takes for large folders, known files and open ones.

Each work is done in a mount of its own, on a real Samba server. The figures are MiB when it was mounted, at the end of
the work, and when it has been idle for a while: of the whole process (VmRSS), of what is its own (RssAnon), as pages of
programs and libraries belong to all who have them, and at its most (VmHWM); and seconds of the processor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.mounts import daemons, mounted
from tests.support.lab.samba import Lab, free_net

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = "crowd"
DEFAULT = ["list:300000", "look:100000", "know:20000", "open:1000"]
IDLE = 12.0
"""Seconds after which a mount has given back what it does not need."""


@dataclass(frozen=True)
class Memory:
    """Of one process, in MiB."""

    resident: float
    own: float
    peak: float
    cpu: float
    """Seconds that it has computed."""

    @classmethod
    def of(cls, pid: int) -> Memory:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        times = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        resident, own, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM"))
        return cls(resident, own, peak, sum(map(int, times)) / os.sysconf("SC_CLK_TCK"))


def _list(folder: Path, count: int) -> None:
    with os.scandir(folder) as entries:
        found = sum(1 for _ in entries)
    assert found >= count, f"{found} of {count} entries"


def _know(folder: Path, count: int) -> None:
    """Has opened, read and closed so many files."""
    for number in range(count):
        with open(folder / name_of(number), "rb", buffering=0) as file:
            file.read(100)


def _look(folder: Path, count: int) -> None:
    """Has looked at so many files."""
    for number in range(count):
        os.stat(folder / name_of(number))


def _open(folder: Path, count: int) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(count):
            file = stack.enter_context(open(folder / name_of(number), "rb", buffering=0))
            file.read(100)


WORK: dict[str, Callable[[Path, int], None]] = {"list": _list, "look": _look, "know": _know, "open": _open}


def name_of(number: int) -> str:
    """The name of a file."""
    return f"document {number:06}.txt"


def measure(
    lab: Lab, place: Path, work: Callable[[Path, int], None], count: int
) -> Iterator[tuple[str, float, Memory]]:
    """What there was, in words, after how many seconds, and the memory of the mount then."""
    with mounted(lab, place) as mount:
        folder = mount / "link-single" / FOLDER
        os.stat(folder)
        (pid,) = daemons(place)
        began = time.monotonic()
        yield "mounted", 0.0, Memory.of(pid)
        work(folder, count)
        yield "done", time.monotonic() - began, Memory.of(pid)
        time.sleep(IDLE)
        yield "idle", time.monotonic() - began, Memory.of(pid)


def prepare(lab: Lab, count: int) -> None:
    """Makes a folder of so many files on the server."""
    folder = lab.host("fs1").share_path("data") / FOLDER
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / name_of(number)).write_bytes(b"some text\n")
    owner = folder.parent.stat()
    subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", str(folder)], check=True)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(prog="scripts/memory", description="How much memory a mount takes for many files.")
    what = f"of {', '.join(WORK)}, each with its number of files; default {' '.join(DEFAULT)}"
    made.add_argument("work", nargs="*", metavar="WORK:COUNT", default=DEFAULT, help=what)
    return made


def main() -> int:
    wanted = [(name, int(count)) for name, _, count in (word.partition(":") for word in parser().parse_args().work)]
    print(f"{'work':<16}{'when':<10}{'seconds':>8}{'cpu':>8}{'resident':>10}{'own':>8}{'peak':>8}")
    with Lab(free_net()) as lab, tempfile.TemporaryDirectory(prefix="dfsfs-memory-") as top:
        prepare(lab, max(count for _, count in wanted))
        for index, (name, count) in enumerate(wanted):
            for when, seconds, found in measure(lab, Path(top) / f"m{index}", WORK[name], count):
                sizes = f"{found.resident:10.0f}{found.own:8.0f}{found.peak:8.0f}"
                print(f"{f'{name} {count}':<16}{when:<10}{seconds:8.1f}{found.cpu:8.1f}{sizes}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

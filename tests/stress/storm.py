"""A storm: many processes work on the files of one directory, others only look, and nothing that anybody sees is wrong.

Of some files the process that works on them knows every byte (owned.py); others have a rule that holds whoever works on
them (common.py). The onlookers (onlookers.py) run beside, and make the kernel forget what it knows now and then.

Given several directories, which have to be the same one through several mounts, the processes are divided among them.
With --server-side-dir, the place of the directory on the server's disk, what is there in the end is compared as well.

    python -m tests.stress.storm DIR... [--seconds N] [--processes N] [--seed N] [--server-side-dir DISK] [--go-on]
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.stress.common import Confs, Logs, Names, Records
from tests.stress.onlookers import Onlookers, ignore_interrupts, is_left_over
from tests.stress.owned import LATE, Owned
from tests.stress.world import LOGS, NO_OPERATIONS, WORKERS, Difference, Process, Settings, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import ForkProcess

STUCK = 120.0
"""Seconds after which a call that has not returned never will."""
ENDING = 150.0
"""Seconds that the processes may take to end what they are about: less would blame an outage's time-outs."""
QUIET = 8.0
"""Seconds after which nothing of what was removed may be left on the server."""
MOST = 40
"""Differences of one process that are printed when it goes on."""
MIX = {"owned": 55, "logs": 15, "confs": 12, "records": 12, "names": 6}
"""How often each kind of file is worked on."""


def _work(world: World, number: int, locks: Path) -> None:
    """A process that works until it is told to stop, or finds a difference: exit status 1."""
    process = Process(world, number)
    owned, logs, names = Owned(process), Logs(process, locks), Names(process)
    steps = {
        "owned": owned.step,
        "logs": logs.step,
        "confs": Confs(process).step,
        "records": Records(process, world.settings.processes).step,
        "names": names.step,
    }

    def some() -> None:
        steps[process.chance.choices(list(MIX), list(MIX.values()))[0]]()

    _go_on(process, some)


def _look_on(world: World, number: int, kinds: Sequence[str]) -> None:
    process = Process(world, number)
    onlookers = Onlookers(process)
    try:
        _go_on(process, lambda: onlookers.look(process.chance.choice(kinds)))
    finally:
        onlookers.end()


def _go_on(process: Process, step: Callable[[], None]) -> None:
    ignore_interrupts()
    faulthandler.enable()
    told = 0
    while not process.world.stopped:
        try:
            step()
        except (Difference, OSError) as difference:
            process.begin("difference")
            told += 1
            text = str(difference) if isinstance(difference, Difference) else traceback.format_exc()
            if told <= MOST:
                print(text, flush=True)
            if not process.world.settings.go_on:
                process.world.stop()
    process.world.common.busy[process.number] = 0.0


class Storm:
    """The processes, from their start to what is left when they have ended."""

    def __init__(self, settings: Settings, disk: Path | None) -> None:
        self.world = World(settings)
        self._disk = disk
        mounts = len(settings.tops)
        last = (Process(self.world, number) for number in range(2 * WORKERS - mounts, 2 * WORKERS))
        self._last = {process.mount: process for process in last}
        """For each mount one that looks at what is left when the others have ended."""
        self.process = self._last[0]
        self._fork = multiprocessing.get_context("fork")
        self.failures: list[str] = []

    def run(self, seconds: float) -> None:
        """Lets it rage for so long, then looks at what is left; what was wrong is in `failures`."""
        with TemporaryDirectory(prefix="storm-") as locks:
            processes = self._start(Path(locks))
            try:
                self._watch(processes, time.monotonic() + seconds)
            finally:
                self.world.stop()
                self._end(processes)
            if self.world.total().get("difference"):
                self.failures.append("there were differences")
            if not self.failures or self.world.settings.go_on:
                self._look_at_the_end(Path(locks))

    def _start(self, locks: Path) -> dict[str, ForkProcess]:
        started: dict[str, ForkProcess] = {}
        settings = self.world.settings
        for number in range(settings.processes):
            started[f"worker {number}"] = self._fork.Process(target=_work, args=(self.world, number, locks))
        first = settings.processes
        mounts = len(settings.tops)
        first += -first % mounts
        looks = (("list",), ("list", "stat", "cat"), ("stat", "cat"), ("programs",), ("tail",), ("git",), ("inotify",))
        for mount in range(mounts):
            for place, kinds in enumerate((*looks, ("forget",)) if mount == 0 else looks[1:5]):
                number = first + place * mounts + mount
                name = f"onlooker {number} {kinds}"
                started[name] = self._fork.Process(target=_look_on, args=(self.world, number, kinds))
        for process in started.values():
            process.start()
        return started

    def _watch(self, processes: dict[str, ForkProcess], end: float) -> None:
        while time.monotonic() < end and not self.world.stopped:
            time.sleep(0.1)
            for name, process in processes.items():
                if process.exitcode is not None:
                    return  # its death is told by _end
                number = int(name.split()[1])
                busy = self.world.common.busy[number]
                if busy and time.monotonic() - busy > STUCK:
                    doing = self.world.common.doing[number].value.decode(errors="replace")
                    self.failures.append(f"{name} has been in this call for {STUCK:g} s: {doing}")
                    return

    def _end(self, processes: dict[str, ForkProcess]) -> None:
        deadline = time.monotonic() + ENDING
        for name, process in processes.items():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                doing = self.world.common.doing[int(name.split()[1])].value.decode(errors="replace")
                self.failures.append(f"{name} does not end; it is in {doing}")
                process.kill()
                process.join(10)
            elif process.exitcode < 0:
                number = int(name.split()[1])
                doing = self.world.common.doing[number].value.decode(errors="replace")
                self.failures.append(f"{name} died of {signal.Signals(-process.exitcode).name} in {doing}")
            elif process.exitcode:
                self.failures.append(f"{name} ended with status {process.exitcode}")

    # -- afterwards -------------------------------------------------------------------------------------------------

    def _look_at_the_end(self, locks: Path) -> None:
        """With nobody at work: every file through every mount, and on the server's disk."""
        for log in range(LOGS):
            process = self._last[log % len(self._last)]
            self._try(lambda log=log, process=process: Logs(process, locks).check(log, process.top / f"log{log}"))  # type: ignore[misc]
        for top in self.world.settings.tops:
            for index, file in enumerate(self.world.files):
                expected = file.held()
                for name in (0, 1):
                    path = top / f"f{index:03}-{'ab'[name]}"
                    wanted = expected if name == file.name else None
                    self._same(path, wanted, file.history())
        if self._disk is not None:
            self._look_at_the_disk(self._disk)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (Difference, OSError) as error:
            self.failures.append(str(error))

    def _same(self, path: Path, wanted: bytes | None, history: Sequence[str]) -> None:
        deadline = time.monotonic() + LATE
        while (got := self._read(path)) != wanted and time.monotonic() < deadline:
            time.sleep(0.1)  # what was done through another mount
        if got != wanted:
            sizes = " and ".join("nothing" if data is None else f"{len(data)} bytes" for data in (got, wanted))
            self.failures.append("\n    ".join((f"at the end, {path}: {sizes} (there, and expected)", *history)))

    def _read(self, path: Path) -> bytes | None:
        try:
            return self.process.recover(path.read_bytes)
        except FileNotFoundError:
            return None

    def _look_at_the_disk(self, disk: Path) -> None:
        deadline = time.monotonic() + QUIET
        while left := [path for path in disk.rglob("*") if is_left_over(path.name)]:
            if time.monotonic() > deadline:
                self.failures.append(f"left behind on the server: {left[:10]}, {len(left)} in all")
                break
            time.sleep(0.1)
        for index, file in enumerate(self.world.files):
            if file.exists:
                self._same(disk / f"f{index:03}-{'ab'[file.name]}", file.held(), file.history())
        listed = self.process.recover(lambda: set(os.listdir(self.world.settings.tops[0])))
        there = {path.name for path in disk.iterdir()}
        if listed != {name for name in there if not is_left_over(name)}:
            self.failures.append(f"listed and on the disk are two things: {sorted(listed ^ there)}")


def prepare(world: World) -> None:
    """The files that are there from the beginning."""
    for top in world.settings.tops[:1]:
        for conf in range(len(world.conf_locks)):
            (top / f"conf{conf}").write_bytes(b"%08d " % 1 * (60 + 37))
            world.common.conf_announced[conf] = world.common.conf_published[conf] = 1


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.storm", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--files", type=int, default=24, help="how many owned files there are")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--server-side-dir", type=Path, metavar="DISK")
    parser.add_argument("--outages", type=Path, help="a file in which is written when the server goes and comes")
    parser.add_argument("--go-on", action="store_true", help="count differences instead of stopping at the first one")
    options = parser.parse_args(arguments)
    if not 0 < options.processes <= WORKERS:
        parser.error(f"there may be 1 to {WORKERS} processes")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_of(arguments)
    name = f"storm-{os.getpid()}-{options.seed}"
    tops = [directory.absolute() / name for directory in options.directories]
    settings = Settings(tops, options.seed, options.processes, options.files, options.go_on, options.outages)
    disk = options.server_side_dir / name if options.server_side_dir is not None else None
    print(f"seed {options.seed}", flush=True)
    tops[0].mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, tops[0], ignore_errors=True)
        storm = Storm(settings, disk)
        prepare(storm.world)
        for top in tops[1:]:
            os.listdir(top)
        storm.run(options.seconds)
        if not storm.failures:
            storm.process.recover(lambda: shutil.rmtree(tops[0]))  # has to work
    counts = storm.world.total()
    done = sum(count for kind, count in counts.items() if kind not in NO_OPERATIONS)
    print(f"{done} operations:", ", ".join(f"{kind} {count}" for kind, count in counts.items()))
    for failure in storm.failures:
        print("FAILED:", failure)
    return 1 if storm.failures else 0


if __name__ == "__main__":
    sys.exit(main())

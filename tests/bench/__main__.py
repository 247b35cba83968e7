"""The command `scripts/bench`: how fast dfsfs is, beside every other client that this machine has.

Each workload is run by each client in turn, several times, each time on a fresh mount of the same share of the same
server; what counts is the median. The share lies behind a DFS link; rclone, which knows no DFS, is given its address.

Exit status: 0 if dfsfs did everything, 1 if it did not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import fairness
from tests.bench.clients import ClientError, FuseClient, Place, all_clients, cpu_seconds, peak_memory, smbclient
from tests.bench.workloads import SERVER_SIDE, WORKLOADS, Scale, Workload
from tests.support.lab.samba import Lab, free_net

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REFERENCE = "smbclient"
PROXY = 70
"""Last octet of the address of the delaying proxy."""


@dataclass
class Row:
    """What one client did in one workload."""

    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Microseconds of the client's processor time for each unit."""
    memory: float = 0.0
    error: str = ""

    @property
    def rate(self) -> float | None:
        return statistics.median(self.rates) if self.rates and not self.error else None


@dataclass(frozen=True)
class Bench:
    """One lab, one line to it, and where things lie."""

    lab: Lab
    place: Place
    local: Path
    mounts: Path
    scale: Scale
    limit: float

    def measure(self, client: FuseClient | None, workload: Workload, row: Row) -> None:
        """Runs a workload once; None stands for smbclient."""
        prepared = self.lab.host("fs1").share_path("data") / SERVER_SIDE
        self._prepare(workload, prepared)
        try:
            if client is None:
                assert workload.smbclient is not None
                commands = workload.smbclient(self.scale, self.local)
                begin = time.monotonic()
                smbclient(self.place, f"cd {SERVER_SIDE}; {commands}")
                self._add(row, self.scale.large, time.monotonic() - begin)
                return
            folder = self.mounts / f"{client.name}-{time.monotonic_ns()}"
            folder.mkdir()
            with client.mounted(self.place, folder) as path:
                os.listdir(path)  # so that every client has its connections, and has followed the link
                cpu, begin = cpu_seconds(folder), time.monotonic()
                amount = workload.run(path / SERVER_SIDE, self.local, self.scale)
                self._wait_for(workload, prepared, begin)
                self._add(row, amount, time.monotonic() - begin)
                row.cpu.append((cpu_seconds(folder) - cpu) / amount * 1e6)
                row.memory = max(row.memory, peak_memory(folder))
        except (ClientError, OSError, subprocess.CalledProcessError) as error:
            row.error = _in_short(error)
        finally:
            shutil.rmtree(prepared, ignore_errors=True)

    def _wait_for(self, workload: Workload, folder: Path, begin: float) -> None:
        while not workload.landed(folder, self.scale):
            if time.monotonic() - begin > self.limit:
                raise ClientError("the server never got everything")
            time.sleep(0.01)

    def _add(self, row: Row, amount: float, seconds: float) -> None:
        row.rates.append(amount / seconds)
        row.seconds.append(seconds)
        if seconds > self.limit:
            row.error = f"took {seconds:.0f} s"

    def _prepare(self, workload: Workload, folder: Path) -> None:
        owner = folder.parent.stat()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        workload.prepare(folder, self.scale)
        subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", str(folder)], check=True)
        subprocess.run(["sync", "-f", str(folder)], check=True)


def _in_short(error: Exception) -> str:
    """An error in a line; of a program that failed, its own first line."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"{error.cmd[0]}: {said[0] if said else f'status {error.returncode}'}"
    return str(error)


@contextlib.contextmanager
def line(lab: Lab, delay: float, rate: float) -> Iterator[str]:
    """The address at which fs1 is to be found: its own, or that of a proxy that delays."""
    if not delay:
        yield lab.address("fs1")
        return
    address = f"{lab.net}.{PROXY}"
    command = [sys.executable, "-m", "tests.bench.delay", address, lab.address("fs1"), str(delay), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proxy:
        assert proxy.stdout is not None
        proxy.stdout.readline()
        try:
            yield address
        finally:
            proxy.terminate()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="scripts/bench", description="dfsfs beside other SMB clients, in one run.")
    names = ", ".join(workload.name for workload in WORKLOADS)
    made.add_argument("--peers", action="store_true", help="install the other clients (apt)")
    made.add_argument("--before", type=Path, help="a checkout of dfsfs with a .venv, to compare with: client before")
    made.add_argument("--clients", help="only these, comma separated; smbclient is one of them")
    made.add_argument("--workloads", help=f"only these, comma separated, of: {names}")
    made.add_argument("--rounds", type=int, default=3, help="how often each is run; default 3")
    made.add_argument("--size", type=int, default=1024, help="MiB of the large file; default 1024")
    made.add_argument("--files", type=int, default=2000, help="number of small files; default 2000")
    made.add_argument("--seal", action="store_true", help="encrypt")
    made.add_argument("--delay", type=float, default=0, help="milliseconds of round trip to add")
    made.add_argument("--rate", type=float, default=1000, help="Mbit/s of the line with a delay; default 1000")
    made.add_argument("--limit", type=float, default=120, help="seconds after which a client is not tried again")
    made.add_argument("--fairness", action="store_true", help="whether programs that never pause keep others waiting")
    made.add_argument("--json", type=Path, help="write the figures to this file, too")
    return made


def main() -> int:
    options = parser().parse_args()
    if options.fairness:
        return fairness.main()
    clients = all_clients(options.before)
    if options.peers:
        packages = [package for client in clients for package in client.packages]
        subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], check=True)
    chosen = options.clients.split(",") if options.clients else [REFERENCE, *(client.name for client in clients)]
    for client in clients:
        if client.name in chosen and (missing := client.missing()):
            print(f"{client.name}: not installed ({missing}); --peers installs it", file=sys.stderr)
            chosen.remove(client.name)
    wanted = options.workloads.split(",") if options.workloads else [workload.name for workload in WORKLOADS]
    workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    if len(workloads) != len(wanted):
        print(f"scripts/bench: no such workload among {', '.join(wanted)}", file=sys.stderr)
        return 2
    scale = Scale(large=options.size, copied=options.size // 4, small=options.files)
    rows: dict[str, dict[str, Row]] = {}
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(free_net()))
        address = stack.enter_context(line(lab, options.delay, options.rate))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dfsfs-bench-")))
        (scratch / "local").mkdir()
        (scratch / "mounts").mkdir()
        (lab.host("ns1").share_path("dfs") / "bench").symlink_to(f"msdfs:{address}\\data")
        user, password = lab.credentials
        place = Place(lab.root_unc, "bench", address, "data", user, password, options.seal)
        bench = Bench(lab, place, scratch / "local", scratch / "mounts", scale, options.limit)
        print(header(chosen), flush=True)
        for workload in workloads:
            rows[workload.name] = measured(bench, workload, clients, chosen, options.rounds)
            print(shown(workload, rows[workload.name], chosen), flush=True)
    print("\nmicroseconds of processor time for each unit\n" + header(chosen))
    for workload in workloads:
        print(shown_cpu(workload, rows[workload.name], chosen))
    print("\nMiB of memory at the most\n" + header(chosen))
    for workload in workloads:
        print(shown_memory(workload, rows[workload.name], chosen))
    for name, row in rows.items():
        for client_name, result in row.items():
            if result.error:
                print(f"{name}, {client_name}: {result.error}")
    if options.json:
        conditions = {key: str(value) for key, value in vars(options).items()}
        figures = {name: {client: asdict(one) for client, one in row.items()} for name, row in rows.items()}
        options.json.write_text(json.dumps({"options": conditions, "rows": figures}, indent=1))
    return int(any(row["dfsfs"].error for row in rows.values() if "dfsfs" in row))


def measured(
    bench: Bench, workload: Workload, clients: list[FuseClient], chosen: list[str], rounds: int
) -> dict[str, Row]:
    """One workload by all clients, taking turns."""
    rows = {name: Row() for name in chosen if name != REFERENCE or workload.smbclient is not None}
    by_name: dict[str, FuseClient | None] = {client.name: client for client in clients}
    for _ in range(rounds):
        for name, row in rows.items():
            if not row.error:
                bench.measure(by_name.get(name), workload, row)
    return rows


def header(chosen: list[str]) -> str:
    return f"{'':12} {'':10}" + "".join(f"{name:>11}" for name in chosen) + f"{'of best':>9}{'MiB':>6}"


def shown(workload: Workload, rows: dict[str, Row], chosen: list[str]) -> str:
    """A line of the table: medians, dfsfs in parts of the best other FUSE client, and its memory at its peak."""
    text = _line(workload, workload.unit, (_shown_rate(rows.get(name)) for name in chosen))
    own = rows["dfsfs"] if "dfsfs" in rows else Row()
    ours = ("dfsfs", "pyfuse3", "before", REFERENCE)
    others = [rate for name, row in rows.items() if name not in ours and (rate := row.rate)]
    ratio = f"{own.rate / max(others):.2f}" if own.rate and others else ""
    return text + f"{ratio:>9}{own.memory:6.0f}"


def _shown_rate(row: Row | None) -> str:
    return "-" if row is None else "fails" if row.rate is None else f"{row.rate:.0f}"


def shown_cpu(workload: Workload, rows: dict[str, Row], chosen: list[str]) -> str:
    """A line of the table of processor time: medians."""
    used = (rows[name].cpu if name in rows else [] for name in chosen)
    return _line(workload, workload.unit, (f"{statistics.median(cpu):.0f}" if cpu else "-" for cpu in used))


def shown_memory(workload: Workload, rows: dict[str, Row], chosen: list[str]) -> str:
    """A line of the table of memory: the most of all rounds."""
    used = (rows[name].memory if name in rows else 0.0 for name in chosen)
    return _line(workload, "MiB", (f"{most:.0f}" if most else "-" for most in used))


def _line(workload: Workload, unit: str, cells: Iterable[str]) -> str:
    return f"{workload.name:12} {unit:10}" + "".join(f"{cell:>11}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())

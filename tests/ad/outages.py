"""How long programs wait, and what they get, when a server of the domain is gone: measured on real mounts.

    .venv/bin/python -m tests.ad.outages         writes the table into docs/semantics.md; a quarter of an hour

Each case has three mounts for each way to log in: one where the link was entered before, one where it was not, and one
that is made while the servers are gone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ad.mounts import mounted
from tests.support.lab.domain.lab import DomainLab
from tests.support.lab.topology import ALICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.lab.domain.servers import DomainHost

SEMANTICS = Path(__file__).parents[2] / "docs" / "semantics.md"
BEGIN, END = "<!-- outages: begin -->\n", "<!-- outages: end -->\n"
LOGINS = {"password": f"username={ALICE.name},domain=CONTOSO", "Kerberos": "sec=krb5"}
LOOKS = 16
"""Times that a link in use is looked at, LOOK_PAUSE seconds apart: longer than names and attributes are believed."""
LOOK_PAUSE = 0.25
PATIENCE = 90.0


@dataclass(frozen=True)
class Outage:
    """`hosts` are gone. `used` and `new` are files behind a link that is in use, and behind one that is not."""

    name: str
    hosts: tuple[str, ...]
    used: str
    new: str


OUTAGES = {
    outage.name: outage
    for outage in (
        Outage("a controller", ("dc1",), "dir/one/hello.txt", "alone/hello.txt"),
        Outage("both controllers", ("dc1", "dc2"), "dir/one/hello.txt", "alone/hello.txt"),
        Outage("the root's first target", ("fs1",), "alone/hello.txt", "sealed/hello.txt"),
        Outage("another member", ("fs2",), "dir/one/hello.txt", "docs/hello.txt"),
        Outage("the link's first target", ("fs1",), "docs/hello.txt", "docs/hello.txt"),
    )
}


@dataclass(frozen=True)
class Wait:
    """The longest time that a program waited, in seconds, and what it got: a word for people."""

    seconds: float
    got: str

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s{'' if self.got == 'data' else f', {self.got}'}"


@dataclass(frozen=True)
class Row:
    """One case."""

    outage: str
    fault: str
    login: str
    used: Wait
    new: Wait
    mount: Wait


def _break(host: DomainHost, fault: str) -> None:
    {"dead": host.kill, "hanging": host.pause, "cut": host.cut}[fault]()


def _mend(host: DomainHost, fault: str) -> None:
    {"dead": host.launch, "hanging": host.resume, "cut": host.heal}[fault]()


@contextlib.contextmanager
def broken(lab: DomainLab, names: Sequence[str], fault: str) -> Iterator[None]:
    """The hosts are gone for the length of the block; they, and who depends on them, answer when it ends."""
    hosts = [lab.hosts[name] for name in names]
    try:
        for host in hosts:
            _break(host, fault)
        yield
    finally:
        for host in hosts:
            _mend(host, fault)
        for host in lab.servers:
            host.wait_ready()


def timed(read: Callable[[], bytes]) -> Wait:
    """One read, in a thread of its own: it can't be interrupted."""
    results: queue.Queue[str] = queue.Queue()

    def work() -> None:
        try:
            results.put("data" if read() else "nothing")
        except OSError as error:
            results.put(error.strerror or str(error))

    begun = time.monotonic()
    threading.Thread(target=work, daemon=True).start()
    try:
        got = results.get(timeout=PATIENCE)
    except queue.Empty:
        got = "no answer"
    return Wait(time.monotonic() - begun, got)


def forget_names(mount: Path) -> None:
    """Has the kernel drop what it knows of names below a mount, as it does when memory is short."""
    # The newer calls for it, which mount(8) of Debian 13 prefers, can't do it for FUSE.
    by_mount2 = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}
    subprocess.run(["mount", "-i", "-o", "remount", str(mount)], check=True, timeout=PATIENCE, env=by_mount2)


def worst(waits: Sequence[Wait]) -> Wait:
    """The longest; a failure before any success."""
    return max(waits, key=lambda wait: (wait.got != "data", wait.seconds))


def in_use(mount: Path, file: str) -> Wait:
    """Reads a file behind a link that was entered again and again, also after the kernel has forgotten the way."""
    waits = []
    for number in range(LOOKS):
        if number % 4 == 1:
            forget_names(mount)
        waits.append(timed((mount / file).read_bytes))
        time.sleep(LOOK_PAUSE)
    return worst(waits)


@contextlib.contextmanager
def mounts(lab: DomainLab, outage: Outage, logins: Sequence[str]) -> Iterator[list[tuple[Path, Path]]]:
    """For each way to log in a mount whose link is in use, and one whose link is not."""
    with contextlib.ExitStack() as stack:
        made = []
        for login in logins:
            password = ALICE.password if login == "password" else ""
            used, new = (
                stack.enter_context(mounted(lab, options=LOGINS[login], name=f"{kind}-{login}", password=password))
                for kind in ("used", "new")
            )
            (used / outage.used).read_bytes()
            made.append((used, new))
        yield made


def mount_anew(lab: DomainLab, login: str, stack: contextlib.ExitStack) -> Wait:
    """How long it takes to mount, and to list the namespace's root. The stack unmounts."""
    begun = time.monotonic()
    password = ALICE.password if login == "password" else ""
    try:
        place = stack.enter_context(mounted(lab, options=LOGINS[login], name=f"late-{login}", password=password))
    except AssertionError as error:
        return Wait(time.monotonic() - begun, str(error))
    listed = timed(lambda: " ".join(os.listdir(place)).encode())
    return Wait(time.monotonic() - begun, listed.got)


def measure(lab: DomainLab, name: str, fault: str, logins: Sequence[str] = tuple(LOGINS)) -> list[Row]:
    """One case: a row for each way to log in, all measured at the same time."""
    outage = OUTAGES[name]
    with mounts(lab, outage, logins) as made, contextlib.ExitStack() as late:
        with broken(lab, outage.hosts, fault), ThreadPoolExecutor() as threads:
            begun = [
                (
                    threads.submit(in_use, used, outage.used),
                    threads.submit(timed, (new / outage.new).read_bytes),
                    threads.submit(mount_anew, lab, login, late),
                )
                for login, (used, new) in zip(logins, made, strict=True)
            ]
            rows = [
                Row(name, fault, login, *(wait.result() for wait in waits))
                for login, waits in zip(logins, begun, strict=True)
            ]
        # Nothing hangs in a mount that is to be unmounted.
        for used_mount, new_mount in made:
            timed((used_mount / outage.used).read_bytes)
            timed((new_mount / outage.new).read_bytes)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    head = "| gone | how | login | a link in use | a new link | a new mount |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row.outage} | {row.fault} | {row.login} | {row.used} | {row.new} | {row.mount} |\n" for row in rows
    )


def main() -> None:
    rows: list[Row] = []
    with DomainLab() as lab:
        lab.login(ALICE, uid=0)
        for name in OUTAGES:
            for fault in ("dead", "hanging", "cut"):
                rows += measure(lab, name, fault)
                for row in rows[-len(LOGINS) :]:
                    print(row, flush=True)
    before, rest = SEMANTICS.read_text().split(BEGIN)
    SEMANTICS.write_text(before + BEGIN + table(rows) + END + rest.split(END)[1])


if __name__ == "__main__":
    main()

"""Programs that wait for a Samba that is stopped, and get a signal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.kernel.calls import KINDS, MANY, MAPS, PIECE, WRITES
from tests.kernel.mounts import mounted, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab, LabHost

pytestmark = [pytest.mark.lab, pytest.mark.mount]

SOON = 5.0
"""Seconds within which who got a signal is gone. It takes 0.1; the machine of the tests may be busy."""
STEADY = 20
"""Looks at programs, 0.01 s apart, in which they do not move."""
OPTIONS = "actimeo=60,timeout=120"
"""The kernel knows names, so that it is the calls that wait; and a server's silence is no reason to give it up."""
CROWD = 200
"""Programs. There are more requests then than are read at a time."""
DFSFS = str(Path(sys.executable).parent / "dfsfs")


class Programs:
    """Programs of calls.py, which are ready."""

    def __init__(self, folder: Path, how: str, *kinds: str) -> None:
        words = [sys.executable, "-m", "tests.kernel.calls", str(folder), how, *kinds]
        self._parent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._count = len(kinds)
        self.kinds: dict[int, str] = {}
        """By process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for pid in self.kinds:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # they are not waited for by their parent before it ends, so it is they
        self._parent.kill()
        self._parent.communicate()

    def make(self) -> Self:
        """Has them opened what they need."""
        assert self._read() == ["made"]
        self._write("\n")
        for _ in range(self._count):
            word, pid, kind = self._read()
            assert word == "ready"
            self.kinds[int(pid)] = kind
        return self

    def go(self) -> None:
        """They make their calls; returns when all of them wait."""
        self._write("\n" * self._count)
        for _ in range(self._count):
            word, pid, *outcome = self._read()
            assert word == "going", f"{self.kinds[int(pid)]} has not waited for the server: {outcome}"
        self.stay()

    def stay(self) -> None:
        """Returns when it is sure that all of them wait."""
        looks: list[list[str]] = []

        def all_stay() -> bool:
            looks.append([_syscall(pid) for pid in self.kinds])
            ended = [kind for kind, look in zip(self.kinds.values(), looks[-1], strict=True) if look == "gone\n"]
            assert not ended, f"they do not wait for the server: {ended}, {self._read()}"
            last = looks[-STEADY:]
            return len(last) == STEADY and all(look == last[0] for look in last) and "running\n" not in last[0]

        wait_until(all_stay, "they wait for the server")

    def signal(self, number: int) -> dict[str, float]:
        """Sends a signal to all of them, and says after how many seconds each was gone, by its kind and number."""
        poll, descriptors = select.poll(), {}
        for pid in self.kinds:
            descriptors[os.pidfd_open(pid)] = pid
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        begun = time.monotonic()
        for descriptor in descriptors:
            signal.pidfd_send_signal(descriptor, number)
        times = {}
        while descriptors and (ready := poll.poll(max(0.0, begun + SOON - time.monotonic()) * 1000)):
            for descriptor, _ in ready:
                poll.unregister(descriptor)
                pid = descriptors.pop(descriptor)
                os.close(descriptor)
                times[f"{self.kinds[pid]} {pid}"] = time.monotonic() - begun
        left = {pid: self.kinds[pid] for pid in descriptors.values()}
        if times:
            middle, last = statistics.median(times.values()), max(times, key=times.__getitem__)
            print(f"{signal.Signals(number).name}: {middle:.3f} s, at most {times[last]:.3f} s ({last})")
        for descriptor in descriptors:
            os.close(descriptor)
        assert not left, f"they still wait: {left}: " + "; ".join(f"{pid}: {_syscall(pid)}" for pid in left)
        return times

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        for pid in self.kinds:
            os.kill(pid, signal.SIGINT)

    def outcomes(self) -> dict[str, str]:
        """What the calls of those that live have come to, by kind, when all are done."""
        found = {}
        assert self._parent.stdout is not None
        for _ in self.kinds:
            line = self._parent.stdout.readline()
            word, pid, outcome = line.rstrip("\n").split(maxsplit=2)
            assert word == "ended"
            found[self.kinds[int(pid)]] = outcome
        self.kinds.clear()
        return found

    def _read(self) -> list[str]:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline().split()

    def _write(self, text: str) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(text)
        self._parent.stdin.flush()


@dataclass(frozen=True, slots=True)
class Held:
    """What a mount has in use, and the server for it."""

    files: int
    folders: int
    in_flight: int
    queued: int
    tasks: int
    opens: int
    """Files and folders that the server has open."""

    @classmethod
    def of(cls, mount: Path, host: LabHost) -> Held:
        told = json.loads(
            subprocess.run([DFSFS, "status", str(mount), "--json"], capture_output=True, check=True).stdout
        )
        status = told[0] if isinstance(told, list) else told
        sessions = status["sessions"]
        words = ["smbstatus", "-s", str(host.smb_conf), "--locks", "--fast", "--json"]
        opened = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)["open_files"]
        return cls(
            status["files"]["open"],
            status["files"]["open_folders"],
            sum(session["in_flight"] for session in sessions),
            sum(session["queued"] for session in sessions),
            status["process"]["tasks"],
            sum(len(file["opens"]) for file in opened.values()),
        )


def _syscall(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/syscall").read_text() or "gone\n"
    except OSError:
        return "gone\n"


@pytest.fixture(scope="module")
def mount(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(lab, tmp_path_factory.mktemp("mounts") / "dfs", OPTIONS) as path:
        yield path


class Servers:
    """The server of the namespace, which is asked for statfs, and the one behind link-single."""

    def __init__(self, *hosts: LabHost) -> None:
        self._hosts = hosts

    def pause(self) -> None:
        for host in self._hosts:
            host.pause()

    def resume(self) -> None:
        for host in self._hosts:
            host.resume()


@pytest.fixture
def servers(lab: Lab) -> Iterator[Servers]:
    """At the end they go on."""
    found = Servers(lab.host("ns1"), lab.host("fs1"))
    try:
        yield found
    finally:
        found.resume()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_the_wait(work: Path, servers: Servers, number: int) -> None:
    with Programs(work, "default", *KINDS, *MAPS) as programs:
        programs.make()
        servers.pause()
        programs.go()
        programs.signal(number)
        servers.resume()


def test_a_program_that_handles_sigint_gets_a_keyboard_interrupt(work: Path, servers: Servers, lab: Lab) -> None:
    """And what its writes have taken is on the server in the end."""
    with Programs(work, "handle", *KINDS) as programs:
        programs.make()
        servers.pause()
        programs.go()
        begun = time.monotonic()
        programs.interrupt()
        outcomes = programs.outcomes()
        print(f"all of them after {time.monotonic() - begun:.3f} s")
        assert not {kind: text for kind, text in outcomes.items() if not text.startswith("KeyboardInterrupt")}
        taken = {kind: int(outcomes[kind].split()[1]) for kind in WRITES}
        assert taken["write"] >= 1 << 20 and taken["fsync"] == taken["close"] == len(PIECE)
        servers.resume()
        for kind, size in taken.items():
            file = on_server(lab, work) / f"{KINDS.index(kind)}-{kind}" / "file"
            wait_until(lambda: file.read_bytes()[:size] == b"x" * size, f"what {kind} has taken is there")  # noqa: B023


@pytest.mark.parametrize("end", ["fsync", "close"])
def test_what_a_killed_program_has_written_is_sent(work: Path, servers: Servers, lab: Lab, end: str) -> None:
    with Programs(work, "default", end) as programs:
        programs.make()
        servers.pause()
        programs.go()
        programs.signal(signal.SIGKILL)
        servers.resume()
        wait_until(lambda: (on_server(lab, work) / f"0-{end}" / "file").read_bytes() == PIECE, "it is there")


def on_server(lab: Lab, work: Path) -> Path:
    """A folder in link-single as others see it."""
    return lab.host("fs1").share_path("data") / work.name


def test_a_page_fault_does_not_fail_because_of_a_handled_signal(work: Path, servers: Servers) -> None:
    """It would be SIGBUS, or EFAULT of the call that meets it."""
    with Programs(work, "handle", *MAPS) as programs:
        programs.make()
        servers.pause()
        programs.go()
        programs.interrupt()
        programs.stay()
        servers.resume()
        assert programs.outcomes() == dict.fromkeys(MAPS, "KeyboardInterrupt")


def test_a_timer_disturbs_nothing(work: Path, servers: Servers) -> None:
    with Programs(work, "timer", *KINDS, *MAPS) as programs:
        programs.make()
        servers.pause()
        programs.go()
        servers.resume()
        outcomes = programs.outcomes()
    assert len(outcomes) == len(KINDS) + len(MAPS)
    assert not {name: text for name, text in outcomes.items() if text.startswith("E")}
    assert {outcomes[kind] for kind in ("read", "read_direct", *MAPS)} == {"True"}
    assert outcomes["write"] == str(64 << 20) and outcomes["readdir"] == str(MANY)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_two_hundred_programs_leave_nothing_behind(
    lab: Lab, mount: Path, work: Path, servers: Servers, number: int
) -> None:
    kinds = [KINDS[index % len(KINDS)] for index in range(CROWD)]

    def round_of(name: str) -> None:
        (work / name).mkdir()
        with Programs(work / name, "default", *kinds) as programs:
            programs.make()
            held = Held.of(mount, lab.host("fs1"))
            assert held.files and held.folders and held.opens >= held.files
            servers.pause()
            programs.go()
            programs.signal(number)
            servers.resume()

    round_of("first")
    before = settled(mount, lab.host("fs1"))
    round_of("second")
    after = settled(mount, lab.host("fs1"))
    assert after == replace(before, tasks=after.tasks)
    assert after.tasks <= before.tasks, "a task of the mount's start may have ended meanwhile"


def settled(mount: Path, host: LabHost) -> Held:
    """What is held as soon as it does not change any more."""
    looks = [Held.of(mount, host)]

    def is_quiet() -> bool:
        looks.append(Held.of(mount, host))
        return looks[-1] == looks[-2] and not looks[-1].in_flight

    wait_until(is_quiet, "all is quiet")
    print(looks[-1])
    return looks[-1]

"""Going to the background, with real processes: each test runs a small program that calls run_in_background."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
PATIENCE = 20.0
"""Seconds that any step of a test may take on a busy machine."""

PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from dfsfs.cli.daemon import run_in_background
from dfsfs.cli.messages import Verdict

place = Path(sys.argv[1])

def note(name, text=""):
    (place / (name + ".tmp")).write_text(str(text))
    (place / (name + ".tmp")).rename(place / name)

def serve(on_ready):
    note("child", os.getpid())
{body}

verdict = run_in_background(serve, timeout={timeout}, grace=1.0)
print(json.dumps([verdict.code, verdict.text]))
"""


def start(
    place: Path, body: str, *, timeout: float = PATIENCE, before: str = "", **options: Any
) -> subprocess.Popen[str]:
    program = before + PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "), timeout=timeout)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(place)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The parent's verdict. Waits until nobody holds its stdout and stderr any more."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    code, text = json.loads(out.splitlines()[-1])
    return code, text


def read(place: Path, name: str) -> str:
    """What the child has noted under a name, as soon as it is there."""
    end = time.monotonic() + PATIENCE
    while not (place / name).exists():
        assert time.monotonic() < end, f"the child did not come to {name}"
        time.sleep(0.01)
    return (place / name).read_text()


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.01)


def test_the_parent_returns_when_the_child_is_ready_and_the_child_lives_on(tmp_path: Path) -> None:
    inherited = os.open(os.devnull, os.O_RDONLY)
    body = """
        on_ready()
        note("session", [os.getsid(0), os.getpid()])
        note("cwd", os.getcwd())
        note("files", json.dumps({fd: os.readlink("/proc/self/fd/" + fd) for fd in "012"}))
        note("open", json.dumps(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))))
        while not (place / "stop").exists():
            time.sleep(0.01)
        note("end")
        return Verdict(0)
    """
    process = start(tmp_path, body, pass_fds=[inherited])
    os.close(inherited)
    try:
        assert outcome(process) == (0, "")
        pid = int(read(tmp_path, "child"))
        assert read(tmp_path, "session") == str([pid, pid])
        assert read(tmp_path, "cwd") == "/"
        assert set(json.loads(read(tmp_path, "files")).values()) == {"/dev/null"}
        # The fourth is that of the listing itself.
        assert json.loads(read(tmp_path, "open")) == [0, 1, 2, 3]
    finally:
        (tmp_path / "stop").touch()
    read(tmp_path, "end")
    wait_until_gone(pid)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return Verdict(32, 'no such share')", (32, "no such share")),
        ("return Verdict(1, 'ünï \\udce4\\n')", (1, "ünï \udce4\n")),
        ("return Verdict(32, 'x' * 100_000)", (32, "x" * 8192)),
        ("return Verdict(0)", (32, "ended before the mount was ready")),
        ("raise RuntimeError('odd')", (2, "the background process ended with code 2 and gave no reason")),
        ("sys.exit(7)", (2, "the background process ended with code 2 and gave no reason")),
        ("os._exit(3)", (2, "the background process ended with code 3 and gave no reason")),
        ("os.kill(os.getpid(), signal.SIGKILL)", (2, "the background process was killed by SIGKILL")),
        ("os.kill(os.getpid(), signal.SIGTERM)", (2, "the background process was killed by SIGTERM")),
    ],
)
def test_a_failure_comes_back(tmp_path: Path, body: str, expected: tuple[int, str]) -> None:
    assert outcome(start(tmp_path, body)) == expected
    wait_until_gone(int(read(tmp_path, "child")))


def test_the_wait_is_bounded(tmp_path: Path) -> None:
    code, text = outcome(start(tmp_path, "time.sleep(60)", timeout=1.5))
    assert (code, text[:24]) == (32, "given up after 1.5 secon")
    wait_until_gone(int(read(tmp_path, "child")))


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    """
    code, _ = outcome(start(tmp_path, body, timeout=1.0))
    assert code == 32
    wait_until_gone(int(read(tmp_path, "child")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_parent_ends_the_child(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "time.sleep(60)")
    child = int(read(tmp_path, "child"))
    process.send_signal(number)
    assert outcome(process) == (8, "interrupted")
    wait_until_gone(child)


def test_a_signal_in_the_middle_of_the_fork_ends_the_child(tmp_path: Path) -> None:
    """Python drops what a handler raises while it runs what others have registered for after a fork."""
    text = "import os, signal; os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGHUP))\n"
    process = start(tmp_path, "time.sleep(60)", timeout=5.0, before=text)
    assert outcome(process) == (8, "interrupted")
    if (tmp_path / "child").exists():  # else it was ended before it came to that
        wait_until_gone(int(read(tmp_path, "child")))


def test_a_child_whose_parent_was_killed_ends_itself_when_it_is_ready(tmp_path: Path) -> None:
    body = """
        while not (place / "go").exists():
            time.sleep(0.01)
        on_ready()
        time.sleep(60)
    """
    process = start(tmp_path, body)
    child = int(read(tmp_path, "child"))
    process.kill()
    process.wait()
    (tmp_path / "go").touch()
    wait_until_gone(child)
    process.communicate(timeout=PATIENCE)


def test_what_was_printed_before_comes_out_once(tmp_path: Path) -> None:
    program = PROGRAM.replace("verdict =", "print('before')\nverdict =", 1)
    program = program.format(body="    on_ready(); print('lost'); return Verdict(0)", timeout=PATIENCE)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout.splitlines() == ["before", '[0, ""]']

"""Programs that wait for a server, with `hard`, and are killed: they go, and nothing is lost by that. With our own
loop, and with pyfuse3's, where it takes two seconds.

The server is the one in memory, on a socket. It is silent for as long as a test has its lock.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import clean_up, mount_command, unmount, wait_until
from tests.support.fakes.server.listener import DOMAIN, PASSWORD, USER, Listener
from tests.support.fakes.server.server import Server
from tests.support.lab.samba import free_net

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Program = subprocess.Popen[bytes]

pytestmark = pytest.mark.mount

SOON = 60.0
"""Seconds within which who is killed is gone. It takes 0.1, or two; the machine of the tests may be busy."""
STEADY = 20
"""Looks at a program, 0.01 s apart, in which it does not move."""
CONTENT = b"content"
READY = "print('ready', flush=True); sys.stdin.read(1)"
WRITES = f"file = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT); {READY}; os.write(file, b'x' * 4096)"
"""Waits for its bytes to be written."""
CLOSES = f"file = open(sys.argv[1], 'wb', 0); {READY}; file.write(b'kept' * 1024); print('written', flush=True)"
"""Waits for its bytes to be written when it closes the file, at its end."""
LISTS = f"folder = os.open(sys.argv[1], os.O_DIRECTORY); {READY}; os.listdir(folder)"


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Server()
    server.volume.add_folder("folder")
    for name in ("file", "other", "written", "closed"):
        server.volume.add_file(f"folder/{name}", CONTENT)
    with Listener(server, f"{free_net()}.2") as found:
        yield found


@pytest.fixture(params=["native", "pyfuse3"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(listener: Listener, tmp_path: Path, loop: str, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the mount."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    options = f"username={USER},domain={DOMAIN},nodfs,hard,loop={loop},{getattr(request, 'param', 'actimeo=0')}"
    try:
        result = mount_command(f"//{listener.address}/data", mountpoint, options, PASSWORD)
        assert result.returncode == 0, result.stderr
        yield mountpoint / "folder"
        unmount(mountpoint)
    finally:
        clean_up(mountpoint)
    assert listener.server.opens == 0, "a handle was lost"


@contextmanager
def running(*words: str | Path, stdin: int = subprocess.PIPE) -> Iterator[Program]:
    """A program. At the end it is killed, and not waited for."""
    process = subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        for end in (process.stdin, process.stdout):
            if end is not None:
                end.close()


@contextmanager
def prepared(text: str, place: Path) -> Iterator[Program]:
    """One in Python that has opened what it needs, and goes on when it is told to."""
    with running(sys.executable, "-c", f"import os, sys; {text}", place) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process


def go_on(process: Program) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def wait_until_it_waits(process: Program) -> None:
    """Waits until a program stays in a system call."""
    looks: list[str] = []

    def stays() -> bool:
        with open(f"/proc/{process.pid}/syscall") as file:
            looks.append(file.read())
        return len(looks) > STEADY and looks[-1] != "running\n" and len(set(looks[-STEADY:])) == 1

    wait_until(stays, "it waits for the server")


def kill(*programs: Program) -> None:
    """Kills programs, and sees them go."""
    for program in programs:
        assert program.poll() is None
        program.kill()
    begun = time.monotonic()
    for program in programs:
        program.wait(SOON)
    print(f"gone after {time.monotonic() - begun:.1f} s")


def credits(listener: Listener) -> list[int]:
    """What the client has, in hand and in flight, on each of its connections."""
    with listener.lock:
        return [connection.credits for connection in listener.server._connections if connection.alive]


def test_who_waits_for_a_server_can_be_killed(listener: Listener, folder: Path) -> None:
    (folder / "file").read_bytes()
    before = credits(listener)
    with ExitStack() as stack:
        writes, closes = (
            stack.enter_context(prepared(text, folder / name))
            for text, name in ((WRITES, "written"), (CLOSES, "closed"))
        )
        lists = stack.enter_context(prepared(LISTS, folder))
        with listener.lock:
            opens = stack.enter_context(running("cat", folder / "file"))
            for program in (writes, closes, lists):
                go_on(program)
            assert closes.stdout is not None and closes.stdout.readline() == b"written\n"
            for program in (opens, writes, closes, lists):
                wait_until_it_waits(program)
            kill(opens, writes, closes, lists)
    assert (folder / "file").read_bytes() == CONTENT
    wait_until(lambda: (folder / "closed").read_bytes() == b"kept" * 1024, "what was written is there")
    wait_until(lambda: credits(listener) == before, f"all credits are there: {before}")


@pytest.mark.parametrize("folder", ["cache=none"], indirect=True)
def test_who_lives_gets_an_answer_when_who_shares_it_is_killed(listener: Listener, folder: Path, loop: str) -> None:
    """A descriptor that both were given by one who does something else. Without the kernel's cache, where who waits for
    a page can be killed.
    """
    with ExitStack() as stack:
        shared, other = (stack.enter_context((folder / name).open("rb")) for name in ("file", "other"))
        with listener.lock:
            killed, lives = (stack.enter_context(running("cat", stdin=shared.fileno())) for _ in range(2))
            for program in (killed, lives):
                wait_until_it_waits(program)
            killed.kill()
            if loop == "native":
                killed.wait(SOON)  # the kernel says who it was that made a request
            alone = stack.enter_context(running("cat", stdin=other.fileno()))
            wait_until_it_waits(alone)
            kill(alone)  # by a look at all of them
            assert (killed.poll() is None) is (loop == "pyfuse3") and lives.poll() is None
        killed.wait(SOON)
        assert lives.wait(SOON) == 0

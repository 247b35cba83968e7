"""What /proc says of threads: who was killed, who has something open, and who may wait for it."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from dfsfs.fuse.threadstates import ThreadState, get_holder_states, get_thread_state
from tests.kernel.mounts import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ME = os.getpid()
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="looks at what others have open")


@contextmanager
def running(*words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[int, int, str]]:
    """A descriptor of a pipe with a name, which nobody writes to; its inode and device."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    about = path.stat()
    yield descriptor, about.st_ino, f"{os.major(about.st_dev)}:{os.minor(about.st_dev)}"
    os.close(descriptor)


def test_who_lives_and_who_is_gone() -> None:
    with running("sleep", "60") as process:
        assert get_thread_state(process.pid) is ThreadState.LIVES
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert get_thread_state(process.pid) is ThreadState.GONE, "nobody has fetched what it ended with yet"
    assert get_thread_state(process.pid) is ThreadState.GONE
    assert get_thread_state(ME) is ThreadState.LIVES


@pytest.mark.parametrize(
    ("pending", "state", "flags", "code", "fate"),
    [
        (0x100, "D", 0x400000, 0, ThreadState.KILLED),
        (0x101, "S", 0x400000, 0, ThreadState.KILLED),
        (0x001, "D", 0x400000, 0, ThreadState.LIVES),
        (0x000, "D", 0x400004, 9, ThreadState.KILLED),
        (0x000, "D", 0x400004, 2, ThreadState.KILLED),
        (0x000, "D", 0x400004, 256, ThreadState.LIVES),
        (0x100, "Z", 0x400004, 9, ThreadState.GONE),
    ],
)
def test_what_proc_says(
    pending: int, state: str, flags: int, code: int, fate: ThreadState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was killed, who dies of a signal, and who has just come to its end: exit(1) still waits for its close."""
    about = [state, "1", "1", "1", "0", "-1", str(flags), *["0"] * 42, str(code)]
    texts = {
        "status": f"Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t{0:016x}\nSigBlk:\t{0x100:016x}\n",
        "stat": f"7 (a) b) {' '.join(about)}",
    }
    monkeypatch.setattr("dfsfs.fuse.threadstates.Path.read_bytes", lambda path: texts[path.name].encode())
    assert get_thread_state(7) is fate


@root_only
def test_who_has_it_open_and_who_may_wait_for_it(fifo: tuple[int, int, str]) -> None:
    descriptor, inode, device = fifo
    assert get_holder_states({inode, inode + 1}, "0:9999") == {inode: set(), inode + 1: set()}
    assert ThreadState.KILLED not in get_holder_states({inode}, device)[inode]
    with running("cat", stdin=descriptor) as reads:
        wait_until(lambda: ThreadState.WAITS in get_holder_states({inode}, device)[inode], "it waits for its input")
        assert reads.poll() is None
    with running("sleep", "60", stdin=descriptor):
        wait_until(lambda: ThreadState.WAITS not in get_holder_states({inode}, device)[inode], "nobody waits for it")
        assert ThreadState.LIVES in get_holder_states({inode}, device)[inode]

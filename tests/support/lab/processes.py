"""Finding and ending the processes of one lab host, and only those.

Every host runs in a mount namespace of its own, with a tmpfs whose *source* is the host's tag, a text that is unique
for lab and host. A process belongs to the host if its /proc/PID/mountinfo shows that tag. That holds for the smbd, for
the children it forks per client, and for helpers that become daemons of their own, and needs no pid file: a stale one
could name a stranger by now. A process is signalled through a pidfd that was opened *before* its tag was read, so the
number cannot have passed to another process in between.

Does not work for a process that leaves the namespace; smbd does not. Linux only, needs root. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 20
"""How often signal_all looks again for processes that were forked in the meantime."""


def _is_tagged(pid: str, tag: str, own_namespace: str) -> bool:
    try:
        if os.readlink(f"/proc/{pid}/ns/mnt") == own_namespace:
            return False
        mounts = Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return False  # it has ended, or it is a zombie or a kernel thread
    return any(line.split(" - ", 1)[-1].split(" ")[1:2] == [tag] for line in mounts.splitlines())


@contextmanager
def tagged(tag: str) -> Iterator[dict[int, int]]:
    """The running processes with this tag, as pid -> pidfd. The pidfds are open for the length of the block."""
    own_namespace = os.readlink("/proc/self/ns/mnt")
    found = {}
    with ExitStack() as stack:
        for name in os.listdir("/proc"):
            # The cheap look goes first: most processes of a machine are not ours, and need no pidfd.
            if not name.isdigit() or not _is_tagged(name, tag, own_namespace):
                continue
            try:
                fd = os.pidfd_open(int(name))
            except ProcessLookupError:
                continue
            stack.callback(os.close, fd)
            if _is_tagged(name, tag, own_namespace):
                found[int(name)] = fd
        yield found


def pids(tag: str) -> list[int]:
    """The pids with this tag now, lowest first."""
    with tagged(tag) as found:
        return sorted(found)


def _send(fd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass  # ended on its own


def signal_all(tag: str, number: signal.Signals) -> None:
    """Sends a signal once to each process with this tag, and to those that they fork meanwhile."""
    done: set[int] = set()
    for _ in range(ROUNDS):
        with tagged(tag) as found:
            new = found.keys() - done
            if not new:
                return
            for pid in new:
                _send(found[pid], number)
            done |= new


def all_stopped(tag: str) -> bool:
    """Whether every process is in the state that SIGSTOP leads to (proc(5): T)."""
    states = []
    for pid in pids(tag):
        with suppress(OSError):  # it has ended meanwhile
            states.append(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0])
    return set(states) <= {"T"}


def end_all(tag: str, number: signal.Signals, timeout: float) -> bool:
    """Sends a signal to each process with this tag until none is left; False if some are after `timeout` seconds.

    Stopped processes are continued, because they would not see a SIGTERM otherwise.
    """
    deadline = time.monotonic() + timeout
    while True:
        with tagged(tag) as found:
            if not found:
                return True
            for fd in found.values():
                _send(fd, number)
                _send(fd, signal.SIGCONT)
            if not _wait_ended(list(found.values()), deadline):
                return False


def _wait_ended(fds: list[int], deadline: float) -> bool:
    """Waits until each of these pidfds tells that its process has ended; False at the deadline (monotonic seconds)."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    waiting = set(fds)
    while waiting:
        ready = poll.poll(max(0, deadline - time.monotonic()) * 1000)
        if not ready:
            return False
        for fd, _ in ready:
            poll.unregister(fd)
            waiting.discard(fd)
    return True

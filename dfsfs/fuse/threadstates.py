"""Reads from /proc whether the threads that made requests were killed, and which processes may wait for the answers.

A thread that was killed, by whatever signal, has SIGKILL among its pending signals until it exits. One that is exiting
already, and waits for a file of its own to be closed, shows the signal in its exit code.

It is called in threads (threads.py), as everything is that reads what belongs to callers, though nothing here can be
kept waiting by one. Who else has a file open, only waiters.py wants to know, which serves mounts with loop=pyfuse3.
"""

from __future__ import annotations

import os
import platform
import signal
from collections import defaultdict
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.fuse.descriptors import fields_of, mounts_seen_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

_KILLED = 1 << (signal.SIGKILL - 1)
_EXITING = 0x4
"""PF_EXITING, among the flags in /proc/PID/stat."""
_STATE, _FLAGS, _EXIT_CODE = 0, 6, 49
"""Indexes of fields of /proc/PID/stat, counted from the one behind the name (proc(5))."""
_DESCRIPTORS: dict[str, dict[int, tuple[int, ...]]] = {
    # Number of the system call -> indexes of its arguments that are descriptors, where that is not just the first one:
    # sendfile, splice, copy_file_range; none in clock_nanosleep and waitid, in which programs wait for other things.
    "x86_64": {40: (0, 1), 275: (0, 2), 326: (0, 2), 230: (), 247: ()},
    "aarch64": {71: (0, 1), 76: (0, 2), 285: (0, 2), 115: (), 95: ()},
}


class ThreadState(Enum):
    """Whether a thread lives."""

    KILLED = auto()
    """It was killed, and exits as soon as its request is answered."""
    LIVES = auto()
    WAITS = auto()
    """It lives, and may be waiting for a request about the inode in question."""
    GONE = auto()
    UNKNOWN = auto()
    """/proc does not show it."""


def get_thread_state(thread: int) -> ThreadState:
    """The state of a thread, which is not WAITS."""
    try:
        status = Path(f"/proc/{thread}/status").read_bytes()
        about = Path(f"/proc/{thread}/stat").read_bytes().rpartition(b")")[2].split()
        pending = 0
        for line in status.splitlines():
            if line.startswith((b"SigPnd:", b"ShdPnd:")):
                pending |= int(line.split()[1], 16)
        if about[_STATE] in (b"Z", b"X"):
            return ThreadState.GONE
        if pending & _KILLED or (int(about[_FLAGS]) & _EXITING and int(about[_EXIT_CODE]) & 0x7F):
            return ThreadState.KILLED
        return ThreadState.LIVES
    except (FileNotFoundError, ProcessLookupError):
        return ThreadState.GONE if _is_gone(thread) else ThreadState.UNKNOWN
    except (OSError, ValueError, IndexError):
        return ThreadState.UNKNOWN


def _is_gone(thread: int) -> bool:
    """Whether there is no such thread. One that /proc only hides is not gone (proc(5), hidepid=)."""
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def get_holder_states(inodes: Set[int], device: str) -> dict[int, set[ThreadState]]:
    """The states of the processes that have inodes of a mount open, by inode. Empty sets if this is not root, who alone
    sees all of them.
    """
    found: dict[int, set[ThreadState]] = {inode: set() for inode in inodes}
    if os.geteuid() == 0:
        views: dict[str, dict[str, str]] = {}
        for thread in _threads():
            try:
                theirs = _open_in(thread, device, views)
            except (OSError, ValueError, KeyError):
                continue  # it has ended
            for inode in theirs.keys() & inodes:
                state = get_thread_state(thread)
                waits = state is ThreadState.LIVES and _may_wait(thread, theirs[inode])
                found[inode].add(ThreadState.WAITS if waits else state)
    return found


def _open_in(thread: int, device: str, views: dict[str, dict[str, str]]) -> dict[int, set[int]]:
    """The inodes of a mount that a process has open, with its descriptors of each. `views`: by mount namespace, the
    devices of its mounts by their numbers; what is not there yet is added.
    """
    view = os.readlink(f"/proc/{thread}/ns/mnt")
    if view not in views:
        views[view] = mounts_seen_by(thread)
    found = defaultdict(set)
    for number in os.listdir(f"/proc/{thread}/fd"):
        try:
            if not os.readlink(f"/proc/{thread}/fd/{number}").startswith("/"):
                continue  # a socket, a pipe
        except FileNotFoundError:
            continue  # closed meanwhile
        about = fields_of(f"/proc/{thread}/fdinfo/{number}")
        if about and views[view].get(about["mnt_id"]) == device:
            found[int(about["ino"])].add(int(number))
    return found


def _may_wait(process: int, descriptors: Set[int]) -> bool:
    """Whether one of the threads of a process may wait for a request about one of its descriptors: it is in a system
    call that takes the descriptor, or blocked outside of system calls, in a page fault (proc(5), syscall).
    """
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            call, *arguments = Path(f"/proc/{process}/task/{thread}/syscall").read_text("ascii").split()
            if call == "running":
                continue
            if int(call) < 0:
                return True
            taken = _DESCRIPTORS.get(platform.machine(), {}).get(int(call), (0,))
            if any(int(arguments[index], 16) in descriptors for index in taken):
                return True
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (OSError, ValueError, IndexError):
        return True
    return False


def _threads() -> Iterator[int]:
    """The first thread of each process, and all threads of a process whose first one has exited, as that has no
    descriptors any more.
    """
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)
            try:
                if os.stat(f"/proc/{name}/task").st_nlink > 3 and get_thread_state(int(name)) is ThreadState.GONE:
                    yield from map(int, os.listdir(f"/proc/{name}/task"))
            except OSError:
                pass  # it has ended

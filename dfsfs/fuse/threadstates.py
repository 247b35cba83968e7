"""What has become of the threads that made requests, and who else may wait for their answers: /proc, read.

A thread that was killed, by whatever signal, has SIGKILL among its pending ones until it gets to die. One that dies
already, and waits for a file of its own to be closed, shows what it dies of.

All of it only in threads (threads.py), as it is about callers, though nothing here waits for one.
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
"""Fields of /proc/PID/stat behind the name (proc(5))."""
_DESCRIPTORS: dict[str, dict[int, tuple[int, ...]]] = {
    # Number of the system call -> which of its arguments are descriptors, where it is not the first: sendfile, splice,
    # copy_file_range; clock_nanosleep and waitid, which programs are in that wait for something else.
    "x86_64": {40: (0, 1), 275: (0, 2), 326: (0, 2), 230: (), 247: ()},
    "aarch64": {71: (0, 1), 76: (0, 2), 285: (0, 2), 115: (), 95: ()},
}


class Fate(Enum):
    """Of a thread."""

    KILLED = auto()
    """It dies as soon as it has its answer."""
    LIVES = auto()
    WAITS = auto()
    """It lives, and may wait for what one asks about."""
    GONE = auto()
    UNKNOWN = auto()
    """It can't be looked at."""


def fate_of(thread: int) -> Fate:
    """What has become of a thread: anything but WAITS."""
    try:
        status = Path(f"/proc/{thread}/status").read_bytes()
        about = Path(f"/proc/{thread}/stat").read_bytes().rpartition(b")")[2].split()
        pending = 0
        for line in status.splitlines():
            if line.startswith((b"SigPnd:", b"ShdPnd:")):
                pending |= int(line.split()[1], 16)
        if about[_STATE] in (b"Z", b"X"):
            return Fate.GONE
        if pending & _KILLED or (int(about[_FLAGS]) & _EXITING and int(about[_EXIT_CODE]) & 0x7F):
            return Fate.KILLED
        return Fate.LIVES
    except (FileNotFoundError, ProcessLookupError):
        return Fate.GONE if _is_gone(thread) else Fate.UNKNOWN
    except (OSError, ValueError, IndexError):
        return Fate.UNKNOWN


def _is_gone(thread: int) -> bool:
    """Whether there is no such thread, and not only none to be seen (proc(5), hidepid=)."""
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def fates_of_holders(inodes: Set[int], device: str) -> dict[int, set[Fate]]:
    """What has become of those who have inodes of a mount open, by the inode; nothing where they can't all be seen."""
    found: dict[int, set[Fate]] = {inode: set() for inode in inodes}
    if os.geteuid() == 0:
        views: dict[str, dict[str, str]] = {}
        for thread in _threads():
            try:
                theirs = _open_in(thread, device, views)
            except (OSError, ValueError, KeyError):
                continue  # it has ended
            for inode in theirs.keys() & inodes:
                fate = fate_of(thread)
                waits = fate is Fate.LIVES and _may_wait(thread, theirs[inode])
                found[inode].add(Fate.WAITS if waits else fate)
    return found


def _open_in(thread: int, device: str, views: dict[str, dict[str, str]]) -> dict[int, set[int]]:
    """The inodes of a mount that a process has open, and its numbers for them. `views`: for each mount namespace, the
    mounts that it has.
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
    """Whether one of the threads of a process may wait for one of its descriptors: it is in a system call that has its
    number for an argument, or in no system call, as who waits for a page of a file in memory (proc(5), syscall).
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
    """One thread of each process, and all of a process whose first has ended: that one has no descriptors any more."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)
            try:
                if os.stat(f"/proc/{name}/task").st_nlink > 3 and fate_of(int(name)) is Fate.GONE:
                    yield from map(int, os.listdir(f"/proc/{name}/task"))
            except OSError:
                pass  # it has ended

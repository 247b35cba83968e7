"""Descriptors: whether a process has a descriptor of an inode, so that it may have the attributes.

A file descriptor works for each process that it is passed to. What is done through it is done as the user who opened
it. But the kernel also asks for attributes, for each read and for fstat(2), and pyfuse3 does not pass on that such a
request is about an open file. So if a server refuses attributes to the caller, and another user has the file or
directory open, /proc is read for the inodes and mounts of the caller's descriptors. O_PATH descriptors do not count, as
they can be opened without any right to the file.

A process that can't be inspected (another PID namespace, a mount that it does not see) is refused.

Nothing here touches a file of the mount, or the memory of the process. It is done in a thread all the same, one for
each user at the same time, and given up after PATIENCE seconds.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import islice
from pathlib import Path

import trio

from dfsfs.threads import Threads

PATIENCE = 0.25
"""Seconds that the inspection of a process may take."""
EACH, TOTAL = 1, 16
"""Threads that inspect processes of one user, and of all users, at most."""
LIMIT = 2000
"""Descriptors of one process that are read at most."""


class Descriptors:
    """Inspects processes. `device`: that of the mount, as MAJOR:MINOR."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._threads = Threads(EACH, TOTAL)

    async def has_open(self, user: int, thread: int, inode: int) -> bool:
        """Whether the process of a thread has a descriptor of an inode of the mount. `user`: the user id of the
        process; processes of one user are inspected one after the other.
        """
        try:
            return await self._threads.run(user, partial(holds, thread, inode, self._device), PATIENCE)
        except trio.TooSlowError:
            return False


def holds(thread: int, inode: int, device: str) -> bool:
    """`Descriptors.has_open`, in the calling thread."""
    if not thread:
        return False
    try:
        mounts = mounts_seen_by(thread)
        with os.scandir(f"/proc/{thread}/fdinfo") as entries:
            return any(_is_of(fields_of(entry.path), inode, device, mounts) for entry in islice(entries, LIMIT))
    except (OSError, ValueError, KeyError):
        return False  # it has ended, or may not be inspected


def mounts_seen_by(thread: int) -> dict[str, str]:
    """The devices of the mounts that a process sees, by the numbers of the mounts (proc(5), mountinfo)."""
    found = {}
    for line in Path(f"/proc/{thread}/mountinfo").read_bytes().splitlines():
        number, _, device, *_ = line.decode("ascii", "replace").split(" ", 3)
        found[number] = device
    return found


def fields_of(path: str) -> dict[str, str]:
    """The fields of a file in /proc/PID/fdinfo, by name (proc(5)); empty if the descriptor was closed meanwhile."""
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines()[:4])}


def _is_of(fields: dict[str, str], inode: int, device: str, mounts: dict[str, str]) -> bool:
    """Whether a descriptor is of an inode of a device."""
    if not fields or int(fields["flags"], 8) & os.O_PATH:
        return False
    return mounts.get(fields["mnt_id"]) == device and int(fields["ino"]) == inode

"""Whether a program has something of a mount open: for attributes of what it was given and may not look up itself.

A descriptor works for whom it is given to, as everywhere. What is done through it is done for the user who opened it,
but the kernel asks for attributes beside: for each read, and fstat(2), and pyfuse3 does not pass on that the question
is about something open. So where a server refuses the attributes to who asks, and somebody else has the file or folder
open, the program that asks is looked at: /proc says which inodes of which mounts its descriptors are of. O_PATH does
not count, as it takes no right to get such a one.

Who can't be looked at (another PID namespace, a mount that its process does not see) is refused.

Nothing here touches a file of the mount, or the memory of the program. It is done in a thread all the same, one for
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
"""Seconds that it may take to look at a program."""
EACH, TOTAL = 1, 16
"""Threads that look at programs: for one user, and for all."""
LIMIT = 2000
"""Descriptors of one program that are looked at."""


class Descriptors:
    """Looks at programs. `device`: that of the mount, as MAJOR:MINOR."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._threads = Threads(EACH, TOTAL)

    async def has_open(self, user: int, thread: int, inode: int) -> bool:
        """Whether the program that a thread belongs to has a descriptor of an inode of the mount. `user`: whose it is,
        as a user's programs wait for each other.
        """
        try:
            return await self._threads.run(user, partial(holds, thread, inode, self._device), PATIENCE)
        except trio.TooSlowError:
            return False


def holds(thread: int, inode: int, device: str) -> bool:
    """Descriptors.has_open, at once."""
    if not thread:
        return False
    try:
        mounts = mounts_seen_by(thread)
        with os.scandir(f"/proc/{thread}/fdinfo") as entries:
            return any(_is_of(fields_of(entry.path), inode, device, mounts) for entry in islice(entries, LIMIT))
    except (OSError, ValueError, KeyError):
        return False  # it has ended, or may not be looked at


def mounts_seen_by(thread: int) -> dict[str, str]:
    """The numbers of the mounts that a program sees, and the devices of their file systems (proc(5), mountinfo)."""
    found = {}
    for line in Path(f"/proc/{thread}/mountinfo").read_bytes().splitlines():
        number, _, device, *_ = line.decode("ascii", "replace").split(" ", 3)
        found[number] = device
    return found


def fields_of(path: str) -> dict[str, str]:
    """What a file of fdinfo says of a descriptor, by its names there (proc(5)); nothing if it was closed meanwhile."""
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

"""Who keeps a mount alive that was taken away: mount namespaces with a copy of it, and what runs in them.

A mount namespace that is made while a mount is there has a copy (mount_namespaces(7)): a container, a service with a
sandbox. umount(8) takes the mount away where it is called; its file system, and so its program, lives until the last
copy is gone. The kernel shows the mounts of another namespace for each process in it (proc(5), mountinfo).

Whose namespaces can be looked at is the kernel's decision: root may all, others those of their own processes. Nothing
here reads the memory of a process, so that none can keep this program waiting.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dfsfs.control.places import parse_mounts

NAMESPACES = 1000
"""Most mount namespaces that are looked at."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A mount namespace with a copy of a mount. `pid` and `command`: the process in it with the lowest number, by the
    name that the kernel has for it; `processes`: how many there are; `path`: where the copy is, there.
    """

    pid: int
    command: str
    processes: int
    path: str


def holders_of(device: str) -> list[Holder]:
    """The mount namespaces with a mount of a file system, by its device number (MAJOR:MINOR). Takes milliseconds."""
    members: dict[str, list[int]] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            members.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), []).append(pid)
        except OSError:
            continue  # it has ended, or may not be looked at
    found = []
    for pids in list(members.values())[:NAMESPACES]:
        path = _path_in(pids[0], device)
        if path is not None:
            found.append(Holder(pids[0], _command(pids[0]), len(pids), path))
    return found


def _path_in(pid: int, device: str) -> str | None:
    """Where a process sees a file system mounted."""
    try:
        listed = os.fsdecode(Path(f"/proc/{pid}/mountinfo").read_bytes())
    except OSError:
        return None
    return next((entry.mountpoint for entry in parse_mounts(listed) if entry.device == device), None)


def _command(pid: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()).rstrip("\n")
    except OSError:
        return "?"


def describe_holder(holder: Holder) -> str:
    """A holder in words."""
    others = f" and {holder.processes - 1} more" if holder.processes > 1 else ""
    return f"process {holder.pid} ({holder.command}){others}, which has it on {holder.path}"

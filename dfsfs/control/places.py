"""Where the control socket of a mount is, and which mount a path is in.

The socket of a mount is named after the device number of its file system, which no two mounts of a running system
share: /run/dfsfs/0-53.sock for root's mounts, $XDG_RUNTIME_DIR/dfsfs/0-53.sock for those of others. If that variable is
not set it is in /run/user/1000, and if there is no such folder either in /tmp/dfsfs-1000, which is for that user alone.
The mount of a path is found in the kernel's list of mounts, so that no mount is touched, which may not answer.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

TYPE = "fuse.dfsfs"
"""What the kernel calls our mounts."""
ROOTS_FOLDER = "/run/dfsfs"
USERS_FOLDERS = "/run/user"
SHARED_FOLDER = "/tmp"
"""Where every user may make a folder."""
LOGOUT_XATTR = "user.dfsfs.logout"
"""The extended attribute of a mount point that ends the sessions of the user who asks for it: see fuse/multiuser.py."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """A mount of the kernel's list. `device` as MAJOR:MINOR; `owner`: the user who mounted it; `number`: the kernel's
    for this place of the file system (0: not known), of which it may have several.
    """

    device: str
    mountpoint: str
    kind: str
    source: str
    owner: int
    number: int = field(default=0, compare=False)


def parse_mounts(mountinfo: str) -> list[MountEntry]:
    """The mounts in the text of /proc/PID/mountinfo (proc(5)), the one on top last."""
    found = []
    for line in mountinfo.split("\n"):  # other characters that end lines stand for themselves in names
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if dash and len(fields) > 5 and len(rest) > 2:
            owner = re.search(r"(?:^|,)user_id=(\d+)", rest[2])
            found.append(
                MountEntry(
                    device=fields[2],
                    mountpoint=unescape(fields[4]),
                    kind=rest[0],
                    source=unescape(rest[1]),
                    owner=int(owner[1]) if owner else 0,
                    number=int(fields[0]) if fields[0].isdecimal() else 0,
                )
            )
    return found


def mounts() -> list[MountEntry]:
    """The mounts that this process sees. Raises OSError."""
    return parse_mounts(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))  # as text, "\r" would end lines


def our_mounts() -> list[MountEntry]:
    """Those of dfsfs. Raises OSError."""
    return [entry for entry in mounts() if entry.kind == TYPE]


def is_ours(device: int) -> bool:
    """Whether a device number, as st_dev has it, is that of a mount of dfsfs. Raises OSError."""
    return any(entry.device == f"{os.major(device)}:{os.minor(device)}" for entry in our_mounts())


def device_of(mountpoint: str) -> str | None:
    """The device number of the mount on top at a mount point, MAJOR:MINOR. Raises OSError."""
    return next((entry.device for entry in reversed(mounts()) if entry.mountpoint == mountpoint), None)


def mount_on(path: str) -> tuple[str, MountEntry | None]:
    """The absolute path of a mount point, and what is mounted on it: the mount on top, None if there is none.

    The file system that is mounted there is not asked, so that it doesn't matter whether it answers. If it is autofs,
    nothing is mounted for that (open(2), O_PATH): the program that it would wait for may be this one.

    Raises:
        OSError, ValueError: there is nothing of that name, or it can't be reached.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        absolute = os.readlink(f"/proc/self/fd/{descriptor}")
        about = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
    finally:
        os.close(descriptor)
    number = re.search(r"^mnt_id:\s*(\d+)$", about, re.MULTILINE)
    if number is None:
        return absolute, None
    entries = (entry for entry in mounts() if entry.number == int(number[1]) and entry.mountpoint == absolute)
    return absolute, next(entries, None)


def mount_of(path: str, entries: list[MountEntry]) -> MountEntry | None:
    """The mount that an absolute path without links is in: the one on top at the longest mount point above it."""
    best: MountEntry | None = None
    for entry in entries:
        top = entry.mountpoint.rstrip("/")
        if (path == top or path.startswith(top + "/")) and (
            best is None or len(top) >= len(best.mountpoint.rstrip("/"))
        ):
            best = entry
    return best


def folders_for(owner: int) -> list[str]:
    """Where the sockets of a user's mounts may be, the best one first. Only the last may be others' work."""
    if owner == 0:
        return [ROOTS_FOLDER]
    runtime = [os.environ.get("XDG_RUNTIME_DIR", "")] if owner == os.geteuid() else []
    runtime.append(os.path.join(USERS_FOLDERS, str(owner)))
    found = [os.path.join(folder, "dfsfs") for folder in runtime if folder.startswith("/") and os.path.isdir(folder)]
    return list(dict.fromkeys([*found, private_folder(owner)]))


def private_folder(owner: int) -> str:
    """The place of a user's sockets where the system has none for that user."""
    return os.path.join(SHARED_FOLDER, f"dfsfs-{owner}")


def why_unsafe(folder: str, owner: int) -> str:
    """Why others than its owner could change what is in a folder; empty if they could not. Raises OSError.

    A link is no folder. In one that all users may write to, the sticky bit keeps others from putting theirs in its
    place.
    """
    about, above = os.lstat(folder), os.stat(os.path.dirname(folder))
    private = folder == private_folder(owner)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != owner or about.st_mode & (0o077 if private else 0o022):
        return f"{folder} is not a folder that only its owner may {'enter' if private else 'change'}"
    if private and (above.st_uid not in (0, owner) or (above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX)):
        return f"{os.path.dirname(folder)} is a folder in which any user may replace {folder}"
    return ""


def socket_name(device: str) -> str:
    """The name of the socket of the mount with a device number."""
    return device.replace(":", "-") + ".sock"


def sockets_of(entry: MountEntry) -> list[str]:
    """Where the socket of a mount may be: all that is there. More than one if mounts were killed before."""
    found = []
    for folder in folders_for(entry.owner):
        path = os.path.join(folder, socket_name(entry.device))
        try:
            if os.path.lexists(path) and (folder != private_folder(entry.owner) or not why_unsafe(folder, entry.owner)):
                found.append(path)
        except OSError:
            continue  # it is just being removed
    return found


def unescape(text: str) -> str:
    """A field of a mount table or of fstab as it is meant: the kernel and fstab(5) write a space as \\040."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)

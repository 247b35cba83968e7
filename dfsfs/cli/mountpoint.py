"""The mount point of a mount to come: that there is a folder, and what is mounted on it already.

A mount on another one hides it. The kernel refuses that to its own file systems if the second is the same as the first
(mount(2), EBUSY), and so to mount.cifs; FUSE's are never the same to it. So it is refused here, for any mount of dfsfs
that is in use, unless the option nonempty asks for it.

Nothing here waits for a file system that is mounted there for more than ANSWERING seconds. What a program has once
said of a folder the kernel may still know when the program has ended, so that a look at a dead mount is no test: it is
asked for its size (statfs(2)), which no kernel remembers.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading

from dfsfs.cli.exitcodes import MOUNT_FAILURE, USAGE
from dfsfs.cli.messages import MountError
from dfsfs.control.places import TYPE, MountEntry, mount_on

ANSWERING = 5.0
"""Seconds after which a file system that says nothing is taken for one that is busy."""
CLEARING = 10.0
"""Seconds for umount(8)."""
MOST = 16
"""Dead mounts on top of each other that are cleared."""
ENDED = (errno.ENOTCONN, errno.ECONNABORTED)
"""What the kernel answers for a FUSE mount whose program has ended, or is about to."""


def check_mountpoint(path: str) -> str:
    """The absolute path of a mount point.

    Raises:
        MountError: there is no directory, one that can't be looked at, or a mount on it whose program has ended.
    """
    absolute, top = _look(path)
    if top is None or not top.kind.startswith("fuse"):
        _check_directory(path, absolute)
    elif has_ended(absolute):
        raise _describe_dead(path, top)
    return absolute


def check_that_nothing_is_hidden(mountpoint: str) -> None:
    """Has no mount of dfsfs at a mount point hidden by another one.

    Raises:
        MountError: there is one.
    """
    _, top = _look(mountpoint)
    if top is not None and top.kind == TYPE:
        text = f"on {mountpoint} is {top.source} already, which would be hidden ({os.strerror(errno.EBUSY)})"
        raise MountError(MOUNT_FAILURE, f"{text}; umount {mountpoint} first, or use the option nonempty")


def clear_dead_mounts(path: str) -> list[str]:
    """Takes root's own mounts away from a mount point if their programs have ended, as the systemd unit does; what they
    were of. Whatever else is there is left to check_mountpoint.
    """
    cleared: list[str] = []
    if os.geteuid() != 0:
        return cleared
    for _ in range(MOST):
        try:
            absolute, top = _look(path)
        except MountError:
            break
        if top is None or top.kind != TYPE or top.owner != 0 or not has_ended(absolute) or not _detach(absolute):
            break
        cleared.append(top.source)
    return cleared


def has_ended(mountpoint: str) -> bool:
    """Whether the program of the FUSE mount at a mount point has ended; one that does not answer has not."""
    found: list[int] = []

    def ask() -> None:
        try:
            os.statvfs(mountpoint)
        except OSError as error:
            found.append(error.errno or 0)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWERING)
    return any(code in ENDED for code in found)


def _look(path: str) -> tuple[str, MountEntry | None]:
    """The absolute path of a mount point, and what is mounted on it. No file system on it is asked."""
    try:
        return mount_on(path)
    except (OSError, ValueError) as error:
        raise _describe_useless(path, error) from None


def _check_directory(path: str, absolute: str) -> None:
    try:
        about = os.stat(absolute)
    except OSError as error:
        raise _describe_useless(path, error) from None
    if not stat.S_ISDIR(about.st_mode):
        raise MountError(MOUNT_FAILURE, f"the mount point {path} is not a directory")


def _describe_useless(path: str, error: OSError | ValueError) -> MountError:
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    if code == errno.ENOENT:
        return MountError(MOUNT_FAILURE, f"the mount point {path} does not exist; mkdir {path}")
    if code in ENDED:
        return _describe_dead(path)
    exit_code = USAGE if code == errno.EACCES else MOUNT_FAILURE
    return MountError(exit_code, f"the mount point {path} can't be used: {os.strerror(code or errno.EIO)}")


def _describe_dead(path: str, top: MountEntry | None = None) -> MountError:
    is_the_users = top is not None and top.owner == os.geteuid() != 0
    command = f"fusermount3 -uz {path}" if is_the_users else f"umount -l {path}"
    return MountError(MOUNT_FAILURE, f"on {path} is a mount whose program has ended; take it away first: {command}")


def _detach(mountpoint: str) -> bool:
    """Takes the mount on top away; whether that worked."""
    try:
        words = ["umount", "-i", "-l", mountpoint]
        done = subprocess.run(words, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=CLEARING)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

"""Finding and changing this process's own mount, even if its mount point has been moved.

A user who may rename a directory above the mount point can have its path lead to another mount, which must not be
unmounted or changed in place of ours. So the mount is identified by its entry in the kernel's list, above all by its
device number. It is changed through a descriptor of its root (O_PATH), for which the file system gets no request.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.control.places import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfsfs.control.places import MountEntry

_MNT_DETACH = 2


def find_mount(mountpoint: str) -> MountEntry | None:
    """The topmost mount on a mount point, None if there is none."""
    return next((entry for entry in reversed(mounts()) if entry.mountpoint == mountpoint), None)


def locate_mount(mount: MountEntry) -> MountEntry | None:
    """The entry that the kernel has of a mount now, at the old place if it is there, too; None if it is gone."""
    same = (mount.device, mount.kind, mount.source)
    found = [entry for entry in mounts() if (entry.device, entry.kind, entry.source) == same]
    return next((entry for entry in found if entry.mountpoint == mount.mountpoint), found[0] if found else None)


@contextmanager
def open_root(mount: MountEntry) -> Iterator[int]:
    """A descriptor of the mount's root (O_PATH), closed at the end of the block.

    Raises:
        LookupError: the mount is gone, or is just being moved.
        OSError: it can't be opened.
    """
    entry = locate_mount(mount)
    if entry is None:
        raise LookupError(f"the mount on {mount.mountpoint} is gone")
    descriptor = os.open(entry.mountpoint, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _device_under(descriptor) != mount.device:
            raise LookupError(f"{entry.mountpoint} leads elsewhere now")
        yield descriptor
    finally:
        os.close(descriptor)


def _device_under(descriptor: int) -> str:
    """The device number, MAJOR:MINOR, of the mount that a descriptor is in (proc(5): fdinfo, mountinfo); empty if it is
    not listed. The file system gets no request.
    """
    about = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").split()
    number = about[about.index("mnt_id:") + 1].encode()
    lines = (line.split(b" ", 3) for line in Path("/proc/self/mountinfo").read_bytes().splitlines())
    return next((fields[2].decode("ascii") for fields in lines if fields[0] == number), "")


def detach_mount(mount: MountEntry) -> bool:
    """Unmounts a mount even if it is in use (umount2(2), MNT_DETACH). Returns whether it is gone. It takes root."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        with open_root(mount) as root:
            return bool(libc.umount2(f"/proc/self/fd/{root}".encode(), ctypes.c_int(_MNT_DETACH)) == 0)
    except LookupError:
        return locate_mount(mount) is None
    except OSError:
        return False

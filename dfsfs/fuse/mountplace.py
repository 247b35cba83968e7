"""The mount itself, wherever its mount point is by now: whoever may rename a folder above that can have the path lead
to another mount, which must not be taken down, or changed, in the place of ours.

So it is known by what the kernel's list of mounts says of it, above all the device number of its file system, and what
is done to it is done by a descriptor of its root (O_PATH), for which the file system is asked nothing.
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
    """What has just been mounted on a mount point."""
    return next((entry for entry in reversed(mounts()) if entry.mountpoint == mountpoint), None)


def locate_mount(mount: MountEntry) -> MountEntry | None:
    """The mount as the kernel lists it now, at its old place if it is there; None if it is gone."""
    same = (mount.device, mount.kind, mount.source)
    found = [entry for entry in mounts() if (entry.device, entry.kind, entry.source) == same]
    return next((entry for entry in found if entry.mountpoint == mount.mountpoint), found[0] if found else None)


@contextmanager
def open_root(mount: MountEntry) -> Iterator[int]:
    """A descriptor of the mount's root.

    Raises:
        LookupError: it is gone, or is just being moved.
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
    """The device of the mount that a descriptor is in (proc(5): fdinfo, mountinfo). Its file system is not asked."""
    about = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").split()
    number = about[about.index("mnt_id:") + 1].encode()
    lines = (line.split(b" ", 3) for line in Path("/proc/self/mountinfo").read_bytes().splitlines())
    return next((fields[2].decode("ascii") for fields in lines if fields[0] == number), "")


def detach_mount(mount: MountEntry) -> bool:
    """Takes a mount away, also if it is in use (umount2(2), MNT_DETACH), which takes root. Whether it is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        with open_root(mount) as root:
            return bool(libc.umount2(f"/proc/self/fd/{root}".encode(), ctypes.c_int(_MNT_DETACH)) == 0)
    except LookupError:
        return locate_mount(mount) is None
    except OSError:
        return False

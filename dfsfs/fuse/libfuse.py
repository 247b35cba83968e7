"""LibfuseLoop: the mount is made, and its requests are read, by pyfuse3 and libfuse (option loop=pyfuse3).

pyfuse3 keeps its session in a global variable: one such mount per process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

from dfsfs.errors import PosixError

if TYPE_CHECKING:
    from dfsfs.fuse.device.mounting import MountSpec
    from dfsfs.fuse.operations import DfsOperations

MIN_TASKS = 10
"""Tasks that wait for requests at least. With fewer, tasks are started and ended all the time."""
MAX_TASKS = 200
"""Requests that are handled at the same time at most; see device/loop.py."""
LACKS = "locks of other computers, fallocate, SEEK_HOLE, copy_file_range, birth times, df of links, quick Ctrl-C"
"""What a mount has not with this loop."""


class LibfuseLoop:
    """See the module's text. The file system is mounted by making it.

    Raises:
        PosixError: FUSE has refused the mount.
    """

    def __init__(self, operations: DfsOperations, spec: MountSpec) -> None:
        words = {*spec.words, f"fsname={escape(spec.source)}", f"subtype={escape(spec.subtype)}"}
        try:
            pyfuse3.init(operations, spec.mountpoint, words)
        except (RuntimeError, OSError, UnicodeError) as error:
            text = f"FUSE can't mount on {spec.mountpoint}: {error}"
            raise PosixError(getattr(error, "errno", None) or 5, text) from error

    async def run(self) -> None:
        """Serves requests until the file system is unmounted, or after `stop`."""
        await pyfuse3.main(min_tasks=MIN_TASKS, max_tasks=MAX_TASKS)

    def stop(self) -> None:
        """No further request is read."""
        pyfuse3.terminate()

    def close(self) -> None:
        """Closes the device."""
        pyfuse3.close(unmount=False)

    def invalidate(self, ino: int) -> None:
        """As of DeviceLoop."""
        pyfuse3.invalidate_inode(ino, attr_only=False)

    def invalidate_attributes(self, ino: int) -> None:
        """As of DeviceLoop."""
        pyfuse3.invalidate_inode(ino, attr_only=True)


def escape(text: str) -> str:
    """A text as the value of an option of libfuse, which splits at commas and knows octal escapes."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b",\\" else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogateescape")
    )

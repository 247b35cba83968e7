"""Notices that the mount is not where it was any more while its program still has to serve it, and says for whom.

umount(8) is heard of only when nobody has the mount any more: then the kernel closes the device and the program ends.
If a copy is left in another mount namespace, or a program still uses files after `umount -l`, it goes on, and whoever
wonders about it finds the reason in the log.
"""

from __future__ import annotations

import logging
import select
from contextlib import closing
from typing import TYPE_CHECKING

import trio

from dfsfs.control.holders import describe_holder, holders_of
from dfsfs.printable import counted

if TYPE_CHECKING:
    from dfsfs.control.report import Mount

log = logging.getLogger("dfsfs.fuse")

INTERVAL = 5.0
"""Seconds between two looks."""
ENDING = 2.0
"""Seconds in which a program ends whose mount nobody has any more."""
SHOWN = 10
"""Most namespaces that the log names."""


class _MountTable:
    """The list of mounts of this program's namespace. A look at whether it has changed is one system call."""

    def __init__(self) -> None:
        self._file = open("/proc/self/mountinfo", "rb")  # noqa: SIM115  closed by close()
        self._changes = select.poll()
        self._changes.register(self._file, select.POLLPRI)

    def has_changed(self) -> bool:
        """Whether anything was mounted or unmounted since the last look (proc(5), mountinfo)."""
        return bool(self._changes.poll(0))

    def close(self) -> None:
        self._file.close()


async def warn_when_unmounted(mount: Mount, device: str) -> None:
    """Returns when it has told."""
    try:
        table = _MountTable()
    except OSError as error:
        log.debug("whether %s stays mounted is not known: %s", mount.mountpoint, error)
        return
    with closing(table):
        attached = mount.is_attached
        while attached:
            await trio.sleep(INTERVAL)
            if table.has_changed():
                attached = mount.is_attached
    await trio.sleep(ENDING)
    found = await trio.to_thread.run_sync(holders_of, device, abandon_on_cancel=True)
    if found:
        names = "; ".join(describe_holder(holder) for holder in found[:SHOWN])
        reason = f"{len(found)} other mount namespaces hold a copy: {names}"
    else:
        files = mount.filesystem
        used = f"{counted(files.open_files, 'open file')} and {counted(files.open_folders, 'folder')}"
        reason = f"programs still use {used}, or are in one"
    log.warning("the mount was taken away from %s, and goes on: %s", mount.mountpoint, reason)

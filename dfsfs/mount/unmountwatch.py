"""Logs a warning when the mount was unmounted, but still has users, so that this process goes on.

The kernel closes the FUSE device, and this process ends, only when the last copy of the mount is gone. If a copy is
left in another mount namespace, or a program still uses files after `umount -l`, the process goes on, and the log has
the reason.
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
    from dfsfs.control.mount import Mount

log = logging.getLogger("dfsfs.fuse")

INTERVAL = 5.0
"""Seconds between two checks of the list of mounts."""
ENDING = 2.0
"""Seconds that this process may take to end after its last mount is gone, before the warning is logged."""
SHOWN = 10
"""Mount namespaces that the log names at most."""


class _MountTable:
    """The list of mounts of this process's namespace. Checking whether it has changed takes one system call."""

    def __init__(self) -> None:
        self._file = open("/proc/self/mountinfo", "rb")  # noqa: SIM115  closed by close()
        self._changes = select.poll()
        self._changes.register(self._file, select.POLLPRI)

    def has_changed(self) -> bool:
        """Whether anything was mounted or unmounted since the last call (proc(5), mountinfo)."""
        return bool(self._changes.poll(0))

    def close(self) -> None:
        self._file.close()


async def warn_when_unmounted(mount: Mount, device: str) -> None:
    """Waits until the mount is not attached any more, and logs why it goes on. `device`: its number, MAJOR:MINOR."""
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

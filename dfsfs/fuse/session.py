"""Serving a mount, from pyfuse3.init to the end.

A mount ends by one of these:

    umount(8)                the kernel closes the device, and the main loop ends by itself
    SIGTERM, SIGINT          the mount is detached while the loop still serves, so that the kernel can write back its
                             dirty pages; if programs still use it after GRACE seconds, the loop is made to end; after
                             GRACE more, handlers that still wait for a server are cancelled
    an error in the loop     the mount is unmounted, or else every access to it would hang

SIGUSR1 writes the stacks of all tasks and threads to the log.

Nothing here may access a path of the mount. In trio's thread that would wait for an answer of the loop, which waits for
it. In another thread it would be answered; but if the process is killed meanwhile, that thread goes on waiting in spite
of SIGKILL, and keeps the device open: the mount hangs until its connection is aborted.

pyfuse3 keeps its session in a global variable: one mount per process.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyfuse3
import trio

from dfsfs.background import contain, keep_going
from dfsfs.control.places import device_of
from dfsfs.errors import PosixError
from dfsfs.fuse.mountplace import detach_mount, find_mount, open_root
from dfsfs.fuse.stacks import describe_stacks
from dfsfs.fuse.symfollow import follow_no_symlinks
from dfsfs.fuse.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dfsfs.control.places import MountEntry
    from dfsfs.fuse.operations import DfsOperations

log = logging.getLogger("dfsfs.fuse")

NOTIFIERS = 16
"""Threads that wait for the kernel to drop pages or attributes at most."""
GRACE = 5.0
"""Seconds between the steps in which a busy mount is unmounted, and that closing files may take at the end."""
MIN_TASKS = 10
"""Tasks that wait for requests at least. With fewer, tasks are started and ended all the time."""
MAX_TASKS = 200
"""Requests that are handled at the same time at most; the kernel queues the others. There are so many because handlers
that wait for a dead server must not keep requests to another one waiting."""
READ_AHEAD_KB = 4096
"""KiB that the kernel reads ahead in a file. Its default of 128 leaves a sequential read waiting for each answer; with
1024 there is one request at a time (324 MB/s with answers after 0.5 ms), with 4096 several (542 MB/s), and still more
gains nothing."""


class FuseKernelCache:
    """The kernel's page cache and attribute cache of the mount, as a KernelCache.

    To drop pages, the kernel waits for reads of the file that are under way, which the loop has to answer: so a thread
    waits for it. The threads are for that alone, since the reads may wait for something that needs a thread, too.
    """

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(NOTIFIERS)

    async def invalidate(self, ino: int) -> None:
        await self._notify(ino, attributes_only=False)

    async def invalidate_attributes(self, ino: int) -> None:
        await self._notify(ino, attributes_only=True)

    async def _notify(self, ino: int, *, attributes_only: bool) -> None:
        try:
            await trio.to_thread.run_sync(
                pyfuse3.invalidate_inode, ino, attributes_only, abandon_on_cancel=True, limiter=self._threads
            )
        except OSError as error:
            if error.errno != errno.ENOENT:  # ENOENT: the kernel does not know the inode any more
                log.warning("the kernel does not forget what it has of node %d: %s", ino, error)


async def serve(
    operations: DfsOperations,
    mountpoint: str,
    options: Collection[str],
    on_ready: Callable[[], None],
    *,
    read_ahead_kb: int = READ_AHEAD_KB,
    follow_symlinks: bool = True,
) -> None:
    """Mounts, calls `on_ready` as soon as programs can use the mount, and returns when it has been unmounted.

    `options`: those of libfuse and the kernel. `read_ahead_kb`: KiB that the kernel reads ahead. `follow_symlinks`:
    whether the kernel follows symbolic links of the mount.

    Raises:
        PosixError: FUSE refused the mount, or the kernel has no option nosymfollow.
        ExceptionGroup: something unexpected ended the main loop. The mount is gone then, too.
    """
    try:
        pyfuse3.init(operations, mountpoint, set(options))
    except (RuntimeError, OSError, UnicodeError) as error:
        raise PosixError(getattr(error, "errno", None) or 5, f"FUSE can't mount on {mountpoint}: {error}") from error
    mount = _Mount(mountpoint)
    try:
        mount.entry = await trio.to_thread.run_sync(find_mount, mountpoint)
        if not follow_symlinks:
            await trio.to_thread.run_sync(mount.follow_no_symlinks)  # before the first answer, see symfollow.py
        async with trio.open_nursery() as nursery:
            await nursery.start(_handle_signals, mount)
            waiters = Waiters(operations, mount.entry.device if mount.entry else None)
            nursery.start_soon(keep_going, "waiters", waiters.serve)
            nursery.start_soon(_announce, operations, mountpoint, read_ahead_kb, on_ready)
            with mount.loop:
                await pyfuse3.main(min_tasks=MIN_TASKS, max_tasks=MAX_TASKS)
            mount.ended.set()
            nursery.cancel_scope.cancel()
    finally:
        # pyfuse3 unmounts by the path, so only if that still leads to the mount.
        with trio.CancelScope(shield=True):
            in_place = await trio.to_thread.run_sync(mount.is_in_place)
        pyfuse3.close(unmount=not mount.detached and in_place)


async def _announce(
    operations: DfsOperations, mountpoint: str, read_ahead_kb: int, on_ready: Callable[[], None]
) -> None:
    """Waits until the kernel has the answer to FUSE_INIT, sets the read-ahead and calls `on_ready`."""
    await operations.initialized.wait()  # the kernel lowers the read-ahead when it gets the answer to FUSE_INIT
    await trio.to_thread.run_sync(raise_read_ahead, mountpoint, read_ahead_kb, abandon_on_cancel=True)
    on_ready()


def raise_read_ahead(mountpoint: str, read_ahead_kb: int) -> None:
    """Sets the read-ahead of a mount. It takes root; otherwise reading is slower, and nothing else happens."""
    try:
        device = device_of(mountpoint)
        if device is not None:
            with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w", encoding="ascii") as file:
                file.write(str(read_ahead_kb))
    except OSError as error:
        log.debug("the read-ahead of %s stays as it is: %s", mountpoint, error)


async def _handle_signals(mount: _Mount, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
            task_status.started()
            ending = False
            async for number in signals:
                if number == signal.SIGUSR1:
                    await contain("SIGUSR1", _describe)
                elif not ending:
                    ending = True
                    log.info("%s: unmounting", signal.Signals(number).name)
                    nursery.start_soon(mount.end)


async def _describe() -> None:
    """Has the log say what dfsfs is doing."""
    log.warning("tasks and threads:", extra={"dfsfs_details": describe_stacks()})


@dataclass(slots=True, eq=False)
class _Mount:
    """The mount that is served, and how it is ended."""

    mountpoint: str
    entry: MountEntry | None = None
    """Its entry in the kernel's list of mounts; None if that is not known."""
    loop: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when the main loop has ended."""
    detached: bool = False
    """Whether it was detached from the mount point. Programs may still have files open."""

    async def end(self) -> None:
        """Unmounts in the steps that the module's text describes."""
        await self._detach()
        if await self._wait_ended():
            return
        log.info("%s is busy: the programs that use it will get errors", self.mountpoint)
        pyfuse3.terminate()
        if await self._wait_ended():
            return
        log.warning("%s: requests that still wait for a server are given up", self.mountpoint)
        self.loop.cancel()

    async def _wait_ended(self) -> bool:
        with trio.move_on_after(GRACE):
            await self.ended.wait()
        return self.ended.is_set()

    def is_in_place(self) -> bool:
        """Whether the mount is on its mount point, as far as is known."""
        try:
            return self.entry is not None and find_mount(self.mountpoint) == self.entry
        except OSError:
            return False

    def follow_no_symlinks(self) -> None:
        """Raises: PosixError: the mount is not where it was put, or see symfollow.py."""
        try:
            if self.entry is None:
                raise LookupError
            with open_root(self.entry) as root:
                follow_no_symlinks(root)
        except (LookupError, OSError):
            raise PosixError(errno.EIO, f"option 'nosymfollow': the mount is not on {self.mountpoint}") from None

    async def _detach(self) -> None:
        with trio.move_on_after(GRACE):
            if os.geteuid() == 0:
                if self.entry is not None:
                    self.detached = await trio.to_thread.run_sync(detach_mount, self.entry, abandon_on_cancel=True)
                return
            try:
                words = ["fusermount3", "-u", "-z", self.mountpoint]
                result = await trio.run_process(words, check=False, capture_stdout=True, capture_stderr=True)
            except OSError as error:
                log.debug("fusermount3: %s", error)
            else:
                self.detached = result.returncode == 0

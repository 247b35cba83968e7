"""Serving a mount, from mounting to the end.

Requests are read by a DeviceLoop (device/loop.py), or with option loop=pyfuse3 by pyfuse3 (libfuse.py). A mount ends by
one of these:

    umount(8)                the kernel closes the device, and the loop ends by itself
    SIGTERM, SIGINT          the mount is detached while the loop still serves, so that the kernel can write back its
                             dirty pages; if programs still use it after GRACE seconds, the loop is made to end; after
                             GRACE more, handlers that still wait for a server are cancelled
    an error in the loop     the mount is unmounted, or else every access to it would hang

SIGUSR1 writes the stacks of all tasks and threads to the log.

Nothing here may access a path of the mount. In trio's thread that would wait for an answer of the loop, which waits for
it. In another thread it would be answered; but if the process is killed meanwhile, that thread goes on waiting in spite
of SIGKILL, and keeps the device open: the mount hangs until its connection is aborted.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.background import contain, keep_going
from dfsfs.control.places import device_of
from dfsfs.errors import PosixError
from dfsfs.fuse.device.capabilities import make_wanted
from dfsfs.fuse.device.loop import DeviceLoop
from dfsfs.fuse.device.mounting import open_device
from dfsfs.fuse.interrupts import Interrupts
from dfsfs.fuse.mountplace import detach_mount, find_mount, open_root
from dfsfs.fuse.stacks import describe_stacks
from dfsfs.fuse.symfollow import follow_no_symlinks
from dfsfs.fuse.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.control.places import MountEntry
    from dfsfs.fuse.device.mounting import MountSpec
    from dfsfs.fuse.kerneloperations import KernelOperations

log = logging.getLogger("dfsfs.fuse")

NOTIFIERS = 16
"""Threads that wait for the kernel to drop pages or attributes at most."""
GRACE = 5.0
"""Seconds between the steps in which a busy mount is unmounted, and that closing files may take at the end."""
READ_AHEAD_KB = 4096
"""KiB that the kernel reads ahead in a file. Its default of 128 leaves a sequential read waiting for each answer; with
1024 there is one request at a time (324 MB/s with answers after 0.5 ms), with 4096 several (542 MB/s), and still more
gains nothing."""


class FuseLoop(Protocol):
    """What reads the kernel's requests of one mount, and has them handled."""

    async def run(self) -> None:
        """Serves requests until the file system is unmounted, or after `stop`."""

    def stop(self) -> None:
        """No further request is read; those that were are answered."""

    def close(self) -> None:
        """Closes the device. What is still mounted gives errors."""

    def invalidate(self, ino: int) -> None:
        """The kernel drops the attributes and all pages of an inode. It may block. Raises: OSError."""

    def invalidate_attributes(self, ino: int) -> None:
        """As `invalidate`, for the attributes alone."""


class FuseKernelCache:
    """The kernel's page cache and attribute cache of the mount, as a KernelCache.

    To drop pages, the kernel waits for reads of the file that are under way, which the loop has to answer: so a thread
    waits for it. The threads are for that alone, since the reads may wait for something that needs a thread, too.
    """

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(NOTIFIERS)
        self._loop: FuseLoop | None = None

    def connect(self, loop: FuseLoop) -> None:
        """Says whom the kernel can be told through. Before, it has nothing in its caches."""
        self._loop = loop

    async def invalidate(self, ino: int) -> None:
        if self._loop is not None:
            await self._notify(self._loop.invalidate, ino)

    async def invalidate_attributes(self, ino: int) -> None:
        if self._loop is not None:
            await self._notify(self._loop.invalidate_attributes, ino)

    async def _notify(self, tell: Callable[[int], None], ino: int) -> None:
        try:
            await trio.to_thread.run_sync(tell, ino, abandon_on_cancel=True, limiter=self._threads)
        except OSError as error:
            if error.errno != errno.ENOENT:  # ENOENT: the kernel does not know the inode any more
                log.warning("the kernel does not forget what it has of node %d: %s", ino, error)


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How a mount is served."""

    spec: MountSpec
    uses_pyfuse3: bool = False
    read_ahead_kb: int = READ_AHEAD_KB
    """KiB that the kernel reads ahead."""
    follow_symlinks: bool = True
    """Whether the kernel follows symbolic links of the mount."""


async def serve(
    operations: KernelOperations, settings: ServeSettings, kernel: FuseKernelCache, on_ready: Callable[[], None]
) -> None:
    """Mounts, calls `on_ready` as soon as programs can use the mount, and returns when it has been unmounted.

    Raises:
        PosixError: FUSE refused the mount, or the kernel has no option nosymfollow.
        ExceptionGroup: something unexpected ended the main loop. The mount is gone then, too.
    """
    mountpoint, interrupts = settings.spec.mountpoint, Interrupts(operations)
    loop = await _mount(operations, settings, interrupts)
    kernel.connect(loop)
    mount = _Mount(mountpoint, loop)
    try:
        mount.entry = await trio.to_thread.run_sync(find_mount, mountpoint)
        if not settings.follow_symlinks:
            await trio.to_thread.run_sync(mount.follow_no_symlinks)  # before the first answer, see symfollow.py
        async with trio.open_nursery() as nursery:
            await nursery.start(_handle_signals, mount)
            if settings.uses_pyfuse3:
                waiters = Waiters(operations, mount.entry.device if mount.entry else None)
                nursery.start_soon(keep_going, "waiters", waiters.serve)
            else:
                nursery.start_soon(keep_going, "interrupts", interrupts.serve)
            nursery.start_soon(_announce, operations, mountpoint, settings.read_ahead_kb, on_ready)
            with mount.scope:
                await loop.run()
            mount.ended.set()
            nursery.cancel_scope.cancel()
    finally:
        # By the path for others than root, so only if that still leads to the mount.
        with trio.CancelScope(shield=True):
            if not mount.detached and await trio.to_thread.run_sync(mount.is_in_place):
                if mount.ended.is_set():
                    log.warning("%s: the kernel has ended the connection, and the mount is taken away", mountpoint)
                await mount.detach()
        loop.close()


async def _mount(operations: KernelOperations, settings: ServeSettings, interrupts: Interrupts) -> FuseLoop:
    """Mounts. Raises: PosixError."""
    spec = settings.spec
    if settings.uses_pyfuse3:
        from dfsfs.fuse.libfuse import LACKS, LibfuseLoop  # libfuse is loaded only where it is used

        log.info("loop=pyfuse3: this mount has not: %s", LACKS)
        return LibfuseLoop(operations, spec)
    only_user = os.getuid() if "allow_root" in spec.words else None
    device = await trio.to_thread.run_sync(open_device, spec)  # fusermount3 may take its time
    return DeviceLoop(device, operations, make_wanted(), interrupts.notice, only_user=only_user)


async def _announce(
    operations: KernelOperations, mountpoint: str, read_ahead_kb: int, on_ready: Callable[[], None]
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
    loop: FuseLoop
    entry: MountEntry | None = None
    """Its entry in the kernel's list of mounts; None if that is not known."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around the main loop, with all handlers."""
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when the main loop has ended."""
    detached: bool = False
    """Whether it was detached from the mount point. Programs may still have files open."""

    async def end(self) -> None:
        """Unmounts in the steps that the module's text describes."""
        await self.detach()
        if await self._wait_ended():
            return
        log.info("%s is busy: the programs that use it will get errors", self.mountpoint)
        self.loop.stop()
        if await self._wait_ended():
            return
        log.warning("%s: requests that still wait for a server are given up", self.mountpoint)
        self.scope.cancel()

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

    async def detach(self) -> None:
        """Takes the mount away from its mount point; programs may still have files open."""
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

"""Serving a mount: from pyfuse3.init to the end, whoever brings it about.

How a mount ends, and what happens then:

    umount by a user         the kernel closes the device; the main loop ends by itself
    SIGTERM, SIGINT          the mount is detached while the loop still serves, so that the kernel can write back what
                             it has; if it is busy and the loop has not ended after GRACE seconds, the loop is told to
                             end; after GRACE more, handlers that still wait for a server are cancelled
    an error in the loop     the mount is taken down, or else every access to it would hang

SIGUSR1 puts what every task and thread is doing in the log.

Nothing here may look at a path of the mount. From trio's thread the kernel would wait for an answer from the loop that
waits for it. From another one it would be answered, but if the process is killed meanwhile, that thread waits on,
beyond SIGKILL, and keeps the device open: a mount that hangs until somebody aborts its connection.

pyfuse3 keeps its session in a global: one mount per process.
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
from dfsfs.fuse.place import detach, find, root_of
from dfsfs.fuse.stacks import describe_stacks
from dfsfs.fuse.symfollow import follow_no_symlinks
from dfsfs.fuse.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dfsfs.control.places import MountEntry
    from dfsfs.fuse.operations import DfsOperations

log = logging.getLogger("dfsfs.fuse")

NOTIFIERS = 16
"""Threads that may wait for the kernel to forget something."""
GRACE = 5.0
"""Seconds between the steps of taking a busy mount down."""
MIN_TASKS = 10
"""Idle tasks that wait for requests. With fewer, tasks are made and ended all the time."""
MAX_TASKS = 200
"""Requests that are worked on at the same time; the kernel queues the others. Handlers that wait for a dead server must
not keep those of another from being served."""
READ_AHEAD_KB = 4096
"""What the kernel reads ahead in a file. Its default of 128 KiB leaves a sequential read waiting for each answer; with
1 MiB there is one request at a time (324 MB/s with answers after 0.5 ms), with 4 MiB several (542 MB/s), and still more
gains nothing."""


class FuseCache:
    """What the kernel keeps of the files of the mount, as a KernelCache.

    The kernel waits for reads of the file that are under way, which the loop has to answer: so a thread waits for it.
    There are threads for that alone, since what the reads wait for may need some, too.
    """

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(NOTIFIERS)

    async def forget(self, ino: int) -> None:
        await self._notify(ino, attributes_only=False)

    async def forget_attributes(self, ino: int) -> None:
        await self._notify(ino, attributes_only=True)

    async def _notify(self, ino: int, *, attributes_only: bool) -> None:
        try:
            await trio.to_thread.run_sync(
                pyfuse3.invalidate_inode, ino, attributes_only, abandon_on_cancel=True, limiter=self._threads
            )
        except OSError as error:
            if error.errno != errno.ENOENT:  # it does not know the file any more
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
    """Mounts, calls `on_ready` as soon as the mount answers, and returns when it is unmounted or a signal ends it.

    Raises:
        PosixError: FUSE refused the mount, or the kernel does not leave symbolic links alone.
        ExceptionGroup: something unexpected ended the main loop. The mount is gone then, too.
    """
    try:
        pyfuse3.init(operations, mountpoint, set(options))
    except (RuntimeError, OSError, UnicodeError) as error:
        raise PosixError(getattr(error, "errno", None) or 5, f"FUSE can't mount on {mountpoint}: {error}") from error
    mount = _Mount(mountpoint)
    try:
        mount.entry = await trio.to_thread.run_sync(find, mountpoint)
        if not follow_symlinks:
            await trio.to_thread.run_sync(mount.follow_no_symlinks)  # before the first answer, see symfollow.py
        async with trio.open_nursery() as nursery:
            await nursery.start(_obey_signals, mount)
            waiters = Waiters(operations, mount.entry.device if mount.entry else None)
            nursery.start_soon(keep_going, "waiters", waiters.serve)
            nursery.start_soon(_announce, operations, mountpoint, read_ahead_kb, on_ready)
            with mount.loop:
                await pyfuse3.main(min_tasks=MIN_TASKS, max_tasks=MAX_TASKS)
            mount.ended.set()
            nursery.cancel_scope.cancel()
    finally:
        # By its path, so only if that still leads there.
        with trio.CancelScope(shield=True):
            in_place = await trio.to_thread.run_sync(mount.is_in_place)
        pyfuse3.close(unmount=not mount.detached and in_place)


async def _announce(
    operations: DfsOperations, mountpoint: str, read_ahead_kb: int, on_ready: Callable[[], None]
) -> None:
    """Waits until the kernel has what it asks first, tunes the mount and says that it is ready."""
    await operations.begun.wait()  # the kernel lowers the read-ahead when it gets the answer to FUSE_INIT
    await trio.to_thread.run_sync(raise_read_ahead, mountpoint, read_ahead_kb, abandon_on_cancel=True)
    on_ready()


def raise_read_ahead(mountpoint: str, read_ahead_kb: int) -> None:
    """Sets the read-ahead of a mount, which takes root; without, reading is slower and nothing else."""
    try:
        device = device_of(mountpoint)
        if device is not None:
            with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w", encoding="ascii") as file:
                file.write(str(read_ahead_kb))
    except OSError as error:
        log.debug("the read-ahead of %s stays as it is: %s", mountpoint, error)


async def _obey_signals(mount: _Mount, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
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
    """A mount on its way to the end."""

    mountpoint: str
    entry: MountEntry | None = None
    """As the kernel lists it."""
    loop: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when the main loop has ended."""
    detached: bool = False
    """Whether the mount point is free again, though programs may still have files open."""

    async def end(self) -> None:
        """Takes the mount down, step by step."""
        await self._detach()
        if await self._ends():
            return
        log.info("%s is busy: the programs that use it will get errors", self.mountpoint)
        pyfuse3.terminate()
        if await self._ends():
            return
        log.warning("%s: requests that still wait for a server are given up", self.mountpoint)
        self.loop.cancel()

    async def _ends(self) -> bool:
        with trio.move_on_after(GRACE):
            await self.ended.wait()
        return self.ended.is_set()

    def is_in_place(self) -> bool:
        """Whether the mount is on its mount point, as far as is known."""
        try:
            return self.entry is not None and find(self.mountpoint) == self.entry
        except OSError:
            return False

    def follow_no_symlinks(self) -> None:
        """Raises: PosixError: the mount is not where it was put, or see symfollow.py."""
        try:
            if self.entry is None:
                raise LookupError
            with root_of(self.entry) as root:
                follow_no_symlinks(root)
        except (LookupError, OSError):
            raise PosixError(errno.EIO, f"option 'nosymfollow': the mount is not on {self.mountpoint}") from None

    async def _detach(self) -> None:
        with trio.move_on_after(GRACE):
            if os.geteuid() == 0:
                if self.entry is not None:
                    self.detached = await trio.to_thread.run_sync(detach, self.entry, abandon_on_cancel=True)
                return
            try:
                words = ["fusermount3", "-u", "-z", self.mountpoint]
                result = await trio.run_process(words, check=False, capture_stdout=True, capture_stderr=True)
            except OSError as error:
                log.debug("fusermount3: %s", error)
            else:
                self.detached = result.returncode == 0

"""Serving a mount: from pyfuse3.init to the end, whoever brings it about.

How a mount ends, and what happens then:

    umount by a user         the kernel closes the device; the main loop ends by itself
    SIGTERM, SIGINT          the mount is detached while the loop still serves, so that the kernel can write back what it
                             has; if it is busy and the loop has not ended after GRACE seconds, the loop is told to end;
                             after GRACE more, handlers that still wait for a server are cancelled
    an error in the loop     the mount is taken down, or else every access to it would hang

SIGUSR1 puts what every task and thread is doing in the log.

Nothing here may look at a path of the mount from trio's thread: the kernel would wait for an answer from the loop that
waits for it. That goes to worker threads.

pyfuse3 keeps its session in a global: one mount per process.
"""

from __future__ import annotations

import logging
import os
import re
import signal
from typing import TYPE_CHECKING

import pyfuse3
import trio

from dfsfs.errors import PosixError
from dfsfs.fuse.stacks import describe_stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

log = logging.getLogger("dfsfs.fuse")

GRACE = 5.0
"""Seconds between the steps of taking a busy mount down."""
MIN_TASKS = 10
"""Idle tasks that wait for requests. With fewer, tasks are made and ended all the time."""
MAX_TASKS = 200
"""Requests that are worked on at the same time; the kernel queues the others. Handlers that wait for a dead server must not
keep those of another from being served."""
READ_AHEAD_KB = 4096
"""What the kernel reads ahead in a file. Its default of 128 KiB leaves a sequential read waiting for each answer."""

_OCTAL = re.compile(r"\\([0-7]{3})")


async def serve(
    operations: pyfuse3.Operations,
    mountpoint: str,
    options: Collection[str],
    on_ready: Callable[[], None],
    *,
    read_ahead_kb: int = READ_AHEAD_KB,
) -> None:
    """Mounts, calls `on_ready` as soon as the mount answers, and returns when it is unmounted or a signal ends it.

    Raises:
        PosixError: FUSE refused the mount.
        ExceptionGroup: something unexpected ended the main loop. The mount is gone then, too.
    """
    try:
        pyfuse3.init(operations, mountpoint, set(options))
    except (RuntimeError, OSError, UnicodeError) as error:
        raise PosixError(getattr(error, "errno", None) or 5, f"FUSE can't mount on {mountpoint}: {error}") from error
    try:
        async with trio.open_nursery() as nursery:
            ended = trio.Event()
            main = trio.CancelScope()
            await nursery.start(_obey_signals, mountpoint, main, ended)
            nursery.start_soon(_announce, mountpoint, read_ahead_kb, on_ready)
            with main:
                await pyfuse3.main(min_tasks=MIN_TASKS, max_tasks=MAX_TASKS)
            ended.set()
            nursery.cancel_scope.cancel()
    finally:
        pyfuse3.close(unmount=True)


async def _announce(mountpoint: str, read_ahead_kb: int, on_ready: Callable[[], None]) -> None:
    """Waits for the first answer of the mount, tunes it and says that it is ready."""
    # Before the kernel has got its answer to FUSE_INIT it would lower the read-ahead again.
    try:
        await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    except OSError as error:
        log.debug("the first look at %s failed: %s", mountpoint, error)
    await trio.to_thread.run_sync(raise_read_ahead, mountpoint, read_ahead_kb, abandon_on_cancel=True)
    on_ready()


def raise_read_ahead(mountpoint: str, read_ahead_kb: int) -> None:
    """Sets the read-ahead of a mount, which takes root; without, reading is slower and nothing else."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            device = device_of(file.read(), mountpoint)
        if device is not None:
            with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w", encoding="ascii") as file:
                file.write(str(read_ahead_kb))
    except OSError as error:
        log.debug("the read-ahead of %s stays as it is: %s", mountpoint, error)


def device_of(mountinfo: str, mountpoint: str) -> str | None:
    """MAJOR:MINOR of the last mount on a directory, from the text of /proc/PID/mountinfo (proc(5))."""
    found = None
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]) == mountpoint:
            found = fields[2]
    return found


async def _obey_signals(
    mountpoint: str,
    main: trio.CancelScope,
    ended: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
            task_status.started()
            ending = False
            async for number in signals:
                if number == signal.SIGUSR1:
                    log.warning("tasks and threads:\n%s", describe_stacks())
                elif not ending:
                    ending = True
                    log.info("%s: unmounting", signal.Signals(number).name)
                    nursery.start_soon(_end, mountpoint, main, ended)


async def _end(mountpoint: str, main: trio.CancelScope, ended: trio.Event) -> None:
    """Takes the mount down, step by step."""
    with trio.move_on_after(GRACE):
        await _detach(mountpoint)
        await ended.wait()
    log.info("%s is busy: programs that use it will get errors", mountpoint)
    pyfuse3.terminate()
    with trio.move_on_after(GRACE):
        await ended.wait()
    log.warning("%s: requests that still wait for a server are given up", mountpoint)
    main.cancel()


async def _detach(mountpoint: str) -> None:
    command = ["umount", "-i", "-l", mountpoint] if os.geteuid() == 0 else ["fusermount3", "-u", "-z", mountpoint]
    try:
        await trio.run_process(command, check=False, capture_stderr=True)
    except OSError as error:
        log.debug("%s: %s", command[0], error)

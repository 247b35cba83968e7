"""Service: what a running mount offers besides the mount: its control socket, metrics, notifications to systemd.

All of it runs in tasks of the mount's nursery, and can neither end the mount nor keep it waiting.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.background import contain, keep_going
from dfsfs.config.errors import ConfigError
from dfsfs.control import server
from dfsfs.control.notify import notifier_from
from dfsfs.control.places import device_of
from dfsfs.control.socketfile import remove_dead
from dfsfs.mount.unmountwatch import warn_when_unmounted
from dfsfs.threads import import_in_thread

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from dfsfs.config.model import MountConfig
    from dfsfs.control.commands import Answer
    from dfsfs.control.mount import Mount
    from dfsfs.control.notify import Notifier
    from dfsfs.control.protocol import Request

log = logging.getLogger("dfsfs.fuse")

STATUS_INTERVAL = 5.0
"""Seconds after which the status line that systemd has is compared with the present one, at most."""


@dataclass(frozen=True, slots=True)
class Service:
    """See the module's text."""

    notifier: Notifier
    metrics: socket.socket | None
    """The socket that metrics are asked for at; None without option metrics=."""

    def begin(self, mount: Mount, nursery: trio.Nursery) -> None:
        """Starts the tasks in `nursery`. To be called as soon as programs can use the mount."""
        _open_control(mount, nursery)
        _watch(mount, nursery)
        if self.metrics is not None:
            from dfsfs.control.metrics import Metrics, serve

            nursery.start_soon(contain, "metrics", partial(serve, self.metrics, Metrics(mount)))
        if self.notifier.address is not None:
            from dfsfs.control.report import summarize

            self.notifier.tell_ready(summarize(mount))
            nursery.start_soon(keep_going, "systemd", partial(_report_status, self.notifier, mount))
            if self.notifier.watchdog is not None:
                pause = self.notifier.watchdog / 3
                nursery.start_soon(keep_going, "watchdog", partial(_keep_alive, self.notifier, pause))

    def close(self) -> None:
        """Closes the socket that `prepare` has opened."""
        if self.metrics is not None:
            path = self.metrics.getsockname() if self.metrics.fileno() >= 0 else None
            self.metrics.close()
            if isinstance(path, str) and path:
                remove_dead(path)


def prepare(config: MountConfig) -> Service:
    """Opens what may fail, before anything is mounted.

    Raises:
        ConfigError: the address of option metrics= can't be listened at.
    """
    listener = None
    if config.metrics is not None:
        from dfsfs.control.metrics import listen

        try:
            listener = listen(config.metrics)
        except OSError as error:
            raise ConfigError(f"option 'metrics={config.metrics}': {error.strerror or error}") from None
    return Service(notifier_from(os.environ, os.getpid()), listener)


def _open_control(mount: Mount, nursery: trio.Nursery) -> None:
    """Starts the task that serves the mount's control socket. A mount works without one: a failure is a warning."""
    owner = os.geteuid()
    try:
        device = device_of(mount.mountpoint)
        if device is None:
            raise server.NoPlace("the mount is not in /proc/self/mountinfo")
        listener, path = server.open_socket(device, owner)
    except (server.NoPlace, OSError) as error:
        log.warning("there is no control socket, so dfsfs status and its like do not work: %s", error)
        return
    serving = partial(server.serve, listener, path, owner, partial(_answer, mount))
    nursery.start_soon(contain, "control socket", serving)


async def _answer(mount: Mount, request: Request) -> Answer:
    """Carries a request at the control socket out. Raises ControlError."""
    answer = await import_in_thread(_load_commands)
    return await answer(mount, request)


def _load_commands() -> Callable[[Mount, Request], Awaitable[Answer]]:
    from dfsfs.control.commands import answer

    return answer


def _watch(mount: Mount, nursery: trio.Nursery) -> None:
    """Starts the task that notices when the mount is unmounted and goes on."""
    with suppress(OSError):
        mount.device = device_of(mount.mountpoint)
    if mount.device is not None:
        nursery.start_soon(keep_going, "mount table", partial(warn_when_unmounted, mount, mount.device))


async def _report_status(notifier: Notifier, mount: Mount) -> None:
    """Sends systemd the status line of the mount when it has changed."""
    from dfsfs.control.report import summarize

    told = ""
    while True:
        now = summarize(mount)
        if now != told:
            notifier.tell_status(now)
            told = now
        await trio.sleep(STATUS_INTERVAL)


async def _keep_alive(notifier: Notifier, pause: float) -> None:
    """Tells systemd that the loop runs, whatever else goes wrong."""
    while True:
        notifier.tell_alive()
        await trio.sleep(pause)

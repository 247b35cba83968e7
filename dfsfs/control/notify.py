"""Telling systemd how the service is: sd_notify(3), for mounts that run as one (Type=notify).

A message is a datagram of lines to the socket in NOTIFY_SOCKET. Nothing is told where there is none, and that a message
can't be sent is no reason to fail: systemd finds out by its own time-out.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("dfsfs.control")

MAX_STATUS = 400
"""Characters of a status line."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """Where to tell, if anywhere. `watchdog`: seconds within which systemd wants to hear that we live, None: it does
    not ask.
    """

    address: str | None = None
    watchdog: float | None = None

    def tell_ready(self, status: str) -> None:
        """The mount can be used."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={_line(status)}")

    def tell_status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={_line(text)}")

    def tell_alive(self) -> None:
        """For the watchdog."""
        self._send("WATCHDOG=1")

    def tell_stopping(self) -> None:
        """The mount is being taken down."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), self.address)
        except OSError as error:
            log.debug("systemd is not told: %s", error)


def notifier_from(environment: Mapping[str, str], pid: int) -> Notifier:
    """What the environment of a service says. A watchdog is for the process that WATCHDOG_PID names."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        address = "\0" + address[1:]  # in the abstract namespace (unix(7))
    elif not address.startswith("/"):
        return Notifier()
    usec, meant = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    watched = usec.isascii() and usec.isdigit() and int(usec) > 0 and meant in ("", str(pid))
    return Notifier(address, int(usec) / 1e6 if watched else None)


def _line(text: str) -> str:
    return printable(text)[:MAX_STATUS]

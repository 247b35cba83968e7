"""Bounds for connections to a mount: they are counted, and never use the last of the file descriptors.

Programs that connect to a socket decide how many descriptors its own program has in use. So each listener of a mount
has a bound, and none of them gets what the process needs for its servers and files: a quarter of its descriptors
(RLIMIT_NOFILE, getrlimit(2)).
"""

from __future__ import annotations

import logging
import resource
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio.socket import SocketType

log = logging.getLogger("dfsfs.control")

PAUSE = 1.0
"""Seconds without a descriptor for a connection until the next one is tried."""


def takes_of_reserve(descriptor: int) -> bool:
    """Whether a descriptor that was just made is one of those that listeners can't have.

    The kernel gives the lowest number that is free, so its number says how many are in use at least.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit != resource.RLIM_INFINITY and descriptor >= limit - limit // 4


async def next_connection(listener: SocketType, name: str) -> SocketType:
    """Waits for a connection. That there can be none at the moment is a warning, with the listener's name in it."""
    while True:
        try:
            connection, _ = await listener.accept()
        except OSError as error:
            log.warning("%s takes no connection: %s", name, error.strerror or error)
            await trio.sleep(PAUSE)
        else:
            return connection

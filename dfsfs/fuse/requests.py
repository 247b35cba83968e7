"""The requests that are being handled: what boundary.py notes of each, and what ends one before its deadline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import trio

    from dfsfs.fuse.abi.requests import InHeader


class Request(NamedTuple):
    """A request that is being handled."""

    call: str
    """Its handler: a key of errnos.ALLOWED."""
    arguments: tuple[object, ...]
    header: InHeader | None
    """As the kernel has described it; None where pyfuse3 has read it."""
    deadline: float = math.inf
    """Seconds that it may take."""


class HasRequests(Protocol):
    """The handlers of a mount."""

    under_way: dict[trio.CancelScope, Request]
    """The requests that are being handled. To end one whose answer no process waits for, it is removed, and its scope
    cancelled: the request ends with EINTR. If it is not removed, it ends with ETIMEDOUT. A scope may be that of other
    requests before and after.
    """
    watcher: trio.Event | None
    """Set, if there is one, when a request begins."""

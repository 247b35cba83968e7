"""KeptHandles: handles on files that no program has open any more, and the next open may get.

Only handles that were not written through are kept, and only while a lease says that the server would ask for them
back. Each is closed after a while, or as soon as anything wants to remove, rename or replace its file.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.namespace.junction import TargetBinding
    from dfsfs.smb.file import RemoteFile
    from dfsfs.smb.leases import Lease
    from dfsfs.smb.wire import Access
    from dfsfs.vfs.nodes import Node

LIMIT = 1000
"""Handles that are kept at most: they cost the server something, too."""


@dataclass(frozen=True, slots=True)
class _Kept:
    remote: RemoteFile
    binding: TargetBinding
    until: float


class KeptHandles:
    """See the module's text. `ended` is called for each handle that was closed, with its file and its lease."""

    def __init__(
        self,
        close_time: float,
        clock: Callable[[], float],
        ended: Callable[[Node, Lease | None], None],
        limit: int = LIMIT,
    ) -> None:
        self._close_time = close_time
        self._clock = clock
        self._ended = ended
        self._limit = limit
        self._handles: OrderedDict[tuple[Node, Access], _Kept] = OrderedDict()
        self._filled = trio.Event()

    @property
    def count(self) -> int:
        return len(self._handles)

    async def serve(self) -> None:
        """Closes handles whose time has come. Runs until it is cancelled."""
        while True:
            await self._filled.wait()
            while self._handles:
                key, kept = next(iter(self._handles.items()))
                remaining = kept.until - self._clock()
                if remaining > 0:
                    await trio.sleep(remaining)
                else:
                    self._close(key)
            self._filled = trio.Event()

    def put(self, node: Node, access: Access, remote: RemoteFile, binding: TargetBinding) -> bool:
        """Keeps a handle; False if it has to be closed instead."""
        if not self._close_time or (node, access) in self._handles:
            return False
        self._handles[node, access] = _Kept(remote, binding, self._clock() + self._close_time)
        if len(self._handles) > self._limit:
            self._close(next(iter(self._handles)))
        self._filled.set()
        return True

    def take(self, node: Node, access: Access, binding: TargetBinding | None) -> RemoteFile | None:
        """A kept handle on the file, if there is one for that access on the target that is in use."""
        kept = self._handles.get((node, access))
        if kept is None or binding is None or kept.binding is not binding or not kept.remote.alive:
            return None
        del self._handles[node, access]
        return kept.remote

    def drop(self, node: Node) -> None:
        """Closes what is kept of a file, or of the files in a folder and below."""
        for key in [key for key in self._handles if _is_within(key[0], node)]:
            self._close(key)

    def clear(self) -> None:
        """Closes everything."""
        for key in list(self._handles):
            self._close(key)

    def _close(self, key: tuple[Node, Access]) -> None:
        remote = self._handles.pop(key).remote
        remote.discard()
        self._ended(key[0], remote.lease)


def _is_within(node: Node, above: Node) -> bool:
    at: Node | None = node
    while at is not None:
        if at is above:
            return True
        at = at.parent
    return False

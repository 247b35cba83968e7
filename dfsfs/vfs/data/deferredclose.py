"""DeferredCloses: handles of the server that programs have closed, and that the next open of the file may use.

That is done only with handles that were not written through, and only under a lease, which the server breaks if another
client needs the file closed. Each is closed after a while, or before its file is removed, renamed or replaced.

A handle is found by what it is on the server: the share, the file's id and the path that it was opened by. It is not
found by its inode, as the kernel may have forgotten that in between, and another DFS link to the same share has another
one. `drop` closes the handles on a file whichever way it was opened.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from dfsfs.smb.wire.constants import Access

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.namespace.junction import Attempt, TargetBinding
    from dfsfs.smb.connection.leases import Lease
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inodetable import Inode

    _Key = tuple[UncPath, UncPath | int, Access]

LIMIT = 1000
"""Handles that are kept at most: each of them costs the server memory, too."""


@dataclass(frozen=True, slots=True)
class _DeferredClose:
    inode: Inode
    """That of the file when it was closed. It may have left the table since."""
    remote: RemoteFile
    binding: TargetBinding
    until: float


class DeferredCloses:
    """See the module's text. `close_time`: seconds for which a handle is kept. `on_close` is called with the inode and
    the lease of each handle that was closed.
    """

    def __init__(
        self,
        close_time: float,
        clock: Callable[[], float],
        on_close: Callable[[Inode, Lease | None], None],
        limit: int = LIMIT,
    ) -> None:
        self._close_time = close_time
        self._clock = clock
        self._on_close = on_close
        self._limit = limit
        self._handles: OrderedDict[_Key, _DeferredClose] = OrderedDict()
        self._filled = trio.Event()

    @property
    def count(self) -> int:
        return len(self._handles)

    async def serve(self) -> None:
        """Closes handles when their time has come. Runs until it is cancelled."""
        while True:
            await self._filled.wait()
            while self._handles:
                key, deferred = next(iter(self._handles.items()))
                remaining = deferred.until - self._clock()
                if remaining > 0:
                    await trio.sleep(remaining)
                else:
                    self._close(key)
            self._filled = trio.Event()

    def put(self, inode: Inode, access: Access, remote: RemoteFile, binding: TargetBinding) -> bool:
        """Keeps a handle. Returns False if it has to be closed instead."""
        key = (binding.tree.volume, remote.stat.file_id or remote.path, access)
        if not self._close_time or key in self._handles:
            return False
        self._handles[key] = _DeferredClose(inode, remote, binding, self._clock() + self._close_time)
        if len(self._handles) > self._limit:
            self._close(next(iter(self._handles)))
        self._filled.set()
        return True

    def take(self, inode: Inode, access: Access, binding: TargetBinding | None) -> RemoteFile | None:
        """Takes out a handle on the file with that access, if there is one on the target that is in use (`binding`).

        An inode that is new since then takes over the handle's lease; one that has another lease gets None.
        """
        if binding is None or (path := _path_of(inode, binding)) is None:
            return None
        key = (binding.tree.volume, inode.file_id or path, access)
        deferred = self._handles.get(key)
        if (
            deferred is None
            or deferred.binding is not binding
            or not deferred.remote.alive
            or deferred.remote.path != path
        ):
            return None
        lease = deferred.remote.lease
        if deferred.inode is not inode and (lease is None or inode.lease is not None):
            return None
        del self._handles[key]
        return deferred.remote

    def lease_of(self, inode: Inode) -> Lease | None:
        """The lease of a handle that is kept on the file under the inode's path, also if the inode is new since."""
        if not self._handles or not inode.file_id:
            return None
        deferred = self._handles.get((inode.share, inode.file_id, Access.READ)) if inode.share is not None else None
        if deferred is None or not deferred.remote.alive or deferred.remote.path != _path_of(inode, None):
            return None
        return deferred.remote.lease

    def drop(self, inode: Inode) -> bool:
        """Closes the handles on a file, or on the files in a directory and below. Returns whether there were any."""
        if not self._handles:
            return False
        if inode.share is not None and inode.file_id and not inode.is_directory:
            one: _Key = (inode.share, inode.file_id, Access.READ)  # handles with other access are not kept
            found = [one] if one in self._handles else []
        else:
            path = _path_of(inode, None)
            found = [key for key, deferred in self._handles.items() if _is_of(inode, path, key, deferred)]
        for key in found:
            self._close(key)
        return bool(found)

    def close_on_connection(self, attempt: Attempt) -> bool:
        """Closes the handles on the connection of an attempt. Returns whether there were any."""
        connection = attempt.tree.connection
        found = [key for key, deferred in self._handles.items() if deferred.remote.tree.connection is connection]
        for key in found:
            self._close(key)
        return bool(found)

    def clear(self) -> None:
        """Closes all handles."""
        for key in list(self._handles):
            self._close(key)

    def _close(self, key: _Key) -> None:
        deferred = self._handles.pop(key)
        deferred.remote.discard()
        self._on_close(deferred.inode, deferred.remote.lease)


def _path_of(inode: Inode, binding: TargetBinding | None) -> UncPath | None:
    """Where an inode is on the target that its junction leads to, or on `binding`; None if it has no place there."""
    location = inode.location
    if location is None or (binding := binding or location.junction.binding) is None:
        return None
    return binding.target.join(location.components)


def _is_of(inode: Inode, path: UncPath | None, key: _Key, deferred: _DeferredClose) -> bool:
    """Whether a handle is on the inode's file, or on a file in that directory or below."""
    if deferred.inode is inode:
        return True
    if path is not None and path.is_prefix_of(deferred.remote.path):
        return True
    return bool(inode.file_id) and key[:2] == (inode.share, inode.file_id)

"""DeferredCloses: handles on files that no program has open any more, and the next open may get.

Only handles that were not written through are kept, and only while a lease says that the server would ask for them
back. Each is closed after a while, or as soon as anything wants to remove, rename or replace its file.

A kept handle is found by what it is on the server, the share, the file's id and the path it was opened by, and not by
its inode: the kernel may have forgotten that in between, and another DFS link to the same share has another one. `drop`
closes what is kept of a file whichever way it was opened.
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
"""Handles that are kept at most: they cost the server something, too."""


@dataclass(frozen=True, slots=True)
class _Kept:
    inode: Inode
    """The file's, when it was closed. It may be out of the table by now."""
    remote: RemoteFile
    binding: TargetBinding
    until: float


class DeferredCloses:
    """See the module's text. `ended` is called for each handle that was closed, with its file and its lease."""

    def __init__(
        self,
        close_time: float,
        clock: Callable[[], float],
        ended: Callable[[Inode, Lease | None], None],
        limit: int = LIMIT,
    ) -> None:
        self._close_time = close_time
        self._clock = clock
        self._ended = ended
        self._limit = limit
        self._handles: OrderedDict[_Key, _Kept] = OrderedDict()
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

    def put(self, inode: Inode, access: Access, remote: RemoteFile, binding: TargetBinding) -> bool:
        """Keeps a handle; False if it has to be closed instead."""
        key = (binding.tree.volume, remote.stat.file_id or remote.path, access)
        if not self._close_time or key in self._handles:
            return False
        self._handles[key] = _Kept(inode, remote, binding, self._clock() + self._close_time)
        if len(self._handles) > self._limit:
            self._close(next(iter(self._handles)))
        self._filled.set()
        return True

    def take(self, inode: Inode, access: Access, binding: TargetBinding | None) -> RemoteFile | None:
        """A kept handle on the file, if there is one for that access on the target that is in use.

        An inode that is new since takes the handle's lease over; one that has another lease does not get the handle.
        """
        if binding is None or (path := _path_of(inode, binding)) is None:
            return None
        key = (binding.tree.volume, inode.file_id or path, access)
        kept = self._handles.get(key)
        if kept is None or kept.binding is not binding or not kept.remote.alive or kept.remote.path != path:
            return None
        lease = kept.remote.lease
        if kept.inode is not inode and (lease is None or inode.lease is not None):
            return None
        del self._handles[key]
        return kept.remote

    def lease_of(self, inode: Inode) -> Lease | None:
        """The lease of what is kept of a file under the inode's own path: one that the kernel had forgotten,
        perhaps."""
        if not self._handles or not inode.file_id:
            return None
        kept = self._handles.get((inode.share, inode.file_id, Access.READ)) if inode.share is not None else None
        if kept is None or not kept.remote.alive or kept.remote.path != _path_of(inode, None):
            return None
        return kept.remote.lease

    def drop(self, inode: Inode) -> bool:
        """Closes what is kept of a file, or of the files in a folder and below. Whether there was anything."""
        if not self._handles:
            return False
        if inode.share is not None and inode.file_id and not inode.is_directory:
            one: _Key = (inode.share, inode.file_id, Access.READ)  # none else is kept
            found = [one] if one in self._handles else []
        else:
            path = _path_of(inode, None)
            found = [key for key, kept in self._handles.items() if _is_of(inode, path, key, kept)]
        for key in found:
            self._close(key)
        return bool(found)

    def give_back(self, attempt: Attempt) -> bool:
        """Closes what is kept on the connection of an attempt. Whether there was anything."""
        connection = attempt.tree.connection
        found = [key for key, kept in self._handles.items() if kept.remote.tree.connection is connection]
        for key in found:
            self._close(key)
        return bool(found)

    def clear(self) -> None:
        """Closes everything."""
        for key in list(self._handles):
            self._close(key)

    def _close(self, key: _Key) -> None:
        kept = self._handles.pop(key)
        kept.remote.discard()
        self._ended(kept.inode, kept.remote.lease)


def _path_of(inode: Inode, binding: TargetBinding | None) -> UncPath | None:
    """Where an inode is on the target that its junction leads to, or on `binding`; None if it has no place there."""
    location = inode.location
    if location is None or (binding := binding or location.junction.binding) is None:
        return None
    return binding.target.join(location.components)


def _is_of(inode: Inode, path: UncPath | None, key: _Key, kept: _Kept) -> bool:
    """Whether a kept handle is one on the inode's file, or on something in that folder or below."""
    if kept.inode is inode:
        return True
    if path is not None and path.is_prefix_of(kept.remote.path):
        return True
    return bool(inode.file_id) and key[:2] == (inode.share, inode.file_id)

"""DeferredCloses: handles of the server that programs have closed, and that the next open of the file may use.

That is done only with handles that were not written through, and only under a lease, which the server breaks if another
client needs the file closed. Each is closed after a while, or before its file is removed, renamed or replaced.

A handle is found by what it is on the server: the share, the file's id and the path that it was opened by. It is not
found by its inode, as the kernel may have forgotten that in between, and another DFS link to the same share has another
one. `drop` closes the handles on a file whichever way it was opened.

A handle may also be parked for one program. An open by name that finds another file than the kernel has asked for fails
with ESTALE, and the kernel tries it once more. What the first try has opened is what the second one gets: by then the
file may have been replaced again, and the program would see the ESTALE of that.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
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
    from dfsfs.vfs.names.inodetable import Inode, InodeTable

    _Key = tuple[UncPath, UncPath | int, Access, int]
    """The share, the file's id or the path, the access, and the process that a handle is parked for."""

LIMIT = 1000
"""Handles that are kept at most: each of them costs the server memory, too."""
PARK_TIME = 0.5
"""Seconds for which a handle is parked: some ten times what a second try takes on a busy machine."""
ANY_PROCESS = 0


@dataclass(frozen=True, slots=True)
class _DeferredClose:
    inode: Inode
    """That of the file when it was closed. It may have left the table since."""
    remote: RemoteFile
    binding: TargetBinding
    until: float


class DeferredCloses:
    """See the module's text. `close_time`: seconds for which a handle is kept. `on_close` is called with the inode and
    the lease of each handle that was closed. `table`: what holds the inodes for which handles are parked.
    """

    def __init__(
        self,
        close_time: float,
        clock: Callable[[], float],
        on_close: Callable[[Inode, Lease | None], None],
        table: InodeTable,
        limit: int = LIMIT,
    ) -> None:
        self._close_time = close_time
        self._clock = clock
        self._on_close = on_close
        self._table = table
        self._limit = limit
        self._handles: OrderedDict[_Key, _DeferredClose] = OrderedDict()
        """The one to be closed first is the first."""
        self._processes: Counter[int] = Counter()
        """For how many handles each process has one parked."""
        self._filled, self._is_sooner = trio.Event(), trio.Event()

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
                if remaining <= 0:
                    self._close(key)
                    continue
                with trio.move_on_after(remaining):
                    await self._is_sooner.wait()
                    self._is_sooner = trio.Event()
            self._filled = trio.Event()

    def put(self, inode: Inode, access: Access, remote: RemoteFile, binding: TargetBinding) -> bool:
        """Keeps a handle. Returns False if it has to be closed instead."""
        key = (binding.tree.volume, remote.stat.file_id or remote.path, access, ANY_PROCESS)
        if not self._close_time or key in self._handles:
            return False
        self._handles[key] = _DeferredClose(inode, remote, binding, self._clock() + self._close_time)
        if len(self._handles) > self._limit:
            self._close(next(iter(self._handles)))
        self._filled.set()
        return True

    def park(self, process: int, inode: Inode, access: Access, remote: RemoteFile, binding: TargetBinding) -> bool:
        """Keeps a handle for the next open by one process; the inode stays in the table meanwhile. Returns False if it
        has to be closed instead.
        """
        key = (binding.tree.volume, remote.stat.file_id or remote.path, access, process)
        if process == ANY_PROCESS or key in self._handles or len(self._handles) >= self._limit:
            return False
        self._table.hold(inode)
        self._processes[process] += 1
        self._handles[key] = _DeferredClose(inode, remote, binding, self._clock() + PARK_TIME)
        self._handles.move_to_end(key, last=False)
        self._filled.set()
        self._is_sooner.set()
        return True

    def has_parked(self, process: int) -> bool:
        """Whether a handle is parked for a process."""
        return process in self._processes

    def take(
        self, inode: Inode, access: Access, binding: TargetBinding | None, process: int = ANY_PROCESS
    ) -> RemoteFile | None:
        """Takes out a handle on the file with that access, if there is one on the target that is in use (`binding`):
        one that is parked for the process, else any.

        An inode that is new since then takes over the handle's lease; one that has another lease gets None.
        """
        if binding is None or (path := _path_of(inode, binding)) is None:
            return None
        key = (binding.tree.volume, inode.file_id or path, access, process)
        if key not in self._handles:
            key = (*key[:3], ANY_PROCESS)
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
        self._remove(key)
        return deferred.remote

    def lease_of(self, inode: Inode) -> Lease | None:
        """The lease of a handle that is kept on the file under the inode's path, also if the inode is new since."""
        if not self._handles or not inode.file_id or inode.share is None:
            return None
        deferred = self._handles.get((inode.share, inode.file_id, Access.READ, ANY_PROCESS))
        if deferred is None or not deferred.remote.alive or deferred.remote.path != _path_of(inode, None):
            return None
        return deferred.remote.lease

    def drop(self, inode: Inode) -> bool:
        """Closes the handles on a file, or on the files in a directory and below. Returns whether there were any."""
        if not self._handles:
            return False
        if inode.share is not None and inode.file_id and not inode.is_directory:
            share, file_id, owners = inode.share, inode.file_id, (ANY_PROCESS, *self._processes)
            keys = [(share, file_id, Access.READ, owner) for owner in owners]  # those with other access are not kept
            found: list[_Key] = [key for key in keys if key in self._handles]
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

    def _remove(self, key: _Key) -> _DeferredClose:
        deferred, process = self._handles.pop(key), key[-1]
        if process != ANY_PROCESS:
            self._processes -= Counter((process,))
            self._table.release(deferred.inode)
        return deferred

    def _close(self, key: _Key) -> None:
        deferred = self._remove(key)
        deferred.remote.discard()
        self._on_close(deferred.inode, deferred.remote.lease)


def _path_of(inode: Inode, binding: TargetBinding | None) -> UncPath | None:
    """Where an inode is on the target that its junction leads to, or on `binding`; None if it has no place there."""
    location = inode.location
    if location is None or (binding := binding or location.junction.for_caller().binding) is None:
        return None
    return binding.target.join(location.components)


def _is_of(inode: Inode, path: UncPath | None, key: _Key, deferred: _DeferredClose) -> bool:
    """Whether a handle is on the inode's file, or on a file in that directory or below."""
    if deferred.inode is inode:
        return True
    if path is not None and path.is_prefix_of(deferred.remote.path):
        return True
    return bool(inode.file_id) and key[:2] == (inode.share, inode.file_id)

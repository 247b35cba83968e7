"""FileLeases: what may be cached of files because the server breaks a lease before another client changes them.

    READ and HANDLE   the kernel's page cache is good at the next open; the close of a handle that was only read is
                      deferred by `close_time` seconds, and the next open gets the handle without a request; with
                      `trust_leases`, attributes are believed for longer than actimeo
    WRITE             no other client has the file open, so dirty data may wait here: see dirtydata.py

When a lease is broken, what depends on it goes first: dirty data is written, deferred handles are closed, the kernel
drops its pages. Only then the break is acknowledged. The next read asks for a lease that was lost in that way before it
asks for data, so that the page cache has no data without one.

One limit belongs to the protocol: a server does not wait for a client that has only READ and HANDLE before it answers a
WRITE of another client. Until the break arrives, programs here may see what was true before.

A lease is asked for under the path of its file. After a rename it ends with the handles that are under it, since some
servers tie the key to the name.

Concurrency: breaks are recorded when they are received, and answered in tasks of `serve`. No lock is held.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.background import contain, keep_going
from dfsfs.errors import DfsfsError
from dfsfs.smb.connection.leases import LeaseRequest, acknowledge_at_once, no_acknowledgement
from dfsfs.smb.wire.constants import Access, LeaseState
from dfsfs.vfs.data.deferredclose import DeferredCloses
from dfsfs.vfs.data.readahead_policy import LIMIT
from dfsfs.vfs.names.inodetable import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.connection.leases import Acknowledge, Lease
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

CLOSE_TIME = 1.0
"""Default of Caching.close_time, in seconds: that of mount.cifs (closetimeo=)."""
RACY_AGE = 3 * 10**9
"""Age in nanoseconds of a last write time below which a second write may leave it as it is: file systems count in
milliseconds, and Samba sets the time up to two seconds late."""
RENEWAL_PAUSE = 1.0
"""Seconds after which a lease is asked for again that the server did not grant."""


class CacheMode(Enum):
    """What may be cached of a file's data, as in mount.cifs (cache=)."""

    STRICT = auto()
    """What a lease covers, and what close-to-open consistency allows."""
    NONE = auto()
    """Nothing: each read and write of a program goes to the server, and no lease is asked for."""
    LOOSE = auto()
    """All of it while size and last write time stay the same, even if other clients write."""


@dataclass(frozen=True, slots=True)
class Caching:
    """How the data of files is cached. `close_time`: seconds by which closes are deferred; `read_ahead`: bytes that are
    read ahead of one position in a file at most; `trust_leases`: attributes are not asked for while a lease covers the
    file, though processes of the server itself may change it without breaking the lease.
    """

    mode: CacheMode = CacheMode.STRICT
    close_time: float = CLOSE_TIME
    read_ahead: int = LIMIT
    trust_leases: bool = False


class KernelCache(Protocol):
    """What the kernel caches of files."""

    async def invalidate(self, ino: int) -> None:
        """Has the kernel drop a file's pages and attributes; returns when it has. Never fails."""

    async def invalidate_attributes(self, ino: int) -> None:
        """Has the kernel drop a file's attributes; returns when it has. Never fails."""


class NoKernelCache:
    """Stands for a kernel that caches nothing."""

    async def invalidate(self, ino: int) -> None:
        """Nothing to forget."""

    async def invalidate_attributes(self, ino: int) -> None:
        """Nothing to forget."""


@dataclass(slots=True, eq=False)
class _Break:
    """What is to be given up for one lease, or of one inode that has none. More may be added while that is done."""

    cause: Lease | Inode
    acknowledge: Acknowledge
    lost: dict[Inode, LeaseState] = field(default_factory=dict)

    def add(self, inode: Inode, lost: LeaseState) -> None:
        self.lost[inode] = self.lost.get(inode, LeaseState.SMB2_LEASE_NONE) | lost

    def take(self) -> dict[Inode, LeaseState]:
        """What was added since the last call."""
        lost, self.lost = self.lost, {}
        return lost


class FileLeases:
    """See the module's text. `write_back` returns when the server has everything that was written to a file."""

    def __init__(
        self, lookup: Lookup, kernel: KernelCache, caching: Caching, write_back: Callable[[Inode], Awaitable[None]]
    ) -> None:
        self.kernel = kernel
        self.deferred = DeferredCloses(caching.close_time, lookup.clock, self.note_close, lookup.table)
        self._lookup = lookup
        self._caching = caching
        self._write_back = write_back
        self._pending: dict[Lease | Inode, _Break] = {}
        """Breaks that are not answered, by their lease, or by the inode that the kernel has to drop."""
        self._breaks, self._breaks_to_answer = trio.open_memory_channel[_Break](math.inf)  # each of them once

    async def serve(self) -> None:
        """Answers breaks, and closes deferred handles when their time has come. Runs until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, "kept handles", self.deferred.serve)
            async for item in self._breaks_to_answer:
                nursery.start_soon(contain, "lease breaks", partial(self._answer_break, item))

    @property
    def mode(self) -> CacheMode:
        return self._caching.mode

    # -- asking -----------------------------------------------------------------------------------------------------

    def request(self, attempt: Attempt, inode: Inode | None, access: Access) -> LeaseRequest | None:
        """The lease to open a file with, or None. `inode` is None if the file is not known yet: `adopt` follows."""
        if self._caching.mode is CacheMode.NONE or self._lookup.attributes.access.is_needed:
            return None  # a lease belongs to one session, and each user has another one
        lease = (inode.lease or self.deferred.lease_of(inode)) if inode is not None else None
        if lease is not None and inode is not None and lease is not inode.lease:
            self.adopt(inode, lease)
        if lease is None or lease.route is not attempt.tree.route or lease.path != attempt.path:
            lease = attempt.tree.make_lease(attempt.path)
            if inode is not None:
                self.adopt(inode, lease)
        if lease is None:
            return None
        return LeaseRequest(lease, LeaseState.ALL if access & Access.FILE_WRITE_DATA else LeaseState.SHARED)

    def adopt(self, inode: Inode, lease: Lease | None) -> None:
        """Makes a lease that of a file from now on."""
        inode.use_page_cache().lease = lease
        if lease is not None:
            lease.on_break = partial(self._note_break, inode, lease)
            if lease.opens and lease.given is not None and lease.given & ~lease.state & LeaseState.SHARED:
                self._lookup.table.invalidate(inode)  # broken when nobody knew yet whose lease it is

    def note_open(self, inode: Inode, stat: FileStat, server_time: int) -> bool:
        """A file was opened. Returns whether the kernel's pages of it are good.

        They are if the lease has covered them without a break, or if size and last write time are those of the open at
        which the kernel began to cache. That does not count if the file had been written so shortly before that another
        write might not show in the time. `server_time`: the server's clock, in ns since 1970.
        """
        cache, stamp = inode.use_page_cache(), (stat.size, stat.written)
        lease = cache.lease
        covered = lease is not None and bool(lease.state & LeaseState.SMB2_LEASE_READ_CACHING)
        keep = cache.stamp == stamp or (covered and cache.data_lease is lease)
        cache.data_lease = lease if covered else None
        is_young = self._caching.mode is CacheMode.STRICT and server_time - stat.written < RACY_AGE
        cache.stamp = None if is_young else stamp
        return keep

    def has_data(self, inode: Inode) -> bool:
        """Whether the kernel probably has good pages of a file that is about to be opened."""
        if inode.stat is None:
            return False
        cache = inode.page_cache
        if cache.data_lease is not None and cache.data_lease is cache.lease:
            return True
        return cache.stamp == (inode.stat.size, inode.stat.written)

    def note_close(self, inode: Inode, lease: Lease | None) -> None:
        """A handle was closed. If it was the last one under the lease, attributes are good for actimeo from now on."""
        if lease is None or lease.opens or inode.lease is not lease:
            return
        lease.on_break = acknowledge_at_once  # else it would know the inode, and itself, until the collector comes
        cache = inode.use_page_cache()
        cache.lease = cache.data_lease = None
        self._lookup.attributes.end_lease_trust(inode)

    # -- losing -----------------------------------------------------------------------------------------------------

    def _note_break(self, inode: Inode, lease: Lease, before: LeaseState, acknowledge: Acknowledge) -> None:
        lost = before & ~lease.state
        if lost & LeaseState.SHARED:
            self._lookup.table.invalidate(inode)
        if lost & LeaseState.SMB2_LEASE_READ_CACHING:
            inode.use_page_cache().distrust()
        if lease.is_lost:
            # Pages are all that programs have until there is a server again, so they stay until then.
            inode.use_page_cache().read_without_lease = True
            lost &= ~LeaseState.SMB2_LEASE_READ_CACHING
        self._queue_break(lease, inode, lost, acknowledge)

    def _queue_break(self, cause: Lease | Inode, inode: Inode, lost: LeaseState, acknowledge: Acknowledge) -> None:
        """Records what is lost, once for each cause: a server may break a lease again and again."""
        pending = self._pending.get(cause)
        if pending is None:
            pending = self._pending[cause] = _Break(cause, acknowledge)
            self._breaks.send_nowait(pending)
        pending.add(inode, lost)

    @property
    def pending(self) -> int:
        """Breaks that are not answered yet."""
        return len(self._pending)

    async def _answer_break(self, item: _Break) -> None:
        lost: dict[Inode, LeaseState] = {}
        try:
            while news := item.take():
                for inode, parts in news.items():
                    await self._give_up(inode, parts)
                    lost[inode] = lost.get(inode, LeaseState.SMB2_LEASE_NONE) | parts
                if item.lost:
                    continue
                item.acknowledge()
                for inode, parts in lost.items():
                    await self._invalidate_unleased(inode, parts)
        finally:
            del self._pending[item.cause]  # also if it failed: else nobody would answer the next one

    async def _give_up(self, inode: Inode, lost: LeaseState) -> None:
        log.debug("%s: the server takes %r back", inode.name, lost)
        if lost & LeaseState.SMB2_LEASE_WRITE_CACHING:
            await self._write_back(inode)
        if lost & LeaseState.SMB2_LEASE_HANDLE_CACHING:
            self.deferred.drop(inode)
        if lost & LeaseState.SMB2_LEASE_READ_CACHING:
            await self.kernel.invalidate(inode.ino)

    async def _invalidate_unleased(self, inode: Inode, lost: LeaseState) -> None:
        while inode.page_cache.read_without_lease and lost & LeaseState.SMB2_LEASE_READ_CACHING:
            # Read while the server was waiting for the acknowledgement: no lease covers those pages.
            inode.use_page_cache().read_without_lease = False
            await self.kernel.invalidate(inode.ino)

    def invalidate_soon(self, inode: Inode) -> None:
        """Has the kernel drop a file's pages as soon as the request that is being handled has been answered: it holds
        them locked until then.
        """
        self._queue_break(inode, inode, LeaseState.SMB2_LEASE_READ_CACHING, no_acknowledgement)

    # -- having it back ---------------------------------------------------------------------------------------------

    def needs_renewal(self, inode: Inode, part: LeaseState) -> bool:
        """Whether a part of a file's lease was lost and should be asked for again: READ or WRITE."""
        lease = inode.lease
        if lease is None or not lease.opens or lease.is_breaking or part & lease.state or not lease.was_granted:
            return False
        waits_until = lease.refused.get(part, NEVER) + RENEWAL_PAUSE
        return self._caching.mode is CacheMode.STRICT and self._lookup.clock() >= waits_until

    def writes_through(self, inode: Inode) -> bool:
        """Whether other clients may have the file open, so that what is written must not wait here."""
        lease = inode.lease
        if lease is None or not lease.was_granted or lease.state & LeaseState.SMB2_LEASE_WRITE_CACHING:
            return False
        return self._caching.mode is CacheMode.STRICT

    async def renew(self, inode: Inode, attempt: Attempt | None, part: LeaseState) -> None:
        """Asks for READ or WRITE of the lease again (`part`), and for HANDLE. It is no error if it is not granted."""
        lease = inode.lease
        if lease is None or attempt is None or lease.route is not attempt.tree.route:
            return
        try:
            await attempt.tree.renew(attempt.path, Access.READ, LeaseRequest(lease, part | LeaseState.SHARED))
        except DfsfsError as error:
            log.debug("%s: asking for its lease again: %s", inode.name, error)
        if not part & lease.state:
            lease.refused[part] = self._lookup.clock()

    def note_read(self, inode: Inode) -> None:
        """Data of the file is about to be read into the page cache."""
        lease = inode.lease
        if lease is None:
            return
        if not lease.state & LeaseState.SMB2_LEASE_READ_CACHING:
            inode.use_page_cache().read_without_lease = True
        elif inode.page_cache.read_without_lease:
            # Pages that were read without a lease go. The kernel waits for reads under way, so this read can't wait.
            inode.use_page_cache().read_without_lease = False
            self.invalidate_soon(inode)

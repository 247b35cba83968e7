"""Leases of a mount's files: what may be kept because the server will say so before somebody else changes it.

    READ and HANDLE   what the kernel has of the data is good at the next open; a handle that was only read stays open
                      for `close_time` after its program has closed it, and the next open gets it without a request;
                      with `trust_leases`, attributes are believed for longer than actimeo
    WRITE             nobody else has the file open, so data that is written may wait here: see fileops.py

When a server takes something back, what depends on it goes first: data that waits is written, handles that nobody uses
are closed, the kernel forgets what it has of the file. Only then the break is acknowledged. Where a lease was lost that
way, the next read asks for it again, before it asks for data, so that the kernel never keeps what nobody would tell us
about.

One limit belongs to the protocol: a server does not wait for a client that has no more than READ and HANDLE before it
answers a WRITE of somebody else. For as long as the message takes to come, programs here may see what was true before.

A lease is asked for under the path of its file. After a rename it ends with the handles that are under it, since some
servers tie the key to the name.

Concurrency: breaks are noted when they are received and answered in tasks of `serve`. No lock is held.
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
"""Seconds that a handle stays open after its program has closed it: mount.cifs's default."""
RACY_AGE = 3 * 10**9
"""Nanoseconds after a write during which another one may leave the last write time as it is: file systems count in
milliseconds, and Samba sets the time up to two seconds late."""
RENEWAL_PAUSE = 1.0
"""Seconds until a lease is asked for again that the server did not give."""


class CacheMode(Enum):
    """What may be kept of a file's data, as in mount.cifs."""

    STRICT = auto()
    """What a lease covers, and what close-to-open allows."""
    NONE = auto()
    """Nothing: each read and write of a program goes to the server, and no lease is asked for."""
    LOOSE = auto()
    """What size and last write time speak for, whoever else writes."""


@dataclass(frozen=True, slots=True)
class Caching:
    """How the data of files is kept. `close_time` in seconds; `read_ahead`: bytes that are asked for at most before a
    program reads them at one position of a file. `trust_leases`: attributes are not asked for while a lease covers the
    file, though processes of the server itself may change it without a word.
    """

    mode: CacheMode = CacheMode.STRICT
    close_time: float = CLOSE_TIME
    read_ahead: int = LIMIT
    trust_leases: bool = False


class KernelCache(Protocol):
    """What the kernel keeps of files."""

    async def forget(self, ino: int) -> None:
        """Returns when it has forgotten a file's data and attributes. Never fails."""

    async def invalidate_attributes(self, ino: int) -> None:
        """Returns when it has forgotten a file's attributes. Never fails."""


class NoKernelCache:
    """There is no kernel that keeps anything."""

    async def forget(self, ino: int) -> None:
        """Nothing to forget."""

    async def invalidate_attributes(self, ino: int) -> None:
        """Nothing to forget."""


@dataclass(slots=True, eq=False)
class _Break:
    """What is to be given up for one lease, or for none. More may be lost while that is under way."""

    cause: Lease | Inode
    acknowledge: Acknowledge
    lost: dict[Inode, LeaseState] = field(default_factory=dict)

    def add(self, inode: Inode, lost: LeaseState) -> None:
        self.lost[inode] = self.lost.get(inode, LeaseState.SMB2_LEASE_NONE) | lost

    def take(self) -> dict[Inode, LeaseState]:
        """What was lost since it was last asked."""
        lost, self.lost = self.lost, {}
        return lost


class FileLeases:
    """See the module's text. `write_back` returns when the server has everything that was written to a file."""

    def __init__(
        self, lookup: Lookup, kernel: KernelCache, caching: Caching, write_back: Callable[[Inode], Awaitable[None]]
    ) -> None:
        self.kernel = kernel
        self.deferred = DeferredCloses(caching.close_time, lookup.clock, self.ended)
        self._lookup = lookup
        self._caching = caching
        self._write_back = write_back
        self._pending: dict[Lease | Inode, _Break] = {}
        """Breaks that are not answered: one for a lease, and one for a file that the kernel has to forget."""
        self._breaks, self._breaks_to_answer = trio.open_memory_channel[_Break](math.inf)  # each of them once

    async def serve(self) -> None:
        """Answers breaks and closes kept handles in time. Runs until it is cancelled."""
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

    def opened(self, inode: Inode, stat: FileStat, server_time: int) -> bool:
        """A file was opened. Whether what the kernel has of its data is good.

        Size and last write time tell: those of the open at which the kernel began to keep data, unless the file had
        been written so shortly before that another change might not show in the time. `server_time` is the server's
        clock in nanoseconds.
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
        """Whether the kernel probably has the data of a file that is about to be opened."""
        if inode.stat is None:
            return False
        cache = inode.page_cache
        if cache.data_lease is not None and cache.data_lease is cache.lease:
            return True
        return cache.stamp == (inode.stat.size, inode.stat.written)

    def ended(self, inode: Inode, lease: Lease | None) -> None:
        """A handle was closed: if it was the last one under the lease, what that has covered is good for actimeo."""
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
            # What the kernel has is all that programs have until there is a server again, so it stays until then.
            inode.use_page_cache().read_without_lease = True
            lost &= ~LeaseState.SMB2_LEASE_READ_CACHING
        self._queue_break(lease, inode, lost, acknowledge)

    def _queue_break(self, cause: Lease | Inode, inode: Inode, lost: LeaseState, acknowledge: Acknowledge) -> None:
        """A server may take back as often as it likes: what is pending for a lease takes the rest in."""
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
            await self.kernel.forget(inode.ino)

    async def _invalidate_unleased(self, inode: Inode, lost: LeaseState) -> None:
        while inode.page_cache.read_without_lease and lost & LeaseState.SMB2_LEASE_READ_CACHING:
            # Read while the server was waiting: nobody would say when that becomes wrong.
            inode.use_page_cache().read_without_lease = False
            await self.kernel.forget(inode.ino)

    def invalidate_soon(self, inode: Inode) -> None:
        """What the kernel has of a file is wrong; it can't be told before the request that it waits for is answered."""
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
        """Whether somebody else has the file open, so that what is written must not wait here."""
        lease = inode.lease
        if lease is None or not lease.was_granted or lease.state & LeaseState.SMB2_LEASE_WRITE_CACHING:
            return False
        return self._caching.mode is CacheMode.STRICT

    async def renew(self, inode: Inode, attempt: Attempt | None, part: LeaseState) -> None:
        """Asks once more for a part of the lease, and all below it. That the server does not give it is no error."""
        lease = inode.lease
        if lease is None or attempt is None or lease.route is not attempt.tree.route:
            return
        try:
            await attempt.tree.renew(attempt.path, Access.READ, LeaseRequest(lease, part | LeaseState.SHARED))
        except DfsfsError as error:
            log.debug("%s: asking for its lease again: %s", inode.name, error)
        if not part & lease.state:
            lease.refused[part] = self._lookup.clock()

    def reads(self, inode: Inode) -> None:
        """Data of the file is about to be read for the kernel to keep."""
        lease = inode.lease
        if lease is None:
            return
        if not lease.state & LeaseState.SMB2_LEASE_READ_CACHING:
            inode.use_page_cache().read_without_lease = True
        elif inode.page_cache.read_without_lease:
            # What the kernel got without a lease goes. That waits for reads under way, so they must not wait for it.
            inode.use_page_cache().read_without_lease = False
            self.invalidate_soon(inode)

"""The leases of a volume (MS-SMB2 3.3.1.12, MS-FSA 2.1.5.18): granted, broken, acknowledged.

A break that has to be acknowledged makes the request that caused it wait: MustWait. That is raised before the request
has changed anything, so that it can be carried out again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import LeaseState
from tests.support.fakes.server.errors import MustWait, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.fakes.server.volume import Inode, Open


@dataclass(slots=True, eq=False)
class ServerLease:
    """One lease. `client` is the connection that it belongs to, `tell` sends it a notification."""

    key: bytes
    client: object
    inode: Inode
    version: int
    tell: Callable[[ServerLease, LeaseState, bool], None]
    state: LeaseState = LeaseState.SMB2_LEASE_NONE
    breaking_to: LeaseState | None = None
    """What is left once the client has acknowledged; None: no break is under way."""
    epoch: int = 0
    opens: int = 0


@dataclass(slots=True)
class Leases:
    """The leases of all clients. `given` are the parts that this server gives at all."""

    given: LeaseState = LeaseState.ALL
    apply_grant: dict[tuple[object, bytes], ServerLease] = field(default_factory=dict)

    def find(self, client: object, key: bytes, inode: Inode | None) -> ServerLease | None:
        """The lease under a key. Raises: Refused: INVALID_PARAMETER, it is another file's."""
        lease = self.apply_grant.get((client, key))
        if lease is not None and lease.inode is not inode:
            raise Refused(NtStatus.INVALID_PARAMETER)
        return lease

    def grant(self, lease: ServerLease, opened: Open, wanted: LeaseState) -> None:
        """Puts a new handle under its lease, which gets of what is `wanted` what no other handle stands against."""
        self.apply_grant[lease.client, lease.key] = lease
        lease.opens += 1
        opened.lease = lease
        if lease.breaking_to is not None:
            return
        state = wanted & self.given
        if any(other.lease is not lease and not other.only_looks for other in lease.inode.opens):
            state &= ~LeaseState.SMB2_LEASE_WRITE_CACHING
        if not state & LeaseState.SMB2_LEASE_READ_CACHING:
            state = LeaseState.SMB2_LEASE_NONE
        if state != lease.state and state & lease.state == lease.state:
            lease.state = state
            lease.epoch += 1

    def closed(self, opened: Open) -> None:
        """A handle is gone; the lease goes with the last one."""
        lease = opened.lease
        if lease is None:
            return
        lease.opens -= 1
        if not lease.opens:
            lease.breaking_to = None
            lease.state = LeaseState.SMB2_LEASE_NONE
            self.apply_grant.pop((lease.client, lease.key), None)

    def take_back(self, inode: Inode, own: ServerLease | None, parts: LeaseState, waits_for: LeaseState) -> None:
        """Breaks `parts` of all leases on a file but one's own.

        Raises:
            MustWait: one of `waits_for` is not given back yet.
        """
        waiting = False
        for lease in _of(inode, own):
            if lease.breaking_to is None and lease.state & parts:
                self._break(lease, lease.state & ~parts)
            held = lease.state & waits_for
            waiting = waiting or bool(held and lease.breaking_to is not None)
        if waiting:
            raise MustWait

    def _break(self, lease: ServerLease, left: LeaseState) -> None:
        must_say_so = bool(lease.state & (LeaseState.SMB2_LEASE_HANDLE_CACHING | LeaseState.SMB2_LEASE_WRITE_CACHING))
        lease.epoch += 1
        lease.tell(lease, left, must_say_so)
        if must_say_so:
            lease.breaking_to = left
        else:
            lease.state = left

    def acknowledge(self, client: object, key: bytes, state: LeaseState) -> None:
        """Raises: Refused: there is no such lease or break, or the client keeps more than it may."""
        lease = self.apply_grant.get((client, key))
        if lease is None:
            raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
        if lease.breaking_to is None:
            raise Refused(NtStatus.UNSUCCESSFUL)
        if state & ~lease.breaking_to:
            raise Refused(NtStatus.REQUEST_NOT_ACCEPTED)
        lease.state, lease.breaking_to = state, None


def _of(inode: Inode, own: ServerLease | None) -> Iterable[ServerLease]:
    """The leases on a file but one, each once, in the order in which they were taken."""
    found: dict[ServerLease, None] = {}
    for opened in inode.opens:
        if opened.lease is not None and opened.lease is not own:
            found[opened.lease] = None
    return tuple(found)

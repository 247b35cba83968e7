"""Binds junctions to targets: the one module that replaces a junction's binding, or the referral behind a bound one.

A junction gets another binding for one of these reasons:

    ensure_bound    an operation needs one: the first target of the referral, in the order of targets.py, whose share
                    can be connected
    bind_deeper     a target refers on for the junction's own path: the targets of the deeper referral come next
    replace         another target is connected and to be preferred (failback, or the administrator's wish)
    renew           a new referral has come: the binding is given up if the target is not in it any more
    drop_referral   the link is gone

All of them hold the junction's lock. The first three find out under it whether the junction has been moved in the
meantime, and leave it as it is then: two tasks that come with the same news move it once. A bind that fails answers for
the next ones, for FAILURE_MEMORY seconds, so that a crowd of operations costs one round of connects.

The caller decides when to bind again and for how long: failover.py for operations, maintenance.py for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.errors import (
    SERVER_FAULTS,
    DfsfsError,
    Disposition,
    ForeignCaller,
    LoginNotAllowed,
    SetupRefused,
)
from dfsfs.namespace.connecting import Connector
from dfsfs.namespace.junction import BindFailure, Junction, TargetBinding
from dfsfs.namespace.overrides import TargetOverrides
from dfsfs.namespace.targets import TargetOrder, entry_for, is_dfs, targets_for
from dfsfs.ntstatus import NtStatus
from dfsfs.statusmessages import describe_status
from dfsfs.telemetry import FailedOver, Moved, Reconnected, TargetChosen, TargetSkipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.linkresolver import LinkResolver, PathResolver
    from dfsfs.namespace.reachability import Reachability
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Event, Telemetry
    from dfsfs.unc import UncPath

FAILURE_MEMORY = 2.0
"""Seconds during which a failed bind answers for the next ones, and a target that could not be reached is tried last.

Long enough that a crowd of waiting callers costs one round of connect timeouts, short enough that no user notices it
after the server is back."""


@dataclass(slots=True)
class BindCounts:
    """Counts since the mount."""

    binds: int = 0
    failed_binds: int = 0
    failovers: int = 0
    reconnects: int = 0
    refused_at_once: int = 0
    """Operations that were answered from the memory of a failed bind."""


@dataclass(slots=True)
class TargetSearch:
    """What the run of one operation has found out about the targets of its junction."""

    tried: set[UncPath] = field(default_factory=set)
    """Targets given up."""
    stale: TargetBinding | None = None
    """The binding that failed, which may look alive."""
    error: DfsfsError | None = None
    """The last failure."""
    hops: int = 0
    """How often a target turned out to be a namespace of its own."""

    def count_hop(self, max_hops: int) -> bool:
        """Counts a step into another namespace. Whether that is still permitted."""
        self.hops += 1
        return self.hops <= max_hops

    def get_fit_binding(self, junction: Junction) -> TargetBinding | None:
        """The junction's binding unless it is dead, or has failed this run already."""
        binding = junction.binding
        if binding is None or binding is self.stale or not binding.tree.alive or binding.target in self.tried:
            return None
        return binding


class Binder:
    """See the module's text. One per mount; `resolver` hears which targets were used with success."""

    def __init__(
        self,
        pool: TreeProvider,
        resolver: PathResolver,
        links: LinkResolver,
        *,
        clock: Callable[[], float],
        telemetry: Telemetry,
        reachability: Reachability,
    ) -> None:
        self._resolver = resolver
        self._links = links
        self._clock = clock
        self._telemetry = telemetry
        self.overrides = TargetOverrides()
        self.order = TargetOrder(clock, FAILURE_MEMORY, self.overrides, reachability)
        self.connector = Connector(pool, reachability)
        self.counts = BindCounts()
        self.on_bound: Callable[[Junction], None] = lambda junction: None
        """Called with each junction that an operation has bound."""

    async def ensure_bound(self, junction: Junction, search: TargetSearch) -> TargetBinding:
        """The junction's binding if it is fit for this run by now, or else a new one.

        Raises:
            DfsfsError: none of the targets that the run has not given up can be connected.
        """
        async with junction.lock:
            if (binding := search.get_fit_binding(junction)) is not None:
                return binding
            return await self._bind_locked(junction, search)

    async def bind_deeper(self, junction: Junction, binding: TargetBinding, resolution: Resolution) -> None:
        """The target of `binding` refers on for the junction's own path: the targets of `resolution` come next."""
        async with junction.lock:
            if junction.binding is binding:
                junction.set_resolution(resolution, self._clock())
                junction.binding = None

    async def replace(self, junction: Junction, old: TargetBinding, target: UncPath, tree: Tree) -> bool:
        """Moves the junction from `old` to another target of its referral, connected as `tree`. False if it was moved
        in the meantime, and stays where it is.
        """
        async with junction.lock:
            if junction.binding is not old or junction.resolution is None:
                return False
            junction.bind(target, tree, self._clock())
            self._set_hint(junction, junction.resolution, target)
        return True

    async def renew(self, junction: Junction, resolution: Resolution) -> None:
        """Takes a new referral, and gives the binding up if its target is not in it."""
        async with junction.lock:
            junction.set_resolution(resolution, self._clock())
            if junction.binding is not None and junction.binding.target not in targets_for(junction, resolution):
                junction.binding = None

    async def drop_referral(self, junction: Junction) -> None:
        """The link is gone: the next operation resolves its path anew."""
        async with junction.lock:
            junction.unbind()

    def confirm(self, junction: Junction, binding: TargetBinding) -> None:
        """An operation succeeded: the target becomes the hint of the cache entry (MS-DFSC 3.1.1, 3.1.5.2)."""
        resolution = junction.resolution
        if junction.binding is not binding or resolution is None:
            return
        junction.confirmed_binding = binding
        junction.is_loop = False
        self._set_hint(junction, resolution, binding.target)

    def _set_hint(self, junction: Junction, resolution: Resolution, target: UncPath) -> None:
        entry = entry_for(junction, resolution, target)
        if entry is not None:
            self._resolver.set_hint(resolution, entry)

    async def _bind_locked(self, junction: Junction, search: TargetSearch) -> TargetBinding:
        """Binds the junction to the first target that can be connected. The caller holds the junction's lock."""
        known = junction.failure
        if known is not None and self._clock() < known.until and known.skipped <= search.tried:
            self.counts.refused_at_once += 1
            raise known.error.with_traceback(None)
        skipped, earlier = frozenset(search.tried), search.error
        try:
            if junction.resolution is None:
                junction.set_resolution(await self._links.resolve_link(junction.prefix), self._clock())
            target, tree = await self._connect(junction, search)
        except DfsfsError as error:
            # An error of this run's own attempts, or about one process, says nothing to other operations.
            if error is not earlier and not isinstance(error, ForeignCaller):
                self.counts.failed_binds += 1
                junction.failure = BindFailure(error, self._clock() + FAILURE_MEMORY, skipped)
            raise
        old = junction.last_target
        binding = junction.bind(target, tree, self._clock())
        self._publish_bound(junction.prefix, old, target, search.error)
        self.on_bound(junction)
        return binding

    async def _connect(self, junction: Junction, search: TargetSearch) -> tuple[UncPath, Tree]:
        """Goes through the targets that the run has not given up (MS-DFSC 3.1.5.2) to the first that is there. Those of
        one target set race each other.
        """

        def on_failure(target: UncPath, error: DfsfsError) -> None:
            if error.disposition in SERVER_FAULTS:
                search.tried.add(target)
                search.error = _more_telling(search.error, error)
                self.order.mark_unreachable(target, error)
                self._telemetry.publish(TargetSkipped(junction.prefix, target, str(error)))

        def try_next(error: DfsfsError) -> bool:
            return error.disposition in SERVER_FAULTS and not (tries_behind and _is_no_share(error))

        while group := self.order.next_group(junction, search.tried):
            tries_behind = is_dfs(junction) and search.hops < self._links.max_hops
            result = await self.connector.connect_first(group, on_failure, try_next)
            if result.winners:
                for silent in result.late:
                    self._telemetry.publish(TargetSkipped(junction.prefix, silent, "it is silent, another one answers"))
                return result.winners[0]
            target, error = result.failures[-1]
            if error.disposition not in SERVER_FAULTS:
                raise error
            if not try_next(error) and search.count_hop(self._links.max_hops):
                resolution = await self._links.resolve_behind(junction, target)
                if resolution is not None:
                    junction.set_resolution(resolution, self._clock())
        raise search.error or DfsfsError(f"{junction.prefix}: no target is left", NtStatus.BAD_NETWORK_PATH)

    def _publish_bound(self, prefix: UncPath, old: UncPath | None, target: UncPath, reason: DfsfsError | None) -> None:
        """Counts a bind and makes it an event."""
        self.counts.binds += 1
        status = "a new referral" if reason is None else describe_status(reason.status)
        event: Event
        if old is None:
            event = TargetChosen(prefix, target, "the first that answers")
        elif old == target:
            self.counts.reconnects += 1
            event = Reconnected(prefix, target, status)
        elif reason is None or reason.disposition is Disposition.REFER:
            event = Moved(prefix, old, target)
        else:
            self.counts.failovers += 1
            event = FailedOver(prefix, old, target, status)
        self._telemetry.publish(event)


def _is_no_share(error: DfsfsError) -> bool:
    """Whether the target may be a namespace of its own: the roots of Samba with `msdfs proxy` are no shares."""
    return error.status == NtStatus.BAD_NETWORK_NAME


def _more_telling(known: DfsfsError | None, error: DfsfsError) -> DfsfsError:
    """Which of two failures a program gets if no target is left: the last one, as MS-DFSC has it. But a server that
    says why it can't serve is more telling than those that are down, and these than one that logins may not go to.
    """
    if known is None or (isinstance(known, SetupRefused) and known.is_server_fault):
        return known or error
    return known if isinstance(error, LoginNotAllowed) else error

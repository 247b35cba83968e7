"""The mounted namespace, as the file system sees it.

It turns the path of a mount into a Location, has the Junction of each path, and runs operations by way of failover.py.
Paths are resolved by referralclient.py; maintenance.py works in the background. Nothing here sends a request itself.
"""

from __future__ import annotations

import errno
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

import trio

from dfsfs.background import keep_going
from dfsfs.caller import override_caller
from dfsfs.dfsc.cache import Caches
from dfsfs.dfsc.policy import Policy
from dfsfs.dfsc.referral import Target
from dfsfs.dfsc.walk import Resolution
from dfsfs.errors import PosixError
from dfsfs.namespace.discovery import Discovery
from dfsfs.namespace.failover import RETRY_LIMIT, Failover, FailoverStatistics
from dfsfs.namespace.junction import Attempt, Junction, Location, PathNotCovered
from dfsfs.namespace.reachability import Reachability
from dfsfs.namespace.referralclient import ReferralClient
from dfsfs.namespace.referrals import ReferralSettings
from dfsfs.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.namespace.overrides import TargetOverrides
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.userpools import UserPools
    from dfsfs.smb.wire.fscc import DirEntry, FileStat
    from dfsfs.unc import UncPath

T = TypeVar("T")

FAILOVER_TIMEOUT = 60.0
"""Seconds for everything that one operation waits for besides its first attempt."""

MAX_RECENT_JUNCTIONS = 1000
"""How many junctions stay when no inode is at or below them any more: those that were used last."""


@dataclass(frozen=True, slots=True)
class NamespaceStatistics:
    """A snapshot; the counts are since the mount."""

    junctions: int
    bound: int
    """Junctions with a target whose tree connect is alive."""
    resolving: int
    """Resolutions under way."""
    resolutions: int
    referral_requests: int
    failover: FailoverStatistics


class Namespace:
    """The namespace of one mount. Everything that the file system does on a server goes through `run`."""

    def __init__(
        self,
        pool: Pool,
        *,
        referrals: ReferralSettings | None = None,
        policy: Policy | None = None,
        use_dfs: bool = True,
        failover_timeout: float = FAILOVER_TIMEOUT,
        retries: int = RETRY_LIMIT,
        clock: Callable[[], float] = trio.current_time,
        telemetry: Telemetry | None = None,
        users: UserPools | None = None,
    ) -> None:
        """`use_dfs` False: the mount is one plain share, no referral is ever asked for. `users`: each user of the mount
        acts by a login of their own.
        """
        settings = referrals or ReferralSettings()
        self.telemetry = telemetry or Telemetry()
        self.caches = Caches(policy=policy or Policy())
        self._use_dfs = use_dfs
        self._static = settings.static if use_dfs else None
        self._clock = clock
        reachability = Reachability(clock)
        self.discovery = Discovery(settings.domain, pool.names, self.telemetry, reachability)
        self._resolver = ReferralClient(
            pool,
            self.caches,
            settings,
            clock=clock,
            telemetry=self.telemetry,
            shares=users or pool,
            discovery=self.discovery,
            reachability=reachability,
        )
        self._is_multiuser = users is not None
        self._failover = Failover(
            users or pool,
            self._resolver,
            max_hops=settings.max_hops,
            follow_links=use_dfs,
            timeout=failover_timeout,
            retries=retries,
            clock=clock,
            telemetry=self.telemetry,
            reachability=reachability,
        )
        self._junctions: WeakValueDictionary[UncPath, Junction] = WeakValueDictionary()
        self._recent: OrderedDict[UncPath, Junction] = OrderedDict()

    async def serve(self) -> None:
        """Keeps referrals, targets and domains up to date, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, "upkeep", self._failover.maintenance.serve)
            if self._use_dfs:
                nursery.start_soon(keep_going, "domains", self._resolver.run_bootstrap_timer)

    async def mount_root(self, path: UncPath, snapshot_time: int | None = None) -> Location:
        """Finds the place that `path` names, follows the links on the way and makes sure that a directory is there.

        `snapshot_time`: as it was then, in 100 ns since 1601.

        Raises:
            PosixError: the path names no share (EINVAL) or something that is no directory (ENOTDIR).
            DfsfsError: a server on the way can't be reached, or says no.
        """
        location, stat = await self.find(path, snapshot_time)
        if not stat.is_directory:
            raise PosixError(errno.ENOTDIR, f"{path} is not a directory")
        return location

    async def find(self, path: UncPath, snapshot_time: int | None = None) -> tuple[Location, FileStat]:
        """The place that `path` names, and what is there. Follows the links on the way.

        Raises:
            PosixError: EINVAL, the path names no share.
            DfsfsError: a server on the way can't be reached, or says no.
        """
        if len(path) < 2:
            raise PosixError(
                errno.EINVAL, f"{path} names a server only; a share or namespace is needed, as in {path}/name"
            )
        location = replace(await self._locate(path), snapshot_time=snapshot_time)
        while True:
            try:
                return location, await self.run(location, _stat)
            except PathNotCovered as link:
                # It stands for more of the path than the junction before, so this ends.
                location = Location(self.junction(link.prefix), link.prefix.rest_of(path), snapshot_time)

    async def _locate(self, path: UncPath) -> Location:
        if self._use_dfs:
            resolution = await self.resolve(path)
        else:
            resolution = _plain_share(path.share)
        junction = self.junction(resolution.path_consumed)
        own = junction.for_caller()
        if own.resolution is None:
            own.set_resolution(resolution, self._clock())
        return Location(junction, resolution.path_consumed.rest_of(path))

    async def list_directory(self, location: Location) -> list[DirEntry]:
        """All entries of a directory. Raises as `run`."""
        return await self.run(location, _list)

    def find_known(self, path: UncPath) -> Location | None:
        """The place of a path as a user has typed it, as far as its junction is known; no server is asked.

        A junction in another case is taken if there is none that is spelled so, and only one such; else it is None.
        """
        found = path.nearest_of(list(self._junctions))
        if len(found) != 1:
            return None
        return Location(self.junction(found[0]), path.components[len(found[0]) :])

    def junction(self, prefix: UncPath) -> Junction:
        """The junction of a namespace path that is known to be a DFS root or link: one object for each spelling."""
        junction = self._junctions.get(prefix)
        if junction is None:
            junction = self._junctions[prefix] = Junction(prefix, per_user={} if self._is_multiuser else None)
        self._recent[prefix] = junction
        self._recent.move_to_end(prefix)
        if len(self._recent) > MAX_RECENT_JUNCTIONS:
            self._recent.popitem(last=False)
        return junction

    def set_hard(self) -> None:
        """From now on operations wait when no target answers, for as long as the failover time allows."""
        self._failover.is_hard = True

    @property
    def overrides(self) -> TargetOverrides:
        """What the administrator has decided about targets since the mount."""
        return self._failover.overrides

    def junctions(self) -> list[Junction]:
        """The junctions that may be bound: in a mount of many users those of each user."""
        found: list[Junction] = []
        for junction in self._junctions.values():
            found += [junction] if junction.per_user is None else junction.per_user.values()
        return found

    def forget_user(self, uid: int) -> None:
        """Gives up the junctions of a user who has no sessions any more: new ones are made for the next request."""
        for junction in self._junctions.values():
            own = None if junction.per_user is None else junction.per_user.pop(uid, None)
            if own is not None:
                self._failover.maintenance.forget(own)

    async def move(self, junction: Junction, target: UncPath) -> bool:
        """Moves a junction to one of its targets now. Returns whether the target answered."""
        with override_caller(junction.owner._replace(is_background=True)):
            return await self._failover.maintenance.move(junction, target)

    def recheck_failback(self, junction: Junction) -> None:
        """Finds out whether a junction should be on another target, now that the overrides are others."""
        self._failover.maintenance.check_failback(junction)

    async def resolve(self, path: UncPath) -> Resolution:
        """Where a path is, as far as referrals say. Raises DfsfsError."""
        if not self.caches.domains.snapshot():
            await self._resolver.update_domains()
        return await self._resolver.resolve(path)

    async def resolve_link(self, path: UncPath) -> Resolution:
        """Where a path leads that is a link. Raises DfsfsError."""
        return await self._failover.resolve_link(path)

    async def request_referral(self, host: str, path: UncPath) -> ReferralResponse:
        """What one server answers for a path right now. Raises DfsfsError."""
        return await self._resolver.request_referral(host, path)

    def flush(self, prefix: UncPath | None = None) -> int:
        """Forgets the referrals at and below a path that a user has typed, or all. Returns how many that were.

        Bindings stay in use: the next operation on a junction has its referral asked for in the background.
        """
        count = self.caches.referrals.flush(prefix)
        known = self.junctions()
        for junction in known if prefix is None else prefix.below(known, lambda junction: junction.prefix):
            junction.failure = None
            if junction.resolution is not None and junction.resolution.referral is not None:
                count += self.caches.referrals.flush(junction.resolution.referral.prefix)
                junction.refresh_at = min(junction.refresh_at, self._clock())
        return count

    async def flush_domains(self) -> int:
        """Forgets the domains and their controllers, and looks for them anew. Returns how many that were."""
        count = self.caches.domains.flush()
        await self._resolver.update_domains()
        return count

    def run(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Awaits `operation` on the target that `location` is on, and again on others if need be: see failover.py.

        Raises:
            PathNotCovered: the path leads through a DFS link below the location's junction.
            DfsfsError: the operation's last failure, or why there is no target to run it on.
        """
        if self._static is not None:
            return self._run_past_static_links(location, operation)
        return self._failover.run(location, operation)

    async def run_hedged(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """`run` for an operation that changes and opens nothing: in the namespace itself it goes to another of its
        servers as well if one is silent. Raises as `run`.
        """
        if self._static is not None and (link := self.static_link(location)) is not None:
            raise PathNotCovered(link)
        return await self._failover.run_hedged(location, operation)

    def refresh_if_due(self, junction: Junction) -> None:
        """Has the referral of the caller's junction refreshed in the background, if past its soft time-out and not
        past its hard one.
        """
        junction = junction.for_caller()
        if junction.refresh_at <= self._clock() < junction.hard_expires_at:
            self._failover.maintenance.schedule_refresh(junction)

    async def _run_past_static_links(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """No server says PATH_NOT_COVERED for a link that only a file knows."""
        if (link := self.static_link(location)) is not None:
            raise PathNotCovered(link)
        return await self._failover.run(location, operation)

    @property
    def has_static_links(self) -> bool:
        """Whether dfs_static= may have links that no server knows."""
        return self._static is not None

    def static_link(self, location: Location) -> UncPath | None:
        """The link of dfs_static= at or above a location, below its junction. Its root's share may have no such name.

        Raises:
            UncError: a component of the location can't be part of a UNC path.
        """
        if self._static is None:
            return None
        link = self._static.link_above(location.unc)
        return link if link is not None and len(link) > len(location.junction.prefix) else None

    @property
    def knows_domain(self) -> bool:
        """Whether a domain was found, so that DNS or a controller has answered."""
        return self.discovery.found is not None

    def statistics(self) -> NamespaceStatistics:
        bindings = [junction.binding for junction in self.junctions()]
        return NamespaceStatistics(
            junctions=len(bindings),
            bound=sum(binding is not None and binding.tree.alive for binding in bindings),
            resolving=self._resolver.resolving,
            resolutions=self._resolver.resolutions,
            referral_requests=self._resolver.requests,
            failover=self._failover.statistics(),
        )


async def _list(attempt: Attempt) -> list[DirEntry]:
    return [entry async for batch in attempt.tree.list(attempt.path) for entry in batch]


async def _stat(attempt: Attempt) -> FileStat:
    return await attempt.tree.stat(attempt.path)


def _plain_share(share: UncPath) -> Resolution:
    """What the resolver would say of a share outside DFS, without a request."""
    target = Target(path=share, starts_set=True)
    return Resolution(path=share, path_consumed=share, referral=None, targets=(target,), expires=math.inf)

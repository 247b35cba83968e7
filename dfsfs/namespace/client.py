"""The mounted namespace, as the file system sees it.

It turns the path of a mount into a Location, hands out the Junction of a path, and runs operations by way of
failover.py. Paths are resolved by referrals.py, and upkeep.py works in the background.

What this does not do: it talks to no server itself.
"""

from __future__ import annotations

import errno
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

import trio

from dfsfs.acting import as_caller
from dfsfs.background import keep_going
from dfsfs.dfsc.cache import Caches
from dfsfs.dfsc.policy import Policy
from dfsfs.dfsc.referral import Target
from dfsfs.dfsc.walk import Resolution
from dfsfs.errors import PosixError
from dfsfs.namespace.discovery import Discovery
from dfsfs.namespace.failover import RETRY_LIMIT, Failover, FailoverStatistics
from dfsfs.namespace.junction import Attempt, Covered, Junction, Location
from dfsfs.namespace.reachability import Reachability
from dfsfs.namespace.referrals import ReferralClient, ReferralSettings
from dfsfs.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.namespace.choices import Choices
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.userpools import UserPools
    from dfsfs.smb.wire.fscc import DirEntry, FileStat
    from dfsfs.unc import UncPath

T = TypeVar("T")

FAILOVER_TIMEOUT = 60.0
"""Seconds for everything that one operation waits for besides its first attempt."""

KEPT_JUNCTIONS = 1000
"""Junctions that stay when no node is at or below them any more, those that were used last."""


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
        self._of_users = users is not None
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
        self._kept: OrderedDict[UncPath, Junction] = OrderedDict()

    async def serve(self) -> None:
        """Keeps referrals, targets and domains up to date, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, "upkeep", self._failover.upkeep.serve)
            if self._use_dfs:
                nursery.start_soon(keep_going, "domains", self._resolver.keep_domains)

    async def mount_root(self, path: UncPath, moment: int | None = None) -> Location:
        """Finds the place that `path` names, follows the links on the way and makes sure that a directory is there.

        `moment`: as it was then, in 100 ns since 1601.

        Raises:
            PosixError: the path names no share (EINVAL) or something that is no directory (ENOTDIR).
            DfsfsError: a server on the way can't be reached, or says no.
        """
        location, stat = await self.find(path, moment)
        if not stat.is_directory:
            raise PosixError(errno.ENOTDIR, f"{path} is not a directory")
        return location

    async def find(self, path: UncPath, moment: int | None = None) -> tuple[Location, FileStat]:
        """The place that `path` names, and what is there. Follows the links on the way.

        Raises:
            PosixError: EINVAL, the path names no share.
            DfsfsError: a server on the way can't be reached, or says no.
        """
        if len(path) < 2:
            raise PosixError(
                errno.EINVAL, f"{path} names a server only; a share or namespace is needed, as in {path}/name"
            )
        location = replace(await self._locate(path), moment=moment)
        while True:
            try:
                return location, await self.run(location, _stat)
            except Covered as link:
                # It covers more of the path than the junction before, so this ends.
                location = Location(self.junction(link.prefix), link.prefix.rest_of(path), moment)

    async def _locate(self, path: UncPath) -> Location:
        if self._use_dfs:
            resolution = await self.resolve(path)
        else:
            resolution = _plain_share(path.share)
        junction = self.junction(resolution.covered)
        if junction.mine.resolution is None:
            junction.mine.adopt(resolution, self._clock())
        return Location(junction, resolution.covered.rest_of(path))

    async def entries(self, location: Location) -> list[DirEntry]:
        """All entries of a folder. Raises as `run`."""
        return await self.run(location, _entries)

    def nearest(self, path: UncPath) -> Location | None:
        """The place of a path that somebody has typed, as far as its junction is known, without asking anybody.

        A junction in another case is taken if there is none that is spelled so, and only one such; else it is None.
        """
        found = path.nearest_of(list(self._junctions))
        if len(found) != 1:
            return None
        return Location(self.junction(found[0]), path.components[len(found[0]) :])

    def junction(self, prefix: UncPath) -> Junction:
        """The junction of a namespace path that is known to be a DFS link: always the same object for one spelling."""
        junction = self._junctions.get(prefix)
        if junction is None:
            junction = self._junctions[prefix] = Junction(prefix, twins={} if self._of_users else None)
        self._kept[prefix] = junction
        self._kept.move_to_end(prefix)
        if len(self._kept) > KEPT_JUNCTIONS:
            self._kept.popitem(last=False)
        return junction

    def wait_for_servers(self) -> None:
        """From now on operations wait when no target answers, for as long as the failover time allows."""
        self._failover.waits_for_servers = True

    @property
    def choices(self) -> Choices:
        """What the administrator has decided about targets since the mount."""
        return self._failover.choices

    def junctions(self) -> list[Junction]:
        """All junctions, those of users included; with several users, a junction itself is bound to nothing."""
        found: list[Junction] = []
        for junction in self._junctions.values():
            found += [junction] if junction.twins is None else junction.twins.values()
        return found

    def forget_user(self, uid: int) -> None:
        """Gives up what is kept for a user who has no sessions: they begin anew when they come again."""
        for junction in self._junctions.values():
            twin = None if junction.twins is None else junction.twins.pop(uid, None)
            if twin is not None:
                self._failover.upkeep.forget(twin)

    async def move(self, junction: Junction, target: UncPath) -> bool:
        """Moves a junction to one of its targets now; whether that answered."""
        with as_caller(junction.owner._replace(unasked=True)):
            return await self._failover.upkeep.move(junction, target)

    def reconsider(self, junction: Junction) -> None:
        """Looks whether a junction should be on another target, now that other choices are made."""
        self._failover.upkeep.bound(junction)

    async def resolve(self, path: UncPath) -> Resolution:
        """Where a path is, as far as referrals say. Raises DfsfsError."""
        if not self.caches.domains.snapshot():
            await self._resolver.learn_domains()
        return await self._resolver.resolve(path)

    async def resolve_link(self, path: UncPath) -> Resolution:
        """Where a path leads that is a link. Raises DfsfsError."""
        return await self._failover.resolve_link(path)

    async def ask(self, host: str, path: UncPath) -> ReferralResponse:
        """What one server answers for a path right now. Raises DfsfsError."""
        return await self._resolver.ask(host, path)

    def flush(self, prefix: UncPath | None = None) -> int:
        """Forgets the referrals at and below a path that somebody has typed, or all. How many that were.

        Nothing that works is interrupted: who comes next has them asked for in the background.
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
        """Forgets the domains and their controllers, and looks for them anew. How many that were."""
        count = self.caches.domains.flush()
        await self._resolver.learn_domains()
        return count

    def run(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Awaits `operation` on the target that `location` is on, and again on others if it has to be: see failover.py.

        Raises:
            Covered: the path leads through a DFS link below the location's junction.
            DfsfsError: the operation's last failure, or why there is no target to run it on.
        """
        if self._static is not None:
            return self._run_past_static_links(location, operation)
        return self._failover.run(location, operation)

    async def ask_at(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """`run` for a question, which changes and opens nothing: in the namespace itself it goes to another of its
        servers as well if one is silent.
        """
        if self._static is not None and (link := self.static_link(location)) is not None:
            raise Covered(link)
        return await self._failover.ask(location, operation)

    def refresh_if_due(self, junction: Junction) -> None:
        """Has the junction's referral asked for in the background if its time is up and it is not too old."""
        if junction.refresh_at <= self._clock() < junction.too_old_at:
            self._failover.upkeep.refresh_soon(junction)

    async def _run_past_static_links(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """No server says PATH_NOT_COVERED for a link that only a file knows."""
        if (link := self.static_link(location)) is not None:
            raise Covered(link)
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
        """Whether a domain was found, so that somebody has answered."""
        return self.discovery.found is not None

    def statistics(self) -> NamespaceStatistics:
        bindings = [
            each.binding
            for junction in self._junctions.values()
            for each in ((junction,) if junction.twins is None else junction.twins.values())
        ]
        return NamespaceStatistics(
            junctions=len(bindings),
            bound=sum(binding is not None and binding.tree.alive for binding in bindings),
            resolving=self._resolver.resolving,
            resolutions=self._resolver.resolutions,
            referral_requests=self._resolver.requests,
            failover=self._failover.statistics(),
        )


async def _entries(attempt: Attempt) -> list[DirEntry]:
    return [entry async for batch in attempt.tree.list(attempt.path) for entry in batch]


async def _stat(attempt: Attempt) -> FileStat:
    return await attempt.tree.stat(attempt.path)


def _plain_share(share: UncPath) -> Resolution:
    """What the resolver would say of a share outside DFS, without asking anybody."""
    target = Target(path=share, starts_set=True)
    return Resolution(path=share, covered=share, referral=None, targets=(target,), expires=math.inf)

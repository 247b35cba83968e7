"""The mounted namespace: performs what the resolver asks for, and keeps the junctions.

The resolver (MS-DFSC 3.1.4.1) is a generator without I/O that yields what it wants to know. `ReferralClient` finds it
out from servers: a referral is a FSCTL_DFS_GET_REFERRALS request on IPC$ (3.1.4.2), whether a share is a DFS root is a
matter of its tree connect. `Namespace` is what the file system sees: it turns the path of a mount into a Location,
hands out the Junction of a path, and runs operations by way of failover.py.

Concurrency: two tasks that resolve the same path at the same time share one resolution, and its failure; if the task
that drives it is cancelled, one of the others begins anew. No lock is held here, so resolutions of different paths
never wait for each other, except where the pool makes them share a connection that is being made.

What this does not do: it knows no byte of a referral (dfsc/wire.py), keeps no referral (dfsc/cache.py), tries no
target twice (failover.py), finds no domain controllers yet: dfsfs asks the server that the path names.
"""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.dfsc.cache import Caches
from dfsfs.dfsc.referral import Target
from dfsfs.dfsc.resolver import (
    Action,
    Answered,
    DiscoverDc,
    Failed,
    Outcome,
    QueryShareIsDfs,
    ReferralReceived,
    RequestReferral,
    Resolution,
    resolve,
)
from dfsfs.dfsc.wire import ReferralResponse, decode_response, encode_request
from dfsfs.errors import DfsfsError, Disposition, NtStatus, PosixError, SmbError
from dfsfs.namespace.failover import Failover, FailoverStatistics
from dfsfs.namespace.junction import Attempt, Covered, Junction, Location

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from dfsfs.smb.fscc import FileStat
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.tree import Tree
    from dfsfs.unc import UncPath

T = TypeVar("T")

REFERRAL_SIZES = (4096, 8192, 16384, 32768, 57344)
"""The room offered for an answer, in bytes, one after the other (MS-DFSC 3.1.5.4: 4 KiB growing to 56 KiB)."""

REFERRAL_LEVEL = 4
"""The newest version of referral entries that the decoder knows; a server answers in this or an older one."""

FAILOVER_TIMEOUT = 60.0
"""Seconds for everything that one operation waits for besides its first attempt."""


@dataclass(slots=True, eq=False)
class _Flight:
    """A resolution under way. Neither result is set if its task was cancelled."""

    done: trio.Event = field(default_factory=trio.Event)
    resolution: Resolution | None = None
    error: DfsfsError | None = None


class ReferralClient:
    """Resolves namespace paths by asking servers. The `PathResolver` of failover.py."""

    def __init__(self, pool: Pool, caches: Caches, *, max_hops: int, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._caches = caches
        self._max_hops = max_hops
        self._clock = clock
        self._flights: dict[tuple[UncPath, bool], _Flight] = {}
        self.resolutions = 0
        self.requests = 0

    async def resolve(self, path: UncPath, *, uncovered: bool = False) -> Resolution:
        """Finds the targets that stand for `path`. `uncovered`: a server answered PATH_NOT_COVERED for it.

        Raises:
            NamespaceLoop: the path leads through too many namespaces, or back to itself.
            DfsfsError: a server refused a referral or could not be reached.
        """
        key = (path, uncovered)
        while (flight := self._flights.get(key)) is not None:
            await flight.done.wait()
            if flight.error is not None:
                raise flight.error.with_traceback(None)
            if flight.resolution is not None:
                return flight.resolution
        flight = self._flights[key] = _Flight()
        try:
            flight.resolution = await self._drive(path, uncovered)
        except DfsfsError as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.done.set()
        return flight.resolution

    @property
    def resolving(self) -> int:
        """How many resolutions are under way."""
        return len(self._flights)

    def confirm(self, resolution: Resolution, target: UncPath) -> None:
        """Makes `target` the hint of the entry that `resolution` came from."""
        if resolution.referral is not None:
            self._caches.referrals.set_hint(resolution.referral, target)

    async def _drive(self, path: UncPath, uncovered: bool) -> Resolution:
        self.resolutions += 1
        steps = resolve(path, self._caches, now=self._clock(), uncovered=uncovered, max_hops=self._max_hops)
        try:
            action = next(steps)
            while True:
                action = steps.send(await self._perform(action))
        except StopIteration as end:
            resolution: Resolution = end.value
            return resolution
        finally:
            steps.close()

    async def _perform(self, action: Action) -> Outcome:
        """Does what the resolver asks for. Whatever goes wrong is an outcome, too."""
        try:
            match action:
                case RequestReferral(host=host, path=path):
                    return ReferralReceived(now=self._clock(), response=await self._request(host, path))
                case QueryShareIsDfs(target=target):
                    return Answered(now=self._clock(), value=await self._is_namespace(target.share))
                case DiscoverDc(domain=domain):
                    text = f"{domain}: can't look for a domain controller, as this computer is not joined to a domain"
                    raise DfsfsError(text, NtStatus.NO_LOGON_SERVERS)
        except DfsfsError as error:
            return Failed(now=self._clock(), error=error)

    async def _is_namespace(self, share: UncPath) -> bool:
        """Whether paths below a share may lead elsewhere.

        A root that is no share (Samba: `msdfs proxy`) shows only in its referral.
        """
        try:
            return (await self._pool.tree(share)).is_dfs
        except SmbError as error:
            if error.status != NtStatus.BAD_NETWORK_NAME:
                raise
        try:
            await self._request(share.host, share)
        except SmbError:
            return False
        return True

    async def _request(self, host: str, path: UncPath) -> ReferralResponse:
        """Asks a server for a referral (MS-DFSC 3.1.4.2). Once more if an idle connection turned out to be dead."""
        try:
            return await self._request_once(await self._pool.ipc(host), host, path)
        except DfsfsError as error:
            if error.disposition is not Disposition.RECONNECT:
                raise
        return await self._request_once(await self._pool.ipc(host), host, path)

    async def _request_once(self, tree: Tree, host: str, path: UncPath) -> ReferralResponse:
        request = encode_request(path.wire, REFERRAL_LEVEL)
        for size in REFERRAL_SIZES:
            self.requests += 1
            status, body = await tree.referral(request, size)
            # Samba fills the buffer with the beginning of an answer that is too long; it may end in the middle of an
            # entry, so nothing of it is used.
            if status != NtStatus.BUFFER_OVERFLOW:
                break
        if status != NtStatus.SUCCESS:
            raise SmbError(status, f"DFS referral for {path} from {host}")
        return decode_response(body, path)


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
        max_hops: int = 8,
        use_dfs: bool = True,
        failover_timeout: float = FAILOVER_TIMEOUT,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """`use_dfs` False: the mount is one plain share, no referral is ever asked for."""
        self._use_dfs = use_dfs
        self._resolver = ReferralClient(pool, Caches(), max_hops=max_hops, clock=clock)
        self._failover = Failover(
            pool, self._resolver, max_hops=max_hops, follow_links=use_dfs, timeout=failover_timeout, clock=clock
        )
        self._junctions: dict[UncPath, Junction] = {}

    async def mount_root(self, path: UncPath) -> Location:
        """Finds the place that `path` names, follows the links on the way and makes sure that a directory is there.

        Raises:
            PosixError: the path names no share (EINVAL) or something that is no directory (ENOTDIR).
            DfsfsError: a server on the way can't be reached, or says no.
        """
        if len(path) < 2:
            raise PosixError(
                errno.EINVAL, f"{path} names a server only; a share or namespace is needed, as in {path}/name"
            )
        location = await self._locate(path)
        while True:
            try:
                stat = await self.run(location, _stat)
            except Covered as link:
                # It covers more of the path than the junction before, so this ends.
                location = Location(self.junction(link.prefix), link.prefix.rest_of(path))
                continue
            if not stat.is_directory:
                raise PosixError(errno.ENOTDIR, f"{path} is not a directory")
            return location

    async def _locate(self, path: UncPath) -> Location:
        if self._use_dfs:
            resolution = await self._resolver.resolve(path)
        else:
            resolution = _plain_share(path.share)
        junction = self.junction(resolution.covered)
        if junction.resolution is None:
            self._failover.adopt(junction, resolution)
        return Location(junction, resolution.covered.rest_of(path))

    def junction(self, prefix: UncPath) -> Junction:
        """The junction of a namespace path that is known to be a DFS link: the same object each time."""
        junction = self._junctions.get(prefix)
        if junction is None:
            junction = self._junctions[prefix] = Junction(prefix)
        return junction

    def run(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Awaits `operation` on the target that `location` is on, and again on others if it has to be: see failover.py.

        Raises:
            Covered: the path leads through a DFS link below the location's junction.
            DfsfsError: the operation's last failure, or why there is no target to run it on.
        """
        return self._failover.run(location, operation)

    def statistics(self) -> NamespaceStatistics:
        bindings = [junction.binding for junction in self._junctions.values()]
        return NamespaceStatistics(
            junctions=len(bindings),
            bound=sum(binding is not None and binding.tree.alive for binding in bindings),
            resolving=self._resolver.resolving,
            resolutions=self._resolver.resolutions,
            referral_requests=self._resolver.requests,
            failover=self._failover.statistics(),
        )


async def _stat(attempt: Attempt) -> FileStat:
    return await attempt.tree.stat(attempt.path)


def _plain_share(share: UncPath) -> Resolution:
    """What the resolver would say of a share outside DFS, without asking anybody."""
    target = Target(path=share, starts_set=True)
    return Resolution(path=share, covered=share, referral=None, targets=(target,), expires=math.inf, hops=0, trail=())

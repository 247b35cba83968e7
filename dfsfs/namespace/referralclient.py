"""Resolves paths by asking servers: the driver of the resolver (MS-DFSC 3.1.4.1) and of the list of domains (3.1.6).

The resolver is a generator without I/O that yields what it wants to know. `ReferralClient` finds it out: a referral is
a request to one of several servers that would all say the same (referrals.py); whether a share is a DFS root is a
matter of its tree connect; a controller of our domain is found by discovery.py.

Concurrency: two tasks that resolve the same path at the same time share one resolution, and its failure; if the task
that drives it is cancelled, one of the others begins anew. No lock is held here, so resolutions of different paths
never wait for each other, except where the pool makes them share a connection that is being made.

Referrals are kept in dfsc/cache.py. Targets are connected by binding.py, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.dfsc.actions import (
    Action,
    Answered,
    DcFound,
    DiscoverDc,
    Failed,
    Outcome,
    QueryShareIsDfs,
    ReferralKind,
    ReferralReceived,
    RequestReferral,
)
from dfsfs.dfsc.domains import BOOTSTRAP_INTERVAL, refresh_domains
from dfsfs.dfsc.resolver import resolve
from dfsfs.dfsc.walk import should_ask_next
from dfsfs.errors import ConnectError, DfsfsError, SmbError
from dfsfs.namespace.reachability import Reachability
from dfsfs.namespace.referrals import ReferralRequester
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import RaceResult, race
from dfsfs.singleflight import InFirstCaller, SingleFlight
from dfsfs.telemetry import ReferralRefused
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable, Sequence

    from dfsfs.dfsc.cache import Caches
    from dfsfs.dfsc.walk import Resolution
    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.namespace.discovery import Discovery
    from dfsfs.namespace.referrals import ReferralSettings
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Event, Telemetry

K = TypeVar("K")
T = TypeVar("T")

MAX_CONTROLLERS = 4
"""How many controllers of a domain are asked, in a race, before it counts as out of reach."""
DOMAINS_RETRY = 30.0
"""Seconds between two requests for the domains, as long as none is known. Windows waits its 15 minutes then, too."""


class ReferralClient:
    """The `PathResolver` of one mount (linkresolver.py)."""

    def __init__(
        self,
        pool: Pool,
        caches: Caches,
        settings: ReferralSettings,
        *,
        telemetry: Telemetry,
        discovery: Discovery | None = None,
        shares: TreeProvider | None = None,
        clock: Callable[[], float] = trio.current_time,
        reachability: Reachability | None = None,
    ) -> None:
        """`pool` for requests to servers, `shares` for tree connects: in a mount of many users each has a login of
        their own there.
        """
        self._pool = pool
        self._reachability = reachability or Reachability(clock)
        self._shares = shares or pool
        self._discovery = discovery
        self._caches = caches
        self._max_hops = settings.max_hops
        self._telemetry = telemetry
        self._clock = clock
        self._requester = ReferralRequester(pool, settings, telemetry=telemetry, discovery=discovery)
        self._resolutions: SingleFlight[Hashable, Resolution] = SingleFlight(InFirstCaller())
        self.resolutions = 0
        """How many resolutions were begun since the mount."""

    async def resolve(self, path: UncPath, *, not_covered: bool = False, fresh: bool = False) -> Resolution:
        """Finds the targets that stand for `path`. `not_covered`: a server answered PATH_NOT_COVERED for it. `fresh`:
        entries of the cache past their soft time-out are asked for again.

        Raises:
            NamespaceLoop: the path leads through too many namespaces, or back to itself.
            DfsfsError: a server refused a referral or could not be reached.
        """
        return await self._resolutions.do(
            (path, not_covered, fresh), lambda: self._resolve(path, not_covered=not_covered, fresh=fresh)
        )

    @property
    def resolving(self) -> int:
        """How many resolutions are under way."""
        return len(self._resolutions)

    @property
    def requests(self) -> int:
        """How many requests for referrals were sent since the mount."""
        return self._requester.requests

    def set_hint(self, resolution: Resolution, target: UncPath) -> None:
        """Makes `target` the hint of the entry that `resolution` came from."""
        if resolution.referral is not None:
            self._caches.referrals.set_hint(resolution.referral, target)

    async def request_referral(self, host: str, path: UncPath) -> ReferralResponse:
        """What one server answers for a path right now; nothing of it is kept.

        Raises:
            DfsfsError: it refuses, can't be reached, or answers something that makes no sense.
        """
        return await self._requester.request_anew(host, path)

    @property
    def _has_domain(self) -> bool:
        return self._discovery is not None and self._discovery.is_possible

    async def update_domains(self) -> None:
        """Asks a controller of our domain, if there is one, which domains there are (MS-DFSC 3.1.6).

        If none can be asked, what is known stays, and the events say why.
        """
        if not self._has_domain:
            return
        trail: list[Event] = []
        try:
            await self._drive(refresh_domains(self._caches, trail, now=self._clock()), trail)
        except DfsfsError as error:
            self._telemetry.publish(ReferralRefused("a domain controller", "", str(error)))

    async def run_bootstrap_timer(self) -> None:
        """The BootstrapDCTimer (MS-DFSC 3.1.6): updates the domains again and again, until cancelled."""
        while self._has_domain:
            await trio.sleep(BOOTSTRAP_INTERVAL if self._caches.domains.snapshot() else DOMAINS_RETRY)
            await self.update_domains()

    # -- the driver ---------------------------------------------------------------------------------------------------

    async def _resolve(self, path: UncPath, *, not_covered: bool, fresh: bool) -> Resolution:
        self.resolutions += 1
        trail: list[Event] = []
        steps = resolve(
            path,
            self._caches,
            trail,
            now=self._clock(),
            not_covered=not_covered,
            fresh=fresh,
            max_hops=self._max_hops,
        )
        return await self._drive(steps, trail)

    async def _drive(self, steps: Generator[Action, Outcome, T], trail: list[Event]) -> T:
        """Runs a generator of actions to its end and publishes its events, also when it fails."""
        try:
            action = next(steps)
            while True:
                action = steps.send(await self._perform(action))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
            for event in trail:
                self._telemetry.publish(event)

    async def _perform(self, action: Action) -> Outcome:
        """Does what the resolver asks for. An error is an outcome, too."""
        try:
            match action:
                case RequestReferral():
                    return await self._request_from_any(action)
                case QueryShareIsDfs(target=target, others=others):
                    return await self._query_any((target, *others))
                case DiscoverDc():
                    return DcFound(now=self._clock(), host=await self._find_controller())
        except DfsfsError as error:
            return Failed(now=self._clock(), error=error)

    async def _request_from_any(self, action: RequestReferral) -> ReferralReceived | Failed:
        """The first answer of the hosts that the action names, in a race among them."""
        path, hosts = action.path, (action.host, *action.others)
        if path is not None and (known := self._requester.get_static_answer(path)) is not None:
            return ReferralReceived(self._clock(), known, action.host)
        if action.kind in (ReferralKind.DOMAIN, ReferralKind.DC):
            hosts = (*hosts, *self._get_other_controllers(action.host))
        result = await self._first_of(hosts, lambda host: self._requester.request(host, path), lambda host: host)
        for host, response in result.winners:
            self._note_controllers(path, response)
            failed = (*result.failures, *((silent, _make_silent_error(silent)) for silent in result.late))
            return ReferralReceived(self._clock(), response, host, failed)
        *before, (host, error) = result.failures
        return Failed(self._clock(), error, host, tuple(before))

    async def _query_any(self, targets: Sequence[UncPath]) -> Answered:
        """Whether paths below the share of one of the targets may lead elsewhere: the first answer, in a race."""
        if self._requester.get_static_answer(targets[0].share) is not None:
            return Answered(self._clock(), True, targets[0])
        result = await self._first_of(
            targets, lambda target: self._is_namespace(target.share), lambda target: target.host, self._shares
        )
        for target, value in result.winners:
            return Answered(self._clock(), value, target)
        raise result.failures[-1][1]

    async def _is_namespace(self, share: UncPath) -> bool:
        """Whether paths below a share may lead elsewhere.

        A root that is no share (Samba: `msdfs proxy`) shows only in its referral.
        """
        try:
            return (await self._shares.connect_tree(share)).is_dfs
        except SmbError as error:
            if error.status != NtStatus.BAD_NETWORK_NAME:
                raise
        try:
            await self._requester.request(share.host, share)
        except SmbError:
            return False
        return True

    async def _first_of(
        self,
        candidates: Iterable[K],
        ask: Callable[[K], Awaitable[T]],
        host_of: Callable[[K], str],
        pool: TreeProvider | None = None,
        try_next: Callable[[DfsfsError], bool] = should_ask_next,
    ) -> RaceResult[K, T]:
        """The result of `ask` for one of several candidates that would all say the same, those on suspect hosts last.
        Those that take a login are asked one at a time.
        """
        servers, login_lock = pool or self._pool, trio.Lock()

        async def attempt(candidate: K) -> T:
            async with servers.hold_connection(host_of(candidate)):
                if servers.is_logged_in(host_of(candidate)):
                    return await ask(candidate)
                async with login_lock:
                    return await ask(candidate)

        order = sorted(
            dict.fromkeys(candidates), key=lambda candidate: self._reachability.is_suspect(host_of(candidate))
        )
        result = await race(order, attempt, try_next)
        for candidate, error in result.failures:
            self._reachability.note_failure(host_of(candidate), error)
        for candidate, _ in result.winners:
            self._reachability.note_answer(host_of(candidate))
            for silent in result.late:
                self._reachability.note_silence(host_of(silent))
        return result

    # -- controllers --------------------------------------------------------------------------------------------------

    def _get_other_controllers(self, host: str) -> tuple[str, ...]:
        """The controllers of our domain, if `host` is one of them: each can say which domains and controllers there
        are.
        """
        found = self._discovery.found if self._discovery is not None else None
        known = found.controllers[:MAX_CONTROLLERS] if found is not None else ()
        return known if fold_name(host) in map(fold_name, known) else ()

    def _note_controllers(self, path: UncPath | None, response: ReferralResponse) -> None:
        """The hosts of a DC referral have to prove that they are controllers, once they are logged in to."""
        if path is not None and len(path) == 1 and "." in path.host:
            for entry in response.name_lists:
                self._pool.names.add_controllers(path.host.lower(), entry.names)

    async def _find_controller(self) -> str:
        """The first of the domain's controllers that can be logged in to."""
        error = DfsfsError("this computer is in no domain, as far as is known; name a domain controller with dc=")
        if self._discovery is None or not self._discovery.is_possible:
            raise error
        found = await self._discovery.find()
        if found.name and found.netbios:
            self._caches.domains.join(found.name, found.netbios)
        result = await self._first_of(
            found.controllers[:MAX_CONTROLLERS],
            self._pool.connect_ipc,
            lambda host: host,
            try_next=lambda failure: True,
        )
        for host, _ in result.winners:
            return host
        raise result.failures[-1][1] if result.failures else error


def _make_silent_error(host: str) -> ConnectError:
    return ConnectError(host, NtStatus.IO_TIMEOUT, "it is silent, another one answers")

"""Resolves paths by asking servers: the driver of the resolver (MS-DFSC 3.1.4.1) and of the list of domains (3.1.6).

The resolver is a generator without I/O that yields what it wants to know. `ReferralClient` finds it out: a referral is
an FSCTL_DFS_GET_REFERRALS request on IPC$ (3.1.4.2), or an answer of the file of dfs_static=; whether a share is a DFS
root is a matter of its tree connect.

Concurrency: two tasks that resolve the same path at the same time share one resolution, and its failure, and two
resolutions that need the same referral share one request; if the task that drives it is cancelled, one of the others
begins anew. No lock is held here, so resolutions of different paths never wait for each other, except where the pool
makes them share a connection that is being made.

What this does not do: it knows no byte of a referral (dfsc/wire.py), keeps no referral (dfsc/cache.py), tries no
target twice (failover.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

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
from dfsfs.dfsc.resolver import MAX_HOPS, resolve
from dfsfs.dfsc.walk import should_ask_next
from dfsfs.dfsc.wire import ReferralResponse, decode_response, encode_request, encode_request_ex
from dfsfs.errors import ConnectError, DfsfsError, Disposition, SmbError, WireError
from dfsfs.namespace.discovery import DomainSettings
from dfsfs.namespace.reachability import Reachability
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import RaceResult, race
from dfsfs.singleflight import InFirstCaller, SingleFlight
from dfsfs.smb.wire.constants import CtlCode
from dfsfs.telemetry import ReferralMalformed, ReferralOverflow, ReferralRefused
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable, Sequence

    from dfsfs.dfsc.cache import Caches
    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.discovery import Discovery
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Event, Telemetry

K = TypeVar("K")
T = TypeVar("T")

REFERRAL_SIZES = (4096, 8192, 16384, 32768, 57344)
"""The room offered for an answer, in bytes, one after the other (MS-DFSC section 6 on 3.1.5.4: 4 KiB growing to 56)."""

REFERRAL_LEVEL = 4
"""The newest version of referral entries that the decoder knows; a server answers in this or an older one."""

EX_REFUSED = frozenset(
    {
        NtStatus.FS_DRIVER_REQUIRED,
        NtStatus.INVALID_DEVICE_REQUEST,
        NtStatus.INVALID_PARAMETER,
        NtStatus.NOT_SUPPORTED,
        NtStatus.NOT_IMPLEMENTED,
    }
)
"""What servers that don't know REQ_GET_DFS_REFERRAL_EX say to it."""


CONTROLLERS_TRIED = 4
"""Controllers that are tried."""
DOMAINS_RETRY = 30.0
"""Seconds between two tries to learn the domains, as long as none is known. Windows waits its 15 minutes then, too."""


class ReferralSource(Protocol):
    """Something that stands in for servers, or overrides what they say."""

    def answer(self, path: UncPath, *, root: bool) -> ReferralResponse | None:
        """The answer to a root or link referral request; None if a server is to be asked.

        Raises:
            DfsfsError: what a server would refuse the request with.
        """
        ...

    def link_above(self, path: UncPath) -> UncPath | None:
        """The link at or above a path that only this source knows of."""
        ...


@dataclass(frozen=True, slots=True)
class ReferralSettings:
    """What the options of a mount say about asking for referrals.

    `site`: of this computer, for servers that take it; without one, it is the one that a controller says. `domain`:
    where to look for our domain.
    """

    max_hops: int = MAX_HOPS
    site: str | None = None
    domain: DomainSettings = field(default_factory=DomainSettings)
    static: ReferralSource | None = None


class ReferralClient:
    """Resolves namespace paths by asking servers. The `PathResolver` of failover.py."""

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
        self._pool = pool
        self._reachability = reachability or Reachability(clock)
        self._shares = shares or pool
        self._discovery = discovery
        self._caches = caches
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._resolutions: SingleFlight[Hashable, Resolution] = SingleFlight(InFirstCaller())
        self._requests: SingleFlight[Hashable, ReferralResponse] = SingleFlight(InFirstCaller())
        self._without_ex: set[str] = set()
        self.resolutions = 0
        self.requests = 0

    async def resolve(self, path: UncPath, *, uncovered: bool = False, fresh: bool = False) -> Resolution:
        """Finds the targets that stand for `path`. `uncovered`: a server answered PATH_NOT_COVERED for it. `fresh`:
        entries of the cache past their soft time-out are asked for again.

        Raises:
            NamespaceLoop: the path leads through too many namespaces, or back to itself.
            DfsfsError: a server refused a referral or could not be reached.
        """
        return await self._resolutions.do(
            (path, uncovered, fresh), lambda: self._resolve(path, uncovered=uncovered, fresh=fresh)
        )

    @property
    def _has_domain(self) -> bool:
        return self._discovery is not None and self._discovery.is_possible

    @property
    def _site(self) -> str | None:
        """The site that servers are told, if they take it."""
        found = self._discovery.found if self._discovery is not None else None
        return self._settings.site or (found.site if found is not None else None) or None

    @property
    def resolving(self) -> int:
        """How many resolutions are under way."""
        return len(self._resolutions)

    def set_hint(self, resolution: Resolution, target: UncPath) -> None:
        """Makes `target` the hint of the entry that `resolution` came from."""
        if resolution.referral is not None:
            self._caches.referrals.set_hint(resolution.referral, target)

    async def ask(self, host: str, path: UncPath) -> ReferralResponse:
        """What one server answers for a path right now; nothing of it is kept.

        Raises:
            DfsfsError: it refuses, can't be reached, or answers something that makes no sense.
        """
        return await self._request(host, path)

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
        """The BootstrapDCTimer (MS-DFSC 3.1.6): learns the domains again and again, until cancelled."""
        while self._has_domain:
            await trio.sleep(BOOTSTRAP_INTERVAL if self._caches.domains.snapshot() else DOMAINS_RETRY)
            await self.update_domains()

    async def _resolve(self, path: UncPath, *, uncovered: bool, fresh: bool) -> Resolution:
        self.resolutions += 1
        trail: list[Event] = []
        steps = resolve(
            path,
            self._caches,
            trail,
            now=self._clock(),
            uncovered=uncovered,
            fresh=fresh,
            max_hops=self._settings.max_hops,
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
        """Does what the resolver asks for. Whatever goes wrong is an outcome, too."""
        try:
            match action:
                case RequestReferral():
                    return await self._request_from_any(action)
                case QueryShareIsDfs(target=target, others=others):
                    return await self._query_one_of((target, *others))
                case DiscoverDc():
                    return DcFound(now=self._clock(), host=await self._controller())
        except DfsfsError as error:
            return Failed(now=self._clock(), error=error)

    async def _request_from_any(self, action: RequestReferral) -> ReferralReceived | Failed:
        """The first answer of the hosts that the action names, in a race among them."""
        path, hosts = action.path, (action.host, *action.others)
        if path is not None and (known := self._static_answer(path)) is not None:
            return ReferralReceived(self._clock(), known, action.host)
        if action.kind in (ReferralKind.DOMAIN, ReferralKind.DC):
            hosts = (*hosts, *self._other_controllers(action.host))
        finish = await self._first_of(hosts, lambda host: self._referral(host, path), lambda host: host)
        for host, response in finish.winners:
            self._note_controllers(path, response)
            failed = (*finish.failures, *((late, self._late(late)) for late in finish.late))
            return ReferralReceived(self._clock(), response, host, failed)
        *before, (host, error) = finish.failures
        return Failed(self._clock(), error, host, tuple(before))

    async def _query_one_of(self, targets: Sequence[UncPath]) -> Answered:
        if self._static_answer(targets[0].share) is not None:
            return Answered(self._clock(), True, targets[0])
        finish = await self._first_of(
            targets, lambda target: self._is_namespace(target.share), lambda target: target.host, self._shares
        )
        for target, value in finish.winners:
            return Answered(self._clock(), value, target)
        raise finish.failures[-1][1]

    async def _first_of(
        self,
        candidates: Iterable[K],
        ask: Callable[[K], Awaitable[T]],
        host_of: Callable[[K], str],
        pool: TreeProvider | None = None,
        try_next: Callable[[DfsfsError], bool] = should_ask_next,
    ) -> RaceResult[K, T]:
        """What `ask` comes to for one of several hosts that would all say the same, those that are silent last. Whoever
        has to be logged in to for it is asked alone.
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
        finish = await race(order, attempt, try_next)
        for candidate, error in finish.failures:
            self._reachability.note_failure(host_of(candidate), error)
        for candidate, _ in finish.winners:
            self._reachability.note_answer(host_of(candidate))
            for late in finish.late:
                self._reachability.late(host_of(late))
        return finish

    def _late(self, host: str) -> ConnectError:
        return ConnectError(host, NtStatus.IO_TIMEOUT, "it is silent, another one answers")

    def _other_controllers(self, host: str) -> tuple[str, ...]:
        """The controllers of our domain, if `host` is one of them: each can say which domains and controllers there
        are.
        """
        found = self._discovery.found if self._discovery is not None else None
        known = found.controllers[:CONTROLLERS_TRIED] if found is not None else ()
        return known if fold_name(host) in map(fold_name, known) else ()

    def _note_controllers(self, path: UncPath | None, response: ReferralResponse) -> None:
        """The hosts of a DC referral have to prove that they are controllers, once they are logged in to."""
        if path is not None and len(path) == 1 and "." in path.host:
            for entry in response.name_lists:
                self._pool.names.add_controllers(path.host.lower(), entry.names)

    async def _controller(self) -> str:
        """The first of the domain's controllers that can be logged in to."""
        error = DfsfsError("this computer is in no domain, as far as is known; name a domain controller with dc=")
        if self._discovery is None or not self._discovery.is_possible:
            raise error
        found = await self._discovery.find()
        if found.name and found.netbios:
            self._caches.domains.join(found.name, found.netbios)
        finish = await self._first_of(
            found.controllers[:CONTROLLERS_TRIED],
            self._pool.connect_ipc,
            lambda host: host,
            try_next=lambda failure: True,
        )
        for host, _ in finish.winners:
            return host
        raise finish.failures[-1][1] if finish.failures else error

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
            await self._referral(share.host, share)
        except SmbError:
            return False
        return True

    async def _referral(self, host: str, path: UncPath | None) -> ReferralResponse:
        known = self._static_answer(path) if path is not None else None
        if known is not None:
            return known
        return await self._requests.do((fold_name(host), path), lambda: self._request(host, path))

    def _static_answer(self, path: UncPath) -> ReferralResponse | None:
        static = self._settings.static
        return static.answer(path, root=len(path) == 2) if static is not None and len(path) >= 2 else None

    async def _request(self, host: str, path: UncPath | None) -> ReferralResponse:
        """Asks a server for a referral (MS-DFSC 3.1.4.2). Once more if an idle connection turned out to be dead."""
        try:
            return await self._request_on(await self._pool.connect_ipc(host), host, path)
        except DfsfsError as error:
            if error.disposition is not Disposition.RECONNECT:
                raise
        return await self._request_on(await self._pool.connect_ipc(host), host, path)

    async def _request_on(self, tree: Tree, host: str, path: UncPath | None) -> ReferralResponse:
        wire, site = path.wire if path is not None else "", self._site
        if site is not None and fold_name(host) not in self._without_ex:
            request = encode_request_ex(wire, site, REFERRAL_LEVEL)
            status, body = await self._send_request(tree, CtlCode.FSCTL_DFS_GET_REFERRALS_EX, request, path)
            if status not in EX_REFUSED:
                return self._decode(status, body, host, path)
            self._without_ex.add(fold_name(host))
        status, body = await self._send_request(
            tree, CtlCode.FSCTL_DFS_GET_REFERRALS, encode_request(wire, REFERRAL_LEVEL), path
        )
        return self._decode(status, body, host, path)

    async def _send_request(self, tree: Tree, code: CtlCode, request: bytes, path: UncPath | None) -> tuple[int, bytes]:
        """The status and the answer, with as much room for it as it takes."""
        status, body = int(NtStatus.BUFFER_OVERFLOW), b""
        for size in REFERRAL_SIZES:
            self.requests += 1
            status, body = await tree.referral(code, request, size)
            # Samba fills the buffer with the beginning of an answer that is too long; it may end in the middle of an
            # entry, so nothing of it is used.
            if status != NtStatus.BUFFER_OVERFLOW:
                break
            self._telemetry.publish(ReferralOverflow(tree.share.host, str(path or ""), size))
        return status, body

    def _decode(self, status: int, body: bytes, host: str, path: UncPath | None) -> ReferralResponse:
        if status != NtStatus.SUCCESS:
            raise SmbError(status, f"DFS referral for {path or 'domains'} from {host}")
        try:
            return decode_response(body, path)
        except WireError as error:
            self._telemetry.publish(ReferralMalformed(host, str(path or ""), str(error)))
            raise

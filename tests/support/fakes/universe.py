"""Namespaces, servers and domains as data: whoever the resolver asks, the universe answers. Pure, no time but its own.

universe = Universe()
universe.root("//ns/dfs", "//ns/dfs")
universe.link("//ns/dfs/a", "//fs1/data", "//fs2/data")
resolution = universe.resolve("//ns/dfs/a/file")
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

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
from dfsfs.dfsc.cache import Caches
from dfsfs.dfsc.domains import refresh_domains
from dfsfs.dfsc.resolver import resolve
from dfsfs.dfsc.walk import should_ask_next
from dfsfs.dfsc.wire import HeaderFlags, NameListEntry, ReferralEntry, ReferralResponse
from dfsfs.errors import ConnectError, DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.telemetry import Event

T = TypeVar("T")

ROOT_FLAGS = HeaderFlags.REFERRAL_SERVERS | HeaderFlags.STORAGE_SERVERS
LINK_FLAGS = HeaderFlags.STORAGE_SERVERS
INTERLINK_FLAGS = HeaderFlags.REFERRAL_SERVERS


def unc(text: str) -> UncPath:
    return UncPath.parse(text)


@dataclass(slots=True)
class Answer:
    """What a referral for a root or link says. A target set begins where a target is written with a leading `|`."""

    targets: list[str]
    is_root: bool
    flags: int
    ttl: int = 300
    version: int = 4

    def response(self, path_consumed: UncPath | None) -> ReferralResponse:
        entries = tuple(
            ReferralEntry(self.is_root, self.ttl, not index or target.startswith("|"), unc(target.lstrip("|")))
            for index, target in enumerate(self.targets)
        )
        return ReferralResponse(self.version, self.flags, path_consumed, entries)


@dataclass(slots=True)
class Universe:
    """See the module's text. Paths are those that a client asks for; a server is only a host name here."""

    caches: Caches = field(default_factory=Caches)
    now: float = 1000.0
    answers: dict[UncPath, Answer] = field(default_factory=dict)
    shares: set[UncPath] = field(default_factory=set)
    """Shares whose tree connect says that they take part in DFS."""
    down: dict[str, DfsfsError] = field(default_factory=dict)
    """What every request to a host comes to."""
    domains: dict[str, list[str]] = field(default_factory=dict)
    """Domain -> its controllers, as a DC referral names them."""
    controller: str = ""
    """What DiscoverDc finds."""
    asked: list[RequestReferral] = field(default_factory=list)
    trail: list[Event] = field(default_factory=list)

    # -- building -------------------------------------------------------------------------------------------------

    def root(self, path: str, *targets: str, flags: int = ROOT_FLAGS, ttl: int = 300, version: int = 4) -> Answer:
        """A DFS root. Without targets it is its own only one."""
        answer = Answer(list(targets) or [path], True, flags, ttl, version)
        self.answers[unc(path)] = answer
        self.shares |= {unc(target.lstrip("|")).share for target in answer.targets}
        return answer

    def link(self, path: str, *targets: str, flags: int = LINK_FLAGS, ttl: int = 1800, version: int = 4) -> Answer:
        """A DFS link."""
        answer = self.answers[unc(path)] = Answer(list(targets), False, flags, ttl, version)
        return answer

    def interlink(self, path: str, *targets: str) -> Answer:
        """A DFS link that is marked as one to another namespace."""
        return self.link(path, *targets, flags=INTERLINK_FLAGS)

    def kill(self, host: str, error: DfsfsError | None = None) -> None:
        self.down[host] = error or ConnectError(host, NtStatus.HOST_UNREACHABLE, "is down")

    def revive(self, host: str) -> None:
        del self.down[host]

    # -- asking ---------------------------------------------------------------------------------------------------

    def resolve(self, path: str, *, not_covered: bool = False, fresh: bool = False, max_hops: int = 8) -> Resolution:
        """Runs the resolver to its end."""
        self.trail = []
        steps = resolve(
            unc(path),
            self.caches,
            self.trail,
            now=self.now,
            not_covered=not_covered,
            fresh=fresh,
            max_hops=max_hops,
        )
        return self.drive(steps)

    def targets(self, path: str, **options: bool) -> list[str]:
        """Where a path is, in the order to try it."""
        resolution = self.resolve(path, **options)
        return [str(target.path.join(resolution.rest)) for target in resolution.targets]

    def learn_domains(self) -> None:
        self.trail = []
        self.drive(refresh_domains(self.caches, self.trail, now=self.now))

    def drive(self, steps: Generator[Action, Outcome, T]) -> T:
        try:
            action = next(steps)
            while True:
                action = steps.send(self.perform(action))
        except StopIteration as end:
            result: T = end.value
            return result

    @property
    def hosts_asked(self) -> list[str]:
        return [request.host for request in self.asked]

    @property
    def kinds_asked(self) -> list[ReferralKind]:
        return [request.kind for request in self.asked]

    # -- answering ------------------------------------------------------------------------------------------------

    def perform(self, action: Action) -> Outcome:
        try:
            match action:
                case RequestReferral():
                    return self._first_referral(action)
                case QueryShareIsDfs():
                    target = self._first_alive((action.target, *action.others))
                    return Answered(self.now, target.share in self.shares, target)
                case DiscoverDc():
                    if not self.controller:
                        raise DfsfsError("in no domain", NtStatus.NO_LOGON_SERVERS)
                    return DcFound(self.now, self.controller)
        except DfsfsError as error:
            return Failed(self.now, error)

    def _first_referral(self, action: RequestReferral) -> ReferralReceived | Failed:
        """Nobody here is silent, so who is asked first has the answer unless they are down."""
        failed: list[tuple[str, DfsfsError]] = []
        for host in (action.host, *action.others):
            request = replace(action, host=host, others=())
            self.asked.append(request)
            try:
                return ReferralReceived(self.now, self._referral(request), host, tuple(failed))
            except DfsfsError as error:
                failed.append((host, error))
                if not should_ask_next(error):
                    break
        *before, last = failed
        return Failed(self.now, last[1], last[0], tuple(before))

    def _first_alive(self, targets: Sequence[UncPath]) -> UncPath:
        alive = (target for target in targets if target.host not in self.down)
        target = next(alive, targets[-1])
        self._reach(target.host)
        return target

    def _reach(self, host: str) -> None:
        if host in self.down:
            raise self.down[host]

    def _referral(self, request: RequestReferral) -> ReferralResponse:
        self._reach(request.host)
        match request:
            case RequestReferral(path=None):
                names = tuple(NameListEntry(name, (), 600) for name in self.domains)
                return ReferralResponse(3, 0, None, (), names)
            case RequestReferral(kind=ReferralKind.DC, path=path):
                assert path is not None
                if path.host not in self.domains:
                    raise SmbError(NtStatus.INVALID_PARAMETER, f"DC referral for {path}")
                return ReferralResponse(
                    3, 0, None, (), (NameListEntry(path.host, tuple(self.domains[path.host]), 600),)
                )
            case RequestReferral(path=path):
                assert path is not None
                return self._root_or_link(path, exactly=request.kind is not ReferralKind.LINK)

    def _root_or_link(self, path: UncPath, *, exactly: bool) -> ReferralResponse:
        found = path.nearest_of([prefix for prefix in self.answers if not exactly or len(prefix) == len(path)])
        if not found:
            raise SmbError(NtStatus.NOT_FOUND, f"DFS referral for {path}")
        prefix = found[0]
        if not exactly and self.answers[prefix].is_root:
            raise SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, f"DFS referral for {path}")
        return self.answers[prefix].response(UncPath(path.components[: len(prefix)]))

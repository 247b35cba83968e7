"""The resolver: from a UNC path to the targets that stand for it (MS-DFSC 3.1.4.1, 3.1.5.1).

`resolve` is a generator. It yields what it wants to know (an Action) and is sent what came of it (an Outcome, which
carries the time), so that the algorithm can be read beside the text of the standard, and tests can play every server.

The standard's algorithm does the I/O in its step 8 and goes on from the answer. Here `resolve` ends before the I/O
with a Resolution. If a server then answers STATUS_PATH_NOT_COVERED, the caller resolves once more with
`uncovered=True`, which is 3.1.5.1: a root's target is asked for a link referral.

Where Samba differs from the standard: it marks no interlinks, and shows a root of several targets as a link. A link
whose target refuses a path in this way is therefore no error yet: if the target's share says that it takes part in
DFS, it is a namespace of its own and the walk goes on there. Every step into another namespace counts against the
limit, and a path that comes up twice is a loop.

`path`, as it changes on the walk, is the asked path with its first components replaced. `_Walk` keeps how many of the
asked ones the replacement stands for.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, auto

from dfsfs.dfsc.cache import NOT_DFS_SECONDS, UNAVAILABLE_SECONDS, Caches
from dfsfs.dfsc.referral import Referral, Target, referral_from
from dfsfs.dfsc.wire import ReferralResponse
from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError, NamespaceLoop, NtStatus, SmbError, WireError
from dfsfs.unc import UncPath

MAX_HOPS = 8
"""Namespaces that one path may lead through after its own, as on Windows."""

NOT_DFS_STATUSES = frozenset(
    {
        NtStatus.NOT_FOUND,
        NtStatus.NO_SUCH_FILE,
        NtStatus.OBJECT_NAME_NOT_FOUND,
        NtStatus.OBJECT_PATH_NOT_FOUND,
        NtStatus.FS_DRIVER_REQUIRED,
        NtStatus.DFS_UNAVAILABLE,
        NtStatus.INVALID_DEVICE_REQUEST,
        NtStatus.INVALID_PARAMETER,
        NtStatus.NOT_SUPPORTED,
        NtStatus.NOT_IMPLEMENTED,
        NtStatus.UNSUCCESSFUL,
    }
)
"""Answers to a root referral request that mean: this is a share like any other (3.1.4.1 step 12)."""
NOT_A_LINK_STATUSES = frozenset({NtStatus.NOT_FOUND, NtStatus.OBJECT_PATH_NOT_FOUND, NtStatus.NO_SUCH_FILE})
"""Answers to a link referral request that mean: there is no link (any more)."""


class ReferralKind(Enum):
    """What a request asks for (MS-DFSC 3.1.4.2)."""

    DOMAIN = auto()
    DC = auto()
    SYSVOL = auto()
    ROOT = auto()
    LINK = auto()


@dataclass(frozen=True, slots=True)
class RequestReferral:
    """Ask `host` for a referral for `path`."""

    host: str
    path: UncPath
    kind: ReferralKind


@dataclass(frozen=True, slots=True)
class QueryShareIsDfs:
    """Find out whether the share of `target` takes part in DFS."""

    target: UncPath


@dataclass(frozen=True, slots=True)
class DiscoverDc:
    """Find a domain controller of `domain`."""

    domain: str


@dataclass(frozen=True, slots=True)
class ReferralReceived:
    """The answer to RequestReferral. `now` in seconds, as in all outcomes."""

    now: float
    response: ReferralResponse


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to QueryShareIsDfs."""

    now: float
    value: bool


@dataclass(frozen=True, slots=True)
class DcFound:
    """The answer to DiscoverDc."""

    now: float
    host: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Any action that came to nothing."""

    now: float
    error: DfsfsError


Action = RequestReferral | QueryShareIsDfs | DiscoverDc
Outcome = ReferralReceived | Answered | DcFound | Failed


@dataclass(frozen=True, slots=True)
class Event:
    """A step of a resolution, for people: what was done with which path, and what came of it."""

    step: str
    path: UncPath
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a path is. `covered` is the leading part of it that `targets`, in the order to try them, stand for.

    `referral` is the cache entry it comes from, None for a share outside DFS; `expires` is when to resolve again.
    """

    path: UncPath
    covered: UncPath
    referral: Referral | None
    targets: tuple[Target, ...]
    expires: float
    hops: int
    trail: tuple[Event, ...]

    @property
    def rest(self) -> tuple[str, ...]:
        """The components below `covered`: to be looked for on the target."""
        return self.covered.rest_of(self.path)


class _Walk:
    """A resolution under way: the path as it is now, and how it came from the one asked for."""

    def __init__(self, asked: UncPath, caches: Caches, now: float) -> None:
        self.asked = asked
        self.caches = caches
        self.now = now
        self.path = asked
        self.trail: list[Event] = []
        self._replaced = 0  # components of `asked` that were replaced
        self._replacement = 0  # by so many components of `path`

    def note(self, step: str, path: UncPath, detail: object = "") -> None:
        self.trail.append(Event(step, path, str(detail)))

    def _covered(self, prefix: UncPath) -> int:
        """How many components of the asked path an entry with this prefix stands for."""
        return self._replaced + max(0, len(prefix) - self._replacement)

    def _places(self, prefix: UncPath, target: UncPath) -> UncPath:
        """Where the covered part is if `prefix` is at `target`. A replacement may lead further down than the prefix."""
        return target.join(self.path.components[len(prefix) : self._replacement])

    def enter(self, referral: Referral) -> None:
        """Replaces the entry's prefix by its target (steps 3 and 11)."""
        covered = self._covered(referral.prefix)
        place = self._places(referral.prefix, referral.hinted.path)
        self.path = place.join(self.asked.components[covered:])
        self._replaced, self._replacement = covered, len(place)
        self.note("interlink", referral.prefix, place)

    def end(self, prefix: UncPath, targets: tuple[Target, ...], referral: Referral | None, hops: int) -> Resolution:
        covered = UncPath(self.asked.components[: self._covered(prefix)])
        places = tuple(Target(self._places(prefix, target.path), target.starts_set) for target in targets)
        expires = referral.expires if referral is not None else self.now + NOT_DFS_SECONDS
        return Resolution(self.asked, covered, referral, places, expires, hops, tuple(self.trail))


Steps = Generator[Action, Outcome, Referral | None]


def resolve(
    path: UncPath, caches: Caches, *, now: float, uncovered: bool, max_hops: int = MAX_HOPS
) -> Generator[Action, Outcome, Resolution]:
    """Finds the targets for `path`, which has at least two components. `now` in seconds of the outcomes' clock.

    `uncovered`: a server answered STATUS_PATH_NOT_COVERED for exactly this path, so what is known is not deep enough.

    Raises:
        NamespaceLoop: more than `max_hops` other namespaces, or the same path twice.
        SmbError: with PATH_NOT_COVERED, if nobody knows a link where a server says that there is one (3.1.5.1).
        DfsfsError: what an action came to, where there is no other way.
    """
    walk = _Walk(path, caches, now)
    seen: set[UncPath] = set()
    for hops in range(max_hops + 1):
        if walk.path in seen:
            raise NamespaceLoop(f"{path} leads back to itself at {walk.path}")
        seen.add(walk.path)
        referral = yield from _find(walk)
        if referral is None:  # step 12
            if uncovered:
                raise SmbError(NtStatus.PATH_NOT_COVERED, f"{walk.path}, which is on a share outside DFS")
            share = walk.path.share
            return walk.end(share, (Target(share, True),), None, hops)
        if uncovered and referral.is_root:  # 3.1.5.1
            referral = yield from _deeper(walk, referral)
            uncovered = False
        elif uncovered and not referral.interlink:
            yield from _check_namespace(walk, referral)
            uncovered = False  # the namespace just found may know the path; if not, the caller comes again
        if not referral.interlink:  # steps 3 and 4
            walk.note("target", referral.prefix, referral.hinted.path)
            return walk.end(referral.prefix, referral.ordered, referral, hops)
        walk.enter(referral)  # step 11
    raise NamespaceLoop(f"{path} leads through more than {max_hops} namespaces")


def _find(walk: _Walk) -> Steps:
    """Steps 1, 2, 5 to 7, 9 and 10: the entry for the walk's path, None if it is not DFS."""
    referrals = walk.caches.referrals
    while True:
        known = referrals.lookup(walk.path)
        if known is None:
            return (yield from _root(walk, None))
        if not known.expired(walk.now):
            walk.note("hit", known.prefix)
            return known
        walk.note("expired", known.prefix)
        if len(known.prefix) == 2:
            return (yield from _root(walk, known))
        fresh = yield from _refresh_link(walk, known)
        if fresh is not None:
            return fresh


def _root(walk: _Walk, known: Referral | None) -> Steps:
    """Step 6. `known` is an expired entry, which goes on being used for a while if nobody can be asked."""
    share = walk.path.share
    if known is None and walk.caches.referrals.is_not_dfs(share, walk.now):
        walk.note("known not to be DFS", share)
        return None
    host = yield from _referral_host(walk, share)
    kind = ReferralKind.SYSVOL if host != share.host and _is_sysvol(share) else ReferralKind.ROOT
    outcome = yield from _ask(walk, host, share, kind)
    if isinstance(outcome, ReferralResponse):
        # Some servers count the whole request, some nothing, in answers about roots: it stands for two components.
        return walk.caches.referrals.store(referral_from(outcome, share, walk.now))
    if known is not None:
        return _keep(walk, known, outcome)
    if isinstance(outcome, SmbError) and outcome.status in NOT_DFS_STATUSES:
        unavailable = outcome.status == NtStatus.DFS_UNAVAILABLE
        seconds = UNAVAILABLE_SECONDS if unavailable else NOT_DFS_SECONDS
        walk.caches.referrals.set_not_dfs(share, walk.now + seconds)
        return None
    raise outcome


def _referral_host(walk: _Walk, share: UncPath) -> Generator[Action, Outcome, str]:
    """Step 5: who is asked for a root referral. For a domain's name that is one of its controllers."""
    domains = walk.caches.domains
    if share.host not in domains:
        return share.host
    hint = domains.dc_hint(share.host)
    if hint is not None:
        return hint
    outcome = yield DiscoverDc(share.host)
    walk.now = outcome.now
    if isinstance(outcome, Failed):
        raise outcome.error  # step 13
    assert isinstance(outcome, DcFound), outcome
    domains.set_dc_hint(share.host, outcome.host)
    return outcome.host


def _is_sysvol(share: UncPath) -> bool:
    return share.key[1] in ("SYSVOL", "NETLOGON")


def _refresh_link(walk: _Walk, known: Referral) -> Steps:
    """Step 9: an expired link is asked for again. None if the link is gone: then what is above it counts."""
    referrals = walk.caches.referrals
    root = referrals.root_of(walk.path) or (yield from _root(walk, None))
    if root is None:
        referrals.forget(known.prefix)
        return None
    outcome = yield from _ask_root_targets(walk, root)
    if isinstance(outcome, Referral):
        if outcome is not known and len(outcome.prefix) < len(known.prefix):
            referrals.forget(known.prefix)
        return outcome
    if isinstance(outcome, SmbError) and outcome.status in NOT_A_LINK_STATUSES:
        referrals.forget(known.prefix)
        return None
    return _keep(walk, known, outcome)


def _keep(walk: _Walk, known: Referral, error: DfsfsError) -> Referral:
    """An entry that could not be refreshed stays in use until its hard time-out, if it was for lack of somebody to
    ask.
    """
    if known.too_old(walk.now) or not isinstance(error, ConnectError | ConnectionLost):
        raise error
    walk.note("kept", known.prefix, error)
    return known


def _deeper(walk: _Walk, root: Referral) -> Generator[Action, Outcome, Referral]:
    """3.1.5.1: a root's target says that a link is on the way. Its root target knows which."""
    outcome = yield from _ask_root_targets(walk, root)
    if isinstance(outcome, DfsfsError):
        raise outcome
    if len(outcome.prefix) <= len(root.prefix):
        raise SmbError(NtStatus.PATH_NOT_COVERED, f"{walk.path}, for which {root.prefix} names no link")
    return outcome


def _ask_root_targets(walk: _Walk, root: Referral) -> Generator[Action, Outcome, Referral | DfsfsError]:
    """A link referral for the walk's path from the root's targets, one after the other while they can't be reached."""
    error: DfsfsError = SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, f"DFS referral for {walk.path}")
    for target in root.ordered:
        outcome = yield from _ask(walk, target.path.host, walk.path, ReferralKind.LINK)
        if isinstance(outcome, ReferralResponse):
            if outcome.covered is None or len(outcome.covered) < 2:
                return WireError(f"a referral for {walk.path} that covers nothing of it")
            root.set_hint(target.path)
            return walk.caches.referrals.store(referral_from(outcome, outcome.covered, walk.now))
        error = outcome
        if not isinstance(error, ConnectError | ConnectionLost):
            break
    return error


def _check_namespace(walk: _Walk, link: Referral) -> Generator[Action, Outcome, None]:
    """A link's target refuses a path below it. That is an error (3.1.5.1), unless the target is a namespace itself."""
    outcome = yield QueryShareIsDfs(link.hinted.path)
    walk.now = outcome.now
    if isinstance(outcome, Failed):
        raise outcome.error
    assert isinstance(outcome, Answered), outcome
    if not outcome.value:
        raise SmbError(NtStatus.PATH_NOT_COVERED, f"{walk.path} at {link.hinted.path}, which is not a namespace")
    link.interlink = True


def _ask(
    walk: _Walk, host: str, path: UncPath, kind: ReferralKind
) -> Generator[Action, Outcome, ReferralResponse | DfsfsError]:
    """One request; an answer without a single target is OBJECT_PATH_NOT_FOUND (3.1.5.4.3)."""
    outcome = yield RequestReferral(host, path, kind)
    walk.now = outcome.now
    if isinstance(outcome, Failed):
        walk.note("no referral", path, outcome.error)
        return outcome.error
    assert isinstance(outcome, ReferralReceived), outcome
    if not outcome.response.entries:
        return SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, f"DFS referral for {path} from {host}")
    walk.note("referral", path, f"from {host}: {len(outcome.response.entries)} targets")
    return outcome.response

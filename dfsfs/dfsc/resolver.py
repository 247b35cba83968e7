"""The resolver: from a UNC path to the targets that stand for it (MS-DFSC 3.1.4.1, 3.1.5.1).

`resolve` is a generator. It yields what it wants to know (an Action) and is sent what came of it (an Outcome, which
carries the time), so that the algorithm can be read beside the text of the standard, and tests can play every server.

The standard's algorithm does the I/O in its step 8 and goes on from the answer. Here `resolve` ends before the I/O
with a Resolution. If a server then answers STATUS_PATH_NOT_COVERED, the caller resolves once more with
`uncovered=True`, which is 3.1.5.1: a root's target is asked for a link referral. (The standard asks for the attributes
of the link before. The server has just said what they would say, so that round trip is left out.)

Two times count for an entry of the cache: after its TTL it is still used, and the caller refreshes it in the
background by a resolution with `fresh=True`; after four times its TTL nothing is done before it has been refreshed.

Where Samba differs from the standard: it marks no interlinks, and shows a root of several targets as a link. A link
whose target refuses a path in this way is therefore no error yet: if the target's share says that it takes part in
DFS, it is a namespace of its own and the walk goes on there. Every step into another namespace counts against the
limit, and a path that comes up twice is a loop.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from dfsfs.dfsc.actions import Action, Answered, Failed, Outcome, QueryShareIsDfs, ReferralKind
from dfsfs.dfsc.cache import NOT_DFS_SECONDS, UNAVAILABLE_SECONDS, Caches
from dfsfs.dfsc.domains import NoDomainController, domain_controllers
from dfsfs.dfsc.referral import Referral
from dfsfs.dfsc.walk import ReferralRequestSteps, Resolution, Walk, request_referral, should_ask_next
from dfsfs.dfsc.wire import ReferralResponse
from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError, NamespaceLoop, SetupRefused, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import CacheExpired, CacheHit, CacheMiss, EntryKept, Event, KnownNotDfs, TargetChosen

if TYPE_CHECKING:
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


Steps = Generator[Action, Outcome, Referral | None]


def resolve(
    path: UncPath,
    caches: Caches,
    trail: list[Event],
    *,
    now: float,
    not_covered: bool = False,
    fresh: bool = False,
    max_hops: int = MAX_HOPS,
) -> Generator[Action, Outcome, Resolution]:
    """Finds the targets for `path`, which has at least two components. `now` in seconds of the outcomes' clock.

    `not_covered`: a server answered STATUS_PATH_NOT_COVERED for exactly this path, so what is known is not deep enough.
    `fresh`: entries whose TTL is over are asked for again and not used. `trail` takes the events, also of a failure.

    Raises:
        NamespaceLoop: more than `max_hops` other namespaces, or the same path twice.
        SmbError: with PATH_NOT_COVERED, if no server knows a link where one says that there is a link (3.1.5.1).
        DfsfsError: what an action came to, where there is no other way (steps 13 and 14).
    """
    walk = Walk(path, caches, now, trail, fresh=fresh)
    visited: set[UncPath] = set()
    for hops in range(max_hops + 1):
        referral, is_interlink, not_covered = yield from _resolve_hop(walk, visited, not_covered)
        if referral is None:  # step 12
            if not_covered:
                raise SmbError(NtStatus.PATH_NOT_COVERED, f"{walk.path}, which is on a share outside DFS")
            return walk.make_plain_resolution(hops)
        if not is_interlink or _is_sysvol(walk.path.share):  # steps 3 and 4
            walk.add_event(TargetChosen(referral.prefix, referral.hinted_target.path, _reason(referral)))
            return walk.make_resolution(referral, hops)
        walk.enter_namespace(referral)  # step 11
    raise NamespaceLoop(f"{path} leads through more than {max_hops} namespaces")


Found = tuple[Referral | None, bool, bool]
"""The entry, whether it leads into another namespace, and whether it is known not to be deep enough."""


def _resolve_hop(walk: Walk, visited: set[UncPath], not_covered: bool) -> Generator[Action, Outcome, Found]:
    """Resolves the walk's path in the namespace that it is in, or in another target of the interlink that led there if
    no server answers in this one.
    """
    while True:
        if walk.path in visited:
            raise NamespaceLoop(f"{walk.requested_path} leads back to itself at {walk.path}")
        visited.add(walk.path)
        try:
            return (yield from _resolve_in_namespace(walk, not_covered))
        except DfsfsError as error:
            if not should_ask_next(error) or not walk.backtrack():
                raise


def _resolve_in_namespace(walk: Walk, not_covered: bool) -> Generator[Action, Outcome, Found]:
    referral = yield from _find_referral(walk)
    if referral is None:
        return None, False, not_covered
    is_interlink = referral.interlink or (referral.namespace_below and len(walk.path) > len(referral.prefix))
    if not_covered and (referral.is_root or referral.names_itself):  # 3.1.5.1
        referral = yield from _request_link(walk, referral)
        return referral, referral.interlink, False
    if not_covered and not is_interlink:
        yield from _check_namespace(walk, referral)
        return referral, True, False  # the namespace just found may know the path; if not, the caller comes again
    return referral, is_interlink, not_covered


def _reason(referral: Referral) -> str:
    if referral.hint == 0:
        return "the first target of the referral" if len(referral.targets) > 1 else "the only target"
    return "the one last used with success"


def _find_referral(walk: Walk) -> Steps:
    """Steps 1, 2, 5 to 7, 9 and 10: the entry for the walk's path, None if it is not DFS."""
    referrals = walk.caches.referrals
    while True:
        known = referrals.lookup(walk.path)
        if known is None:
            walk.add_event(CacheMiss(walk.path))
            return (yield from _request_root(walk, None))
        # An entry with a TTL of 0 serves the resolution that has asked for it.
        stale = known.is_expired(walk.now) and known.received < walk.started
        if not stale or not (walk.fresh or known.is_hard_expired(walk.now)):
            walk.add_event(CacheHit(known.prefix, known.expires - walk.now, stale))
            return known
        walk.add_event(CacheExpired(known.prefix))
        if len(known.prefix) == 2:
            return (yield from _request_root(walk, known))
        newer = yield from _refresh_link(walk, known)
        if newer is not None:
            return newer


def _request_root(walk: Walk, known: Referral | None) -> Steps:
    """Steps 5, 6 and 10. `known` is an expired entry, used for a while yet if no server can be asked."""
    share = walk.path.share
    if share.host in walk.caches.domains:
        outcome = yield from _request_from_domain(walk, share)
        from_domain = True
    else:
        if known is None and walk.caches.referrals.is_not_dfs(share, walk.now):
            walk.add_event(KnownNotDfs(share))
            return None
        _, outcome = yield from _request_targets(walk, (share.host,), share, ReferralKind.ROOT)
        from_domain = False
    if isinstance(outcome, ReferralResponse):
        # Some servers count the whole request, some nothing, in answers about roots: it stands for two components.
        return walk.store(outcome, share)
    if known is not None:
        return _use_expired(walk, known, outcome)  # step 14
    if from_domain or not (isinstance(outcome, SmbError) and outcome.status in NOT_DFS_STATUSES):
        raise outcome  # step 13
    seconds = UNAVAILABLE_SECONDS if outcome.status == NtStatus.DFS_UNAVAILABLE else NOT_DFS_SECONDS
    walk.caches.referrals.set_not_dfs(share, walk.now + seconds)
    return None


def _request_from_domain(walk: Walk, share: UncPath) -> Generator[Action, Outcome, ReferralResponse | DfsfsError]:
    """Steps 6 and 10 for a domain's name: its controllers are asked in their order (3.1.5.4.3)."""
    domain = share.host
    kind = ReferralKind.SYSVOL if _is_sysvol(share) else ReferralKind.ROOT
    try:
        controllers = yield from domain_controllers(walk, domain)
    except DfsfsError as error:
        return error
    host, outcome = yield from _request_targets(walk, controllers, share, kind)
    if isinstance(outcome, ReferralResponse):
        walk.caches.domains.set_dc_hint(domain, host)
        return outcome
    if not should_ask_next(outcome):
        return outcome
    walk.caches.domains.forget_dcs(domain)
    return NoDomainController(domain, outcome)


def _is_sysvol(share: UncPath) -> bool:
    return share.key[1] in ("SYSVOL", "NETLOGON")


def _refresh_link(walk: Walk, known: Referral) -> Steps:
    """Step 9: an expired link is asked for again. None if the link is gone: then what is above it counts."""
    referrals = walk.caches.referrals
    root = referrals.root_of(walk.path) or (yield from _request_root(walk, None))
    if root is None:
        referrals.forget(known.prefix)
        return None
    outcome = yield from _request_from_root_targets(walk, root)
    if isinstance(outcome, Referral):
        if outcome is not known and len(outcome.prefix) < len(known.prefix):
            referrals.forget(known.prefix)
        return outcome
    if isinstance(outcome, SmbError) and outcome.status in NOT_A_LINK_STATUSES:
        referrals.forget(known.prefix)
        return None
    return _use_expired(walk, known, outcome)


def _use_expired(walk: Walk, known: Referral, error: DfsfsError) -> Referral:
    """An entry that could not be refreshed stays in use until its hard time-out, if it was because no server could be
    asked. Raises the error otherwise (step 14).
    """
    is_unreachable = isinstance(error, ConnectError | ConnectionLost | NoDomainController)
    is_unable = isinstance(error, SetupRefused) and error.is_server_fault
    if known.is_hard_expired(walk.now) or not (is_unreachable or is_unable):
        raise error
    walk.add_event(EntryKept(known.prefix, str(error)))
    return known


def _request_link(walk: Walk, root: Referral) -> Generator[Action, Outcome, Referral]:
    """3.1.5.1: a root's target says that a link is on the way. Its root target knows which."""
    outcome = yield from _request_from_root_targets(walk, root)
    if isinstance(outcome, DfsfsError):
        raise outcome
    if len(outcome.prefix) <= len(root.prefix):
        raise SmbError(NtStatus.PATH_NOT_COVERED, f"{walk.path}, for which {root.prefix} names no link")
    return outcome


def _request_from_root_targets(walk: Walk, root: Referral) -> Generator[Action, Outcome, Referral | DfsfsError]:
    """A link referral for the walk's path from the root's targets, one set after the other while they can't be asked.

    The last one's error if none can (3.1.5.4.3).
    """
    error: DfsfsError = SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, f"DFS referral for {walk.path}")
    for targets in root.ordered_sets:
        hosts = tuple(dict.fromkeys(target.path.host for target in targets))
        host, outcome = yield from _request_targets(walk, hosts, walk.path, ReferralKind.LINK)
        if isinstance(outcome, ReferralResponse):
            if outcome.path_consumed is None or len(outcome.path_consumed) < 2:
                return WireError(f"a referral for {walk.path} that covers nothing of it")
            root.set_hint(next(target.path for target in targets if target.path.host == host))
            return walk.store(outcome, outcome.path_consumed)
        error = outcome
        if not should_ask_next(error):
            break
    return error


def _check_namespace(walk: Walk, link: Referral) -> Generator[Action, Outcome, None]:
    """A link's target refuses a path. That is an error (3.1.5.1), unless the target is a namespace itself."""
    for targets in link.ordered_sets:
        first, *others = (target.path for target in targets)
        outcome = yield QueryShareIsDfs(first, tuple(others))
        walk.now = outcome.now
        if not (isinstance(outcome, Failed) and should_ask_next(outcome.error)):
            break
    if isinstance(outcome, Failed):
        raise outcome.error
    assert isinstance(outcome, Answered), outcome
    if not outcome.value:
        raise SmbError(NtStatus.PATH_NOT_COVERED, f"{walk.path} at {outcome.target}, which is not a namespace")
    link.set_hint(outcome.target)
    if len(walk.path) > len(link.prefix):
        link.namespace_below = True
    else:
        link.interlink = True


def _request_targets(walk: Walk, hosts: Sequence[str], path: UncPath, kind: ReferralKind) -> ReferralRequestSteps:
    """One request. An answer without a single target is STATUS_OBJECT_PATH_NOT_FOUND (3.1.5.4.3)."""
    host, outcome = yield from request_referral(walk, hosts, path, kind)
    if isinstance(outcome, ReferralResponse) and not outcome.entries:
        return host, SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, f"DFS referral for {path}, which names no target")
    return host, outcome

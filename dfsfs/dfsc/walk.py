"""The walk of a resolution: the path as it is now, how it came from the requested one, and what was found out. Pure.

`path`, as it changes on the walk, is the requested path with its first components replaced. The walk keeps how many of
the requested ones the replacement stands for.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from dfsfs.dfsc.actions import Action, Failed, Outcome, ReferralKind, ReferralReceived, RequestReferral
from dfsfs.dfsc.cache import NOT_DFS_SECONDS, Caches
from dfsfs.dfsc.referral import Referral, Target, referral_from
from dfsfs.dfsc.wire import ReferralResponse
from dfsfs.errors import SERVER_FAULTS, DfsfsError
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import Event, NamespaceEntered, ReferralAnswered, ReferralRefused, ReferralSent
from dfsfs.unc import UncPath, fold_name


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a path is. `path_consumed` is the leading part of it that `targets`, in the order to try them, stand for.

    `referral` is the cache entry it comes from, None for a share outside DFS; `expires` is when one of the entries on
    the way has to be asked for again, and may have passed: an entry is used for a while after that.
    """

    path: UncPath
    path_consumed: UncPath
    referral: Referral | None
    targets: tuple[Target, ...]
    expires: float
    hard_expires: float = math.inf
    """When they are too old to be used (four times the TTL)."""
    preferred: tuple[UncPath, ...] = ()
    """Those of `targets` that failback goes back to: the first target set, if the namespace wants failback."""
    hops: int = 0
    trail: tuple[Event, ...] = ()

    @property
    def rest(self) -> tuple[str, ...]:
        """The components below `path_consumed`: to be looked for on the target."""
        return self.path_consumed.rest_of(self.path)


@dataclass(frozen=True, slots=True)
class _Crossing:
    """An interlink on the way: the walk as it was before, and the targets that have not been tried."""

    referral: Referral
    path: UncPath
    replaced: int
    replacement: int
    others: tuple[UncPath, ...]


class Walk:
    """See the module's text. `fresh`: an entry past its soft time-out is asked for again and not used."""

    def __init__(
        self, requested_path: UncPath, caches: Caches, now: float, trail: list[Event], *, fresh: bool = False
    ) -> None:
        self.requested_path = requested_path
        self.caches = caches
        self.now = self.started = now
        self.fresh = fresh
        self.path = requested_path
        self.trail = trail
        self._expires = self._hard_expires = math.inf
        self._replaced = 0  # components of `requested_path` that were replaced
        self._replacement = 0  # by so many components of `path`
        self._crossings: list[_Crossing] = []
        self.failed_requests: dict[tuple[str, UncPath | None, ReferralKind], DfsfsError] = {}
        """The errors of requests that failed. Targets of one interlink may lead into the same namespace, and a server
        that does not answer, or is busy, is not asked the same again on one walk: that may take seconds.
        """

    def add_event(self, event: Event) -> None:
        self.trail.append(event)

    def store(self, response: ReferralResponse, prefix: UncPath) -> Referral:
        """Takes an answer into the cache, as the mount's options want it."""
        domains = self.caches.domains
        referral = referral_from(response, prefix, self.now, is_domain=domains.__contains__)
        referral, ignored = self.caches.policy.apply(referral)
        self.trail += ignored
        return self.caches.referrals.store(referral)

    def limit_expiry(self, referral: Referral) -> None:
        self._expires = min(self._expires, referral.expires)
        self._hard_expires = min(self._hard_expires, referral.hard_expires)

    def _consumed_count(self, prefix: UncPath) -> int:
        """How many components of the requested path an entry with this prefix stands for."""
        return self._replaced + max(0, len(prefix) - self._replacement)

    def _place_at(self, prefix: UncPath, target: UncPath) -> UncPath:
        """Where the consumed part is if `prefix` is at `target`. A replacement may reach deeper than the prefix."""
        return target.join(self.path.components[len(prefix) : self._replacement])

    def enter_namespace(self, referral: Referral) -> None:
        """Replaces the entry's prefix by its target (3.1.4.1 steps 3 and 11)."""
        self.limit_expiry(referral)
        others = tuple(target.path for target in referral.ordered[1:])
        self._crossings.append(_Crossing(referral, self.path, self._replaced, self._replacement, others))
        self._cross(referral)

    def backtrack(self) -> bool:
        """Goes back to the last interlink that has another target, and enters that, as no server answers here.

        Returns whether there was one. The target becomes the entry's hint.
        """
        while self._crossings:
            way = self._crossings.pop()
            if way.others:
                self.path, self._replaced, self._replacement = way.path, way.replaced, way.replacement
                way.referral.set_hint(way.others[0])
                self._crossings.append(replace(way, others=way.others[1:]))
                self._cross(way.referral)
                return True
        return False

    def _cross(self, referral: Referral) -> None:
        consumed = self._consumed_count(referral.prefix)
        place = self._place_at(referral.prefix, referral.hinted_target.path)
        self.path = place.join(self.requested_path.components[consumed:])
        self._replaced, self._replacement = consumed, len(place)
        self.add_event(NamespaceEntered(referral.prefix, place))

    def make_resolution(self, referral: Referral, hops: int) -> Resolution:
        """The end at a DFS root or link: step 3 or 4."""
        self.limit_expiry(referral)
        preferred = referral.first_set if referral.failback else ()
        return Resolution(
            path=self.requested_path,
            path_consumed=UncPath(self.requested_path.components[: self._consumed_count(referral.prefix)]),
            referral=referral,
            targets=self._all_places_at(referral.prefix, referral.ordered),
            expires=self._expires,
            hard_expires=self._hard_expires,
            preferred=tuple(target.path for target in self._all_places_at(referral.prefix, preferred)),
            hops=hops,
            trail=tuple(self.trail),
        )

    def make_plain_resolution(self, hops: int) -> Resolution:
        """The end at a share outside DFS: step 12."""
        share = self.path.share
        return Resolution(
            path=self.requested_path,
            path_consumed=UncPath(self.requested_path.components[: self._consumed_count(share)]),
            referral=None,
            targets=self._all_places_at(share, (Target(share, True),)),
            expires=min(self._expires, self.now + NOT_DFS_SECONDS),
            hard_expires=self._hard_expires,
            hops=hops,
            trail=tuple(self.trail),
        )

    def _all_places_at(self, prefix: UncPath, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(Target(self._place_at(prefix, target.path), target.starts_set) for target in targets)


ReferralRequestSteps = Generator[Action, Outcome, tuple[str, ReferralResponse | DfsfsError]]


def request_referral(
    walk: Walk, hosts: Sequence[str], path: UncPath | None, kind: ReferralKind
) -> ReferralRequestSteps:
    """One request for a referral, to one of some hosts of which each would say the same, to be preferred in this order.
    Returns the host that was asked last, and its answer or error. Hosts that have failed the same request on this walk
    are not asked again.
    """
    left = [host for host in hosts if (fold_name(host), path, kind) not in walk.failed_requests]
    if not left:
        return hosts[-1], walk.failed_requests[fold_name(hosts[-1]), path, kind]
    shown = path.wire if path is not None else ""
    outcome = yield RequestReferral(left[0], path, kind, tuple(left[1:]))
    walk.now = outcome.now
    assert isinstance(outcome, ReferralReceived | Failed), outcome
    host = outcome.host or left[0]
    failures = (*outcome.failed, (host, outcome.error)) if isinstance(outcome, Failed) else outcome.failed
    for failed, error in failures:
        walk.add_event(ReferralSent(failed, shown, kind.value))
        walk.add_event(ReferralRefused(failed, shown, str(error)))
        walk.failed_requests[fold_name(failed), path, kind] = error
    if isinstance(outcome, Failed):
        return host, outcome.error
    walk.add_event(ReferralSent(host, shown, kind.value))
    response = outcome.response
    walk.add_event(ReferralAnswered(host, shown, response.version, response.flags, response.ttl, _shown(response)))
    return host, response


def _shown(response: ReferralResponse) -> tuple[str, ...]:
    targets: list[str] = []
    for entry in response.entries:
        targets += ["|"] if entry.starts_set and targets else []
        targets.append(str(entry.network_address))
    return (*targets, *(name for entry in response.name_lists for name in (entry.names or (entry.special_name,))))


def should_ask_next(error: DfsfsError) -> bool:
    """Whether a referral request that failed like this is sent to the next root target or domain controller.

    Those are the statuses after which an operation goes to the next target, without BAD_NETWORK_NAME (MS-DFSC section
    6, on 3.1.5.4.3).
    """
    return error.disposition in SERVER_FAULTS and error.status != NtStatus.BAD_NETWORK_NAME

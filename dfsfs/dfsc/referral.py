"""Referral: an entry of the ReferralCache, with its targets and the one in use (MS-DFSC 3.1.1, 3.1.5.4.3). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.unc import UncPath

HARD_TIMEOUT_FACTOR = 4
"""How many times its TTL an entry may be used while it can't be refreshed, as Windows does (MS-DFSC section 6)."""
DEFAULT_TTL = 300
"""Seconds for V1 entries, which carry no TTL: what Windows servers give roots."""


@dataclass(frozen=True, slots=True)
class Target:
    """A place that stands for a root or link. `starts_set`: the first of a target set (V4)."""

    path: UncPath
    starts_set: bool


@dataclass(slots=True, eq=False)
class Referral:
    """What is known of a DFS root or link. Times are seconds of the caller's clock."""

    prefix: UncPath
    is_root: bool
    interlink: bool
    failback: bool
    targets: tuple[Target, ...]
    received: float
    ttl: int
    hint: int = 0
    """Index of the target last used with success, or to be tried first."""
    namespace_below: bool = False
    """The targets refuse paths below themselves and take part in DFS: each is a place, and a namespace for what is
    below it. Samba marks no interlinks, and shows a domain's root like this.
    """

    @property
    def expires(self) -> float:
        return self.received + self.ttl

    @property
    def hard_expires(self) -> float:
        return self.received + HARD_TIMEOUT_FACTOR * self.ttl

    def is_expired(self, now: float) -> bool:
        """The soft time-out: it should be asked for again."""
        return now >= self.expires

    def is_hard_expired(self, now: float) -> bool:
        """The hard time-out: it must not be used any more."""
        return now >= self.hard_expires

    @property
    def ordered(self) -> tuple[Target, ...]:
        """The targets in the order to try them: from the hint to the end of the list, then from its start."""
        return self.targets[self.hint :] + self.targets[: self.hint]

    @property
    def ordered_sets(self) -> tuple[tuple[Target, ...], ...]:
        """The same by target sets: none is to be tried before all of the set before it have failed."""
        ordered = self.ordered
        starts = [0, *(index for index, target in enumerate(ordered) if index and target.starts_set), len(ordered)]
        return tuple(ordered[start:end] for start, end in pairwise(starts) if start < end)

    @property
    def hinted_target(self) -> Target:
        return self.targets[self.hint]

    @property
    def names_itself(self) -> bool:
        """Whether it is a root at its own name, also where a server does not say that it is a root."""
        return len(self.prefix) == 2 and self.hinted_target.path == self.prefix

    def set_hint(self, target: UncPath) -> None:
        """Makes `target` the first to try; one that the entry does not have changes nothing."""
        for index, known in enumerate(self.targets):
            if known.path == target:
                self.hint = index

    def refresh(self, newer: Referral) -> None:
        """Takes over a fresh answer for the same prefix (MS-DFSC 3.1.5.4.3).

        An equivalent target list is kept with its order and hint; another one replaces it, and the hint stays on its
        target if that is still there. With failback the hint returns to the first target set.
        """
        self.received, self.ttl, self.failback = newer.received, newer.ttl, newer.failback
        same = _sets(self.targets) == _sets(newer.targets)
        if not same:
            current = self.hinted_target.path
            self.targets, self.hint = newer.targets, 0
            self.set_hint(current)
        # What was found out about the target (Samba does not mark interlinks) holds while the targets are the same.
        self.interlink = newer.interlink or (same and self.interlink)
        self.namespace_below = same and self.namespace_below
        self.is_root = newer.is_root
        if self.failback and self.hint >= len(self.first_set):
            self.hint = 0

    @property
    def first_set(self) -> tuple[Target, ...]:
        """The targets that the server prefers; all of them if it makes no sets (V1 to V3)."""
        for index, target in enumerate(self.targets):
            if index and target.starts_set:
                return self.targets[:index]
        return self.targets


def _sets(targets: tuple[Target, ...]) -> list[frozenset[UncPath]]:
    """The target sets in order, each without order: what makes two lists equivalent."""
    sets: list[set[UncPath]] = [set()]
    for target in targets:
        if target.starts_set and sets[-1]:
            sets.append(set())
        sets[-1].add(target.path)
    return [frozenset(members) for members in sets]


def referral_from(
    response: ReferralResponse, prefix: UncPath, now: float, *, is_domain: Callable[[str], bool] = lambda _: False
) -> Referral:
    """A cache entry from an answer that has at least one entry (MS-DFSC 3.1.5.4.3, 3.1.5.4.5).

    Whether it is a root is for ServerType to say, not for the request: Samba answers a request for a root of several
    targets like one for a link, and Windows does so for consolidated roots.
    """
    first = response.entries[0]
    single_domain = len(response.entries) == 1 and is_domain(first.network_address.host)
    # A root at a domain controller may name itself as its only target (Samba): that is where it is, and no way on.
    interlink = (response.is_interlink or single_domain) and first.network_address != prefix
    return Referral(
        prefix=prefix,
        is_root=first.is_root,
        interlink=interlink and not first.is_root,
        failback=response.failback,
        targets=tuple(
            Target(entry.network_address, entry.starts_set or not index) for index, entry in enumerate(response.entries)
        ),
        received=now,
        ttl=response.ttl if response.version > 1 else DEFAULT_TTL,
    )

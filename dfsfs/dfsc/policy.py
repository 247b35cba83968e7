"""What the options of a mount change about referrals. Pure.

They choose among the targets that a referral names, and never add one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from dfsfs.dfsc.referral import Referral, Target
from dfsfs.telemetry import Event, PolicyIgnored
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Sequence

TTL_CAP = 86_400
"""The longest time, in seconds, that a referral is used without a refresh, unless an option says otherwise.

A TTL has 32 bits, so one wrong or hostile answer would last for 136 years. Windows gives roots 300 seconds and links
1800; a day is far beyond all uses, and short enough that a wrong answer is gone by the time people look for it.
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """`prefer`: patterns of host names whose targets come first, in this order. `pins`: the one target to use for a
    namespace path. `ttl_min`, `ttl_max`: seconds; without a `ttl_max` it is TTL_CAP, or `ttl_min` if that is more.
    `failback`: instead of what the server says.
    """

    prefer: tuple[str, ...] = ()
    pins: tuple[tuple[UncPath, UncPath], ...] = ()
    ttl_min: int | None = None
    ttl_max: int | None = None
    failback: bool | None = None

    def apply(self, referral: Referral) -> tuple[Referral, tuple[Event, ...]]:
        """The referral as this mount uses it, and what could not be done."""
        targets, events = self._apply_pin(referral)
        return (
            replace(
                referral,
                targets=self._move_preferred(targets),
                ttl=self._ttl(referral.ttl),
                failback=referral.failback if self.failback is None else self.failback,
            ),
            events,
        )

    def _ttl(self, ttl: int) -> int:
        if self.ttl_max is None:
            return max(min(ttl, TTL_CAP), self.ttl_min or 0)
        return min(max(ttl, self.ttl_min or 0), self.ttl_max)

    def _apply_pin(self, referral: Referral) -> tuple[tuple[Target, ...], tuple[Event, ...]]:
        pin = self._pin(referral.prefix)
        if pin is None:
            return referral.targets, ()
        if any(target.path == pin for target in referral.targets):
            return (Target(pin, True),), ()
        problem = f"dfs_pin= names {pin}, which is none of its targets; all of them are used"
        return referral.targets, (PolicyIgnored(referral.prefix, problem),)

    def _pin(self, prefix: UncPath) -> UncPath | None:
        """The target of a pin; of one that is written in another case if there is none that is spelled so."""
        exact = next((target for path, target in self.pins if path == prefix), None)
        return exact or next((target for path, target in self.pins if path.folded == prefix.folded), None)

    def _move_preferred(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Target sets stay what they are, but for the preferred targets, which become sets of their own in front."""
        rest, front = list(targets), []
        for pattern in map(fold_name, self.prefer):
            chosen = [target for target in rest if fnmatchcase(fold_name(target.path.host), pattern)]
            rest = _remove_targets(rest, chosen)
            front += [Target(target.path, not index) for index, target in enumerate(chosen)]
        if front and rest:
            rest[0] = Target(rest[0].path, True)
        return (*front, *rest)


def _remove_targets(targets: Sequence[Target], removed: Sequence[Target]) -> list[Target]:
    """The targets that are left, with the boundaries of their sets."""
    left: list[Target] = []
    boundary = False
    for target in targets:
        boundary = boundary or target.starts_set
        if target not in removed:
            left.append(Target(target.path, boundary))
            boundary = False
    return left

"""Which paths stand for a junction, and in which order to try them.

The order is the referral's (MS-DFSC 3.1.5.4.3), with two exceptions: the target in use comes before the others, so
that a connection that ends is not a reason to move; one that could not be reached lately comes after them.
What the administrator has decided since the mount comes before the referral's order, see overrides.py.

Targets of one target set may be tried in a race, which keeps their order among those that answer in time. No race has
targets of two sets, and none has both drained targets and others.

Nothing here connects to a target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.errors import DfsfsError
    from dfsfs.namespace.junction import Junction
    from dfsfs.namespace.overrides import TargetOverrides
    from dfsfs.namespace.reachability import Reachability


def path_below(junction: Junction, resolution: Resolution) -> tuple[str, ...]:
    """The part of the junction's prefix that the resolution's targets don't stand for."""
    return resolution.path_consumed.rest_of(junction.prefix)


def targets_for(junction: Junction, resolution: Resolution) -> list[UncPath]:
    """The paths that stand for the junction's prefix, in the referral's order."""
    rest = path_below(junction, resolution)
    return list(dict.fromkeys(target.path.join(rest) for target in resolution.targets))


def failback_targets_for(junction: Junction, resolution: Resolution) -> list[UncPath]:
    """The paths that the junction should fail back to, in the referral's order; none without failback."""
    rest = path_below(junction, resolution)
    return [target.join(rest) for target in resolution.preferred]


def entry_for(junction: Junction, resolution: Resolution, target: UncPath) -> UncPath | None:
    """The resolution's own target that leads to `target` for this junction; None if there is none any more."""
    rest = path_below(junction, resolution)
    return next((entry.path for entry in resolution.targets if entry.path.join(rest) == target), None)


def is_dfs(junction: Junction) -> bool:
    """Whether a referral stands behind the junction; False for a plain share."""
    return junction.resolution is not None and junction.resolution.referral is not None


def is_self_referral(junction: Junction, resolution: Resolution, target: UncPath) -> bool:
    """Whether the resolution refers to `target` again, which has answered PATH_NOT_COVERED for the path."""
    return resolution.path_consumed.is_prefix_of(junction.prefix) and target in targets_for(junction, resolution)


class TargetOrder:
    """Chooses the next target, and remembers for `memory` seconds which could not be reached. One per mount."""

    def __init__(
        self, clock: Callable[[], float], memory: float, overrides: TargetOverrides, reachability: Reachability
    ) -> None:
        self._clock = clock
        self._reachability = reachability
        self._memory = memory
        self._overrides = overrides
        self._unreachable_until: dict[UncPath, float] = {}

    def next_group(self, junction: Junction, tried: Container[UncPath]) -> list[UncPath]:
        """The targets of the junction to try next, in a race in this order; empty if all are in `tried`."""
        resolution = junction.resolution
        assert resolution is not None
        sets = _sets_of(junction, resolution)
        left = [target for target in targets_for(junction, resolution) if target not in tried]
        now = self._clock()
        left.sort(
            key=lambda target: (
                self._is_unreachable(target, now),
                *self._overrides.rank(junction.prefix, target),
                target != junction.last_target,
            )
        )
        return [target for target in left if self._race_group(target, sets) == self._race_group(left[0], sets)]

    def _race_group(self, target: UncPath, sets: dict[UncPath, int]) -> tuple[bool, int]:
        """What the targets of one race have in common."""
        return self._overrides.is_drained(target), sets[target]

    def mark_unreachable(self, target: UncPath, error: DfsfsError) -> None:
        """`target` could not be connected. If that is about its server, the other targets there come late as well."""
        now = self._clock()
        for key in [key for key, until in self._unreachable_until.items() if until <= now]:
            del self._unreachable_until[key]
        self._unreachable_until[target] = now + self._memory
        self._reachability.note_failure(target.host, error)

    def _is_unreachable(self, target: UncPath, now: float) -> bool:
        return self._unreachable_until.get(target, now) > now or self._reachability.is_suspect(target.host)


def _sets_of(junction: Junction, resolution: Resolution) -> dict[UncPath, int]:
    """The number of the target set that each of the paths which stand for the junction's prefix is in."""
    rest, found, number = path_below(junction, resolution), dict[UncPath, int](), 0
    for target in resolution.targets:
        number += target.starts_set
        found.setdefault(target.path.join(rest), number)
    return found

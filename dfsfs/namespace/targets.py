"""Which paths stand for a junction, and in which order to try them. Plain functions and a memory of what was not
there.

The order is the referral's (MS-DFSC 3.1.5.4.3), with two exceptions: the target in use comes before the others, so
that a connection that ends is not a reason to move; one that could not be reached a moment ago comes after them.
What the administrator has decided since comes before the referral's order, see choices.py.

What this does not do: it never connects to anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.choices import Choices
    from dfsfs.namespace.junction import Junction


def below(junction: Junction, resolution: Resolution) -> tuple[str, ...]:
    """The part of the junction's prefix that the resolution's targets don't stand for."""
    return resolution.covered.rest_of(junction.prefix)


def targets_for(junction: Junction, resolution: Resolution) -> list[UncPath]:
    """The paths that stand for the junction's prefix, in the referral's order."""
    rest = below(junction, resolution)
    return list(dict.fromkeys(target.path.join(rest) for target in resolution.targets))


def preferred_for(junction: Junction, resolution: Resolution) -> list[UncPath]:
    """The paths that the junction should fail back to, in the referral's order; none without failback."""
    rest = below(junction, resolution)
    return [target.join(rest) for target in resolution.preferred]


def entry_for(junction: Junction, resolution: Resolution, target: UncPath) -> UncPath | None:
    """The resolution's own target that leads to `target` for this junction; None if there is none any more."""
    rest = below(junction, resolution)
    return next((entry.path for entry in resolution.targets if entry.path.join(rest) == target), None)


def is_dfs(junction: Junction) -> bool:
    """Whether a referral stands behind the junction; False for a plain share."""
    return junction.resolution is not None and junction.resolution.referral is not None


def leads_back(junction: Junction, resolution: Resolution, target: UncPath) -> bool:
    """Whether the resolution has nothing new to say about a path below the junction that `target` does not cover."""
    return resolution.covered.is_prefix_of(junction.prefix) and target in targets_for(junction, resolution)


class TargetOrder:
    """Chooses the next target, and remembers for `memory` seconds which could not be reached. One per mount."""

    def __init__(self, clock: Callable[[], float], memory: float, choices: Choices) -> None:
        self._clock = clock
        self._memory = memory
        self._choices = choices
        self._unreached: dict[UncPath, float] = {}

    def next_target(self, junction: Junction, tried: Container[UncPath]) -> UncPath | None:
        """The first of the junction's targets that is not in `tried`; None if there is none left."""
        assert junction.resolution is not None
        left = [target for target in targets_for(junction, junction.resolution) if target not in tried]
        now = self._clock()
        return min(
            left,
            key=lambda target: (
                self._is_unreached(target, now),
                *self._choices.rank(junction.prefix, target),
                target != junction.last_target,
            ),
            default=None,
        )

    def note_unreached(self, target: UncPath, error: DfsfsError) -> None:
        """`target` could not be connected. If it was for its server, that goes for all other targets there."""
        now = self._clock()
        for key in [key for key, until in self._unreached.items() if until <= now]:
            del self._unreached[key]
        by_host = isinstance(error, (ConnectError, ConnectionLost))
        self._unreached[UncPath((target.host,)) if by_host else target] = now + self._memory

    def _is_unreached(self, target: UncPath, now: float) -> bool:
        return any(self._unreached.get(key, now) > now for key in (target, UncPath((target.host,))))

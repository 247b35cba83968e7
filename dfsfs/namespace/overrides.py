"""What the administrator of a running mount has decided about targets: `dfsfs target set` and `dfsfs drain`.

A chosen target is the first to be tried for its link, and the one to go back to when it answers again. A drained server
is the last to be tried for all links, and nothing goes back to it. Neither keeps a path from working: if no other
target answers, the one that was not wanted serves.

Overrides last as long as the mount. Those that should outlast it are options: dfs_pin=, dfs_prefer=.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.unc import fold_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.unc import UncPath


@dataclass(slots=True)
class TargetOverrides:
    """See the module's text."""

    chosen: dict[UncPath, UncPath] = field(default_factory=dict)
    """Chosen targets, by the namespace path of their root or link."""
    drained: dict[str, str] = field(default_factory=dict)
    """Drained servers as the administrator has written them, by their folded names."""

    def is_drained(self, target: UncPath) -> bool:
        """Whether the target's server is drained."""
        return fold_name(target.host) in self.drained

    def rank(self, prefix: UncPath, target: UncPath) -> tuple[bool, bool]:
        """How late a target comes for the root or link at `prefix`: lower is earlier."""
        return self.is_drained(target), prefix in self.chosen and self.chosen[prefix] != target

    def failback_targets(
        self, prefix: UncPath, targets: Sequence[UncPath], preferred: Sequence[UncPath]
    ) -> list[UncPath]:
        """Which of a root's or link's `targets` to go back to, if without overrides those are `preferred`."""
        chosen = self.chosen.get(prefix)
        if chosen is not None and chosen in targets and not self.is_drained(chosen):
            return [chosen]
        return [target for target in preferred if not self.is_drained(target)]

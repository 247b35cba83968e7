"""Which tests one process of several runs (`pytest -n 2 --dist loadgroup`), and in which order.

Tests that use the same servers, mounts or domain stay together: those of one file, and all that need the domain. The
groups that take longest begin, so that no process is left with a long one while the others have nothing to do.

A scheduler of our own, as xdist's for groups writes them into the names of tests, which pytest 9.2 does not let it do:
without an error each test is then a group by itself.
"""

from __future__ import annotations

import functools
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

DURATIONS = Path(__file__).parents[1] / "durations.json"
"""Seconds that each group took, setup and teardown included, in two processes on two cores: written by `main`."""
IN_THE_DOMAIN = "tests/ad"
"""The folder of the tests that share a domain, of which there is one at a time."""
UNKNOWN = 10.0
"""Seconds that a new group is taken for."""


def group_of(nodeid: str) -> str:
    """What a test, by its node id, stays together with: a file, or a folder."""
    file = nodeid.split("::", 1)[0]
    return IN_THE_DOMAIN if file.startswith(f"{IN_THE_DOMAIN}/") else file


@functools.cache
def _durations() -> dict[str, float]:
    known: dict[str, float] = json.loads(DURATIONS.read_text())
    return known


def longest_first(items: list[pytest.Item]) -> None:
    """Orders tests by the time that their group takes; in a group they stay in order."""
    items.sort(key=lambda item: (-_durations().get(group_of(item.nodeid), UNKNOWN), group_of(item.nodeid)))


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each process one group after the other, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would be by the number of tests

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def measured(output: str) -> dict[str, float]:
    """Seconds of each group from what `pytest -n 2 --dist loadgroup --durations=0` has printed, the longest first."""
    seconds: dict[str, float] = defaultdict(float)
    for line in output.splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[0].endswith("s") and words[1] in {"setup", "call", "teardown"}:
            seconds[group_of(words[2])] += float(words[0][:-1])
    return {group: round(taken, 1) for group, taken in sorted(seconds.items(), key=lambda one: (-one[1], one[0]))}


def main() -> None:
    """Writes durations.json anew from the output of a run, which is read from standard input."""
    DURATIONS.write_text(json.dumps(measured(sys.stdin.read()), indent=1) + "\n")


if __name__ == "__main__":
    main()

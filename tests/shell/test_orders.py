"""Every order in which two operations of a mount can meet; see meeting.py for what has to be true afterwards.

Each run has the pairs that are most likely to harm each other whole, and a sample of the orders of all others. With
DFSFS_LONG=1 all pairs are tried whole, also without leases, with cache=none, and with a kernel that takes answers in
late.
"""

from __future__ import annotations

import os
import random
import re
from itertools import combinations_with_replacement, product
from typing import Any

import pytest

from dfsfs.vfs.data.caching import CacheMode
from tests.conftest import LONG
from tests.shell.elsewhere import ELSEWHERE
from tests.shell.meeting import Meeting
from tests.shell.operations import BY_NAME, OPERATIONS, Operation
from tests.shell.runner import check

pytestmark = pytest.mark.logs("had been set aside", "^WARNING dfsfs.vfs: closing")

WHOLE = 100_000 if LONG else 40
"""Orders of a dangerous pair at most."""
SAMPLE = 2
"""Orders of any other pair, taken at random; one more is under one of the other conditions."""
SEED = int(os.environ.get("DFSFS_SEED", "1"))
CONDITIONS: dict[str, dict[str, Any]] = {
    "no leases": {"leases": False},
    "cache=none": {"mode": CacheMode.NONE},
    "open for reading": {"also": ("r:f", "r:v")},
    "answers taken in late": {"gates": True},
}

CHANGES = (
    "append by a:f|write at 5 by w:f|truncate w:f to 2|punch by w:f|allocate 9 by w:f|copy from r:v to w:f|"
    "rename f to n|rename v to f|unlink f|open n new"
)
LOOKS = "stat f|list /|list / in pieces|open f to read|open f to write|close w:f|link f to n|open f over"


def pairs() -> list[tuple[Operation, Operation]]:
    return [pair for pair in combinations_with_replacement(OPERATIONS, 2) if not _needs_what_the_other_closes(*pair)]


def _needs_what_the_other_closes(one: Operation, two: Operation) -> bool:
    """A descriptor that one closes can't be used by the other: which file that is would be chance."""
    return any(a.name.startswith("close") and set(a.needs) & set(b.needs) for a, b in ((one, two), (two, one)))


DANGEROUS = [
    (BY_NAME[one], BY_NAME[two])
    for one, two in product(CHANGES.split("|"), LOOKS.split("|"))
    if not _needs_what_the_other_closes(BY_NAME[one], BY_NAME[two])
]
OTHERS = [pair for pair in pairs() if pair not in DANGEROUS and pair[::-1] not in DANGEROUS]


def _name(pair: tuple[Operation, ...]) -> str:
    return re.sub(r"[^\w]+", "-", " with ".join(operation.name for operation in pair))


@pytest.mark.parametrize("pair", DANGEROUS, ids=_name)
def test_the_most_dangerous_pairs(pair: tuple[Operation, Operation]) -> None:
    check([Meeting(pair)], WHOLE)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: _name((operation,)))
def test_a_sample_of_all_others(operation: Operation) -> None:
    chance = random.Random(SEED)
    others = [pair for pair in OTHERS if pair[0] is operation]
    if LONG:
        check([Meeting(pair) for pair in others], WHOLE)
        return
    check([Meeting(pair) for pair in others], SAMPLE, seed=SEED)
    check([Meeting(pair, **chance.choice(list(CONDITIONS.values()))) for pair in others], 1, seed=SEED)


@pytest.mark.parametrize("other", ELSEWHERE, ids=lambda operation: _name((operation,)))
def test_what_another_client_does(other: Operation) -> None:
    meetings = [Meeting((operation, other), also=("r:f",)) for operation in OPERATIONS]
    check(meetings, WHOLE if LONG else SAMPLE, seed=None if LONG else SEED)


@pytest.mark.skipif(not LONG, reason="takes hours: DFSFS_LONG=1")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: _name((operation,)))
@pytest.mark.parametrize("condition", CONDITIONS)
def test_all_pairs_under_other_conditions(operation: Operation, condition: str) -> None:
    check([Meeting(pair, **CONDITIONS[condition]) for pair in pairs() if pair[0] is operation], 20_000)

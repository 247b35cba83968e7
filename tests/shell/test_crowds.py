"""Crowds of requests in one folder, in orders that Hypothesis chooses and, where it finds a wrong one, makes shorter.

A killed change whose request is with the server is the most dangerous one: it may have its effect at any time.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import CHANCE, LONG
from tests.shell.crowd import NAMES, Crowd, Task
from tests.shell.explorer import deterministic

pytestmark = pytest.mark.logs("had been set aside", "^WARNING dfsfs.vfs: closing")

EXAMPLES = (20_000 if LONG else 200) * CHANCE
PHASES = [phase for phase in Phase if phase is not Phase.explain]
_VERBS = ("lookup", "list", "create", "create new", "mknod", "mkdir", "unlink", "rmdir", "rename", "forget")
_LOOKS = ("lookup", "lookup", "lookup", "list")
_patience = st.none() | st.integers(0, 12)


def tasks(verbs: tuple[str, ...]) -> st.SearchStrategy[Task]:
    return st.builds(
        Task,
        verb=st.sampled_from(verbs),
        name=st.sampled_from(NAMES),
        other=st.sampled_from(NAMES),
        patience=_patience,
        room=st.sampled_from((100, 3)),
        stays_open=st.booleans(),
    )


def play(crowd: Crowd, data: st.DataObject) -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        await crowd.play(clock, lambda count: data.draw(st.integers(0, count - 1)))

    with deterministic():
        trio.run(main, clock=clock, strict_exception_groups=True)
    if crowd.problems:
        raise AssertionError("\n" + crowd.text())


@settings(max_examples=EXAMPLES, deadline=None, derandomize=not LONG, phases=PHASES)
@given(crowd=st.lists(tasks(_VERBS + _LOOKS), min_size=2, max_size=9), page=st.sampled_from((0, 1)), data=st.data())
def test_what_one_kernel_sends(crowd: list[Task], page: int, data: st.DataObject) -> None:
    """Look-ups and listings at the same time as each other, changes one by one: but a request that was cancelled may
    still be under way.
    """
    play(Crowd(crowd, locks=True, page=page), data)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=not LONG, phases=PHASES)
@given(crowd=st.lists(tasks(_VERBS + _LOOKS), min_size=2, max_size=9), page=st.sampled_from((0, 1)), data=st.data())
def test_everything_at_once(crowd: list[Task], page: int, data: st.DataObject) -> None:
    play(Crowd(crowd, locks=False, page=page), data)

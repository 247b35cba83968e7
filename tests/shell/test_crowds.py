"""Crowds of requests in one folder, in orders that Hypothesis chooses and, where it finds a wrong one, makes shorter.

A killed change whose request is with the server is the most dangerous one: it may have its effect at any time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dfsfs.vfs.names import lookuprate, namereader, ordering
from dfsfs.vfs.names.inodetable import ROOT
from tests.conftest import CHANCE, LONG
from tests.shell.crowd import Crowd
from tests.shell.crowdtruth import NAMES, Task
from tests.shell.explorer import deterministic
from tests.shell.scene import Scene
from tests.support.fakes.server.server import Held, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fakes.server.server import Message

pytestmark = pytest.mark.logs("had been set aside", "^WARNING dfsfs.vfs: closing")

EXAMPLES = (20_000 if LONG else 80) * CHANCE
PHASES = [phase for phase in Phase if phase is not Phase.explain]
ROUND_TRIP = 0.05
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


def play(crowd: Crowd, pick: Callable[[int], int]) -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        await crowd.play(clock, pick)

    with deterministic():
        trio.run(main, clock=clock, strict_exception_groups=True)
    if crowd.problems:
        raise AssertionError("\n" + crowd.text())


def drawn(data: st.DataObject) -> Callable[[int], int]:
    """Picks what Hypothesis draws."""
    return lambda count: data.draw(st.integers(0, count - 1))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=not LONG, phases=PHASES)
@given(crowd=st.lists(tasks(_VERBS + _LOOKS), min_size=2, max_size=9), page=st.sampled_from((0, 1)), data=st.data())
def test_what_one_kernel_sends(crowd: list[Task], page: int, data: st.DataObject) -> None:
    """Look-ups and listings at the same time as each other, changes one by one: but a request that was cancelled may
    still be under way.
    """
    play(Crowd(crowd, locks=True, page=page), drawn(data))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=not LONG, phases=PHASES)
@given(crowd=st.lists(tasks(_VERBS + _LOOKS), min_size=2, max_size=9), page=st.sampled_from((0, 1)), data=st.data())
def test_everything_at_once(crowd: list[Task], page: int, data: st.DataObject) -> None:
    play(Crowd(crowd, locks=False, page=page), drawn(data))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=not LONG, phases=PHASES)
@given(crowd=st.lists(tasks(_VERBS + _LOOKS), min_size=2, max_size=9), data=st.data())
def test_a_folder_that_is_read_name_by_name_for_the_sake_of_names(crowd: list[Task], data: st.DataObject) -> None:
    """As a large one is: each look-up of an unknown name begins a listing, or reads one page more, which has one name,
    so that what is known is a part of a listing at any time.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookuprate, "LOOKUPS_MIN", 0)
        patch.setattr(lookuprate, "FAILURES_MAX", 0)
        patch.setattr(namereader, "AT_ONCE", 0)
        patch.setattr(lookuprate, "UNKNOWN_SIZE", 2)
        patch.setattr(ordering, "RECENT_CHANGES", 0)
        play(Crowd(crowd, locks=True, page=1), drawn(data))


KILLED = {
    "unlink": (Task("unlink", "a"), Task("lookup", "a"), Task("lookup", "a")),
    "unlink, and it is made again": (
        Task("unlink", "a"),
        Task("create", "a"),
        Task("lookup", "a"),
        Task("lookup", "a"),
    ),
    "mkdir": (Task("mkdir", "c"), Task("lookup", "c"), Task("mkdir", "c"), Task("lookup", "c")),
    "create": (Task("create new", "c"), Task("lookup", "c"), Task("unlink", "c"), Task("lookup", "c")),
    "rename": (Task("rename", "a", "c"), Task("lookup", "c"), Task("create", "a"), Task("lookup", "a")),
    "rename of a folder": (Task("rename", "b", "c"), Task("lookup", "c"), Task("list", ""), Task("lookup", "b")),
}


@pytest.mark.parametrize("first", KILLED, ids=lambda name: name.replace(" ", "-"))
def test_what_a_killed_program_has_asked_for_is_under_way_until_it_is_answered(first: str) -> None:
    """Its request may be carried out at any time until then: nobody believes what it makes untrue, and what others make
    under the name is not harmed by it.
    """
    killed, *others = KILLED[first]
    for patience in range(2, 9):
        for seed in range(200 if LONG else 5):
            dice = random.Random(seed)
            crowd = Crowd([killed._replace(patience=patience), *others], locks=True)
            play(crowd, lambda count, dice=dice: dice.randrange(count))  # type: ignore[misc]


async def test_eight_names_of_a_folder_are_looked_up_in_the_time_of_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each answer takes ROUND_TRIP seconds, and nothing waits for the answer to something else."""
    server, sent = Server(), []
    server.volume.add_folder("d")
    names = [f"name{number}" for number in range(8)]
    for name in names:
        server.volume.add_file(f"d/{name}")
    async with trio.open_nursery() as nursery:

        async def answer(held: Held) -> None:
            await trio.sleep(ROUND_TRIP)
            server.apply(held)
            for message in [message for message in server.messages if message.request is held]:
                server.let_go(message)

        def event(what: str, about: Held | Message) -> None:
            if isinstance(about, Held) and what == "sent":
                sent.append(about)
                nursery.start_soon(answer, about)

        scene = Scene(nursery, server=server)
        folder = (await scene.fs.lookup(ROOT, b"d")).ino
        server.holds, server.on_event = True, event
        begun = trio.current_time()
        async with trio.open_nursery() as looking:
            for name in names:
                looking.start_soon(scene.fs.lookup, folder, name.encode())
        assert trio.current_time() - begun == pytest.approx(ROUND_TRIP)
        assert len(sent) <= len(names) + 1  # one of them lists the folder, and closes it
        nursery.cancel_scope.cancel()

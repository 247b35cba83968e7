"""OfflineDirectories: the directories on the way to DFS links in use, when their servers are down or hang, are shown as
they were last, and asked for in the background.

A link that was entered is kept here, with the directories above it, while its junction is bound to a living target,
also when the kernel has forgotten it (memory pressure, `mount -o remount`): it answers for itself, and no request to
the namespace server is needed to walk to it. What those directories show is asked for as always; but a request waits
PATIENCE seconds for that at most, and not at all for a server that was slow before, until it has answered.

Names that lead to no such link are still answered by the server only.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from dfsfs.caller import current_caller
from dfsfs.errors import SERVER_FAULTS, DfsfsError
from dfsfs.vfs.names.inodetable import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.vfs.names.inodetable import Inode, InodeTable

T = TypeVar("T")

log = logging.getLogger("dfsfs.vfs")

OFFLINE_SECONDS = 30.0
"""Seconds during which such directories are not asked for again at servers that can't be reached."""
PATIENCE = 0.3
"""Seconds that a server has to say what such a directory is like before it is shown as it was."""
LINKS_MAX = 10_000
"""Links that are kept. Those that were entered first are given up."""
SWEEP_INTERVAL = 30.0
"""Seconds between two looks for links that need not be kept any more."""


@dataclass(slots=True, eq=False)
class _Question:
    """A question under way, for all who want to know."""

    done: trio.Event = field(default_factory=trio.Event)
    answers: list[Any] = field(default_factory=list)
    error: DfsfsError | None = None


class OfflineDirectories:
    """`is_live`: whether a link leads to a living target. `serve` is where the background is."""

    def __init__(self, table: InodeTable, clock: Callable[[], float], is_live: Callable[[Inode], bool]) -> None:
        self._table = table
        self._clock = clock
        self._is_live = is_live
        self._offline_until: dict[object, float] = {}
        self._slow: set[object] = set()
        self._links: dict[Inode, tuple[Inode, ...]] = {}
        """The links, each with the directories on the way to it."""
        self._links_below: dict[Inode, dict[Inode, None]] = {}
        """The directories, each with the links behind it."""
        self._sweep_at = NEVER
        self._questions: dict[tuple[Inode, int], _Question] = {}
        self._nursery: trio.Nursery | None = None

    async def serve(self) -> None:
        """Asks in the background. Runs until it is cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
            self._nursery = None

    # -- links in use -----------------------------------------------------------------------------------------------

    def add_link(self, link: Inode) -> None:
        """Somebody has entered a link."""
        if link in self._links or link.detached:
            return
        if self._clock() >= self._sweep_at:
            self._sweep()
        while len(self._links) >= LINKS_MAX:
            self._drop_link(next(iter(self._links)))
        self._table.hold(link)
        link.expire_attributes()  # what it shows from now on is its target's root, and that was not asked yet
        _, *ways = self._table.iter_ancestors(link)
        self._links[link] = tuple(ways)
        for directory in ways:
            self._links_below.setdefault(directory, {})[link] = None

    def _sweep(self) -> None:
        self._sweep_at = self._clock() + SWEEP_INTERVAL
        for link in [link for link in self._links if link.detached or not self._is_live(link)]:
            self._drop_link(link)

    def _drop_link(self, link: Inode) -> None:
        for directory in self._links.pop(link):
            self._links_below[directory].pop(link)
            if not self._links_below[directory]:
                del self._links_below[directory]
        self._table.release(link)

    def _has_live_link(self, inode: Inode) -> bool:
        """Whether a living link is known below the inode."""
        return any(map(self._is_live, self._links_below.get(inode, ())))

    # -- directories on the way -------------------------------------------------------------------------------------

    def may_show_cached(self, inode: Inode) -> bool:
        """Whether the inode is to be shown as it was last, without asking."""
        place = _get_junction(inode)
        if place is None or inode.stat is None or self._clock() >= self._offline_until.get(place, NEVER):
            return False
        return self._has_live_link(inode)

    def mark_offline(self, inode: Inode, error: DfsfsError) -> bool:
        """Whether the inode is to be shown as it was last, as its server is down and something below it is not."""
        if error.disposition not in SERVER_FAULTS or inode.stat is None or not self._has_live_link(inode):
            return False
        self._offline_until[_get_junction(inode)] = self._clock() + OFFLINE_SECONDS
        return True

    async def ask_briefly(self, inode: Inode | None, ask: Callable[[], Awaitable[T]]) -> list[T]:
        """What `ask` gives; nothing if the inode is on the way to a link in use, and the answer takes too long. Then it
        goes on in the background, and whoever asks does so for all.

        Raises:
            DfsfsError: what `ask` raises in time.
        """
        if self._nursery is None or inode is None or inode.stat is None or not self._has_live_link(inode):
            return [await ask()]
        key, place = (inode, current_caller().uid), _get_junction(inode)
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _Question()
            self._nursery.start_soon(self._ask_in_background, key, question, ask)
        if place not in self._slow:
            with trio.move_on_after(PATIENCE):
                await question.done.wait()
        if not question.done.is_set():
            self._slow.add(place)
            return []
        if question.error is not None:
            raise question.error.with_traceback(None)
        return list(question.answers)

    async def _ask_in_background(
        self, key: tuple[Inode, int], question: _Question, ask: Callable[[], Awaitable[object]]
    ) -> None:
        inode, place = key[0], _get_junction(key[0])
        try:
            question.answers.append(await ask())
            self._slow.discard(place)
        except DfsfsError as error:
            question.error = error
            if not self.mark_offline(inode, error):
                self._slow.discard(place)
        except Exception as error:
            # A mistake of ours in here must cost those who wait for it, and not the whole mount.
            log.exception("asking for %s in the background failed in an unexpected way", inode.name)
            question.error = DfsfsError(f"asking for {inode.name} failed in an unexpected way: {error!r}")
        finally:
            del self._questions[key]
            question.done.set()


def _get_junction(inode: Inode) -> object:
    """What tells whose servers say what an inode is like: the junction that its name is below."""
    place = inode.parent.location if inode.parent is not None else inode.location
    return None if place is None else place.junction

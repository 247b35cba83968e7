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
"""Seconds for which such directories are not asked for again after their server could not be reached."""
PATIENCE = 0.3
"""Seconds that a request waits for the attributes of such a directory before it is shown as it was last."""
LINKS_MAX = 10_000
"""DFS links that are kept. Beyond that, those that were entered first are dropped."""
SWEEP_INTERVAL = 30.0
"""Seconds between two searches for links that are detached, or whose connection is dead."""


@dataclass(slots=True, eq=False)
class _Question:
    """A question under way, and its answer, for all requests that wait for it."""

    done: trio.Event = field(default_factory=trio.Event)
    answers: list[Any] = field(default_factory=list)
    error: DfsfsError | None = None


class OfflineDirectories:
    """See the module's text. `is_live`: whether a DFS link is bound to a living target. Without `serve` nothing is
    asked in the background."""

    def __init__(self, table: InodeTable, clock: Callable[[], float], is_live: Callable[[Inode], bool]) -> None:
        self._table = table
        self._clock = clock
        self._is_live = is_live
        self._offline_until: dict[object, float] = {}
        self._slow: set[object] = set()
        self._links: dict[Inode, tuple[Inode, ...]] = {}
        """The links in use, each with the directories above it."""
        self._links_below: dict[Inode, dict[Inode, None]] = {}
        """Those directories, each with the links in use below it."""
        self._sweep_at = NEVER
        self._questions: dict[tuple[Inode, int], _Question] = {}
        self._nursery: trio.Nursery | None = None

    async def serve(self) -> None:
        """Runs the questions in the background, until it is cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
            self._nursery = None

    # -- links in use -----------------------------------------------------------------------------------------------

    def add_link(self, link: Inode) -> None:
        """A DFS link was entered: keeps it and the directories above it."""
        if link in self._links or link.detached:
            return
        if self._clock() >= self._sweep_at:
            self._sweep()
        while len(self._links) >= LINKS_MAX:
            self._drop_link(next(iter(self._links)))
        self._table.hold(link)
        link.expire_attributes()  # it shows its target's root from now on, whose attributes are not known yet
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
        """Whether a link in use below the inode is bound to a living target."""
        return any(map(self._is_live, self._links_below.get(inode, ())))

    # -- directories on the way -------------------------------------------------------------------------------------

    def may_show_cached(self, inode: Inode) -> bool:
        """Whether the inode is shown as it was last, without asking, as its server was found to be down."""
        place = _get_junction(inode)
        if place is None or inode.stat is None or self._clock() >= self._offline_until.get(place, NEVER):
            return False
        return self._has_live_link(inode)

    def mark_offline(self, inode: Inode, error: DfsfsError) -> bool:
        """Takes an error of a question about the inode. Whether it is shown as it was last, as its server is down and a
        link below it works.
        """
        if error.disposition not in SERVER_FAULTS or inode.stat is None or not self._has_live_link(inode):
            return False
        self._offline_until[_get_junction(inode)] = self._clock() + OFFLINE_SECONDS
        return True

    async def ask_briefly(self, inode: Inode | None, ask: Callable[[], Awaitable[T]]) -> list[T]:
        """Awaits `ask`, for PATIENCE seconds if the inode is on the way to a link in use. A list of its result; an
        empty list if that took too long: it goes on in the background, and further requests wait for the same answer.

        Raises:
            DfsfsError: raised by `ask` in time.
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
            # An unexpected error must end the requests that wait for this answer, and not the whole mount.
            log.exception("asking for %s in the background failed in an unexpected way", inode.name)
            question.error = DfsfsError(f"asking for {inode.name} failed in an unexpected way: {error!r}")
        finally:
            del self._questions[key]
            question.done.set()


def _get_junction(inode: Inode) -> object:
    """The junction that an inode's name is below: its servers are asked for the inode."""
    place = inode.parent.location if inode.parent is not None else inode.location
    return None if place is None else place.junction.for_caller()

"""Waiters: requests that nobody waits for any more are ended.

The kernel lets a program that is killed go before its request is handed out, and after that not until it is answered;
that the program was killed it says with FUSE_INTERRUPT, which pyfuse3 does not pass on. So a program that waits for
a server could not be killed for as long as we try: with `hard`, up to a week. Therefore requests that take longer
are looked at once in PAUSE seconds. Who makes one and is killed, by whatever signal, has it answered at once: the
handler is cancelled, as at its deadline, and nobody sees the EINTR.

Requests about something open do not say who makes them: pyfuse3 keeps that, too. If whoever opened it was killed, they
are taken to be theirs. If not, they may be of somebody who was given a descriptor; so they end if one who has it open
was killed, and no other one waits for anything about it. So one that was killed has to wait for the answer where it
can't be told from one that lives: at the last flush of a descriptor that was handed on, and on a mount that is not
root's, which can't see the descriptors of others. And nothing is ended only because nobody seems to have it open: the
kernel itself may, for a loop device.

Looking for who has something open means to look at all programs. It takes a fiftieth of the time at most.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.fuse.threadstates import Fate, fate_of, fates_of_holders
from dfsfs.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.acting import Caller

PAUSE = 1.0
"""Seconds between two looks; the first one comes after one to two."""
EACH, TOTAL = 1, 16
"""Threads that look: for one user, and for all."""
PATIENCE = 1.0
"""Seconds that a look may take. It takes 0.00005 for each request."""
SHARE = 50
"""Of the time, one part of so many goes into looking for who has something open."""
SEARCH_PATIENCE = 30.0
"""Seconds for that."""
_NOBODY = 0
"""The user whose thread it is."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits for a request. `inode`: what it is about, if `caller` is who opened that, and not necessarily who
    waits.
    """

    caller: Caller
    inode: int | None = None


class HasRequests(Protocol):
    """Handlers, and what they work on."""

    under_way: dict[trio.CancelScope, tuple[str, tuple[object, ...]]]
    """The call and its arguments. Whoever takes a request out and cancels it ends it."""

    def waiter(self, call: str, arguments: tuple[object, ...]) -> Waiter | None:
        """Who waits for a request; None if nobody does, or nobody knows."""


class Waiters:
    """See the module's text. `device`: that of the mount, as MAJOR:MINOR; None if it is not known."""

    def __init__(self, requests: HasRequests, device: str | None) -> None:
        self._requests = requests
        self._device = device
        self._threads = Threads(EACH, TOTAL)
        self._searcher = Threads(1, 1)
        self._known: set[trio.CancelScope] = set()
        """The requests of the last look."""
        self._next_search = 0.0

    async def serve(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await trio.sleep(PAUSE)
            under_way = self._requests.under_way
            old = [scope for scope in under_way if scope in self._known]
            self._known = set(under_way)
            if old:
                await self._look(old)

    async def _look(self, scopes: Iterable[trio.CancelScope]) -> None:
        """Ends those of some requests that nobody waits for."""
        waiting: dict[Waiter, list[trio.CancelScope]] = defaultdict(list)
        for scope in scopes:
            waiter = self._requests.waiter(*self._requests.under_way[scope])
            if waiter is not None:
                waiting[waiter].append(scope)
        fates = await self._fates(waiting)
        unclear: dict[int, list[trio.CancelScope]] = defaultdict(list)
        for waiter, theirs in waiting.items():
            fate = fates.get(waiter.caller, Fate.UNKNOWN)
            if fate is Fate.KILLED:
                self._end(theirs)
            elif waiter.inode is not None and fate in (Fate.GONE, Fate.LIVES):
                unclear[waiter.inode] += theirs
        if unclear and self._device is not None and trio.current_time() >= self._next_search:
            await self._search(unclear, self._device)

    async def _fates(self, waiters: Iterable[Waiter]) -> dict[Caller, Fate]:
        """What has become of callers, of whom those of one user are looked at by one thread."""
        by_user: dict[int, set[Caller]] = defaultdict(set)
        for waiter in waiters:
            by_user[waiter.caller.uid].add(waiter.caller)
        found: dict[Caller, Fate] = {}

        async def look(user: int, callers: set[Caller]) -> None:
            try:
                found.update(await self._threads.run(user, partial(_fates, callers), PATIENCE))
            except trio.TooSlowError:
                pass  # next time

        async with trio.open_nursery() as nursery:
            for user, callers in by_user.items():
                nursery.start_soon(look, user, callers)
        return found

    async def _search(self, unclear: dict[int, list[trio.CancelScope]], device: str) -> None:
        """Looks for who has inodes open, and ends the requests of those that only the dead have."""
        begun = trio.current_time()
        try:
            work = partial(fates_of_holders, unclear.keys(), device)
            for inode, fates in (await self._searcher.run(_NOBODY, work, SEARCH_PATIENCE)).items():
                if Fate.KILLED in fates and not fates & {Fate.WAITS, Fate.UNKNOWN}:
                    self._end(unclear[inode])
        except trio.TooSlowError:
            pass
        now = trio.current_time()
        self._next_search = now + SHARE * (now - begun)

    def _end(self, scopes: Iterable[trio.CancelScope]) -> None:
        for scope in scopes:
            if self._requests.under_way.pop(scope, None) is not None:
                scope.cancel()


def _fates(callers: Iterable[Caller]) -> dict[Caller, Fate]:
    return {caller: fate_of(caller.pid) for caller in callers if caller.pid}

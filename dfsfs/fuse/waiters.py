"""Waiters: cancels requests whose program was killed, with option loop=pyfuse3. Without it, see interrupts.py.

A program that is killed while its request is being handled stays until the request is answered. The kernel says that it
was killed with FUSE_INTERRUPT, which pyfuse3 does not pass on. So a program that waits for a server could not be killed
for as long as the handler tries: with `hard`, up to a week. Therefore the threads behind requests that take longer are
checked every PAUSE seconds. If one was killed, by whatever signal, its handler is cancelled as at its deadline. The
request ends with EINTR, which the program does not live to see.

pyfuse3 does not pass on either which process a request about an open file comes from. If the process that opened the
file was killed, the request is taken to be its own. If not, it may be of a process that was given the descriptor. So
the request is cancelled if a process that has the file open was killed, and no other one that has it open waits in a
system call about it. Where the two can't be distinguished, a killed process has to wait for the answer: at the last
flush of a descriptor that was passed on, and on mounts of users other than root, who can't see other users'
descriptors. That no process has the file open is no reason to cancel: the kernel itself may, for a loop device.

Finding the processes that have a file open means inspecting all of them. At most a fiftieth of the time is spent on it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.fuse.requests import HasRequests
from dfsfs.fuse.threadstates import ThreadState, get_holder_states, get_thread_state
from dfsfs.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.caller import Caller

PAUSE = 1.0
"""Seconds between two checks. A request is checked for the first time when it is one to two PAUSEs old."""
EACH, TOTAL = 1, 16
"""Threads of ours that check the threads of one user, and of all users, at most."""
PATIENCE = 1.0
"""Seconds that the check of one user's threads may take. It takes 0.00005 for each."""
SHARE = 50
"""A search through all processes is followed by a pause that is so many times as long."""
SEARCH_PATIENCE = 30.0
"""Seconds that a search through all processes may take."""
_SEARCH_USER = 0
"""The user that the thread of a search counts for."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """The process that waits for a request. `inode`: what the request is about, if `caller` is the one that opened it,
    and not necessarily the one that waits.
    """

    caller: Caller
    inode: int | None = None


class HasWaiters(HasRequests, Protocol):
    """The handlers of a mount."""

    def waiter(self, call: str, arguments: tuple[object, ...]) -> Waiter | None:
        """The process that waits for a request; None if there is none or it is not known."""


class Waiters:
    """See the module's text. `device`: that of the mount, as MAJOR:MINOR; None if it is not known."""

    def __init__(self, requests: HasWaiters, device: str | None) -> None:
        self._requests = requests
        self._device = device
        self._threads = Threads(EACH, TOTAL)
        self._searcher = Threads(1, 1)
        self._known: set[trio.CancelScope] = set()
        """The requests of the last check."""
        self._next_search = 0.0

    async def serve(self) -> None:
        """Checks requests until it is cancelled."""
        while True:
            await trio.sleep(PAUSE)
            under_way = self._requests.under_way
            old = [scope for scope in under_way if scope in self._known]
            self._known = set(under_way)
            if old:
                await self._check(old)

    async def _check(self, scopes: Iterable[trio.CancelScope]) -> None:
        """Cancels those requests whose process was killed."""
        waiting: dict[Waiter, list[trio.CancelScope]] = defaultdict(list)
        for scope in scopes:
            request = self._requests.under_way[scope]
            waiter = self._requests.waiter(request.call, request.arguments)
            if waiter is not None:
                waiting[waiter].append(scope)
        states = await self._get_states(waiting)
        unclear: dict[int, list[trio.CancelScope]] = defaultdict(list)
        for waiter, scopes_of_waiter in waiting.items():
            state = states.get(waiter.caller, ThreadState.UNKNOWN)
            if state is ThreadState.KILLED:
                self._cancel(scopes_of_waiter)
            elif waiter.inode is not None and state in (ThreadState.GONE, ThreadState.LIVES):
                unclear[waiter.inode] += scopes_of_waiter
        if unclear and self._device is not None and trio.current_time() >= self._next_search:
            await self._search_holders(unclear, self._device)

    async def _get_states(self, waiters: Iterable[Waiter]) -> dict[Caller, ThreadState]:
        """The states of callers. Those of one user are read by one thread; what takes too long is left out."""
        by_user: dict[int, set[Caller]] = defaultdict(set)
        for waiter in waiters:
            by_user[waiter.caller.uid].add(waiter.caller)
        found: dict[Caller, ThreadState] = {}

        async def look(user: int, callers: set[Caller]) -> None:
            try:
                found.update(await self._threads.run(user, partial(_get_thread_states, callers), PATIENCE))
            except trio.TooSlowError:
                pass  # the next check tries again

        async with trio.open_nursery() as nursery:
            for user, callers in by_user.items():
                nursery.start_soon(look, user, callers)
        return found

    async def _search_holders(self, unclear: dict[int, list[trio.CancelScope]], device: str) -> None:
        """Finds the processes that have inodes open, and cancels the requests about those where one was killed and no
        other one may be waiting.
        """
        begun = trio.current_time()
        try:
            work = partial(get_holder_states, unclear.keys(), device)
            for inode, states in (await self._searcher.run(_SEARCH_USER, work, SEARCH_PATIENCE)).items():
                if ThreadState.KILLED in states and not states & {ThreadState.WAITS, ThreadState.UNKNOWN}:
                    self._cancel(unclear[inode])
        except trio.TooSlowError:
            pass
        now = trio.current_time()
        self._next_search = now + SHARE * (now - begun)

    def _cancel(self, scopes: Iterable[trio.CancelScope]) -> None:
        for scope in scopes:
            if self._requests.under_way.pop(scope, None) is not None:  # else it has been answered meanwhile
                scope.cancel()


def _get_thread_states(callers: Iterable[Caller]) -> dict[Caller, ThreadState]:
    return {caller: get_thread_state(caller.pid) for caller in callers if caller.pid}

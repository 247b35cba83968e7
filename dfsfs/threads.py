"""Worker threads for what may block on others: the memory, environment, files and ticket caches of callers. And for
imports of a running mount.

A page of a caller's memory may be one of a file on this mount, which only the event loop can deliver; a ticket cache
may be a pipe, or on a server that is gone. To read such a thing may take as long as its owner likes. So the event loop
touches nothing that belongs to a caller, and each user has few threads: those that are stuck count as that user's until
they end, and the other users' threads are left. The work of a thread that is given up goes on by itself; no task waits
for it, and neither does the end of the mount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakValueDictionary

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def import_in_thread(load: Callable[[], T]) -> T:
    """What `load` returns, which imports modules: in a thread, as the loop serves programs meanwhile."""
    return await trio.to_thread.run_sync(load, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))


class Threads:
    """At most `per_user` threads for a user, and `total` for all of them."""

    def __init__(self, per_user: int, total: int) -> None:
        self._per_user = per_user
        self._total = trio.CapacityLimiter(total)
        self._limiters: WeakValueDictionary[int, _UserLimiter] = WeakValueDictionary()
        """By uid. Each is kept alive by the tasks that use or wait for it, and by the threads that run."""

    def get_limiter(self, uid: int) -> trio.CapacityLimiter:
        """The limiter of a user's threads, for `trio.to_thread.run_sync`, which takes any object with the methods of
        one.
        """
        limiter = self._limiters.get(uid)
        if limiter is None:
            limiter = self._limiters[uid] = _UserLimiter(trio.CapacityLimiter(self._per_user), self._total)
        return cast("trio.CapacityLimiter", limiter)

    async def run(self, uid: int, work: Callable[[], T], timeout: float) -> T:
        """The result of `work` in a thread of the user's; in `timeout` seconds one has to come free, and do it.

        Raises:
            trio.TooSlowError: none came free; or the work is not done, and goes on.
        """
        with trio.fail_after(timeout):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self.get_limiter(uid))

    @property
    def busy(self) -> int:
        """How many threads are taken, stuck ones among them."""
        return self._total.borrowed_tokens

    @property
    def users(self) -> int:
        """How many users have threads, or tasks that wait for one."""
        return len(self._limiters)


class _UserLimiter:
    """The limiter of one user's threads: it takes a token of the user's own limiter and then one of the total. All
    tasks do so in this order, and can't wait for each other.
    """

    def __init__(self, own: trio.CapacityLimiter, total: trio.CapacityLimiter) -> None:
        self._own = own
        self._total = total

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._own.acquire_on_behalf_of(borrower)
        try:
            await self._total.acquire_on_behalf_of(borrower)
        except BaseException:
            self._own.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        self._total.release_on_behalf_of(borrower)
        self._own.release_on_behalf_of(borrower)

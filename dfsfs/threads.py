"""Worker threads for what may wait for somebody else: the memory, environment, files and ticket caches of callers.

A page of a caller's memory may be one of a file on this mount, which only the loop can deliver; a ticket cache may be a
pipe, or on a server that is gone. Whoever looks at such a thing waits for as long as its owner likes. So nothing that
belongs to a caller is touched in the loop, and a user has few threads, whatever he does: those that are stuck are his,
count as his until they come free, and leave the others theirs. The work of a thread that is given up goes on by itself;
nobody waits for it, and the end of the mount does not either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakValueDictionary

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Threads:
    """At most `each` threads for a user, and `total` for all of them."""

    def __init__(self, each: int, total: int) -> None:
        self._each = each
        self._total = trio.CapacityLimiter(total)
        self._shares: WeakValueDictionary[int, _Share] = WeakValueDictionary()
        """Each is kept by who uses or waits for it, and by the thread that runs."""

    def of(self, uid: int) -> trio.CapacityLimiter:
        """The limiter of a user's threads, for `trio.to_thread.run_sync`, which takes whatever acquires and releases
        like one.
        """
        share = self._shares.get(uid)
        if share is None:
            share = self._shares[uid] = _Share(trio.CapacityLimiter(self._each), self._total)
        return cast("trio.CapacityLimiter", share)

    async def run(self, uid: int, work: Callable[[], T], patience: float) -> T:
        """What `work` gives, done in a thread of the user's within `patience` seconds, in which one has to come free.

        Raises:
            trio.TooSlowError: it was not; or it is not done, and goes on.
        """
        with trio.fail_after(patience):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self.of(uid))

    @property
    def busy(self) -> int:
        """How many threads are taken, stuck ones among them."""
        return self._total.borrowed_tokens

    @property
    def users(self) -> int:
        """How many users something is kept of."""
        return len(self._shares)


class _Share:
    """What one user may take of the threads. Acquired in this order by everybody, so nobody waits in a circle."""

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

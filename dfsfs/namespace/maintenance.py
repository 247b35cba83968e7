"""Maintains junctions in the background: new referrals for old ones, and the way back to a preferred target.

A referral's soft time-out (its TTL) costs no operation any time: the first one after it schedules a refresh here, and a
task of the mount asks for a new referral. Only after the hard time-out (four times the TTL) an operation waits for it,
REFRESH_TIMEOUT seconds at most. A namespace that can't be asked is no reason to leave a target that works, so what is
known stays in use; the next try is RETRY_AFTER seconds later, or later than that if no operation comes.

Failback (MS-DFSC 3.1.5.4.3): a junction that is not on a target of its referral's first set, and whose namespace wants
failback, goes back as soon as one of those answers: at a refresh, and every PROBE_INTERVAL seconds. "Answers" is a tree
connect and a stat of the directory. A server that comes and goes does not drag the junction along, because it stays
where it is for MIN_STAY seconds at least, and the mounts of a company don't come back all in the same second, because
of JITTER. Handles that are open stay on their target.

A junction whose target fails is not moved here, but by the operation that finds that out: see failover.py.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import trio

from dfsfs.background import contain, keep_going
from dfsfs.caller import override_caller
from dfsfs.errors import DfsfsError, Disposition
from dfsfs.namespace.targets import failback_targets_for, targets_for
from dfsfs.telemetry import FailedBack, MovedOnRequest, Refreshed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.binding import Binder
    from dfsfs.namespace.junction import Junction, TargetBinding
    from dfsfs.namespace.linkresolver import PathResolver
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Telemetry
    from dfsfs.unc import UncPath

REFRESH_TIMEOUT = 5.0
"""Seconds that a refresh of a referral may take; an operation waits for it if the referral is too old to be used."""
RETRY_AFTER = 30.0
"""Seconds from a refresh that failed until the referral is due again."""
PROBE_INTERVAL = 15.0
"""Seconds between two probes of the preferred targets of junctions that are on other ones, before JITTER."""
PROBE_TIMEOUT = 8.0
"""Seconds that one target has to answer a probe."""
MIN_STAY = 30.0
"""Seconds that a junction stays on a target before it fails back."""
JITTER = 0.25
"""By what part of it PROBE_INTERVAL is made longer or shorter at random."""
MAX_CONCURRENT = 8
"""How many junctions are refreshed or probed at the same time."""


class Maintenance:
    """See the module's text. One per mount. `min_stay` in seconds."""

    def __init__(
        self,
        pool: TreeProvider,
        resolver: PathResolver,
        binder: Binder,
        *,
        clock: Callable[[], float],
        telemetry: Telemetry,
        min_stay: float = MIN_STAY,
    ) -> None:
        self._pool = pool
        self._resolver = resolver
        self._binder = binder
        self._clock = clock
        self._telemetry = telemetry
        self._min_stay = min_stay
        self._due: dict[Junction, None] = {}
        self._failback_candidates: WeakKeyDictionary[Junction, None] = WeakKeyDictionary()
        self._wake = trio.Event()
        self.refreshes = 0
        """How many refreshes have brought a new referral."""

    def schedule_refresh(self, junction: Junction) -> None:
        """An operation uses the junction, whose referral is past its soft time-out: refreshes it in the background."""
        junction.refresh_at = self._clock() + RETRY_AFTER
        self._due[junction] = None
        self._wake.set()

    def check_failback(self, junction: Junction) -> None:
        """Notes whether the junction should be on another target than it is, after either may have changed."""
        if self._get_failback_targets(junction):
            self._failback_candidates[junction] = None
            self._wake.set()
        else:
            self._failback_candidates.pop(junction, None)

    def forget(self, junction: Junction) -> None:
        """Gives up what is noted of a junction that is not used any more."""
        self._due.pop(junction, None)
        self._failback_candidates.pop(junction, None)

    # -- the tasks ----------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Refreshes and fails back the junctions that need it, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, "referrals", self._refresh_loop)
            nursery.start_soon(keep_going, "failback", self._failback_loop)

    async def _refresh_loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self.refresh_due()

    async def _failback_loop(self) -> None:
        while True:
            await trio.sleep(PROBE_INTERVAL * random.uniform(1 - JITTER, 1 + JITTER))
            await self.fail_back_all()

    async def refresh_due(self) -> None:
        """Refreshes the junctions for which that is scheduled."""
        due, self._due = list(self._due), {}
        await _for_each(due, self._refresh_in_background)

    async def fail_back_all(self) -> None:
        """Goes back to preferred targets where that is possible now."""
        await _for_each(list(self._failback_candidates), self.fail_back)

    # -- refresh ------------------------------------------------------------------------------------------------------

    async def _refresh_in_background(self, junction: Junction) -> None:
        """`refresh`, without the error for a link that is gone: the next operation will find that out."""
        try:
            await self.refresh(junction)
        except DfsfsError as error:
            self._telemetry.publish(Refreshed(junction.prefix, str(error)))

    async def refresh(self, junction: Junction) -> None:
        """Asks again for a referral whose time is up (MS-DFSC 3.1.1 leaves the use of an old one to the client).

        Raises:
            DfsfsError: the namespace says that there is no such link any more. A namespace that can't be reached, or
                whose answer can't be trusted, is no failure: what is known stays in use.
        """
        claimed_at = self._clock()
        junction.refresh_at = claimed_at + RETRY_AFTER
        try:
            with trio.move_on_after(REFRESH_TIMEOUT) as scope:
                resolution = await self._resolver.resolve(junction.prefix, not_covered=False, fresh=True)
            if scope.cancelled_caught:
                self._keep_old_referral(junction)
                self._telemetry.publish(Refreshed(junction.prefix, f"no answer within {REFRESH_TIMEOUT:g} s"))
                return
        except trio.Cancelled:
            junction.refresh_at = claimed_at
            raise
        except DfsfsError as error:
            if error.disposition is not Disposition.RETURN:
                self._keep_old_referral(junction)
                self._telemetry.publish(Refreshed(junction.prefix, str(error)))
                return
            await self._binder.drop_referral(junction)
            raise
        self.refreshes += 1
        self._telemetry.publish(Refreshed(junction.prefix))
        await self._binder.renew(junction, resolution)
        self.check_failback(junction)
        if junction in self._failback_candidates:
            await self.fail_back(junction)

    def _keep_old_referral(self, junction: Junction) -> None:
        """No server of the namespace could be asked: operations that come before the next try don't wait for that to be
        found out again.
        """
        junction.hard_expires_at = max(junction.hard_expires_at, self._clock() + 2 * RETRY_AFTER)

    # -- failback -----------------------------------------------------------------------------------------------------

    def _get_failback_targets(self, junction: Junction) -> list[UncPath]:
        """The targets to go back to; none if the junction is on one of them, or should not go back."""
        resolution, binding = junction.resolution, junction.binding
        if resolution is None or binding is None:
            return []
        targets, preferred = targets_for(junction, resolution), failback_targets_for(junction, resolution)
        preferred = self._binder.overrides.failback_targets(junction.prefix, targets, preferred)
        return [] if binding.target in preferred else preferred

    async def fail_back(self, junction: Junction) -> None:
        """Binds the junction to the first of its preferred targets that answers, if it was long enough elsewhere."""
        binding = junction.binding
        candidates = self._get_failback_targets(junction)
        if not candidates or binding is None:
            self._failback_candidates.pop(junction, None)
            return
        if self._clock() < junction.bound_at + self._min_stay:
            return
        for target in candidates:
            tree = await self._probe(target)
            if tree is not None:
                await self._rebind(junction, binding, target, tree, FailedBack)
                return

    async def _probe(self, target: UncPath) -> Tree | None:
        """A tree connect to the target if it is there and its directory can be stat'ed."""
        try:
            with trio.move_on_after(PROBE_TIMEOUT):
                tree = await self._pool.connect_tree(target.share)
                await tree.stat(target)
                return tree
        except DfsfsError:
            pass
        return None

    async def move(self, junction: Junction, target: UncPath) -> bool:
        """Binds the junction to one of its targets now, as the administrator wants it.

        Returns whether the target answered; if not, the junction stays where it is.
        """
        binding = junction.binding
        if binding is None or binding.target == target:
            return True
        tree = await self._probe(target)
        if tree is not None:
            await self._rebind(junction, binding, target, tree, MovedOnRequest)
        return tree is not None

    async def _rebind(
        self,
        junction: Junction,
        old: TargetBinding,
        target: UncPath,
        tree: Tree,
        kind: type[FailedBack] | type[MovedOnRequest],
    ) -> None:
        if await self._binder.replace(junction, old, target, tree):
            self._failback_candidates.pop(junction, None)
            self._telemetry.publish(kind(junction.prefix, old.target, target))


async def _for_each(junctions: list[Junction], work: Callable[[Junction], Awaitable[None]]) -> None:
    """Awaits `work` for all of them, MAX_CONCURRENT at a time, each for its owner. An unexpected error in one does not
    end the others.
    """
    limit = trio.CapacityLimiter(MAX_CONCURRENT)

    async def work_on(junction: Junction) -> None:
        async with limit:
            with override_caller(junction.owner._replace(is_background=True)):
                await contain("upkeep of a link", partial(work, junction))

    async with trio.open_nursery() as nursery:
        for junction in junctions:
            nursery.start_soon(work_on, junction)

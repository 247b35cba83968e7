"""What happens to junctions behind the backs of their users: new referrals, and the way back to a preferred target.

A referral's soft time-out (its TTL) costs no operation any time: whoever notices it says so here, and the task of the
mount asks for a new one. Only after the hard time-out (four times the TTL) an operation waits for it, `REFRESH_TIMEOUT`
seconds at most. A namespace that can't be asked is no reason to leave a target that works, so what is known stays in
use; the next try is RETRY_AFTER seconds later.

Failback (MS-DFSC 3.1.5.4.3): a junction that is not on a target of its referral's first set, and whose namespace wants
failback, goes back as soon as one of those answers: at a refresh, and every PROBE_INTERVAL seconds. "Answers" is a tree
connect and a look at the folder; a server that comes and goes does not drag the junction along, because it stays where
it is for HOLD seconds at least, and the mounts of a company don't come back all in the same second, because of JITTER.
Handles that are open stay on their target.

What this does not do: it moves nothing that fails. That is failover.py's.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import trio

from dfsfs.background import contain, keep_going
from dfsfs.caller import override_caller
from dfsfs.errors import DfsfsError, Disposition
from dfsfs.namespace.targets import entry_for, failback_targets_for, targets_for
from dfsfs.telemetry import FailedBack, MovedOnRequest, Refreshed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.junction import Junction, TargetBinding
    from dfsfs.namespace.overrides import TargetOverrides
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Telemetry
    from dfsfs.unc import UncPath

REFRESH_TIMEOUT = 5.0
"""Seconds that an operation waits for the refresh of a referral while its target is alive."""
RETRY_AFTER = 30.0
"""Seconds until the next try after a refresh that could not be done."""
PROBE_INTERVAL = 15.0
"""Seconds between two looks at the first target set of junctions that are not on it."""
PROBE_TIMEOUT = 8.0
"""Seconds for one such look."""
MIN_STAY = 30.0
"""Seconds that a junction stays on a target before it fails back."""
JITTER = 0.25
"""By what part of it a pause is made longer or shorter at random."""
MAX_CONCURRENT = 8
"""Junctions that are refreshed or probed at the same time."""


class PathResolver(Protocol):
    """What those who look after junctions need of the resolution of paths."""

    async def resolve(self, path: UncPath, *, uncovered: bool = False, fresh: bool = False) -> Resolution: ...

    def set_hint(self, resolution: Resolution, target: UncPath) -> None:
        """Takes note that `target`, one of `resolution`, was used with success."""
        ...


class Maintenance:
    """The upkeep of one mount's junctions."""

    def __init__(
        self,
        pool: TreeProvider,
        resolver: PathResolver,
        overrides: TargetOverrides,
        *,
        clock: Callable[[], float],
        telemetry: Telemetry,
        min_stay: float = MIN_STAY,
    ) -> None:
        self._pool = pool
        self._resolver = resolver
        self._choices = overrides
        self._clock = clock
        self._telemetry = telemetry
        self._hold = min_stay
        self._due: dict[Junction, None] = {}
        self._failback_candidates: WeakKeyDictionary[Junction, None] = WeakKeyDictionary()
        self._wake = trio.Event()
        self.refreshes = 0

    # -- what the users of junctions say --------------------------------------------------------------------------

    def schedule_refresh(self, junction: Junction) -> None:
        """The junction's referral is past its soft time-out, and it is in use."""
        junction.refresh_at = self._clock() + RETRY_AFTER
        self._due[junction] = None
        self._wake.set()

    def forget(self, junction: Junction) -> None:
        """Nobody uses the junction any more."""
        self._due.pop(junction, None)
        self._failback_candidates.pop(junction, None)

    def bound(self, junction: Junction) -> None:
        """The junction has a new target: looks whether it should be on another one some time."""
        if self._preferred(junction):
            self._failback_candidates[junction] = None
            self._wake.set()
        else:
            self._failback_candidates.pop(junction, None)

    # -- the tasks ------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Refreshes and fails back what needs it, until cancelled."""
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
        """Refreshes the junctions that asked for it."""
        due, self._due = list(self._due), {}
        await _for_each(due, self._refresh_in_background)

    async def fail_back_all(self) -> None:
        """Goes back to preferred targets where that is possible now."""
        await _for_each(list(self._failback_candidates), self.fail_back)

    # -- refresh --------------------------------------------------------------------------------------------------

    async def _refresh_in_background(self, junction: Junction) -> None:
        """In the background nobody wants to hear that the link is gone: the next operation finds that out."""
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
                resolution = await self._resolver.resolve(junction.prefix, uncovered=False, fresh=True)
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
            async with junction.lock:
                junction.release()
            raise
        self.refreshes += 1
        self._telemetry.publish(Refreshed(junction.prefix))
        async with junction.lock:
            junction.adopt(resolution, self._clock())
            if junction.binding is not None and junction.binding.target not in targets_for(junction, resolution):
                junction.binding = None
        self.bound(junction)
        if junction in self._failback_candidates:
            await self.fail_back(junction)

    def _keep_old_referral(self, junction: Junction) -> None:
        """Nobody could be asked. Whoever uses the junction before the next try need not wait for that to be found out
        again.
        """
        junction.hard_expires_at = max(junction.hard_expires_at, self._clock() + 2 * RETRY_AFTER)

    # -- failback -------------------------------------------------------------------------------------------------

    def _preferred(self, junction: Junction) -> list[UncPath]:
        """The targets to go back to; none if the junction is on one of them, or should not go back."""
        resolution, binding = junction.resolution, junction.binding
        if resolution is None or binding is None:
            return []
        targets, preferred = targets_for(junction, resolution), failback_targets_for(junction, resolution)
        preferred = self._choices.preferred(junction.prefix, targets, preferred)
        return [] if binding.target in preferred else preferred

    async def fail_back(self, junction: Junction) -> None:
        """Binds the junction to the first of its preferred targets that answers, if it was long enough elsewhere."""
        binding = junction.binding
        candidates = self._preferred(junction)
        if not candidates or binding is None:
            self._failback_candidates.pop(junction, None)
            return
        if self._clock() < junction.bound_at + self._hold:
            return
        for target in candidates:
            tree = await self._probe(target)
            if tree is not None:
                await self._rebind(junction, binding, target, tree, FailedBack)
                return

    async def _probe(self, target: UncPath) -> Tree | None:
        """A tree connect to the target if it is there and shows its folder."""
        try:
            with trio.move_on_after(PROBE_TIMEOUT):
                tree = await self._pool.connect_tree(target.share)
                await tree.stat(target)
                return tree
        except DfsfsError:
            pass
        return None

    async def move(self, junction: Junction, target: UncPath) -> bool:
        """Binds the junction to one of its targets now, because the administrator says so.

        Returns whether it answered; if not, the junction stays where it is.
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
        async with junction.lock:
            if junction.binding is not old or junction.resolution is None:
                return
            junction.bind(target, tree, self._clock())
            entry = entry_for(junction, junction.resolution, target)
            if entry is not None:
                self._resolver.set_hint(junction.resolution, entry)
        self._failback_candidates.pop(junction, None)
        self._telemetry.publish(kind(junction.prefix, old.target, target))


async def _for_each(junctions: list[Junction], work: Callable[[Junction], Awaitable[None]]) -> None:
    """Awaits `work` for all of them, a few at a time. What is wrong with one is nothing to the others."""
    limit = trio.CapacityLimiter(MAX_CONCURRENT)

    async def one(junction: Junction) -> None:
        async with limit:
            with override_caller(junction.owner._replace(is_background=True)):
                await contain("upkeep of a link", partial(work, junction))

    async with trio.open_nursery() as nursery:
        for junction in junctions:
            nursery.start_soon(one, junction)

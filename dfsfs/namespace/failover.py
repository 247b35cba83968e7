"""Runs operations on junctions' targets, and runs them again when a target fails.

`run` passes the operation an Attempt on the junction's target. If it raises, the error's `disposition` says what comes
next, within a budget of time (MS-DFSC 3.1.4.1 step 8, 3.1.5.1, 3.1.5.2):

    RETURN, FATAL   the caller gets it
    RETRY           a pause, then the same again, RETRY_LIMIT times
    RECONNECT       the same target once more on a fresh tree connect; the second time like NEXT_TARGET
    NEXT_TARGET     this target is given up for this run; the next one in the referral's order; after the last the error
    REFER           a referral for the path: the junction itself leads deeper, or a link below it begins
                    (PathNotCovered)

Everything in dfsfs that is tried again for the sake of a server, and everything that moves a junction:

    an operation on a junction        `Failover.run`, as above; with `hard` until its time is up. It alone chooses
                                      another target for an operation
    a question that changes nothing   besides, to other root targets while the first is silent: hedging.py
    a tree connect                    once more at once if the connection in use turns out to be dead: connecting.py
    a referral request                the same, and on to the next server of several: referrals.py, referralclient.py
    a referral that is due            every 30 s in the background, once in the foreground: maintenance.py
    the binding of a junction         replaced by binding.py only, for `run` (ensure_bound, bind_deeper) or for
                                      maintenance.py (failback, `dfsfs target set`, drains, a new referral)

Below the Tree a request may be sent twice for one attempt, when its session had expired (smb/connection). Above `run`
the file system opens a file again on another target, or looks a name up again (vfs): these are operations of their own.

Scenarios, step by step. T1 and T2 are tasks, A and B the targets of junction J, in this order.

1. A dies between two reads. T1 and T2 have sent a read on A; both get ConnectionLost. T1 takes J.lock and asks the
   pool for a tree on A; T2 waits for the lock. A refuses the connection, so T1 asks for B, gets it, and puts the new
   binding in place: generation + 1. T1 releases the lock and repeats its read on B with `is_replay` set. T2 gets the
   lock, sees a binding that is not the one that failed it, sends nothing, and repeats its read on B as well. A third
   task that comes in the meantime sees a binding whose tree is dead, so it waits for the lock instead of sending a
   request into it.
2. All targets are dead and fifty tasks come. One takes the lock and spends the connect timeout on A and B at once. The
   error stays in J.failure. The forty-nine get the lock one after the other, within the same instant, find J.failure
   still fresh and raise it. So do all tasks that come in the next FAILURE_MEMORY seconds; the first one after that
   tries again. The note says which targets were skipped: a task for which more is left to try doesn't believe it.
3. J leads to a dead server, K to a live one. They have two locks, and a task holds one at most while it waits for a
   server. A task at K never waits for J.
4. The server answers PATH_NOT_COVERED for something below J, although J's target came from a link referral: the target
   is in a namespace of its own (Samba marks no link as an interlink). The path is resolved without the lock, from what
   is known first; only if that refers back to the target that has just refused does the resolver hear that it is not
   deep enough. If the answer stands for no more than J's own prefix, J is bound to the deeper targets; the task that
   comes second sees that J has moved and only repeats. If it stands for more, a link begins below J: PathNotCovered
   goes up, and J stays as it is. More than `max_hops` such answers, or moves in one run, are a loop.
5. A task is cancelled while it binds. The lock is released by `async with`. A tree that was just got stays in the
   pool. J still has the old binding or already the new one, never half of it, as it is replaced in one step without an
   await. The next waiter gets the lock, finds neither a fit binding nor a failure, and binds by itself.
6. The referral's time is up. The first task to notice schedules a refresh and goes on with what there is. Only when
   the referral is far too old the task asks for a new one itself and waits, a few seconds at most, while the others go
   on. If the new answer still has J's target, nothing moves. If not, the binding is given up and the next step is a
   bind. If the link is gone, J is unbound, and the next operation is told.
7. A hangs: it takes connections and says nothing. T1's request is given up when A was silent for too long. J has
   another target, B, so that comes next; a new connection to A would only hang as well. If A is J's only target, it is
   tried once more: a firewall that has forgotten a connection looks the same, and then a new one works.

This module does not know what an operation is. Whether a repeated one may be carried out again, and whether a handle
may move to another target, is for the operation to decide from `Attempt.is_replay` and `binding.generation`.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.errors import ConnectError, ConnectionLost, DfsfsError, Disposition, NamespaceLoop, PosixError
from dfsfs.namespace.binding import Binder, TargetSearch
from dfsfs.namespace.hedging import Hedge
from dfsfs.namespace.junction import Attempt, Junction, Location, PathNotCovered, TargetBinding
from dfsfs.namespace.linkresolver import LinkResolver
from dfsfs.namespace.maintenance import Maintenance
from dfsfs.namespace.reachability import Reachability
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import NotCovered
from dfsfs.unc import UncError, UncPath

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from typing import Any

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.linkresolver import PathResolver
    from dfsfs.namespace.overrides import TargetOverrides
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Telemetry

T = TypeVar("T")

RETRY_LIMIT = 5
"""How often a request is sent again at most that a server answers with STATUS_RETRY."""
RETRY_PAUSE = 0.1
"""Seconds before the first repetition of such a request; doubled each time (3.1 s for all five)."""
HARD_PAUSE = 2.0
"""Seconds between two tries to reach servers that are all down, of operations that wait for them (option `hard`)."""


@dataclass(frozen=True, slots=True)
class FailoverStatistics:
    """Counts since the mount."""

    binds: int
    failed_binds: int
    failovers: int
    reconnects: int
    refreshes: int
    refused_at_once: int
    """Operations that were answered from the memory of a failed bind."""


@dataclass(slots=True)
class _Run(TargetSearch):
    """One run of an operation, from its first failure on."""

    remaining: float = field(kw_only=True)
    """Seconds left for everything except the first attempt."""
    reconnected: set[UncPath] = field(default_factory=set)
    """Targets that have had their second chance."""
    is_replay: bool = False
    """Whether an attempt was sent and then lost."""
    retries: int = 0
    """How many answers of STATUS_RETRY there were."""


class Failover:
    """Runs operations on junctions. One per mount."""

    def __init__(
        self,
        pool: TreeProvider,
        resolver: PathResolver,
        *,
        max_hops: int,
        follow_links: bool,
        timeout: float,
        retries: int = RETRY_LIMIT,
        clock: Callable[[], float],
        telemetry: Telemetry,
        reachability: Reachability | None = None,
    ) -> None:
        """`max_hops`: how many other namespaces a path may lead through. `follow_links` False: PATH_NOT_COVERED is an
        answer like any other. `timeout` in seconds, for everything but an operation's first attempt.
        """
        self._follow_links = follow_links
        self._timeout = timeout
        self._retries = retries
        self.is_hard = False
        """Operations wait for as long as their time allows when no target answers: the option `hard`."""
        self._clock = clock
        self._telemetry = telemetry
        reachability = reachability or Reachability(clock)
        self._links = LinkResolver(resolver, max_hops)
        self._binder = Binder(pool, resolver, self._links, clock=clock, telemetry=telemetry, reachability=reachability)
        self._hedge = Hedge(self._binder.order, self._binder.connector, reachability, self._links)
        self.maintenance = Maintenance(pool, resolver, self._binder, clock=clock, telemetry=telemetry)
        self._binder.on_bound = self.maintenance.check_failback

    @property
    def overrides(self) -> TargetOverrides:
        """What the administrator has decided about targets since the mount."""
        return self._binder.overrides

    def statistics(self) -> FailoverStatistics:
        counts = self._binder.counts
        return FailoverStatistics(
            binds=counts.binds,
            failed_binds=counts.failed_binds,
            failovers=counts.failovers,
            reconnects=counts.reconnects,
            refreshes=self.maintenance.refreshes,
            refused_at_once=counts.refused_at_once,
        )

    async def resolve_link(self, prefix: UncPath) -> Resolution:
        """Where the link at `prefix` leads. Raises DfsfsError."""
        return await self._links.resolve_link(prefix)

    def run(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Awaits `operation` with an attempt on the location's target, as often as its failures call for another one.

        All waiting between attempts, and every attempt after a failed one, takes `timeout` seconds at most; the first
        attempt is bounded by the operation's own requests.

        Raises:
            PathNotCovered: the path leads through a DFS link below the junction.
            DfsfsError: the operation's last failure, or why there is no target to run it on.
        """
        return self._run_on(location.junction.for_caller(), location, operation)

    async def run_hedged(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """`run` for an operation that changes and opens nothing: see hedging.py."""
        junction = location.junction.for_caller()
        return await self._hedge.run(junction, location, operation, lambda: self._run_on(junction, location, operation))

    async def _run_on(self, junction: Junction, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """`run`, with the caller's junction: the first attempt, if there is a binding that may be used as it is."""
        binding = junction.binding
        if location.snapshot_time is not None:
            operation = _checking_snapshot(operation)
        if binding is None or not binding.tree.alive or self._clock() >= junction.refresh_at:
            return await self._run_slowly(junction, location, operation, None)
        attempt = Attempt(binding, _path_on(binding.target, location.components), False, location.snapshot_time)
        try:
            result = await operation(attempt)
        except DfsfsError as error:
            if error.disposition is Disposition.RETURN:
                raise
            failed = attempt, error
        else:
            if junction.confirmed_binding is not binding:
                self._binder.confirm(junction, binding)
            return result
        return await self._run_slowly(junction, location, operation, failed)

    async def _run_slowly(
        self,
        junction: Junction,
        location: Location,
        operation: Callable[[Attempt], Awaitable[T]],
        failed: tuple[Attempt, DfsfsError] | None,
    ) -> T:
        """Everything but the fast path. `failed`: the attempt made there and its error, if it was made."""
        run = _Run(remaining=self._timeout)
        while True:
            try:
                with self._bounded(run, junction):
                    if failed is not None:
                        await self._handle_failure(run, junction, location, *failed)
                    binding = await self._get_binding(junction, run)
            except (ConnectError, ConnectionLost):
                if not self.is_hard or run.remaining <= HARD_PAUSE:
                    raise
                await trio.sleep(HARD_PAUSE)
                run = _Run(remaining=run.remaining - HARD_PAUSE, is_replay=run.is_replay)
                failed = None
                continue
            path = _path_on(binding.target, location.components)
            attempt = Attempt(binding, path, run.is_replay, location.snapshot_time)
            try:
                if failed is None:
                    result = await operation(attempt)
                else:
                    with self._bounded(run, junction):
                        result = await operation(attempt)
            except DfsfsError as error:
                failed = attempt, error
                continue
            if junction.confirmed_binding is not binding:
                self._binder.confirm(junction, binding)
            return result

    @contextmanager
    def _bounded(self, run: _Run, junction: Junction) -> Iterator[None]:
        """Takes the time of its body off the run's budget, and ends the run when that is used up."""
        started = trio.current_time()
        try:
            with trio.move_on_after(max(0.0, run.remaining)) as scope:
                yield
        finally:
            run.remaining -= trio.current_time() - started
        if scope.cancelled_caught:
            if run.error is not None:
                raise run.error
            text = f"no target of {junction.prefix} answered within {self._timeout:g} s"
            raise ConnectError(junction.prefix.host, NtStatus.IO_TIMEOUT, text)

    async def _handle_failure(
        self, run: _Run, junction: Junction, location: Location, attempt: Attempt, error: DfsfsError
    ) -> None:
        """Does what the failure's disposition calls for before the next attempt. Raises if there is to be none."""
        run.error = error
        target = attempt.binding.target
        if isinstance(error, ConnectionLost):
            run.is_replay = True
        match error.disposition:
            case Disposition.RETRY if run.retries < self._retries:
                await trio.sleep(RETRY_PAUSE * 2**run.retries)
                run.retries += 1
            case Disposition.RECONNECT:
                run.stale = attempt.binding
                if target in run.reconnected:
                    run.tried.add(target)
                elif error.status == NtStatus.IO_TIMEOUT:
                    self._binder.order.mark_unreachable(target, error)  # it hangs: the others first
                run.reconnected.add(target)
            case Disposition.NEXT_TARGET if _is_about_a_file(location, error):
                raise error
            case Disposition.NEXT_TARGET:
                run.stale = attempt.binding
                run.tried.add(target)
            case Disposition.REFER if self._follow_links:
                try:
                    await self._follow_referral(run, junction, location, attempt)
                except NamespaceLoop:
                    if location.is_junction_root:
                        junction.mark_loop()
                    raise
            case _:
                raise error

    async def _follow_referral(self, run: _Run, junction: Junction, location: Location, attempt: Attempt) -> None:
        """Follows a PATH_NOT_COVERED (MS-DFSC 3.1.5.1).

        Raises:
            PathNotCovered: it comes from a link below the junction.
            NamespaceLoop: the path was referred on too often.
        """
        if not run.count_hop(self._links.max_hops):
            raise self._links.make_loop_error(location.unc)
        if junction.binding is not attempt.binding:
            return
        self._telemetry.publish(NotCovered(location.unc, attempt.binding.target))
        resolution = await self._links.resolve_below(junction, location.unc, attempt.binding.target)
        if not resolution.path_consumed.is_prefix_of(junction.prefix):
            raise PathNotCovered(resolution.path_consumed)
        await self._binder.bind_deeper(junction, attempt.binding, resolution)

    async def _get_binding(self, junction: Junction, run: _Run) -> TargetBinding:
        """The junction's binding if it is fit for this run, or else a new one; the referral is refreshed if it is due.

        Raises:
            DfsfsError: the link is gone, or no target that is left can be connected.
        """
        if self._clock() >= junction.refresh_at:
            if run.get_fit_binding(junction) is None or self._clock() >= junction.hard_expires_at:
                await self.maintenance.refresh(junction)
            else:
                self.maintenance.schedule_refresh(junction)
        return run.get_fit_binding(junction) or await self._binder.ensure_bound(junction, run)


def _is_about_a_file(location: Location, error: DfsfsError) -> bool:
    """Whether a failure that is the target's on the target itself (MS-DFSC section 6) is of something below it: users
    who may write there can make a reparse point with a tag that no server follows.
    """
    return error.status == NtStatus.IO_REPARSE_TAG_NOT_HANDLED and bool(location.components)


def _path_on(target: UncPath, components: tuple[str, ...]) -> UncPath:
    """The path on a target of what lies below a junction. Raises PosixError (EINVAL) if it is none."""
    try:
        return target.join(components)
    except UncError as error:
        raise PosixError(errno.EINVAL, str(error)) from None


def _checking_snapshot(operation: Callable[[Attempt], Awaitable[T]]) -> Callable[[Attempt], Awaitable[T]]:
    """The same operation, after the server was asked whether the share has the snapshot."""

    async def checked(attempt: Attempt) -> T:
        await attempt.tree.snapshots.check()
        return await operation(attempt)

    return checked

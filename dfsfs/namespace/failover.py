"""The one way to a server: an operation runs on a junction's current target, and what happens when that fails.

`run` hands the operation an Attempt, looks at the `disposition` of what it raises, acts on it and tries again within a
budget (MS-DFSC 3.1.4.1 step 8, 3.1.5.1, 3.1.5.2). Nothing else in dfsfs retries, reconnects or changes a target.

How one run goes on after a failure:

    RETURN, FATAL   the caller gets it
    RETRY           a pause, then the same again, RETRY_LIMIT times
    RECONNECT       the same target once more on a fresh tree connect; the second time like NEXT_TARGET
    NEXT_TARGET     this target is given up for this run; the next one in the referral's order; after the last the error
    REFER           a referral for the path: the junction itself leads deeper, or a link below it begins (Covered)

Scenarios, step by step. T1 and T2 are tasks, A and B the targets of junction J, in this order.

1. A dies between two reads. T1 and T2 have sent a read on A; both get ConnectionLost. T1 takes J.lock and asks the
   pool for a tree on A; T2 waits for the lock. A refuses the connection, so T1 asks for B, gets it, and puts the new
   binding in place: generation + 1. T1 releases the lock and repeats its read on B with `repeated` set. T2 gets the
   lock, sees a binding that is not the one that failed it, asks nobody anything, and repeats its read on B as well. A
   third task that comes in the meantime sees a binding whose tree is dead, so it waits for the lock instead of sending
   a request into it.
2. All targets are dead and fifty tasks come. One takes the lock and spends the connect timeout on A and B at once. What
   that came to stays in J.failure. The forty-nine get the lock one after the other, within the same instant, find
   J.failure still fresh and raise it. So does everybody who comes in the next FAILURE_MEMORY seconds; the first one
   after that tries again. The note says which targets were skipped: a task for which more is left to try doesn't
   believe it.
3. J leads to a dead server, K to a live one. They have two locks, and a task holds one at most while it waits for a
   server. A task at K never waits for J.
4. The server answers PATH_NOT_COVERED for something below J, although J's target came from a link referral: the target
   is in a namespace of its own (Samba marks no link as an interlink). The path is resolved without the lock, from what
   is known first; only if that leads back to the target that has just refused does the resolver hear that it is not
   deep enough. If the answer covers no more than J's own prefix, J is bound to the deeper targets; the task that comes
   second sees that J has moved and only repeats. If the answer covers more, a link begins below J: Covered goes up,
   and J stays as it is. More than `max_hops` answers that lead back, or moves in one run, are a loop.
5. A task is cancelled while it binds. The lock is released by `async with`. A tree that was just got stays in the
   pool. J still has the old binding or already the new one, never half of it, as the swap is one step without an
   await. The next waiter gets the lock, finds neither a fit binding nor a failure, and binds by itself.
6. The referral's time is up. The first task to notice says so to the upkeep and goes on with what there is. Only when
   the referral is far too old the task asks for a new one itself and waits, a few seconds at most, while the others go
   on. If the new answer still has J's target, nothing moves. If not, the binding is given up and the next step is a
   bind. If the link is gone, J is unbound, and who comes next hears it.
7. A hangs: it takes connections and says nothing. T1's request is given up when A was silent for too long. J has
   another target, B, so that comes next; a new connection to A would only hang as well. If A is J's only target, it is
   tried once more: a firewall that has forgotten a connection looks the same, and then a new one works.

What this does not do: it does not know what an operation is. Whether a repeated one may be carried out again, and
whether a handle may move to another target, is for the operation to decide from `Attempt.repeated` and
`binding.generation`.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.dfsc.resolver import NOT_A_LINK_STATUSES
from dfsfs.errors import (
    SERVER_FAULTS,
    ConnectError,
    ConnectionLost,
    DfsfsError,
    Disposition,
    ForeignCaller,
    LoginNotAllowed,
    NamespaceLoop,
    PosixError,
    SetupRefused,
    SmbError,
)
from dfsfs.namespace.connecting import Connector
from dfsfs.namespace.hedging import Hedge
from dfsfs.namespace.junction import Attempt, BindFailure, Junction, Location, PathNotCovered, TargetBinding
from dfsfs.namespace.maintenance import Maintenance, PathResolver
from dfsfs.namespace.overrides import TargetOverrides
from dfsfs.namespace.reachability import Reachability
from dfsfs.namespace.targets import TargetOrder, entry_for, is_dfs, is_self_referral
from dfsfs.ntstatus import NtStatus
from dfsfs.statusmessages import describe_status
from dfsfs.telemetry import FailedOver, Moved, NotCovered, Reconnected, TargetChosen, TargetSkipped
from dfsfs.unc import UncError, UncPath

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Event, Telemetry

T = TypeVar("T")

FAILURE_MEMORY = 2.0
"""Seconds during which a failed bind answers for the next ones, and a target that could not be reached is tried last.

Long enough that a crowd of waiting callers costs one round of connect timeouts, short enough that nobody notices it
after the server is back."""

RETRY_LIMIT = 5
HARD_PAUSE = 2.0
"""Seconds between two looks at servers that are all down, of operations that wait for them."""
RETRY_PAUSE = 0.1
"""Seconds before the first repetition of a request that the server wants sent again; doubled each time (3 s in all)."""


@dataclass(frozen=True, slots=True)
class FailoverStatistics:
    """Counts since the mount."""

    binds: int
    failed_binds: int
    failovers: int
    reconnects: int
    refreshes: int
    refused_at_once: int
    """Callers that were answered from the memory of a failed bind."""


@dataclass(slots=True)
class _Run:
    """What one run() knows beyond its location."""

    remaining: float
    """Seconds left for everything except the first attempt."""
    tried: set[UncPath] = field(default_factory=set)
    """Targets given up."""
    reconnected: set[UncPath] = field(default_factory=set)
    """Targets that have had their second chance."""
    stale: TargetBinding | None = None
    """The binding that failed, which may look alive."""
    error: DfsfsError | None = None
    repeated: bool = False
    retries: int = 0
    hops: int = 0


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
        self._pool = pool
        self._resolver = resolver
        self._max_hops = max_hops
        self._follow_links = follow_links
        self._timeout = timeout
        self._retries = retries
        self.is_hard = False
        """Operations wait for as long as their time allows when no target answers: the option `hard`."""
        self._clock = clock
        self._telemetry = telemetry
        self.overrides = TargetOverrides()
        reachability = reachability or Reachability(clock)
        self._order = TargetOrder(clock, FAILURE_MEMORY, self.overrides, reachability)
        self._connector = Connector(pool, reachability)
        self._hedge = Hedge(self._order, self._connector, reachability, self._resolve_deeper)
        self.maintenance = Maintenance(pool, resolver, self.overrides, clock=clock, telemetry=telemetry)
        self._binds = self._failures = self._failovers = self._reconnects = self._refused = 0

    def statistics(self) -> FailoverStatistics:
        return FailoverStatistics(
            self._binds, self._failures, self._failovers, self._reconnects, self.maintenance.refreshes, self._refused
        )

    async def run(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        """Awaits `operation` with an attempt on the location's target, as often as its failures call for another one.

        All waiting between attempts, and every attempt after a failed one, takes `timeout` seconds at most; the first
        attempt is bounded by the operation's own requests.

        Raises:
            Covered: the path leads through a DFS link below the junction.
            DfsfsError: the operation's last failure, or why there is no target to run it on.
        """
        junction = location.junction
        binding = junction.binding
        if location.moment is not None:
            operation = _checking_snapshot(operation)
        if binding is None or not binding.tree.alive or self._clock() >= junction.refresh_at:
            return await self._run_slowly(location, operation, None, None)
        attempt = Attempt(binding, _path_on(binding.target, location.components), False, location.moment)
        try:
            result = await operation(attempt)
        except DfsfsError as error:
            if error.disposition is Disposition.RETURN:
                raise
            failure = error
        else:
            if junction.confirmed_binding is not binding:
                self._confirm(junction, binding)
            return result
        return await self._run_slowly(location, operation, attempt, failure)

    async def ask(self, location: Location, question: Callable[[Attempt], Awaitable[T]]) -> T:
        """`run` for what changes and opens nothing: see hedging.py."""
        return await self._hedge.ask(location, question, lambda: self.run(location, question))

    async def _run_slowly(
        self,
        location: Location,
        operation: Callable[[Attempt], Awaitable[T]],
        attempt: Attempt | None,
        error: DfsfsError | None,
    ) -> T:
        """Everything but the fast path. `attempt` and `error` are those of the attempt made there, if it was."""
        state = _Run(self._timeout)
        while True:
            try:
                with self._bounded(state, location):
                    if attempt is not None and error is not None:
                        state.error = error
                        await self._handle_failure(state, location, attempt, error)
                    binding = await self._get_binding(location.junction, state)
            except (ConnectError, ConnectionLost):
                if not self.is_hard or state.remaining <= HARD_PAUSE:
                    raise
                await trio.sleep(HARD_PAUSE)
                state = _Run(state.remaining - HARD_PAUSE, repeated=state.repeated)
                attempt = error = None
                continue
            first = attempt is None
            path = _path_on(binding.target, location.components)
            attempt = Attempt(binding, path, state.repeated, location.moment)
            try:
                if first:
                    result = await operation(attempt)
                else:
                    with self._bounded(state, location):
                        result = await operation(attempt)
            except DfsfsError as failure:
                error = failure
                continue
            if location.junction.confirmed_binding is not binding:
                self._confirm(location.junction, binding)
            return result

    @contextmanager
    def _bounded(self, state: _Run, location: Location) -> Iterator[None]:
        """Takes the time of its body off the run's budget, and ends the run when that is used up."""
        started = trio.current_time()
        try:
            with trio.move_on_after(max(0.0, state.remaining)) as scope:
                yield
        finally:
            state.remaining -= trio.current_time() - started
        if scope.cancelled_caught:
            if state.error is not None:
                raise state.error
            text = f"no target of {location.junction.prefix} answered within {self._timeout:g} s"
            raise ConnectError(location.junction.prefix.host, NtStatus.IO_TIMEOUT, text)

    async def _handle_failure(self, state: _Run, location: Location, attempt: Attempt, error: DfsfsError) -> None:
        """Does what the failure's disposition calls for before the next attempt. Raises if there is to be none."""
        target = attempt.binding.target
        if isinstance(error, ConnectionLost):
            state.repeated = True
        match error.disposition:
            case Disposition.RETRY if state.retries < self._retries:
                await trio.sleep(RETRY_PAUSE * 2**state.retries)
                state.retries += 1
            case Disposition.RECONNECT:
                state.stale = attempt.binding
                if target in state.reconnected:
                    state.tried.add(target)
                elif error.status == NtStatus.IO_TIMEOUT:
                    self._order.mark_unreachable(target, error)  # it hangs: the others first
                state.reconnected.add(target)
            case Disposition.NEXT_TARGET if _is_about_a_file(location, error):
                raise error
            case Disposition.NEXT_TARGET:
                state.stale = attempt.binding
                state.tried.add(target)
            case Disposition.REFER if self._follow_links:
                try:
                    await self._follow_referral(state, location, attempt)
                except NamespaceLoop:
                    if location.is_junction_root:
                        location.junction.mark_loop()
                    raise
            case _:
                raise error

    async def _follow_referral(self, state: _Run, location: Location, attempt: Attempt) -> None:
        """Follows a PATH_NOT_COVERED (MS-DFSC 3.1.5.1)."""
        junction = location.junction
        if not self._may_hop(state):
            raise self._loop(location)
        if junction.binding is not attempt.binding:
            return
        self._telemetry.publish(NotCovered(location.unc, attempt.binding.target))
        resolution = await self._resolve_deeper(location, attempt.binding.target)
        if not resolution.covered.is_prefix_of(junction.prefix):
            raise PathNotCovered(resolution.covered)
        async with junction.lock:
            if junction.binding is not attempt.binding:
                return
            junction.adopt(resolution, self._clock())
            junction.binding = None

    async def _resolve_deeper(self, location: Location, refused: UncPath) -> Resolution:
        """What stands for the location when the target `refused` does not."""
        # Another operation may have learnt of the link already: a cache hit, and asking for more would be wrong.
        resolution = await self._resolver.resolve(location.unc)
        for _ in range(self._max_hops):
            if not is_self_referral(location.junction, resolution, refused):
                return resolution
            resolution = await self._resolver.resolve(location.unc, uncovered=True)
        raise self._loop(location)

    def _may_hop(self, state: _Run) -> bool:
        state.hops += 1
        return state.hops <= self._max_hops

    def _loop(self, location: Location) -> NamespaceLoop:
        return NamespaceLoop(f"{location.unc} leads through more than {self._max_hops} namespaces, or back to itself")

    async def _get_binding(self, junction: Junction, state: _Run) -> TargetBinding:
        """The junction's binding if it is fit for this run, or else a new one."""
        if self._clock() >= junction.refresh_at:
            if _fit_binding(junction, state) is None or self._clock() >= junction.hard_expires_at:
                await self.maintenance.refresh(junction)
            else:
                self.maintenance.schedule_refresh(junction)
        if (binding := _fit_binding(junction, state)) is not None:
            return binding
        async with junction.lock:
            if (binding := _fit_binding(junction, state)) is not None:
                return binding
            return await self._bind(junction, state)

    async def _bind(self, junction: Junction, state: _Run) -> TargetBinding:
        """Binds the junction to the first target that lets itself be connected. With the junction's lock held."""
        known = junction.failure
        if known is not None and self._clock() < known.until and known.skipped <= state.tried:
            self._refused += 1
            raise known.error.with_traceback(None)
        skipped, earlier = frozenset(state.tried), state.error
        try:
            if junction.resolution is None:
                junction.adopt(await self.resolve_link(junction.prefix), self._clock())
            target, tree = await self._connect(junction, state)
        except DfsfsError as error:
            # What there was nothing left to try for, or is about one process, says nothing to others.
            if error is not earlier and not isinstance(error, ForeignCaller):
                self._failures += 1
                junction.failure = BindFailure(error, self._clock() + FAILURE_MEMORY, skipped)
            raise
        return self._set_binding(junction, target, tree, state.error)

    async def resolve_link(self, prefix: UncPath) -> Resolution:
        """A junction's path is that of a link, so a referral that covers less of it is not yet the answer.

        Unless there is none: then the link has become a folder, and what covers it is the place to look for that.
        """
        resolution = await self._resolver.resolve(prefix)
        for _ in range(self._max_hops):
            if resolution.referral is None or prefix.is_prefix_of(resolution.covered):
                break
            try:
                # Perhaps more than once: the first time it may turn out that there is a namespace behind the root.
                resolution = await self._resolver.resolve(prefix, uncovered=True)
            except SmbError as error:
                if error.status not in NOT_A_LINK_STATUSES:
                    raise
                break
        return resolution

    async def _connect(self, junction: Junction, state: _Run) -> tuple[UncPath, Tree]:
        """Goes through the targets that this run has not given up (MS-DFSC 3.1.5.2) to the first that is there. Those
        of one target set race each other.
        """

        def on_failure(target: UncPath, error: DfsfsError) -> None:
            if error.disposition in SERVER_FAULTS:
                state.tried.add(target)
                state.error = _more_telling(state.error, error)
                self._order.mark_unreachable(target, error)
                self._telemetry.publish(TargetSkipped(junction.prefix, target, str(error)))

        def try_next(error: DfsfsError) -> bool:
            return error.disposition in SERVER_FAULTS and not (looks_behind and _is_no_share(error))

        while group := self._order.next_group(junction, state.tried):
            looks_behind = is_dfs(junction) and state.hops < self._max_hops
            finish = await self._connector.connect_first(group, on_failure, try_next)
            if finish.winners:
                for late in finish.late:
                    self._telemetry.publish(TargetSkipped(junction.prefix, late, "it is silent, another one answers"))
                return finish.winners[0]
            target, error = finish.failures[-1]
            if error.disposition not in SERVER_FAULTS:
                raise error
            if not try_next(error) and self._may_hop(state):
                await self._try_namespace_behind(junction, target)
        raise state.error or DfsfsError(f"{junction.prefix}: no target is left", NtStatus.BAD_NETWORK_PATH)

    async def _try_namespace_behind(self, junction: Junction, target: UncPath) -> None:
        """Takes the targets of `target` instead if it is a namespace of its own that can't be connected.

        The roots of Samba with `msdfs proxy` are no shares, they only answer referrals.
        """
        try:
            resolution = await self._resolver.resolve(junction.prefix, uncovered=True)
        except DfsfsError:
            return
        if not is_self_referral(junction, resolution, target):
            junction.adopt(resolution, self._clock())

    def _set_binding(self, junction: Junction, target: UncPath, tree: Tree, reason: DfsfsError | None) -> TargetBinding:
        """Makes the connected target the junction's, counts it, and says so."""
        old = junction.last_target
        binding = junction.bind(target, tree, self._clock())
        self._binds += 1
        prefix, status = junction.prefix, "a new referral" if reason is None else describe_status(reason.status)
        event: Event
        if old is None:
            event = TargetChosen(prefix, target, "the first that answers")
        elif old == target:
            self._reconnects += 1
            event = Reconnected(prefix, target, status)
        elif reason is None or reason.disposition is Disposition.REFER:
            event = Moved(prefix, old, target)
        else:
            self._failovers += 1
            event = FailedOver(prefix, old, target, status)
        self._telemetry.publish(event)
        self.maintenance.bound(junction)
        return binding

    def _confirm(self, junction: Junction, binding: TargetBinding) -> None:
        """An operation succeeded: the target becomes the entry's hint (MS-DFSC 3.1.1, 3.1.5.2)."""
        resolution = junction.resolution
        if junction.binding is not binding or resolution is None:
            return
        junction.confirmed_binding = binding
        junction.loops = False
        entry = entry_for(junction, resolution, binding.target)
        if entry is not None:
            self._resolver.set_hint(resolution, entry)


def _fit_binding(junction: Junction, state: _Run) -> TargetBinding | None:
    """The junction's binding unless it is dead, or has failed this run already."""
    binding = junction.binding
    if binding is None or binding is state.stale or not binding.tree.alive or binding.target in state.tried:
        return None
    return binding


def _is_no_share(error: DfsfsError) -> bool:
    """Whether the target may be a namespace of its own: the roots of Samba with `msdfs proxy` are no shares."""
    return error.status == NtStatus.BAD_NETWORK_NAME


def _more_telling(known: DfsfsError | None, error: DfsfsError) -> DfsfsError:
    """Which of two failures a program hears of, if no target is left: the last one, as the standard has it. But the
    first server that says why it can't says more than those that are down, and these more than one out of bounds.
    """
    if known is None or (isinstance(known, SetupRefused) and known.is_server_fault):
        return known or error
    return known if isinstance(error, LoginNotAllowed) else error


def _is_about_a_file(location: Location, error: DfsfsError) -> bool:
    """Whether a failure that is the target's on the target itself (MS-DFSC section 6) is of something below it: whoever
    may write there can make a reparse point with a tag that no server follows.
    """
    return error.status == NtStatus.IO_REPARSE_TAG_NOT_HANDLED and bool(location.components)


def _path_on(target: UncPath, components: tuple[str, ...]) -> UncPath:
    try:
        return target.join(components)
    except UncError as error:
        raise PosixError(errno.EINVAL, str(error)) from None


def _checking_snapshot(operation: Callable[[Attempt], Awaitable[T]]) -> Callable[[Attempt], Awaitable[T]]:
    """The same operation after a look whether there is such a past."""

    async def checked(attempt: Attempt) -> T:
        await attempt.tree.snapshots.check()
        return await operation(attempt)

    return checked

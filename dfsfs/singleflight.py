"""SingleFlight: work that is done once for all who ask for it at the same time, as golang.org/x/sync/singleflight does.

One run of the work for a key is a flight. Callers that come while it is under way wait for it and get the same result,
or the same error. What else may differ from user to user is said when a SingleFlight is made:

- In whose task the work runs, and with that what the cancellation of a caller means for the others:
  `InNursery` or `InFirstCaller`.
- Whether a failure is kept: for `keep_failures` seconds it is also raised for callers that come after the flight.

Results are never kept: callers look for what they need where it is stored before they ask.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from dfsfs.errors import ConnectError, DfsfsError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("dfsfs")

K = TypeVar("K")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Flight(Generic[T]):
    """One run of the work. If it is over and has neither a result nor an error, its task was cancelled."""

    on_end: Callable[[Flight[T]], None]
    """Called once, before those who wait go on."""
    done: trio.Event = field(default_factory=trio.Event)
    results: list[T] = field(default_factory=list)
    """One result, or none."""
    error: DfsfsError | None = None

    @property
    def has_outcome(self) -> bool:
        return bool(self.results) or self.error is not None

    async def run(self, work: Callable[[], Awaitable[T]]) -> None:
        """Stores what comes of the work. Raises what the work raises."""
        try:
            self.results.append(await work())
        except DfsfsError as error:
            self.error = error
            raise

    def end(self) -> None:
        """Wakes all who wait."""
        self.on_end(self)
        self.done.set()

    def get_outcome(self) -> T:
        """The result of a flight that has an outcome, or its error, without the traceback of others who raised it."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.results[0]


@dataclass(frozen=True, slots=True)
class InNursery:
    """The work runs in a task of `nursery`. A caller that is cancelled only stops to wait: the work goes on, also when
    the last one has gone.

    If the nursery is cancelled, all who wait get ConnectError. An exception of the work that is no DfsfsError is
    logged, and raised as a DfsfsError in all callers, as it would end the nursery otherwise. `what` names the work in
    these messages; the key follows it.
    """

    nursery: trio.Nursery
    what: str

    async def run(self, key: object, flight: Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        self.nursery.start_soon(self._run, key, flight, work)
        await flight.done.wait()

    async def _run(self, key: object, flight: Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            await flight.run(work)
        except DfsfsError:
            pass  # the flight has it
        except Exception as error:
            log.exception("%s %s failed in an unexpected way", self.what, key)
            flight.error = DfsfsError(f"{self.what} {key} failed in an unexpected way: {error!r}")
        finally:
            if not flight.has_outcome:
                flight.error = ConnectError("", NtStatus.CONNECTION_DISCONNECTED, "the mount is being taken down")
            flight.end()


@dataclass(frozen=True, slots=True)
class InFirstCaller:
    """The work runs in the task of the caller that comes first. When that one is cancelled the work is, too, and one of
    those who wait begins it anew.

    An exception of the work that is no DfsfsError is raised in that caller only; the others begin anew as well.
    """

    async def run(self, key: object, flight: Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            await flight.run(work)
        finally:
            flight.end()


class SingleFlight(Generic[K, T]):
    """See the module's text. `keep_failures` in seconds of trio's clock; 0: a failure is not kept."""

    def __init__(self, policy: InNursery | InFirstCaller, *, keep_failures: float = 0.0) -> None:
        self._policy = policy
        self._keep_failures = keep_failures
        self._flights: dict[K, Flight[T]] = {}
        self._failures: dict[K, tuple[float, DfsfsError]] = {}
        """Until when each failure is kept; those that are over go when the next one comes."""

    def __len__(self) -> int:
        """How many flights are under way."""
        return len(self._flights)

    async def do(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work()`, which is called unless a flight for the key is under way, or its failure is kept.

        Raises:
            DfsfsError: what the work has raised; or see the policy.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.done.wait()
            if flight.has_outcome:
                return flight.get_outcome()
        self._raise_kept(key)
        flight = self._flights[key] = Flight(lambda ended: self._end(key, ended))
        await self._policy.run(key, flight, work)
        return flight.get_outcome()

    def _end(self, key: K, flight: Flight[T]) -> None:
        del self._flights[key]
        if flight.error is not None and self._keep_failures:
            now = trio.current_time()
            self._failures = {key: kept for key, kept in self._failures.items() if now < kept[0]}
            self._failures[key] = (now + self._keep_failures, flight.error)

    def _raise_kept(self, key: K) -> None:
        until, error = self._failures.get(key, (0.0, None))
        if error is not None and trio.current_time() < until:
            raise error.with_traceback(None)

"""What the tests of failover.py share: a resolver that answers from a table, and an operation that follows a script."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from dfsfs.dfsc.referral import Referral, Target
from dfsfs.dfsc.walk import Resolution
from dfsfs.errors import DfsfsError, SmbError
from dfsfs.namespace.failover import Failover
from dfsfs.namespace.junction import Attempt, Junction, Location
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import Telemetry
from tests.support.fakes.pool import FakePool, FakeServer, unc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.unc import UncPath

PREFIX = unc("//srv/ns/link")


def resolution(
    path: UncPath,
    targets: Sequence[str],
    *,
    path_consumed: UncPath | None = None,
    expires: float = math.inf,
    referral: Referral | None = None,
    preferred: Sequence[str] = (),
) -> Resolution:
    return Resolution(
        path=path,
        path_consumed=path_consumed or path,
        referral=referral,
        targets=tuple(Target(unc(target), False) for target in targets),
        expires=expires,
        hard_expires=expires * 4,
        preferred=tuple(unc(target) for target in preferred),
    )


@dataclass(slots=True)
class FakeResolver:
    """Answers from two tables, `known` by the longest prefix; what is in neither is OBJECT_PATH_NOT_FOUND."""

    known: dict[UncPath, Resolution | DfsfsError] = field(default_factory=dict)
    not_covered: dict[UncPath, Resolution | DfsfsError] = field(default_factory=dict)
    delay: float = 0.0
    asked: list[tuple[UncPath, bool]] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)

    async def resolve(self, path: UncPath, *, not_covered: bool = False, fresh: bool = False) -> Resolution:
        self.asked.append((path, not_covered))
        await trio.sleep(self.delay)
        answer = self.not_covered.get(path) if not_covered else self._longest_known(path)
        if answer is None:
            raise SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, f"referral for {path}")
        if isinstance(answer, DfsfsError):
            raise answer
        return replace(answer, path=path)

    def _longest_known(self, path: UncPath) -> Resolution | DfsfsError | None:
        prefixes = [prefix for prefix in self.known if prefix.is_prefix_of(path)]
        return self.known[max(prefixes, key=len)] if prefixes else None

    def set_hint(self, resolution: Resolution, target: UncPath) -> None:
        assert target in {entry.path for entry in resolution.targets}
        self.confirmed.append(str(target))


@dataclass(slots=True)
class Operation:
    """Raises what the script says for a target, one item for each attempt; after that it succeeds with the path."""

    script: dict[str, list[DfsfsError | None]] = field(default_factory=dict)
    takes: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)

    async def __call__(self, attempt: Attempt) -> str:
        self.attempts.append(attempt)
        await trio.sleep(self.takes)
        steps = self.script.get(str(attempt.binding.target), [])
        if steps and (error := steps.pop(0)) is not None:
            raise error
        return str(attempt.path)

    @property
    def targets(self) -> list[str]:
        return [str(attempt.binding.target) for attempt in self.attempts]

    @property
    def is_replay(self) -> list[bool]:
        return [attempt.is_replay for attempt in self.attempts]


@dataclass(slots=True)
class Lab:
    """Servers a, b, c with the share `data` each, and the junction PREFIX that leads to them in this order."""

    pool: FakePool
    resolver: FakeResolver
    failover: Failover
    junction: Junction
    telemetry: Telemetry

    @classmethod
    def build(cls, hosts: str = "abc", *, timeout: float = 1000.0, follow_links: bool = True) -> Lab:
        servers = [FakeServer(host, {"data": False}) for host in hosts]
        pool, resolver = FakePool(*servers), FakeResolver()
        resolver.known[PREFIX] = resolution(PREFIX, [f"//{host}/data" for host in hosts])
        telemetry = Telemetry()
        failover = Failover(
            pool.as_pool,
            resolver,
            max_hops=8,
            follow_links=follow_links,
            timeout=timeout,
            clock=trio.current_time,
            telemetry=telemetry,
        )
        return cls(pool, resolver, failover, Junction(PREFIX), telemetry)

    @property
    def location(self) -> Location:
        return Location(self.junction, ("dir", "file"))

    async def run(self, operation: Operation | None = None) -> str:
        try:
            return await self.failover.run(self.location, operation or Operation())
        finally:
            self.junction.check_invariants()

    def check_idle(self) -> None:
        """No lock is held and no connection is under way."""
        assert not self.junction.lock.locked()
        assert not +self.pool.connecting
        self.junction.check_invariants()

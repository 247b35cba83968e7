"""The answers of a mount: the objects that docs/json.md describes.

The mount makes them (report.py, explaining.py, commands.py) and shapes.py writes them as JSON. The commands read them
with shapes.py, which checks each field: the program that answers may be another user's and say anything. A field that
is added later has a default, as a mount may have been started by an older version. Times are seconds, sizes bytes.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dfsfs.control.shapes import OPTIONAL, REST

# -- status -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class About:
    path: str
    unc: str
    pid: int
    version: str
    seconds: float
    user: str
    multiuser: bool
    read_only: bool
    attached: bool = True
    """Whether it is still mounted where its program runs."""


@dataclass(frozen=True, slots=True)
class Link:
    """A root or link of the namespace that is, or was, in use, for one user (`uid`) or all (None).

    `seconds_left`: for how long its referral is good, below zero if it has expired, None if it has no end. `loops`: it
    leads back to itself.
    """

    path: str
    target: str | None
    connected: bool
    failed_over: bool
    chosen: bool
    targets: tuple[str, ...]
    generation: int
    seconds_left: float | None
    uid: int | None
    loops: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A session with a server. `uid`: of the user of this computer whose it is, None for the mount's own."""

    host: str
    name: str
    address: str
    dialect: str
    signing: str
    encryption: str | None
    authentication: str
    spn: str | None
    user: str
    uid: int | None
    shares: tuple[str, ...]
    in_flight: int
    queued: int
    requests: int
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of one kind: how many, how many failed, and percentiles of their times."""

    count: int
    failed: int
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Files:
    open: int
    open_folders: int
    known: int


@dataclass(frozen=True, slots=True)
class CacheSizes:
    referrals: int
    domains: int


@dataclass(frozen=True, slots=True)
class Traffic:
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """The resources that the mount's process uses; memory in bytes. `own`: memory that belongs to no file, 0 where the
    kernel does not say it.
    """

    resident: int = 0
    own: int = 0
    peak: int = 0
    descriptors: int = 0
    threads: int = 0
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to `status`."""

    mount: About
    links: tuple[Link, ...]
    failed_over: int
    sessions: tuple[Session, ...]
    files: Files
    caches: CacheSizes
    requests: dict[str, Requests]
    errors: dict[str, int]
    bytes: Traffic
    events: dict[str, int]
    drained: tuple[str, ...]
    process: ProcessFigures = ProcessFigures()


# -- caches -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CachedTarget:
    path: str
    hint: bool
    starts_set: bool


@dataclass(frozen=True, slots=True)
class CachedReferral:
    """An item of the answer to `cache.show`: what `dfsutil /pktinfo` shows on Windows."""

    prefix: str
    kind: str
    namespace_below: bool
    failback: bool
    ttl: float
    seconds_left: float
    targets: tuple[CachedTarget, ...]


@dataclass(frozen=True, slots=True)
class Flushed:
    """The answer to `cache.flush` and `domain.flush`."""

    flushed: int


@dataclass(frozen=True, slots=True)
class OurDomain:
    name: str
    netbios: str
    site: str
    controllers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    name: str
    controllers: tuple[str, ...]
    hint: str | None


@dataclass(frozen=True, slots=True)
class Domains:
    """The answer to `domain.show`: what `dfsutil /spcinfo` shows on Windows."""

    found: OurDomain | None
    bootstrap: str | None
    domains: tuple[Domain, ...]


# -- targets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    path: str
    in_use: bool
    chosen: bool
    drained: bool


@dataclass(frozen=True, slots=True)
class Targets:
    """The answer to `target.list`, `target.set` and `target.unset`."""

    path: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class DrainedLink:
    path: str
    from_: str
    to: str | None


@dataclass(frozen=True, slots=True)
class Drained:
    """The answer to `drain` and `undrain`; the latter has no links. `known`: whether the mount has such a server, or
    has drained it; `servers`: those that it has, or has drained.
    """

    host: str
    links: tuple[DrainedLink, ...] = ()
    known: bool = True
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remounted:
    """The answer to `remount`: the names of the options that have changed."""

    changed: tuple[str, ...]


# -- explain ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """An event by the name of its type, with its fields, and a line for people. `seconds`: since the beginning."""

    seconds: float
    event: str
    details: dict[str, Any] = field(metadata=REST)
    text: str


@dataclass(frozen=True, slots=True)
class TriedTarget:
    """A target of a path. `seconds`: the time of one question and its answer, None if there was none."""

    path: str
    in_use: bool
    seconds: float | None
    problem: str | None
    remark: str
    session: Session | None


@dataclass(frozen=True, slots=True)
class Root:
    """What a server of the namespace says of the path."""

    host: str
    asked: str
    problem: str | None
    covered: str | None
    ttl: int | None
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Roots:
    """What all servers of the namespace say. `differ`: they do not say the same."""

    roots: tuple[Root, ...]
    differ: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to `explain`."""

    path: str
    kind: str | None
    problem: str | None
    steps: tuple[Step, ...]
    link: str | None
    seconds_left: float | None
    targets: tuple[TriedTarget, ...]
    all_roots: Roots | None = field(default=None, metadata=OPTIONAL)

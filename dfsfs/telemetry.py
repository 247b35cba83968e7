"""What dfsfs decides about targets, as typed events: one stream for the debug log, the counters and `dfsfs explain`.

Pure. The code that decides makes an event; the resolver collects its own in the Resolution's trail, and every event
reaches `Telemetry.publish` once, which counts it by its type, keeps the last ones, and passes it to the listeners.
`str()` of an event is one line for people.

Secrets and contents of files are in no event; the paths of links, shares and servers are.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dfsfs.unc import UncPath

log = logging.getLogger("dfsfs.events")

MAX_RECENT_EVENTS = 1000
"""How many of the last events are kept: some minutes of a busy mount, less than a megabyte."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was decided or found out. Fields hold paths, names, statuses; times are in seconds."""

    def __str__(self) -> str:
        return f"{type(self).__name__}: " + ", ".join(f"{f.name} {getattr(self, f.name)}" for f in fields(self))


@dataclass(frozen=True, slots=True)
class CacheHit(Event):
    """An entry of the referral cache has a prefix of the path. `stale`: past its soft time-out, and to be refreshed."""

    prefix: UncPath
    seconds_left: float
    stale: bool = False

    def __str__(self) -> str:
        if self.stale:
            return (
                f"{self.prefix} is in the cache, {-self.seconds_left:.0f} s past its time: used while it is refreshed"
            )
        return f"{self.prefix} is in the cache for {self.seconds_left:.0f} s more"


@dataclass(frozen=True, slots=True)
class CacheMiss(Event):
    """No entry of the referral cache has a prefix of the path."""

    path: UncPath

    def __str__(self) -> str:
        return f"nothing in the cache covers {self.path}"


@dataclass(frozen=True, slots=True)
class CacheExpired(Event):
    """The entry's time is up: it is asked for before it is used."""

    prefix: UncPath

    def __str__(self) -> str:
        return f"{self.prefix} is in the cache, but its time is up"


@dataclass(frozen=True, slots=True)
class KnownNotDfs(Event):
    """A server said not long ago that the share is no DFS root."""

    share: UncPath

    def __str__(self) -> str:
        return f"{self.share} is known to be no DFS namespace"


@dataclass(frozen=True, slots=True)
class EntryKept(Event):
    """An entry could not be refreshed and stays in use until its hard time-out."""

    prefix: UncPath
    reason: str

    def __str__(self) -> str:
        return f"{self.prefix} stays in use although it can't be refreshed: {self.reason}"


@dataclass(frozen=True, slots=True)
class ReferralSent(Event):
    """A request for a referral; `path` empty asks for domains."""

    host: str
    path: str
    kind: str

    def __str__(self) -> str:
        return f"asking {self.host} for a {self.kind} referral" + (f" for {self.path}" if self.path else "")


@dataclass(frozen=True, slots=True)
class ReferralAnswered(Event):
    """The answer: targets in their order, `|` where a target set ends. `ttl` in seconds."""

    host: str
    path: str
    version: int
    flags: int
    ttl: int
    targets: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.targets).replace(", |,", " |")
        return f"{self.host} answers V{self.version}, flags {self.flags:#x}, for {self.ttl} s: {shown or 'nothing'}"


@dataclass(frozen=True, slots=True)
class ReferralRefused(Event):
    """No referral came back, or none that can be used."""

    host: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"no referral for {self.path or 'domains'} from {self.host}: {self.reason}"


@dataclass(frozen=True, slots=True)
class NamespaceEntered(Event):
    """An interlink: the search goes on in another namespace, at `place`."""

    prefix: UncPath
    place: UncPath

    def __str__(self) -> str:
        return f"{self.prefix} leads into another namespace, to {self.place}"


@dataclass(frozen=True, slots=True)
class NotCovered(Event):
    """A server said STATUS_PATH_NOT_COVERED: a link is on the way (MS-DFSC 3.1.5.1)."""

    path: UncPath
    target: UncPath

    def __str__(self) -> str:
        return f"{self.target} does not cover {self.path}: there is a link on the way"


@dataclass(frozen=True, slots=True)
class TargetChosen(Event):
    """The target that a path is sent to, or that a junction is bound to, and why this one."""

    prefix: UncPath
    target: UncPath
    why: str

    def __str__(self) -> str:
        return f"{self.prefix} is at {self.target}: {self.why}"


@dataclass(frozen=True, slots=True)
class TargetSkipped(Event):
    """A target that was passed over, and why."""

    prefix: UncPath
    target: UncPath
    why: str

    def __str__(self) -> str:
        return f"{self.prefix}: target {self.target} is passed over: {self.why}"


@dataclass(frozen=True, slots=True)
class FailedOver(Event):
    """A junction moved to another target because the one in use failed."""

    prefix: UncPath
    old: UncPath
    new: UncPath
    why: str

    def __str__(self) -> str:
        return f"{self.prefix}: failed over from {self.old} to {self.new} after {self.why}"


@dataclass(frozen=True, slots=True)
class DomainFound(Event):
    """Our domain was looked for and found, or something of it has changed."""

    name: str
    netbios: str
    site: str
    controllers: tuple[str, ...]

    def __str__(self) -> str:
        names = " or ".join(filter(None, (self.name, self.netbios))) or "of an unknown name"
        site = f"; this computer is in the site {self.site}" if self.site else ""
        return f"the domain is {names}, with the controllers {', '.join(self.controllers)}{site}"


@dataclass(frozen=True, slots=True)
class FailedBack(Event):
    """A junction went back to a target of the first set that answers again."""

    prefix: UncPath
    old: UncPath
    new: UncPath

    def __str__(self) -> str:
        return f"{self.prefix}: failed back from {self.old} to {self.new}, which answers again"


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """A junction moved because its referral says something else now."""

    prefix: UncPath
    old: UncPath
    new: UncPath

    def __str__(self) -> str:
        return f"{self.prefix}: moved from {self.old} to {self.new} by a new referral"


@dataclass(frozen=True, slots=True)
class MovedOnRequest(Event):
    """A junction moved because the administrator wanted it to."""

    prefix: UncPath
    old: UncPath
    new: UncPath

    def __str__(self) -> str:
        return f"{self.prefix}: moved from {self.old} to {self.new} on request"


@dataclass(frozen=True, slots=True)
class ReferralOverflow(Event):
    """An answer did not fit into the room that was offered for it, in bytes, so it is asked for again with more."""

    host: str
    path: str
    size: int

    def __str__(self) -> str:
        return f"the answer of {self.host} for {self.path or 'domains'} is longer than {self.size} bytes"


@dataclass(frozen=True, slots=True)
class ReferralMalformed(Event):
    """An answer made no sense, and was dropped."""

    host: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"the answer of {self.host} for {self.path or 'domains'} makes no sense: {self.reason}"


@dataclass(frozen=True, slots=True)
class Reconnected(Event):
    """The same target again, on a new connection."""

    prefix: UncPath
    target: UncPath
    why: str

    def __str__(self) -> str:
        return f"{self.prefix}: connected to {self.target} again after {self.why}"


@dataclass(frozen=True, slots=True)
class Refreshed(Event):
    """A junction's referral was asked for again; `problem` says why that came to nothing, empty if it did not."""

    prefix: UncPath
    problem: str = ""

    def __str__(self) -> str:
        return (
            f"{self.prefix}: the old referral stays in use: {self.problem}"
            if self.problem
            else f"{self.prefix}: refreshed"
        )


@dataclass(frozen=True, slots=True)
class PolicyIgnored(Event):
    """An option of the mount about targets that can't be followed here."""

    prefix: UncPath
    why: str

    def __str__(self) -> str:
        return f"{self.prefix}: {self.why}"


LEVELS: dict[type[Event], int] = {
    FailedOver: logging.WARNING,
    FailedBack: logging.INFO,
    Moved: logging.INFO,
    MovedOnRequest: logging.INFO,
    ReferralMalformed: logging.WARNING,
    Reconnected: logging.INFO,
    PolicyIgnored: logging.WARNING,
    TargetSkipped: logging.INFO,
}
"""The log level of an event's type; DEBUG if it is not named here."""


@dataclass(slots=True)
class _Collector:
    clock: Callable[[], float]
    events: list[tuple[float, Event]]


_collector: ContextVar[_Collector | None] = ContextVar("_collector", default=None)


@contextmanager
def collect_events(clock: Callable[[], float]) -> Iterator[list[tuple[float, Event]]]:
    """Collects the events of this task, and of those that it starts, apart from what else happens in the mount. Each
    comes with the seconds since the beginning.
    """
    begun = clock()
    collector = _Collector(lambda: clock() - begun, [])
    token = _collector.set(collector)
    try:
        yield collector.events
    finally:
        _collector.reset(token)


def _log_fields(event: Event) -> dict[str, object]:
    """What a log can be searched for: the path that an event is about, and the target that counts from then on."""
    path = getattr(event, "prefix", None) or getattr(event, "path", None)
    target = getattr(event, "new", None) or getattr(event, "target", None)
    return {"dfsfs_path": path, "dfsfs_target": target}


class Telemetry:
    """The stream of one mount."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """How many events of each type there were since the mount, by the type's name."""
        self.recent: deque[Event] = deque(maxlen=MAX_RECENT_EVENTS)
        self._listeners: list[Callable[[Event], None]] = []

    def publish(self, event: Event) -> None:
        self.counts[type(event).__name__] += 1
        self.recent.append(event)
        if (collector := _collector.get()) is not None:
            collector.events.append((collector.clock(), event))
        level = LEVELS.get(type(event), logging.DEBUG)
        if log.isEnabledFor(level):
            log.log(level, "%s", event, extra=_log_fields(event))
        for listener in self._listeners:
            listener(event)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Has `listener` called with every event from now on."""
        self._listeners.append(listener)

    def statistics(self) -> Mapping[str, int]:
        return dict(self.counts)

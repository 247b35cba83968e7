"""How a path is resolved, step by step, and what can be said of each of its targets: for `dfsfs explain`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import ConnectError, DfsfsError, Disposition, NamespaceLoop
from dfsfs.namespace.targets import targets_for
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import collect_events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Junction, Location
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.telemetry import Event
    from dfsfs.unc import UncPath

PROBE_TIMEOUT = 10.0
"""Seconds that one target, or one server of a namespace, has to answer."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a target of a path says. `seconds` is the time of one question and its answer on a connection that is there,
    None if there was none. `problem` is None where it answered.
    """

    target: UncPath
    in_use: bool
    seconds: float | None
    problem: DfsfsError | None
    remark: str
    """Why it is not the one in use, as far as that is a matter of order."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """See the module's text. `seconds_left`: for how long the referral is good; None: it has no end, or there
    is none.
    """

    path: UncPath
    kind: str
    problem: DfsfsError | None
    """Why the path can't be used, if so."""
    events: tuple[tuple[float, Event], ...]
    """Each with the seconds since the beginning."""
    link: UncPath | None
    seconds_left: float | None
    probes: tuple[Probe, ...]


async def explain(
    namespace: Namespace, pool: TreeProvider, path: UncPath, clock: Callable[[], float] = trio.current_time
) -> Explanation:
    """Resolves a path as an access to it would, and tries all its targets. Raises nothing of DfsfsError."""
    kind = ""
    problem: DfsfsError | None = None
    location: Location | None = None
    with collect_events(clock) as events:
        try:
            location, stat = await namespace.find(path)
            kind = "folder" if stat.is_directory else f"file of {stat.size} bytes"
        except DfsfsError as error:
            problem = error
            location = namespace.find_known(path)
    junction = location.junction.for_caller() if location is not None else None
    if location is None or junction is None or junction.resolution is None:
        return Explanation(path, kind, problem, tuple(events), None, None, ())
    probes = await _probe_all(namespace, pool, junction, location.components)
    if isinstance(problem, NamespaceLoop):
        probes = tuple(_mark_loop(probe, problem) for probe in probes)
    referral = junction.resolution.referral if junction.resolution is not None else None
    left = None if referral is None else referral.expires - clock()
    return Explanation(path, kind, problem, tuple(events), junction.prefix, left, probes)


def _mark_loop(probe: Probe, loop: NamespaceLoop) -> Probe:
    """A target that refers on says so, and where that leads has been found out already."""
    refers = probe.problem is not None and probe.problem.disposition is Disposition.REFER
    return replace(probe, problem=loop) if refers else probe


async def _probe_all(
    namespace: Namespace, pool: TreeProvider, junction: Junction, components: tuple[str, ...]
) -> tuple[Probe, ...]:
    assert junction.resolution is not None
    targets = targets_for(junction, junction.resolution)
    current = junction.binding.target if junction.binding is not None else None
    found: dict[UncPath, Probe] = {}

    async def probe_one(place: int, target: UncPath) -> None:
        seconds, problem = await measure_time(pool, target.join(components), _stat)
        in_use = target == current
        found[target] = Probe(target, in_use, seconds, problem, _remark(namespace, junction, target, place, in_use))

    async with trio.open_nursery() as nursery:
        for place, target in enumerate(targets, 1):
            nursery.start_soon(probe_one, place, target)
    return tuple(found[target] for target in targets)


def _remark(namespace: Namespace, junction: Junction, target: UncPath, place: int, in_use: bool) -> str:
    overrides = namespace.overrides
    if overrides.is_drained(target):
        return "its server is drained"
    if overrides.chosen.get(junction.prefix) == target:
        return "chosen by hand"
    if in_use:
        return "in use"
    return f"number {place} in the order of the referral"


async def _stat(tree: Tree, path: UncPath) -> None:
    await tree.stat(path)


async def measure_time(
    pool: TreeProvider, path: UncPath, question: Callable[[Tree, UncPath], Awaitable[None]]
) -> tuple[float | None, DfsfsError | None]:
    """The seconds that one question about a path takes its server, connecting and login not included; or why it has no
    answer.
    """
    try:
        with trio.move_on_after(PROBE_TIMEOUT):
            tree = await pool.connect_tree(path.share)
            begun = trio.current_time()
            await question(tree, path)
            return trio.current_time() - begun, None
    except DfsfsError as error:
        return None, error
    return None, _make_timeout_error(path.host)


def _make_timeout_error(host: str) -> DfsfsError:
    return ConnectError(host, NtStatus.IO_TIMEOUT, f"no answer within {PROBE_TIMEOUT:g} s")


@dataclass(frozen=True, slots=True)
class RootAnswer:
    """What one server of a namespace says of a link, for a comparison. `problem` is None where it answered."""

    host: str
    asked: UncPath
    response: ReferralResponse | None
    problem: DfsfsError | None


async def ask_all_roots(namespace: Namespace, path: UncPath) -> tuple[RootAnswer, ...]:
    """Asks each server of the path's namespace for its referral, past all caches.

    Raises:
        DfsfsError: it is not known which servers these are.
    """
    root = await namespace.resolve(path.share)
    found: dict[UncPath, RootAnswer] = {}

    async def probe_one(target: UncPath) -> None:
        place = target.join(path.components[2:])
        try:
            with trio.move_on_after(PROBE_TIMEOUT):
                found[target] = RootAnswer(
                    target.host, place, await namespace.request_referral(target.host, place), None
                )
                return
            found[target] = RootAnswer(target.host, place, None, _make_timeout_error(target.host))
        except DfsfsError as error:
            found[target] = RootAnswer(target.host, place, None, error)

    targets = [target.path for target in root.targets]
    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(probe_one, target)
    return tuple(found[target] for target in targets)

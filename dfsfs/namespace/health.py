"""Whether a link of a namespace is in order: all its targets, and what all servers of the namespace say of it.

A link is followed as a mount follows it: by the same resolver and the same failover, through other namespaces and links
of links. What that comes to is tried target by target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError
from dfsfs.namespace.explain import ask_all_roots, time_of
from dfsfs.namespace.targets import targets_for
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.explain import RootAnswer
    from dfsfs.namespace.junction import Attempt, Location
    from dfsfs.namespace.survey import FoundLink
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath


@dataclass(frozen=True, slots=True)
class CheckedTarget:
    """A target, the seconds that its server took to begin to list it, and why it has not: one of them is None."""

    path: UncPath
    seconds: float | None
    problem: DfsfsError | None


@dataclass(frozen=True, slots=True)
class CheckedLink:
    """A link. `problem`: why it leads nowhere, whatever its targets say. `roots`: what each server of its namespace
    says of it, `uncompared` why nobody knows that.
    """

    path: UncPath
    targets: tuple[CheckedTarget, ...]
    problem: DfsfsError | None
    roots: tuple[RootAnswer, ...]
    uncompared: DfsfsError | None


async def check_link(namespace: Namespace, pool: Pool, link: FoundLink) -> CheckedLink:
    """Tests a link. Raises nothing of DfsfsError."""
    problem, targets = await _follow(namespace, link)
    found: dict[UncPath, CheckedTarget] = {}

    async def one(target: UncPath) -> None:
        found[target] = await _test(namespace, pool, target)

    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(one, target)
    roots: tuple[RootAnswer, ...] = ()
    uncompared = None
    try:
        roots = await ask_all_roots(namespace, link.path)
    except DfsfsError as error:
        uncompared = error
    return CheckedLink(link.path, tuple(found[target] for target in targets), problem, roots, uncompared)


async def _follow(namespace: Namespace, link: FoundLink) -> tuple[DfsfsError | None, list[UncPath]]:
    """Why a link leads nowhere, and the targets that it comes to; those of its referral if it leads nowhere."""
    targets = [] if link.resolution is None else [target.path for target in link.resolution.targets]
    if link.problem is not None:
        return link.problem, targets
    try:
        location = await _enter(namespace, link.path)
    except DfsfsError as error:
        return error, targets
    resolution = location.junction.resolution
    if location.is_junction_root and resolution is not None:
        targets = targets_for(location.junction, resolution)
    return None, targets


async def _test(namespace: Namespace, pool: Pool, target: UncPath) -> CheckedTarget:
    seconds, problem = await time_of(pool, target, _begin_to_list)
    if problem is None or problem.status != NtStatus.PATH_NOT_COVERED:
        return CheckedTarget(target, seconds, problem)
    try:  # it is a link itself, of a namespace that may be another one
        location = await _enter(namespace, target)
        begun = trio.current_time()
        await namespace.run(location, _begin)
    except DfsfsError as error:
        return CheckedTarget(target, None, error)
    return CheckedTarget(target, trio.current_time() - begun, None)


async def _enter(namespace: Namespace, path: UncPath) -> Location:
    """What a program of a mount does that lists a folder. Raises DfsfsError."""
    location, _ = await namespace.find(path)
    await namespace.run(location, _begin)
    return location


async def _begin(attempt: Attempt) -> None:
    await _begin_to_list(attempt.tree, attempt.path)


async def _begin_to_list(tree: Tree, path: UncPath) -> None:
    async for _ in tree.list(path):
        break

"""A walk through a namespace: its folders and links, and where these lead. Nothing behind a link is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError
from dfsfs.namespace.junction import Covered

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Location
    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.unc import UncPath

AT_ONCE = 16
"""Folders that are listed, and links that are resolved, at the same time."""


@dataclass(frozen=True, slots=True)
class FoundLink:
    """A link. `targets` are those that the namespace names, `resolution` where they are in the end, through other
    namespaces. `problem` says why nobody knows; None if somebody does.
    """

    path: UncPath
    targets: tuple[UncPath, ...]
    resolution: Resolution | None
    problem: DfsfsError | None = None


@dataclass(slots=True)
class Survey:
    """What is in a namespace, in no order."""

    root: UncPath
    folders: list[UncPath] = field(default_factory=list)
    links: list[FoundLink] = field(default_factory=list)
    problems: list[tuple[UncPath, DfsfsError]] = field(default_factory=list)
    """Folders that can't be listed."""


async def survey(namespace: Namespace, top: Location, found: Callable[[FoundLink], None] = lambda link: None) -> Survey:
    """Walks through the folders at and below a place of a namespace; if that is a link itself, it is one of those that
    are found. `found` is called with each link at once.

    Raises:
        DfsfsError: the place itself can't be listed.
    """
    result = Survey(top.unc)
    limit = trio.CapacityLimiter(AT_ONCE)

    async def link_at(place: Location) -> None:
        async with limit:
            try:
                targets = await _targets(namespace, place.unc)
            except DfsfsError as error:
                link = FoundLink(place.unc, (), None, error)
            else:
                link = await _resolved(namespace, place.unc, targets)
        result.links.append(link)
        found(link)

    async def folder_at(place: Location, nursery: trio.Nursery) -> None:
        result.folders.append(place.unc)
        try:
            async with limit:
                entries = await namespace.entries(place)
        except Covered:
            result.folders.remove(place.unc)
            nursery.start_soon(link_at, place)
            return
        except DfsfsError as error:
            result.problems.append((place.unc, error))
            return
        begin(place, entries, nursery)

    def begin(place: Location, entries: list[DirEntry], nursery: trio.Nursery) -> None:
        for entry in entries:
            if entry.stat.is_marked_link:
                nursery.start_soon(link_at, place.child(entry.name))
            elif entry.stat.is_directory:
                nursery.start_soon(folder_at, place.child(entry.name), nursery)

    entries = await namespace.entries(top)
    async with trio.open_nursery() as nursery:
        if top.is_junction_root and len(top.unc) > 2:
            nursery.start_soon(link_at, top)
        begin(top, entries, nursery)
    return result


async def _targets(namespace: Namespace, path: UncPath) -> tuple[UncPath, ...]:
    """What the first server of the namespace that answers says of a link."""
    error = DfsfsError(f"{path}: its namespace has no server")
    for root in (await namespace.resolve(path.share)).targets:
        try:
            answer = await namespace.ask(root.path.host, root.path.join(path.components[2:]))
        except DfsfsError as failure:
            error = failure
        else:
            return tuple(entry.network_address for entry in answer.entries)
    raise error


async def _resolved(namespace: Namespace, path: UncPath, targets: tuple[UncPath, ...]) -> FoundLink:
    try:
        return FoundLink(path, targets, await namespace.resolve_link(path))
    except DfsfsError as error:
        return FoundLink(path, targets, None, error)

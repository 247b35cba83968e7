"""Enumerates a namespace: its directories and links, and where these lead. What is behind a link is not listed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError
from dfsfs.namespace.junction import PathNotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Location
    from dfsfs.smb.wire.fscc import DirEntry
    from dfsfs.unc import UncPath

MAX_CONCURRENT = 16
"""How many directories are listed, and links resolved, at the same time."""


@dataclass(frozen=True, slots=True)
class FoundLink:
    """A link. `targets` are those that the namespace names, `resolution` where they are in the end, through other
    namespaces. `problem` is the error for which that is not known; None if it is.
    """

    path: UncPath
    targets: tuple[UncPath, ...]
    resolution: Resolution | None
    problem: DfsfsError | None = None


@dataclass(slots=True)
class NamespaceLinks:
    """The content of a namespace, in no order."""

    root: UncPath
    folders: list[UncPath] = field(default_factory=list)
    links: list[FoundLink] = field(default_factory=list)
    problems: list[tuple[UncPath, DfsfsError]] = field(default_factory=list)
    """Directories that can't be listed."""


async def enumerate_links(
    namespace: Namespace, top: Location, found: Callable[[FoundLink], None] = lambda link: None
) -> NamespaceLinks:
    """Walks through the directories at and below `top`, a place in a namespace; if that is a link itself, it is one of
    the links found. `found` is called with each link at once.

    Raises:
        DfsfsError: the place itself can't be listed.
    """
    entries = await namespace.list_directory(top)
    async with trio.open_nursery() as nursery:
        enumerator = _Enumerator(namespace, NamespaceLinks(top.unc), found, nursery)
        if top.is_junction_root and len(top.unc) > 2:
            nursery.start_soon(enumerator.resolve_link, top)
        enumerator.start_entries(top, entries)
    return enumerator.result


class _Enumerator:
    """One enumeration: a task in `nursery` for each directory and each link."""

    def __init__(
        self, namespace: Namespace, result: NamespaceLinks, found: Callable[[FoundLink], None], nursery: trio.Nursery
    ) -> None:
        self._namespace = namespace
        self._found = found
        self._nursery = nursery
        self._limit = trio.CapacityLimiter(MAX_CONCURRENT)
        self.result = result

    def start_entries(self, place: Location, entries: list[DirEntry]) -> None:
        """Starts a task for each link and each directory among the entries of a directory."""
        for entry in entries:
            if entry.stat.is_marked_link:
                self._nursery.start_soon(self.resolve_link, place.child(entry.name))
            elif entry.stat.is_directory:
                self._nursery.start_soon(self._list_directory, place.child(entry.name))

    async def resolve_link(self, place: Location) -> None:
        async with self._limit:
            try:
                targets = await _get_targets(self._namespace, place.unc)
            except DfsfsError as error:
                link = FoundLink(place.unc, (), None, error)
            else:
                link = await _resolve(self._namespace, place.unc, targets)
        self.result.links.append(link)
        self._found(link)

    async def _list_directory(self, place: Location) -> None:
        self.result.folders.append(place.unc)
        try:
            async with self._limit:
                entries = await self._namespace.list_directory(place)
        except PathNotCovered:
            self.result.folders.remove(place.unc)
            self._nursery.start_soon(self.resolve_link, place)
        except DfsfsError as error:
            self.result.problems.append((place.unc, error))
        else:
            self.start_entries(place, entries)


async def _get_targets(namespace: Namespace, path: UncPath) -> tuple[UncPath, ...]:
    """The targets of a link, by the first server of the namespace that answers."""
    error = DfsfsError(f"{path}: its namespace has no server")
    for root in (await namespace.resolve(path.share)).targets:
        try:
            answer = await namespace.request_referral(root.path.host, root.path.join(path.components[2:]))
        except DfsfsError as failure:
            error = failure
        else:
            return tuple(entry.network_address for entry in answer.entries)
    raise error


async def _resolve(namespace: Namespace, path: UncPath, targets: tuple[UncPath, ...]) -> FoundLink:
    try:
        return FoundLink(path, targets, await namespace.resolve_link(path))
    except DfsfsError as error:
        return FoundLink(path, targets, None, error)

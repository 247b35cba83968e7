"""A namespace in memory: junctions, links and the way from one target to the next, on top of memory_tree.py.

It keeps the promises of `dfsfs.namespace.client.Namespace` that the file system relies on, and no others: `run` binds a
junction to its first living target, repeats after a lost connection, goes to the next target when a share is down, and
raises PathNotCovered for a path through a link. No referral, no time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from dfsfs.errors import ConnectError, DfsfsError, Disposition
from dfsfs.namespace.junction import Attempt, Junction, Location, PathNotCovered
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath
from tests.support.fakes.memory_tree import MemoryStore, MemoryTree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from dfsfs.namespace.client import Namespace
    from dfsfs.smb.tree.tree import Tree

T = TypeVar("T")

SILENCE = 11.0
"""Seconds after which a server that hangs is taken for dead."""


class MemoryNamespace:
    """`add_share` makes the shares, `add_link` the links."""

    def __init__(self) -> None:
        self.stores: dict[UncPath, MemoryStore] = {}
        self.down: set[UncPath] = set()
        self.hung: set[UncPath] = set()
        """Shares whose servers take requests and say nothing."""
        self.links: dict[UncPath, list[UncPath]] = {}
        self.trees: dict[UncPath, MemoryTree] = {}
        self.runs = 0
        self.follow_links = True
        self._junctions: dict[UncPath, Junction] = {}

    # -- for tests --------------------------------------------------------------------------------------------------

    def add_share(self, share: str) -> MemoryStore:
        path = UncPath.parse(share)
        store = self.stores[path] = MemoryStore(path)
        self.links[path] = [path]
        return store

    def add_link(self, prefix: str, *targets: str) -> None:
        """Gives a link its targets; the place in the namespace's own share has to be made by `store.add_link`."""
        self.links[UncPath.parse(prefix)] = [UncPath.parse(target) for target in targets]

    def stop(self, share: str) -> None:
        """Takes a share off the net, with all connections to it."""
        path = UncPath.parse(share)
        self.down.add(path)
        self.cut(share)

    def hang(self, share: str) -> None:
        """From now on a share's server says nothing, on whatever connection."""
        self.hung.add(UncPath.parse(share))

    def start(self, share: str) -> None:
        self.down.discard(UncPath.parse(share))

    def cut(self, share: str) -> None:
        """Kills the connection to a share; a new one can be made."""
        tree = self.trees.pop(UncPath.parse(share), None)
        if tree is not None:
            tree.kill()

    def fail_back(self, prefix: str, share: str) -> None:
        """Moves a junction to another of its targets while the one that it was on goes on working."""
        junction, target = self.junction(UncPath.parse(prefix)), UncPath.parse(share)
        self._targets(junction.prefix).sort(key=lambda known: known != target)
        junction.binding = None
        self._bind(junction)

    def root(self, prefix: str, *components: str) -> Location:
        return Location(self.junction(UncPath.parse(prefix)), components)

    def as_namespace(self) -> Namespace:
        return cast("Namespace", self)

    # -- what the file system uses ----------------------------------------------------------------------------------

    def junction(self, prefix: UncPath) -> Junction:
        return self._junctions.setdefault(prefix, Junction(prefix))

    has_static_links = False

    def run(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        return self._run(location, operation)

    def run_hedged(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        return self._run(location, operation)

    def refresh_if_due(self, junction: Junction) -> None:
        """There is no time here."""

    async def _run(self, location: Location, operation: Callable[[Attempt], Awaitable[T]]) -> T:
        self.runs += 1
        junction, is_replay = location.junction, False
        for _ in range(2 * len(self._targets(junction.prefix)) + 1):
            binding = self._bind(junction)
            attempt = Attempt(binding, binding.target.join(location.components), is_replay)
            if binding.target.share in self.hung:
                await trio.sleep(SILENCE)
                raise ConnectError(binding.target.host, NtStatus.IO_TIMEOUT, "hangs")
            try:
                return await operation(attempt)
            except DfsfsError as error:
                if error.disposition is Disposition.REFER and self.follow_links:
                    raise PathNotCovered(self._link_on(location.unc)) from None
                if error.disposition is not Disposition.RECONNECT:
                    raise
                is_replay = True
                self.cut(str(binding.tree.share))
        raise AssertionError("the namespace went in circles")

    def _bind(self, junction: Junction) -> Any:
        binding = junction.binding
        if binding is not None and binding.tree.alive:
            return binding
        targets = self._targets(junction.prefix)
        if binding is not None:
            targets = sorted(targets, key=lambda target: target != binding.target)
        for target in targets:
            if target.share not in self.down:
                tree = self.trees.get(target.share)
                if tree is None:
                    tree = self.trees[target.share] = MemoryTree(self.stores[target.share])
                junction.refresh_at = math.inf
                return junction.bind(target, cast("Tree", tree), 0.0)
        raise ConnectError(targets[0].host, NtStatus.HOST_UNREACHABLE, "is down")

    def _targets(self, prefix: UncPath) -> list[UncPath]:
        """Those of the link that is spelled so; if there is none, of one in another case, as servers do it."""
        return self.links[next(known for known in prefix.nearest_of(self.links) if len(known) == len(prefix))]

    def _link_on(self, path: UncPath) -> UncPath:
        return UncPath(path.components[: len(path.nearest_of(self.links)[0])])

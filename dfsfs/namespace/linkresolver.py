"""Resolves the paths of links, as far as it takes: one resolution may be too shallow, or lead back to where it began.

Nothing here connects to a target or changes a junction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dfsfs.dfsc.resolver import NOT_A_LINK_STATUSES
from dfsfs.errors import DfsfsError, NamespaceLoop, SmbError
from dfsfs.namespace.targets import is_self_referral

if TYPE_CHECKING:
    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.junction import Junction
    from dfsfs.unc import UncPath


class PathResolver(Protocol):
    """What junctions need of the resolution of paths. `ReferralClient` is the implementation."""

    async def resolve(self, path: UncPath, *, not_covered: bool = False, fresh: bool = False) -> Resolution:
        """Finds the targets that stand for `path`. `not_covered`: a server answered PATH_NOT_COVERED for it. `fresh`:
        entries of the cache past their soft time-out are asked for again.

        Raises:
            DfsfsError: no server gives a referral, or the path is a loop.
        """
        ...

    def set_hint(self, resolution: Resolution, target: UncPath) -> None:
        """Makes `target`, one of `resolution`, the hint of its cache entry: it was used with success."""
        ...


class LinkResolver:
    """Resolves for the junctions of one mount. `max_hops`: how many namespaces a path may lead through."""

    def __init__(self, resolver: PathResolver, max_hops: int) -> None:
        self._resolver = resolver
        self.max_hops = max_hops

    async def resolve_link(self, prefix: UncPath) -> Resolution:
        """Where the link at `prefix` leads. A referral that stands for less of its path is not yet the answer, unless
        there is none that stands for more: then the link has become a directory, and the target above it has that.

        Raises:
            DfsfsError: no server gives a referral, or the path is a loop.
        """
        resolution = await self._resolver.resolve(prefix)
        for _ in range(self.max_hops):
            if resolution.referral is None or prefix.is_prefix_of(resolution.path_consumed):
                break
            try:
                # Perhaps more than once: the first time it may turn out that there is a namespace behind the root.
                resolution = await self._resolver.resolve(prefix, not_covered=True)
            except SmbError as error:
                if error.status not in NOT_A_LINK_STATUSES:
                    raise
                break
        return resolution

    async def resolve_below(self, junction: Junction, path: UncPath, refused: UncPath) -> Resolution:
        """What stands for `path`, at or below the junction, when its target `refused` has answered PATH_NOT_COVERED.

        Raises:
            NamespaceLoop: after `max_hops` resolutions it is still `refused`.
            DfsfsError: no server gives a referral.
        """
        # Another operation may have found the link already: then that is in the cache, and deep enough.
        resolution = await self._resolver.resolve(path)
        for _ in range(self.max_hops):
            if not is_self_referral(junction, resolution, refused):
                return resolution
            resolution = await self._resolver.resolve(path, not_covered=True)
        raise self.make_loop_error(path)

    async def resolve_behind(self, junction: Junction, target: UncPath) -> Resolution | None:
        """The targets behind `target`, which is no share, if it is a namespace of its own; None if it is not.

        The roots of Samba with `msdfs proxy` are such: they answer referrals and nothing else.
        """
        try:
            resolution = await self._resolver.resolve(junction.prefix, not_covered=True)
        except DfsfsError:
            return None
        return None if is_self_referral(junction, resolution, target) else resolution

    def make_loop_error(self, path: UncPath) -> NamespaceLoop:
        """The error for a path that is referred on too often."""
        return NamespaceLoop(f"{path} leads through more than {self.max_hops} namespaces, or back to itself")

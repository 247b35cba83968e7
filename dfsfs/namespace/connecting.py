"""Connects targets: one of several that stand for the same, in a race (dfsfs/racing.py), or one by itself.

What a race covers is what needs no login: TCP, NEGOTIATE, and a tree connect on a session that is there. Whoever has to
log in for its tree connect waits for its turn, so that a wrong password counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError, Disposition, WireError
from dfsfs.racing import RaceResult, race

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.namespace.reachability import Reachability
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.treeprovider import TreeProvider
    from dfsfs.unc import UncPath


class Connector:
    """See the module's text. One per mount."""

    def __init__(self, pool: TreeProvider, reachability: Reachability) -> None:
        self._pool = pool
        self._reachability = reachability

    async def connect_first(
        self,
        targets: Sequence[UncPath],
        on_failure: Callable[[UncPath, DfsfsError], None],
        try_next: Callable[[DfsfsError], bool],
    ) -> RaceResult[UncPath, Tree]:
        """Tree connects to the targets' shares until one succeeds, or fails in a way that is an answer (`try_next` says
        no). `on_failure` hears of each failure at once. Raises nothing of DfsfsError.
        """
        login_lock = trio.Lock()

        async def attempt(target: UncPath) -> Tree:
            try:
                return await self.tree(target, login_lock)
            except DfsfsError as error:
                on_failure(target, error)
                raise

        finish = await race(targets, attempt, try_next)
        for target, _ in finish.winners:
            self._reachability.note_answer(target.host)
            for late in finish.late:
                self._reachability.late(late.host)
        return finish

    async def tree(self, target: UncPath, login_lock: trio.Lock) -> Tree:
        """A tree connect to one target's share. `login_lock`: of those that are tried together, for who has to log in.

        Raises:
            DfsfsError: as Pool.connect_tree; WireError, the target names no share.
        """
        if len(target) < 2:
            raise WireError(f"the DFS target {target} names no share")
        async with self._pool.hold_connection(target.host):
            if self._pool.is_logged_in(target.host):
                return await self._tree(target)
            async with login_lock:
                return await self._tree(target)

    async def _tree(self, target: UncPath) -> Tree:
        """A tree connect to the target's share.

        Done twice if need be: the first one may have found out that an idle connection is long dead.
        """
        try:
            return await self._pool.connect_tree(target.share)
        except DfsfsError as error:
            if error.disposition not in (Disposition.RECONNECT, Disposition.RETRY):
                raise
        return await self._pool.connect_tree(target.share)

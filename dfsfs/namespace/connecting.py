"""Connects targets: one of several that stand for the same, in a race (dfsfs/racing.py), or one by itself.

What a race covers is what needs no login: TCP, NEGOTIATE, and a tree connect on a session that is there. An attempt
that has to log in for its tree connect waits for the race's login lock, so that a wrong password counts once.
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
        """Tree connects to the targets' shares until one succeeds, or fails with an error for which `try_next` is
        False. `on_failure` is called with each failure at once. Raises no DfsfsError.
        """
        login_lock = trio.Lock()

        async def attempt(target: UncPath) -> Tree:
            try:
                return await self.connect(target, login_lock)
            except DfsfsError as error:
                on_failure(target, error)
                raise

        result = await race(targets, attempt, try_next)
        for target, _ in result.winners:
            self._reachability.note_answer(target.host)
            for silent in result.late:
                self._reachability.note_silence(silent.host)
        return result

    async def connect(self, target: UncPath, login_lock: trio.Lock) -> Tree:
        """A tree connect to one target's share. `login_lock` is held for it if it takes a login: targets that are tried
        together share one.

        Raises:
            DfsfsError: as Pool.connect_tree; WireError, the target names no share.
        """
        if len(target) < 2:
            raise WireError(f"the DFS target {target} names no share")
        async with self._pool.hold_connection(target.host):
            if self._pool.is_logged_in(target.host):
                return await self._connect_tree(target)
            async with login_lock:
                return await self._connect_tree(target)

    async def _connect_tree(self, target: UncPath) -> Tree:
        """A tree connect, once more if need be: the first one may find out that an idle connection is long dead."""
        try:
            return await self._pool.connect_tree(target.share)
        except DfsfsError as error:
            if error.disposition not in (Disposition.RECONNECT, Disposition.RETRY):
                raise
        return await self._pool.connect_tree(target.share)

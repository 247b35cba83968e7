"""Questions to a namespace of which one server is silent: they go to another one as well.

A connection is taken for dead after ten seconds of silence, and for good reasons: what is open there is lost. A
question loses nothing. So one that a namespace's server has not answered after heat.HEAD_START seconds is put to the
other targets of the root as well, those of the same target set; the first answer counts. The junction stays where it
is: if its server is dead, that will come out and move it, and if it is not, nothing has happened.

What this is not for: targets outside the namespace, whose files are only in the end the same on all of them, and
whatever changes or opens something.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from dfsfs.errors import SERVER_FAULTS, ConnectError, DfsfsError, Disposition
from dfsfs.happyeyeballs import ATTEMPT_DELAY
from dfsfs.namespace.junction import Attempt, Location, PathNotCovered, TargetBinding
from dfsfs.namespace.targets import is_dfs
from dfsfs.ntstatus import NtStatus
from dfsfs.racing import race

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.connecting import Connector
    from dfsfs.namespace.junction import Junction
    from dfsfs.namespace.reachability import Reachability
    from dfsfs.namespace.targets import TargetOrder
    from dfsfs.unc import UncPath

T = TypeVar("T")


class Hedge:
    """See the module's text. `resolve_deeper`: what stands for a place when a target does not (failover.py)."""

    def __init__(
        self,
        order: TargetOrder,
        connector: Connector,
        reachability: Reachability,
        resolve_deeper: Callable[[Location, UncPath], Awaitable[Resolution]],
    ) -> None:
        self._order = order
        self._connector = connector
        self._reachability = reachability
        self._resolve_deeper = resolve_deeper

    async def ask(
        self, location: Location, operation: Callable[[Attempt], Awaitable[T]], run: Callable[[], Awaitable[T]]
    ) -> T:
        """What `run` gives, which awaits `operation` where the location's junction is; or the operation on another
        target, if that is faster after a while. Raises as `run`.
        """
        others = self._others(location.junction)
        if not others:
            return await run()
        host = others[0].host
        if not self._reachability.is_suspect(host):
            with trio.move_on_after(ATTEMPT_DELAY):
                return await run()
            self._reachability.late(host)  # who resolves what comes of it is not to wait for it, too
        asks: dict[bool, Callable[[], Awaitable[T]]] = {
            True: run,
            False: partial(self._ask_others, location, operation, others[1:]),
        }
        finish = await race(asks, lambda own: asks[own](), _goes_on, attempt_delay=0)
        for own, result in finish.winners:
            if own:
                self._reachability.note_answer(host)
            return result
        if finish.is_final:
            raise finish.failures[-1][1]
        raise next(error for own, error in finish.failures if own)

    def _others(self, junction: Junction) -> list[UncPath]:
        """The target in use, and those that may be asked instead; none if there are no such."""
        binding = junction.binding
        if binding is None or not binding.tree.alive or not binding.tree.is_dfs or not is_dfs(junction):
            return []
        group = self._order.next_group(junction, ())
        if len(group) < 2 or binding.target not in group:
            return []
        return [binding.target, *(target for target in group if target != binding.target)]

    async def _ask_others(
        self, location: Location, operation: Callable[[Attempt], Awaitable[T]], targets: Sequence[UncPath]
    ) -> T:
        login_lock = trio.Lock()

        async def ask(target: UncPath) -> T:
            tree = await self._connector.tree(target, login_lock)
            binding = TargetBinding(target, tree, location.junction.generation)
            try:
                return await operation(Attempt(binding, target.join(location.components), False, location.moment))
            except DfsfsError as error:
                if error.disposition is not Disposition.REFER:
                    raise
            resolution = await self._resolve_deeper(location, target)
            if resolution.covered.is_prefix_of(location.junction.prefix):
                raise ConnectError(target.host, NtStatus.BAD_NETWORK_PATH, f"{location.unc} is not there")
            raise PathNotCovered(resolution.covered)

        finish = await race(targets, ask, _goes_on)
        for _, result in finish.winners:
            return result
        raise finish.failures[-1][1]


def _goes_on(error: DfsfsError) -> bool:
    return error.disposition in SERVER_FAULTS

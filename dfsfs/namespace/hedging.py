"""Hedged requests: an operation that changes nothing goes to other servers of a namespace while the first is silent.

A connection is taken for dead after ten seconds of silence, and for good reasons: what is open there is lost. A
question loses nothing. So one that a namespace's server has not answered after ATTEMPT_DELAY seconds is sent to the
other targets of the root as well, those of the same target set; the first answer counts. The junction stays where it
is: if its server is dead, an operation will find that out and move it (failover.py), and if it is not, nothing has
happened.

Not for targets outside the namespace, whose files are only in the end the same on all of them, nor for operations that
change or open something.
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

    from dfsfs.namespace.connecting import Connector
    from dfsfs.namespace.junction import Junction
    from dfsfs.namespace.linkresolver import LinkResolver
    from dfsfs.namespace.reachability import Reachability
    from dfsfs.namespace.targets import TargetOrder
    from dfsfs.unc import UncPath

T = TypeVar("T")


class Hedge:
    """See the module's text. One per mount."""

    def __init__(
        self, order: TargetOrder, connector: Connector, reachability: Reachability, links: LinkResolver
    ) -> None:
        self._order = order
        self._connector = connector
        self._reachability = reachability
        self._links = links

    async def run(
        self,
        junction: Junction,
        location: Location,
        operation: Callable[[Attempt], Awaitable[T]],
        run_on_junction: Callable[[], Awaitable[T]],
    ) -> T:
        """The result of `run_on_junction`, which awaits `operation` where the junction is; or of the operation on
        another target, if that is faster after a while. Raises as `run_on_junction`.
        """
        targets = self._get_targets(junction)
        if not targets:
            return await run_on_junction()
        first, others = targets[0].host, targets[1:]
        if not self._reachability.is_suspect(first):
            with trio.move_on_after(ATTEMPT_DELAY):
                return await run_on_junction()
            # The resolution of what the others answer must not wait for this server, too.
            self._reachability.note_silence(first)
        attempts: dict[bool, Callable[[], Awaitable[T]]] = {
            True: run_on_junction,
            False: partial(self._run_on_others, junction, location, operation, others),
        }
        result = await race(attempts, lambda on_junction: attempts[on_junction](), _try_next, attempt_delay=0)
        for on_junction, value in result.winners:
            if on_junction:
                self._reachability.note_answer(first)
            return value
        if result.is_final:
            raise result.failures[-1][1]
        raise next(error for on_junction, error in result.failures if on_junction)

    def _get_targets(self, junction: Junction) -> list[UncPath]:
        """The target in use, and after it those that may be asked instead; an empty list if there are no such."""
        binding = junction.binding
        if binding is None or not binding.tree.alive or not binding.tree.is_dfs or not is_dfs(junction):
            return []
        group = self._order.next_group(junction, ())
        if len(group) < 2 or binding.target not in group:
            return []
        return [binding.target, *(target for target in group if target != binding.target)]

    async def _run_on_others(
        self,
        junction: Junction,
        location: Location,
        operation: Callable[[Attempt], Awaitable[T]],
        targets: Sequence[UncPath],
    ) -> T:
        """The operation's first result on one of `targets`, in a race.

        Raises:
            PathNotCovered: a link begins below the junction.
            DfsfsError: the last failure.
        """
        login_lock = trio.Lock()

        async def attempt_on(target: UncPath) -> T:
            tree = await self._connector.connect(target, login_lock)
            binding = TargetBinding(target, tree, junction.generation)
            path = target.join(location.components)
            try:
                return await operation(Attempt(binding, path, False, location.snapshot_time))
            except DfsfsError as error:
                if error.disposition is not Disposition.REFER:
                    raise
            resolution = await self._links.resolve_below(junction, location.unc, target)
            if resolution.path_consumed.is_prefix_of(junction.prefix):
                raise ConnectError(target.host, NtStatus.BAD_NETWORK_PATH, f"{location.unc} is not there")
            raise PathNotCovered(resolution.path_consumed)

        result = await race(targets, attempt_on, _try_next)
        for _, value in result.winners:
            return value
        raise result.failures[-1][1]


def _try_next(error: DfsfsError) -> bool:
    return error.disposition in SERVER_FAULTS

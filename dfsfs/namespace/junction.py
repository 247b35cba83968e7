"""What the nodes of a mount hold on to: junctions, the places below them, and one try of an operation at such a place.

A Junction is a DFS root or DFS link that shows in the mount as a directory, named by its namespace path (`prefix`).
Nodes hold a Location: a junction and the components below it. Which server and share that leads to at the moment is
known to the junction alone, as its `binding`; moving to another target is one assignment to it together with a higher
`generation` (MS-DFSC 3.1.1, TargetHint). A file handle remembers the generation that it was opened under and so
notices the move.

Invariants:
- There is one Junction object for each spelling of a namespace path in a mount (see UncPath, `Namespace.junction`):
  links `Case` and `case` may lead to different places. Where a server takes two spellings for one, there are two. It
  stays while a node is at it or below it, and of the others the last KEPT_JUNCTIONS do (client.py): a name of twenty
  letters has a million spellings.
- `generation` grows by one whenever the target differs from the one before, and only then; it never falls. A new
  connection to the same target makes a new binding of the same generation.
- `binding.generation` is the junction's. A binding whose tree has died stays until it is replaced.
- In a mount of many users each of them has a twin of the junction, with a binding of their own (`mine`). Nodes hold
  the one that they share, which has a path and is never bound; whoever asks a Location for its junction gets the
  caller's.
- `lock` is held while the binding is being replaced and by nobody else; nobody holds two of them. Between two awaits
  the fields change together, so whoever reads them without the lock sees one state and not half of another.

What this does not do: it never binds, resolves, retries or waits (failover.py and client.py do).
"""

from __future__ import annotations

import errno as _errno
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from dfsfs.acting import ROOT, Caller, caller
from dfsfs.errors import DfsfsError, Disposition
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from dfsfs.dfsc.walk import Resolution
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath

REFRESH_FLOOR = 1.0
"""Seconds that a referral is used at least, so that a time to live of 0 doesn't cost a request for each operation."""


@dataclass(frozen=True, slots=True)
class TargetBinding:
    """Where a junction leads at the moment."""

    target: UncPath
    """The path on a server that stands for the junction's prefix: a share or a directory in one."""
    tree: Tree
    """The tree connect to the share of `target`."""
    generation: int
    """The junction's generation when this was bound."""


@dataclass(frozen=True, slots=True)
class BindFailure:
    """A bind that failed not long ago. Callers that come before `until` are told so without another try."""

    error: DfsfsError
    until: float
    """Seconds of the namespace's clock."""
    skipped: frozenset[UncPath]
    """The targets that were left out of that bind: it says nothing about them."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Junction:
    """A DFS root or link in the mount (or a plain share, where there is no DFS). Compares and hashes by identity."""

    prefix: UncPath
    """Its namespace path."""
    lock: trio.Lock = field(default_factory=trio.Lock, repr=False)
    resolution: Resolution | None = field(default=None, repr=False)
    """The referral that the candidates for a binding come from."""
    binding: TargetBinding | None = None
    generation: int = 0
    refresh_at: float = math.inf
    """When `resolution` should be asked for again, in seconds of the namespace's clock."""
    too_old_at: float = math.inf
    """When it must be, before anything else is done."""
    bound_at: float = -math.inf
    """When the junction came to the target it is on."""
    confirmed: TargetBinding | None = field(default=None, repr=False)
    """The last binding under which an operation succeeded, as far as the referral cache was told."""
    loops: bool = field(default=False, repr=False)
    """Whether the last operation found that it leads back to itself: connected, and of no use."""
    failure: BindFailure | None = field(default=None, repr=False)
    last_target: UncPath | None = field(default=None, repr=False)
    """The target of the last binding, kept when the binding itself is given up."""
    twins: dict[int, Junction] | None = field(default=None, repr=False)
    """Those of the users, by their numbers; None: the mount has one login, or this is a user's."""
    owner: Caller = ROOT
    """The user whose junction this is."""

    @property
    def mine(self) -> Junction:
        """The junction as it is for the user that this task works for."""
        if self.twins is None:
            return self
        who = caller()
        twin = self.twins.get(who.uid)
        if twin is None:
            twin = self.twins[who.uid] = Junction(self.prefix, owner=who)
        return twin

    def adopt(self, resolution: Resolution, now: float) -> None:
        """Makes `resolution`, of the prefix or a path below it, the one that the targets come from."""
        self.resolution = resolution
        self.refresh_at = max(resolution.expires, now + REFRESH_FLOOR)
        self.too_old_at = max(resolution.hard_expires, now + REFRESH_FLOOR)

    def bind(self, target: UncPath, tree: Tree, now: float) -> TargetBinding:
        """Makes `target`, reached through `tree`, the place that this junction leads to."""
        if self.last_target != target:
            self.generation += 1
            self.last_target = target
            self.bound_at = now
        self.binding = TargetBinding(target, tree, self.generation)
        self.failure = None
        return self.binding

    def note_loop(self) -> None:
        """An operation found that the junction leads back to itself. The next one that succeeds takes that back."""
        self.loops, self.confirmed = True, None

    def release(self) -> None:
        """Gives the binding and its referral up, so that the next operation resolves and binds anew."""
        self.binding = None
        self.resolution = None
        self.refresh_at = self.too_old_at = math.inf

    def check_invariants(self) -> None:
        """For tests: asserts what the module docstring promises of one junction."""
        if self.binding is not None:
            assert self.resolution is not None
            assert self.binding.generation == self.generation
            assert self.binding.target == self.last_target
        assert (self.generation == 0) == (self.last_target is None)


@dataclass(frozen=True, slots=True)
class Location:
    """A file or directory of the mount: so many components below a junction. The same before and after a failover."""

    shared: Junction
    """The junction as all users of the mount know it: see `Junction.mine`."""
    components: tuple[str, ...] = ()
    moment: int | None = None
    """The time of the snapshot that it is in, in 100 ns since 1601; None: it is as it is now."""

    @property
    def junction(self) -> Junction:
        """The junction that this is below, for the user that this task works for."""
        return self.shared.mine

    def child(self, name: str) -> Location:
        """The entry `name` (as it goes on the wire) of this directory."""
        return Location(self.shared, (*self.components, name), self.moment)

    def at(self, moment: int) -> Location:
        """The same place as it was when a snapshot was taken."""
        return replace(self, moment=moment)

    @property
    def unc(self) -> UncPath:
        """The namespace path.

        Raises:
            UncError: a component can't be part of a UNC path.
        """
        return self.shared.prefix.join(self.components)

    @property
    def is_junction_root(self) -> bool:
        return not self.components


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of an operation: what `Namespace.run` hands to it."""

    binding: TargetBinding
    path: UncPath
    """The location's path on the target, in the share of `tree`."""
    repeated: bool
    """Whether an earlier try was sent and then lost: the server may have carried it out."""
    moment: int | None = None
    """The time at which the target is looked at, as in Location."""

    @property
    def tree(self) -> Tree:
        return self.binding.tree if self.moment is None else self.binding.tree.at(self.moment)


class Covered(DfsfsError):
    """The path leads through a DFS link that the mount did not know of. `prefix` is the link's namespace path.

    Whoever catches it makes a junction of `prefix` and goes on below that; a program never gets to see it.
    """

    def __init__(self, prefix: UncPath) -> None:
        super().__init__(f"{prefix} is a DFS link", NtStatus.PATH_NOT_COVERED)
        self.prefix = prefix

    @property
    def errno(self) -> int:
        return _errno.EREMOTE

    @property
    def disposition(self) -> Disposition:
        return Disposition.RETURN

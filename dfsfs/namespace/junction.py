"""Junctions, the places below them, and one attempt of an operation at such a place.

A Junction is a DFS root or DFS link that shows in the mount as a directory, named by its namespace path (`prefix`).
An inode holds a Location: a junction and the components below it. The server and share behind it are in the
junction's `binding` and nowhere else; moving to another target is one assignment to it together with a higher
`generation` (MS-DFSC 3.1.1, TargetHint). A file handle remembers the generation that it was opened under and so
notices the move.

Invariants:
- There is one Junction object for each spelling of a namespace path in a mount (see UncPath, `Namespace.junction`):
  links `Case` and `case` may lead to different places. Where a server takes two spellings for one, there are two. It
  stays while an inode is at it or below it, and of the others the last MAX_RECENT_JUNCTIONS do (client.py): a name of
  twenty letters has a million spellings.
- `generation` grows by one whenever the target differs from the one before, and only then; it never falls. A new
  connection to the same target makes a new binding of the same generation.
- `binding.generation` is the junction's. A binding whose tree has died stays until it is replaced.
- In a mount of many users each of them has a junction of their own (`per_user`), with its own referral and binding.
  Locations hold the one that all users share; it has a path and is never bound. `for_caller` gives the user's:
  `Failover.run` asks for it once, at the beginning, and passes it on.
- `lock` is held while the binding is being replaced (binding.py), and at no other time; no task holds two of them.
  Between two awaits the fields change together, so a task that reads them without the lock sees one state and not half
  of another.

This module neither binds, resolves, retries nor waits: see binding.py, linkresolver.py and failover.py.
"""

from __future__ import annotations

import errno as _errno
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from dfsfs.caller import ROOT, Caller, current_caller
from dfsfs.errors import DfsfsError, Disposition
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath

REFRESH_FLOOR = 1.0
"""The shortest time to live of a referral, in seconds: one of 0 must not cost a request for each operation."""


@dataclass(frozen=True, slots=True)
class TargetBinding:
    """The target that a junction is on."""

    target: UncPath
    """The path on a server that stands for the junction's prefix: a share or a directory in one."""
    tree: Tree
    """The tree connect to the share of `target`."""
    generation: int
    """The junction's generation when this was bound."""


@dataclass(frozen=True, slots=True)
class BindFailure:
    """A bind that failed not long ago. Operations that come before `until` fail with its error at once."""

    error: DfsfsError
    until: float
    """Seconds of the namespace's clock."""
    skipped: frozenset[UncPath]
    """The targets that were left out of that bind: it says nothing about them."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Junction:
    """A DFS root or link in the mount (or a plain share, where there is no DFS). Compares and hashes by identity.

    Times are in seconds of the namespace's clock.
    """

    prefix: UncPath
    """Its namespace path."""
    lock: trio.Lock = field(default_factory=trio.Lock, repr=False)
    resolution: Resolution | None = field(default=None, repr=False)
    """The referral that the candidates for a binding come from."""
    binding: TargetBinding | None = None
    generation: int = 0
    refresh_at: float = math.inf
    """The soft time-out of `resolution`: from then on it is asked for again in the background."""
    hard_expires_at: float = math.inf
    """Its hard time-out: from then on operations wait for a new one."""
    bound_at: float = -math.inf
    """When the junction came to the target it is on."""
    confirmed_binding: TargetBinding | None = field(default=None, repr=False)
    """The last binding under which an operation succeeded and of which the referral cache was told."""
    is_loop: bool = field(default=False, repr=False)
    """Whether the last operation found that it leads back to itself: connected, and of no use."""
    failure: BindFailure | None = field(default=None, repr=False)
    last_target: UncPath | None = field(default=None, repr=False)
    """The target of the last binding, kept when the binding itself is given up."""
    per_user: dict[int, Junction] | None = field(default=None, repr=False)
    """Those of the users, by their uids; None in a mount with one login, and in a user's own."""
    owner: Caller = ROOT
    """The user whose junction this is."""

    def for_caller(self) -> Junction:
        """The junction of the user that this task works for; in a mount with one login this one."""
        if self.per_user is None:
            return self
        who = current_caller()
        own = self.per_user.get(who.uid)
        if own is None:
            own = self.per_user[who.uid] = Junction(self.prefix, owner=who)
        return own

    def set_resolution(self, resolution: Resolution, now: float) -> None:
        """Makes `resolution`, of the prefix or a path below it, the one that the targets come from."""
        self.resolution = resolution
        self.refresh_at = max(resolution.expires, now + REFRESH_FLOOR)
        self.hard_expires_at = max(resolution.hard_expires, now + REFRESH_FLOOR)

    def bind(self, target: UncPath, tree: Tree, now: float) -> TargetBinding:
        """Makes `target`, reached through `tree`, the place that this junction leads to."""
        if self.last_target != target:
            self.generation += 1
            self.last_target = target
            self.bound_at = now
        self.binding = TargetBinding(target, tree, self.generation)
        self.failure = None
        return self.binding

    def unbind(self) -> None:
        """Gives up the binding and its referral, so that the next operation resolves and binds anew."""
        self.binding = None
        self.resolution = None
        self.refresh_at = self.hard_expires_at = math.inf

    def mark_loop(self) -> None:
        """An operation found that the junction leads back to itself. The next one that succeeds takes that back."""
        self.is_loop, self.confirmed_binding = True, None

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

    junction: Junction
    """The junction as all users of the mount share it: the caller's own is `junction.for_caller()`."""
    components: tuple[str, ...] = ()
    snapshot_time: int | None = None
    """The time of the snapshot that it is in, in 100 ns since 1601; None: it is as it is now."""

    def child(self, name: str) -> Location:
        """The entry `name` (as it goes on the wire) of this directory."""
        return Location(self.junction, (*self.components, name), self.snapshot_time)

    def below(self, names: Iterable[str]) -> Location:
        """What so many names lead to, from this directory on."""
        return Location(self.junction, (*self.components, *names), self.snapshot_time)

    def at(self, snapshot_time: int) -> Location:
        """The same place as it was when a snapshot was taken, in 100 ns since 1601."""
        return replace(self, snapshot_time=snapshot_time)

    @property
    def unc(self) -> UncPath:
        """The namespace path.

        Raises:
            UncError: a component can't be part of a UNC path.
        """
        return self.junction.prefix.join(self.components)

    @property
    def is_junction_root(self) -> bool:
        return not self.components


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of an operation: what `Namespace.run` passes to it."""

    binding: TargetBinding
    path: UncPath
    """The location's path on the target, in the share of `tree`."""
    is_replay: bool
    """Whether an earlier attempt was sent and then lost: the server may have carried it out."""
    snapshot_time: int | None = None
    """The time at which the target is looked at, as in Location."""

    @property
    def tree(self) -> Tree:
        """The tree connect to the target's share, in the snapshot if there is one."""
        return self.binding.tree if self.snapshot_time is None else self.binding.tree.at(self.snapshot_time)


class PathNotCovered(DfsfsError):
    """The path leads through a DFS link that the mount did not know of: a server answered STATUS_PATH_NOT_COVERED, and
    a referral says which link that is. `prefix` is the link's namespace path.

    The file system makes a junction of `prefix` and goes on below that; no program gets to see this error.
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

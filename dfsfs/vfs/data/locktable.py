"""LockTable: byte-range locks as fcntl(2) has them, and flock(2)'s, with the requests that wait for them.

A lock is a range of bytes of a file, READ (shared) or WRITE (exclusive), and belongs to an owner. Ranges of one owner
do not overlap: a new one replaces what that owner had of its bytes, so it splits, shortens, upgrades or downgrades the
older ones, and joins those of its kind that it overlaps or touches. Two owners are in each other's way where their
ranges overlap and one of them is WRITE. `flock` locks are kept in a table of their own, as ranges of all bytes: the two
kinds have nothing to do with each other (flock(2), NOTES).

Owners. The kernel gives a number that stands for a process (its table of descriptors: locks of fcntl) or for an open
file description (struct file: F_OFD_SETLK, flock). It does not say which of the two it is. A process lets go of its
locks of a file when it closes any descriptor of it (`release_owner`), a description when it ends, and with it the
handle that its locks were got through (`release_handle`).

Waiting. A request that may wait is queued by file, in the order of arrival. Whenever something gets free, those that
nothing is in the way of any more get their locks, in that order. As in Linux, a request that comes later and that no
lock is in the way of need not wait for those in the queue: who waits holds nothing.

Deadlocks. A request that would wait for an owner that waits for it, through any number of others and files, gets
EDEADLK. fcntl(2) has that for processes and not for open file descriptions. A process has one pid and shares it with no
other owner, so a circle in which one owner has two pids, or two owners have one, is not of processes alone, and waits.

flock. A lock that is to be converted is given up first, and is lost if the new one can't be had; but nobody who waits
gets in between, as in Linux.

Bounds. LockBounds: a lock or a request beyond them is refused with ENOLCK.

Invariants (check_invariants): ranges of an owner are in order, and none overlaps or touches one of its kind; no two
owners are in each other's way; something is in the way of each request that waits; nothing is kept of a file without
locks and requests.

Source: fcntl(2), flock(2), IEEE 1003.1-2017 (fcntl), and Linux, as tests/unit/vfs/test_linux_locks.py asks it.
Pure: a request that waits is told of its end by a function that it has brought along.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, TypeVar

from dfsfs.errors import PosixError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OFFSET_MAX = 2**63 - 1
"""The last byte that a lock can be of (the kernel's OFFSET_MAX): `end` of a lock to the end of the file and beyond."""
DEADLOCK_STEPS = 40_000
"""Steps of a search for a deadlock, which then counts as none: some 10 ms. Linux goes from one owner to the next ten
times. A step is one look at a range; to go on to a further request that waits takes as long as STEPS_EACH."""
STEPS_EACH = 64
DEADLOCK = "who has the lock waits for a lock of this program"

F = TypeVar("F")
"""What stands for a file: hashable."""


class LockKind(IntEnum):
    """`l_type` of struct flock, with the numbers of Linux."""

    READ = 0
    WRITE = 1
    UNLOCK = 2


@dataclass(frozen=True, slots=True)
class ByteRangeLock:
    """A lock, or what is asked for. `start`: its first byte; `end`: its last one, inclusive, at most OFFSET_MAX.

    `pid`: the process that has asked for it, as the kernel gives it; 0 if the kernel gives none. Of a lock of an open
    file description, which processes may share, it is the one that has asked.

    Raises:
        PosixError: EINVAL, these are no bytes of a file.
    """

    kind: LockKind
    start: int
    end: int
    pid: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= OFFSET_MAX:
            raise PosixError(errno.EINVAL, f"a lock of the bytes {self.start} to {self.end}")


@dataclass(frozen=True, slots=True)
class LockBounds:
    """How much a LockTable keeps. A range takes some 200 bytes, a request the task that waits besides."""

    ranges_of_file: int = 16_384
    ranges: int = 65_536
    waiters_of_file: int = 1_024
    waiters: int = 4_096


@dataclass(frozen=True, slots=True)
class LockStatistics:
    """How many ranges are held, and how many requests wait."""

    ranges: int
    waiters: int


@dataclass(frozen=True, slots=True)
class _Range:
    """A range that is held or asked for, and the handle that it was got through."""

    kind: LockKind
    start: int
    end: int
    pid: int
    handle: int

    def is_in_the_way_of(self, other: _Range) -> bool:
        """Whether two owners can't have both."""
        return bool(self.kind or other.kind) and self.start <= other.end and other.start <= self.end


@dataclass(slots=True, eq=False)
class LockWaiter(Generic[F]):
    """A request that waits. `on_end` is called once, with None when it has got its lock and with the error if it gets
    none; not after `LockTable.cancel`.
    """

    file: F
    owner: int
    wanted: _Range
    on_end: Callable[[PosixError | None], None]


@dataclass(slots=True, eq=False)
class _File(Generic[F]):
    """The locks of a file, and the requests that wait, in the order of arrival."""

    owners: dict[int, list[_Range]] = field(default_factory=dict)
    """By owner, in the order of the first lock that each has; its ranges by their place."""
    waiters: dict[LockWaiter[F], None] = field(default_factory=dict)
    ranges: int = 0

    def conflicts(self, owner: int, wanted: _Range) -> Iterator[tuple[int, _Range]]:
        """The first range of each other owner that is in the way, with its owner, in the order of `owners`."""
        for other, ranges in self.owners.items():
            if other == owner:
                continue
            at = 0 if len(ranges) == 1 else bisect_left(ranges, wanted.start, key=_end)
            while at < len(ranges) and ranges[at].start <= wanted.end:
                if ranges[at].is_in_the_way_of(wanted):
                    yield other, ranges[at]
                    break
                at += 1


_start, _end = attrgetter("start"), attrgetter("end")
_Path = tuple[tuple[int, int], "_Path | None"]
"""A way from a request to owners that it waits for: the last owner with a pid that it was seen with, and the rest."""


class LockTable(Generic[F]):
    """See the module's text. `flock`: whether it is for locks of flock."""

    def __init__(self, bounds: LockBounds | None = None, *, flock: bool = False) -> None:
        self._bounds = bounds or LockBounds()
        self._is_flock = flock
        self._files: dict[F, _File[F]] = {}
        self._waits: dict[int, dict[LockWaiter[F], None]] = {}
        """The requests that wait, by owner."""
        self._ranges = self._waiters = 0

    # -- asking, locking, letting go --------------------------------------------------------------------------------

    def find_conflict(self, file: F, owner: int, lock: ByteRangeLock) -> ByteRangeLock | None:
        """The first lock that is in the way of one (F_GETLK), None if there is none.

        Of UNLOCK: the owner's own first lock of these bytes (F_OFD_GETLK of Linux 6.6).
        """
        locks = self._files.get(file)
        if locks is None:
            return None
        if lock.kind is LockKind.UNLOCK:
            own = locks.owners.get(owner, [])
            at = bisect_left(own, lock.start, key=_end)
            found = own[at] if at < len(own) and own[at].start <= lock.end else None
        else:
            found = next((held for _, held in locks.conflicts(owner, _make_range(lock, 0))), None)
        return None if found is None else ByteRangeLock(found.kind, found.start, found.end, found.pid)

    def set(self, file: F, owner: int, handle: int, lock: ByteRangeLock) -> None:
        """Gets a lock through a handle, or lets go of one, at once (F_SETLK).

        Raises:
            PosixError: EAGAIN, a lock of another owner is in the way; ENOLCK, there are too many.
        """
        if self._take(file, owner, _make_range(lock, handle)) is not None:
            raise PosixError(errno.EAGAIN, "locked by another program")

    def request(
        self, file: F, owner: int, handle: int, lock: ByteRangeLock, on_end: Callable[[PosixError | None], None]
    ) -> LockWaiter[F] | None:
        """Gets a lock, or queues the request for it (F_SETLKW): then it is returned, and `on_end` hears later how it
        ends.

        Raises:
            PosixError: EDEADLK, it would wait for itself; ENOLCK, there are too many locks or requests.
        """
        waiter = LockWaiter(file, owner, _make_range(lock, handle), on_end)
        locks = self._take(file, owner, waiter.wanted)
        if locks is None:
            return None
        if self._waiters >= self._bounds.waiters or len(locks.waiters) >= self._bounds.waiters_of_file:
            raise PosixError(errno.ENOLCK, "too many programs wait for locks")
        if self._is_deadlock(waiter):
            raise PosixError(errno.EDEADLK, DEADLOCK)
        locks.waiters[waiter] = None
        self._waits.setdefault(owner, {})[waiter] = None
        self._waiters += 1
        return waiter

    def cancel(self, waiter: LockWaiter[F]) -> None:
        """Takes a request back that waits. One that has ended is not to be cancelled: it may have its lock."""
        locks = self._files[waiter.file]
        self._remove_waiter(locks, waiter)
        self._drop_unused(waiter.file, locks)

    def release_owner(self, file: F, owner: int) -> None:
        """Lets go of all that an owner has of a file: it has closed a descriptor of it. What waits goes on to."""
        locks = self._files.get(file)
        if locks is not None and owner in locks.owners:
            self._keep_ranges(locks, owner, [])
            self._wake(file, locks)

    def release_handle(self, file: F, handle: int) -> None:
        """Lets go of all that was got through a handle, which ends. Requests that wait through it end with EBADF."""
        locks = self._files.get(file)
        if locks is None:
            return
        for waiter in [waiter for waiter in locks.waiters if waiter.wanted.handle == handle]:
            self._remove_waiter(locks, waiter)
            waiter.on_end(PosixError(errno.EBADF, "the file was closed"))
        for owner, ranges in list(locks.owners.items()):
            self._keep_ranges(locks, owner, [held for held in ranges if held.handle != handle])
        self._wake(file, locks)

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _take(self, file: F, owner: int, wanted: _Range) -> _File[F] | None:
        """Gets or lets go of a lock, if nothing is in the way; else the locks of the file are returned.

        Raises:
            PosixError: ENOLCK, there are too many.
        """
        locks = self._files.get(file) or _File[F]()
        own = locks.owners.get(owner)
        gives_up = self._is_flock and own is not None and own[0].kind is not wanted.kind
        if gives_up:
            self._keep_ranges(locks, owner, [])
        is_free = wanted.kind is LockKind.UNLOCK or next(locks.conflicts(owner, wanted), None) is None
        frees = is_free and self._put(file, locks, owner, wanted)
        if frees or gives_up:
            self._wake(file, locks)
        if is_free and owner in self._waits:
            self._end_deadlocks(owner)
        return None if is_free else locks

    def _put(self, file: F, locks: _File[F], owner: int, wanted: _Range) -> bool:
        """Replaces what an owner has of a range. Whether other owners may get something now that they could not.

        Raises:
            PosixError: ENOLCK, there would be too many ranges. Nothing has changed.
        """
        ranges = locks.owners.get(owner, [])
        at, until, pieces = _splice(ranges, wanted)
        added = len(pieces) - (until - at)
        bounds = self._bounds
        if added > 0 and (locks.ranges + added > bounds.ranges_of_file or self._ranges + added > bounds.ranges):
            raise PosixError(errno.ENOLCK, "too many locks")
        frees = any(held.kind > wanted.kind or wanted.kind is LockKind.UNLOCK for held in ranges[at:until])
        ranges[at:until] = pieces
        locks.ranges += added
        self._ranges += added
        if ranges:
            locks.owners[owner], self._files[file] = ranges, locks
        else:
            locks.owners.pop(owner, None)
        self._drop_unused(file, locks)
        return frees

    def _keep_ranges(self, locks: _File[F], owner: int, kept: list[_Range]) -> None:
        """Takes all ranges from an owner but some."""
        gone = len(locks.owners[owner]) - len(kept)
        if kept:
            locks.owners[owner] = kept
        else:
            del locks.owners[owner]
        locks.ranges -= gone
        self._ranges -= gone

    def _wake(self, file: F, locks: _File[F]) -> None:
        """Something of a file was let go of: gives their locks to the requests that nothing is in the way of now."""
        again = True
        while again:
            again = False
            blocker: tuple[int, _Range] | None = None
            for waiter in list(locks.waiters):
                if waiter not in locks.waiters:
                    continue
                if blocker is not None and blocker[0] != waiter.owner and blocker[1].is_in_the_way_of(waiter.wanted):
                    continue  # the same lock that was in the way of the one before: not searched for again
                blocker = next(locks.conflicts(waiter.owner, waiter.wanted), None)
                if blocker is None:
                    again |= self._grant(file, locks, waiter)
        self._drop_unused(file, locks)

    def _grant(self, file: F, locks: _File[F], waiter: LockWaiter[F]) -> bool:
        """Ends a request that nothing is in the way of. Whether that lets go of something, too."""
        self._remove_waiter(locks, waiter)
        try:
            frees = self._put(file, locks, waiter.owner, waiter.wanted)
        except PosixError as error:
            waiter.on_end(error)
            return False
        waiter.on_end(None)
        if waiter.owner in self._waits:
            self._end_deadlocks(waiter.owner)
        return frees

    def _remove_waiter(self, locks: _File[F], waiter: LockWaiter[F]) -> None:
        del locks.waiters[waiter]
        waits = self._waits[waiter.owner]
        del waits[waiter]
        if not waits:
            del self._waits[waiter.owner]
        self._waiters -= 1

    def _drop_unused(self, file: F, locks: _File[F]) -> None:
        if not locks.owners and not locks.waiters:
            self._files.pop(file, None)

    # -- deadlocks --------------------------------------------------------------------------------------------------

    def _end_deadlocks(self, owner: int) -> None:
        """An owner has got a lock while it waits for others, as threads of a process may: what it waits for may now
        wait for it.
        """
        for waiter in list(self._waits.get(owner, ())):
            if self._is_deadlock(waiter):
                self._remove_waiter(self._files[waiter.file], waiter)
                waiter.on_end(PosixError(errno.EDEADLK, DEADLOCK))

    def _is_deadlock(self, waiter: LockWaiter[F]) -> bool:
        """Whether what is in the way of a request waits, in the end, for that request's owner."""
        if self._is_flock:
            return False
        steps, seen = 0, {waiter}
        stack: list[tuple[LockWaiter[F], _Path]] = [(waiter, ((waiter.owner, waiter.wanted.pid), None))]
        while stack:
            at, path = stack.pop()
            locks = self._files[at.file]
            steps += STEPS_EACH + locks.ranges
            if steps > DEADLOCK_STEPS:
                return False
            for owner, held in locks.conflicts(at.owner, at.wanted):
                longer = ((owner, held.pid), path)
                if owner == waiter.owner and _may_be_processes(longer):
                    return True
                for other in self._waits.get(owner, ()):
                    if other not in seen:
                        seen.add(other)
                        stack.append((other, ((owner, other.wanted.pid), longer)))
        return False

    # -- figures, and for tests -------------------------------------------------------------------------------------

    def statistics(self) -> LockStatistics:
        return LockStatistics(self._ranges, self._waiters)

    def check_invariants(self) -> None:
        """Asserts the invariants of the module's text. For tests."""
        waits = {waiter for of_owner in self._waits.values() for waiter in of_owner}
        assert waits == {waiter for locks in self._files.values() for waiter in locks.waiters}
        assert len(waits) == self._waiters <= self._bounds.waiters
        assert sum(locks.ranges for locks in self._files.values()) == self._ranges <= self._bounds.ranges
        for locks in self._files.values():
            assert locks.owners or locks.waiters
            assert all(locks.owners.values())
            assert sum(map(len, locks.owners.values())) == locks.ranges <= self._bounds.ranges_of_file
            assert len(locks.waiters) <= self._bounds.waiters_of_file
            for owner, ranges in locks.owners.items():
                for held, following in pairwise(ranges):
                    assert held.end < following.start
                    assert held.kind is not following.kind or held.end + 1 < following.start
                for held in ranges:
                    assert held.kind is not LockKind.UNLOCK and held.start <= held.end
                    assert next(locks.conflicts(owner, held), None) is None
            for waiter in locks.waiters:
                assert next(locks.conflicts(waiter.owner, waiter.wanted), None) is not None


def _make_range(lock: ByteRangeLock, handle: int) -> _Range:
    return _Range(lock.kind, lock.start, lock.end, lock.pid, handle)


def _splice(ranges: list[_Range], wanted: _Range) -> tuple[int, int, list[_Range]]:
    """What becomes of an owner's ranges when it gets one or lets go of one: the part of the list, from its first to
    before its last index, that is replaced, and by what.
    """
    touch = wanted.kind is not LockKind.UNLOCK  # ranges that only touch it may be joined with it
    at = bisect_left(ranges, wanted.start - touch, key=_end)
    until = bisect_right(ranges, wanted.end + touch, lo=at, key=_start)
    before, middle, after = [], wanted, []
    if at < until:
        first, last = ranges[at], ranges[until - 1]
        if first.start < wanted.start and first.kind is wanted.kind:
            middle = replace(middle, start=first.start)
        elif first.start < wanted.start:
            before = [replace(first, end=min(first.end, wanted.start - 1))]
        if last.end > wanted.end and last.kind is wanted.kind:
            middle = replace(middle, end=last.end)
        elif last.end > wanted.end:
            after = [replace(last, start=max(last.start, wanted.end + 1))]
    return at, until, [*before, *([middle] if touch else []), *after]


def _may_be_processes(path: _Path) -> bool:
    """Whether the owners on a way may all be processes: see the module's text."""
    owners: dict[int, int] = {}
    pids: dict[int, int] = {}
    at: _Path | None = path
    while at is not None:
        (owner, pid), at = at
        if pid and (owners.setdefault(pid, owner) != owner or pids.setdefault(owner, pid) != pid):
            return False
    return True

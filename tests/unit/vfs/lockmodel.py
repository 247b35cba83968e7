"""A simple model of byte-range locks and flock: what each byte of a file is locked by, and a list of who waits.

It knows no ranges: a file has CELLS bytes, the last of which stands for all that follow.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from dfsfs.vfs.data.locktable import OFFSET_MAX, ByteRangeLock, LockKind

CELLS = 10
READ, WRITE, UNLOCK = LockKind


def lock_of(kind: LockKind, first: int, last: int, pid: int) -> ByteRangeLock:
    """The lock of some cells."""
    return ByteRangeLock(kind, first, OFFSET_MAX if last == CELLS - 1 else last, pid)


@dataclass(eq=False)
class Wait:
    """A request that waits. `ends`: how it has ended, 0 or an errno; nothing while it waits."""

    owner: int
    kind: LockKind
    cells: range
    handle: int
    ends: list[int] = field(default_factory=list)


@dataclass
class ModelFile:
    cells: list[dict[int, tuple[LockKind, int]]] = field(default_factory=lambda: [{} for _ in range(CELLS)])
    """For each cell, the kind and the handle of each owner's lock."""
    order: list[int] = field(default_factory=list)
    """The owners in the order of their first locks."""
    waits: list[Wait] = field(default_factory=list)

    def blockers(self, owner: int, kind: LockKind, cells: range) -> list[int]:
        """The owners that are in the way."""
        held = {other: had for cell in cells for other, (had, _) in self.cells[cell].items() if kind or had}
        return [other for other in self.order if other in held and other != owner]

    def first_in_the_way(self, owner: int, kind: LockKind, cells: range) -> ByteRangeLock | None:
        """The answer of F_GETLK; the pid of an owner is its number."""
        for other in self.blockers(owner, kind, cells):
            at = next(c for c in cells if other in self.cells[c] and (kind or self.cells[c][other][0]))
            return self.lock_at(other, at)
        return None

    def lock_at(self, owner: int, cell: int) -> ByteRangeLock | None:
        """The lock that an owner has of a cell."""
        if owner not in self.cells[cell]:
            return None
        kind = self.cells[cell][owner][0]
        first = last = cell
        while first and self.cells[first - 1].get(owner, (None,))[0] is kind:
            first -= 1
        while last < CELLS - 1 and self.cells[last + 1].get(owner, (None,))[0] is kind:
            last += 1
        return lock_of(kind, first, last, owner)

    def put(self, owner: int, kind: LockKind, cells: range, handle: int) -> None:
        """Replaces what an owner has; ranges that are joined with the new one have its handle."""
        for cell in cells:
            self.cells[cell].pop(owner, None)
            if kind is not UNLOCK:
                self.cells[cell][owner] = (kind, handle)
        if kind is not UNLOCK:
            whole = self.lock_at(owner, cells[0])
            assert whole is not None
            for cell in range(whole.start, min(whole.end, CELLS - 1) + 1):
                self.cells[cell][owner] = (kind, handle)
        self.note_order()

    def note_order(self) -> None:
        having = {owner for cell in self.cells for owner in cell}
        self.order = [owner for owner in self.order if owner in having]
        self.order += sorted(having - set(self.order))


class Model:
    """Files by name. `flock`: whether conversions give the old lock up first, and deadlocks are not looked for."""

    def __init__(self, *, flock: bool = False) -> None:
        self.flock = flock
        self.files: dict[str, ModelFile] = {}

    def file(self, name: str) -> ModelFile:
        return self.files.setdefault(name, ModelFile())

    def set(self, name: str, owner: int, kind: LockKind, cells: range, handle: int) -> int:
        """0 or the errno."""
        file = self.file(name)
        has_lost = self.flock and file.cells[0].get(owner, (kind,))[0] is not kind
        if has_lost:
            file.put(owner, UNLOCK, cells, handle)
        got = kind is UNLOCK or not file.blockers(owner, kind, cells)
        if got:
            file.put(owner, kind, cells, handle)
        self.wake(name)
        if got:
            self.end_deadlocks(owner)
        return 0 if got else errno.EAGAIN

    def request(self, name: str, owner: int, kind: LockKind, cells: range, handle: int) -> Wait | int:
        """The request that waits, or how it has ended at once."""
        code = self.set(name, owner, kind, cells, handle)
        if not code:
            return 0
        file, wait = self.file(name), Wait(owner, kind, cells, handle)
        if self.is_deadlock(name, wait):
            return errno.EDEADLK
        file.waits.append(wait)
        return wait

    def wake(self, name: str) -> None:
        file = self.file(name)
        while sum(self.grant(name, wait) for wait in list(file.waits)):
            pass

    def grant(self, name: str, wait: Wait) -> bool:
        file = self.file(name)
        if wait not in file.waits or file.blockers(wait.owner, wait.kind, wait.cells):
            return False
        file.waits.remove(wait)
        file.put(wait.owner, wait.kind, wait.cells, wait.handle)
        wait.ends.append(0)
        self.end_deadlocks(wait.owner)
        return True

    def end_deadlocks(self, owner: int) -> None:
        for name, file in self.files.items():
            for wait in [wait for wait in file.waits if wait.owner == owner]:
                if self.is_deadlock(name, wait):
                    file.waits.remove(wait)
                    wait.ends.append(errno.EDEADLK)

    def is_deadlock(self, name: str, wait: Wait) -> bool:
        if self.flock:
            return False
        reached = set(self.file(name).blockers(wait.owner, wait.kind, wait.cells))
        while True:
            further = {
                blocker
                for file in self.files.values()
                for other in file.waits
                if other.owner in reached
                for blocker in file.blockers(other.owner, other.kind, other.cells)
            }
            if further <= reached:
                return wait.owner in reached
            reached |= further

    def release_owner(self, name: str, owner: int) -> None:
        self.file(name).put(owner, UNLOCK, range(CELLS), 0)
        self.wake(name)

    def release_handle(self, name: str, handle: int) -> None:
        file = self.file(name)
        for wait in [wait for wait in file.waits if wait.handle == handle]:
            file.waits.remove(wait)
            wait.ends.append(errno.EBADF)
        for cell in file.cells:
            for owner in [owner for owner, (_, through) in cell.items() if through == handle]:
                del cell[owner]
        file.note_order()
        self.wake(name)

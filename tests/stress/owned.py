"""Files of which a process of a storm knows every byte: whoever has the lock changes one, and looks what is there.

Size, times, inode number, links and content are compared by name and through descriptors, before and after each change.
What another process of the same mount did is true at once; what was done through another mount is waited for, once.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tests.stress.changes import Change, Changes
from tests.stress.world import LARGEST, Difference

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stress.world import File, Process

LATE = 8.0
"""Seconds within which another mount has to see what was done: actimeo, and what a message takes on a busy machine."""
FOREIGN = 0.03
"""How often a process takes a file that was last changed through another mount."""
CLOCK = 50_000_000
"""Nanoseconds after which a write has to show another time than the one before: some ticks of any server's clock."""
KEPT = 6
"""Descriptors that a process leaves open between its turns."""


class Owned(Changes):
    """The part of a process that works on owned files."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self._kept: dict[int, tuple[int, int, int]] = {}
        """Descriptor, identity and outage of files that were left open, by file."""

    def step(self) -> None:
        """Takes a file that nobody else has, and does one thing with it.

        Raises:
            Difference: something was not as it has to be.
        """
        index = self._chance.randrange(len(self._process.world.files))
        lock = self._process.world.locks[index]
        if not lock.acquire(block=False):
            return
        try:
            self._turn(index, self._process.world.files[index])
        finally:
            lock.release()

    def _turn(self, index: int, file: File) -> None:
        foreign = file.mount != self._process.mount
        if foreign and self._chance.random() > FOREIGN:
            return
        since = self._process.world.outage()
        before = file.held()
        change: Change | None = None
        try:
            if foreign:
                self._wait_for(index, file)
            elif self._chance.random() < 0.5:
                self._check(index, file)
            change = self.some(file, index, before)
            if change is not None:
                self._do(index, file, change)
            file.mount, file.outage = self._process.mount, since
        except OSError as error:
            if not self._process.excuses(error, since):
                doing = change.text if change is not None else "check"
                self._adopt_and_raise(index, file, f"{doing}: {error!r}")
            self._settle(index, file, before, change)
        except Difference:
            self._adopt(index, file)
            raise

    def _do(self, index: int, file: File, change: Change) -> None:
        file.note(f"{time.time() % 1000:.4f} [{self._process.number}] {change.text}")
        seen = self._act(change)
        old_time, old_inode = file.mtime, file.inode
        file.becomes(change.after)
        file.name = change.name
        if change.replaces:
            file.identity += 1
        if change.after is None:
            self._check_absent(index, file)
            return
        now = time.time_ns()
        stat = self._process.stat(self._path(index, file))
        file.mtime, file.inode = stat.st_mtime_ns, stat.st_ino
        self._check_stat(file, stat, "stat after close")
        if not change.replaces and stat.st_ino != old_inode:
            self._differs(file, f"the inode number was {old_inode} and is {stat.st_ino}")
        unbroken = file.outage == self._process.world.outage()
        if unbroken:
            self._check_time(file, change, old_time, now)
        if seen is not None and unbroken:
            self._check_same(file, seen, stat)
        if self._chance.random() < 0.5:
            self._check_content(file, self._process.read_all(self._path(index, file)), "read after close")
        if self._chance.random() < 0.1:
            self._keep(index, file)

    def _act(self, change: Change) -> os.stat_result | None:
        """Makes the change; what fstat said before close, if it was asked."""
        self._seen = None
        change.action()
        return self._seen

    # -- looking --------------------------------------------------------------------------------------------------

    def _check(self, index: int, file: File) -> None:
        """Everything that was true after the last change has to be true still."""
        if not file.exists:
            self._check_absent(index, file)
            return
        stat = self._process.stat(self._path(index, file))
        if file.mount != self._process.mount:
            file.inode = stat.st_ino  # a mount that knows another file of that number makes up one
        if file.outage != self._process.world.outage() or not self._process.world.is_calm():
            # A server that dies forgets a time that it had not written yet; and one that has just come back is told of
            # the end of handles that were opened again, which moves it.
            file.mtime = stat.st_mtime_ns
            file.outage = self._process.world.outage()
        self._check_stat(file, stat, "stat")
        for what, now, then in (("mtime", stat.st_mtime_ns, file.mtime), ("inode number", stat.st_ino, file.inode)):
            if now != then:
                self._differs(file, f"nobody wrote, and the {what} was {then} and is {now}")
        self._check_kept(index, file)
        if self._chance.random() < 0.5:
            self._check_content(file, self._process.read_all(self._path(index, file)), "read")

    def _check_stat(self, file: File, stat: os.stat_result, what: str) -> None:
        if stat.st_size != file.size:
            self._differs(file, f"{what}: the size is {stat.st_size} and has to be {file.size}")

    def _check_time(self, file: File, change: Change, before: int, now: int) -> None:
        if change.time is not None and file.mtime != change.time:
            self._differs(file, f"the time was set to {change.time} and is {file.mtime}")
        if change.time is None and not change.writes and not change.replaces and file.mtime != before:
            self._differs(file, f"{change.text} wrote nothing, and the time was {before} and is {file.mtime}")
        if change.time is None and change.writes and now - before > CLOCK and file.mtime == before:
            self._differs(file, f"after a write the time is still {before}, {(now - before) / 1e9:.3f} s before it")

    def _check_same(self, file: File, first: os.stat_result, then: os.stat_result) -> None:
        """What fstat said before close, and stat after it."""
        self._check_stat(file, first, "fstat after the write")
        if first.st_mtime_ns != then.st_mtime_ns:
            self._differs(file, f"the time was {first.st_mtime_ns} before close and is {then.st_mtime_ns} after it")
        if first.st_ino != then.st_ino:
            self._differs(file, f"the inode number was {first.st_ino} before close and is {then.st_ino} after it")

    def _check_absent(self, index: int, file: File) -> None:
        """At once with one mount; with two an onlooker of the other one may have it open for a moment."""
        deadline = time.monotonic() + (0.0 if self._process.is_alone() else LATE)
        for name in (0, 1):
            path = self._path(index, file, name)
            while True:
                try:
                    stat = self._process.stat(path)
                except FileNotFoundError:
                    break
                if time.monotonic() >= deadline:
                    self._differs(file, f"{path.name} is removed and still there: {stat}")
                time.sleep(0.02)

    def _keep(self, index: int, file: File) -> None:
        # What another client has open SMB removes when that closes it, and the name is taken until then.
        if self._process.is_alone() and index not in self._kept and len(self._kept) < KEPT:
            descriptor = self._process.open(self._path(index, file), os.O_RDONLY)
            self._kept[index] = (descriptor, file.identity, self._process.world.outage())

    def _check_kept(self, index: int, file: File) -> None:
        """A descriptor that is open since long shows the same as the name."""
        if index not in self._kept:
            return
        descriptor, identity, since = self._kept[index]
        try:
            if identity == file.identity:
                self._check_stat(file, self._process.fstat(descriptor), "fstat of a descriptor that was open before")
                got = self._process.read(descriptor, 2 * LARGEST, 0)
                self._check_content(file, got, "read through a descriptor that was open before")
        except OSError as error:
            if not self._process.excuses(error, since):
                self._differs(file, f"a descriptor that was open before: {error!r}")
        if self._chance.random() < 0.3 or identity != file.identity:
            del self._kept[index]
            self._process.close(descriptor)

    def _wait_for(self, index: int, file: File) -> None:
        """Until this mount shows what was done through another one."""
        deadline = time.monotonic() + LATE
        chance = self._chance.getstate()
        while True:
            try:
                self._check(index, file)
                if file.exists:
                    self._check_content(file, self._process.read_all(self._path(index, file)), "read")
                return
            except (Difference, FileNotFoundError) as difference:
                if time.monotonic() > deadline:
                    self._differs(file, f"{LATE:g} seconds after a change through another mount: {difference}")
            self._chance.setstate(chance)
            time.sleep(0.05)

    # -- after an error -------------------------------------------------------------------------------------------

    def _adopt_and_raise(self, index: int, file: File, text: str) -> None:
        try:
            self._differs(file, text)
        finally:
            self._adopt(index, file)

    def _adopt(self, index: int, file: File) -> None:
        """Begins with no file of this name, so that one difference is told once."""
        file.note("-- a difference; the file was removed --")
        for path in self._paths(index, file):
            path.unlink(missing_ok=True)
        file.becomes(None)
        file.identity += 1
        file.mount = self._process.mount

    def _paths(self, index: int, file: File) -> list[Path]:
        return [self._path(index, file, 0), self._path(index, file, 1), self._temporary(index)]

    def _found(self, index: int, file: File) -> bytes | None:
        """What is there, under any of its names, and makes it the truth."""
        content: bytes | None = None
        deadline = time.monotonic() + 2
        *paths, temporary = self._paths(index, file)
        temporary.unlink(missing_ok=True)
        for name, path in enumerate(paths):
            while path.name in self._process.list(self._process.top):
                try:
                    found = self._process.read_all(path)
                    stat = self._process.stat(path)
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    continue
                if content is None:
                    file.name, file.mtime, file.inode = name, stat.st_mtime_ns, stat.st_ino
                    content = found
                elif found != content:
                    self._differs(file, "two names of one file that have become two files")
                else:
                    path.unlink()
                break
        file.becomes(content)
        file.mount = self._process.mount
        return content

    def _settle(self, index: int, file: File, before: bytes | None, change: Change | None) -> None:
        """After an error while the server was away: a change was made or not, a write perhaps in parts."""
        after = before if change is None else change.after
        file.note(f"[{self._process.number}] failed while the server was away")
        kept = self._kept.pop(index, None)
        if kept is not None:
            self._process.close(kept[0])
        deadline = time.monotonic() + LATE
        while True:
            now = self._process.recover(lambda: self._found(index, file))
            if now in (before, after):
                break
            in_place = before is None or (change is not None and change.writes and not change.replaces)
            if in_place and now is not None and self._is_between(now, before or b"", after or b""):
                break
            if time.monotonic() > deadline:
                size, old, new = (None if data is None else len(data) for data in (now, before, after))
                self._differs(file, f"after an outage it has {size} bytes, neither as before ({old}) nor after ({new})")
            time.sleep(0.1)
        file.identity += 1

    @staticmethod
    def _is_between(now: bytes, before: bytes, after: bytes) -> bool:
        """Whether each byte is from before or after, or from a truncation that was the first part."""
        if len(now) > max(len(before), len(after)):
            return False
        return all(byte in (*before[place : place + 1], *after[place : place + 1], 0) for place, byte in enumerate(now))

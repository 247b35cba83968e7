"""Hidden names: names on a server that no listing shows, and how what a dead mount has left under them is cleaned up.

    .dfsfs_deleted_WHO_WHEN_CHANCE   a file that a program here has removed or replaced while it was open; the last
                                     close removes it
    .dfsfs_kept_WHO_WHEN_CHANCE_ID   a directory with one file or empty directory, .dfsfs_aside_DIGEST_NAME: it was set
                                     aside for the moment in which the file with the id ID takes over its name NAME

A mount that ends, or loses its server, leaves them behind; the next listing of their directory by any mount cleans up.
WHO is the computer and the process that made the name.

Why no data is lost. `deleted` is given only to what a program has asked to remove (unlink), or as one more name of a
file that keeps its own until another file has taken that over in one step of the server (rename): it never is the only
name of a file that a program wants. The worst mistake is to remove it while a program still reads it. So it is removed
only if the server says that no handle is open on it, and none will be opened: the process that made it has ended, or
has released the name, or was on another computer and more than FOREIGN_AGE_MAX ago. What has a `kept` name may be the
only copy: it is put back if its name is missing, and removed only if its name belongs to the very file that was to get
it. Everything else is left alone and logged once.

A user who may write to a directory can create such names, and point them elsewhere by a Windows junction or a symbolic
link on the server: to a directory that only the users who list this one may change. So DIGEST is made of the name of
the directory in which something was set aside; a user's own files have no such names, and nothing else is touched.

Names of the previous release (`.dfsfs_deleted_` and 16 digits) do not tell their process. They are removed when they
are not open and the server has seen no change of them, their renaming included, for FOREIGN_AGE_MAX.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import time
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.firstfew import FirstFew
from dfsfs.namespace.junction import PathNotCovered
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.fscc import NAME_UNITS_MAX
from dfsfs.vfs.names.inodenumbers import FILE_ID_MASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry, FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

log = logging.getLogger("dfsfs.vfs")

FOREIGN_AGE_MAX = 86400
"""Age in seconds from which on the mount on another computer that made a hidden file is taken to be gone."""
ASIDE_AGE_MAX = 60
"""Age in seconds from which on an operation on another computer that has set something aside is taken to have ended."""
ASIDE_ENTRIES_MAX = 16
"""Entries of a directory of a `kept` name that are put back at once. A mount sets one aside in each."""
LOGGED_MAX = 100
"""Names that are logged at most; further ones are left out."""
OPEN_RETRY = 30.0
"""Seconds until a hidden file that was found to be open is tried again."""

_DELETED = ".dfsfs_deleted_"
_KEPT = ".dfsfs_kept_"
_ASIDE = ".dfsfs_aside_"
_MACHINE_ID = "/etc/machine-id"
_NAME = re.compile(
    rf"(?P<kind>{re.escape(_DELETED)}|{re.escape(_KEPT)})"
    r"(?P<tag>[0-9a-f]{8})-(?P<pid>[0-9a-f]+)-(?P<start>[0-9a-f]+)_(?P<time>[0-9a-f]{8,})_[0-9a-f]{8}(_(?P<id>[0-9a-f]+))?"
)
_OLD_NAME = re.compile(re.escape(_DELETED) + "[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class NameOwner:
    """The process that made a name: `tag` is a digest of its computer and PID namespace; it began at `start`, in clock
    ticks since boot (proc(5), starttime).
    """

    tag: str
    pid: int
    start: int


def this_process() -> NameOwner:
    """The owner of the names that this process makes."""
    try:
        with open(_MACHINE_ID, "rb") as file:
            machine = file.read().strip()
    except OSError:
        machine = os.uname().nodename.encode()
    # A process id means something in one PID namespace only.
    digest = hashlib.sha256(machine + os.readlink("/proc/self/ns/pid").encode()).hexdigest()
    return NameOwner(digest[:8], os.getpid(), start_of(os.getpid()) or 0)


def start_of(pid: int) -> int | None:
    """When a process of this computer began, in clock ticks since boot; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return None


class HiddenNames:
    """Makes the hidden names of a mount, and decides whether names that are found are still needed."""

    def __init__(
        self, maker: Callable[[], NameOwner] = this_process, start_of: Callable[[int], int | None] = start_of
    ) -> None:
        self._maker = maker
        self._start_of = start_of
        self._known: NameOwner | None = None
        self._in_use: set[str] = set()
        self._open: OrderedDict[str, float] = OrderedDict()
        """When each was found to be open; the last one at the end."""
        self._logged = FirstFew[str](LOGGED_MAX)

    def make_deleted_name(self) -> str:
        """A name that no file has, for a file that is removed. It is in use until `release`."""
        return self._new(_DELETED, "")

    def make_kept_name(self, file_id: int) -> str:
        """The same for a directory in which something is set aside; `file_id` is that of the file that replaces it."""
        return self._new(_KEPT, f"_{file_id & FILE_ID_MASK:x}")

    def _new(self, kind: str, end: str) -> str:
        who = self._this_process
        name = f"{kind}{who.tag}-{who.pid:x}-{who.start:x}_{int(time.time()):08x}_{secrets.token_hex(4)}{end}"
        self._in_use.add(name)
        return name

    @property
    def _this_process(self) -> NameOwner:
        if self._known is None or self._known.pid != os.getpid():
            self._known = self._maker()
        return self._known

    def release(self, name: str) -> None:
        """This mount is done with a name: if it is still there, the next listing may clean it up."""
        self._in_use.discard(name)

    def is_abandoned(self, name: str, now: float, patience: float) -> bool:
        """Whether the process that made a name has ended, or has released the name.

        `now`: seconds since 1970. `patience`: seconds after which a name of another computer counts as abandoned.
        """
        found = _NAME.fullmatch(name)
        if found is None or name in self._in_use:
            return False
        maker = NameOwner(found["tag"], int(found["pid"], 16), int(found["start"], 16))
        if maker == self._this_process:
            return True
        if maker.tag == self._this_process.tag:
            return self._start_of(maker.pid) != maker.start
        return now - int(found["time"], 16) > patience

    def is_due(self, name: str, now: float) -> bool:
        """Whether a hidden file was not found to be open within the last OPEN_RETRY seconds; `now` is the mount's
        clock.
        """
        return now - self._open.get(name, -OPEN_RETRY) >= OPEN_RETRY

    def mark_open(self, name: str, now: float) -> None:
        """A hidden file was found to be open."""
        self._open[name] = now
        self._open.move_to_end(name)
        while now - next(iter(self._open.values())) >= OPEN_RETRY:
            self._open.popitem(last=False)

    def log_once(self, name: str, text: str) -> None:
        """Logs what is odd about a name, the first time that it is seen, for LOGGED_MAX names."""
        if self._logged.take(name):
            log.warning("%s %s", name, text)


def is_hidden_name(name: str) -> bool:
    """Whether a file of that name is left out of listings."""
    if not name.startswith(".dfsfs_"):
        return False
    return _NAME.fullmatch(name) is not None or _OLD_NAME.fullmatch(name) is not None


def is_kept_name(name: str) -> bool:
    """Whether it is the name of a directory in which something is set aside."""
    return name.startswith(_KEPT) and _NAME.fullmatch(name) is not None


def get_aside_name(aside: str, name: str) -> str:
    """What something is called while it is set aside in a directory of a kept name. A name that is too long for the
    prefix stays as it is; after a crash it is not put back then, but logged.
    """
    inside = _get_aside_prefix(aside) + name
    return inside if len(inside.encode("utf-8", "surrogatepass")) <= NAME_UNITS_MAX else name


def _get_aside_prefix(aside: str) -> str:
    return f"{_ASIDE}{hashlib.sha256(aside.encode()).hexdigest()[:8]}_"


async def clean_up_hidden_name(lookup: Lookup, directory: Inode, name: str) -> None:
    """Removes, or puts back, what a dead mount has left under a hidden name: see the module's text. Errors are
    logged.
    """
    known = lookup.table.child(directory, name)
    if known is not None and known.is_silly_name(directory, name):
        return
    try:
        if is_kept_name(name):
            await _restore_aside(lookup, directory, name)
        elif await _is_abandoned(lookup, directory, name):
            await _remove_abandoned(lookup, directory, name)
    except DfsfsError as error:
        log.debug("%s stays: %s", name, error)


async def _is_abandoned(lookup: Lookup, directory: Inode, name: str) -> bool:
    if not lookup.hidden_names.is_due(name, lookup.clock()):
        return False
    if _OLD_NAME.fullmatch(name) is None:
        return lookup.hidden_names.is_abandoned(name, time.time(), FOREIGN_AGE_MAX)

    async def age(attempt: Attempt) -> int:
        stat = await attempt.tree.stat(attempt.path)
        return attempt.tree.server_time() - max(stat.written, stat.changed)

    return await lookup.run_in(directory, name, age) > FOREIGN_AGE_MAX * 10**9


async def _remove_abandoned(lookup: Lookup, directory: Inode, name: str) -> None:
    try:
        await lookup.run_in(directory, name, _remove_if_unused)
    except DfsfsError:
        lookup.hidden_names.mark_open(name, lookup.clock())
        raise
    log.info("%s was left behind by a mount that has ended; it is removed", name)


async def _remove_if_unused(attempt: Attempt) -> None:
    """The operation that removes a file which nobody has open, also a read-only one. Of a file that has another name
    besides, the attribute would be lost there, so it stays.
    """
    tree, path = attempt.tree, attempt.path
    try:
        await tree.remove_unused(path)
    except SmbError as error:
        if error.status != NtStatus.CANNOT_DELETE or (await tree.stat(path)).links != 1:
            raise
        await tree.remove_file(path)


async def _restore_aside(lookup: Lookup, directory: Inode, name: str) -> None:
    """Puts back what an operation that did not end had set aside, or removes it if its replacement is in place."""
    if not lookup.hidden_names.is_abandoned(name, time.time(), ASIDE_AGE_MAX):
        return

    async def operation(attempt: Attempt) -> list[str]:
        """The names that were put back."""
        tree = attempt.tree
        back: list[str] = []
        if not (await tree.special.lstat(attempt.path)).is_plain_directory:
            lookup.hidden_names.log_once(name, "is not what a mount leaves behind; it is left alone")
            return back
        for entry in await _first_entries(attempt):
            own = entry.name.removeprefix(_get_aside_prefix(name))
            if not own or own == entry.name:
                lookup.hidden_names.log_once(
                    name, f"has {entry.name}, which is not known to belong there; it is left alone"
                )
                return back
            aside, place = attempt.path.join([entry.name]), attempt.path.parent.join([own])
            there = await _stat_or_none(attempt, place)
            if there is None:
                await tree.rename(aside, place, replace=False)
                back.append(own)
                log.warning("%s had been set aside by a mount that has ended; it is put back", place)
            elif there.file_id & FILE_ID_MASK != _get_replacement_id(name):
                lookup.hidden_names.log_once(name, f"has what was {own} once; another file has that name now")
                return back
            elif entry.stat.is_directory:
                await tree.remove_directory(aside)
            else:
                await tree.remove_unused(aside)
        await tree.remove_directory(attempt.path)
        return back

    try:
        back = await lookup.run_in(directory, name, operation)
    except PathNotCovered:
        return  # this mount makes no links
    table, aside = lookup.table, lookup.table.child(directory, name)
    with lookup.attributes.changing_name(directory, *back):
        pass  # only now it is known which names have changed
    for other in back:
        if aside is not None and table.child(aside, inside := _get_aside_prefix(name) + other) is not None:
            table.rename(aside, inside, directory, other)


async def _first_entries(attempt: Attempt) -> list[DirEntry]:
    """The entries in the first answer to a listing, ASIDE_ENTRIES_MAX of them at most."""
    async with aclosing(attempt.tree.list(attempt.path)) as listing:
        async for batch in listing:
            if batch:
                return list(batch[:ASIDE_ENTRIES_MAX])
    return []


async def _stat_or_none(attempt: Attempt, place: UncPath) -> FileStat | None:
    """The attributes of what has a name now; None if there is no such name."""
    try:
        return await attempt.tree.stat(place)
    except DfsfsError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _get_replacement_id(name: str) -> int:
    found = _NAME.fullmatch(name)
    assert found is not None and found["id"] is not None
    return int(found["id"], 16)

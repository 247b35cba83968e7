"""Hidden names: what is on a server under a name that nobody is shown, and what becomes of it when nobody is left.

    .dfsfs_deleted_WHO_WHEN_CHANCE      a file that a program here has removed or replaced, and that another one, or it,
                                        still has open. Its last close removes it
    .dfsfs_kept_WHO_WHEN_CHANCE_ID      a folder with one file or empty folder in it, as .dfsfs_aside_DIGEST_NAME: set
                                        aside for the moment in which what has the file id ID takes its place NAME

A mount that ends, or loses its server, leaves them behind; the next listing of their folder by any mount puts that
right. WHO is the computer and the process that made the name.

Why nothing is lost by that. The name `deleted` is given only to what a program has asked to be rid of (unlink), or as
one more name of a file that keeps its own until another has taken that over in one step of the server (rename): it
never is the only name of something that anybody wants. So all that can be done wrong is to remove it while somebody
still reads it. Hence it is removed only if no handle is open on it, which the server itself says, and nobody will open
one: the process that made it has ended, or has said that it is done with it, or that was on another computer and more
than a day ago. What has the name `kept` may be the only copy: it is put back if its name is missing, and removed only
if what has its name now is the very file that was to get it. Anything else is left alone and said once in the log.

Whoever may write to a folder can lay such names in it, and lead them elsewhere: by a junction of Windows, or a symbolic
link on the server, to a folder that only those who list this one may change. So DIGEST says in which folder something
was set aside, as nobody's own files do, and nothing else is touched.

Names of the release before (`.dfsfs_deleted_` and 16 digits) do not say whose they are. They are removed when nobody
has them open and the server has seen no change of them for a day, their renaming included.
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

from dfsfs.errors import DfsfsError
from dfsfs.firstfew import FirstFew
from dfsfs.namespace.junction import PathNotCovered
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
"""Seconds after which nobody is expected to come back for a hidden file of another computer."""
ASIDE_AGE_MAX = 60
"""Seconds that an operation of another computer may take which has set something aside."""
ASIDE_ENTRIES_MAX = 16
"""Things that are put right at once, of those that were set aside in one folder."""
LOGGED_MAX = 100
"""Names that the log says something about."""
OPEN_RETRY = 30.0
"""Seconds until a hidden file is looked at again that was found to be open."""

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
    """The process that made a name: `tag` is its computer, or container; it began at `start`, in the kernel's ticks."""

    tag: str
    pid: int
    start: int


def this_process() -> NameOwner:
    """The maker of the names that are made here."""
    try:
        with open(_MACHINE_ID, "rb") as file:
            machine = file.read().strip()
    except OSError:
        machine = os.uname().nodename.encode()
    # Numbers of processes mean something in one namespace only.
    digest = hashlib.sha256(machine + os.readlink("/proc/self/ns/pid").encode()).hexdigest()
    return NameOwner(digest[:8], os.getpid(), start_of(os.getpid()) or 0)


def start_of(pid: int) -> int | None:
    """When a process of this computer began; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return None


class HiddenNames:
    """The hidden names of a mount that are in use, and the decision about those that are found."""

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
        """A name that no file has, for one that is removed. It is in use until `release`."""
        return self._new(_DELETED, "")

    def make_kept_name(self, file_id: int) -> str:
        """The same for a folder that something is set aside in, for what has a file id."""
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
        """Nobody here needs a name any more: if it is still there, the next listing may deal with it."""
        self._in_use.discard(name)

    def is_abandoned(self, name: str, now: float, patience: float) -> bool:
        """Whether nobody will come back for what has the name. `now` in seconds since 1970, `patience` in seconds:
        how long one of another computer may be away.
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
        """Whether a hidden file has not been found to be open a moment ago."""
        return now - self._open.get(name, -OPEN_RETRY) >= OPEN_RETRY

    def mark_open(self, name: str, now: float) -> None:
        self._open[name] = now
        self._open.move_to_end(name)
        while now - next(iter(self._open.values())) >= OPEN_RETRY:
            self._open.popitem(last=False)

    def log_once(self, name: str, text: str) -> None:
        """Puts into the log what is odd about a name, the first time. There may be many, so some are not named."""
        if self._logged.take(name):
            log.warning("%s %s", name, text)


def is_hidden_name(name: str) -> bool:
    """Whether a file of that name is not to be shown."""
    if not name.startswith(".dfsfs_"):
        return False
    return _NAME.fullmatch(name) is not None or _OLD_NAME.fullmatch(name) is not None


def is_kept_name(name: str) -> bool:
    """Whether something is set aside in a folder of that name."""
    return name.startswith(_KEPT) and _NAME.fullmatch(name) is not None


def get_aside_name(aside: str, name: str) -> str:
    """What something is called while it is set aside in a folder of a kept name. It keeps its own name where that is
    too long for more; then nobody puts it back by himself, if it comes to that.
    """
    inside = _get_aside_prefix(aside) + name
    return inside if len(inside.encode("utf-8", "surrogatepass")) <= NAME_UNITS_MAX else name


def _get_aside_prefix(aside: str) -> str:
    return f"{_ASIDE}{hashlib.sha256(aside.encode()).hexdigest()[:8]}_"


async def clean_up_hidden_name(lookup: Lookup, folder: Inode, name: str) -> None:
    """Deals with a hidden name that was found in a folder, if nobody needs it: see the module's text."""
    known = lookup.table.child(folder, name)
    if known is not None and known.is_silly_name(folder, name):
        return
    try:
        if is_kept_name(name):
            await _restore_aside(lookup, folder, name)
        elif await _is_abandoned(lookup, folder, name):
            await _remove_abandoned(lookup, folder, name)
    except DfsfsError as error:
        log.debug("%s stays: %s", name, error)


async def _is_abandoned(lookup: Lookup, folder: Inode, name: str) -> bool:
    if not lookup.hidden_names.is_due(name, lookup.clock()):
        return False
    if _OLD_NAME.fullmatch(name) is None:
        return lookup.hidden_names.is_abandoned(name, time.time(), FOREIGN_AGE_MAX)

    async def age(attempt: Attempt) -> int:
        stat = await attempt.tree.stat(attempt.path)
        return attempt.tree.server_time() - max(stat.written, stat.changed)

    return await lookup.run_in(folder, name, age) > FOREIGN_AGE_MAX * 10**9


async def _remove_abandoned(lookup: Lookup, folder: Inode, name: str) -> None:
    try:
        await lookup.run_in(folder, name, lambda attempt: attempt.tree.remove_unused(attempt.path))
    except DfsfsError:
        lookup.hidden_names.mark_open(name, lookup.clock())
        raise
    log.info("%s was left behind by a mount that has ended; it is removed", name)


async def _restore_aside(lookup: Lookup, folder: Inode, name: str) -> None:
    """Puts back what an operation that has ended halfway had set aside, or removes it if that was done."""
    if not lookup.hidden_names.is_abandoned(name, time.time(), ASIDE_AGE_MAX):
        return

    async def operation(attempt: Attempt) -> list[str]:
        """The names that were put back."""
        tree = attempt.tree
        back: list[str] = []
        if not (await tree.lstat(attempt.path)).is_plain_directory:
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
        back = await lookup.run_in(folder, name, operation)
    except PathNotCovered:
        return  # nothing of ours is a link
    table, aside = lookup.table, lookup.table.child(folder, name)
    with lookup.attributes.changing_name(folder, *back):
        pass  # which names these are is known by now only
    for other in back:
        if aside is not None and table.child(aside, inside := _get_aside_prefix(name) + other) is not None:
            table.rename(aside, inside, folder, other)


async def _first_entries(attempt: Attempt) -> list[DirEntry]:
    """What the first answer has of a listing: a mount sets one thing aside in each of these folders."""
    async with aclosing(attempt.tree.list(attempt.path)) as listing:
        async for batch in listing:
            if batch:
                return batch[:ASIDE_ENTRIES_MAX]
    return []


async def _stat_or_none(attempt: Attempt, place: UncPath) -> FileStat | None:
    """What has the name that something which is set aside had."""
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

"""What is known, since when: the one rule by which a server's answer is believed beside changes that are made here.

A mount has a logical clock, `InodeTable.version` (FUSE in the kernel has attr_version for the same purpose), which
ticks whenever a change that a program of this computer makes begins or ends. A question carries the version at which
it was asked, and so does everything that its answer says. An inode, and each name in a directory, knows how many
changes are pending and at which version the last one began or ended.

    An answer is OVERTAKEN if a change of what it is about was under way at any time since it was asked. What is
    overtaken is not believed: it is asked for again.

Proof. A change has its effect on the server between its beginning, which ticks before its request is sent, and its
end, which ticks after its answer was received, also if its program was killed meanwhile: a request that was given up
may be carried out until it is answered (dfsfs/unanswered.py). An answer is true at some time between its question,
whose version is read before its request is sent, and its arrival. If no change was under way at any time in between,
each change either ended before the question was asked, and the answer knows of it, or has not begun yet, and its
beginning will invalidate what the answer said. So what is known is, at any time, what the server would say but for
other clients, for whom there are actimeo and leases. Nothing depends on the order in which answers arrive or tasks are
woken.

An answer that comes with a change, in one compound, was asked while that change was under way and knows of it. It is
good if no other change was under way: `end_change` says so.

What leaves memory must not be forgotten to have changed. A directory remembers at most NAMES_MAX changed names, and a
mount EVICTED_MAX inodes that are not in memory any more; what is dropped from those raises the horizon, and all that
was asked before the horizon is overtaken.

Pure: no lock, clock or request.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

ASKS = 10
"""Times that something is asked for while changes made here overtake each answer; then the last answer is used."""
NAMES_MAX = 16384
"""Changed names of one directory that are remembered."""
RECENT_CHANGES = 64
"""Ticks of the logical clock after a change of a name for which another change of it is expected."""
EVICTED_MAX = 16384
"""Inodes that are not in memory any more of which facts are remembered, each kind for so many."""


class ChangedNames:
    """The names of one directory that are being, or were, changed here. They are compared folded: to overtake an answer
    about another spelling costs a question, not to overtake it might cost data.
    """

    __slots__ = ("_ended", "_horizon", "_under_way")

    def __init__(self, horizon: int) -> None:
        self._under_way: dict[str, int] = {}
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._horizon = horizon

    def begin(self, folded: str) -> None:
        """A change of a (folded) name begins."""
        self._under_way[folded] = self._under_way.get(folded, 0) + 1

    def end(self, folded: str, version: int) -> None:
        """A change of a name has ended, at a version of the logical clock."""
        left = self._under_way[folded] - 1
        if left:
            self._under_way[folded] = left
        else:
            del self._under_way[folded]
        self.touch(folded, version)

    def touch(self, folded: str, version: int) -> None:
        """A name was changed at a version."""
        self._ended[folded] = version
        self._ended.move_to_end(folded)
        if len(self._ended) > NAMES_MAX:
            self._horizon = max(self._horizon, self._ended.popitem(last=False)[1])

    def is_under_way(self, folded: str) -> bool:
        """Whether a change of a name has begun and not ended."""
        return folded in self._under_way

    def has_changed_since(self, folded: str, asked: int) -> bool:
        """Whether an answer that was asked for at version `asked` may not know of a change of a name."""
        return folded in self._under_way or self._ended.get(folded, self._horizon) > asked

    def is_recent(self, folded: str, version: int) -> bool:
        """Whether a name was changed within the last RECENT_CHANGES ticks."""
        return version - self._ended.get(folded, -RECENT_CHANGES) < RECENT_CHANGES

    @property
    def last(self) -> int:
        """The version of the last change, also of one that is not remembered any more."""
        newest = next(reversed(self._ended.values())) if self._ended else 0
        return max(newest, self._horizon)


class EvictedInodes:
    """What is remembered of inodes that have left memory, by share and file id: when they were changed last, whether
    this mount has set their times, and whether they had several names.
    """

    def __init__(self) -> None:
        self._versions: OrderedDict[Hashable, int] = OrderedDict()
        self._horizon = 0
        self._times_set: OrderedDict[Hashable, None] = OrderedDict()
        self._several_names: OrderedDict[Hashable, None] = OrderedDict()

    def add(self, key: Hashable | None, version: int) -> None:
        """An inode leaves memory that was last changed at a version. `key` None: it could not be recognized again."""
        if not version:
            return
        if key is None:
            self._horizon = max(self._horizon, version)
            return
        self._versions[key] = max(version, self._versions.get(key, 0))
        self._versions.move_to_end(key)
        if len(self._versions) > EVICTED_MAX:
            self._horizon = max(self._horizon, self._versions.popitem(last=False)[1])

    def add_facts(self, key: Hashable, *, time_was_set: bool, links: int) -> None:
        """An inode leaves memory: whether this mount has set its times, and how many links it has; 0: not known."""
        if time_was_set:
            _remember(self._times_set, key)
        if links > 1:
            _remember(self._several_names, key)
        elif links:
            self._several_names.pop(key, None)

    def time_was_set(self, key: Hashable) -> bool:
        """Whether this mount has set the times of a file: see `Inode.time_was_set`."""
        return bool(self._times_set) and key in self._times_set

    def had_hard_links(self, key: Hashable) -> bool:
        """Whether a file had several names when its inode left memory: see `Inode.had_hard_links`."""
        return bool(self._several_names) and key in self._several_names

    def get_version(self, key: Hashable | None) -> int:
        """The version before which no answer about a file is believed when its inode is made again."""
        if key is None or not self._versions:
            return self._horizon
        return max(self._horizon, self._versions.get(key, 0))


def _remember(traces: OrderedDict[Hashable, None], key: Hashable) -> None:
    traces[key] = None
    traces.move_to_end(key)
    if len(traces) > EVICTED_MAX:
        traces.popitem(last=False)


class LocalWrites:
    """What this mount's own writes have made of a file that it has open for writing. These figures count, and not the
    server's, which gets the data late and moves times when it likes.

    Attributes:
        size: bytes of the file, as it is shown to programs. reserved: where the last write that has begun will end, in
        bytes; data is appended behind both. written: the time of the last write here, by the server's clock, in ns
        since 1970; 0: the server's time is newer. before: the last write time of the file before that, in ns since
        1970. A server goes on to say it while the file
            is open, if it was set; it may lie in the future.
        shown: the last write time, in ns, that was shown since data was written; 0: none.
        bytes_written: bytes that were written here. They count as allocated until the server says more.
        is_size_unsure: whether a write may not have reached the server, so that the size has to be asked for.
    """

    __slots__ = ("before", "bytes_written", "is_size_unsure", "reserved", "shown", "size", "written")

    def __init__(self, size: int) -> None:
        self.size = size
        self.reserved = 0
        self.written = 0
        self.before = 0
        self.shown = 0
        self.bytes_written = 0
        self.is_size_unsure = False

    @property
    def append_offset(self) -> int:
        """The offset at which data is appended, in bytes."""
        return max(self.size, self.reserved)

    def set_size(self, size: int) -> None:
        """The file has `size` bytes, and no write is under way."""
        self.size, self.reserved, self.is_size_unsure = size, 0, False

    def add_write(self, now: int, before: int) -> None:
        """Data was written at `now` by the server's clock; `before`: the last write time until then. Both in ns.

        The server's clock is known to some milliseconds only, and the last write time must grow.
        """
        if not self.written:
            self.before = before
        before = self.written or before
        self.written = before + TICK_NS if 0 <= before - now < SLACK_NS else now - now % TICK_NS

    def is_later(self, written: int) -> bool:
        """Whether a last write time of the server, in ns, shows that another client has written, or set the time,
        since.
        """
        return written != self.before and written > self.written + SLACK_NS


TICK_NS = 100
"""The unit of times in SMB, in ns (MS-DTYP 2.3.3)."""
SLACK_NS = 10**9
"""By how many ns the server's clock, as it is known here, may be wrong."""

"""DirEntries and NameSet: what a listing of any size keeps of its entries, and which names it has seen.

An entry is seven objects, 500 bytes. The last few thousand stay like that, as they are on their way to the kernel;
older ones are packed into 80 bytes and their name, and unpacked if the kernel goes back to them. Of names alone their
characters are kept, and where each name ends.

Pure.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from dfsfs.smb.wire.fscc import DirEntry, FileStat
from dfsfs.vfs.names.rowindex import RowIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dfsfs.vfs.names.dircache import Origin

UNPACKED_MAX = 4096
"""Entries that are kept as they came: all of most directories."""
NAMES_PER_PACK = 1024
"""Names that are packed at once."""
_FIELDS = "qqqqIqqQIIq"
_STAT = struct.Struct("<" + _FIELDS)
"""The fields of a FileStat, in their order, but for `special`."""
_HASH = (1 << 64) - 1


class _Batch:
    """Entries that came in one answer."""

    __slots__ = ("_entries", "_names", "_stats", "_unpackable", "origin")

    def __init__(self, entries: Sequence[DirEntry], origin: Origin) -> None:
        self.origin = origin
        self._entries: Sequence[DirEntry] | None = entries
        self._stats = b""
        self._names = _NameList(())
        self._unpackable: dict[int, DirEntry] = {}

    def pack(self) -> None:
        """Packs the entries: they take less memory, and longer to read."""
        entries, self._entries = self._entries or (), None
        self._unpackable = {index: entry for index, entry in enumerate(entries) if not _is_plain(entry.stat)}
        stats = [_EMPTY_STAT if index in self._unpackable else entry.stat for index, entry in enumerate(entries)]
        values = [
            value
            for stat in stats
            for value in (
                stat.created,
                stat.accessed,
                stat.written,
                stat.changed,
                stat.attributes,
                stat.size,
                stat.allocated,
                stat.file_id,
                stat.links,
                stat.reparse_tag,
                stat.ea_size,
            )
        ]
        self._stats = struct.pack("<" + _FIELDS * len(stats), *values)
        self._names = _NameList([entry.name for entry in entries])

    def entry(self, index: int) -> DirEntry:
        if self._entries is not None:
            return self._entries[index]
        if (odd := self._unpackable.get(index)) is not None:
            return odd
        return DirEntry(self._names[index], FileStat(*_STAT.unpack_from(self._stats, index * _STAT.size)))

    def name(self, index: int) -> str:
        return self._entries[index].name if self._entries is not None else self._names[index]


class _NameList:
    """Names, joined into one str, with the offset at which each one ends."""

    __slots__ = ("_ends", "_text")

    def __init__(self, names: Sequence[str]) -> None:
        self._text = "".join(names)
        self._ends = array("I", accumulate(map(len, names)))

    def __getitem__(self, index: int) -> str:
        return self._text[self._ends[index - 1] if index else 0 : self._ends[index]]


_EMPTY_STAT = FileStat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def _is_plain(stat: FileStat) -> bool:
    """Whether a stat fits into _STAT. The others, with values that no honest server sends, are kept as they are."""
    return stat.special is None and -1 <= stat.ea_size < 1 << 32 and 0 <= stat.file_id < 1 << 64


class DirEntries:
    """The entries of one listing, by their index. The first ones may have been dropped."""

    def __init__(self) -> None:
        self._batches: list[_Batch] = []
        self._starts: list[int] = []
        self._packed = 0
        """How many batches are packed, beginning with the first."""
        self.stop = 0

    @property
    def start(self) -> int:
        """The index of the first entry that was not dropped; `stop` is one more than that of the last."""
        return self._starts[0] if self._starts else self.stop

    def add(self, entries: Sequence[DirEntry], origin: Origin) -> None:
        """Adds entries that came in one answer."""
        if not entries:
            return
        self._batches.append(_Batch(entries, origin))
        self._starts.append(self.stop)
        self.stop += len(entries)
        while self._packed < len(self._batches) - 1 and self.stop - self._starts[self._packed + 1] >= UNPACKED_MAX:
            self._batches[self._packed].pack()
            self._packed += 1

    def drop_before(self, index: int) -> None:
        """Drops the batches whose entries all come before an index."""
        count = bisect_right(self._starts, index) - 1
        if count > 0:
            del self._batches[:count], self._starts[:count]
            self._packed = max(0, self._packed - count)

    def __getitem__(self, index: int) -> tuple[DirEntry, Origin]:
        at = bisect_right(self._starts, index) - 1
        batch = self._batches[at]
        return batch.entry(index - self._starts[at]), batch.origin

    @property
    def origin(self) -> Origin | None:
        """The origin of the first entry; None if there is none."""
        return self._batches[0].origin if self._batches else None

    def by_name(self) -> Mapping[str, DirEntry]:
        """All entries by their names. None may have been dropped, and none be added from now on."""
        if not self._packed:
            return {entry.name: entry for entry, _ in map(self.__getitem__, range(self.start, self.stop))}
        return _ByName(self)

    def name(self, index: int) -> str:
        """The name of an entry."""
        at = bisect_right(self._starts, index) - 1
        return self._batches[at].name(index - self._starts[at])


class _ByName(Mapping[str, DirEntry]):
    """DirEntries by their names."""

    def __init__(self, entries: DirEntries) -> None:
        self._entries = entries
        self._indexes = {entries.name(index): index for index in range(entries.start, entries.stop)}

    def __getitem__(self, name: str) -> DirEntry:
        return self._entries[self._indexes[name]][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._indexes)

    def __len__(self) -> int:
        return len(self._indexes)


class NameSet:
    """A set of names that only grows."""

    def __init__(self) -> None:
        self._unpacked: set[str] = set()
        self._packed: list[_NameList] = []
        """PACKED names in each."""
        self._index = RowIndex()

    def __len__(self) -> int:
        return len(self._unpacked) + NAMES_PER_PACK * len(self._packed)

    def add(self, name: str) -> bool:
        """Adds a name. Whether it is a new one."""
        if name in self._unpacked or (self._packed and self._is_packed(name)):
            return False
        self._unpacked.add(name)
        if len(self._unpacked) == NAMES_PER_PACK:
            self._pack()
        return True

    def _is_packed(self, name: str) -> bool:
        return self._index.find(hash(name) & _HASH, lambda row: self._at(row) == name) is not None

    def _pack(self) -> None:
        names, start = list(self._unpacked), NAMES_PER_PACK * len(self._packed)
        self._unpacked.clear()
        self._packed.append(_NameList(names))
        for row, name in enumerate(names, start):
            self._index.add(hash(name) & _HASH, row)

    def _at(self, row: int) -> str:
        return self._packed[row // NAMES_PER_PACK][row % NAMES_PER_PACK]

"""EntryPage, DirEntries and NameSet: what is kept of a listing of any size, and which names it has had.

An entry is seven objects, 500 bytes. What a server has sent stays in the bytes in which it came, and is decoded when it
is asked for. Entries that are objects are packed into 80 bytes and their name if there are many. Of names alone their
characters are kept, and where each name ends.

A page finds names by the sorted hashes of their folded forms, 8 bytes each: it also tells whether a name is there in
another case.

Pure.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from sys import getsizeof
from typing import TYPE_CHECKING

from dfsfs.smb.wire.directories import DirectoryPage
from dfsfs.smb.wire.fscc import DirEntry, FileStat
from dfsfs.unc import fold_name
from dfsfs.vfs.names.rowindex import RowIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dfsfs.vfs.names.dircache import Origin

UNPACKED_MAX = 4096
"""Entries that are kept as they came: all of most directories."""
NAMES_PER_PACK = 1024
"""Names that are packed at once."""
OBJECT_SIZE = 500
"""Bytes of an entry that is neither packed nor as it came, about."""
_FIELDS = "qqqqIqqQIIq"
_STAT = struct.Struct("<" + _FIELDS)
"""The fields of a FileStat, in their order, but for `special`."""
_HASH = (1 << 64) - 1
_ROW = (1 << 20) - 1
"""The bits of a key in EntryPage that are the number of an entry; the others are those of the name's hash."""


def key_of_name(name: str) -> int:
    """What EntryPage finds a name by, in whatever case it is. Python's hashes are secret: no server can choose them."""
    return hash(fold_name(name)) & _HASH & ~_ROW


class EntryPage:
    """Entries that have one origin, in the order in which they came.

    `replaced`: entries of which more is known than was listed, by their number.
    """

    __slots__ = ("_entries", "_keys", "_names", "_stats", "_unpackable", "origin")

    def __init__(
        self, entries: Sequence[DirEntry], origin: Origin, replaced: Mapping[int, DirEntry] | None = None
    ) -> None:
        self.origin = origin
        self._entries: Sequence[DirEntry] | None = entries
        self._stats = b""
        self._names = _NameList(())
        self._unpackable: dict[int, DirEntry] = dict(replaced or ())
        self._keys: array[int] | None = None

    def __len__(self) -> int:
        return len(self._stats) // _STAT.size if self._entries is None else len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        if isinstance(self._entries, DirectoryPage):
            kept = self._entries.size
        elif self._entries is not None:
            kept = OBJECT_SIZE * len(self._entries)
        else:
            kept = len(self._stats) + self._names.size
        return OBJECT_SIZE * (1 + len(self._unpackable)) + 8 * len(self) + kept

    def pack(self) -> None:
        """Packs the entries, unless they are as they came: they take less memory, and longer to read."""
        if isinstance(self._entries, DirectoryPage):
            return
        entries, self._entries = self._entries or (), None
        self._unpackable |= {index: entry for index, entry in enumerate(entries) if not _is_plain(entry.stat)}
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
        """An entry by its number."""
        if self._unpackable and (odd := self._unpackable.get(index)) is not None:
            return odd
        if self._entries is not None:
            return self._entries[index]
        return DirEntry(self._names[index], FileStat(*_STAT.unpack_from(self._stats, index * _STAT.size)))

    def name(self, index: int) -> str:
        """The name of an entry."""
        if self._entries is None:
            return self._names[index]
        return self._entries.name(index) if isinstance(self._entries, DirectoryPage) else self._entries[index].name

    def build_index(self) -> None:
        """Makes the index for `find` and `find_spellings`, which does not change any more."""
        if self._keys is None:
            keys = [key_of_name(name) | row for row, name in enumerate(self.names())]
            keys.sort()
            self._keys = array("Q", keys)

    def find(self, key: int, name: str) -> DirEntry | None:
        """The entry of a name; `key`: that of key_of_name."""
        for row in self._rows(key):
            if self.name(row) == name:
                return self.entry(row)
        return None

    def has(self, name: str) -> bool:
        """Whether a name is there."""
        return any(self.name(row) == name for row in self._rows(key_of_name(name)))

    def find_spellings(self, key: int, folded: str) -> Iterator[DirEntry]:
        """The entries that have a (folded) name in any case."""
        return (self.entry(row) for row in self._rows(key) if fold_name(self.name(row)) == folded)

    def _rows(self, key: int) -> Iterator[int]:
        if self._keys is None:
            self.build_index()
        keys = self._keys
        assert keys is not None
        at = bisect_left(keys, key)
        while at < len(keys) and keys[at] & ~_ROW == key:
            yield keys[at] & _ROW
            at += 1

    def names(self) -> Iterable[str]:
        """The names of all entries, in their order."""
        if isinstance(self._entries, DirectoryPage):
            return self._entries.names()
        if self._entries is not None:
            return (entry.name for entry in self._entries)
        return (self._names[index] for index in range(len(self)))


class _NameList:
    """Names, joined into one str, with the offset at which each one ends."""

    __slots__ = ("_ends", "_text")

    def __init__(self, names: Sequence[str]) -> None:
        self._text = "".join(names)
        self._ends = array("I", accumulate(map(len, names)))

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return getsizeof(self._text) + 4 * len(self._ends)

    def __getitem__(self, index: int) -> str:
        return self._text[self._ends[index - 1] if index else 0 : self._ends[index]]


_EMPTY_STAT = FileStat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def _is_plain(stat: FileStat) -> bool:
    """Whether a stat fits into _STAT. The others, with values that no honest server sends, are kept as they are."""
    return stat.special is None and -1 <= stat.ea_size < 1 << 32 and 0 <= stat.file_id < 1 << 64


class DirEntries:
    """The entries of one listing, by their index. The first ones may have been dropped."""

    def __init__(self) -> None:
        self._pages: list[EntryPage] = []
        self._starts: list[int] = []
        self._packed = 0
        """How many pages are packed, beginning with the first."""
        self.stop = 0

    @property
    def start(self) -> int:
        """The index of the first entry that was not dropped; `stop` is one more than that of the last."""
        return self._starts[0] if self._starts else self.stop

    def add(self, page: EntryPage) -> None:
        """Adds entries that came in one answer."""
        if not page:
            return
        self._pages.append(page)
        self._starts.append(self.stop)
        self.stop += len(page)
        while self._packed < len(self._pages) - 1 and self.stop - self._starts[self._packed + 1] >= UNPACKED_MAX:
            self._pages[self._packed].pack()
            self._packed += 1

    def drop_before(self, index: int) -> None:
        """Drops the pages whose entries all come before an index."""
        count = bisect_right(self._starts, index) - 1
        if count > 0:
            del self._pages[:count], self._starts[:count]
            self._packed = max(0, self._packed - count)

    def __getitem__(self, index: int) -> tuple[DirEntry, Origin]:
        at = bisect_right(self._starts, index) - 1
        page = self._pages[at]
        return page.entry(index - self._starts[at]), page.origin

    @property
    def pages(self) -> Sequence[EntryPage]:
        """All entries that were not dropped. None may be added from now on."""
        return self._pages


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

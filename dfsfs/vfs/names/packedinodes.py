"""PackedInodes: inodes that only the kernel still refers to, in a tenth of the memory.

A program that lists a directory of 300,000 files makes the kernel know 300,000 inodes, and it keeps them for as long as
it has memory to spare: days. As objects they take 1 KiB each. Nearly all of them are not asked for again until the
kernel forgets them. So an inode that nothing in this process refers to is packed into a row of numbers, and unpacked,
the same in all that counts, when it is asked for.

Rows are kept in pages; a page without any is given back. The names of a page are in one piece.

Only an inode that is like most files and directories can be packed: `pack` says no to the others, and InodeStore to
those that are in use.

Pure.
"""

from __future__ import annotations

import secrets
import struct
from array import array
from typing import TYPE_CHECKING, NamedTuple

from dfsfs.smb.wire.fscc import FileStat
from dfsfs.vfs.names.inode import NO_PAGE_CACHE, NO_SIZE, Inode, PageCacheState
from dfsfs.vfs.names.rowindex import RowIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfsfs.unc import UncPath

PAGE = 1024
"""Rows of a page."""
SLACK = 4096
"""Bytes of unused names in a page up to which they are not compacted."""
_HASH = (1 << 64) - 1
_SECRET = secrets.randbits(64) | 1
"""Inode numbers are hashes of what servers say (inodenumbers.py): no server may choose the slots of its files."""
_HEAD = struct.Struct("<QQI")
_FORMAT = "<QQIIHHBIIIqQqqqqqqqqdd"
"""ino, parent's ino, lookups, offset and length of the name in bytes, index of the share, flags, attributes, links,
reparse tag, EA size, file id, created, accessed, written, changed, size, allocated, asked, changed_at, expires,
name_revalidated."""
_ROW = struct.Struct(_FORMAT)
_LOOKUPS = struct.Struct("<I")
_LOOKUPS_AT = 16
_FILE_ID_AT = struct.calcsize("<QQIIHHBIIIq")
_DIRECTORY, _TIME_WAS_SET, _KERNEL_SIZE, _READ_WITHOUT_LEASE, _HARD_LINKS = 1, 2, 4, 8, 16


class Forgotten(NamedTuple):
    """What is to be remembered of an inode that has left the table (ordering.EvictedInodes)."""

    parent: int
    share: UncPath
    file_id: int
    changed: int
    time_was_set: bool
    links: int


class _Page:
    """Rows, the indexes of the free ones, the names of the others, and how many bytes of names are unused."""

    __slots__ = ("free", "names", "rows", "wasted")

    def __init__(self) -> None:
        self.rows = bytearray(_ROW.size * PAGE)
        self.free = array("H", range(PAGE - 1, -1, -1))
        self.names = bytearray()
        self.wasted = 0


class PackedInodes:
    """See the module's text."""

    def __init__(self) -> None:
        self._pages: list[_Page | None] = []
        self._pages_with_room: dict[int, None] = {}
        """Indexes of pages with a free row; the last one is used first."""
        self._by_number = RowIndex()
        self._by_name = RowIndex()
        self._shares: list[UncPath] = []
        self._share_numbers: dict[UncPath, int] = {}
        self._last_share: UncPath | None = None
        self._last_number = 0
        self._access_caches: dict[int, dict[int, float]] = {}
        """Inode.access_cache by inode number, with `multiuser`."""
        self._stamps: dict[int, tuple[int, int]] = {}
        """PageCacheState.stamp by inode number, of files that were opened."""
        self._count = 0
        self.lookups = 0
        """The lookups of all packed inodes together."""

    def __len__(self) -> int:
        return self._count

    # -- packing and unpacking ----- --------------------------------------------------------------------------------

    def pack(self, inode: Inode) -> bool:
        """Packs an inode to which only the table refers. False: it has something that a row has no room for."""
        stat, parent = inode.stat, inode.parent
        if stat is None or parent is None or inode.share is None or not _is_plain(inode, stat):
            return False
        name = inode.name.encode("utf-8", "surrogatepass")
        row = self._take_row()
        page = self._page(row)
        try:
            _ROW.pack_into(
                page.rows,
                row % PAGE * _ROW.size,
                inode.ino,
                parent.ino,
                inode.lookups,
                len(page.names),
                len(name),
                self._share_number(inode.share),
                _flags_of(inode),
                stat.attributes,
                stat.links,
                stat.reparse_tag,
                stat.ea_size,
                inode.file_id,
                stat.created,
                stat.accessed,
                stat.written,
                stat.changed,
                stat.size,
                stat.allocated,
                inode.asked,
                inode.changed_at,
                inode.expires,
                inode.name_revalidated,
            )
        except struct.error:  # numbers of a server that no file has
            self._free_row(row)
            return False
        page.names += name
        self._by_number.add(_number_hash(inode.ino), row)
        self._by_name.add(hash((parent.ino, inode.name)) & _HASH, row)
        if inode.access_cache:
            self._access_caches[inode.ino] = inode.access_cache
        if inode.page_cache.stamp is not None:
            self._stamps[inode.ino] = inode.page_cache.stamp
        self._count += 1
        self.lookups += inode.lookups
        return True

    def unpack(self, ino: int, inodes: dict[int, Inode]) -> Inode | None:
        """Unpacks the inode with a number, if it is here; `inodes` has its parent."""
        row = self._row_of(ino)
        return None if row is None else self._unpack_row(row, inodes)

    def unpack_name(self, parent: Inode, name: str, inodes: dict[int, Inode]) -> Inode | None:
        """Unpacks the inode that has a name in a directory, if it is here."""
        place = (parent.ino, name)
        row = self._by_name.find(hash(place) & _HASH, lambda row: self._place_of(row) == place)
        return None if row is None else self._unpack_row(row, inodes)

    def unpack_children(self, parent: Inode, inodes: dict[int, Inode]) -> list[Inode]:
        """Unpacks all inodes in a directory. Reads every row, so it is for rare cases only."""
        rows = [row for row in self._rows() if self._head(row)[1] == parent.ino]
        return [self._unpack_row(row, inodes) for row in rows]

    def has(self, ino: int) -> bool:
        """Whether a number is that of a packed inode."""
        return self._row_of(ino) is not None

    def forget(self, ino: int, count: int) -> Forgotten | None:
        """Gives back `count` lookups of a packed inode. With the last one it is dropped: what is to be remembered of
        it.
        """
        row = self._row_of(ino)
        if row is None:
            return None
        page, at = self._page(row), row % PAGE * _ROW.size
        lookups = self._head(row)[2]
        count = min(count, lookups)
        self.lookups -= count
        _LOOKUPS.pack_into(page.rows, at + _LOOKUPS_AT, lookups - count)
        if lookups > count:
            return None
        _, parent, _, _, _, share, flags, _, links, _, _, file_id, *rest = _ROW.unpack_from(page.rows, at)
        self._access_caches.pop(ino, None)
        self._stamps.pop(ino, None)
        self._remove(row)
        return Forgotten(parent, self._shares[share], file_id, rest[7], bool(flags & _TIME_WAS_SET), links)

    def forget_ids(self, share: UncPath | None) -> None:
        """Clears the file ids of a share, or of all."""
        wanted = None if share is None else self._share_numbers.get(share, -1)
        for row in self._rows():
            page, at = self._page(row), row % PAGE * _ROW.size
            if wanted is None or _ROW.unpack_from(page.rows, at)[5] == wanted:
                struct.pack_into("<Q", page.rows, at + _FILE_ID_AT, 0)

    def dentries(self) -> Iterator[tuple[int, int, str]]:
        """The number, the parent's number and the name of each inode. For tests."""
        for row in self._rows():
            yield self._number_of(row), *self._place_of(row)

    # -- rows -------------------------------------------------------------------------------------------------------

    def _unpack_row(self, row: int, inodes: dict[int, Inode]) -> Inode:
        page = self._page(row)
        values = _ROW.unpack_from(page.rows, row % PAGE * _ROW.size)
        ino, parent, lookups, start, length, share, flags, attributes, links, tag, ea_size, file_id, *rest = values
        created, accessed, written, changed, size, allocated, asked, changed_at, expires, name_revalidated = rest
        name = page.names[start : start + length].decode("utf-8", "surrogatepass")
        stamp, read_without_lease = self._stamps.pop(ino, None), bool(flags & _READ_WITHOUT_LEASE)
        has_page_cache = stamp is not None or read_without_lease
        self.lookups -= lookups
        self._remove(row)
        return Inode(
            ino,
            name,
            bool(flags & _DIRECTORY),
            inodes[parent],
            share=self._shares[share],
            file_id=file_id,
            had_hard_links=bool(flags & _HARD_LINKS),
            changed_at=changed_at,
            lookups=lookups,
            stat=FileStat(
                created, accessed, written, changed, attributes, size, allocated, file_id, links, tag, ea_size
            ),
            expires=expires,
            name_revalidated=name_revalidated,
            asked=asked,
            access_cache=self._access_caches.pop(ino, None),
            page_cache=PageCacheState(None, stamp, None, read_without_lease) if has_page_cache else NO_PAGE_CACHE,
            kernel_size=size if flags & _KERNEL_SIZE else NO_SIZE,
            time_was_set=bool(flags & _TIME_WAS_SET),
        )

    def _remove(self, row: int) -> None:
        page = self._page(row)
        self._by_number.remove(_number_hash(self._number_of(row)), row)
        self._by_name.remove(hash(self._place_of(row)) & _HASH, row)
        page.wasted += self._name_at(row)[1]
        self._count -= 1
        self._free_row(row)
        if page.wasted > max(SLACK, len(page.names) // 2):
            self._compact_names(row // PAGE)

    def _compact_names(self, number: int) -> None:
        page, names = self._pages[number], bytearray()
        if page is None:
            return
        for index in set(range(PAGE)).difference(page.free):
            start, length = self._name_at(number * PAGE + index)
            struct.pack_into("<I", page.rows, index * _ROW.size + _HEAD.size, len(names))
            names += page.names[start : start + length]
        page.names, page.wasted = names, 0

    def _take_row(self) -> int:
        if not self._pages_with_room:
            number = next((index for index, page in enumerate(self._pages) if page is None), len(self._pages))
            self._pages[number : number + 1] = [_Page()]
            self._pages_with_room[number] = None
        number = next(reversed(self._pages_with_room))
        page = self._pages[number]
        assert page is not None
        index = page.free.pop()
        if not page.free:
            del self._pages_with_room[number]
        return number * PAGE + index

    def _free_row(self, row: int) -> None:
        number = row // PAGE
        page = self._page(row)
        page.free.append(row % PAGE)
        self._pages_with_room.setdefault(number)
        if len(page.free) == PAGE:
            self._pages[number] = None
            del self._pages_with_room[number]

    def _rows(self) -> Iterator[int]:
        for number, page in enumerate(self._pages):
            if page is not None:
                yield from (number * PAGE + index for index in set(range(PAGE)).difference(page.free))

    def _page(self, row: int) -> _Page:
        page = self._pages[row // PAGE]
        assert page is not None
        return page

    # -- what is in a row -------------------------------------------------------------------------------------------

    def _head(self, row: int) -> tuple[int, int, int]:
        """The number, the parent's number and the lookups of a row."""
        found: tuple[int, int, int] = _HEAD.unpack_from(self._page(row).rows, row % PAGE * _ROW.size)
        return found

    def _number_of(self, row: int) -> int:
        return self._head(row)[0]

    def _row_of(self, ino: int) -> int | None:
        return self._by_number.find(_number_hash(ino), lambda row: self._head(row)[0] == ino)

    def _name_at(self, row: int) -> tuple[int, int]:
        """The offset and the length of the name of a row, in bytes."""
        found: tuple[int, int] = struct.unpack_from("<IH", self._page(row).rows, row % PAGE * _ROW.size + _HEAD.size)
        return found

    def _place_of(self, row: int) -> tuple[int, str]:
        """The number of the directory, and the name in it, of a row's inode."""
        start, length = self._name_at(row)
        name = self._page(row).names[start : start + length]
        return self._head(row)[1], name.decode("utf-8", "surrogatepass")

    def _share_number(self, share: UncPath) -> int:
        if share is self._last_share:
            return self._last_number  # hashing a path takes as long as all the rest
        number = self._share_numbers.get(share)
        if number is None:
            number = self._share_numbers[share] = len(self._shares)
            self._shares.append(share)
        self._last_share, self._last_number = share, number
        return number


def _number_hash(ino: int) -> int:
    return (ino * _SECRET >> 32) & _HASH


def _flags_of(inode: Inode) -> int:
    return (
        (_DIRECTORY if inode.is_directory else 0)
        | (_TIME_WAS_SET if inode.time_was_set else 0)
        | (_KERNEL_SIZE if inode.kernel_size >= 0 else 0)
        | (_READ_WITHOUT_LEASE if inode.page_cache.read_without_lease else 0)
        | (_HARD_LINKS if inode.had_hard_links else 0)
    )


def _is_plain(inode: Inode, stat: FileStat) -> bool:
    """Whether a row has room for all that is known of an inode. `change_count` and `page_cache.breaks` are compared by
    open files only.
    """
    in_use = inode.open_count or inode.children or inode.packed_children or inode.writers or inode.pending_changes
    placed = inode.hard_links or inode.detached or inode.detached_from or inode.has_moved or inode.removed
    replaced = inode.forwarded or inode.silly
    directory = inode.anchor or inode.spellings or inode.changed_names or inode.is_loop or inode.is_snapshot_dir
    cached = inode.listing is not None and (inode.listing.cached or inode.listing.lookup_rate)
    held = inode.page_cache.lease or inode.page_cache.data_lease or inode.local_writes
    if in_use or placed or replaced or directory or cached or held or not inode.lookups:
        return False
    if stat.special is not None or inode.kernel_size not in (NO_SIZE, stat.size):
        return False
    return bool(inode.file_id) and stat.file_id == inode.file_id

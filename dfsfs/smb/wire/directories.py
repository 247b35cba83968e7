"""The answers to QUERY_DIRECTORY: FileIdBothDirectoryInformation (MS-FSCC 2.4.17), decoded entry by entry.

A directory of 100,000 files is a listing of 15 MB. What is done with most entries is to look for a name among them, or
to hand them on one by one, so only their places are found at once, and an entry is decoded when it is asked for.

Pure. Decoders check every length against the buffer and return a value or raise WireError.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

from dfsfs.errors import WireError
from dfsfs.filetime import filetime_to_ns
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.smb.wire.fscc import MAX_SIZE, NAME_UNITS_MAX, DirEntry, FileStat
from dfsfs.smb.wire.reparse import MFSYMLINK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dfsfs.smb.wire.fscc import Buffer

_ENTRY = struct.Struct("<8xQQQQQQIIIBB24sHQ")
"""CreationTime up to FileName."""
_OUTLINE = struct.Struct("<I36xQQII")
"""NextEntryOffset, EndOfFile, AllocationSize, FileAttributes, FileNameLength: what is needed to find the next one."""
_NAME_LENGTH = struct.Struct("<60xI")
_NAME_BYTES_MAX = 2 * NAME_UNITS_MAX
_DOTS = (b".\0", b".\0.\0")
_REPARSE_POINT: Final = int(FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT)


class DirectoryPage(Sequence[DirEntry]):
    """The entries of one or more answers, in a buffer of its own, without `.` and `..`. A slice, of step 1, is a page
    with the same buffer.

    `unusual`: the indexes of entries that may be other than files and directories: reparse points, and files of the
    size of a symbolic link that is kept in a file.
    """

    __slots__ = ("_buffer", "_places", "unusual")

    def __init__(self) -> None:
        self._buffer = b""
        self._places = array("I")
        self.unusual: list[int] = []

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> DirEntry: ...

    @overload
    def __getitem__(self, index: slice) -> DirectoryPage: ...

    def __getitem__(self, index: int | slice) -> DirEntry | DirectoryPage:
        if isinstance(index, int):
            return _decode_entry(self._buffer, self._places[index])
        start, stop, _ = index.indices(len(self._places))
        part = DirectoryPage()
        part._buffer, part._places = self._buffer, self._places[start:stop]
        part.unusual = [at - start for at in self.unusual if start <= at < stop]
        return part

    def __iter__(self) -> Iterator[DirEntry]:
        buffer = self._buffer
        return (_decode_entry(buffer, place) for place in self._places)

    def name(self, index: int) -> str:
        """The name of an entry."""
        return _decode_name(self._buffer, self._places[index])

    def names(self) -> Iterable[str]:
        """The names of all entries, in their order."""
        buffer = self._buffer
        return (_decode_name(buffer, place) for place in self._places)

    @property
    def size(self) -> int:
        """Bytes of memory, about. Parts of a page share its buffer."""
        places = self._places
        return places[-1] - places[0] + _ENTRY.size + 4 * len(places) if places else 0

    def add(self, buffer: Buffer) -> list[str]:
        """Adds the entries of a QUERY_DIRECTORY response, which is copied. Returns descriptions of those that are left
        out because of an impossible name or size.

        Raises:
            WireError: an entry or a name lies outside the buffer.
        """
        found = bytes(buffer)
        places, unusual, left_out = _scan(found)
        base, count = len(self._buffer), len(self._places)
        if not base:
            self._buffer, self._places, self.unusual = found, places, unusual
            return left_out
        self._buffer += found
        self._places.extend(place + base for place in places)
        self.unusual += [index + count for index in unusual]
        return left_out


def decode_directory(buffer: Buffer) -> tuple[DirectoryPage, list[str]]:
    """The entries of one response, and descriptions of those that are left out. Raises as DirectoryPage.add."""
    page = DirectoryPage()
    left_out = page.add(buffer)
    return page, left_out


def _scan(buffer: bytes) -> tuple[array[int], list[int], list[str]]:
    """The places of all entries, the indexes of unusual ones, and descriptions of those that are left out."""
    places, unusual, left_out = array("I"), list[int](), list[str]()
    position, end, fixed = 0, len(buffer), _ENTRY.size
    unpack, found = _OUTLINE.unpack_from, places.append
    while position < end:
        if end - position < fixed:
            raise WireError(f"a directory entry at {position} does not fit into {end} bytes")
        step, size, allocated, attributes, length = unpack(buffer, position)
        start = position + fixed
        if position + step > end:
            raise WireError(f"the entry after {position} would begin at {position + step}, of {end} bytes")
        if start + length > end or length % 2 or (step and step < fixed + length):
            raise WireError(f"a name of {length} bytes at {start} does not fit into {end} bytes")
        if size > MAX_SIZE or allocated > MAX_SIZE or not 0 < length <= _NAME_BYTES_MAX:
            left_out.append(_describe_bad_entry(buffer[start : start + min(length, _NAME_BYTES_MAX)], length))
        elif length > len(_DOTS[1]) or buffer[start : start + length] not in _DOTS:
            if size == MFSYMLINK_SIZE or attributes & _REPARSE_POINT:
                unusual.append(len(places))
            found(position)
        if not step:
            break
        position += step
    return places, unusual, left_out


def _decode_name(buffer: bytes, place: int) -> str:
    start = place + _ENTRY.size
    return str(buffer[start : start + _NAME_LENGTH.unpack_from(buffer, place)[0]], "utf-16-le", "surrogatepass")


def _decode_entry(buffer: bytes, place: int) -> DirEntry:
    created, accessed, written, changed, size, allocated, attributes, name_length, ea_size, _, _, _, _, file_id = (
        _ENTRY.unpack_from(buffer, place)
    )
    start = place + _ENTRY.size
    # For a reparse point EaSize holds its tag (MS-FSCC 2.4.17).
    tag = ea_size if attributes & _REPARSE_POINT else 0
    stat = FileStat(
        filetime_to_ns(created),
        filetime_to_ns(accessed),
        filetime_to_ns(written),
        filetime_to_ns(changed),
        *(attributes, size, allocated, file_id, 0, tag, -1 if tag else ea_size),
    )
    return DirEntry(str(buffer[start : start + name_length], "utf-16-le", "surrogatepass"), stat)


def _describe_bad_entry(name: bytes, length: int) -> str:
    """What is wrong with an entry of a directory, for the log."""
    if not 0 < length <= _NAME_BYTES_MAX:
        return f"an entry with a name of {length // 2} characters"
    return f"the entry {str(name, 'utf-16-le', 'replace')!r} with a negative size"

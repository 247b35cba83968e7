"""The information classes of files and volumes that SMB2 queries and sets (MS-FSCC 2.4, 2.5); those of listings are in
directories.py.

Pure. Decoders check every length against the buffer and return a value or raise WireError. Times come out as
nanoseconds since the Unix epoch; names are UTF-16 with any 16-bit unit allowed, as they are on NTFS.
"""

from __future__ import annotations

import stat as posix
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dfsfs.errors import ContentError, WireError
from dfsfs.filetime import filetime_to_ns, ns_to_filetime
from dfsfs.smb.wire.constants import FileAttributes, ReparseTag

if TYPE_CHECKING:
    from dfsfs.smb.wire.reparse import SpecialFile

Buffer = bytes | bytearray | memoryview

MAX_SIZE = 0x7FFFFFFFFFFFFFFF
"""Bytes of the largest file: sizes are signed on the wire (MS-FSCC 2.4), and in the kernel."""
NAME_UNITS_MAX = 255
"""The longest name in UTF-16 code units (MS-FSCC 2.1.5)."""

_ALL_INFORMATION = struct.Struct("<QQQQIIQQIBBHQIIQII")  # FileAllInformation up to its name's length
_BASIC = struct.Struct("<QQQQII")
_FULL_SIZE = struct.Struct("<qqqII")


# Bound once: an attribute of an Enum takes five times as long as a global name, and these are asked for each entry.
_DIRECTORY: Final = int(FileAttributes.FILE_ATTRIBUTE_DIRECTORY)
_REPARSE_POINT: Final = int(FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT)
_DFS: Final = int(ReparseTag.IO_REPARSE_TAG_DFS)
_DFSR: Final = int(ReparseTag.IO_REPARSE_TAG_DFSR)


@dataclass(frozen=True, slots=True)
class FileStat:
    """The metadata of a file. Times in ns since 1970 (0: the server sent none), sizes in bytes."""

    created: int
    accessed: int
    written: int
    changed: int
    attributes: int
    size: int
    allocated: int
    file_id: int
    """The 64-bit file id, unique on its volume; 0 if the response has none."""
    links: int
    """The number of hard links; 0 if the response has none."""
    reparse_tag: int
    """0 if it is no reparse point, or if the response has no field for the tag."""
    ea_size: int = -1
    """0 if the file has no EAs, negative if the response has no such field; with other values it may have some."""
    special: SpecialFile | None = None
    """The special file that it is, if that was queried; None: a file or directory, or not queried."""

    @property
    def is_directory(self) -> bool:
        return bool(self.attributes & _DIRECTORY) and self.special is None

    @property
    def is_plain_directory(self) -> bool:
        """Whether it is a directory and no reparse point."""
        return self.is_directory and not self.attributes & _REPARSE_POINT

    @property
    def kind(self) -> int:
        """The file type of st_mode: S_IFREG, S_IFDIR, S_IFLNK and so on."""
        if self.special is not None:
            return self.special.kind
        return posix.S_IFDIR if self.attributes & _DIRECTORY else posix.S_IFREG

    @property
    def is_dfs_link(self) -> bool:
        """Whether it has the tag of a DFS link in a namespace root."""
        return bool(self.attributes & _REPARSE_POINT) and self.reparse_tag in (_DFS, _DFSR)

    @property
    def is_marked_link(self) -> bool:
        """Whether an entry of a listing is certainly a DFS link.

        The tag of DFS Replication is no proof: replicated directories have it, too. Such an entry is taken for a
        directory until the server answers PATH_NOT_COVERED.
        """
        return self.is_dfs_link and self.reparse_tag == _DFS


@dataclass(frozen=True, slots=True)
class DirEntry:
    """An entry of a directory listing."""

    name: str
    stat: FileStat


MAX_UNIT = 2**31 - 1
"""Bytes of the largest cluster that is accepted: FUSE has 32 bits for it."""


@dataclass(frozen=True, slots=True)
class VolumeSize:
    """Sizes in bytes. `caller_free`: the part of `free` that the user's quota leaves; `unit`: the cluster size."""

    total: int
    free: int
    caller_free: int
    unit: int


def decode_all_information(buffer: Buffer) -> FileStat:
    """FileAllInformation (MS-FSCC 2.4.2); the name at its end may be cut.

    Raises:
        WireError: it is too short.
        ContentError: a size in it is negative.
    """
    if len(buffer) < _ALL_INFORMATION.size:
        raise WireError(f"FileAllInformation of {len(buffer)} bytes")
    fields = _ALL_INFORMATION.unpack_from(buffer)
    if fields[6] > MAX_SIZE or fields[7] > MAX_SIZE:
        raise ContentError("FileAllInformation with a negative size")
    created, accessed, written, changed = map(filetime_to_ns, fields[:4])
    return FileStat(
        created=created,
        accessed=accessed,
        written=written,
        changed=changed,
        attributes=fields[4],
        allocated=fields[6],
        size=fields[7],
        links=fields[8],
        file_id=fields[12],
        reparse_tag=0,
        ea_size=fields[13],
    )


def encode_basic_information(
    created: int | None, accessed: int | None, written: int | None, changed: int | None, attributes: int = 0
) -> bytes:
    """FileBasicInformation (MS-FSCC 2.4.7). Times in ns since 1970, None leaves one as it is; attributes 0 leaves
    them.
    """
    times = [0 if time is None else ns_to_filetime(time) for time in (created, accessed, written, changed)]
    return _BASIC.pack(*times, attributes, 0)


def encode_attributes(attributes: int) -> bytes:
    """FileBasicInformation that leaves all times as they are."""
    return encode_basic_information(None, None, None, None, attributes)


def encode_end_of_file(size: int) -> bytes:
    """FileEndOfFileInformation (MS-FSCC 2.4.14): the size in bytes."""
    return struct.pack("<Q", size)


def encode_rename(new_name: str, *, replace: bool) -> bytes:
    """FileRenameInformation in the form SMB2 uses (MS-FSCC 2.4.42.2). `new_name` is relative to the share."""
    encoded = new_name.encode("utf-16-le", "surrogatepass")
    return struct.pack("<B7xQI", replace, 0, len(encoded)) + encoded


def encode_link(new_name: str) -> bytes:
    """FileLinkInformation in the form SMB2 uses (MS-FSCC 2.4.27.2). `new_name` is relative to the share."""
    return encode_rename(new_name, replace=False)


def encode_disposition(*, delete: bool = True) -> bytes:
    """FileDispositionInformation (MS-FSCC 2.4.11): delete the file once its last handle is closed, or do not."""
    return bytes([delete])


def decode_full_size(buffer: Buffer) -> VolumeSize:
    """FileFsFullSizeInformation (MS-FSCC 2.5.4).

    Raises:
        WireError: it is too short, a size in it is negative, or a cluster has no bytes or more than can be reported.
    """
    if len(buffer) < _FULL_SIZE.size:
        raise WireError(f"FileFsFullSizeInformation of {len(buffer)} bytes")
    total, caller_free, free, sectors, sector = _FULL_SIZE.unpack_from(buffer)
    if min(total, caller_free, free) < 0:
        raise WireError("FileFsFullSizeInformation with a negative size")
    unit = sectors * sector
    if not 0 < unit <= MAX_UNIT:
        raise WireError(f"FileFsFullSizeInformation with clusters of {sectors} sectors of {sector} bytes")
    return VolumeSize(total=total * unit, free=free * unit, caller_free=caller_free * unit, unit=unit)

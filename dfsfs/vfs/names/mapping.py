"""Between the two worlds, name by name and value by value: POSIX names and attributes and those of SMB.

Names. A POSIX name is bytes, in UTF-8; a name on the wire is UTF-16 and may not have `" * : < > ? \\ |`, control
characters, or a space or dot at its end. Such a character is sent as one of the private range, in one of two styles:

    SFM   as Services for Macintosh did: `mapposix` of mount.cifs, and what macOS and Samba's vfs_fruit do. A control
          character is U+F000 plus its code, the others are U+F020 to U+F029
    SFU   as Services for Unix did: `mapchars` of mount.cifs. All are U+F000 plus their code
    NONE  `nomapposix`: names go to the server as they are

Both directions are exact inverses for every name without a character of that range. Spaces and dots are changed at the
end only.

Attributes. SMB knows one permission, the read-only attribute; owner and mode are those that the mount was told:

    chmod   The owner's write bit of a file is the read-only attribute. Every other bit is given up silently.
    chown   Is given up silently, so that `rsync -a`, `cp -p` and `tar x` of root end without an error.
    times   Are kept to 100 ns, the unit of SMB, so that what is answered after a change is what the server will say.

Both are what mount.cifs does on a server without POSIX extensions. Pure code; it never asks a server.
"""

from __future__ import annotations

import errno
import stat as posix
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from dfsfs.caller import current_caller
from dfsfs.errors import PosixError
from dfsfs.smb.wire.constants import FileAttributes
from dfsfs.smb.wire.fscc import NAME_UNITS_MAX, FileStat
from dfsfs.smb.wire.reparse import SpecialFile

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK_SIZE = 1024 * 1024
"""st_blksize of files, in bytes: programs make their buffers so large. A write of that size is one FUSE request."""
DIRECTORY_BLOCK_SIZE = 32 * 1024
"""st_blksize of directories, in bytes: the buffer that glibc reads one with, and so what the kernel asks for at once.
It is glibc's own least; with 1 MiB, each seekdir(3) of a program brought some 5,000 entries of which it wanted one."""
SECTOR = 512
"""The unit of st_blocks, in bytes, whatever st_blksize is."""
WRITE_BITS = 0o222
_EVERYDAY = range(2**31 * 10**9)
"""Times, in ns since 1970, that every file system has."""
_LINK_MODE = 0o777

_READONLY = int(FileAttributes.FILE_ATTRIBUTE_READONLY)


class NameStyle(Enum):
    """How characters are sent that SMB names can't have: see the module's text."""

    SFM = auto()
    SFU = auto()
    NONE = auto()


class _Tables:
    """The characters of a style, both ways: anywhere in a name, and at its end."""

    def __init__(self, reserved: Mapping[str, int], trailing: Mapping[str, int]) -> None:
        codes = {**{chr(code): 0xF000 + code for code in range(1, 0x20)}, **reserved}
        self.to_wire = str.maketrans({char: chr(code) for char, code in codes.items()})
        self.from_wire = str.maketrans({chr(code): char for char, code in codes.items()})
        self.trailing_to_wire = {char: chr(code) for char, code in trailing.items()}
        self.trailing_from_wire = {chr(code): char for char, code in trailing.items()}


_RESERVED = '"*:<>?\\|'
_TABLES = {
    NameStyle.SFM: _Tables(dict(zip(_RESERVED, range(0xF020, 0xF028), strict=True)), {" ": 0xF028, ".": 0xF029}),
    NameStyle.SFU: _Tables({char: 0xF000 + ord(char) for char in _RESERVED}, {" ": 0xF020, ".": 0xF02E}),
}


@dataclass(frozen=True, slots=True)
class NameMapping:
    """How names change between POSIX and the wire."""

    style: NameStyle = NameStyle.SFM

    def to_wire(self, name: bytes) -> str:
        """The name as a server has it.

        Raises:
            PosixError: too long (ENAMETOOLONG), not UTF-8, or a backslash in it while the mapping is off (EILSEQ).
        """
        try:
            text = name.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise PosixError(errno.EILSEQ, f"the name {name!r} is not UTF-8") from None
        if len(text) > NAME_UNITS_MAX or len(text.encode("utf-16-le", "surrogatepass")) > 2 * NAME_UNITS_MAX:
            raise PosixError(errno.ENAMETOOLONG, f"a name of more than {NAME_UNITS_MAX} UTF-16 units")
        tables = _TABLES.get(self.style)
        if tables is not None:
            text = text.translate(tables.to_wire)
            return text[:-1] + tables.trailing_to_wire.get(text[-1], text[-1]) if text else text
        if "\\" in text:
            raise PosixError(errno.EILSEQ, f"the name {text!r} has a backslash, and names are not mapped (nomapposix)")
        return text

    def from_wire(self, name: str) -> bytes | None:
        """The name as programs see it, or None for one that no POSIX name stands for (a server must not send it)."""
        if "\\" in name:
            return None
        tables = _TABLES.get(self.style)
        if tables is not None and name:
            name = name.translate(tables.from_wire)
            name = name[:-1] + tables.trailing_from_wire.get(name[-1], name[-1])
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            return None
        return name.encode("utf-8", "surrogatepass")

    def link_to_wire(self, target: bytes) -> SpecialFile:
        """A symbolic link to a target. It gets a form that Windows understands if it is relative and has one.

        Raises:
            PosixError: EILSEQ, the target is not UTF-8.
        """
        try:
            text = target.decode("utf-8")
        except UnicodeDecodeError:
            raise PosixError(errno.EILSEQ, f"the target {target!r} is not UTF-8") from None
        if target.startswith(b"/"):
            return SpecialFile(posix.S_IFLNK, text)
        try:
            wire = [part.decode() if part in _STEPS else self.to_wire(part) for part in target.split(b"/")]
        except PosixError:
            return SpecialFile(posix.S_IFLNK, text)
        return SpecialFile(posix.S_IFLNK, text, "/".join(wire))

    def link_from_wire(self, link: SpecialFile) -> bytes:
        """The target of a symbolic link, as readlink(2) shows it."""
        if not link.wire_target:
            return link.target.encode("utf-8", "surrogateescape")
        parts = link.wire_target.split("/")
        return b"/".join(self.from_wire(part) or part.encode("utf-8", "surrogatepass") for part in parts)


_STEPS = (b"", b".", b"..")
"""Components of a path that are no names."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) and statx(2) show. Times in ns since the epoch, `size` in bytes, `blocks` in units of 512 bytes.

    `btime_ns`: when the file was made, as its server says; 0 if that is not known.
    """

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device."""


@dataclass(frozen=True, slots=True)
class AttributeChanges:
    """What a program asks to change; None leaves a value as it is. Times in ns since the epoch."""

    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None

    @property
    def sets_times(self) -> bool:
        return self.atime_ns is not None or self.mtime_ns is not None

    @property
    def sets_odd_times(self) -> bool:
        """Whether a time is one that a server's file system may not have (ext4: 1901 to 2446). Samba's answer on the
        handle repeats what was asked for, whatever became of it; an open of its own says what is there.
        """
        return any(time is not None and time not in _EVERYDAY for time in (self.atime_ns, self.mtime_ns))


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owner and the modes that all files of the mount have. The modes are permission bits without the file type."""

    uid: int = 0
    gid: int = 0
    file_mode: int = 0o755
    dir_mode: int = 0o755
    of_caller: bool = False
    """Whether the current caller is shown as the owner, as with `multiuser` without uid= and gid=: programs such as git
    refuse to work in directories of other users."""

    def attributes(self, ino: int, stat: FileStat) -> Attributes:
        """What stat(2) shows for a file or directory of a server."""
        directory, special = stat.is_directory, stat.special
        mode = posix.S_IFDIR | self.dir_mode if directory else posix.S_IFREG | self.file_mode
        if special is not None:
            mode = special.kind | (_LINK_MODE if special.kind == posix.S_IFLNK else self.file_mode)
        elif not directory and stat.attributes & _READONLY:
            mode &= ~WRITE_BITS
        uid, gid = current_caller()[:2] if self.of_caller else (self.uid, self.gid)
        return Attributes(
            ino=ino,
            mode=mode,
            nlink=2 if directory else stat.links or 1,
            uid=uid,
            gid=gid,
            size=stat.size,
            blocks=-(-stat.allocated // SECTOR),
            blksize=DIRECTORY_BLOCK_SIZE if directory else BLOCK_SIZE,
            atime_ns=stat.accessed,
            mtime_ns=stat.written,
            ctime_ns=stat.changed or stat.written,
            btime_ns=stat.created,
            device=(0, 0) if special is None else special.device,
        )

    def link_attributes(self, ino: int, listed: FileStat | None) -> Attributes:
        """What stat(2) shows for a DFS link whose target was not asked; `listed`: the attributes in its directory's
        listing.
        """
        if listed is None:
            return self.attributes(ino, EMPTY_DIRECTORY)
        return self.attributes(
            ino, replace(listed, attributes=FileAttributes.FILE_ATTRIBUTE_DIRECTORY, size=0, allocated=0, reparse_tag=0)
        )


EMPTY_DIRECTORY = FileStat(
    created=0,
    accessed=0,
    written=0,
    changed=0,
    attributes=FileAttributes.FILE_ATTRIBUTE_DIRECTORY,
    size=0,
    allocated=0,
    file_id=0,
    links=2,
    reparse_tag=0,
)


def attributes_for_mode(stat: FileStat, mode: int) -> int | None:
    """The SMB attributes that express `mode`, or None if those that `stat` has do so already."""
    readonly = not mode & posix.S_IWUSR
    if stat.kind != posix.S_IFREG or readonly == bool(stat.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY):
        return None
    if readonly:
        return (stat.attributes & ~FileAttributes.FILE_ATTRIBUTE_NORMAL) | FileAttributes.FILE_ATTRIBUTE_READONLY
    # A value of 0 would mean "leave the attributes alone" (MS-FSCC 2.4.7).
    return (stat.attributes & ~FileAttributes.FILE_ATTRIBUTE_READONLY) or FileAttributes.FILE_ATTRIBUTE_NORMAL

"""Special files, that is symbolic links, devices, fifos and sockets, in the formats in which servers store them.

    IO_REPARSE_TAG_SYMLINK       a symbolic link of Windows (MS-FSCC 2.1.2.4)
    IO_REPARSE_TAG_NFS           stored by the NFS server of Windows: links, devices, fifos, sockets (2.1.2.6)
    IO_REPARSE_TAG_LX_*, AF_UNIX stored by the Linux subsystem of Windows: the same (2.1.2.7)
    IO_REPARSE_TAG_MOUNT_POINT   a directory in place of which its server opens another one (2.1.2.5)
    mfsymlink                    a file of 1,067 bytes that contains the target, for servers without reparse points;
                                 mount.cifs and macOS know it, too

The content of a file may come from a source that must not make symbolic links, such as an upload to a web server. So an
mfsymlink counts only with the option `mfsymlinks`, or if the file has the mark of dfsfs: an EA with a digest of the
content. Setting an EA takes the right to make symbolic links in other ways, and content that is written later does not
match the digest.

All of this is stored by users with write access to the share. Pure. Decoders check every length against the buffer, and
that the kernel can be given what they return; else they raise ContentError.
"""

from __future__ import annotations

import hashlib
import stat as posix
import struct
from dataclasses import dataclass

from dfsfs.errors import ContentError
from dfsfs.smb.wire.constants import SYMLINK_FLAG_RELATIVE, ReparseTag
from dfsfs.smb.wire.missing_constants import (
    NFS_SPECFILE_BLK,
    NFS_SPECFILE_CHR,
    NFS_SPECFILE_FIFO,
    NFS_SPECFILE_LNK,
    NFS_SPECFILE_SOCK,
)

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class SpecialFile:
    """A symbolic link, device, fifo or socket."""

    kind: int
    """S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR or S_IFBLK."""
    target: str = ""
    """Of a symbolic link: the target for programs."""
    wire_target: str = ""
    """Of a symbolic link: the target in the format of Windows with slashes, if it has one. Its components are names as
    on the wire.
    """
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device."""

    @property
    def is_dfs_link(self) -> bool:
        """Whether Samba takes it for a DFS link, by its target on the server, whose case does not matter."""
        return (self.wire_target or self.target)[: len(_DFS_TARGET)].lower() == _DFS_TARGET


_DFS_TARGET = "msdfs:"
"""The prefix of targets that Samba takes for DFS links."""
SPECIAL_TAGS = frozenset(ReparseTag) - {
    ReparseTag.IO_REPARSE_TAG_DFS,
    ReparseTag.IO_REPARSE_TAG_DFSR,
    ReparseTag.IO_REPARSE_TAG_MOUNT_POINT,
}
"""The tags of special files."""

TARGET_MAX = 4095
"""Bytes of the longest target of a symbolic link (PATH_MAX without the zero at its end)."""
MAJOR_MAX, MINOR_MAX = 0xFFF, 0xFFFFF
"""The largest device numbers: Linux has 12 and 20 bits for them."""

MFSYMLINK_SIZE = 1067
"""Bytes of an mfsymlink."""
_MFSYMLINK_TARGET = 1024
"""Bytes of the longest target of an mfsymlink."""
LINK_MARK = b"DFSFS.LINK"
"""The name of the EA that marks an mfsymlink of dfsfs."""

_HEADER = struct.Struct("<IHH")  # tag, length, reserved
_SYMLINK = struct.Struct("<HHHHI")  # offset and length of the substitute name, then of the print name, flags
_NFS_TYPES = {
    posix.S_IFLNK: NFS_SPECFILE_LNK,
    posix.S_IFCHR: NFS_SPECFILE_CHR,
    posix.S_IFBLK: NFS_SPECFILE_BLK,
    posix.S_IFIFO: NFS_SPECFILE_FIFO,
    posix.S_IFSOCK: NFS_SPECFILE_SOCK,
}
_NFS_KINDS = {number: kind for kind, number in _NFS_TYPES.items()}
_WSL_KINDS = {
    ReparseTag.IO_REPARSE_TAG_AF_UNIX: posix.S_IFSOCK,
    ReparseTag.IO_REPARSE_TAG_LX_FIFO: posix.S_IFIFO,
    ReparseTag.IO_REPARSE_TAG_LX_CHR: posix.S_IFCHR,
    ReparseTag.IO_REPARSE_TAG_LX_BLK: posix.S_IFBLK,
}


# -- reading ----------------------------------------------------------------------------------------------------------


def decode_reparse(buffer: Buffer, devices: tuple[int, int] | None = None) -> SpecialFile | None:
    """Decodes the output of FSCTL_GET_REPARSE_POINT (MS-FSCC 2.1.2.2); None if the tag is not one of a special file.
    `devices`: the numbers in the EA $LXDEV, for devices of the Linux subsystem.

    Raises:
        ContentError: it is too short, or malformed for its tag.
    """
    view = memoryview(buffer)
    if len(view) < _HEADER.size:
        raise ContentError(f"a reparse point of {len(view)} bytes")
    tag, length, _ = _HEADER.unpack_from(view)
    if _HEADER.size + length > len(view):
        raise ContentError(f"a reparse point with {length} bytes of data, of which {len(view) - _HEADER.size} came")
    data = view[_HEADER.size : _HEADER.size + length]
    if tag == ReparseTag.IO_REPARSE_TAG_SYMLINK:
        return _decode_symlink(data)
    if tag == ReparseTag.IO_REPARSE_TAG_NFS:
        return _decode_nfs(data)
    if tag == ReparseTag.IO_REPARSE_TAG_LX_SYMLINK:
        if len(data) < 4:
            raise ContentError(f"a symbolic link of the Linux subsystem with {len(data)} bytes")
        return SpecialFile(posix.S_IFLNK, _check_target(str(data[4:], "utf-8", "surrogateescape")))
    kind = _WSL_KINDS.get(tag)
    return None if kind is None else _make_device(kind, *(devices or (0, 0)))


def tag_of(buffer: Buffer) -> int:
    """The tag of a reparse point. Raises: ContentError: it is too short."""
    if len(buffer) < _HEADER.size:
        raise ContentError(f"a reparse point of {len(buffer)} bytes")
    tag: int = _HEADER.unpack_from(buffer)[0]
    return tag


def _decode_symlink(data: memoryview) -> SpecialFile:
    if len(data) < _SYMLINK.size:
        raise ContentError(f"a symbolic link with {len(data)} bytes")
    offset, length, _, _, flags = _SYMLINK.unpack_from(data)
    name = data[_SYMLINK.size :]
    if offset + length > len(name) or length % 2:
        raise ContentError(
            f"the target of a symbolic link, {length} bytes at {offset}, is not in its {len(name)} bytes"
        )
    target = str(name[offset : offset + length], "utf-16-le", "surrogatepass").replace("\\", "/")
    _check_length(target, target.encode("utf-8", "surrogatepass"))
    if not flags & SYMLINK_FLAG_RELATIVE and target.startswith("/??/UNC/"):
        target = "//" + target.removeprefix("/??/UNC/")
    return SpecialFile(posix.S_IFLNK, wire_target=target)


def _decode_nfs(data: memoryview) -> SpecialFile | None:
    if len(data) < 8:
        raise ContentError(f"a special file of an NFS server with {len(data)} bytes")
    kind = _NFS_KINDS.get(int.from_bytes(data[:8], "little"))
    rest = data[8:]
    if kind == posix.S_IFLNK:
        if len(rest) % 2:
            raise ContentError(f"a symbolic link of an NFS server with a target of {len(rest)} bytes")
        try:
            return SpecialFile(kind, _check_target(str(rest, "utf-16-le").rstrip("\0")))
        except UnicodeDecodeError:
            raise ContentError("a symbolic link of an NFS server with a target that is no UTF-16") from None
    if kind in (posix.S_IFCHR, posix.S_IFBLK):
        if len(rest) < 8:
            raise ContentError("a device of an NFS server without its numbers")
        return _make_device(kind, *struct.unpack_from("<II", rest))
    return None if kind is None else SpecialFile(kind)


def _make_device(kind: int, major: int, minor: int) -> SpecialFile:
    if major > MAJOR_MAX or minor > MINOR_MAX:
        raise ContentError(f"a device with the numbers {major} and {minor}")
    return SpecialFile(kind, device=(major, minor))


def _check_target(target: str) -> str:
    """Returns the target. Raises: ContentError: programs can't be given it."""
    _check_length(target, target.encode("utf-8", "surrogateescape"))
    return target


def _check_length(target: str, encoded: bytes) -> None:
    if not 0 < len(encoded) <= TARGET_MAX or "\0" in target:
        raise ContentError(
            f"a symbolic link with a target of {len(encoded)} bytes, {target.count(chr(0))} of them zero"
        )


def decode_mfsymlink(content: Buffer) -> SpecialFile | None:
    """Decodes a file of MFSYMLINK_SIZE bytes; None if it is no mfsymlink."""
    head, _, rest = bytes(content).partition(b"\n")
    size, _, rest = rest.partition(b"\n")
    digest, _, rest = rest.partition(b"\n")
    if len(content) != MFSYMLINK_SIZE or head != b"XSym" or not size.isdigit() or len(size) != 4:
        return None
    target = rest[: int(size)]
    if (
        not 0 < int(size) <= _MFSYMLINK_TARGET
        or b"\0" in target
        or hashlib.md5(target, usedforsecurity=False).hexdigest().encode() != digest
    ):
        return None
    return SpecialFile(posix.S_IFLNK, target.decode("utf-8", "surrogateescape"))


# -- writing ----------------------------------------------------------------------------------------------------------


def encode_reparse(special: SpecialFile) -> bytes:
    """The input of FSCTL_SET_REPARSE_POINT (MS-FSCC 2.1.2.2): a symbolic link of Windows with a relative target if
    there is a `wire_target`, else the format of the NFS server.
    """
    if special.wire_target:
        name = special.wire_target.replace("/", "\\").encode("utf-16-le", "surrogatepass")
        data = _SYMLINK.pack(0, len(name), len(name), len(name), SYMLINK_FLAG_RELATIVE) + name + name
        return _HEADER.pack(ReparseTag.IO_REPARSE_TAG_SYMLINK, len(data), 0) + data
    data = _NFS_TYPES[special.kind].to_bytes(8, "little")
    if special.kind == posix.S_IFLNK:
        data += special.target.encode("utf-16-le", "surrogatepass")
    elif special.kind in (posix.S_IFCHR, posix.S_IFBLK):
        data += struct.pack("<II", *special.device)
    return _HEADER.pack(ReparseTag.IO_REPARSE_TAG_NFS, len(data), 0) + data


def encode_mfsymlink(target: str) -> bytes | None:
    """The content of an mfsymlink; None if the target is too long."""
    encoded = target.encode("utf-8", "surrogateescape")
    if len(encoded) > _MFSYMLINK_TARGET:
        return None
    digest = hashlib.md5(encoded, usedforsecurity=False).hexdigest().encode()
    content = b"XSym\n%04u\n%s\n%s\n" % (len(encoded), digest, encoded)
    return content.ljust(MFSYMLINK_SIZE, b" ")


def link_mark(content: Buffer) -> bytes:
    """The value of LINK_MARK for a file with this content."""
    return hashlib.sha256(content).hexdigest().encode()

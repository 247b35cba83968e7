"""Extended attributes of xattr(7), and what of SMB and DFS is behind each name:

    user.NAME                    an EA of the server
    user.stream.NAME             an alternate data stream; its data is the value, if it is no larger than 64 KiB
    user.dosattrib               the attributes of SMB (MS-FSCC 2.6) as a number like `0x20`; may be set
    user.cifs.dosattrib          the same as 4 bytes, as the kernel's cifs client has it
    system.cifs_acl              the security descriptor, as that client has it; setting it sets the DACL
    user.dfsfs.sddl              the same for people (SDDL)
    user.dfsfs.btime             when the file was made: seconds since 1970
    user.dfsfs.path              its path in the namespace
    user.dfsfs.target            its path on the server that is used for it now
    user.dfsfs.targets           all targets of the DFS root or link that it is below, one in a line, the first first
    user.dfsfs.referral          that root or link
    user.dfsfs.ttl               for how many seconds more its targets are good
    user.dfsfs.copy              can only be set, and copies on the server: see servercopy.py

Only EAs and streams are listed: they belong to the file, and programs that copy it copy them along. That costs nothing
for a file of which is known that it has none, and otherwise one request. The others would be copied to where they make
no sense.

What is asked for most, by `ls -l` and by the kernel before each write, does not exist here at all: see `is_foreign`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, PosixError
from dfsfs.smb.tree.xattrs import VALUE_MAX
from dfsfs.smb.wire.constants import FileAttributes, FileSystemAttributes
from dfsfs.smb.wire.eas import NAME_MAX
from dfsfs.smb.wire.eas import VALUE_MAX as EA_VALUE_MAX
from dfsfs.smb.wire.fscc import encode_attributes
from dfsfs.smb.wire.sddl import to_sddl
from dfsfs.vfs.names.removals import allow_repeat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.dfsc.walk import Resolution
    from dfsfs.namespace.junction import Attempt
    from dfsfs.vfs.data.fileops import FileOperations
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup

XATTR_NAME_MAX = 255
"""Bytes of the longest name (xattr(7))."""
USER = b"user."
STREAM = b"user.stream."
OURS = b"user.dfsfs."
DOS_ATTRIBUTES = b"user.dosattrib"
CIFS_DOS_ATTRIBUTES = b"user.cifs.dosattrib"
CIFS_ACL = b"system.cifs_acl"
_SETTABLE = int(
    FileAttributes.FILE_ATTRIBUTE_READONLY
    | FileAttributes.FILE_ATTRIBUTE_HIDDEN
    | FileAttributes.FILE_ATTRIBUTE_SYSTEM
    | FileAttributes.FILE_ATTRIBUTE_ARCHIVE
)


def is_foreign(name: bytes) -> bool:
    """Whether no file of a mount can have an attribute of that name: POSIX ACLs, capabilities and the like."""
    return not name.startswith(USER) and name != CIFS_ACL


class Xattrs:
    """See the module's text. All methods raise DfsfsError; ENODATA: there is no such attribute."""

    def __init__(self, lookup: Lookup, files: FileOperations) -> None:
        self._lookup = lookup
        self._files = files
        self._computed: dict[bytes, Callable[[Inode], Awaitable[bytes]]] = {
            b"btime": self._btime,
            b"sddl": self._sddl,
            b"path": self._path,
            b"target": self._target,
            b"targets": self._targets,
            b"referral": self._referral,
            b"ttl": self._ttl,
        }

    async def get(self, inode: Inode, name: bytes) -> bytes:
        """The value of an attribute."""
        if is_foreign(name):
            raise PosixError(errno.EOPNOTSUPP, f"there are no attributes like {name!r} here")
        if name.startswith(OURS):
            return await self._computed_for(name)(inode)
        if name in (DOS_ATTRIBUTES, CIFS_DOS_ATTRIBUTES):
            attributes = await self._dos_attributes(inode)
            return hex(attributes).encode() if name == DOS_ATTRIBUTES else attributes.to_bytes(4, "little")
        if name == CIFS_ACL:
            return await self._lookup.run(inode, lambda attempt: attempt.tree.xattrs.read_security(attempt.path))
        if name.startswith(STREAM):
            return await self._read_stream(inode, _stream_name(name))
        return await self._read_ea(inode, name.removeprefix(USER))

    async def set(self, inode: Inode, name: bytes, value: bytes) -> None:
        """Sets an attribute, whether it exists or not.

        Raises:
            PosixError: EPERM, one that dfsfs makes up; EINVAL, an empty value, which SMB takes for a removal.
        """
        if is_foreign(name):
            raise PosixError(errno.EOPNOTSUPP, f"there are no attributes like {name!r} here")
        if name.startswith(OURS):
            self._computed_for(name)
            raise PosixError(errno.EPERM, f"{name!r} can't be set")
        with self._lookup.table.changing(inode):
            await self._set(inode, name, value)

    async def _set(self, inode: Inode, name: bytes, value: bytes) -> None:
        if name in (DOS_ATTRIBUTES, CIFS_DOS_ATTRIBUTES):
            await self._set_dos_attributes(inode, name, value)
        elif name == CIFS_ACL:
            await self._lookup.change_by_name(
                inode, lambda attempt: attempt.tree.xattrs.write_dacl(attempt.path, value)
            )
        elif name.startswith(STREAM):
            stream = _stream_name(name)
            await self._lookup.change_by_name(
                inode, lambda attempt: attempt.tree.xattrs.write_stream(attempt.path, stream, value)
            )
        else:
            ea = name.removeprefix(USER)
            if not value:
                raise PosixError(errno.EINVAL, f"{name!r}: an empty value can't be kept over SMB")
            if len(ea) > NAME_MAX or len(value) > EA_VALUE_MAX:
                raise PosixError(errno.E2BIG, f"{name!r} with {len(value)} bytes is more than SMB has room for")
            await self._lookup.change_by_name(
                inode, lambda attempt: attempt.tree.xattrs.set_ea(attempt.path, ea, value)
            )

    async def remove(self, inode: Inode, name: bytes) -> None:
        """Removes an attribute."""
        if is_foreign(name) or name.startswith(OURS) or name in (DOS_ATTRIBUTES, CIFS_DOS_ATTRIBUTES, CIFS_ACL):
            raise PosixError(errno.EOPNOTSUPP, f"{name!r} can't be removed")
        await self.get(inode, name)
        with self._lookup.table.changing(inode):
            if name.startswith(STREAM):
                stream = _stream_name(name)
                await self._lookup.change_by_name(
                    inode, allow_repeat(lambda attempt: attempt.tree.xattrs.remove_stream(attempt.path, stream))
                )
            else:
                ea = name.removeprefix(USER)
                await self._lookup.change_by_name(
                    inode, lambda attempt: attempt.tree.xattrs.set_ea(attempt.path, ea, b"")
                )

    async def list(self, inode: Inode) -> list[bytes]:
        """The names of EAs and streams."""
        if self._is_left_alone(inode):
            return []

        async def operation(attempt: Attempt) -> list[bytes]:
            tree, path = attempt.tree, attempt.path
            eas = await tree.xattrs.read_eas(path) if self._may_have_eas(inode) else {}
            names = [USER + name for name in eas]
            if await tree.xattrs.query_features() & FileSystemAttributes.FILE_NAMED_STREAMS:
                names += [
                    STREAM + stream.encode("utf-8", "surrogatepass") for stream in await tree.xattrs.list_streams(path)
                ]
            usable = [name for name in names if is_usable(name)]
            if len(usable) < len(names):
                what = f"{len(names) - len(usable)} extended attributes or streams with names that no program can use"
                tree.channel.content_warnings.warn_once(path, what, "they are left out")
            return usable

        return await self._lookup.run(inode, operation)

    # -- EAs and streams --------------------------------------------------------------------------------------------

    def _is_left_alone(self, inode: Inode) -> bool:
        """Whether it is a DFS link that was not entered: its target is not asked for attributes."""
        return inode.is_link and not self._lookup.attributes.is_bound(inode)

    def _may_have_eas(self, inode: Inode) -> bool:
        return not (self._lookup.attributes.is_fresh(inode) and inode.stat is not None and inode.stat.ea_size == 0)

    async def _read_ea(self, inode: Inode, name: bytes) -> bytes:
        if not self._is_left_alone(inode) and self._may_have_eas(inode):
            eas = await self._lookup.run(inode, lambda attempt: attempt.tree.xattrs.read_eas(attempt.path))
            for known, value in eas.items():
                if known.upper() == name.upper():
                    return value
        raise PosixError(errno.ENODATA, f"{inode.name} has no extended attribute {name!r}")

    async def _read_stream(self, inode: Inode, name: str) -> bytes:
        try:
            data = await self._lookup.run(inode, lambda attempt: attempt.tree.xattrs.read_stream(attempt.path, name))
        except DfsfsError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                raise PosixError(errno.ENODATA, f"{inode.name} has no stream {name!r}") from None
            raise
        if len(data) > VALUE_MAX:
            raise PosixError(errno.E2BIG, f"stream {name!r} of {inode.name} is too large for an extended attribute")
        return bytes(data)

    # -- what SMB knows of a file -----------------------------------------------------------------------------------

    async def _dos_attributes(self, inode: Inode) -> int:
        await self._lookup.revalidate(inode)
        if inode.stat is None:
            raise PosixError(errno.ENODATA, f"the attributes of {inode.name} are not known")
        return inode.stat.attributes

    async def _set_dos_attributes(self, inode: Inode, name: bytes, value: bytes) -> None:
        attributes = _number(name, value)
        before = await self._dos_attributes(inode)
        if (attributes ^ before) & ~(_SETTABLE | FileAttributes.FILE_ATTRIBUTE_NORMAL):
            raise PosixError(errno.EINVAL, f"{attributes:#x} changes attributes other than {_SETTABLE:#x}")
        info = encode_attributes(attributes & _SETTABLE or FileAttributes.FILE_ATTRIBUTE_NORMAL)
        await self._files.attributes.set_basic(inode, info)

    async def _sddl(self, inode: Inode) -> bytes:
        descriptor = await self._lookup.run(inode, lambda attempt: attempt.tree.xattrs.read_security(attempt.path))
        return to_sddl(descriptor).encode()

    async def _btime(self, inode: Inode) -> bytes:
        await self._lookup.revalidate(inode)
        if inode.stat is None or not inode.stat.created:
            raise PosixError(errno.ENODATA, f"the server does not say when {inode.name} was made")
        seconds, rest = divmod(inode.stat.created, 10**9)
        return f"{seconds}.{rest:09d}".encode()

    # -- what DFS knows of it ---------------------------------------------------------------------------------------

    async def _path(self, inode: Inode) -> bytes:
        return str(self._lookup.get_location(inode).unc).encode("utf-8", "surrogatepass")

    async def _target(self, inode: Inode) -> bytes:
        async def path(attempt: Attempt) -> str:
            return str(attempt.path)

        return (await self._lookup.run(inode, path)).encode("utf-8", "surrogatepass")

    async def _targets(self, inode: Inode) -> bytes:
        targets = (await self._resolution(inode)).targets
        return "\n".join(str(target.path) for target in targets).encode("utf-8", "surrogatepass")

    async def _referral(self, inode: Inode) -> bytes:
        referral = (await self._resolution(inode)).referral
        if referral is None:
            raise PosixError(errno.ENODATA, f"{inode.name} is on a share outside DFS")
        return str(referral.prefix).encode("utf-8", "surrogatepass")

    async def _ttl(self, inode: Inode) -> bytes:
        if (await self._resolution(inode)).referral is None:
            raise PosixError(errno.ENODATA, f"{inode.name} is on a share outside DFS")
        left = self._lookup.get_location(inode).junction.for_caller().refresh_at - self._lookup.clock()
        return str(max(0, round(left))).encode()

    async def _resolution(self, inode: Inode) -> Resolution:
        await self._target(inode)  # resolves the path if that was not done yet
        resolution = self._lookup.get_location(inode).junction.for_caller().resolution
        if resolution is None:
            raise PosixError(errno.ENODATA, f"where {inode.name} leads is not known")
        return resolution

    def _computed_for(self, name: bytes) -> Callable[[Inode], Awaitable[bytes]]:
        try:
            return self._computed[name.removeprefix(OURS)]
        except KeyError:
            raise PosixError(errno.ENODATA, f"dfsfs has no attribute {name!r}") from None


def is_usable(name: bytes) -> bool:
    """Whether a program can ask for an attribute of that name. Others are not listed: a program that copies all
    attributes would fail at the first of them.
    """
    if len(name) > XATTR_NAME_MAX or b"\0" in name or name == USER or name.startswith(OURS):
        return False
    try:
        return not name.startswith(STREAM) or bool(_stream_name(name))
    except PosixError:
        return False


def _stream_name(name: bytes) -> str:
    """The name of the stream of an attribute. Raises: PosixError: EINVAL, no stream can have that name."""
    text = name.removeprefix(STREAM).decode("utf-8", "surrogateescape")
    if not text or set(text) & set("/\\:\0") or not text.isprintable():
        raise PosixError(errno.EINVAL, f"no stream can have the name {text!r}")
    return text


def _number(name: bytes, value: bytes) -> int:
    """The attributes (MS-FSCC 2.6) that the value of an extended attribute stands for. Raises: PosixError: EINVAL."""
    if name == CIFS_DOS_ATTRIBUTES:
        if len(value) != 4:
            raise PosixError(errno.EINVAL, f"{name!r} has 4 bytes")
        return int.from_bytes(value, "little")
    try:
        return int(value.decode("ascii").strip("\0 \n"), 0)
    except ValueError:
        raise PosixError(errno.EINVAL, f"{value!r} is no number like 0x20") from None

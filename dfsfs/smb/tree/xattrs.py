"""ExtendedAttributes: EAs, alternate data streams and the security descriptor of files on a share.

Few programs use them, so values are read and written as a whole.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from dfsfs.errors import ContentError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import (
    Access,
    CreateDisposition,
    CreateOptions,
    FileInformationClass,
    FileSystemAttributes,
    FileSystemInformationClass,
    InfoType,
    SecurityInformation,
)
from dfsfs.smb.wire.eas import decode_eas, encode_ea
from dfsfs.smb.wire.messages import RELATED_FILE_ID
from dfsfs.smb.wire.reparse import LINK_MARK

if TYPE_CHECKING:
    from dfsfs.smb.tree.compounds import PathChannel
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.unc import UncPath

VALUE_MAX = 65536
"""Bytes of the longest value of an extended attribute on Linux (xattr(7)). One byte more is read of a longer stream."""
_MAX_OUTPUT = 65536
"""OutputBufferLength in bytes of queries for EAs, streams and security descriptors."""
_NO_EAS = (NtStatus.NO_EAS_ON_FILE, NtStatus.EAS_NOT_SUPPORTED, NtStatus.NONEXISTENT_EA_ENTRY)
_STREAM = struct.Struct("<IIqq")  # next entry, length of the name, size, allocated
_DATA = ":$DATA"
"""The end of the names of data streams (MS-FSCC 2.1.5)."""


class ExtendedAttributes:
    """See the module's text. Errors of all methods as in Tree.stat."""

    def __init__(self, channel: PathChannel) -> None:
        self._channel = channel
        self._features: FileSystemAttributes | None = None

    async def query_features(self) -> FileSystemAttributes:
        """The attributes of the share's file system (MS-FSCC 2.5.1). One round trip the first time."""
        if self._features is None:
            what = f"features of {self._channel.share}"
            query = messages.encode_query_volume(FileSystemInformationClass.FILE_FS_ATTRIBUTE_INFORMATION, 1024)
            queried = await self._channel.query_info(
                self._channel.share, Access.FILE_READ_ATTRIBUTES, query, what, NtStatus.BUFFER_OVERFLOW
            )
            output = messages.decode_output(queried.message)
            if len(output) < 4:
                raise WireError(f"FileFsAttributeInformation of {len(output)} bytes")
            self._features = FileSystemAttributes(int.from_bytes(output[:4], "little"))
        return self._features

    # -- EAs --------------------------------------------------------------------------------------------------------

    async def read_eas(self, path: UncPath) -> dict[bytes, bytes]:
        """The extended attributes of a file or directory except LINK_MARK. One round trip.

        Raises:
            ContentError: they are malformed.
        """
        what = f"reading extended attributes of {path}"
        query = messages.encode_query_info(
            RELATED_FILE_ID, InfoType.SMB2_0_INFO_FILE, FileInformationClass.FILE_FULL_EA_INFORMATION, _MAX_OUTPUT
        )
        queried = await self._channel.query_info(path, Access.FILE_READ_EA, query, what, *_NO_EAS)
        if queried.status in _NO_EAS:
            return {}
        eas = decode_eas(messages.decode_output(queried.message))
        return {name: value for name, value in eas.items() if name.upper() != LINK_MARK}

    async def set_ea(self, path: UncPath, name: bytes, value: bytes) -> None:
        """Sets an extended attribute, or removes it if the value is empty. One round trip."""
        info = encode_ea(name, value)
        await self._channel.set_info(
            path,
            Access.FILE_WRITE_EA,
            FileInformationClass.FILE_FULL_EA_INFORMATION,
            info,
            f"setting extended attributes of {path}",
        )

    # -- streams ----------------------------------------------------------------------------------------------------

    async def list_streams(self, path: UncPath) -> dict[str, int]:
        """The alternate data streams of a file or directory, with their sizes in bytes. One round trip."""
        query = messages.encode_query_info(
            RELATED_FILE_ID, InfoType.SMB2_0_INFO_FILE, FileInformationClass.FILE_STREAM_INFORMATION, _MAX_OUTPUT
        )
        queried = await self._channel.query_info(path, Access.FILE_READ_ATTRIBUTES, query, f"listing streams of {path}")
        return decode_streams(messages.decode_output(queried.message))

    async def read_stream(self, path: UncPath, name: str) -> Buffer:
        """The data of a stream, VALUE_MAX + 1 bytes of it at most. One round trip."""
        what = f"reading stream {name} of {path}"
        create = self._channel.encode_create(
            _stream_path(path, name), access=Access.FILE_READ_DATA, disposition=CreateDisposition.FILE_OPEN
        )
        read = messages.encode_read(RELATED_FILE_ID, 0, VALUE_MAX + 1)
        opened, answer, _ = await self._channel.call([create, read, messages.encode_close(RELATED_FILE_ID)])
        self._channel.check(opened, what)
        if answer.status == NtStatus.END_OF_FILE:
            return b""
        self._channel.check(answer, what)
        return messages.decode_read(answer.message, VALUE_MAX + 1)

    async def write_stream(self, path: UncPath, name: str, data: bytes) -> None:
        """Replaces the data of a stream, which is made if need be. One round trip."""
        create = self._channel.encode_create(
            _stream_path(path, name),
            access=Access.FILE_WRITE_DATA,
            disposition=CreateDisposition.FILE_OVERWRITE_IF,
            options=CreateOptions.FILE_NON_DIRECTORY_FILE,
        )
        write = [messages.encode_write(RELATED_FILE_ID, 0, data)] if data else []
        for response in await self._channel.call([create, *write, messages.encode_close(RELATED_FILE_ID)]):
            self._channel.check(response, f"writing stream {name} of {path}")

    async def remove_stream(self, path: UncPath, name: str) -> None:
        """Deletes a stream. One round trip."""
        create = self._channel.encode_create(
            _stream_path(path, name), access=Access.DELETE, disposition=CreateDisposition.FILE_OPEN
        )
        removal = messages.encode_set_info(
            RELATED_FILE_ID, FileInformationClass.FILE_DISPOSITION_INFORMATION, fscc.encode_disposition()
        )
        for response in await self._channel.call([create, removal, messages.encode_close(RELATED_FILE_ID)]):
            self._channel.check(response, f"removing stream {name} of {path}")

    # -- security ---------------------------------------------------------------------------------------------------

    async def read_security(self, path: UncPath) -> bytes:
        """Owner, group and DACL as a self-relative security descriptor (MS-DTYP 2.4.6). One round trip."""
        what = f"reading the security descriptor of {path}"
        parts = (
            SecurityInformation.OWNER_SECURITY_INFORMATION
            | SecurityInformation.GROUP_SECURITY_INFORMATION
            | SecurityInformation.DACL_SECURITY_INFORMATION
        )
        query = messages.encode_query_security(RELATED_FILE_ID, parts, _MAX_OUTPUT)
        queried = await self._channel.query_info(path, Access.READ_CONTROL, query, what)
        return bytes(messages.decode_output(queried.message))

    async def write_dacl(self, path: UncPath, descriptor: bytes) -> None:
        """Sets the DACL of a self-relative security descriptor; owner and group stay. One round trip."""
        create = self._channel.encode_create(path, access=Access.WRITE_DAC, disposition=CreateDisposition.FILE_OPEN)
        change = messages.encode_set_security(
            RELATED_FILE_ID, SecurityInformation.DACL_SECURITY_INFORMATION, descriptor
        )
        for response in await self._channel.call([create, change, messages.encode_close(RELATED_FILE_ID)]):
            self._channel.check(response, f"setting the security descriptor of {path}")


def decode_streams(buffer: Buffer) -> dict[str, int]:
    """Names and sizes of a FileStreamInformation (MS-FSCC 2.4.44), without the file's own data and other types.

    Raises:
        ContentError: an entry lies outside the buffer.
    """
    found: dict[str, int] = {}
    view, position = memoryview(buffer), 0
    while position < len(view):
        if len(view) - position < _STREAM.size:
            raise ContentError(f"a stream at {position} does not fit into {len(view)} bytes")
        step, length, size, _ = _STREAM.unpack_from(view, position)
        start = position + _STREAM.size
        if start + length > len(view) or length % 2 or (step and step < _STREAM.size + length):
            raise ContentError(f"a stream's name of {length} bytes at {start}, of {len(view)}")
        name = str(view[start : start + length], "utf-16-le", "surrogatepass")
        if name.startswith(":") and name.endswith(_DATA) and len(name) > len(_DATA) + 1:
            found[name[1 : -len(_DATA)]] = size
        if not step:
            break
        position += step
    return found


def _stream_path(path: UncPath, name: str) -> UncPath:
    *parents, last = path.components
    return type(path)((*parents, f"{last}:{name}"))

"""The bytes of SMB2 as a server sees them (MS-SMB2 2.2): requests into values, values into the bodies of answers.

Parsers trust the client, which is ours: what does not fit is an exception of struct or an assertion.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dfsfs.filetime import filetime_to_ns, ns_to_filetime
from dfsfs.smb.wire.constants import (
    SMB2_FLAGS_ASYNC_COMMAND,
    SMB2_FLAGS_RELATED_OPERATIONS,
    SMB2_FLAGS_SERVER_TO_REDIR,
    Command,
    LeaseState,
)
from dfsfs.smb.wire.messages import HEADER, HEADER_SIZE, SMB2_MAGIC, Header, decode_header
from tests.support.fakes.server.ranges import allocated

if TYPE_CHECKING:
    from tests.support.fakes.server.volume import Inode

POSTQUERY_ATTRIB = 1
"""A CLOSE that asks for the file's attributes (MS-SMB2 2.2.15)."""
UNSOLICITED = 0xFFFFFFFFFFFFFFFF
_CREATE = struct.Struct("<HBBIQQIIIIIHHII")
_CREATE_RESPONSE = struct.Struct("<HBBIQQQQQQII16sII")
_CLOSE_RESPONSE = struct.Struct("<HHIQQQQQQI")
_CONTEXT = struct.Struct("<IHHHHI")
_LEASE = struct.Struct("<16sIIQ")
_LEASE_V2 = struct.Struct("<16sIIQ16sHH")
_LEASE_BREAK = struct.Struct("<HHI16sIIIII")
_READ = struct.Struct("<HBBIQ16sI")
_WRITE = struct.Struct("<HHIQ16s")
_QUERY_DIRECTORY = struct.Struct("<HBBI16sHHI")
_QUERY_INFO = struct.Struct("<HBBIHHIII16s")
_SET_INFO = struct.Struct("<HBBIHHI16s")
_IOCTL = struct.Struct("<HHI16sIIIIIII")
_ACKNOWLEDGEMENT = struct.Struct("<HHI16sI")
_ENTRY = struct.Struct("<IIQQQQQQIIIBB24sHQ")
_ALL = struct.Struct("<QQQQIIQQIBBHQIIQIII")
_STREAM = struct.Struct("<IIqq")
_BASIC = struct.Struct("<QQQQI")
_LEASE_NAME = b"RqLs"
_IN_PROGRESS = 0x00000002
ERROR_BODY = b"\x09\x00\x00\x00\x00\x00\x00\x00\x00"
PLAIN_BODY = b"\x04\x00\x00\x00"


class Part(NamedTuple):
    """One request of a frame. `body` is all that follows the header."""

    header: Header
    body: bytes

    @property
    def command(self) -> Command:
        return Command(self.header.command)

    @property
    def is_related(self) -> bool:
        return bool(self.header.flags & SMB2_FLAGS_RELATED_OPERATIONS)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    name: str
    access: int
    share_access: int
    disposition: int
    options: int
    attributes: int
    lease: tuple[bytes, LeaseState, int] | None
    """Key, what is wanted, and the version of the context."""


def split(frame: bytes) -> list[Part]:
    """The requests of a frame, a compound or a single one."""
    parts = []
    while True:
        header = decode_header(memoryview(frame))
        end = header.next_command or len(frame)
        parts.append(Part(header, bytes(frame[HEADER_SIZE:end])))
        if not header.next_command:
            return parts
        frame = frame[end:]


def _utf16(data: bytes) -> str:
    return data.decode("utf-16-le", "surrogatepass")


# -- requests ---------------------------------------------------------------------------------------------------------


def parse_create(body: bytes) -> CreateRequest:
    fields = _CREATE.unpack_from(body)
    access, attributes, share_access, disposition, options, name_at, name_size, contexts_at, contexts_size = fields[6:]
    name_at -= HEADER_SIZE
    contexts = body[contexts_at - HEADER_SIZE :][:contexts_size] if contexts_size else b""
    return CreateRequest(
        _utf16(body[name_at : name_at + name_size]),
        access,
        share_access,
        disposition,
        options,
        attributes,
        _lease_in(contexts),
    )


def _lease_in(contexts: bytes) -> tuple[bytes, LeaseState, int] | None:
    while contexts:
        following, name_at, name_size, _, data_at, data_size = _CONTEXT.unpack_from(contexts)
        if contexts[name_at : name_at + name_size] == _LEASE_NAME:
            data = contexts[data_at : data_at + data_size]
            key, state, _, _ = _LEASE.unpack_from(data)
            return key, LeaseState(state & LeaseState.ALL), 1 if data_size == _LEASE.size else 2
        contexts = contexts[following:] if following else b""
    return None


def parse_file_only(body: bytes) -> tuple[int, bytes]:
    """CLOSE or FLUSH: flags and handle."""
    return int.from_bytes(body[2:4], "little"), body[8:24]


def parse_read(body: bytes) -> tuple[bytes, int, int]:
    """Handle, offset, size."""
    _, _, _, size, offset, handle, _ = _READ.unpack_from(body)
    return handle, offset, size


def parse_write(body: bytes) -> tuple[bytes, int, bytes]:
    """Handle, offset, data."""
    _, data_at, size, offset, handle = _WRITE.unpack_from(body)
    data = body[data_at - HEADER_SIZE :][:size]
    assert len(data) == size
    return handle, offset, data


def parse_query_directory(body: bytes) -> tuple[bytes, int, int, str, int]:
    """Handle, class, flags, pattern, bytes that the answer may have."""
    _, info_class, flags, _, handle, name_at, name_size, size = _QUERY_DIRECTORY.unpack_from(body)
    return handle, info_class, flags, _utf16(body[name_at - HEADER_SIZE :][:name_size]), size


def parse_query_info(body: bytes) -> tuple[bytes, int, int, int]:
    """Handle, type, class, bytes that the answer may have."""
    _, info_type, info_class, size, *_, handle = _QUERY_INFO.unpack_from(body)
    return handle, info_type, info_class, size


def parse_set_info(body: bytes) -> tuple[bytes, int, int, bytes]:
    """Handle, type, class, data."""
    _, info_type, info_class, size, data_at, _, _, handle = _SET_INFO.unpack_from(body)
    return handle, info_type, info_class, body[data_at - HEADER_SIZE :][:size]


def parse_ioctl(body: bytes) -> tuple[bytes, int, bytes, int]:
    """Handle, control code, input, and the room for the output in bytes."""
    _, _, code, handle, data_at, size, _, _, _, room, _ = _IOCTL.unpack_from(body)
    return handle, code, body[data_at - HEADER_SIZE :][:size] if size else b"", room


def parse_acknowledgement(body: bytes) -> tuple[bytes, LeaseState]:
    """Key, and what the client keeps."""
    _, _, _, key, state = _ACKNOWLEDGEMENT.unpack_from(body)
    return key, LeaseState(state)


def parse_basic(info: bytes) -> tuple[int, int, int]:
    """Time of access and of the last write in ns, attributes; 0: as it is."""
    _, accessed, written, _, attributes = _BASIC.unpack_from(info)
    return filetime_to_ns(accessed), filetime_to_ns(written), attributes


def parse_rename(info: bytes) -> tuple[list[str], bool]:
    """Names from the share's root to the new place, and whether what is there is replaced."""
    size = int.from_bytes(info[16:20], "little")
    return [name for name in _utf16(info[20 : 20 + size]).split("\\") if name], bool(info[0])


# -- answers ----------------------------------------------------------------------------------------------------------


def pack(
    part: Part,
    status: int,
    body: bytes,
    credits: int,
    *,
    related: bool = False,
    is_last: bool = True,
    async_id: int = 0,
) -> bytes:
    """An answer as a message, padded if another one follows it."""
    if not is_last:
        body += bytes(-len(body) % 8)
    header, flags = part.header, int(SMB2_FLAGS_SERVER_TO_REDIR)
    if related:
        flags |= SMB2_FLAGS_RELATED_OPERATIONS
    if async_id:
        flags |= SMB2_FLAGS_ASYNC_COMMAND
    head = HEADER.pack(
        SMB2_MAGIC,
        HEADER_SIZE,
        header.credit_charge,
        status,
        header.command,
        credits,
        flags,
        0 if is_last else HEADER_SIZE + len(body),
        header.message_id,
        async_id or 0xFEFF,
        0 if async_id else header.tree_id,
        header.session_id,
        bytes(16),
    )
    return head + body


def _times(inode: Inode) -> tuple[int, int, int, int]:
    times = (inode.created, inode.accessed, inode.last_written, inode.changed)
    created, accessed, written, changed = map(ns_to_filetime, times)
    return created, accessed, written, changed


def create_body(
    handle: bytes, inode: Inode, action: int, lease: tuple[bytes, LeaseState, int, int, bool] | None
) -> bytes:
    """`lease`: key, state, version, epoch, and whether a break of it is under way."""
    context = _lease_context(*lease) if lease is not None else b""
    at = HEADER_SIZE + _CREATE_RESPONSE.size if context else 0
    fixed = _CREATE_RESPONSE.pack(
        89,
        0xFF if context else 0,
        0,
        action,
        *_times(inode),
        allocated(inode),
        len(inode.data),
        inode.wire_attributes,
        0,
        handle,
        at,
        len(context),
    )
    return fixed + context


def _lease_context(key: bytes, state: LeaseState, version: int, epoch: int, breaking: bool) -> bytes:
    flags = _IN_PROGRESS if breaking else 0
    if version == 1:
        data = _LEASE.pack(key, state, flags, 0)
    else:
        data = _LEASE_V2.pack(key, state, flags, 0, bytes(16), epoch, 0)
    return _CONTEXT.pack(0, 16, 4, 0, 24, len(data)) + _LEASE_NAME + bytes(4) + data


def lease_break(key: bytes, now: LeaseState, left: LeaseState, epoch: int, *, acknowledge: bool) -> bytes:
    """The notification of a break (MS-SMB2 2.2.23.2), a message of its own."""
    header = Header(SMB2_MAGIC, 64, 0, 0, Command.SMB2_OPLOCK_BREAK, 0, 0, 0, UNSOLICITED, 0, 0, 0, bytes(16))
    return pack(Part(header, b""), 0, _LEASE_BREAK.pack(44, epoch, acknowledge, key, now, left, 0, 0, 0), 0)


def acknowledgement_body(key: bytes, state: LeaseState) -> bytes:
    return struct.pack("<HHI16sIQ", 36, 0, 0, key, state, 0)


def close_body(inode: Inode | None) -> bytes:
    """`inode`: the file whose attributes were asked for."""
    if inode is None:
        return _CLOSE_RESPONSE.pack(60, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    return _CLOSE_RESPONSE.pack(
        60, POSTQUERY_ATTRIB, 0, *_times(inode), allocated(inode), len(inode.data), inode.wire_attributes
    )


def read_body(data: bytes) -> bytes:
    return struct.pack("<HBBIII", 17, HEADER_SIZE + 16, 0, len(data), 0, 0) + data


def write_body(count: int) -> bytes:
    return struct.pack("<HHIII", 17, 0, count, 0, 0)


def output_body(data: bytes) -> bytes:
    """QUERY_INFO or QUERY_DIRECTORY."""
    return struct.pack("<HHI", 9, HEADER_SIZE + 8, len(data)) + data


def ioctl_body(code: int, handle: bytes, data: bytes) -> bytes:
    at = HEADER_SIZE + 48
    return struct.pack("<HHI16sIIIIII", 49, 0, code, handle, at, 0, at, len(data), 0, 0) + data


def all_information(inode: Inode, links: int, name: str, *, pending: bool) -> bytes:
    encoded = name.encode("utf-16-le", "surrogatepass")
    fixed = _ALL.pack(
        *_times(inode),
        inode.wire_attributes,
        0,
        allocated(inode),
        len(inode.data),
        links,
        pending,
        inode.is_directory,
        0,
        inode.file_id,
        sum(map(len, inode.eas.values())),
        0,
        0,
        0,
        0,
        len(encoded),
    )
    return fixed + encoded


def directory_entry(name: str, inode: Inode, *, is_last: bool) -> bytes:
    """FileIdBothDirectoryInformation (MS-FSCC 2.4.17)."""
    encoded = name.encode("utf-16-le", "surrogatepass")
    size = _ENTRY.size + len(encoded)
    padding = 0 if is_last else -size % 8
    fixed = _ENTRY.pack(
        0 if is_last else size + padding,
        0,
        *_times(inode),
        len(inode.data),
        allocated(inode),
        inode.wire_attributes,
        len(encoded),
        sum(map(len, inode.eas.values())),
        0,
        0,
        bytes(24),
        0,
        inode.file_id,
    )
    return fixed + encoded + bytes(padding)


def streams(inode: Inode) -> bytes:
    """FileStreamInformation: a file's own data is the only stream."""
    if inode.is_directory:
        return b""
    name = "::$DATA".encode("utf-16-le")
    return _STREAM.pack(0, len(name), len(inode.data), allocated(inode)) + name


def full_size(sectors: int, sector: int) -> bytes:
    """FileFsFullSizeInformation: 2**28 clusters of so many sectors of so many bytes, half of them free."""
    return struct.pack("<qqqII", 1 << 28, 1 << 27, 1 << 27, sectors, sector)

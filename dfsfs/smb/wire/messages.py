"""SMB2/3 messages on the data path: headers, and one encoder and decoder for each command (MS-SMB2 2.2).

Pure code on `struct`. An encoder returns a `Request`: the body that follows the 64-byte header, the payload of a WRITE
kept apart so that it is never copied, and the credits it costs. A decoder takes the whole message as a memoryview
(header included, because the offsets inside SMB2 bodies count from there), checks every length and offset against it,
and returns a value or raises WireError. Views into the message are returned where data is large.

Negotiate, session setup and tree connect are not here: they happen once per connection and live in `handshake.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dfsfs.errors import WireError
from dfsfs.filetime import filetime_to_ns
from dfsfs.smb.wire.constants import (
    IMPERSONATION,
    SMB2_0_IOCTL_IS_FSCTL,
    SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB,
    SMB2_CREATE_TIMEWARP_TOKEN,
    SMB2_OPLOCK_LEVEL_LEASE,
    Command,
    FileInformationClass,
    InfoType,
    ShareAccess,
)
from dfsfs.smb.wire.fscc import MAX_SIZE, FileStat

if TYPE_CHECKING:
    from dfsfs.smb.wire.constants import CreateDisposition, CtlCode, FileSystemInformationClass

HEADER_SIZE = 64
"""Bytes of an SMB2 packet header (MS-SMB2 2.2.1)."""
SMB2_MAGIC = b"\xfeSMB"
TRANSFORM_MAGIC = b"\xfdSMB"
RELATED_FILE_ID = b"\xff" * 16
"""In a related compound request: the file that the CREATE before it opened (MS-SMB2 3.2.4.1.4)."""
CREDIT_UNIT = 65536
"""Bytes of payload that one credit pays for (MS-SMB2 3.1.5.2)."""
MAX_NAME_BYTES = 65534
"""Bytes of the longest name: NameLength has 16 bits."""

Buffer = bytes | bytearray | memoryview


# Bound once: an attribute of an Enum takes five times as long as a global name (docs/decisions/001).
_CREATE_COMMAND: Final = Command.SMB2_CREATE
_CLOSE_COMMAND: Final = Command.SMB2_CLOSE
_FLUSH_COMMAND: Final = Command.SMB2_FLUSH
_READ_COMMAND: Final = Command.SMB2_READ
_WRITE_COMMAND: Final = Command.SMB2_WRITE
_IOCTL_COMMAND: Final = Command.SMB2_IOCTL
_QUERY_DIRECTORY_COMMAND: Final = Command.SMB2_QUERY_DIRECTORY
_QUERY_INFO_COMMAND: Final = Command.SMB2_QUERY_INFO
_SET_INFO_COMMAND: Final = Command.SMB2_SET_INFO
_FILE: Final = InfoType.SMB2_0_INFO_FILE
_SECURITY: Final = InfoType.SMB2_0_INFO_SECURITY
_ALL_INFORMATION: Final = FileInformationClass.FILE_ALL_INFORMATION
_LISTING: Final = FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION

HEADER = struct.Struct("<4sHHIHHIIQIIQ16s")
_CREATE = struct.Struct("<HBBIQQIIIIIHHII")
_NAME_AT = HEADER_SIZE + 56
"""Offset of the name in a CREATE (MS-SMB2 2.2.13)."""
_TIMEWARP = struct.pack("<IHHHHI4sI", 0, 16, 4, 0, 24, 8, SMB2_CREATE_TIMEWARP_TOKEN, 0)
"""The context without its time (MS-SMB2 2.2.13.2.7)."""
_CREATE_RESPONSE = struct.Struct("<HBBIQQQQQQII16sII")
_FILE_ONLY = struct.Struct("<HHI16s")
_CLOSE_RESPONSE = struct.Struct("<HHIQQQQQQI")
_READ = struct.Struct("<HBBIQ16sIIIHHB")
_READ_RESPONSE = struct.Struct("<HBBIII")
_WRITE = struct.Struct("<HHIQ16sIIHHI")
_WRITE_RESPONSE = struct.Struct("<HHII")
_QUERY_DIRECTORY = struct.Struct("<HBBI16sHHI")
_BUFFER_RESPONSE = struct.Struct("<HHI")
_QUERY_INFO = struct.Struct("<HBBIHHIII16sB")
_SET_INFO = struct.Struct("<HBBIHHI16s")
_IOCTL = struct.Struct("<HHI16sIIIIIIII")
_IOCTL_RESPONSE = struct.Struct("<HHI16sIIIIII")


class Header(NamedTuple):
    """An SMB2 packet header, SYNC or ASYNC (MS-SMB2 2.2.1). In the ASYNC form `process_id` and `tree_id` hold the
    AsyncId.
    """

    magic: bytes
    structure_size: int
    credit_charge: int
    status: int
    command: int
    credits: int
    flags: int
    next_command: int
    message_id: int
    process_id: int
    tree_id: int
    session_id: int
    signature: bytes

    @property
    def async_id(self) -> int:
        return self.process_id | self.tree_id << 32


@dataclass(frozen=True, slots=True)
class Request:
    """One command without its header: `body` follows the header, then `payload`, which is sent
    from where it lies. `charge` is the CreditCharge: how many 64 KiB units the larger of payload sent and payload
    expected takes."""

    command: Command
    body: bytes
    payload: Buffer = b""
    charge: int = 1


@dataclass(frozen=True, slots=True)
class Created:
    """A CREATE response: the handle (16 opaque bytes) and what the server said of the file. `stat.file_id` is unknown
    (0).
    """

    file_id: bytes
    stat: FileStat


def decode_header(message: memoryview) -> Header:
    """Raises: WireError: fewer than 64 bytes, or no SMB2 header."""
    if len(message) < HEADER_SIZE:
        raise WireError(f"an SMB2 message of {len(message)} bytes")
    header = Header._make(HEADER.unpack_from(message))
    if header.magic != SMB2_MAGIC or header.structure_size != HEADER_SIZE:
        raise WireError(f"not an SMB2 header: {bytes(message[:6]).hex()}")
    return header


def charge_of(byte_count: int) -> int:
    """The CreditCharge for a payload of so many bytes (MS-SMB2 3.1.5.2)."""
    return max(1, (byte_count + CREDIT_UNIT - 1) // CREDIT_UNIT)


def _utf16(name: str) -> bytes:
    encoded = name.encode("utf-16-le", "surrogatepass")
    if len(encoded) > MAX_NAME_BYTES:
        raise WireError(f"a name of {len(encoded)} bytes does not fit into a request")
    return encoded


def encode_create(
    name: str,
    *,
    access: int,
    disposition: CreateDisposition,
    options: int = 0,
    attributes: int = 0,
    share_access: int = ShareAccess.ALL,
    lease: bytes = b"",
    snapshot_time: int | None = None,
) -> Request:
    """CREATE (MS-SMB2 2.2.13). `name` is relative to the share, or host\\share\\name on DFS. `lease` is the context
    that asks for one, as Lease.request packs it. `snapshot_time`: the file as it was then, in 100 ns since 1601.
    """
    encoded = _utf16(name)
    # An odd StructureSize asks for at least one byte behind the fixed part, also for the root's empty name.
    tail = encoded or b"\0"
    assert snapshot_time is None or not lease, "the past does not change"
    contexts = lease if snapshot_time is None else _TIMEWARP + snapshot_time.to_bytes(8, "little")
    contexts_at = 0
    if contexts:
        tail += bytes(-len(tail) % 8)
        contexts_at = _NAME_AT + len(tail)
    fixed = _CREATE.pack(
        57,
        0,
        SMB2_OPLOCK_LEVEL_LEASE if lease else 0,
        IMPERSONATION,
        0,
        0,
        access,
        attributes,
        share_access,
        disposition,
        options,
        _NAME_AT,
        len(encoded),
        contexts_at,
        len(contexts),
    )
    return Request(_CREATE_COMMAND, fixed + tail + contexts)


def decode_create(message: memoryview) -> Created:
    """CREATE response (MS-SMB2 2.2.14)."""
    fields = _unpack(_CREATE_RESPONSE, message, 89, "CREATE")
    created, accessed, written, changed = map(filetime_to_ns, fields[4:8])
    return Created(
        file_id=fields[12],
        stat=FileStat(
            created=created,
            accessed=accessed,
            written=written,
            changed=changed,
            attributes=fields[10],
            size=fields[9],
            allocated=fields[8],
            file_id=0,
            links=1,
            reparse_tag=0,
        ),
    )


def encode_close(file_id: bytes, *, query: bool = False) -> Request:
    """CLOSE (MS-SMB2 2.2.15). `query`: the answer is to have the file's attributes."""
    return Request(_CLOSE_COMMAND, _FILE_ONLY.pack(24, SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB if query else 0, 0, file_id))


def decode_close(message: memoryview) -> FileStat | None:
    """The attributes in a CLOSE response (MS-SMB2 2.2.16), if it has them. It knows no file id (0) and no links (0)."""
    _, flags, _, *times, allocated, size, attributes = _unpack(_CLOSE_RESPONSE, message, 60, "CLOSE")
    if not flags & SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB or not any(times):
        return None
    if max(allocated, size) > MAX_SIZE:
        raise WireError(f"a file of {size} bytes, {allocated} of them allocated")
    created, accessed, written, changed = map(filetime_to_ns, times)
    return FileStat(created, accessed, written, changed, attributes, size, allocated, 0, 0, 0)


def encode_flush(file_id: bytes) -> Request:
    """FLUSH (MS-SMB2 2.2.17)."""
    return Request(_FLUSH_COMMAND, _FILE_ONLY.pack(24, 0, 0, file_id))


def encode_read(file_id: bytes, offset: int, size: int) -> Request:
    """READ of `size` bytes at `offset` (MS-SMB2 2.2.19). The 0x50 asks the server to put the data right behind its
    header.
    """
    body = _READ.pack(49, 0x50, 0, size, offset, file_id, 0, 0, 0, 0, 0, 0)
    return Request(_READ_COMMAND, body, charge=charge_of(size))


def decode_read(message: memoryview, requested: int) -> memoryview:
    """The data of a READ response (MS-SMB2 2.2.20), as a view into the message; never more than was asked for."""
    _, offset, _, length, _, _ = _unpack(_READ_RESPONSE, message, 17, "READ")
    if length > requested:
        raise WireError(f"READ of {requested} bytes answered with {length}")
    return _slice(message, offset, length, "READ")


def encode_write(file_id: bytes, offset: int, data: Buffer) -> Request:
    """WRITE of `data` at `offset` (MS-SMB2 2.2.21); `data` must not change until the request is done."""
    body = _WRITE.pack(49, HEADER_SIZE + 48, len(data), offset, file_id, 0, 0, 0, 0, 0)
    return Request(_WRITE_COMMAND, body, data, charge_of(len(data)))


def decode_write(message: memoryview, sent: int) -> int:
    """The number of bytes that a WRITE response (MS-SMB2 2.2.22) says were written."""
    count: int = _unpack(_WRITE_RESPONSE, message, 17, "WRITE")[2]
    if count > sent:
        raise WireError(f"WRITE of {sent} bytes answered with {count}")
    return count


def encode_query_directory(file_id: bytes, output_size: int, pattern: str = "*") -> Request:
    """QUERY_DIRECTORY for FileIdBothDirectoryInformation (MS-SMB2 2.2.33), going on where the last one ended."""
    encoded = _utf16(pattern)
    body = _QUERY_DIRECTORY.pack(
        33,
        _LISTING,
        0,
        0,
        file_id,
        HEADER_SIZE + 32,
        len(encoded),
        output_size,
    )
    return Request(_QUERY_DIRECTORY_COMMAND, body + encoded, charge=charge_of(output_size))


def encode_query_info(file_id: bytes, info_type: InfoType, info_class: int, output_size: int) -> Request:
    """QUERY_INFO (MS-SMB2 2.2.37) with an answer of at most `output_size` bytes."""
    body = _QUERY_INFO.pack(41, info_type, info_class, output_size, 0, 0, 0, 0, 0, file_id, 0)
    return Request(_QUERY_INFO_COMMAND, body, charge=charge_of(output_size))


def encode_query_volume(info_class: FileSystemInformationClass, output_size: int) -> Request:
    """QUERY_INFO for the volume of the file that the compound opens (MS-FSCC 2.5)."""
    return encode_query_info(RELATED_FILE_ID, InfoType.SMB2_0_INFO_FILESYSTEM, info_class, output_size)


def encode_query_all(file_id: bytes = RELATED_FILE_ID) -> Request:
    """QUERY_INFO for FileAllInformation (MS-FSCC 2.4.2), with room for the longest name; one credit pays for it."""
    return encode_query_info(file_id, _FILE, _ALL_INFORMATION, CREDIT_UNIT)


def encode_query_security(file_id: bytes, parts: int, output_size: int) -> Request:
    """QUERY_INFO for parts of the security descriptor (MS-SMB2 2.2.37)."""
    body = _QUERY_INFO.pack(41, _SECURITY, 0, output_size, 0, 0, 0, parts, 0, file_id, 0)
    return Request(_QUERY_INFO_COMMAND, body, charge=charge_of(output_size))


def encode_set_security(file_id: bytes, parts: int, descriptor: bytes) -> Request:
    """SET_INFO for parts of the security descriptor (MS-SMB2 2.2.39)."""
    body = _SET_INFO.pack(33, _SECURITY, 0, len(descriptor), HEADER_SIZE + 32, 0, parts, file_id)
    return Request(_SET_INFO_COMMAND, body + descriptor, charge=charge_of(len(descriptor)))


def decode_output(message: memoryview) -> memoryview:
    """The buffer of a QUERY_DIRECTORY or QUERY_INFO response (MS-SMB2 2.2.34, 2.2.38)."""
    _, offset, length = _unpack(_BUFFER_RESPONSE, message, 9, "QUERY")
    return _slice(message, offset, length, "QUERY") if length else message[:0]


def encode_set_info(file_id: bytes, info_class: int, info: bytes) -> Request:
    """SET_INFO on a file (MS-SMB2 2.2.39)."""
    body = _SET_INFO.pack(33, _FILE, info_class, len(info), HEADER_SIZE + 32, 0, 0, file_id)
    return Request(_SET_INFO_COMMAND, body + info, charge=charge_of(len(info)))


def encode_ioctl(code: CtlCode, data: bytes, max_output: int, file_id: bytes = RELATED_FILE_ID) -> Request:
    """IOCTL of the FSCTL kind (MS-SMB2 2.2.31). The default FileId, all ones, is what DFS and negotiate checks ask
    for.
    """
    offset = HEADER_SIZE + 56
    body = _IOCTL.pack(57, 0, code, file_id, offset, len(data), 0, offset, 0, max_output, SMB2_0_IOCTL_IS_FSCTL, 0)
    return Request(_IOCTL_COMMAND, body + data, charge=charge_of(max(len(data), max_output)))


def decode_ioctl(message: memoryview, max_output: int) -> memoryview:
    """The output of an IOCTL response (MS-SMB2 2.2.32)."""
    fields = _unpack(_IOCTL_RESPONSE, message, 49, "IOCTL")
    offset, length = fields[6], fields[7]
    if length > max_output:
        raise WireError(f"IOCTL answered with {length} bytes, at most {max_output} were asked for")
    return _slice(message, offset, length, "IOCTL") if length else message[:0]


def encode_plain(command: Command) -> Request:
    """ECHO, LOGOFF or TREE_DISCONNECT: a body of four bytes (MS-SMB2 2.2.7, 2.2.11, 2.2.28)."""
    return Request(command, b"\x04\x00\x00\x00")


def _unpack(layout: struct.Struct, message: memoryview, structure_size: int, what: str) -> tuple[Any, ...]:
    if len(message) < HEADER_SIZE + layout.size:
        raise WireError(f"{what} response of {len(message)} bytes")
    fields = layout.unpack_from(message, HEADER_SIZE)
    if fields[0] != structure_size:
        raise WireError(f"{what} response with StructureSize {fields[0]} instead of {structure_size}")
    return fields


def _slice(message: memoryview, offset: int, length: int, what: str) -> memoryview:
    if offset < HEADER_SIZE or offset + length > len(message):
        raise WireError(f"{what} response: {length} bytes at {offset} lie outside its {len(message)} bytes")
    return message[offset : offset + length]

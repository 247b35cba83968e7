"""Requests, one at a time, carried out on a volume: each handler takes a body and gives the body of the answer.

`Session` has what one connection means by its handles, and by "the file of the request before" in a compound.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Command, CtlCode, FileInformationClass, FileSystemInformationClass, InfoType
from dfsfs.smb.wire.copychunk import KEY_SIZE
from dfsfs.smb.wire.eas import decode_eas, encode_ea
from dfsfs.smb.wire.messages import RELATED_FILE_ID
from tests.support.fakes.server import messages, ranges
from tests.support.fakes.server.errors import Refused
from tests.support.fakes.server.volume import Inode, LeaseWish, Open, Volume, Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.smb.wire.constants import LeaseState
    from tests.support.fakes.server.leases import ServerLease
    from tests.support.fakes.server.messages import Part

RESTART = 0x01 | 0x10
"""RESTART_SCANS and REOPEN of QUERY_DIRECTORY (MS-SMB2 2.2.33)."""


class Answer(NamedTuple):
    status: int
    body: bytes


class Session:
    """What one client does on the volume. `tell` sends it the notification of a break."""

    def __init__(self, volume: Volume, client: object, tell: Callable[[ServerLease, LeaseState, bool], None]) -> None:
        self.volume = volume
        self.entries_at_once = 0
        """Entries in one answer to QUERY_DIRECTORY at most; 0: as many as there is room for."""
        self.lie: Callable[[Session, Part], Answer | None] | None = None
        """Is asked before each request is carried out, and may answer it."""
        self._client = client
        self._tell = tell
        self._last = RELATED_FILE_ID
        self._failed: int | None = None
        self._warning: int = NtStatus.SUCCESS
        """The status of an answer that is whole and yet no success."""
        self.apply_grant: bytes | None = None
        """The key of the lease that the last request was granted."""
        self._handlers: dict[Command, Callable[[bytes], bytes]] = {
            Command.SMB2_CREATE: self._create,
            Command.SMB2_CLOSE: self._close,
            Command.SMB2_READ: self._read,
            Command.SMB2_WRITE: self._write,
            Command.SMB2_FLUSH: self._flush,
            Command.SMB2_QUERY_DIRECTORY: self._query_directory,
            Command.SMB2_QUERY_INFO: self._query_info,
            Command.SMB2_SET_INFO: self._set_info,
            Command.SMB2_IOCTL: self._ioctl,
            Command.SMB2_OPLOCK_BREAK: self._acknowledge,
            Command.SMB2_ECHO: lambda body: messages.PLAIN_BODY,
            Command.SMB2_TREE_DISCONNECT: self._disconnect,
        }

    def carry_out(self, part: Part) -> Answer:
        """One request. Raises: MustWait: not before somebody acknowledges a break; nothing was done."""
        self.apply_grant = None
        if not part.is_related:
            self._last, self._failed = RELATED_FILE_ID, None
        if self._failed is not None:
            return Answer(self._failed, messages.ERROR_BODY)
        handler = self._handlers.get(part.command)
        lie = self.lie(self, part) if self.lie is not None else None
        if lie is not None:
            if part.command is Command.SMB2_CREATE:
                self._failed = lie.status
            return lie
        try:
            if handler is None:
                raise Refused(NtStatus.NOT_SUPPORTED)
            self._warning = NtStatus.SUCCESS
            answer = handler(part.body)
            return Answer(self._warning, answer)
        except Refused as error:
            if part.command is Command.SMB2_CREATE:
                self._failed = error.status
            return Answer(error.status, messages.ERROR_BODY)

    def _open(self, handle: bytes) -> Open:
        opened = self.volume.opens.get(self._last if handle == RELATED_FILE_ID else handle)
        if opened is None or opened.client is not self._client:
            raise Refused(NtStatus.FILE_CLOSED)
        self._last = opened.handle
        return opened

    def end(self) -> None:
        """The connection has ended."""
        self.volume.close_all(self._client)

    # -- handlers ---------------------------------------------------------------------------------------------------

    def _create(self, body: bytes) -> bytes:
        asked = messages.parse_create(body)
        lease = LeaseWish(*asked.lease, self._tell) if asked.lease is not None else None
        opened, action = self.volume.create(
            self._client,
            Wish(
                names=[name for name in asked.name.split("\\") if name],
                access=asked.access,
                disposition=asked.disposition,
                options=asked.options,
                share_access=asked.share_access,
                attributes=asked.attributes,
                lease=lease,
            ),
        )
        self._last = opened.handle
        held = opened.lease
        granted = None
        if held is not None:
            self.apply_grant = held.key
            granted = (held.key, held.state, held.version, held.epoch, held.breaking_to is not None)
        return messages.create_body(opened.handle, opened.inode, action, granted)

    def _close(self, body: bytes) -> bytes:
        flags, handle = messages.parse_file_only(body)
        opened = self._open(handle)
        self.volume.close(opened)
        return messages.close_body(opened.inode if flags & messages.POSTQUERY_ATTRIB else None)

    def _flush(self, body: bytes) -> bytes:
        self._open(messages.parse_file_only(body)[1])
        return messages.PLAIN_BODY

    def _read(self, body: bytes) -> bytes:
        handle, offset, size = messages.parse_read(body)
        return messages.read_body(self.volume.read(self._open(handle), offset, size))

    def _write(self, body: bytes) -> bytes:
        handle, offset, data = messages.parse_write(body)
        self.volume.write(self._open(handle), offset, data)
        return messages.write_body(len(data))

    def _query_directory(self, body: bytes) -> bytes:
        handle, info_class, flags, pattern, size = messages.parse_query_directory(body)
        assert info_class == FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION
        opened = self._open(handle)
        if not opened.inode.is_directory:
            raise Refused(NtStatus.INVALID_PARAMETER)
        is_first = opened.listing is None or bool(flags & RESTART)
        if is_first:
            opened.listing = self._entries(opened, pattern)
        return messages.output_body(self._next_entries(opened, size, is_first=is_first))

    def _entries(self, opened: Open, pattern: str) -> list[tuple[str, Inode]]:
        folder = opened.inode
        above = opened.place[0] if opened.place is not None else folder
        found = [(".", folder), ("..", above), *folder.children.values()]
        key = self.volume.key(pattern)
        return found if pattern == "*" else [entry for entry in found if self.volume.key(entry[0]) == key]

    def _next_entries(self, opened: Open, size: int, *, is_first: bool) -> bytes:
        assert opened.listing is not None
        taken: list[tuple[str, Inode]] = []
        room = size
        while opened.listing and (not self.entries_at_once or len(taken) < self.entries_at_once):
            name, inode = opened.listing[0]
            room -= len(messages.directory_entry(name, inode, is_last=False))
            if room < 0:
                break
            taken.append(opened.listing.pop(0))
        if not taken:
            raise Refused(NtStatus.NO_SUCH_FILE if is_first else NtStatus.NO_MORE_FILES)
        last = len(taken) - 1
        return b"".join(
            messages.directory_entry(name, inode, is_last=index == last) for index, (name, inode) in enumerate(taken)
        )

    def _query_info(self, body: bytes) -> bytes:
        handle, info_type, info_class, _ = messages.parse_query_info(body)
        opened = self._open(handle)
        inode = opened.inode
        if info_type == InfoType.SMB2_0_INFO_FILESYSTEM:
            if info_class == FileSystemInformationClass.FILE_FS_FULL_SIZE_INFORMATION:
                return messages.output_body(messages.full_size(*self.volume.cluster))
            if info_class == FileSystemInformationClass.FILE_FS_ATTRIBUTE_INFORMATION:
                return messages.output_body(struct.pack("<III", self.volume.features, 255, 0))
        elif info_type == InfoType.SMB2_0_INFO_FILE:
            if info_class == FileInformationClass.FILE_ALL_INFORMATION:
                return messages.output_body(self._all(opened))
            if info_class == FileInformationClass.FILE_STREAM_INFORMATION:
                return messages.output_body(messages.streams(inode))
            if info_class == FileInformationClass.FILE_FULL_EA_INFORMATION:
                if not inode.eas:
                    raise Refused(NtStatus.NO_EAS_ON_FILE)
                ((name, value),) = inode.eas.items()  # one is what tests need
                return messages.output_body(encode_ea(name, value))
        raise Refused(NtStatus.INVALID_INFO_CLASS)

    def _all(self, opened: Open) -> bytes:
        inode, pending = opened.inode, opened.place in opened.inode.pending
        links = len(inode.names) - pending if not inode.is_directory else 1
        name = "\\" if opened.place is None else opened.place[0].children.get(opened.place[1], ("",))[0]
        return messages.all_information(inode, links, name, pending=pending)

    def _set_info(self, body: bytes) -> bytes:
        handle, info_type, info_class, info = messages.parse_set_info(body)
        opened = self._open(handle)
        if info_type != InfoType.SMB2_0_INFO_FILE:
            raise Refused(NtStatus.NOT_SUPPORTED)
        if info_class == FileInformationClass.FILE_BASIC_INFORMATION:
            self.volume.set_basic(opened, *messages.parse_basic(info))
        elif info_class == FileInformationClass.FILE_END_OF_FILE_INFORMATION:
            self.volume.set_size(opened, int.from_bytes(info[:8], "little"))
        elif info_class == FileInformationClass.FILE_ALLOCATION_INFORMATION:
            ranges.set_allocation(self.volume, opened, int.from_bytes(info[:8], "little"))
        elif info_class == FileInformationClass.FILE_DISPOSITION_INFORMATION:
            self.volume.set_disposition(opened, delete=bool(info[0]))
        elif info_class == FileInformationClass.FILE_RENAME_INFORMATION:
            names, replace = messages.parse_rename(info)
            self.volume.rename(opened, names, replace=replace)
        elif info_class == FileInformationClass.FILE_LINK_INFORMATION:
            self.volume.link(opened, messages.parse_rename(info)[0])
        elif info_class == FileInformationClass.FILE_FULL_EA_INFORMATION:
            opened.inode.eas = {name: value for name, value in decode_eas(info).items() if value}
        else:
            raise Refused(NtStatus.INVALID_INFO_CLASS)
        return b"\x02\x00"

    def _ioctl(self, body: bytes) -> bytes:
        handle, code, data, room = messages.parse_ioctl(body)
        if code in (CtlCode.FSCTL_SET_REPARSE_POINT, CtlCode.FSCTL_GET_REPARSE_POINT):
            self._open(handle)
            raise Refused(NtStatus.NOT_A_REPARSE_POINT)  # as Samba 4.17
        if code == CtlCode.FSCTL_SRV_REQUEST_RESUME_KEY:
            key = self._open(handle).handle.ljust(KEY_SIZE, b"\0")
            return messages.ioctl_body(code, handle, key + bytes(8))
        if code == CtlCode.FSCTL_SRV_COPYCHUNK_WRITE:
            return messages.ioctl_body(code, handle, self._copy(self._open(handle), data))
        return self._range_ioctl(code, self._open(handle), data, room)

    def _range_ioctl(self, code: int, opened: Open, data: bytes, room: int) -> bytes:
        """Controls that are about parts of a file."""
        output = b""
        if code == CtlCode.FSCTL_QUERY_ALLOCATED_RANGES and self.volume.has_ranges:
            self._warning, output = ranges.query_ranges(self.volume, opened, data, room)
        elif code == CtlCode.FSCTL_SET_SPARSE and self.volume.has_ranges:
            ranges.set_sparse(opened, data)
        elif code == CtlCode.FSCTL_SET_ZERO_DATA and self.volume.has_ranges:
            ranges.zero(self.volume, opened, data)
        elif code == CtlCode.FSCTL_DUPLICATE_EXTENTS_TO_FILE:
            ranges.duplicate(self.volume, opened, data, self._client)
        else:
            raise Refused(NtStatus.INVALID_DEVICE_REQUEST)
        return messages.ioctl_body(code, opened.handle, output)

    def _copy(self, target: Open, data: bytes) -> bytes:
        """FSCTL_SRV_COPYCHUNK (MS-SMB2 2.2.31.1)."""
        source = self.volume.opens.get(data[:16])
        if source is None:
            raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
        count, total = int.from_bytes(data[24:28], "little"), 0
        for index in range(count):
            begin, end, size = struct.unpack_from("<QQI", data, 32 + 24 * index)
            chunk = bytes(source.inode.data[begin : begin + size])
            if len(chunk) < size:
                raise Refused(NtStatus.INVALID_DEVICE_REQUEST)
            self.volume.write(target, end, chunk)
            total += size
        return struct.pack("<III", count, 0, total)

    def _acknowledge(self, body: bytes) -> bytes:
        key, state = messages.parse_acknowledgement(body)
        self.volume.leases.acknowledge(self._client, key, state)
        return messages.acknowledgement_body(key, state)

    def _disconnect(self, body: bytes) -> bytes:
        self.end()
        return messages.PLAIN_BODY

"""Snapshots: previous versions of a share, as its server keeps them (MS-SMB2 2.2.32.2, MS-FSCC 2.1.2 on @GMT tokens).

A snapshot is known by the time at which it was taken, in 100 ns since 1601 as in a FILETIME. A file in it is opened
with that time in the create context TWrp (MS-SMB2 2.2.13.2.7).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from dfsfs.errors import Disposition, EndlessAnswer, SmbError, WireError
from dfsfs.filetime import gmt_token, parse_gmt_token
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.tree.bounds import SNAPSHOT_ROUNDS
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import Access, CreateDisposition, CreateOptions, CtlCode
from dfsfs.smb.wire.messages import RELATED_FILE_ID

if TYPE_CHECKING:
    from dfsfs.smb.tree.compounds import PathChannel
    from dfsfs.unc import UncPath

_COUNTS = struct.Struct("<III")  # snapshots there are, those in the answer, bytes that all of them take
_FIRST_SIZE = 16
"""Bytes of output of the first request, which is for the size of the list (MS-SMB2 3.2.4.20.3)."""
_MAX_SIZE = 1024 * 1024
"""Bytes of output that are asked for at most."""


def decode_snapshots(buffer: messages.Buffer) -> tuple[list[str], int]:
    """The names in a SRV_SNAPSHOT_ARRAY, and how many bytes an answer with all of them has (MS-SMB2 2.2.32.2).

    Raises:
        WireError: it is too short.
    """
    if len(buffer) < _COUNTS.size:
        raise WireError(f"a list of snapshots of {len(buffer)} bytes")
    _, returned, size = _COUNTS.unpack_from(buffer)
    names = str(memoryview(buffer)[_COUNTS.size :], "utf-16-le", "replace").split("\0") if returned else []
    tokens = [name for name in names[:returned] if parse_gmt_token(name) is not None]
    return tokens, _COUNTS.size + size


class Snapshots:
    """See the module's text."""

    def __init__(self, channel: PathChannel) -> None:
        self._channel = channel
        self._is_checked = False

    async def check(self) -> None:
        """Makes sure that the server has a snapshot of the channel's time, if that is not now. Two round trips, once.

        A server that has none may not say so: Samba shows the present then.

        Raises:
            SmbError: OBJECT_NAME_NOT_FOUND, it has none; or the server's answer.
            EndlessAnswer, ConnectionLost, SecurityError, WireError: as in list.
        """
        channel = self._channel
        if channel.snapshot_time is None or self._is_checked:
            return
        name = gmt_token(channel.snapshot_time)
        try:
            found = name in await Snapshots(channel.at(None)).list(channel.share)
        except SmbError as error:
            if error.disposition is not Disposition.RETURN:
                raise
            found = False
        if not found:
            raise SmbError(NtStatus.OBJECT_NAME_NOT_FOUND, f"snapshot {name} of {channel.share}")
        self._is_checked = True

    async def list(self, path: UncPath) -> list[str]:
        """The names of the snapshots in which there may be a previous version of a directory. Two round trips.

        Raises:
            EndlessAnswer: the server asks for more room each time.
            SmbError: the server's answer, INVALID_DEVICE_REQUEST or NOT_SUPPORTED if it makes no snapshots.
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        size = _FIRST_SIZE
        for _ in range(SNAPSHOT_ROUNDS):
            create = self._channel.encode_create(
                path,
                access=Access.FILE_READ_DATA | Access.FILE_READ_ATTRIBUTES,
                disposition=CreateDisposition.FILE_OPEN,
                options=CreateOptions.FILE_DIRECTORY_FILE,
            )
            ask = messages.encode_ioctl(CtlCode.FSCTL_SRV_ENUMERATE_SNAPSHOTS, b"", size)
            created, asked, _ = await self._channel.call([create, ask, messages.encode_close(RELATED_FILE_ID)])
            for response in (created, asked):
                self._channel.check(response, f"snapshots of {path}")
            names, whole = decode_snapshots(messages.decode_ioctl(asked.message, size))
            if whole <= size or size >= _MAX_SIZE:
                return names
            size = min(whole, _MAX_SIZE)
        raise EndlessAnswer(f"the snapshots of {path} take more room each time that they are asked for")

"""PathChannel: a tree connect that knows paths, and the compounds that the operations on them are made of.

An operation that opens a file only to query or to change one thing sends CREATE, the request and CLOSE as one compound:
one round trip. Paths are full UNC paths whose first two components are the share. How they look on the wire is decided
here: on a share with SMB2_SHARE_CAP_DFS a name is `host\\share\\name` and the CREATE has the DFS flag; on any other
share it is relative and has no flag. Samba 4.22 opens the wrong object when the two are mixed.

A change of a name or of attributes applies to the object itself, also if it is a link to something else on the server.
So it opens with FILE_OPEN_REPARSE_POINT, but only on shares without DFS: on a namespace's share the flag opens a DFS
link, which would then be changed. Reparse points on such shares are left to special.py, which checks what it opens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.filetime import gmt_token
from dfsfs.ntstatus import is_failure
from dfsfs.smb.tree.channel import Channel
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import (
    FILE_OPEN_REPARSE_POINT,
    Access,
    CreateDisposition,
    CreateOptions,
    FileInformationClass,
    ShareAccess,
)
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dfsfs.ntstatus import NtStatus
    from dfsfs.smb.connection.calls import Response, Route
    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.connection.leases import LeaseRequest
    from dfsfs.smb.tree.channel import IoLimits
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath


class PathChannel(Channel):
    """See the module's text. `snapshot_time`: that of the snapshot in which files are opened, in 100 ns since 1601;
    None: files as they are.
    """

    def __init__(
        self, connection: Connection, share: UncPath, route: Route, limits: IoLimits, snapshot_time: int | None = None
    ) -> None:
        super().__init__(connection, share, route, limits)
        self.snapshot_time = snapshot_time
        if snapshot_time is not None:
            self.volume = share.join([gmt_token(snapshot_time)])

    def at(self, snapshot_time: int | None) -> PathChannel:
        """A channel on the same tree connect, for files in the snapshot of a time, or as they are."""
        channel = PathChannel(self.connection, self.share, self.route, self.limits, snapshot_time)
        channel.content_warnings = self.content_warnings
        return channel

    def wire_name(self, path: UncPath) -> str:
        """The name of `path` in a CREATE on this tree connect."""
        return "\\".join(path.components if self.is_dfs else path.below_share)

    def encode_create(
        self,
        path: UncPath,
        *,
        access: Access,
        disposition: CreateDisposition,
        options: CreateOptions = CreateOptions.NONE,
        attributes: int = 0,
        lease: LeaseRequest | None = None,
        share_access: ShareAccess = ShareAccess.ALL,
    ) -> Request:
        return messages.encode_create(
            self.wire_name(path),
            access=access,
            disposition=disposition,
            options=options,
            attributes=attributes,
            share_access=share_access,
            lease=lease.lease.request(lease.wanted) if lease is not None else b"",
            snapshot_time=self.snapshot_time,
        )

    def encode_stat_compound(
        self,
        path: UncPath,
        disposition: CreateDisposition = CreateDisposition.FILE_OPEN,
        options: CreateOptions = CreateOptions.NONE,
    ) -> Sequence[Request]:
        """The compound that opens or makes a file or directory, queries FileAllInformation, and closes it."""
        create = self.encode_create(path, access=Access.FILE_READ_ATTRIBUTES, disposition=disposition, options=options)
        return [create, messages.encode_query_all(), messages.encode_close(RELATED_FILE_ID)]

    def decode_stat_compound(self, responses: Sequence[Response], what: str) -> FileStat:
        """Decodes the responses to `encode_stat_compound`. Errors as in decode_stat."""
        created, queried, _ = responses
        self.check(created, what)
        return self.decode_stat(queried, what)

    def encode_glances(self, directories: Iterable[UncPath]) -> list[Request]:
        """Requests for the end of the compound of a change: what it has made of some directories. Each is opened and
        closed, as the answer to CREATE has their times; compounded requests are carried out in their order (MS-SMB2
        3.3.5.2.7.2).
        """
        requests: list[Request] = []
        for directory in directories:
            create = self.encode_create(
                directory, access=Access.FILE_READ_ATTRIBUTES, disposition=CreateDisposition.FILE_OPEN
            )
            requests += (create, messages.encode_close(RELATED_FILE_ID))
        return requests

    def decode_glances(self, responses: Sequence[Response]) -> list[FileStat | None]:
        """What the responses to `encode_glances` say: of each directory its times and attributes, without file id and
        links; None if it was not opened.
        """
        return [
            None if is_failure(opened.status) else messages.decode_create(opened.message).stat
            for opened in responses[::2]
        ]

    async def query_info(
        self, path: UncPath, access: Access, query: Request, what: str, *accepted: NtStatus
    ) -> Response:
        """The response to a query about a path, in one compound with its CREATE and CLOSE. One round trip.

        Raises:
            SmbError: CREATE failed, or the query did with none of the `accepted` statuses.
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        create = self.encode_create(path, access=access, disposition=CreateDisposition.FILE_OPEN)
        created, queried, _ = await self.call([create, query, messages.encode_close(RELATED_FILE_ID)])
        self.check(created, what)
        self.check(queried, what, *accepted)
        return queried

    def encode_set_compound(
        self,
        path: UncPath,
        access: Access,
        info_class: FileInformationClass,
        info: bytes,
        options: CreateOptions = CreateOptions.NONE,
        share_access: ShareAccess = ShareAccess.ALL,
    ) -> Sequence[Request]:
        """The compound that opens a path, without following it on shares without DFS, sets one thing and closes it."""
        options |= CreateOptions.NONE if self.is_dfs else FILE_OPEN_REPARSE_POINT
        create = self.encode_create(
            path, access=access, disposition=CreateDisposition.FILE_OPEN, options=options, share_access=share_access
        )
        change = messages.encode_set_info(RELATED_FILE_ID, info_class, info)
        return [create, change, messages.encode_close(RELATED_FILE_ID)]

    async def set_info(
        self,
        path: UncPath,
        access: Access,
        info_class: FileInformationClass,
        info: bytes,
        what: str,
        options: CreateOptions = CreateOptions.NONE,
    ) -> None:
        """Sends `encode_set_compound`. One round trip. Errors as in query_info."""
        for response in await self.call(self.encode_set_compound(path, access, info_class, info, options)):
            self.check(response, what)

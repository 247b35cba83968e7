"""Channel: one tree connect, over which compounds about a share are sent.

It ends with its connection, or earlier when the server says that the tree connect is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb.tree.content_warnings import ContentWarnings
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.smb.connection.calls import Response, Route
    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.connection.pendingcall import PendingCall
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Request
    from dfsfs.unc import UncPath

_CUT_SHORT = NtStatus.BUFFER_OVERFLOW
_TREE_IS_GONE = (NtStatus.NETWORK_NAME_DELETED,)
_SESSION_IS_GONE = (NtStatus.USER_SESSION_DELETED, NtStatus.NETWORK_SESSION_EXPIRED)


@dataclass(frozen=True, slots=True)
class IoLimits:
    """Bytes of the largest READ, WRITE and other exchange: the minimum of the server's limit and the mount's option."""

    read: int
    write: int
    transact: int


class Channel:
    """See the module's text. Once `alive` is False, it stays so."""

    def __init__(self, connection: Connection, share: UncPath, route: Route, limits: IoLimits) -> None:
        self.connection = connection
        self.share = share
        self.route = route
        self.limits = limits
        self.is_dfs = route.dfs
        """Whether the share has SMB2_SHARE_CAP_DFS, so that paths below it may lead to other servers."""
        self.volume = share
        """The scope in which file ids are unique: the share, or its snapshot."""
        self.content_warnings = ContentWarnings()
        self._deleted = False

    @property
    def alive(self) -> bool:
        return not self._deleted and self.connection.alive

    async def call(self, requests: Sequence[Request]) -> list[Response]:
        """Connection.call on this tree, and `update_state`. Errors as there."""
        return self.update_state(await self.connection.call(requests, self.route))

    def start(self, requests: Sequence[Request], received: Callable[[Response], None] | None = None) -> PendingCall:
        """Connection.start on this tree. The responses have to be given to `update_state`. Errors as there."""
        return self.connection.start(requests, self.route, received)

    def call_nowait(self, requests: Sequence[Request]) -> None:
        """Connection.post on this tree."""
        self.connection.call_nowait(requests, self.route)

    def update_state(self, responses: list[Response]) -> list[Response]:
        """Ends the channel if the first response says that tree connect or session are gone. Returns the responses."""
        status = responses[0].status
        if status in _TREE_IS_GONE:
            self._deleted = True
        elif status in _SESSION_IS_GONE:
            self.connection.close()
        return responses

    def check(self, response: Response, what: str, *accepted: NtStatus) -> None:
        """Raises: SmbError: the status is a failure and none of `accepted`. `what` names the request for people."""
        status = response.status
        if is_failure(status) and status not in accepted:
            raise SmbError(status, what)

    def decode_stat(self, response: Response, what: str) -> FileStat:
        """Decodes the response to `encode_query_all`. BUFFER_OVERFLOW only says that the name at its end is cut.

        Raises:
            SmbError: the server's answer.
            WireError: the response is malformed.
        """
        self.check(response, what, _CUT_SHORT)
        return fscc.decode_all_information(messages.decode_output(response.message))

    def server_time(self) -> int:
        """The server's clock in nanoseconds since 1970, see Connection.server_time."""
        return self.connection.server_time()

    def disconnect(self) -> None:
        """Sends TREE_DISCONNECT, and does not wait for the response."""
        if self.alive:
            self.call_nowait([messages.encode_plain(Command.SMB2_TREE_DISCONNECT)])
        self._deleted = True

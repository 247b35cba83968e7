"""Channel: one tree connect, as the way on which requests about a share go out and answers come back.

It dies with its connection, or alone when the server says that the tree has been deleted.
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
    from dfsfs.smb.connection.connection import Connection, PendingCall
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Request
    from dfsfs.unc import UncPath

_CUT_SHORT = NtStatus.BUFFER_OVERFLOW
_TREE_IS_GONE = (NtStatus.NETWORK_NAME_DELETED,)
_SESSION_IS_GONE = (NtStatus.USER_SESSION_DELETED, NtStatus.NETWORK_SESSION_EXPIRED)


@dataclass(frozen=True, slots=True)
class IoLimits:
    """The largest READ, WRITE and other exchange, in bytes: the smaller of what the server offers and the mount
    asks.
    """

    read: int
    write: int
    transact: int


class Channel:
    """See the module's text. `alive` turns False once and for all."""

    def __init__(self, connection: Connection, share: UncPath, route: Route, limits: IoLimits) -> None:
        self.connection = connection
        self.share = share
        self.route = route
        self.limits = limits
        self.is_dfs = route.dfs
        """Whether the share takes part in DFS, so that paths below it may lead elsewhere."""
        self.volume = share
        """What file ids are unique in."""
        self.content_warnings = ContentWarnings()
        self._deleted = False

    @property
    def alive(self) -> bool:
        return not self._deleted and self.connection.alive

    async def call(self, requests: Sequence[Request]) -> list[Response]:
        """Connection.call on this tree; takes note when the server says that tree or session are gone."""
        return self.update_state(await self.connection.call(requests, self.route))

    def start(self, requests: Sequence[Request], received: Callable[[Response], None] | None = None) -> PendingCall:
        """Connection.start on this tree. What comes of the call has to go through `update_state`."""
        return self.connection.start(requests, self.route, received)

    def call_nowait(self, requests: Sequence[Request]) -> None:
        """Connection.post on this tree."""
        self.connection.call_nowait(requests, self.route)

    def update_state(self, responses: list[Response]) -> list[Response]:
        """The answers to a call that was begun with `start`, after taking note as `call` does."""
        status = responses[0].status
        if status in _TREE_IS_GONE:
            self._deleted = True
        elif status in _SESSION_IS_GONE:
            self.connection.close()
        return responses

    def check(self, response: Response, what: str, *accepted: NtStatus) -> None:
        """Raises: SmbError: the answer is a failure and not one of `accepted`."""
        status = response.status
        if is_failure(status) and status not in accepted:
            raise SmbError(status, what)

    def decode_stat(self, response: Response, what: str) -> FileStat:
        """The answer to `encode_query_all`; that the name at its end is cut is no failure.

        Raises:
            SmbError: the server's answer.
            WireError: it is not what was asked for.
        """
        self.check(response, what, _CUT_SHORT)
        return fscc.decode_all_information(messages.decode_output(response.message))

    def server_time(self) -> int:
        """The server's clock in nanoseconds since 1970, as far as it is known here."""
        return self.connection.server_time()

    def disconnect(self) -> None:
        """Tells the server that the tree is not used any more; does not wait for it."""
        if self.alive:
            self.call_nowait([messages.encode_plain(Command.SMB2_TREE_DISCONNECT)])
        self._deleted = True

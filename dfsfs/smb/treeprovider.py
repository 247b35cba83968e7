"""TreeProvider: what the layers above need of `Pool` and `UserPools`, which differ in whose login they use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from dfsfs.smb.connection.protocol import ProtocolStatistics
    from dfsfs.smb.sessioninfo import SessionInfo
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.unc import UncPath


class TreeProvider(Protocol):
    """Gives tree connects to shares, for the user that the calling task works for (dfsfs/caller.py)."""

    async def connect_tree(self, share: UncPath) -> Tree:
        """A live tree connect to `//host/share`. Raises: DfsfsError, see Pool.connect_tree."""

    async def connect_ipc(self, host: str) -> Tree:
        """The tree for requests to the server itself, such as referrals. Errors as in connect_tree."""

    def hold_connection(self, host: str) -> AbstractAsyncContextManager[None]:
        """Waits until a server has answered, without a login; see Pool.hold_connection."""

    def is_logged_in(self, host: str) -> bool:
        """Whether there is a session on a server."""

    def sessions(self) -> list[SessionInfo]:
        """The live sessions of all users."""

    def statistics(self) -> Mapping[str, ProtocolStatistics]:
        """Snapshots of the live connections, by names for people."""

"""Servers, described as data, behind the interface of `smb.pool.Pool`: no sockets, no bytes except those of referrals.

A FakeServer has shares, DFS links and a state of health; FakePool hands out FakeTrees on them and keeps a log of what
was asked for. All waiting is trio's, so a test with a MockClock takes no time. The statuses are those that Samba 4.17
gives.

`FakeTree` has the two methods that the namespace layer itself calls. Operations of a test may use whatever else they
like.
"""

from __future__ import annotations

import struct
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, TypeVar, cast

import trio
import trio.testing

from dfsfs.errors import ConnectError, ConnectionLost, LoginRefused, SetupRefused, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.hostnames import HostNames
from dfsfs.smb.wire.fscc import FileStat
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from dfsfs.smb.pool import Pool
    from dfsfs.smb.wire.constants import CtlCode

T = TypeVar("T")


def virtual(test: Callable[..., Awaitable[T]]) -> Callable[..., T]:
    """Runs an asynchronous test on a clock that jumps to the next deadline whenever every task waits."""

    @wraps(test)
    def run(*args: object, **kwargs: object) -> T:
        async def main() -> T:
            return await test(*args, **kwargs)

        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


def unc(text: str) -> UncPath:
    return UncPath.parse(text)


def a_stat(*, directory: bool = True) -> FileStat:
    return FileStat(
        created=0,
        accessed=0,
        written=0,
        changed=0,
        attributes=0x10 if directory else 0x80,
        size=0,
        allocated=0,
        file_id=1,
        links=1,
        reparse_tag=0,
    )


def referral_body(request: str, consumed: int, targets: Sequence[str], *, root: bool = False, ttl: int = 600) -> bytes:
    """A version 3 answer in the form in which Samba sends it (MS-DFSC 2.2.4, 2.2.5.3.1)."""
    fixed, heap = bytearray(), bytearray()
    path = (request[: consumed // 2] + "\0").encode("utf-16-le")
    size = 34 * len(targets)
    for index, target in enumerate(targets):
        start = size - 34 * index + len(heap)
        address = (target + "\0").encode("utf-16-le")
        fixed += struct.pack("<HHHHIHHH16x", 3, 34, root, 0, ttl, start, start + len(path), start + 2 * len(path))
        heap += path + path + address
    return struct.pack("<HHI", consumed, len(targets), 3 if root else 2) + fixed + heap


@dataclass(slots=True)
class FakeLink:
    """A DFS root or link and what its referral says."""

    targets: list[str]
    ttl: int = 600
    root: bool = False


@dataclass(slots=True)
class FakeServer:
    """One host. It and its shares are keyed by lower case names; a share that is not there is BAD_NETWORK_NAME."""

    host: str
    shares: dict[str, bool] = field(default_factory=dict)
    """Share -> whether its tree connect says that it takes part in DFS."""
    links: dict[UncPath, FakeLink] = field(default_factory=dict)
    files: set[UncPath] = field(default_factory=set)
    connect_time: float = 0.0
    """Seconds that a connection takes, or takes to fail."""
    refusal: int | None = None
    """While set: connections fail with this status."""
    silent: bool = False
    """While set: requests wait for ever."""
    share_status: dict[str, int] = field(default_factory=dict)
    """Share -> status of the tree connect."""
    lose_next: int = 0
    """That many tree connects find their connection dead."""
    trees: dict[UncPath, FakeTree] = field(default_factory=dict)
    login_status: int | None = None
    """While set: it refuses logins with this."""
    logins: int = 0
    """How many it has refused."""
    login_time: float = 0.0
    """Seconds that a login takes."""
    reached: int = 0
    """How many have a connection to it that waits for a login."""

    def kill(self, status: int = NtStatus.CONNECTION_REFUSED) -> None:
        self.refusal = status
        self.reset()

    def reset(self) -> None:
        """Ends every connection; new ones work."""
        for tree in self.trees.values():
            tree.alive = False
        self.trees.clear()

    def revive(self) -> None:
        self.refusal = None

    def link_of(self, path: UncPath) -> tuple[UncPath, FakeLink] | None:
        """The longest entry above or at `path`."""
        found = path.nearest_of(self.links)
        return (found[0], self.links[found[0]]) if found else None


@dataclass(slots=True, eq=False)
class FakeTree:
    """One tree connect."""

    server: FakeServer
    share: UncPath
    is_dfs: bool
    pool: FakePool
    alive: bool = True

    async def stat(self, path: UncPath) -> FileStat:
        await trio.lowlevel.checkpoint()
        if self.server.silent:
            await trio.sleep_forever()
        if not self.alive:
            raise ConnectionLost(self.server.host, NtStatus.CONNECTION_RESET, "connection reset")
        assert self.share.is_prefix_of(path)
        link = self.server.link_of(path)
        if self.is_dfs and link is not None and not link[1].root:
            raise SmbError(NtStatus.PATH_NOT_COVERED, f"stat of {path}")
        if path.components[-1].startswith("missing"):
            raise SmbError(NtStatus.OBJECT_NAME_NOT_FOUND, f"stat of {path}")
        return a_stat(directory=path not in self.server.files)

    async def referral(self, code: CtlCode, request: bytes, max_output: int) -> tuple[int, bytes]:
        await trio.lowlevel.checkpoint()
        if self.server.silent:
            await trio.sleep_forever()
        if not self.alive:
            raise ConnectionLost(self.server.host, NtStatus.CONNECTION_RESET, "connection reset")
        text = request[2:].decode("utf-16-le").rstrip("\0")
        path = UncPath.parse(text)
        self.pool.referrals.append((self.server.host, str(path), max_output))
        link = self.server.link_of(path)
        if link is None:
            return NtStatus.NOT_FOUND, b""
        prefix, entry = link
        if entry.root and len(path) > len(prefix):
            return NtStatus.OBJECT_PATH_NOT_FOUND, b""
        body = referral_body(text, 2 * len(prefix.wire), entry.targets, root=entry.root, ttl=entry.ttl)
        if len(body) > max_output:
            return NtStatus.BUFFER_OVERFLOW, body[:max_output]
        return NtStatus.SUCCESS, body


class FakePool:
    """`Pool` over a handful of FakeServers. A host that is not among them has no address."""

    def __init__(self, *servers: FakeServer) -> None:
        self.servers = {server.host: server for server in servers}
        self.connects: list[str] = []
        """Tree connects that were really made or tried, in order."""
        self.referrals: list[tuple[str, str, int]] = []
        """Referral requests: host, path, room."""
        self.connecting = Counter[str]()
        self.logging_in = self.most_logins = 0
        """Logins that are under way, and how many there were at most."""
        self.names = HostNames()

    @property
    def as_pool(self) -> Pool:
        return cast("Pool", self)

    def is_logged_in(self, host: str) -> bool:
        server = self.servers.get(host.lower())
        return server is not None and any(tree.alive for tree in server.trees.values())

    @asynccontextmanager
    async def hold_connection(self, host: str) -> AsyncIterator[None]:
        """Takes the time of a connection; what comes of it shows at the tree connect."""
        await trio.lowlevel.checkpoint()
        server = self.servers.get(host.lower())
        if server is None or self.is_logged_in(host):
            yield
            return
        self.connecting[host] += 1
        try:
            await trio.sleep(server.connect_time)
        finally:
            self.connecting[host] -= 1
        server.reached += 1
        try:
            yield
        finally:
            server.reached -= 1

    async def connect_ipc(self, host: str) -> FakeTree:
        return await self.connect_tree(UncPath((host, "IPC$")))

    async def connect_tree(self, share: UncPath) -> FakeTree:
        await trio.lowlevel.checkpoint()
        server = self.servers.get(share.host.lower())
        if server is None:
            raise ConnectError(share.host, NtStatus.BAD_NETWORK_PATH, "no address")
        tree = server.trees.get(share)
        if tree is not None and tree.alive:
            return tree
        self.connects.append(str(share))
        self.connecting[share.host] += 1
        try:
            await trio.sleep(0 if server.reached else server.connect_time)
            if not self.is_logged_in(share.host):
                await self._log_in(server)
        finally:
            self.connecting[share.host] -= 1
        tree = self._connect(server, share)
        server.trees[share] = tree
        return tree

    async def _log_in(self, server: FakeServer) -> None:
        self.logging_in += 1
        self.most_logins = max(self.most_logins, self.logging_in)
        try:
            await trio.sleep(server.login_time)
        finally:
            self.logging_in -= 1

    def _connect(self, server: FakeServer, share: UncPath) -> FakeTree:
        if server.refusal is not None:
            raise ConnectError(server.host, server.refusal, "can't connect")
        if server.login_status is not None:
            server.logins += 1
            raise LoginRefused(server.login_status, f"logging in to {server.host}")
        if server.lose_next:
            server.lose_next -= 1
            raise ConnectionLost(server.host, NtStatus.CONNECTION_RESET, "connection reset")
        name = share.components[1] if share.components[1] == "IPC$" else share.components[1].lower()
        if status := server.share_status.get(name):
            raise SetupRefused(status, f"connecting to {share}")
        if name != "IPC$" and name not in server.shares:
            raise SmbError(NtStatus.BAD_NETWORK_NAME, f"connecting to {share}")
        return FakeTree(server, share, server.shares.get(name, False), self)

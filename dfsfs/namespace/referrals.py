"""Asks servers for referrals: one request, to one server, and its answer (MS-DFSC 3.1.4.2).

A request is FSCTL_DFS_GET_REFERRALS or FSCTL_DFS_GET_REFERRALS_EX on IPC$. The file of dfs_static= answers in a
server's place where it has the root or link.

Two tasks that need the same referral of the same server share one request; if the task that sends it is cancelled, one
of the others sends it anew. No lock is held here.

Which server is asked, and which one next, is decided in dfsc/resolver.py and referralclient.py; the bytes of a referral
are those of dfsc/wire.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from dfsfs.dfsc.resolver import MAX_HOPS
from dfsfs.dfsc.wire import ReferralResponse, decode_response, encode_request, encode_request_ex
from dfsfs.errors import DfsfsError, Disposition, SmbError, WireError
from dfsfs.namespace.discovery import DomainSettings
from dfsfs.ntstatus import NtStatus
from dfsfs.singleflight import InFirstCaller, SingleFlight
from dfsfs.smb.wire.constants import CtlCode
from dfsfs.telemetry import ReferralMalformed, ReferralOverflow
from dfsfs.unc import UncPath, fold_name

if TYPE_CHECKING:
    from collections.abc import Hashable

    from dfsfs.namespace.discovery import Discovery
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.telemetry import Telemetry

T = TypeVar("T")

REFERRAL_SIZES = (4096, 8192, 16384, 32768, 57344)
"""The room offered for an answer, in bytes, one after the other (MS-DFSC section 6 on 3.1.5.4: 4 KiB growing to 56)."""

REFERRAL_LEVEL = 4
"""The newest version of referral entries that the decoder knows; a server answers in this or an older one."""

EX_REFUSED = frozenset(
    {
        NtStatus.FS_DRIVER_REQUIRED,
        NtStatus.INVALID_DEVICE_REQUEST,
        NtStatus.INVALID_PARAMETER,
        NtStatus.NOT_SUPPORTED,
        NtStatus.NOT_IMPLEMENTED,
    }
)
"""What servers that don't know REQ_GET_DFS_REFERRAL_EX say to it."""


class ReferralSource(Protocol):
    """Something that stands in for servers, or overrides what they say."""

    def answer(self, path: UncPath, *, root: bool) -> ReferralResponse | None:
        """The answer to a root or link referral request; None if a server is to be asked.

        Raises:
            DfsfsError: what a server would refuse the request with.
        """
        ...

    def link_above(self, path: UncPath) -> UncPath | None:
        """The link at or above a path that only this source knows of."""
        ...


@dataclass(frozen=True, slots=True)
class ReferralSettings:
    """What the options of a mount say about asking for referrals.

    `site`: of this computer, for servers that take it; without one, it is the one that a controller says. `domain`:
    where to look for our domain.
    """

    max_hops: int = MAX_HOPS
    site: str | None = None
    domain: DomainSettings = field(default_factory=DomainSettings)
    static: ReferralSource | None = None


class ReferralRequester:
    """Sends the referral requests of one mount. `discovery` says in which site this computer is."""

    def __init__(
        self, pool: Pool, settings: ReferralSettings, *, telemetry: Telemetry, discovery: Discovery | None = None
    ) -> None:
        self._pool = pool
        self._static = settings.static
        self._configured_site = settings.site
        self._telemetry = telemetry
        self._discovery = discovery
        self._requests: SingleFlight[Hashable, ReferralResponse] = SingleFlight(InFirstCaller())
        self._without_ex: set[str] = set()
        """Servers that don't know the extended form of the request, by their folded names."""
        self.requests = 0
        """How many requests were sent since the mount."""

    async def request(self, host: str, path: UncPath | None) -> ReferralResponse:
        """A server's referral for `path`, or its domain referral for None. It may be the answer to another task's
        request, or that of the file.

        Raises:
            DfsfsError: the server refuses, can't be reached, or answers something that makes no sense.
        """
        known = self.get_static_answer(path) if path is not None else None
        if known is not None:
            return known
        return await self._requests.do((fold_name(host), path), lambda: self.request_anew(host, path))

    async def request_anew(self, host: str, path: UncPath | None) -> ReferralResponse:
        """`request`, always sent to the server; once more if an idle connection turned out to be dead."""
        try:
            return await self._request_on(await self._pool.connect_ipc(host), host, path)
        except DfsfsError as error:
            if error.disposition is not Disposition.RECONNECT:
                raise
        return await self._request_on(await self._pool.connect_ipc(host), host, path)

    def get_static_answer(self, path: UncPath) -> ReferralResponse | None:
        """What the file of dfs_static= answers for a root or link; None if a server is to be asked.

        Raises:
            SmbError: the file has the root of the path, and no link there.
        """
        if self._static is None or len(path) < 2:
            return None
        return self._static.answer(path, root=len(path) == 2)

    @property
    def _site(self) -> str | None:
        """The site that servers are told, if they take it."""
        found = self._discovery.found if self._discovery is not None else None
        return self._configured_site or (found.site if found is not None else None) or None

    async def _request_on(self, tree: Tree, host: str, path: UncPath | None) -> ReferralResponse:
        """The request in its extended form if there is a site to tell and the server knows that form, else in the plain
        one.
        """
        wire, site = path.wire if path is not None else "", self._site
        if site is not None and fold_name(host) not in self._without_ex:
            request = encode_request_ex(wire, site, REFERRAL_LEVEL)
            status, body = await self._send_request(tree, CtlCode.FSCTL_DFS_GET_REFERRALS_EX, request, path)
            if status not in EX_REFUSED:
                return self._decode(status, body, host, path)
            self._without_ex.add(fold_name(host))
        request = encode_request(wire, REFERRAL_LEVEL)
        status, body = await self._send_request(tree, CtlCode.FSCTL_DFS_GET_REFERRALS, request, path)
        return self._decode(status, body, host, path)

    async def _send_request(self, tree: Tree, code: CtlCode, request: bytes, path: UncPath | None) -> tuple[int, bytes]:
        """The status and the answer, with as much room for it as it takes."""
        status, body = int(NtStatus.BUFFER_OVERFLOW), b""
        for size in REFERRAL_SIZES:
            self.requests += 1
            status, body = await tree.referral(code, request, size)
            # Samba fills the buffer with the beginning of an answer that is too long; it may end in the middle of an
            # entry, so nothing of it is used.
            if status != NtStatus.BUFFER_OVERFLOW:
                break
            self._telemetry.publish(ReferralOverflow(tree.share.host, str(path or ""), size))
        return status, body

    def _decode(self, status: int, body: bytes, host: str, path: UncPath | None) -> ReferralResponse:
        if status != NtStatus.SUCCESS:
            raise SmbError(status, f"DFS referral for {path or 'domains'} from {host}")
        try:
            return decode_response(body, path)
        except WireError as error:
            self._telemetry.publish(ReferralMalformed(host, str(path or ""), str(error)))
            raise

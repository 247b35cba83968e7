"""Actions, which a resolution yields, and their outcomes, which it is sent: the seam between the resolver and its I/O.
Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.errors import DfsfsError
    from dfsfs.unc import UncPath


class ReferralKind(Enum):
    """What a request asks for (MS-DFSC 3.1.4.2)."""

    DOMAIN = "domain"
    DC = "DC"
    SYSVOL = "sysvol"
    ROOT = "root"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class RequestReferral:
    """Ask `host` for a referral for `path`, which is None to ask for domains.

    `others` can be asked as well, all of one target set or all controllers of one domain. They are to be preferred in
    this order, `host` before them, as far as they answer in time: the driver decides how long that is, and knows which
    of them were silent lately.
    """

    host: str
    path: UncPath | None
    kind: ReferralKind
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryShareIsDfs:
    """Find out whether the share of `target` takes part in DFS; or that of one of `others`, as in RequestReferral."""

    target: UncPath
    others: tuple[UncPath, ...] = ()


@dataclass(frozen=True, slots=True)
class DiscoverDc:
    """Find a domain controller of `domain`, or of our own if that is empty."""

    domain: str


FailedRequest = tuple[str, "DfsfsError"]
"""A host whose request failed, and the error."""


@dataclass(frozen=True, slots=True)
class ReferralReceived:
    """The answer to RequestReferral, by `host`. `now` in seconds, as in all outcomes. `failed`: the requests to other
    hosts, which failed.
    """

    now: float
    response: ReferralResponse
    host: str
    failed: tuple[FailedRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to QueryShareIsDfs, of `target`."""

    now: float
    value: bool
    target: UncPath


@dataclass(frozen=True, slots=True)
class DcFound:
    """The answer to DiscoverDc."""

    now: float
    host: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The outcome of an action that failed. `host` was asked last, `failed` before it."""

    now: float
    error: DfsfsError
    host: str = ""
    failed: tuple[FailedRequest, ...] = ()


Action = RequestReferral | QueryShareIsDfs | DiscoverDc
Outcome = ReferralReceived | Answered | DcFound | Failed

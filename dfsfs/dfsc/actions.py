"""What a resolution wants to know and what came of it: the seam between the resolver and who does its I/O. Pure."""

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
    this order, `host` before them, as far as they answer in time: how long that is, and who has been silent lately, is
    known to who asks.
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
"""A host that was asked in vain, and why."""


@dataclass(frozen=True, slots=True)
class ReferralReceived:
    """The answer to RequestReferral, by `host`. `now` in seconds, as in all outcomes. `failed`: who was asked besides,
    and why that came to nothing.
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
    """Any action that came to nothing, by what `host` said or did not say last."""

    now: float
    error: DfsfsError
    host: str = ""
    failed: tuple[FailedRequest, ...] = ()


Action = RequestReferral | QueryShareIsDfs | DiscoverDc
Outcome = ReferralReceived | Answered | DcFound | Failed

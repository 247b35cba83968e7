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
    """Ask `host` for a referral for `path`, which is None to ask for domains."""

    host: str
    path: UncPath | None
    kind: ReferralKind


@dataclass(frozen=True, slots=True)
class QueryShareIsDfs:
    """Find out whether the share of `target` takes part in DFS."""

    target: UncPath


@dataclass(frozen=True, slots=True)
class DiscoverDc:
    """Find a domain controller of `domain`, or of our own if that is empty."""

    domain: str


@dataclass(frozen=True, slots=True)
class ReferralReceived:
    """The answer to RequestReferral. `now` in seconds, as in all outcomes."""

    now: float
    response: ReferralResponse


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to QueryShareIsDfs."""

    now: float
    value: bool


@dataclass(frozen=True, slots=True)
class DcFound:
    """The answer to DiscoverDc."""

    now: float
    host: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Any action that came to nothing."""

    now: float
    error: DfsfsError


Action = RequestReferral | QueryShareIsDfs | DiscoverDc
Outcome = ReferralReceived | Answered | DcFound | Failed

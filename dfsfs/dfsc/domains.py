"""Domains and their controllers: domain and DC referrals (MS-DFSC 3.1.4.1 step 5, 3.1.5.4.1, 3.1.5.4.2, 3.1.6). Pure.

Both are generators like the resolver's. An answer that is not what was asked for is dropped, and what is known of the
domains stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.dfsc.actions import Action, DcFound, DiscoverDc, Failed, Outcome, ReferralKind
from dfsfs.dfsc.walk import Walk, request_referral, should_ask_next
from dfsfs.errors import DfsfsError, SmbError, WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.telemetry import ReferralRefused
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Generator

    from dfsfs.dfsc.cache import Caches
    from dfsfs.dfsc.wire import ReferralResponse
    from dfsfs.telemetry import Event

BOOTSTRAP_INTERVAL = 15 * 60.0
"""Seconds between two domain referrals, as on Windows (MS-DFSC section 6 on 3.1.2)."""
MIN_VERSION = 3
"""Name lists came with version 3; older answers to such requests are ignored."""


class NoDomainController(DfsfsError):
    """No controller of a domain gives a referral: STATUS_OBJECT_PATH_NOT_FOUND (3.1.5.4.3).

    Programs see EHOSTUNREACH: taken for ENOENT, an outage would look like deleted files.
    """

    def __init__(self, domain: str, error: DfsfsError) -> None:
        text = f"no domain controller of {domain} gives a referral: {error}"
        super().__init__(text, NtStatus.OBJECT_PATH_NOT_FOUND)
        self._last = error

    @property
    def errno(self) -> int:
        return self._last.errno


def domain_controllers(walk: Walk, domain: str) -> Generator[Action, Outcome, tuple[str, ...]]:
    """Step 5: the controllers of a known domain in the order to ask them.

    Raises:
        DfsfsError: BootstrapDC can't be asked, or does not know the domain (step 13).
    """
    domains = walk.caches.domains
    if not domains[domain].dcs:
        if not domains.bootstrap:
            yield from _bootstrap(walk)
        path = UncPath((domains[domain].name,))
        asked = domains.bootstrap
        domains.bootstrap, outcome = yield from request_referral(walk, (asked,), path, ReferralKind.DC)
        if isinstance(outcome, DfsfsError) and should_ask_next(outcome):
            # The timer would look for another one in a quarter of an hour (3.1.6).
            yield from _bootstrap(walk)
            if domains.bootstrap != asked:
                domains.bootstrap, outcome = yield from request_referral(
                    walk, (domains.bootstrap,), path, ReferralKind.DC
                )
        domains.set_dcs(domain, _controllers(outcome, domain))
    return domains[domain].ordered


def refresh_domains(caches: Caches, trail: list[Event], *, now: float) -> Generator[Action, Outcome, None]:
    """The BootstrapDCTimer (3.1.6): finds a controller of our domain and asks it which domains there are.

    Raises:
        DfsfsError: there is none, or it gives no domain referral. The known domains stay as they are.
    """
    walk = Walk(UncPath(("domains",)), caches, now, trail)
    yield from _bootstrap(walk)
    host, outcome = yield from request_referral(walk, (caches.domains.bootstrap,), None, ReferralKind.DOMAIN)
    caches.domains.bootstrap = host
    if isinstance(outcome, DfsfsError):
        raise outcome
    if outcome.version < MIN_VERSION or not outcome.name_lists:
        raise _drop_answer(walk, host, f"a domain referral of version {outcome.version} without names")
    caches.domains.add(entry.special_name for entry in outcome.name_lists)


def _bootstrap(walk: Walk) -> Generator[Action, Outcome, None]:
    outcome = yield DiscoverDc("")
    walk.now = outcome.now
    if isinstance(outcome, Failed):
        raise outcome.error
    assert isinstance(outcome, DcFound), outcome
    walk.caches.domains.bootstrap = outcome.host


def _controllers(outcome: ReferralResponse | DfsfsError, domain: str) -> tuple[str, ...]:
    if isinstance(outcome, DfsfsError):
        raise outcome
    if outcome.version < MIN_VERSION or len(outcome.name_lists) != 1:
        raise WireError(f"an answer to a DC referral for {domain} that is not one list of names of version 3")
    names = outcome.name_lists[0].names
    if not names:
        raise SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, f"DC referral for {domain}, which names no controller")
    return names


def _drop_answer(walk: Walk, host: str, why: str) -> WireError:
    walk.add_event(ReferralRefused(host, "", why))
    return WireError(why)

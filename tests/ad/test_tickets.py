"""Tickets that end, in use. In the last file of this folder, so that the two minutes are over: see conftest.Ending."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.ad.mounts import as_user, does, may_not
from tests.kernel.mounts import wait_until
from tests.support.lab.domain.config import DAVE, ERIN

if TYPE_CHECKING:
    from tests.ad.conftest import Ending
    from tests.support.lab.domain.lab import DomainLab

RENEWED = "the session had expired, and was renewed"

pytestmark = [pytest.mark.domain, pytest.mark.mount]


def test_tickets_end_and_are_renewed_or_not_under_load(domain: DomainLab, ending: Ending) -> None:
    """erin's ticket was followed by another one in time: nothing was noticed. dave's was not, and only he is
    refused.
    """
    file = str(ending.mount / "alone" / "hello.txt")
    ending.his.wait(timeout=110)
    said = ending.errors.read_text()
    refused = re.findall(r"refused at (\d+)", said)
    assert len(refused) == 1 and "Permission denied" in said
    assert int(refused[0]) - ending.started > 115, "not before the ticket has ended"
    may_not(DAVE, "cat", file)
    # Her first ticket was given out after his, up to a second, and her session ends with it.
    wait_until(lambda: RENEWED in ending.log.read_text() or ending.hers.poll() is not None, "hers is renewed")
    for _ in range(20):
        assert ending.hers.poll() is None, ending.errors.read_text()
        does(ERIN, "cat", file)
    assert RENEWED in ending.log.read_text()
    domain.login(DAVE)
    wait_until(lambda: as_user(DAVE.uid, "cat", file).returncode == 0, "he may again")

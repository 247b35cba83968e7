"""Programs go on while servers are gone. docs/semantics.md has all cases, with the figures of a quiet machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ad.outages import OUTAGES, measure
from tests.conftest import LONG

if TYPE_CHECKING:
    from tests.support.lab.domain.lab import DomainLab

pytestmark = [pytest.mark.domain, pytest.mark.mount, pytest.mark.usefixtures("alice")]

SOON = 5.0
"""Seconds on a machine that does other things as well; a server that hangs is given up after 10."""

SAMPLE = [("the root's first target", "hanging"), ("another member", "cut")]
ALL = [(name, fault) for name in OUTAGES for fault in ("dead", "hanging", "cut")]


@pytest.mark.parametrize(("name", "fault"), ALL if LONG else SAMPLE)
def test_links_in_use_do_not_notice_and_new_ones_do_not_wait(domain: DomainLab, name: str, fault: str) -> None:
    """With a controller gone, the members themselves wait for it, whatever their clients do."""
    for row in measure(domain, name, fault):
        if "controller" in name:
            continue
        assert row.new.got == "data" and row.new.seconds < SOON, row
        assert row.mount.got == "data" and row.mount.seconds < 2 * SOON, row
        if name != "the link's first target":
            assert row.used.got == "data" and row.used.seconds < SOON, row

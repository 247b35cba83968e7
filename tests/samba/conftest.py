"""Each test of this package must leave no descriptor open and no server with a client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab) -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before, "a test has left descriptors open"
    for host in lab.hosts.values():
        assert host.running, f"a test has left {host.name} stopped"
        assert host.connections() == 0, f"a test has left a connection to {host.name}"

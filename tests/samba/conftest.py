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
    # Fewer, if what a test before has dropped was collected meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before, "a test has left descriptors open"
    stopped = [host.name for host in lab.hosts.values() if not host.running]
    assert not stopped, "a test has left servers stopped"
    connected = {name: count for name, count in lab.connections().items() if count}
    assert not connected, "a test has left connections to servers"

"""A lab with shares of several kinds; with DFSFS_LONG=1 each test runs 20 times, and 20 times on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.support.lab.samba import Lab, free_net
from tests.support.lab.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS = [(load, turn) for load in ("idle", "busy") for turn in range(20)] if LONG else [("idle", 0)]
SPINNERS = 2 * (os.cpu_count() or 1)
"""Programs that keep a busy machine busy."""


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    with Lab(free_net(), topology=VARIANTS) as running:
        yield running


@pytest.fixture(autouse=True, params=TURNS, ids=lambda turn: f"{turn[0]}-{turn[1]}")
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing beside the test, or as many programs as make it wait for its turn."""
    load, _ = request.param
    count = SPINNERS if load == "busy" else 0
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()

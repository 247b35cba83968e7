"""Each case on a mount and on a local file system. What differs is in `DIFFERENCES`, with its reason."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.kernel.posix.cases import CASES
from tests.kernel.posix.differences import DIFFERENCES
from tests.kernel.posix.harness import outcome
from tests.kernel.posix.table import TABLE, render

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.mount]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[1]}")
def test_posix(folders: tuple[Path, Path], case: tuple[str, str]) -> None:
    mounted, local = (outcome(partial(CASES[case], top)) for top in folders)
    if case in DIFFERENCES:
        assert mounted != local, "it does not differ any more"
        assert mounted == DIFFERENCES[case].mounted
    else:
        assert mounted == local


def test_the_table_in_the_documentation_is_that_of_the_cases() -> None:
    assert TABLE.read_text() == render(), "run: .venv/bin/python -m tests.kernel.posix.table"


def test_every_difference_is_of_a_case() -> None:
    assert set(DIFFERENCES) <= set(CASES)

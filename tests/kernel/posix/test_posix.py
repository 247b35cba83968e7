"""Each case on a mount and on a local file system. What differs is in `DIFFERENCES`, with its reason."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.kernel.posix.cases import CASES
from tests.kernel.posix.differences import DIFFERENCES, SINCE_4_22
from tests.kernel.posix.harness import outcome
from tests.kernel.posix.table import TABLE, render
from tests.support.lab.samba import is_before_4_22

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.mount]


LACKS = {"fallocate", "lseek", "copy_file_range", "lock", "statx"}
"""Calls that do not come through with loop=pyfuse3."""
ASKED = [("native", case) for case in CASES] + [("pyfuse3", case) for case in CASES if case[0] not in LACKS]


@pytest.mark.parametrize(
    ("loop", "case"), ASKED, ids=lambda value: value if isinstance(value, str) else ": ".join(value)
)
def test_posix(folders: tuple[Path, Path], loop: str, case: tuple[str, str]) -> None:
    mounted, local = (outcome(partial(CASES[case], top)) for top in folders)
    differences = DIFFERENCES if is_before_4_22() else SINCE_4_22
    if case in differences:
        assert mounted != local, "it does not differ any more"
        assert mounted == differences[case].mounted
    else:
        assert mounted == local


def test_the_table_in_the_documentation_is_that_of_the_cases() -> None:
    assert TABLE.read_text() == render(), "run: .venv/bin/python -m tests.kernel.posix.table"


def test_every_difference_is_of_a_case() -> None:
    assert set(DIFFERENCES) <= set(CASES)

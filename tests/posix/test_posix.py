"""Each case on a mount and on a local file system. What differs is in `DIFFERENCES`, with its reason."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.posix.cases import CASES
from tests.posix.differences import DIFFERENCES
from tests.posix.harness import outcome
from tests.posix.table import TABLE, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.mount]


@pytest.fixture
def folders(work: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A new folder of the mount and one of this machine, of the same name."""
    tmp_path.chmod(0o755)
    tops = work / "case-x", tmp_path / "case-x"
    for top in tops:
        top.mkdir()
    yield tops
    shutil.rmtree(tops[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[1]}")
def test_posix(folders: tuple[Path, Path], case: tuple[str, str]) -> None:
    mounted, local = (outcome(partial(CASES[case], top)) for top in folders)
    if case in DIFFERENCES:
        assert mounted != local, "it does not differ any more"
        assert mounted == DIFFERENCES[case].mounted
    else:
        assert mounted == local


def test_the_table_in_the_documentation_is_that_of_the_cases() -> None:
    assert TABLE.read_text() == render(), "run: .venv/bin/python -m tests.posix.table"


def test_every_difference_is_of_a_case() -> None:
    assert set(DIFFERENCES) <= set(CASES)

"""Fixtures of the tests through real mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab


@pytest.fixture(scope="module")
def mount(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab's namespace, mounted for the tests of one module."""
    with mounted(lab, tmp_path_factory.mktemp("mounts") / "dfs") as path:
        yield path


@pytest.fixture
def work(mount: Path) -> Iterator[Path]:
    """An empty folder in link-single, removed with all that a test has put there."""
    with scratch(mount / "link-single") as folder:
        yield folder


@pytest.fixture
def other(mount: Path) -> Iterator[Path]:
    """The same on another server, behind link-secret, encrypted."""
    with scratch(mount / "link-secret") as folder:
        yield folder

"""A mount and a local folder side by side, where also somebody without rights may go."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab


@pytest.fixture(scope="module", params=["native"])
def places(lab: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    """The folder behind a link of a mount with an option loop=, and a local one."""
    with tempfile.TemporaryDirectory(prefix="dfsfs-test-") as name:
        base = Path(name)
        base.chmod(0o755)
        (base / "local").mkdir()
        with mounted(lab, base / "dfs", f"loop={request.param}") as top:
            yield top / "link-single", base / "local"


@pytest.fixture
def folders(places: tuple[Path, Path]) -> Iterator[tuple[Path, Path]]:
    """A new folder in both, of the same name."""
    tops = places[0] / "case-x", places[1] / "case-x"
    for top in tops:
        top.mkdir()
    yield tops
    for top in tops:
        shutil.rmtree(top)

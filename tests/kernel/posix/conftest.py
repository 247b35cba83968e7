"""A mount and a local folder side by side, where also somebody without rights may go."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab


LOOPS = ("native", "pyfuse3")


@pytest.fixture(scope="module")
def places(lab: Lab) -> Iterator[dict[str, tuple[Path, Path]]]:
    """For each kind of loop=, the folder behind a link of a mount, and a local one."""
    with tempfile.TemporaryDirectory(prefix="dfsfs-test-") as name, contextlib.ExitStack() as stack:
        base = Path(name)
        base.chmod(0o755)
        found = {}
        for loop in LOOPS:
            (base / f"local-{loop}").mkdir()
            top = stack.enter_context(mounted(lab, base / loop, f"loop={loop}"))
            found[loop] = (top / "link-single", base / f"local-{loop}")
        yield found


@pytest.fixture
def folders(places: dict[str, tuple[Path, Path]], request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    """A new folder in both, of the same name, for the `loop` of the test."""
    loop = request.node.callspec.params["loop"]
    tops = places[loop][0] / f"case-{loop}", places[loop][1] / f"case-{loop}"
    for top in tops:
        top.mkdir()
    yield tops
    for top in tops:
        shutil.rmtree(top)

"""tests/conftest.py: async tests run, on a virtual clock if asked to, and a skip is a failure where it must be."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).parent.parent.parent


def run_pytest(folder: Path, *sources: str, words: Sequence[str] = (), **environment: str) -> str:
    """What pytest prints about test files with these sources, in a session with our conftest.py as a plug-in."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    lab\n    mount\n")
    for number, source in enumerate(sources):
        (folder / f"test_it{number}.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-q", "-ra", *words]
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "DFSFS_REQUIRE_LAB"}}
    done = subprocess.run(
        [*command, f"--rootdir={folder}", str(folder)],
        cwd=REPOSITORY,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


async def test_async_tests_run_in_trio(tmp_path: Path) -> None:
    await trio.lowlevel.checkpoint()
    assert await trio.Path(tmp_path).is_dir()


async def test_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    begin = time.monotonic()
    await trio.sleep(3600)
    assert time.monotonic() - begin < 60
    assert autojump_clock.current_time() >= 3600


def test_a_failing_async_test_fails(tmp_path: Path) -> None:
    assert "1 failed" in run_pytest(tmp_path, "async def test_it():\n    assert False\n")


@pytest.mark.parametrize(
    ("environment", "summary"),
    [({}, "2 skipped"), ({"DFSFS_REQUIRE_LAB": "0"}, "2 skipped"), ({"DFSFS_REQUIRE_LAB": "1"}, "2 failed")],
)
def test_skips(tmp_path: Path, environment: dict[str, str], summary: str) -> None:
    tests = (f"@pytest.mark.{mark}\ndef test_{mark}():\n    pytest.skip('no server')\n" for mark in ("lab", "mount"))
    output = run_pytest(tmp_path, "import pytest\n" + "".join(tests), **environment)
    if os.geteuid() != 0:
        summary = summary.replace("failed", "error")  # it is skipped before it begins
    assert summary in output
    assert "no server" in output or os.geteuid() != 0


def test_other_tests_may_be_skipped_anywhere(tmp_path: Path) -> None:
    source = "import pytest\ndef test_it():\n    pytest.skip('not today')\n"
    assert "1 skipped" in run_pytest(tmp_path, source, DFSFS_REQUIRE_LAB="1", CI="true")


def test_expected_failures_of_the_lab_stay_so(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.lab\n@pytest.mark.xfail\ndef test_it():\n    assert False\n"
    output = run_pytest(tmp_path, source, DFSFS_REQUIRE_LAB="1")
    assert "1 xfailed" in output or os.geteuid() != 0


SAYS_WHERE = """
import pathlib, pytest
@pytest.mark.parametrize("number", range(4))
def test_it(number, worker_id):
    with (pathlib.Path(__file__).parent / "ran").open("a") as ran:
        ran.write(f"{__name__} {worker_id}\\n")
"""


def test_tests_of_one_file_run_in_one_process(tmp_path: Path) -> None:
    """Else each process starts the servers, mounts and domains of each file."""
    output = run_pytest(tmp_path, *[SAYS_WHERE] * 3, words=("-n", "2", "--dist", "loadgroup"))
    assert "12 passed" in output
    ran = (tmp_path / "ran").read_text().splitlines()
    assert len(ran) == 12
    assert len(set(ran)) == 3

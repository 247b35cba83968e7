"""The programs of this package for as long as a test run allows. docs/semantics.md says how long they were run once."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LONG
from tests.kernel.mounts import PATIENCE, mounted
from tests.stress import integrity, twins

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

PROGRAMS = 170
STEPS = 150
REMOUNT_EVERY = 10
SECONDS = 60.0 if LONG else 6.0


def test_any_program_ends_as_on_a_local_folder(lab: Lab, tmp_path: Path) -> None:
    """At least 20,000 operations; every tenth program is looked at again through a new mount."""
    top, local = tmp_path / "dfs", tmp_path / "local"
    local.mkdir()
    current: list[AbstractContextManager[Path]] = []
    count = 0

    def mount() -> None:
        current.append(mounted(lab, top))
        current[-1].__enter__()

    def remount() -> None:
        nonlocal count
        count += 1
        if count % REMOUNT_EVERY == 0:
            current.pop().__exit__(None, None, None)
            mount()

    mount()
    try:
        done = twins.exercise(top / "link-single", local, programs=PROGRAMS, steps=STEPS, remounts=[remount])
    finally:
        current.pop().__exit__(None, None, None)
    assert done >= 20_000


def test_every_byte_of_a_file_is_what_was_written(work: Path, tmp_path: Path) -> None:
    assert (
        integrity.exercise(work / "file", tmp_path / "twin", seconds=SECONDS, seed=random.randrange(2**32))
        > 20 * SECONDS
    )


def test_two_mounts_that_take_turns_see_what_the_other_wrote(lab: Lab, work: Path, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "second") as second:
        places = (work / "shared", second / "link-single" / work.name / "shared")
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.stress.integrity", str(place), str(tmp_path / "twin")),
                    *("--lock", str(tmp_path / "lock"), "--seconds", str(SECONDS), "--seed", str(seed)),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed, place in enumerate(places)
        ]
        try:
            for process in processes:
                output, _ = process.communicate(timeout=SECONDS + PATIENCE)
                assert process.returncode == 0, output
        finally:
            for process in processes:
                process.kill()
                process.wait()

"""The build backend: setuptools, after the manual pages and completions have been made (PEP 517).

They go into wheels below share/, where pipx and Debian look for them. See tool.setuptools.data-files in pyproject.toml.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  whatever else a frontend asks for

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
SHARE = ROOT / "build" / "share"
COMPLETIONS = {"bash": "dfsfs", "zsh": "_dfsfs", "fish": "dfsfs.fish"}


def generate() -> None:
    """Makes the files, with nothing but the standard library and this tree."""
    run = [sys.executable, "-m"]
    subprocess.run([*run, "dfsfs.cli.manual", str(SHARE)], cwd=ROOT, check=True)
    for shell, name in COMPLETIONS.items():
        words = [*run, "dfsfs.cli.main", "completion", shell]
        done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        (SHARE / name).write_bytes(done.stdout)


def _after_generating(build: Callable[..., str]) -> Callable[..., str]:
    def hook(*arguments: Any, **options: Any) -> str:
        generate()
        return build(*arguments, **options)

    return hook


build_wheel = _after_generating(build_meta.build_wheel)
build_editable = _after_generating(build_meta.build_editable)
build_sdist = _after_generating(build_meta.build_sdist)

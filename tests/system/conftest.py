"""Fixtures of the tests of everyday use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dfsfs.cli import manual
from tests.kernel.mounts import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lab.samba import Lab

PROGRAM = str(Path(sys.executable).parent / "dfsfs")


@dataclass(frozen=True, slots=True)
class Dfsfs:
    """The command, for the lab's namespace."""

    lab: Lab

    def __call__(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs it to its end; the password is in the environment."""
        _, password = self.lab.credentials
        result = subprocess.run(
            [PROGRAM, *map(str, words)],
            env={**os.environ, "PASSWD": password, **environment},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert password not in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        return result

    def out(self, *words: str | Path) -> str:
        """What it writes; it must not fail."""
        result = self(*words)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def json(self, *words: str | Path) -> Any:
        """The same with --json, parsed."""
        return json.loads(self.out(*words, "--json"))

    def fails(self, code: int, *words: str | Path) -> str:
        """The one line that it says when it fails."""
        result = self(*words)
        assert result.returncode == code, result.stdout + result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith("dfsfs: ")
        return line

    @property
    def login(self) -> tuple[str, str]:
        """Options to log in with."""
        return "-o", f"username={self.lab.credentials[0]}"


@pytest.fixture
def dfsfs(lab: Lab) -> Dfsfs:
    return Dfsfs(lab)


@pytest.fixture(scope="module")
def mount(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab's namespace, mounted for the tests of one module."""
    with mounted(lab, tmp_path_factory.mktemp("mounts") / "dfs") as path:
        yield path


@pytest.fixture(scope="session")
def manual_path(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where man(1) finds our pages, as it wants to be told."""
    folder = tmp_path_factory.mktemp("man")
    manual.write(folder / "pages")
    for name in manual.PAGES:
        section = folder / f"man{name[-1]}"
        section.mkdir()
        (folder / "pages" / name).rename(section / name)
    return {"MANPATH": f"{folder}:"}

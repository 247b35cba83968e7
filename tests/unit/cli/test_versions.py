"""`dfsfs --version`."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.cli import versions

if TYPE_CHECKING:
    import pytest

PYPROJECT = Path(__file__).parent.parent.parent.parent / "pyproject.toml"


def test_what_dfsfs_stands_on() -> None:
    found = versions.find_versions()
    for name in ("pyfuse3", "trio", "pyspnego", "smbprotocol", "rich"):
        assert found[name] == metadata.version(name)
    assert set(found) == {"dfsfs", "Python", *versions.REQUIRED, "libfuse", "kernel"}


def test_what_is_missing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    found = versions.find_versions()
    assert found["trio"] == found["smbprotocol"] == "not installed"


def test_it_names_all_that_dfsfs_requires() -> None:
    required = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    names = {re.split("[^a-z0-9-]", requirement)[0] for requirement in required}
    assert names == set(versions.REQUIRED) - {"gssapi"}

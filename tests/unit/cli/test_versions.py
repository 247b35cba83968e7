"""`dfsfs --version`."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING

from dfsfs.cli import versions

if TYPE_CHECKING:
    import pytest


def test_what_dfsfs_stands_on() -> None:
    found = versions.find_versions()
    for name in ("pyfuse3", "trio", "pyspnego", "smbprotocol", "rich"):
        assert found[name] == metadata.version(name)
    assert set(found) == {"dfsfs", "Python", *versions.REQUIRED, *versions.OPTIONAL, "libfuse", "kernel"}


def test_what_is_missing_is_listed_if_dfsfs_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    found = versions.find_versions()
    assert found["trio"] == "not installed" and "smbprotocol" not in found


def test_it_names_all_that_dfsfs_requires() -> None:
    required = [requirement for requirement in metadata.requires("dfsfs") or () if "extra ==" not in requirement]
    names = {re.split("[^a-z0-9-]", requirement)[0] for requirement in required}
    assert set(versions.REQUIRED) - {"gssapi"} <= names <= {*versions.REQUIRED, *versions.OPTIONAL}

"""scripts/setup: what it refuses, and what it takes from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
SOMEBODY = 20001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root links into the system")


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A checkout whose scripts/setup ends before it changes anything: where it would take its lock."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder) / "dfsfs"
        (place / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup", place / "scripts" / "setup")
        (place / "dfsfs").mkdir()
        (place / "dfsfs" / "code.py").touch()
        for path in (Path(folder), place, *place.rglob("*")):
            path.chmod(0o755)
        tools = Path(folder) / "tools"
        tools.mkdir()
        (tools / "flock").write_text("#!/bin/sh\necho stopped >&2\nexit 1\n")
        (tools / "flock").chmod(0o755)
        yield place


def system(checkout: Path) -> str:
    """What `scripts/setup --system` says, before it can have installed anything."""
    done = subprocess.run(
        [checkout / "scripts" / "setup", "--system"],
        env={**os.environ, "PATH": f"{checkout.parent}/tools:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    return done.stderr


@needs_root
def test_a_checkout_of_root_may_become_part_of_the_system(checkout: Path) -> None:
    assert "stopped" in system(checkout)


@needs_root
@pytest.mark.parametrize("name", [".", "..", "dfsfs", "dfsfs/code.py"])
@pytest.mark.parametrize("change", [lambda path: os.chown(path, SOMEBODY, 0), lambda path: path.chmod(0o777)])
def test_one_that_others_may_change_may_not(checkout: Path, name: str, change: object) -> None:
    assert callable(change)
    change((checkout / name).resolve())
    said = system(checkout)
    assert "would let others than root choose" in said and "clone as root" in said and "stopped" not in said


@needs_root
def test_also_by_way_of_a_link(checkout: Path) -> None:
    os.chown(checkout, SOMEBODY, 0)
    link = checkout.parent / "tools" / "link"
    link.symlink_to(checkout)
    assert "would let others than root choose" in system(link)


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_all_releases_have_hashes(name: str) -> None:
    listed = re.sub(r"\\\n\s*", "", (ROOT / "requirements" / f"{name}.txt").read_text())
    lines = [line for line in listed.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) >= 4
    for line in lines:
        assert re.match(r"[\w.-]+==[\w.]+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_what_is_required_is_locked() -> None:
    check = """
import re, sys, tomllib
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
root = sys.argv[1]
project = tomllib.load(open(f"{root}/pyproject.toml", "rb"))["project"]
def locked(name):
    return dict(re.findall(r"^([\\w.-]+)==(\\S+)", open(f"{root}/requirements/{name}.txt").read(), re.M))
run = project["dependencies"]
for name, wanted in (("run", run), ("dev", run + project["optional-dependencies"]["dev"])):
    for text in wanted:
        one = Requirement(text)
        assert one.specifier.contains(locked(name)[canonicalize_name(one.name)]), text
shared = locked("run").items() - locked("dev").items()
assert not shared, shared
assert tuple(map(int, locked("run")["h11"].split("."))) >= (0, 16), "CVE-2025-43859"
"""
    subprocess.run([sys.executable, "-c", check, str(ROOT)], check=True, timeout=60)


def test_the_launchers_of_the_environment_take_no_modules_from_a_user(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('foreign code', flush=True)\n")
    for name in ("dfsfs", "mount.dfsfs"):
        done = subprocess.run(
            [Path(sys.executable).parent / name, "--version"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert "dfsfs" in done.stdout and "foreign code" not in done.stdout

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


def finished(checkout: Path) -> Path:
    """Makes it one that setup has been through, as far as it can see; a program that stands for dpkg and others."""
    tools = checkout.parent / "tools"
    (tools / "flock").write_text("#!/bin/sh\n")
    (tools / "dpkg-query").write_text("#!/bin/sh\nprintf installed\n")
    (tools / "systemctl").write_text("#!/bin/sh\n")
    for name in ("requirements", "systemd"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    venv = checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text("#!/bin/sh\n")
    (venv / "bin" / "pip").write_text(f"#!{venv}/bin/python3\n")
    samba = venv / "samba-backports" / "usr" / "sbin" / "smbd"
    samba.parent.mkdir(parents=True)
    samba.touch()
    for path in (*tools.iterdir(), venv / "bin" / "python", samba):
        path.chmod(0o755)
    digest = "{ pwd; /usr/bin/python3 --version; cat pyproject.toml scripts/setup requirements/*.txt; } | sha256sum"
    done = subprocess.run(["bash", "-c", digest], cwd=checkout, capture_output=True, check=True)
    (venv / ".dfsfs-setup").write_bytes(done.stdout)
    return checkout


def run_setup(checkout: Path, *prefix: str, script: str = '"$0"') -> subprocess.CompletedProcess[str]:
    """Runs a shell script with setup's path as $0."""
    return subprocess.run(
        [*prefix, "sh", "-c", script, str(checkout / "scripts" / "setup")],
        env={**os.environ, "PATH": f"{checkout.parent}/tools:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@needs_root
def test_into_the_system_with_the_unit(checkout: Path) -> None:
    """In a mount namespace with a /usr of its own: what is installed shows there alone."""
    work = checkout.parent / "work"
    script = f"""
        set -e
        mount --make-rprivate /
        mkdir {work}
        mount -t tmpfs tmpfs {work}
        for name in sbin local; do
            mkdir {work}/$name {work}/$name.work
            mount -t overlay overlay -o lowerdir=/usr/$name,upperdir={work}/$name,workdir={work}/$name.work /usr/$name
        done
        "$0" --system
        "$0" --system | grep there
        readlink /sbin/mount.dfsfs /usr/local/bin/dfsfs
        cat /usr/local/lib/systemd/system/dfsfs@.service
    """
    done = run_setup(finished(checkout), "unshare", "--mount", script=script)
    assert done.returncode == 0, done.stdout + done.stderr
    unit = "/usr/local/lib/systemd/system/dfsfs@.service"
    assert f"setup: made {unit}\n" in done.stdout and f"setup: {unit} is there\n" in done.stdout
    assert f"\n{checkout}/.venv/bin/mount.dfsfs\n{checkout}/.venv/bin/dfsfs\n# Installed by" in done.stdout
    expected = (ROOT / "systemd" / "dfsfs@.service").read_text().replace("/usr/bin/dfsfs", "/usr/local/bin/dfsfs")
    assert done.stdout.endswith(expected)


@needs_root
def test_a_unit_of_somebody_elses_stays(checkout: Path) -> None:
    script = """
        set -e
        mount --make-rprivate /
        mount -t tmpfs tmpfs /usr/local
        mkdir -p /usr/local/bin /usr/local/lib/systemd/system
        echo mine > /usr/local/lib/systemd/system/dfsfs@.service
        mount -t tmpfs tmpfs /usr/sbin
        "$0" --system
    """
    done = run_setup(finished(checkout), "unshare", "--mount", script=script)
    assert done.returncode != 0
    assert "dfsfs@.service is a file that this script did not make" in done.stderr


@needs_root
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda venv: (venv / ".dfsfs-setup").unlink(), "its packages are not those of this checkout"),
        (lambda venv: (venv / "bin" / "pip").write_text("#!/elsewhere\n"), "the .venv there is not usable"),
        (shutil.rmtree, "there is no .venv yet"),
    ],
)
def test_who_may_not_write_there_is_told_so(checkout: Path, spoil: object, said: str) -> None:
    """Else pip would say it in a traceback."""
    assert callable(spoil)
    spoil(finished(checkout) / ".venv")
    done = run_setup(checkout, "setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: must be run by root, to whom ") and said in line


@needs_root
def test_what_is_ready_is_compiled(checkout: Path) -> None:
    """Who may not write there would compile it at each start. Also when only dfsfs has changed since the last time."""
    python = finished(checkout) / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\n[ "$2" != compileall ] || exec /usr/bin/python3 "$@"\n')
    (checkout / "dfsfs" / "new").mkdir(parents=True)
    (checkout / "dfsfs" / "new" / "module.py").touch()
    done = run_setup(checkout)
    assert done.returncode == 0, done.stderr
    assert list((checkout / "dfsfs" / "new" / "__pycache__").glob("module.*.pyc"))


@needs_root
def test_what_is_ready_needs_no_rights(checkout: Path) -> None:
    done = run_setup(finished(checkout), "setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups")
    assert done.returncode == 0, done.stderr


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

"""What is installed: the wheel, the Debian package, the manual pages."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dfsfs
from dfsfs.cli import manual
from dfsfs.cli.registry import all_commands
from dfsfs.config.table import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent


def run(*words: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows of this tree: what is built must need nothing else."""
    folder = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test_the_wheel_and_the_sdist(source: Path, tmp_path: Path) -> None:
    build = "import sys; sys.path.insert(0, 'packaging'); import backend; print(backend.build_sdist(sys.argv[1]))"
    sdist = run(sys.executable, "-c", build, tmp_path, cwd=source).stdout.split()[-1]
    wheel = f"dfsfs-{dfsfs.__version__}-py3-none-any.whl"
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, tmp_path / sdist)
    names = zipfile.ZipFile(tmp_path / wheel).namelist()
    data = f"dfsfs-{dfsfs.__version__}.data/data/share/"
    for path in (
        "man/man8/mount.dfsfs.8",
        "man/man1/dfsfs.1",
        "bash-completion/completions/dfsfs",
        "zsh/site-functions/_dfsfs",
        "fish/vendor_completions.d/dfsfs.fish",
        "dfsfs/systemd/dfsfs@.service",
    ):
        assert data + path in names
    metadata = email.message_from_bytes(
        zipfile.ZipFile(tmp_path / wheel).read(f"dfsfs-{dfsfs.__version__}.dist-info/METADATA")
    )
    assert (metadata["License-Expression"], metadata["License-File"]) == ("LGPL-2.1-or-later", "LICENSE")
    assert f"dfsfs-{dfsfs.__version__}.dist-info/licenses/LICENSE" in names
    assert "dfsfs/py.typed" in names and not [name for name in names if name.startswith("tests")]
    with tarfile.open(tmp_path / sdist) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "packaging/backend.py", "systemd/dfsfs@.service", "README.md"} <= inside
    run(sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", tmp_path / wheel)
    assert (tmp_path / "venv" / "bin" / "mount.dfsfs").exists()
    (package,) = (tmp_path / "venv").glob("lib/*/site-packages/dfsfs")
    assert uncompiled(package) == []
    assert (tmp_path / "venv" / "share" / "man" / "man8" / "mount.dfsfs.8").exists(), "where pipx looks for it"


def uncompiled(folder: Path) -> list[Path]:
    """The modules below a folder that Python would have to compile at each start."""
    return [file for file in folder.rglob("*.py") if not list(file.parent.glob(f"__pycache__/{file.stem}.*.pyc"))]


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder that a user may have named in PYTHONPATH, for sudo -E."""
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in ("sitecustomize", "usercustomize", "trio", "dfsfs", "getopt"):
        (folder / f"{name}.py").write_text("print('foreign code', flush=True)\n")
    return folder


def test_the_debian_package(source: Path, strange: Path, tmp_path: Path) -> None:
    (source / ".venv").symlink_to(ROOT / ".venv")
    run(source / "scripts" / "deb", cwd=source)
    (package,) = (source / "dist").glob("*.deb")
    fields = run("dpkg-deb", "--field", package).stdout
    assert f"Version: {dfsfs.__version__}\n" in fields
    needed = next(line for line in fields.splitlines() if line.startswith("Depends:"))
    # The library of FUSE 3 is called libfuse3-3 in Debian 12, libfuse3-4 in Debian 13.
    assert re.search(r"\blibfuse3-\d+\b", needed)
    for name in ("fuse3", "libgssapi-krb5-2", "python3 (>= 3."):
        assert name in needed
    run("dpkg-deb", "-x", package, tmp_path)
    run("dpkg-deb", "--control", package, tmp_path / "control")
    assert uncompiled(tmp_path / "usr/lib/dfsfs/dfsfs"), "what is in the package would be of the builder's Python"
    for path in (
        "usr/bin/dfsfs",
        "usr/sbin/mount.dfsfs",
        "usr/sbin/mount.fuse.dfsfs",
        "lib/systemd/system/dfsfs@.service",
        "usr/share/doc/dfsfs/README.md",
        "usr/share/doc/dfsfs/docs/mounting.md",
        "usr/share/doc/dfsfs/docs/design/failover.md",
    ):
        assert (tmp_path / path).is_file()
    assert (tmp_path / "usr/share/man/man8/mount.dfsfs.8.gz").is_file()
    check_copyright(tmp_path)
    # As installed: /usr/lib/dfsfs in a mount namespace of its own.
    script = f"""
        set -e
        mount --make-rprivate /
        mount -t tmpfs tmpfs {tmp_path}/lib
        mkdir {tmp_path}/lib/upper {tmp_path}/lib/work
        cp -r {tmp_path}/usr/lib/dfsfs {tmp_path}/lib/upper/
        mount -t overlay overlay -o lowerdir=/usr/lib,upperdir={tmp_path}/lib/upper,workdir={tmp_path}/lib/work /usr/lib
        cd {strange}
        {tmp_path}/usr/bin/dfsfs --version
        {tmp_path}/usr/sbin/mount.dfsfs //127.0.0.1/x {tmp_path} -o username=a,password=b,port=9 2>&1 || echo code $?
        find /usr/lib/dfsfs -name __pycache__ -prune -exec rm -r {{}} +
        {tmp_path}/control/postinst configure
        cp -r /usr/lib/dfsfs/dfsfs {tmp_path}/compiled
        {tmp_path}/control/prerm remove
        find /usr/lib/dfsfs -name '*.pyc'
    """
    done = run(
        "unshare", "--mount", "sh", "-c", script, PYTHONPATH=str(strange), PYTHONSTARTUP=str(strange / "trio.py")
    )
    assert f"dfsfs {dfsfs.__version__}" in done.stdout
    assert "foreign code" not in done.stdout + done.stderr
    assert "connection refused" in done.stdout and "code 32" in done.stdout
    assert uncompiled(tmp_path / "compiled") == []
    assert ".pyc" not in done.stdout, "nothing is left when it is removed"


def check_copyright(tree: Path) -> None:
    """The file has a paragraph for each library that comes with dfsfs, and says where its licence's text is."""
    text = (tree / "usr/share/doc/dfsfs/copyright").read_text()
    assert text.startswith("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n")
    assert "Files: *\nCopyright: the maintainers of dfsfs\nLicense: LGPL-2.1-or-later\n" in text
    libraries = sorted((tree / "usr/lib/dfsfs").glob("*.dist-info"))
    assert len(libraries) > 10
    for library in libraries:
        if not library.name.startswith("dfsfs-"):
            assert f"the whole text is in /usr/lib/dfsfs/{library.name}." in text
    assert re.search(
        r"^ usr/lib/dfsfs/pyfuse3\*(\n .*)*\nCopyright: .*\nLicense: LGPL-2.1-or-later\n", text, re.MULTILINE
    )


def test_the_manual_pages_have_no_warnings(manual_path: Mapping[str, str]) -> None:
    pages = Path(manual_path["MANPATH"].split(":")[0])
    for name in manual.PAGES:
        path = next(pages.rglob(name))
        done = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path, LC_ALL="C.UTF-8", MANROFFSEQ="")
        assert done.stderr == ""


def test_the_manual_pages_say_it_all() -> None:
    page = manual.mount_page().replace("\\-", "-").replace("\\&", "")
    for option in OPTIONS:
        for name in option.names:
            assert name in page, name
    page = manual.dfsfs_page().replace("\\-", "-")
    for command in all_commands():
        assert f".SS dfsfs {command.name} " in page


def test_the_version_is_in_one_place() -> None:
    listed = run(
        "git", "grep", "-lF", f'"{dfsfs.__version__}"', "--", "dfsfs", "pyproject.toml", "scripts", "packaging"
    )
    assert listed.stdout.split() == ["dfsfs/__init__.py"]

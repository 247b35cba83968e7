"""scripts/in-release: a command in another release of Debian. Its root folder is this machine's own here, shown by an
overlay, as debootstrap would take minutes; `scripts/test --release trixie` is for a person to run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
IN_RELEASE = ROOT / "scripts" / "in-release"
SOMEBODY = 20001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a root folder takes root")

HOST = """
    set -e
    mount --make-rprivate /
    mount -t tmpfs tmpfs $FOLDER
    cd $FOLDER
    mkdir -p up work releases/host
    mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work releases/host
    mkdir -p releases/host/srv/dfsfs/.venv
    echo kept > releases/host/srv/dfsfs/.venv/probe
    touch releases/host/srv/dfsfs/stale
    exec "$@"
"""
"""Runs a command where $FOLDER/releases has this machine as a release."""


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


@needs_root
def test_a_command_in_a_root_folder_leaves_nothing_outside(tmp_path: Path) -> None:
    mark = f"/etc/inside-{os.getpid()}"
    command = f"""
        touch {mark} /tmp/inside
        pwd; readlink /proc/1/exe; ls /outside; ls /run | grep -v mount; ls /tmp
        ls scripts/in-release .git/index; cat .venv/probe
        ls stale || echo no stale file
        unshare --user --map-root-user true && echo user namespaces
        exit 7
    """
    words = ("unshare", "--mount", "sh", "-c", HOST, "sh", IN_RELEASE, "host", "sh", "-c", command)
    done = run(*words, FOLDER=str(tmp_path), DFSFS_RELEASES=f"{tmp_path}/releases")
    assert done.returncode == 7, done.stdout + done.stderr
    where, first, *rest = done.stdout.splitlines()
    assert where == "/srv/dfsfs" and first.endswith("sh")
    assert rest == ["lock", "inside", ".git/index", "scripts/in-release", "kept", "no stale file", "user namespaces"]
    assert not os.path.exists(mark)


@needs_root
def test_whoever_ends_it_ends_what_it_runs(tmp_path: Path) -> None:
    command = "echo ready; sleep 1000"
    words = ("unshare", "--mount", "sh", "-c", HOST, "sh", IN_RELEASE, "host", "sh", "-c", command)
    environment = {**os.environ, "FOLDER": str(tmp_path), "DFSFS_RELEASES": f"{tmp_path}/releases"}
    with subprocess.Popen(list(map(str, words)), env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        running.terminate()
        assert running.wait(timeout=60) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
        assert running.stdout.read() == "", "nobody has it open any more"


def test_what_is_not_the_name_of_a_release() -> None:
    for words, said in (
        (("../etc", "true"), "not the name of a release"),
        ((), "a release and a command are needed"),
        (("trixie",), "a command is needed"),
    ):
        done = run(IN_RELEASE, *words)
        assert done.returncode == 1 and said in done.stderr
    done = run(ROOT / "scripts" / "test", "--release")
    assert done.returncode == 1 and "needs the name of a release" in done.stderr


@needs_root
def test_it_says_that_it_needs_root() -> None:
    # The checkout, and the folders that pytest makes, may be where nobody else can enter.
    with tempfile.TemporaryDirectory(prefix="dfsfs-test-") as name:
        top = Path(name)
        (top / "scripts").mkdir()
        top.chmod(0o755)
        program = top / "scripts" / "in-release"
        program.write_text(IN_RELEASE.read_text())
        words = ("setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups", "bash", program)
        done = run(*words, "trixie", "true")
    assert done.returncode == 1 and "must run as root" in done.stderr

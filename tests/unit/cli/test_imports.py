"""What each command imports: no more than it needs, so that it is quick and works where a library is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli import commands, registry
from tests.unit.cli.answering import Mounts, play_results

if TYPE_CHECKING:
    from collections.abc import Iterator

FUSE = ("pyfuse3", "dfsfs.fuse", "dfsfs.mount")
"""For what mounts."""
NETWORK = ("trio", "cryptography", "spnego", "krb5", "dns")
"""For what logs in to servers."""
OTHERS = ("rich", "h11", "prometheus_client")
"""For a terminal, and for a mount with metrics=."""
ANSWERS = ("dfsfs.errors", "dfsfs.ntstatus", "smbprotocol")
"""For what a server, or the keyring of login and logout, has said."""
SCRIPT = """
import json, os, sys
from dfsfs.control import places
from dfsfs.control.places import MountEntry

told, folder, *words = sys.argv[1:]
places.mounts = lambda: [MountEntry("0:0", "/mnt/0", places.TYPE, "//a/b", os.geteuid())]
places.folders_for = lambda owner: [folder]
places.ROOTS_FOLDER = folder
from dfsfs.cli.main import main

code = main(words)
with open(told, "w") as file:
    json.dump([code, sorted(sys.modules)], file)
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounts]:
    made = Mounts(tmp_path / "sockets", monkeypatch)
    made.add(play_results)
    yield made
    made.close()


def run(words: str, mounts: Mounts, tmp_path: Path) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and the modules that it has imported."""
    told = tmp_path / "told"
    command = [sys.executable, "-c", SCRIPT, str(told), str(mounts.folder), *words.split()]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    assert not done.returncode, done.stderr
    code, modules = json.loads(told.read_text())
    return code, set(modules)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--version", 0),
        ("--help", 0),
        ("no-such-command", 1),
        ("status", 0),
        ("status /mnt/0 --json", 0),
        ("explain /mnt/0/x", 32),
        ("target list /mnt/0", 0),
        ("target list //a/b/c", 0),
        ("drain x --dry-run", 0),
        ("cache show", 0),
        ("domain show --json", 0),
        ("login //contoso.test -u alice", 1),
        ("logout // ", 1),
        ("completion bash", 0),
        ("bugreport -o -", 0),
        *((f"{name} --help", 0) for name in registry.NAMES),
        ("ls //a/b -o no-such-option", 1),
    ],
)
def test_what_asks_no_server_needs_no_library(words: str, code: int, mounts: Mounts, tmp_path: Path) -> None:
    found, modules = run(words, mounts, tmp_path)
    assert found == code
    assert not modules & {*FUSE, *NETWORK, *OTHERS}
    assert words.startswith(("login //", "logout //")) or not modules & {*ANSWERS}


@pytest.mark.parametrize(
    "words",
    ["status", "target list /mnt/0", "drain x --dry-run", "cache show", "domain show --json"],
)
def test_what_asks_a_mount_reads_no_options(words: str, mounts: Mounts, tmp_path: Path) -> None:
    _, modules = run(words, mounts, tmp_path)
    assert {name for name in modules if name.startswith("dfsfs.config.")} == {"dfsfs.config.errors"}


@pytest.mark.parametrize("words", ["ls", "cat", "tree", "check", "explain", "cp -q"])
def test_what_needs_no_mount_needs_no_fuse(words: str, mounts: Mounts, tmp_path: Path) -> None:
    last = " copy" if words.startswith("cp") else ""
    code, modules = run(f"{words} //127.0.0.1/share/x{last} -o guest,port=1,failover_timeout=0", mounts, tmp_path)
    assert code == 32 and "trio" in modules
    assert not modules & {*FUSE, *OTHERS}


def test_the_version_imports_next_to_nothing(mounts: Mounts, tmp_path: Path) -> None:
    _, modules = run("--version", mounts, tmp_path)
    ours = {name for name in modules if name.startswith("dfsfs.c")}
    by_script = {"dfsfs.control", "dfsfs.control.places"}
    assert ours - by_script == {
        "dfsfs.cli",
        *(
            f"dfsfs.cli.{name}"
            for name in ("collector", "exitcodes", "main", "output", "registry", "tables", "versions")
        ),
    }


def test_each_command_is_a_module() -> None:
    files = {path.stem for path in Path(commands.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(registry.NAMES)
    assert [command.name for command in registry.all_commands()] == list(registry.NAMES)

"""The folder of a run, and the two programs in it that stand in front of the system's: what they hand on."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.suites.places import Place, write_programs
from tests.support.lab.samba import Lab

if TYPE_CHECKING:
    from pathlib import Path

SHARE = "//127.1.2.10/dfs/link"


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A folder with the programs; each of those behind them prints its name and what it is given."""
    for name in ("mount", "df", "mount.dfsfs"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    write_programs(tmp_path / "bin", {"mount": str(tmp_path / "mount"), "df": str(tmp_path / "df")})
    return tmp_path


def said(folder: Path, *command: str) -> str:
    environment = {
        **os.environ,
        "DFSFS_SUITES": "/run",
        "DFSFS_SUITES_MOUNT": str(folder / "mount.dfsfs"),
        "DFSFS_SUITES_USER": "alice",
    }
    done = subprocess.run(
        [str(folder / "bin" / command[0]), *command[1:]], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_mounts_of_the_suite_are_made_by_dfsfs(asked: Path) -> None:
    assert said(asked, "mount", "-t", "fuse.dfsfs", SHARE, "/m") == f"mount.dfsfs {SHARE} /m -o username=alice"
    given = ("mount", "-t", "fuse.dfsfs", "-o", "ro", "-onoexec", SHARE, "/m")
    assert said(asked, *given) == f"mount.dfsfs {SHARE} /m -o ro,noexec,username=alice"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bind", "/a", "/b"),
        ("-t", "tmpfs", "none", "/m"),
        ("-o", "remount,ro", "/no/such/mount"),
        # What dfsfs itself asks for when it is to change a mount: taken for the suite's it would go round for ever.
        ("-i", "-o", "remount,ro", "-t", "fuse.dfsfs", "/m"),
    ],
)
def test_all_other_mounts_are_left_to_the_system(asked: Path, arguments: tuple[str, ...]) -> None:
    assert said(asked, "mount", *arguments) == " ".join(("mount", *arguments))


def test_df_asks_only_the_mounts_of_the_run(asked: Path) -> None:
    assert said(asked, "df", "-T", "-P") == "df -T -P /run/test /run/scratch"
    assert said(asked, "df", "-T", "/m") == "df -T /m"


def test_df_says_the_type_that_xfstests_wants(asked: Path) -> None:
    (asked / "df").write_text(f"#!/bin/sh\necho '{SHARE} fuse.dfsfs 10 5 5 50% /m'\n")
    assert said(asked, "df", "-T") == f"{SHARE} fuse 10 5 5 50% /m"


def test_other_users_get_to_the_mounts(tmp_path: Path) -> None:
    """Tests become users of their own: one that only got as far as the folder failed for a reason that was not ours."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    Place(Lab("127.9.9"), folder, "")
    assert folder.stat().st_mode & 0o777 == 0o711

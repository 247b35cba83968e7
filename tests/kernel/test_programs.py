"""Programs that people use, on a mount: what they write is there, and they notice nothing."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.conftest import LONG

pytestmark = [pytest.mark.lab, pytest.mark.mount]

LARGE = (1024 if LONG else 256) << 20
"""Bytes: more than any cache or window of ours holds."""
TREE = "" if LONG else "vfs"
"""The part of this project that git gets: some fifty files, or all."""
FILES, FOLDERS = (2000, 300) if LONG else (400, 80)


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """Runs a program to its end; what it printed."""
    result = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def odd_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of hundreds of files and folders with all kinds of names."""
    root, rng = tmp_path_factory.mktemp("odd"), random.Random(1)
    shapes = [
        "plain{}",
        "with space {}",
        "Grüße {}",
        "日本語{}",
        "dots...{}",
        ".hidden{}",
        "L" * 195 + "{}",
        "a'b\"c{}*",
    ]
    folders = [root]
    for number in range(FOLDERS):
        parent = rng.choice(folders[-40:]) if len(str(folders[-1])) < 1500 else root
        folders.append(parent / (shapes[number % len(shapes)].format(number)))
        folders[-1].mkdir()
        if len(str(folders[-1])) > 1500:
            folders.append(root)
    for number in range(FILES):
        content = rng.randbytes(rng.choice([0, 1, 100, 5000, 70000]))
        (rng.choice(folders) / ("f" + shapes[number % len(shapes)].format(number))).write_bytes(content)
    return root


def test_cp_of_a_tree_with_odd_names(odd_tree: Path, work: Path, tmp_path: Path) -> None:
    run("cp", "-r", odd_tree, work / "copy")
    run("diff", "-r", odd_tree, work / "copy")
    run("cp", "-r", work / "copy", tmp_path / "back")
    run("diff", "-r", odd_tree, tmp_path / "back")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_large_file_in_across_and_out(work: Path, other: Path, tmp_path: Path) -> None:
    source = tmp_path / "large"
    block = random.Random(2).randbytes(1 << 20)
    with source.open("wb") as file:
        for number in range(LARGE >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
    expected = digest(source)
    run("cp", source, work / "large")
    run("cp", work / "large", other / "large")
    run("cp", other / "large", tmp_path / "back")
    assert digest(tmp_path / "back") == expected


def git(*words: str | Path, cwd: Path | None = None) -> str:
    return run("git", "-c", "user.name=Alice", "-c", "user.email=alice@contoso.test", *words, cwd=cwd)


def test_git(work: Path, tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(Path(__file__).parents[2] / "dfsfs" / TREE, origin, ignore=shutil.ignore_patterns("__pycache__"))
    git("init", "-q", cwd=origin)
    git("add", "-A", cwd=origin)
    git("commit", "-q", "-m", "everything", cwd=origin)
    git("clone", "-q", origin, work / "clone")
    assert git("status", "--porcelain", cwd=work / "clone") == ""
    git("fsck", "--strict", cwd=work / "clone")
    (work / "clone" / "new.txt").write_text("new\n")
    git("add", "new.txt", cwd=work / "clone")
    git("commit", "-q", "-m", "a commit", cwd=work / "clone")
    assert git("log", "--format=%s", cwd=work / "clone").split("\n")[:2] == ["a commit", "everything"]
    git("gc", "-q", cwd=work / "clone")
    git("fsck", "--strict", cwd=work / "clone")


def test_tar(odd_tree: Path, work: Path, tmp_path: Path) -> None:
    run("tar", "cf", tmp_path / "tree.tar", "-C", odd_tree, ".")
    (work / "tree").mkdir()
    run("tar", "xpf", tmp_path / "tree.tar", "-C", work / "tree")
    run("diff", "-r", odd_tree, work / "tree")
    run("tar", "cf", tmp_path / "again.tar", "-C", work / "tree", ".")
    (tmp_path / "again").mkdir()
    run("tar", "xf", tmp_path / "again.tar", "-C", tmp_path / "again")
    run("diff", "-r", odd_tree, tmp_path / "again")


def test_rsync_transfers_nothing_the_second_time(odd_tree: Path, work: Path) -> None:
    run("rsync", "-a", f"{odd_tree}/", f"{work}/tree/")
    run("diff", "-r", odd_tree, work / "tree")
    again = run("rsync", "-a", "--itemize-changes", "--stats", f"{odd_tree}/", f"{work}/tree/")
    assert "Number of regular files transferred: 0\n" in again
    # Modes come from file_mode= and dir_mode=, so rsync would like to change them (".f...p....."), and nothing else.
    changes = {line[1:11] for line in again.splitlines() if re.match(r"\S{11} ", line)}
    assert changes <= {"f...p.....", "d...p....."}


def test_sqlite(work: Path) -> None:
    with sqlite3.connect(work / "base.db") as base:
        base.execute("create table t (number integer primary key, text text)")
        for number in range(1000):
            base.execute("insert into t values (?, ?)", (number, "x" * (number % 300)))
            if number % 50 == 0:
                base.commit()
    base.close()
    again = sqlite3.connect(work / "base.db")
    assert again.execute("select count(*) from t").fetchone() == (1000,)
    assert again.execute("pragma integrity_check").fetchone() == ("ok",)
    again.close()
    assert os.listdir(work) == ["base.db"]


def test_find_and_du_over_the_namespace(mount: Path) -> None:
    """The links that lead nowhere are named on stderr; all others are walked through."""
    for program in ("find", "du"):
        result = subprocess.run([program, mount], capture_output=True, text=True, timeout=120, check=False)
        complaints = {
            line.split("'")[1] if "'" in line else line.split("‘")[1].split("’")[0]
            for line in result.stderr.splitlines()
        }
        dead = {"link-dead", "link-denied", "loop-self", "loop-a", "interlink/loop-b"}
        assert complaints == {str(mount / name) for name in dead}
    found = subprocess.run(["find", mount], capture_output=True, text=True, check=False).stdout.splitlines()
    for name in ("link-single/hello.txt", "dir/sub/link/hello.txt", "interlink/deep/deep.txt", "link-secret/folder"):
        assert str(mount / name) in found


def test_editors_save_by_rename(work: Path) -> None:
    file = work / "document.txt"
    file.write_text("first")
    for number in range(20):
        (work / ".document.tmp").write_text(f"version {number}")
        os.replace(work / ".document.tmp", file)
        assert file.read_text() == f"version {number}"
    assert os.listdir(work) == ["document.txt"]

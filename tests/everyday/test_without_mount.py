"""The commands that need no mount: tree, check, ls, cat, explain of UNC paths, completion, bugreport, versions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.everyday.conftest import PROGRAM
from tests.lab import content

if TYPE_CHECKING:
    from pathlib import Path

    from tests.everyday.conftest import Dfsfs
    from tests.lab.samba import Lab

pytestmark = [pytest.mark.lab]


def test_tree(dfsfs: Dfsfs, lab: Lab) -> None:
    found = dfsfs.json("tree", lab.root_unc, *dfsfs.login)
    links = {link["path"].removeprefix(f"{lab.root_unc}/"): link["targets"] for link in found["links"]}
    assert links["link-multi"] == [f"//{lab.address('fs1')}/data", f"//{lab.address('fs2')}/data"]
    assert links["dir/sub/link"] == [f"//{lab.address('fs1')}/extra"]
    assert found["folders"] == [f"{lab.root_unc}/dir", f"{lab.root_unc}/dir/sub"]
    text = dfsfs.out("tree", lab.root_unc, *dfsfs.login)
    assert f"├── dir/\n│   └── sub/\n│       └── link -> //{lab.address('fs1')}/extra\n" in text
    assert f"link-dead -> //{lab.address('dead1')}/data" in text, "no target is entered"
    assert f"{len(links)} links" in text.splitlines()[-1]


def test_check_finds_what_is_wrong(dfsfs: Dfsfs, lab: Lab) -> None:
    result = dfsfs("check", lab.root_unc, *dfsfs.login, "--json")
    assert result.returncode == 3
    found = json.loads(result.stdout)
    state = {
        target["path"]: target["problem"]
        for link in found["links"]
        for target in link["targets"]
        if link["path"].endswith(("link-multi", "link-dead", "link-denied"))
    }
    assert state[f"//{lab.address('fs1')}/data"] is None
    assert "Connection refused" in state[f"//{lab.address('dead1')}/data"]
    assert "STATUS_ACCESS_DENIED" in state[f"//{lab.address('fs1')}/bobonly"]
    wrong = {text.split(": ")[0].rsplit("/", 1)[1] for text in found["problems"]}
    assert wrong == {"link-dead", "link-deadfirst", "link-denied", "loop-a", "loop-self"}
    shown = dfsfs("check", "-q", lab.root_unc, *dfsfs.login)
    assert shown.returncode == 3 and shown.stdout.count("problem: ") == len(found["problems"])
    assert "LINK" not in shown.stdout


def test_check_of_what_is_in_order(dfsfs: Dfsfs, lab: Lab) -> None:
    result = dfsfs("check", f"{lab.root_unc}/dir", *dfsfs.login)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "1 links with 1 targets: all in order"


def test_ls(dfsfs: Dfsfs, lab: Lab) -> None:
    names = dfsfs.out("ls", f"{lab.root_unc}/link-multi", *dfsfs.login).splitlines()
    assert names == ["big.bin", "folder/", "hello.txt"]
    rows = {row["name"]: row for row in dfsfs.json("ls", f"{lab.root_unc}/link-multi", *dfsfs.login)}
    assert rows["hello.txt"] == {"name": "hello.txt", "kind": "file", "size": 16, "modified": content.MODIFIED}
    long = dfsfs.out("ls", "-l", f"{lab.root_unc}/link-multi/folder", *dfsfs.login)
    assert content.UMLAUTS in long
    assert {"dir", "link-multi"} <= {row["name"] for row in dfsfs.json("ls", lab.root_unc, *dfsfs.login)}
    (one,) = dfsfs.json("ls", f"{lab.root_unc}/link-multi/hello.txt", *dfsfs.login)
    assert one["name"] == "hello.txt"


def test_cat(dfsfs: Dfsfs, lab: Lab) -> None:
    words = ("cat", f"{lab.root_unc}/link-deadfirst/hello.txt", *dfsfs.login)
    assert dfsfs.out(*words).encode() == content.HELLO
    environment = {**os.environ, "PASSWD": lab.credentials[1]}
    big = subprocess.run(
        [PROGRAM, "cat", f"{lab.root_unc}/link-multi/big.bin", *dfsfs.login],
        env=environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert big.stdout == content.big()
    assert "is a folder" in dfsfs.fails(1, "cat", f"{lab.root_unc}/link-multi", *dfsfs.login)
    assert "STATUS_OBJECT_NAME_NOT_FOUND" in dfsfs.fails(32, "cat", f"{lab.root_unc}/link-multi/none", *dfsfs.login)


def test_cp_from_and_to_unc_paths(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    here, there = tmp_path / "here", f"{lab.root_unc}/link-single"
    disk = lab.host("fs1").share_path("data")
    here.mkdir()
    dfsfs.out("cp", f"{lab.root_unc}/link-multi/big.bin", f"{lab.root_unc}/link-multi/hello.txt", here, *dfsfs.login)
    assert (here / "big.bin").read_bytes() == content.big() and (here / "hello.txt").read_bytes() == content.HELLO
    assert (here / "hello.txt").stat().st_mtime == content.MODIFIED
    big = os.urandom(20_000_001)
    (here / "up: 1").write_bytes(big)
    try:
        dfsfs.out("cp", here / "up: 1", there, *dfsfs.login)
        dfsfs.out("cp", here / "hello.txt", f"{there}/named", *dfsfs.login)
        assert (disk / "named").read_bytes() == content.HELLO
        dfsfs.out("cp", here / "big.bin", f"{there}/named", *dfsfs.login)
        assert (disk / "named").read_bytes() == content.big(), "another file takes its place"
        dfsfs.out("cp", f"{there}/up: 1", f"{lab.root_unc}/link-secret/across", *dfsfs.login)
        assert (lab.host("fs3").share_path("secret") / "across").read_bytes() == big
        dfsfs.out("cp", f"{there}/up: 1", here / "back", *dfsfs.login)
        assert (here / "back").read_bytes() == big
    finally:
        for path in (*disk.glob("up*"), disk / "named", lab.host("fs3").share_path("secret") / "across"):
            path.unlink(missing_ok=True)
    assert not [path for folder in (here, disk) for path in folder.glob(".*.part")]


def test_a_cp_that_fails_leaves_nothing(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"x" * 10_000)
    unc = f"{lab.root_unc}/link-multi/hello.txt"
    assert "STATUS_ACCESS_DENIED" in dfsfs.fails(32, "cp", source, f"{lab.root_unc}/link-readonly/new", *dfsfs.login)
    assert not list(lab.host("fs3").share_path("readonly").glob(".*"))
    assert "No such file" in dfsfs.fails(32, "cp", unc, tmp_path / "no" / "folder", *dfsfs.login)
    assert "No such file" in dfsfs.fails(1, "cp", tmp_path / "none", f"{lab.root_unc}/link-single", *dfsfs.login)
    assert "is a folder" in dfsfs.fails(1, "cp", f"{lab.root_unc}/link-multi/folder", tmp_path, *dfsfs.login)
    dfsfs.fails(1, "cp", unc, *dfsfs.login)
    dfsfs.fails(1, "cp", "-c", unc, tmp_path, *dfsfs.login)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_wrong_usage_is_one_line(dfsfs: Dfsfs, lab: Lab) -> None:
    for words in (
        ["ls"],
        ["cat"],
        ["tree", "/tmp"],
        ["check", "//x"],
        ["cache", "shwo"],
        ["status", "a", "b"],
        ["drain"],
    ):
        dfsfs.fails(1, *words)
    assert "user 'alice'" in dfsfs.fails(32, "ls", lab.root_unc, "-o", "username=alice,password=wrong")


def test_a_password_in_the_command_line_does_not_stay_there(lab: Lab, dfsfs: Dfsfs) -> None:
    """It is started anew without it; `dfsfs ls` has ended before anybody could look, so a slow command is."""
    user, password = lab.credentials
    result = dfsfs("ls", f"{lab.root_unc}/link-multi", "-o", f"username={user},password={password}", PASSWD="")
    assert result.returncode == 0 and "hello.txt" in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(dfsfs: Dfsfs, shell: str) -> None:
    script = dfsfs.out("completion", shell)
    for word in ("explain", "all-roots", "dfs_pin=", "flush"):
        assert word in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n", "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["dfsfs", "expl"], {"explain"}),
        (["dfsfs", "explain", "--all"], {"--all-roots"}),
        (["dfsfs", "cache", "fl"], {"flush"}),
        (["mount.dfsfs", "-o", "sec=krb5,multi"], {"sec=krb5,multiuser"}),
    ],
)
def test_bash_completes(dfsfs: Dfsfs, typed: list[str], expected: set[str]) -> None:
    function = "_mount_dfsfs" if typed[0] == "mount.dfsfs" else "_dfsfs"
    words = " ".join(f"'{word}'" for word in typed)
    script = (
        "compopt() { :; }\n"
        + dfsfs.out("completion", "bash")
        + f"COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert set(done.stdout.split()) == expected


def test_bugreport(dfsfs: Dfsfs, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert "look through it" in dfsfs.out("bugreport", "-o", path)
    assert path.stat().st_mode & 0o777 == 0o600
    report = json.loads(path.read_text())
    assert report["versions"]["dfsfs"] and report["system"]["release"]
    assert "File exists" in dfsfs.fails(2, "bugreport", "-o", path)


def test_versions(dfsfs: Dfsfs) -> None:
    shown = dict(line.split(" ", 1) for line in dfsfs.out("--version").splitlines())
    assert shown["kernel"] == os.uname().release
    assert shown["libfuse"].startswith("3.") and shown["pyfuse3"].startswith("3.")

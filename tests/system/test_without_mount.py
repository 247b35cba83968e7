"""The commands that need no mount: tree, check, ls, cat, explain of UNC paths, completion, bugreport, versions."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli.copying import version_of
from dfsfs.cli.parts import SHOWN_FROM, part_name
from tests.kernel.mounts import wait_until
from tests.support.lab import content
from tests.system.conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab
    from tests.system.conftest import Dfsfs

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
    assert state[f"//{lab.address('dead1')}/data"].startswith(
        f"can't connect to {lab.address('dead1')}:445: connection"
    )
    assert "STATUS_ACCESS_DENIED" in state[f"//{lab.address('fs1')}/bobonly"]
    wrong = [text.split(": ")[0].rsplit("/", 1)[1] for text in found["problems"]]
    assert wrong == ["link-dead", "link-dead", "link-deadfirst", "link-denied", "loop-a", "loop-self"]
    for text in found["problems"][-2:]:
        assert "leads back to itself" in text
    shown = dfsfs("check", "-q", lab.root_unc, *dfsfs.login)
    assert shown.returncode == 3 and shown.stdout.count("problem: ") == len(found["problems"])
    assert "LINK" not in shown.stdout
    whole = dfsfs("check", lab.root_unc, *dfsfs.login).stdout
    for words in ("no permission", "STATUS_ACCESS_DENIED", f"{lab.address('dead2')}:445: connection refused"):
        assert whole.count(words) == 1, words
    assert not re.search(r"(?<!\()STATUS_|Errno", whole)


def test_check_follows_links_to_links_of_other_namespaces(dfsfs: Dfsfs, lab: Lab) -> None:
    """As a mount does: `ls` of each of them works."""
    root = lab.host(lab.topology.root.host).share_path(lab.topology.root.share)
    ns2 = lab.address("ns2")
    links = {"far": f"{ns2}\\dfs2\\link2", "farther": f"{ns2}\\dfs2\\deep\\link\\folder", "gone": f"{ns2}\\dfs2\\none"}
    for name, target in links.items():
        (root / name).symlink_to(f"msdfs:{target}")
    try:
        found = json.loads(dfsfs("check", lab.root_unc, *dfsfs.login, "--json").stdout)
        rows = {row["path"].removeprefix(f"{lab.root_unc}/"): row for row in found["links"]}
        for name, target in (
            ("far", f"//{lab.address('fs2')}/extra2"),
            ("farther", f"//{lab.address('fs1')}/data/folder"),
        ):
            assert dfsfs.out("ls", f"{lab.root_unc}/{name}", *dfsfs.login)
            assert rows[name]["problems"] == []
            assert [row["path"] for row in rows[name]["targets"]] == [target]
        (problem,) = rows["gone"]["problems"]
        assert "there is no such file or folder (STATUS_OBJECT_NAME_NOT_FOUND)" in problem
        alone = dfsfs.json("check", f"{lab.root_unc}/far", *dfsfs.login)
        assert [row["path"] for row in alone["links"]] == [f"{lab.root_unc}/far"]
    finally:
        for name in links:
            (root / name).unlink()


def test_one_place_says_what_is_wrong(dfsfs: Dfsfs, lab: Lab) -> None:
    nobody = "//no-such-host.invalid/x"
    for words in (["ls", nobody], ["check", nobody], ["tree", nobody], ["cat", f"{nobody}/y"], ["explain", nobody]):
        result = dfsfs(*words, *dfsfs.login)
        assert result.returncode == 32 and "Errno" not in result.stdout + result.stderr
        assert "can't connect to no-such-host.invalid:445: can't find an address for" in result.stderr, words
    missing = f"{lab.root_unc}/link-single/none"
    for words in (["ls", missing], ["cat", missing], ["explain", missing], ["cp", missing, "/tmp"]):
        result = dfsfs(*words, *dfsfs.login)
        line = "there is no such file or folder (STATUS_OBJECT_NAME_NOT_FOUND); check the path"
        assert result.returncode == 32 and line in result.stderr, words


def test_check_of_what_is_in_order(dfsfs: Dfsfs, lab: Lab) -> None:
    result = dfsfs("check", f"{lab.root_unc}/dir", *dfsfs.login)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "1 link with 1 target: all in order"


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
    big, hello = f"{lab.root_unc}/link-multi/big.bin", f"{lab.root_unc}/link-multi/hello.txt"
    dfsfs.out("cp", big, hello, here, *dfsfs.login)
    assert (here / "big.bin").read_bytes() == content.big() and (here / "hello.txt").read_bytes() == content.HELLO
    assert (here / "hello.txt").stat().st_mtime > content.MODIFIED + 1000, "when it was copied"
    dfsfs.out("cp", "-p", hello, here, *dfsfs.login)
    assert (here / "hello.txt").stat().st_mtime == content.MODIFIED
    data = os.urandom(20_000_001)
    (here / "up: 1").write_bytes(data)
    try:
        dfsfs.out("cp", here / "up: 1", there, *dfsfs.login)
        dfsfs.out("cp", here / "hello.txt", f"{there}/named", *dfsfs.login)
        assert (disk / "named").read_bytes() == content.HELLO
        assert (disk / "named").stat().st_mtime > content.MODIFIED + 1000
        for source in (here / "hello.txt", hello):
            dfsfs.out("cp", "-p", source, f"{there}/named", *dfsfs.login)
            assert (disk / "named").stat().st_mtime == content.MODIFIED
        dfsfs.out("cp", here / "big.bin", f"{there}/named", *dfsfs.login)
        assert (disk / "named").read_bytes() == content.big(), "another file takes its place"
        dfsfs.out("cp", f"{there}/up: 1", f"{lab.root_unc}/link-secret/across", *dfsfs.login)
        assert (lab.host("fs3").share_path("secret") / "across").read_bytes() == data
        dfsfs.out("cp", f"{there}/up: 1", here / "back", *dfsfs.login)
        assert (here / "back").read_bytes() == data
    finally:
        for path in (*disk.glob("up*"), disk / "named", lab.host("fs3").share_path("secret") / "across"):
            path.unlink(missing_ok=True)
    assert not [path for folder in (here, disk) for path in folder.glob(".*.part")]


def parts_in(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part"))


def interrupted(lab: Lab, dfsfs: Dfsfs, number: signal.Signals, folder: Path, *words: str | Path) -> str:
    """What a copy says that gets a signal as soon as something of it is in a folder."""
    command = [PROGRAM, "cp", *map(str, words), *dfsfs.login]
    environment = {**os.environ, "PASSWD": lab.credentials[1]}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as copying:
        wait_until(lambda: any(part.stat().st_size for part in parts_in(folder)), "the copy has begun")
        copying.send_signal(number)
        _, said = copying.communicate(timeout=60)
    assert copying.returncode == 8, said
    return said


BIG = 400_000_000


@pytest.fixture
def far(lab: Lab) -> Iterator[Path]:
    """A large file on a server, with holes."""
    path = lab.host("fs1").share_path("data") / "far"
    with path.open("wb") as file:
        file.truncate(BIG)
        file.seek(BIG - 5)
        file.write(b"end.\n")
    yield path
    path.unlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_cp_leaves_nothing(
    dfsfs: Dfsfs, lab: Lab, tmp_path: Path, far: Path, number: signal.Signals
) -> None:
    os.truncate(far, 10 * BIG)  # more than is copied until the signal is there, however fast that is
    source = f"{lab.root_unc}/link-single/far"
    assert interrupted(lab, dfsfs, number, tmp_path, source, tmp_path) == (
        "dfsfs: interrupted; nothing is left of the copy\n"
    )
    assert list(tmp_path.iterdir()) == []
    there = lab.host("fs2").share_path("extra2")
    interrupted(lab, dfsfs, number, there, source, f"//{lab.address('fs2')}/extra2/near")
    assert parts_in(there) == [] and not (there / "near").exists()


def test_an_interrupted_cp_goes_on(dfsfs: Dfsfs, lab: Lab, tmp_path: Path, far: Path) -> None:
    source = f"{lab.root_unc}/link-single/far"
    there = lab.host("fs2").share_path("extra2")
    for folder, target in ((tmp_path, str(tmp_path)), (there, f"//{lab.address('fs2')}/extra2")):
        said = interrupted(lab, dfsfs, signal.SIGTERM, folder, "--continue", source, target)
        assert said == "dfsfs: interrupted; dfsfs cp --continue goes on\n"
        (part,) = parts_in(folder)
        try:
            begun = part.stat()
            assert begun.st_size < BIG
            with part.open("r+b") as file:
                file.write(b"kept")  # what is there is not fetched again, which a copy from the beginning would
                file.truncate(3 * 16 * 1024 * 1024)
            dfsfs.out("cp", "--continue", "-p", source, target, *dfsfs.login)
            made = folder / "far"
            assert made.stat().st_ino == begun.st_ino and made.stat().st_size == BIG and not parts_in(folder)
            assert made.stat().st_mtime == pytest.approx(far.stat().st_mtime, abs=1e-3)
            with made.open("rb") as file:
                assert file.read(5) == b"kept\0"
                file.seek(-5, os.SEEK_END)
                assert file.read() == b"end.\n"
        finally:
            for path in (part, folder / "far"):
                path.unlink(missing_ok=True)


def test_what_is_at_the_name_of_a_part_is_never_written_to(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    there = lab.host("fs1").share_path("data")
    source, victim = tmp_path / "new", there / "victim"
    source.write_bytes(b"new")
    victim.write_bytes(b"precious")
    victim.chmod(0o666)
    part = there / part_name("new", version_of(source.stat()))
    try:
        os.link(victim, part)
        assert "is not what an interrupted copy leaves" in dfsfs.fails(
            32, "cp", "--continue", source, f"{lab.root_unc}/link-single", *dfsfs.login
        )
        dfsfs.out("cp", source, f"{lab.root_unc}/link-single", *dfsfs.login)
        assert victim.read_bytes() == b"precious" and (there / "new").read_bytes() == b"new" and not part.exists()
    finally:
        for path in (victim, part, there / "new"):
            path.unlink(missing_ok=True)


def test_progress_of_a_cp_is_shown_on_a_terminal(dfsfs: Dfsfs, lab: Lab, tmp_path: Path, far: Path) -> None:
    os.truncate(far, SHOWN_FROM)
    source = f"{lab.root_unc}/link-single/far"
    for quiet in (False, True):
        ours, theirs = os.openpty()
        command = [PROGRAM, "cp", *(["-q"] if quiet else []), source, str(tmp_path / "near"), *dfsfs.login]
        environment = {**os.environ, "PASSWD": lab.credentials[1], "TERM": "xterm"}
        with subprocess.Popen(command, env=environment, stderr=theirs) as copying:
            os.close(theirs)
            shown = b""
            with suppress(OSError):  # the end of a terminal
                while data := os.read(ours, 65536):
                    shown += data
            assert copying.wait(timeout=60) == 0
        os.close(ours)
        assert (b"far" in shown and b"/s" in shown) is not quiet, shown


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["ls", "--help"],
        ["completion", "bash"],
        ["tree", "UNC"],
        ["cat", "UNC/link-multi/big.bin"],
    ],
    ids=" ".join,
)
def test_a_reader_that_ends_is_no_error(dfsfs: Dfsfs, lab: Lab, words: list[str]) -> None:
    login = list(dfsfs.login) if "UNC" in words[-1] else []
    command = [PROGRAM, *(word.replace("UNC", lab.root_unc) for word in words), *login]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        environment = {**os.environ, "PASSWD": lab.credentials[1]}
        done = subprocess.run(
            command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


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

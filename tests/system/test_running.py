"""The commands for running mounts: status, cache, domain, target, drain, explain."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dfsfs.control.client import mount_at
from dfsfs.control.places import sockets_of
from tests.kernel.mounts import mounted, refused, signal_daemons, wait_until
from tests.system.conftest import PROGRAM

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab.samba import Lab
    from tests.system.conftest import Dfsfs

pytestmark = [pytest.mark.lab, pytest.mark.mount]


def target_of(dfsfs: Dfsfs, path: Path) -> str:
    """The target in use of the link that a path is in."""
    (used,) = [target["path"] for target in dfsfs.json("target", "list", path)["targets"] if target["in_use"]]
    return str(used)


def data_on(lab: Lab, host: str) -> str:
    return f"//{lab.address(host)}/data"


def test_status(dfsfs: Dfsfs, mount: Path, lab: Lab) -> None:
    (mount / "link-multi" / "hello.txt").read_bytes()
    refused(errno.ENOENT, lambda: os.truncate(mount / "link-multi" / "missing", 0))
    with (mount / "link-single" / "hello.txt").open("rb"):
        (report,) = dfsfs.json("status", mount)
    about = report["mount"]
    assert (about["path"], about["unc"], about["user"]) == (str(mount), lab.root_unc, lab.credentials[0])
    assert os.readlink(f"/proc/{about['pid']}/exe") == os.path.realpath(sys.executable)
    links = {link["path"]: link for link in report["links"]}
    multi = links[f"{lab.root_unc}/link-multi"]
    assert (multi["target"], multi["connected"], multi["failed_over"]) == (data_on(lab, "fs1"), True, False)
    assert multi["targets"] == [data_on(lab, "fs1"), data_on(lab, "fs2")]
    assert 0 < multi["seconds_left"] <= 600
    (session,) = [session for session in report["sessions"] if session["host"] == lab.address("fs1")]
    assert (session["dialect"], session["encryption"], session["authentication"]) == ("3.1.1", None, "NTLM")
    assert session["address"] == lab.address("fs1") and session["requests"] > 3
    assert report["files"]["open"] >= 1 and report["bytes"]["read"] >= 16
    assert report["requests"]["open"]["count"] >= 2
    assert 0 < report["requests"]["open"]["p50"] <= report["requests"]["open"]["longest"]
    text = dfsfs.out("status", mount)
    for part in (f"{mount} is {lab.root_unc}", data_on(lab, "fs1"), "AES-GMAC signed", "LONGEST"):
        assert part in text


def test_an_encrypted_session_says_so(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", "seal") as mount:
        (report,) = dfsfs.json("status", mount)
        assert {session["encryption"] for session in report["sessions"]} == {"AES-128-GCM"}


def test_the_cache(dfsfs: Dfsfs, mount: Path, lab: Lab) -> None:
    os.listdir(mount / "link-multi")
    os.listdir(mount / "link-single")
    entries = {entry["prefix"]: entry for entry in dfsfs.json("cache", "show", mount)}
    assert entries[lab.root_unc]["kind"] == "root"
    multi = entries[f"{lab.root_unc}/link-multi"]
    assert multi["ttl"] == 600 and [target["hint"] for target in multi["targets"]] == [True, False]
    assert [entry["prefix"] for entry in dfsfs.json("cache", "show", mount / "link-multi")] == [multi["prefix"]]
    assert f"  * {data_on(lab, 'fs1')}\n    {data_on(lab, 'fs2')}" in dfsfs.out("cache", "show", mount)
    assert dfsfs.json("cache", "flush", mount / "link-multi") == {"flushed": 1}
    assert f"{lab.root_unc}/link-multi" not in dfsfs.out("cache", "show", mount)
    assert dfsfs.json("cache", "flush", mount)["flushed"] >= 2
    assert dfsfs.json("cache", "show", "--mount", mount) == []
    assert (mount / "link-multi" / "hello.txt").read_bytes()
    wait_until(lambda: bool(dfsfs.json("cache", "show", mount)), "the referrals are asked for again")


def test_the_domains_of_a_mount_without_one(dfsfs: Dfsfs, mount: Path) -> None:
    assert dfsfs.json("domain", "show", "--mount", mount) == {"found": None, "bootstrap": None, "domains": []}
    assert "no domain" in dfsfs.out("domain", "show", "--mount", mount)
    assert dfsfs.json("domain", "flush", "--mount", mount) == {"flushed": 0}


def test_a_target_is_chosen_and_given_back(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m") as mount:
        path = mount / "link-multi"
        with (path / "hello.txt").open("rb") as reader:
            assert target_of(dfsfs, path) == data_on(lab, "fs1")
            found = dfsfs.json("target", "set", path / "hello.txt", lab.address("fs2"))
            (link,) = [row for row in dfsfs.json("status", mount)[0]["links"] if row["path"].endswith("/link-multi")]
            assert (link["chosen"], link["failed_over"]) == (True, False), "what is wanted is no failover"
            assert [(target["in_use"], target["chosen"]) for target in found["targets"]] == [
                (False, False),
                (True, True),
            ]
            assert reader.read() == (path / "hello.txt").read_bytes()
        dfsfs.out("target", "set", path, data_on(lab, "fs1"))
        assert target_of(dfsfs, path) == data_on(lab, "fs1")
        dfsfs.out("target", "set", f"{lab.root_unc}/link-multi", lab.address("fs2"), "--mount", mount)
        assert target_of(dfsfs, path) == data_on(lab, "fs2")
        assert "(chosen)" in dfsfs.out("target", "list", path)
        dfsfs.out("target", "unset", path)
        assert "(chosen)" not in dfsfs.out("target", "list", path)
        line = dfsfs.fails(1, "target", "set", path, "elsewhere")
        assert f"elsewhere is no target of {lab.root_unc}/link-multi; these are: {data_on(lab, 'fs1')}" in line
        assert "takes a target" in dfsfs.fails(1, "target", "set", path)


def test_a_chosen_target_that_dies_is_left_and_returned_to(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m", "actimeo=0") as mount:
        path = mount / "link-multi"
        dfsfs.out("target", "set", path, lab.address("fs2"))
        lab.host("fs2").kill()
        try:
            assert (path / "hello.txt").read_bytes()
            assert target_of(dfsfs, path) == data_on(lab, "fs1")
            line = dfsfs.fails(32, "target", "set", path, lab.address("fs2"))
            assert "does not answer" in line
        finally:
            lab.host("fs2").start()
        dfsfs.out("target", "set", path, lab.address("fs2"))
        assert target_of(dfsfs, path) == data_on(lab, "fs2")


def test_a_server_is_drained(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m") as mount:
        for link in ("link-multi", "link-single"):
            os.listdir(mount / link)
        (found,) = dfsfs.json("drain", lab.address("fs1"), "--mount", mount)
        moves = {link["path"]: link["to"] for link in found["links"]}
        assert moves == {f"{lab.root_unc}/link-multi": data_on(lab, "fs2"), f"{lab.root_unc}/link-single": None}
        assert (mount / "link-single" / "hello.txt").read_bytes(), "it has no other target, so it stays and works"
        assert "is drained" in dfsfs.fails(1, "target", "set", mount / "link-multi", lab.address("fs1"))
        assert f"drained: {lab.address('fs1')}" in dfsfs.out("status", mount)
        dfsfs.out("drain", "--undo", lab.address("fs1"), "--mount", mount)
        assert "\ndrained:" not in dfsfs.out("status", mount)
        assert "is not drained" in dfsfs.fails(1, "drain", "--undo", lab.address("fs1"), "--mount", mount)


def test_explain_says_what_the_mount_knows(dfsfs: Dfsfs, mount: Path, lab: Lab) -> None:
    (mount / "link-multi" / "hello.txt").read_bytes()
    found = dfsfs.json("explain", mount / "link-multi" / "hello.txt", "--all-roots")
    assert found["steps"][0]["event"] == "CacheHit"
    assert (found["kind"], found["link"]) == ("file of 16 bytes", f"{lab.root_unc}/link-multi")
    first, second = found["targets"]
    assert (first["path"], first["in_use"], first["problem"]) == (data_on(lab, "fs1"), True, None)
    assert first["session"]["authentication"] == "NTLM" and second["remark"] == "number 2 in the order of the referral"
    (root,) = found["all_roots"]["roots"]
    assert root["targets"] == [data_on(lab, "fs1"), data_on(lab, "fs2")] and not found["all_roots"]["differ"]


def test_a_link_whose_targets_are_all_down_is_explained(dfsfs: Dfsfs, mount: Path, lab: Lab) -> None:
    result = dfsfs("explain", mount / "link-dead")
    assert result.returncode == 32
    for host in ("dead1", "dead2"):
        assert f"/data: can't connect to {lab.address(host)}:445: connection refused; check that" in result.stdout
    assert "connection refused" in result.stderr


def test_who_may_ask(dfsfs: Dfsfs, mount: Path) -> None:
    entry, rest = mount_at(str(mount / "link-multi" / "folder"))
    assert rest == "link-multi/folder"
    (socket,) = sockets_of(entry)
    about = os.stat(socket)
    assert stat.S_IMODE(about.st_mode) == 0o600 and about.st_uid == 0
    script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script, socket]
    done = subprocess.run(as_nobody, capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


def test_the_socket_goes_with_the_mount(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m") as mount:
        entry, _ = mount_at(str(mount))
        (socket,) = sockets_of(entry)
        ours = os.stat(socket).st_ino
    # The number of the device may have gone to another mount on this machine since.
    assert not os.path.exists(socket) or os.stat(socket).st_ino != ours
    assert "is not in a mount of dfsfs" in dfsfs.fails(1, "status", tmp_path / "m")


def test_a_mount_whose_program_was_killed(dfsfs: Dfsfs, lab: Lab, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m") as mount:
        (report,) = dfsfs.json("status", mount)
        signal_daemons(mount, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{report['mount']['pid']}"), "the program is gone")
        assert f"no program answers for the mount on {mount}" in dfsfs.fails(32, "status", mount)
        subprocess.run(["umount", "-l", str(mount)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(mount)], check=True)  # for `mounted` to take down


def test_a_dead_mount_among_others(dfsfs: Dfsfs, lab: Lab, mount: Path, tmp_path: Path) -> None:
    with mounted(lab, tmp_path / "m") as dead:
        (report,) = dfsfs.json("status", dead)
        signal_daemons(dead, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{report['mount']['pid']}"), "the program is gone")
        result = dfsfs("status")
        assert result.returncode and not result.stderr
        assert f"{mount} is {lab.root_unc}\n  as " in result.stdout
        assert f"{dead} is {lab.root_unc}\n  DEAD: its program has ended" in result.stdout
        found = {report["mount"]["path"]: report["problem"] for report in json.loads(dfsfs("status", "--json").stdout)}
        assert found[str(mount)] is None and f"umount -l {dead}" in found[str(dead)]
        shown = dfsfs("cache", "show").stdout
        assert f"{mount} ({lab.root_unc})\n{lab.root_unc}  (root, " in shown
        subprocess.run(["umount", "-l", str(dead)], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(dead)], check=True)  # for `mounted` to take down


def test_what_a_drain_would_do(dfsfs: Dfsfs, lab: Lab, mount: Path) -> None:
    os.listdir(mount / "link-multi")
    fs1 = lab.address("fs1")
    (found,) = dfsfs.json("drain", "--dry-run", fs1, "--mount", mount)
    (to,) = [link["to"] for link in found["links"] if link["path"].endswith("/link-multi")]
    assert to == data_on(lab, "fs2")
    assert f"{fs1} would be drained" in dfsfs.out("drain", "--dry-run", fs1, "--mount", mount)
    assert target_of(dfsfs, mount / "link-multi") == data_on(lab, "fs1")
    assert dfsfs.json("status", mount)[0]["drained"] == []
    typo = fs1[:-1] + "x"
    line = dfsfs.fails(1, "drain", typo, "--mount", mount)
    assert f"{typo} is not the server of any target that a mount has heard of; did you mean " in line
    assert dfsfs.json("status", mount)[0]["drained"] == []


def test_a_link_that_leads_back_to_itself_is_not_connected(dfsfs: Dfsfs, lab: Lab, mount: Path) -> None:
    refused(errno.ELOOP, lambda: os.listdir(mount / "loop-self"))
    (link,) = [link for link in dfsfs.json("status", mount)[0]["links"] if link["path"].endswith("/loop-self")]
    assert (link["connected"], link["loops"]) == (False, True)
    (line,) = [line for line in dfsfs.out("status", mount).splitlines() if line.startswith("loop-self ")]
    assert line.endswith("leads back to itself")
    explained = dfsfs("explain", mount / "loop-self")
    assert (
        explained.stdout.splitlines()[-1].count("leads back to itself") == 1 and "NOT_COVERED" not in explained.stdout
    )


def test_asking_never_keeps_the_file_system_waiting(dfsfs: Dfsfs, mount: Path, lab: Lab) -> None:
    """Thirty commands at once, and programs go on."""
    words = [dfsfs_words("explain", str(mount / "link-dead")) for _ in range(10)]
    asking = [subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for one in words]
    try:
        for _ in range(20):
            assert (mount / "link-single" / "hello.txt").read_bytes()
    finally:
        for one in asking:
            one.wait(timeout=60)


def dfsfs_words(*words: str) -> list[str]:
    return [PROGRAM, *words]

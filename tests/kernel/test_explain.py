"""`dfsfs explain`: what it shows of a path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import COMMAND

if TYPE_CHECKING:
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab]


def explain(lab: Lab, path: str, *options: str) -> subprocess.CompletedProcess[str]:
    user, password = lab.credentials
    words = ["explain", f"{lab.root_unc}/{path}", "-o", ",".join((f"username={user}", *options))]
    environment = {**os.environ, "PASSWD": password}
    command = [str(Path(COMMAND).parent / "dfsfs"), *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert password not in result.stdout + result.stderr
    return result


def test_a_path_with_two_targets(lab: Lab) -> None:
    result = explain(lab, "link-multi/hello.txt")
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("root referral", "link referral", "answers V3", "is a file of 16 bytes", "for 600 s"):
        assert part in result.stdout
    first, second = result.stdout.splitlines()[-2:]
    assert first.startswith(f"  * //{lab.address('fs1')}/data: answers in ")
    assert "in use; SMB 3.1.1 at" in first and first.endswith("; NTLM as alice")
    assert second.startswith(f"    //{lab.address('fs2')}/data: answers in ")
    assert "number 2 in the order of the referral" in second


def test_a_target_that_is_passed_over(lab: Lab) -> None:
    result = explain(lab, "link-deadfirst")
    assert result.returncode == 0
    assert f"target //{lab.address('dead1')}/data is passed over" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"  * //{lab.address('fs2')}/data: answers")
    assert ":445: connection refused; check that" in result.stdout.splitlines()[-2]


def test_what_the_options_choose(lab: Lab) -> None:
    result = explain(lab, "link-multi", "dfs_pin=link-multi://nowhere/x", "dfs_prefer=*.13")
    assert "dfs_pin= names //nowhere/x, which is none of its targets" in result.stdout
    assert result.stdout.splitlines()[-2].startswith(f"  * //{lab.address('fs2')}/data")


@pytest.mark.parametrize(
    ("path", "text"),
    [("loop-a", "leads back to itself"), ("link-dead", "connection refused"), ("no/such/folder", "no/such/folder")],
)
def test_what_leads_nowhere_is_an_error_after_the_steps(lab: Lab, path: str, text: str) -> None:
    result = explain(lab, path)
    assert result.returncode == 32
    assert "root referral" in result.stdout
    (line,) = result.stderr.splitlines()
    assert text in line


def test_wrong_usage() -> None:
    for words in ([], ["a", "b"], ["//a/b", "-x"], ["//a/b", "-o", "actimo=1"]):
        command = [str(Path(COMMAND).parent / "dfsfs"), "explain", *words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1

"""What is said of the circumstances of a run."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.suites.circumstances import circumstances, samba_version

if TYPE_CHECKING:
    from pathlib import Path

LOG = """\
[2026/01/02 15:23:36.961099,  0] source3/smbd/server.c:1971(main)
  smbd version 4.99.6-Debian-4.99.6+dfsg-0 started.
"""


def test_the_version_of_samba_is_what_its_log_says() -> None:
    assert samba_version(LOG) == "4.99.6"
    assert samba_version(LOG + "  smbd version 4.100.0 started.\n") == "4.100.0"
    assert samba_version("") == "of an unknown version"


def test_all_that_a_result_depends_on_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    without = circumstances("suite", tmp_path, tmp_path / "log")
    assert without.endswith(", suite without a history")
    assert ", Samba 4.99.6, dfsfs " in without
    checkout = tmp_path / "checkout"
    author = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", "one"], cwd=checkout, check=True)
    head = subprocess.run(["git", "log", "-1", "--format=%h"], cwd=checkout, check=True, capture_output=True, text=True)
    of_checkout = circumstances("suite", checkout, tmp_path / "log")
    day, _, rest = of_checkout.partition(", ")
    assert len(day) == len("2026-01-02")
    assert rest == without.partition(", ")[2].replace("without a history", head.stdout.strip())

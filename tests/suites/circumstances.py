"""What a result is a result of: the day, the kernel, and which Samba, dfsfs and suite they were."""

from __future__ import annotations

import platform
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
GIT_PATIENCE = 30.0
"""Seconds for one question to git."""

_SMBD = re.compile(r"smbd version (\S+) started")


def circumstances(suite: str, checkout: Path, log: Path) -> str:
    """One line for all results of a run. `log` is that of the server's smbd, which says its version when it starts."""
    samba = samba_version(log.read_text(errors="replace"))
    day = time.strftime("%Y-%m-%d")
    return f"{day}, Linux {platform.release()}, Samba {samba}, dfsfs {_of_dfsfs()}, {suite} {_commit(checkout)}"


def samba_version(log: str) -> str:
    """As smbd's log has it, without what the packager adds."""
    found = _SMBD.findall(log)
    return str(found[-1]).partition("-")[0] if found else "of an unknown version"


def _of_dfsfs() -> str:
    """The last commit that changed the product: others change tests and pages."""
    changed = _git(ROOT, "status", "--porcelain", "--", "dfsfs")
    return _commit(ROOT, "--", "dfsfs") + (" with changes" if changed else "")


def _commit(checkout: Path, *paths: str) -> str:
    return _git(checkout, "log", "-1", "--format=%h", *paths) or "without a history"


def _git(checkout: Path, *arguments: str) -> str:
    """What git says; empty if it fails, as where a checkout came without its history."""
    command = ["git", "-C", str(checkout), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GIT_PATIENCE)
    return done.stdout.strip()

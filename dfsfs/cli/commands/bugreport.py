"""The command `dfsfs bugreport`: what is needed to look into a problem, in one file, without secrets.

What it holds: versions; the system; the mounts of dfsfs with the reports of their programs; lines of fstab and
fuse.conf that matter, without passwords; the last messages of dfsfs in the journal. Names of servers, shares and users
are in it, names and contents of files are not.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfsfs.cli.command import Command, Parser
from dfsfs.cli.exitcodes import SUCCESS, SYSTEM_ERROR
from dfsfs.cli.messages import MountError
from dfsfs.cli.output import json_text, show, show_json
from dfsfs.cli.versions import find_versions
from dfsfs.config.redaction import mask_secrets
from dfsfs.control.answers import CachedReferral, Domains, Status
from dfsfs.control.client import AT_ONCE, Patience, ask_with
from dfsfs.control.places import our_mounts, unescape
from dfsfs.control.protocol import ControlError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.control.places import MountEntry

MESSAGES = 500
"""Lines of the journal."""
_FSTAB_TYPES = re.compile(r"\s(fuse\.)?dfsfs\s")


def _make_parser() -> Parser:
    parser = Parser(
        "bugreport",
        "collects what a report of a problem needs, without secrets",
        about="Collects what a report of a problem needs, without secrets: versions, mounts and what their programs "
        "say, lines of fstab, the last messages. Names of servers and users are in it; have a look before you send it.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it; without, dfsfs-bugreport-TIME.json")
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    path = Path(arguments.output or time.strftime("dfsfs-bugreport-%Y%m%d-%H%M%S.json"))
    report = collect()
    if str(path) == "-":
        show_json(report)
        return SUCCESS
    try:
        with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(json_text(report) + "\n")
    except OSError as error:
        raise MountError(SYSTEM_ERROR, f"{path} can't be written: {error.strerror}") from None
    show([f"written to {path}; it names servers, shares and users, so look through it before you send it"])
    return SUCCESS


def collect() -> dict[str, Any]:
    """The report."""
    patience = Patience(AT_ONCE)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": find_versions(),
        "system": {
            "release": _read("/etc/os-release"),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "user": os.geteuid(),
            "fusermount3": shutil.which("fusermount3"),
            "mount helper": _link("/sbin/mount.dfsfs"),
            "fuse.conf": _read("/etc/fuse.conf"),
        },
        "fstab": [clean_fstab(line) for line in (_read("/etc/fstab") or "").splitlines() if _FSTAB_TYPES.search(line)],
        "mounts": [_mount(entry, patience) for entry in our_mounts()],
        "messages": _messages(),
    }


def clean_fstab(line: str) -> str:
    """A line of fstab, also one that is commented out, without the passwords in it."""
    return "".join(map(_clean_field, re.split(r"(\s+)", line.strip())))


def _clean_field(field: str) -> str:
    plain = unescape(field)
    clean = mask_secrets(plain)
    return field if clean == plain else re.sub(r"\s", lambda found: f"\\{ord(found[0]):03o}", clean)


_ASKED: tuple[tuple[str, Any], ...] = (
    ("status", Status),
    ("cache.show", tuple[CachedReferral, ...]),
    ("domain.show", Domains),
)


def _mount(entry: MountEntry, patience: Patience) -> dict[str, Any]:
    about: dict[str, Any] = {"path": entry.mountpoint, "unc": entry.source, "owner": entry.owner}
    for command, kind in _ASKED:
        try:
            about[command] = ask_with(patience, kind, entry, command).raw
        except ControlError as error:
            about[command] = f"no answer: {error}"
    return about


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return None if isinstance(error, FileNotFoundError) else f"({error.strerror})"


def _link(path: str) -> str | None:
    return os.path.realpath(path) if os.path.lexists(path) else None


def _messages() -> list[str] | str:
    if shutil.which("journalctl") is None:
        return "there is no journalctl here"
    words = ["journalctl", "--no-pager", "-q", "-n", str(MESSAGES), "-t", "mount.dfsfs"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"journalctl: {error}"
    return done.stdout.splitlines() if done.returncode == 0 else done.stderr.strip()


COMMAND = Command("bugreport", _make_parser, _run)

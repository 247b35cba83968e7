"""The command `dfsfs logout`: forgets what `dfsfs login` has kept, and ends the sessions that were made with it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, warn
from dfsfs.cli.commands.login import parse_place
from dfsfs.cli.exitcodes import SUCCESS, SYSTEM_ERROR
from dfsfs.cli.messages import MountError
from dfsfs.config.errors import ConfigError
from dfsfs.control.places import LOGOUT_XATTR, our_mounts

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


ANSWERING = 10.0
"""Seconds that mounts get to end sessions."""
LATER = "sessions there end when they were not used for ten minutes"


def _make_parser() -> Parser:
    parser = Parser(
        "logout",
        "forgets what login has kept",
        about="Forgets what `dfsfs login` has kept, and ends the sessions that were made with it: files that are open "
        "can't be used any more.",
    )
    parser.add_argument("place", metavar="//DOMAIN-OR-SERVER")
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from dfsfs.errors import DfsfsError
    from dfsfs.smb.auth import keyring

    place = parse_place(arguments.place)
    try:
        if not keyring.remove(place):
            raise ConfigError(f"no login for //{place} is kept")
    except DfsfsError as error:
        raise MountError(SYSTEM_ERROR, str(error)) from None
    _end_sessions()
    return SUCCESS


def _end_sessions() -> None:
    """Has all mounts for many users end the sessions of this user that were made with what is gone now. Such mounts are
    root's.
    """
    try:
        found = {entry.mountpoint for entry in our_mounts() if entry.owner == 0}
    except OSError as error:
        warn(f"/proc/self/mountinfo can't be read: {error.strerror}; {LATER}")
        return
    # A mount that does not answer holds the process that asks it, all threads of it, until it does. Not this one.
    asking = {mountpoint: _ask_to_end(mountpoint) for mountpoint in found}
    deadline = time.monotonic() + ANSWERING
    for mountpoint, process in asking.items():
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            warn(f"the mount on {mountpoint} does not answer; {LATER}")


def _ask_to_end(mountpoint: str) -> subprocess.Popen[bytes]:
    """A process that has a mount end the sessions of this user. Whether it is one for many users does not matter."""
    words = [sys.executable, "-I", "-S", "-c", "import os, sys; os.getxattr(*sys.argv[1:])", mountpoint, LOGOUT_XATTR]
    nothing = subprocess.DEVNULL
    return subprocess.Popen(words, env={}, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


COMMAND = Command("logout", _make_parser, _run)

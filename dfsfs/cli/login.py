"""The commands `dfsfs login` and `dfsfs logout`: logins of users for mounts of many users (multiuser, sec=ntlmssp).

They are kept in the kernel's keyring of whoever runs this: see smb/auth/keyring.py. Nothing is asked of a server; a
wrong password shows when the mount is used.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, warn
from dfsfs.cli.configure import login_name, terminal
from dfsfs.cli.messages import SUCCESS, SYSTEM_ERROR, MountError
from dfsfs.cli.output import show
from dfsfs.cli.secrets import Surroundings, obtain_credentials
from dfsfs.config import ConfigError, split_username
from dfsfs.config.model import ParsedOptions
from dfsfs.control.places import LOGOUT_XATTR, our_mounts

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


ANSWERING = 10.0
"""Seconds that mounts get to end sessions."""
LATER = "sessions there end when they were not used for ten minutes"


def _login_parser() -> Parser:
    parser = Parser(
        "login",
        "keeps your user and password, for mounts of many users",
        about="Keeps a user and password for mounts with the option multiuser, in your keyring in the kernel: it is "
        "never written to disk, nobody else can read it, and it is gone after a restart, or when it was not used for "
        "some days. The password is asked for, or comes from where mount.dfsfs takes it: PASSWD_FD, PASSWD_FILE.",
    )
    parser.add_argument("place", metavar="//DOMAIN-OR-SERVER")
    parser.add_argument("-u", "--user", metavar="[DOMAIN/]USER", help="who to log in as; without, your own name")
    return parser


def _login(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from dfsfs.errors import DfsfsError
    from dfsfs.smb.auth import keyring

    place = _place(arguments.place)
    domain, user = split_username(arguments.user) if arguments.user is not None else (None, None)
    options = ParsedOptions(username=user, domain=domain if domain is not None else _as_domain(place))
    surroundings = Surroundings(os.environ, login_name, terminal(), warn)
    credentials = obtain_credentials(options, f"//{place}", surroundings)
    try:
        keyring.store(place, credentials)
    except DfsfsError as error:
        raise MountError(SYSTEM_ERROR, str(error)) from None
    show([f"dfsfs: the login of {credentials.principal} for //{place} is kept"])
    return SUCCESS


def _logout_parser() -> Parser:
    parser = Parser(
        "logout",
        "forgets what login has kept",
        about="Forgets what `dfsfs login` has kept, and ends the sessions that were made with it: files that are open "
        "can't be used any more.",
    )
    parser.add_argument("place", metavar="//DOMAIN-OR-SERVER")
    return parser


def _logout(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from dfsfs.errors import DfsfsError
    from dfsfs.smb.auth import keyring

    place = _place(arguments.place)
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


def _place(text: str) -> str:
    """The name of the domain or server. Raises: ConfigError: it is none."""
    place = text.replace("\\", "/").strip("/")
    if not place or "/" in place or place.startswith("-"):
        raise ConfigError(f"{text!r} names no domain or server alone, as in //contoso.com")
    return place.lower()


def _as_domain(place: str) -> str:
    """The domain that a user is in if nothing else is said: the one that the login is for."""
    return place if "." in place else place.upper()


LOGIN = Command("login", _login_parser, _login)
LOGOUT = Command("logout", _logout_parser, _logout)

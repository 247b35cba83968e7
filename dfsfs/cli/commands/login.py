"""The command `dfsfs login`: keeps logins of users for mounts of many users (multiuser, sec=ntlmssp).

They are kept in the kernel's keyring of the user who runs this: see smb/auth/keyring.py. No server is asked; a wrong
password shows when the mount is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, warn
from dfsfs.cli.configure import login_name, terminal
from dfsfs.cli.exitcodes import SUCCESS, SYSTEM_ERROR
from dfsfs.cli.messages import MountError
from dfsfs.cli.output import show
from dfsfs.cli.secrets import Surroundings, obtain_credentials
from dfsfs.config.credentials import split_username
from dfsfs.config.errors import ConfigError
from dfsfs.config.model import ParsedOptions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def _make_parser() -> Parser:
    parser = Parser(
        "login",
        "keeps your user and password, for mounts of many users",
        about="Keeps a user and password for mounts with the option multiuser, in your keyring in the kernel: it is "
        "never written to disk, no other user can read it, and it is gone after a restart, or when it was not used for "
        "some days. The password is asked for, or comes from where mount.dfsfs takes it: PASSWD_FD, PASSWD_FILE.",
    )
    parser.add_argument("place", metavar="//DOMAIN-OR-SERVER")
    parser.add_argument("-u", "--user", metavar="[DOMAIN/]USER", help="who to log in as; without, your own name")
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    from dfsfs.errors import DfsfsError
    from dfsfs.smb.auth import keyring

    place = parse_place(arguments.place)
    domain, user = split_username(arguments.user) if arguments.user is not None else (None, None)
    options = ParsedOptions(username=user, domain=domain if domain is not None else _domain_of(place))
    surroundings = Surroundings(os.environ, login_name, terminal(), warn)
    credentials = obtain_credentials(options, f"//{place}", surroundings)
    try:
        keyring.store(place, credentials)
    except DfsfsError as error:
        raise MountError(SYSTEM_ERROR, str(error)) from None
    show([f"dfsfs: the login of {credentials.principal} for //{place} is kept"])
    return SUCCESS


def parse_place(text: str) -> str:
    """The name of the domain or server. Raises: ConfigError: it is none."""
    place = text.replace("\\", "/").strip("/")
    if not place or "/" in place or place.startswith("-"):
        raise ConfigError(f"{text!r} names no domain or server alone, as in //contoso.com")
    return place.lower()


def _domain_of(place: str) -> str:
    """The domain that a user is in if nothing else is said: the one that the login is for."""
    return place if "." in place else place.upper()


COMMAND = Command("login", _make_parser, _run)

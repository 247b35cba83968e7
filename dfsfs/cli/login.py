"""The commands `dfsfs login` and `dfsfs logout`: logins of users for mounts of many users (multiuser, sec=ntlmssp).

They are kept in the kernel's keyring of whoever runs this: see smb/keyring.py. Nothing is asked of a server; a wrong
password shows when the mount is used.
"""

from __future__ import annotations

import getopt
import os
import sys
from typing import TYPE_CHECKING

from dfsfs.cli.configure import login_name, terminal
from dfsfs.cli.messages import SUCCESS, SYSTEM_ERROR, USAGE, MountError, Verdict, one_line
from dfsfs.cli.secrets import Surroundings, obtain_credentials
from dfsfs.config import ConfigError, split_username
from dfsfs.config.model import ParsedOptions
from dfsfs.errors import DfsfsError
from dfsfs.smb import keyring

if TYPE_CHECKING:
    from collections.abc import Sequence

LOGIN_SYNOPSIS = "dfsfs login //DOMAIN-OR-SERVER [-u [DOMAIN/]USER]"
LOGIN_HELP = f"""\
usage: {LOGIN_SYNOPSIS}

Keeps a user and password for mounts with the option multiuser, in your keyring in the kernel: it is never written to
disk, nobody else can read it, and it is gone after a restart, or when it was not used for some days. The password is
asked for, or comes from where mount.dfsfs takes it: PASSWD_FD, PASSWD_FILE.

  -u, --user NAME   who to log in as; without, your own name"""
LOGOUT_SYNOPSIS = "dfsfs logout //DOMAIN-OR-SERVER"
LOGOUT_HELP = f"""\
usage: {LOGOUT_SYNOPSIS}

Forgets what `dfsfs login` has kept. Sessions that are there end when they were not used for ten minutes."""


def login(words: Sequence[str]) -> int:
    """Runs `dfsfs login` and returns the exit code."""
    try:
        given, rest = getopt.gnu_getopt(list(words), "u:h", ["user=", "help"])
    except getopt.GetoptError as error:
        return _fail(Verdict(USAGE, f"{error.msg}; usage: {LOGIN_SYNOPSIS}"))
    if any(name in ("-h", "--help") for name, _ in given):
        print(LOGIN_HELP)
        return SUCCESS
    try:
        place = _place(rest, LOGIN_SYNOPSIS)
        domain, user = split_username(given[-1][1]) if given else (None, None)
        options = ParsedOptions(username=user, domain=domain if domain is not None else _as_domain(place))
        surroundings = Surroundings(os.environ, login_name, terminal(), _warn)
        credentials = obtain_credentials(options, f"//{place}", surroundings)
        keyring.store(place, credentials)
    except ConfigError as error:
        return _fail(Verdict(USAGE, str(error)))
    except MountError as error:
        return _fail(error.verdict)
    except DfsfsError as error:
        return _fail(Verdict(SYSTEM_ERROR, str(error)))
    print(f"dfsfs: the login of {credentials.principal} for //{place} is kept")
    return SUCCESS


def logout(words: Sequence[str]) -> int:
    """Runs `dfsfs logout` and returns the exit code."""
    if any(word in ("-h", "--help") for word in words):
        print(LOGOUT_HELP)
        return SUCCESS
    try:
        place = _place(words, LOGOUT_SYNOPSIS)
        if not keyring.remove(place):
            return _fail(Verdict(USAGE, f"no login for //{place} is kept"))
    except ConfigError as error:
        return _fail(Verdict(USAGE, str(error)))
    except DfsfsError as error:
        return _fail(Verdict(SYSTEM_ERROR, str(error)))
    return SUCCESS


def _place(words: Sequence[str], synopsis: str) -> str:
    """The name of the domain or server. Raises: ConfigError: it is none, or there are several."""
    if len(words) != 1:
        raise ConfigError(f"one domain or server is needed; usage: {synopsis}")
    place = words[0].replace("\\", "/").strip("/")
    if not place or "/" in place or place.startswith("-"):
        raise ConfigError(f"{words[0]!r} names no domain or server alone, as in //contoso.com")
    return place.lower()


def _as_domain(place: str) -> str:
    """The domain that a user is in if nothing else is said: the one that the login is for."""
    return place if "." in place else place.upper()


def _warn(text: str) -> None:
    print(f"dfsfs: warning: {one_line(text)}", file=sys.stderr)


def _fail(verdict: Verdict) -> int:
    print(f"dfsfs: {one_line(verdict.text)}", file=sys.stderr)
    return verdict.code

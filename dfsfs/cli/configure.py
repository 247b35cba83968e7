"""From options to a MountConfig: what the commands that log in to servers have in common."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from typing import TYPE_CHECKING

from dfsfs.cli import secrets
from dfsfs.cli.output import ask_hidden
from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.errors import ConfigError
from dfsfs.config.place import join_prefix
from dfsfs.config.redaction import extract_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.config.model import MountConfig, ParsedOptions
    from dfsfs.smb.auth.credentials import Login, Secret
    from dfsfs.unc import UncPath


def hide_passwords(
    texts: Sequence[str], words: Sequence[str], rebuild: Callable[[tuple[str, ...]], Sequence[str]]
) -> None:
    """Starts this program anew if a password can be seen in its command line or is in PASSWD.

    `texts` are those of its -o, `words` the whole command line, `rebuild` makes one of it with other texts.
    """
    kept: list[str] = []
    found: dict[str, Secret] = {}
    for text in texts:
        clean, here = extract_secrets(text)
        kept.append(clean)
        found |= here
    named = frozenset(found)
    if "password" not in found and "PASSWD" in os.environ:
        found["password"] = secrets.check_secret(os.environ["PASSWD"], "environment variable PASSWD")
    if found:
        variables = {"password": "PASSWD_FD", "password2": "PASSWD2_FD"}
        passwords = {variables[name]: secret for name, secret in found.items()}
        secrets.restart_without(words, rebuild(tuple(kept)), passwords, named)


def configure(unc: UncPath, options: ParsedOptions, warn: Callable[[str], None]) -> MountConfig:
    """Finds out who logs in, and puts the configuration for a path together, with prefixpath= behind it.

    Raises:
        ConfigError: something of the options, a file that they name or the environment makes no sense.
        MountError: a file can't be read.
    """
    unc = join_prefix(unc, options)
    surroundings = secrets.Surroundings(os.environ, login_name, terminal(), warn)
    credentials: Login
    if options.security == "ntlmssp":
        credentials = secrets.obtain_credentials(options, str(unc), surroundings)
    else:
        from dfsfs.cli.kerberos import kerberos_login  # needs the library of Kerberos, which others do not

        credentials = kerberos_login(options, surroundings)
    mounter = Mounter(
        os.getuid(), os.getgid(), lambda name: pwd.getpwnam(name).pw_uid, lambda name: grp.getgrnam(name).gr_gid
    )
    return make_config(unc, options, credentials, mounter)


def login_name() -> str:
    """The name of the user who runs this. Raises ConfigError: there is none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise ConfigError("no user is given and this one has no name; use username=") from None


def terminal() -> Callable[[str], str] | None:
    """Asks for a password; None where there is no terminal."""
    return ask_hidden if sys.stdin and sys.stdin.isatty() else None

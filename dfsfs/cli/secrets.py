"""Where passwords come from, and where they must not be seen.

A password given with -o is in the command line of this process, which all users can read in /proc. The only way to
change that text is to start the program anew: `restart_without` does so with the password in a pipe, whose number is in
PASSWD_FD. A password in the environment variable PASSWD goes the same way: the daemon should not have it there for
good.

    -o password=  >  PASSWD  >  PASSWD_FD  >  PASSWD_FILE  >  the file of credentials=  >  a question on the terminal
    -o username=  >  the file of credentials=  >  USER  >  the caller's login name
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.cli.exitcodes import SYSTEM_ERROR
from dfsfs.cli.messages import MountError, cannot_read
from dfsfs.cli.output import flush
from dfsfs.config.credentials import CredentialsFile, parse_credentials, split_username
from dfsfs.config.errors import ConfigError
from dfsfs.config.values import MAX_PASSWORD
from dfsfs.config.values import password as check_password
from dfsfs.config.values import username as check_username
from dfsfs.smb.auth.credentials import Credentials, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dfsfs.config.model import ParsedOptions

_MAX_FILE = 64 * 1024
"""Bytes of a credentials file; more is some other file."""


NAMED = "PASSWD_NAMED"
"""The environment variable with the options that a restart has taken away: it still counts that they were there."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the answer depends on besides the options."""

    environ: Mapping[str, str]
    login_name: Callable[[], str]
    ask: Callable[[str], str] | None
    """Asks for a password on the terminal; None where there is no terminal."""
    warn: Callable[[str], None]


def obtain_credentials(options: ParsedOptions, place: str, surroundings: Surroundings) -> Credentials:
    """Who to log in as at `place` (for the question on the terminal).

    Raises:
        ConfigError: a file or variable has something else in it than it should, or there is no password.
        MountError: a file can't be read.
    """
    file = _file_of(options, surroundings)
    domain, username = _user(options, file, surroundings)
    password = Secret("") if options.guest else _find_password(options, file, surroundings)
    if password is None:
        user = f"{domain}\\{username}" if domain else username
        password = _ask_password(user, place, surroundings)
    return Credentials(username, password, domain, _find_second_password(options, file, surroundings))


def find_given_login(options: ParsedOptions, surroundings: Surroundings) -> tuple[str, str, Secret | None]:
    """Domain, user and password, as far as they were given: nothing is asked for or taken from the user who runs this.

    Raises:
        ConfigError, MountError: as for `obtain_credentials`.
    """
    file = _file_of(options, surroundings)
    password = _find_password(options, file, surroundings)
    domain = options.domain if options.domain is not None else file.domain
    return domain or "", options.username or file.username or "", password


def find_new_login(
    options: ParsedOptions, named: Collection[str], place: str, surroundings: Surroundings
) -> dict[str, str]:
    """What a remount changes of a login: `username`, `domain`, `password` and `password2`, as far as the options,
    whose fields `named` has, are about them.

    Raises:
        ConfigError, MountError: as for `obtain_credentials`.
    """
    file = _file_of(options, surroundings) if "credentials_file" in named else CredentialsFile()
    username = options.username if "username" in named else file.username
    domain = options.domain if options.domain is not None else file.domain
    password: Secret | None = None
    if "guest" in named:
        password = Secret("")
    elif "password" in named or "username" in named or file.password is not None:
        password = _find_password(options, file, surroundings)
    if password is None and ({"password", "username", "credentials_file"} & set(named)):
        password = _ask_password(username or "the user who is logged in", place, surroundings)
    password2 = _find_second_password(options, file, surroundings)
    found = {"username": username, "domain": domain}
    found |= {"password": None if password is None else password.reveal()}
    found |= {"password2": password2.reveal() if "password2" in named or file.password2 is not None else None}
    return {name: value for name, value in found.items() if value is not None}


def fields_in_restart(environ: Mapping[str, str]) -> frozenset[str]:
    """The fields of options with passwords that were in the command line before this program was started anew."""
    return frozenset(filter(None, environ.get(NAMED, "").split(",")))


def _file_of(options: ParsedOptions, surroundings: Surroundings) -> CredentialsFile:
    if options.credentials_file is None:
        return CredentialsFile()
    return _read_credentials(options.credentials_file, surroundings)


def _find_password(options: ParsedOptions, file: CredentialsFile, surroundings: Surroundings) -> Secret | None:
    if options.password is not None:
        return options.password
    found = _password_of_environment(surroundings)
    return file.password if found is None else found


def _find_second_password(options: ParsedOptions, file: CredentialsFile, surroundings: Surroundings) -> Secret:
    """The one of password2=, empty if there is none."""
    if options.password2 is not None:
        return options.password2
    if "PASSWD2_FD" in surroundings.environ:
        return _password_of_descriptor(surroundings.environ["PASSWD2_FD"], "PASSWD2_FD")
    return file.password2 or Secret("")


def _user(options: ParsedOptions, file: CredentialsFile, surroundings: Surroundings) -> tuple[str, str]:
    """Domain and name."""
    name, domain = options.username, options.domain
    if name is None:
        name = file.username
    if domain is None:
        domain = file.domain
    if name is None:
        try:
            own_domain, name = split_username(check_username(surroundings.environ.get("USER", "")))
        except ValueError as error:
            raise ConfigError(f"environment variable USER: {error}") from None
        if domain is None:
            domain = own_domain
    return domain or "", name or surroundings.login_name()


# -- passwords --------------------------------------------------------------------------------------------------------


def _password_of_environment(surroundings: Surroundings) -> Secret | None:
    environ = surroundings.environ
    if "PASSWD" in environ:
        return check_secret(environ["PASSWD"], "environment variable PASSWD")
    if "PASSWD_FD" in environ:
        return _password_of_descriptor(environ["PASSWD_FD"], "PASSWD_FD")
    if "PASSWD_FILE" in environ:
        return _first_line(_read(environ["PASSWD_FILE"], "PASSWD_FILE", surroundings), environ["PASSWD_FILE"])
    return None


def _password_of_descriptor(number: str, variable: str) -> Secret:
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise ConfigError(f"environment variable {variable} is not the number of a file descriptor")
    what = f"file descriptor {number} ({variable})"
    try:
        with open(int(number), "rb", buffering=0) as source:
            return _first_line(source.readline(_MAX_FILE), what)
    except OSError as error:
        raise cannot_read(what, error) from None


def _first_line(data: bytes, what: str) -> Secret:
    line = data.split(b"\n", 1)[0].split(b"\0", 1)[0].removesuffix(b"\r")
    return check_secret(_decode(line, what), what)


def check_secret(text: str, what: str) -> Secret:
    try:
        return Secret(check_password(text))
    except ValueError as error:
        raise ConfigError(f"the password of {what}: {error}") from None


def _ask_password(user: str, place: str, surroundings: Surroundings) -> Secret:
    if surroundings.ask is None:
        ways = "use credentials=FILE or the environment variable PASSWD"
        raise ConfigError(f"no password is given for user {user!r}, and there is no terminal to ask for it; {ways}")
    try:
        return check_secret(surroundings.ask(f"Password for {user} at {place}: "), "the terminal")
    except EOFError:
        raise ConfigError(f"no password is given for user {user!r}") from None


# -- files ------------------------------------------------------------------------------------------------------------


def _read_credentials(path: str, surroundings: Surroundings) -> CredentialsFile:
    text = _decode(_read(path, "the credentials file", surroundings), path)
    found = parse_credentials(text, path)
    for number in found.spaced:
        surroundings.warn(f"{path} line {number}: the value begins with the space after the =, as for mount.cifs")
    return found


def _read(path: str, what: str, surroundings: Surroundings) -> bytes:
    try:
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            data = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise cannot_read(f"{what} {path}", error if isinstance(error, OSError) else OSError(str(error))) from None
    if len(data) > _MAX_FILE:
        raise ConfigError(f"{what} {path} is too long to be one")
    if stat.S_ISREG(about.st_mode) and about.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        others = "all users" if about.st_mode & stat.S_IROTH else "its group"
        surroundings.warn(f"{path} has a password and can be read by {others}; chmod 600 {path}")
    return data


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not UTF-8") from None


# -- hiding -----------------------------------------------------------------------------------------------------------


def restart_without(
    arguments: Sequence[str], replacement: Sequence[str], passwords: Mapping[str, Secret], named: Collection[str]
) -> None:
    """Starts this program anew with `replacement` instead of `arguments`, and each password in a pipe, whose number is
    in the environment variable that it goes by. `named`: the fields that options in `arguments` were about.

    Returns only where `arguments` did not come from the command line, so that nothing can be seen there.

    Raises:
        MountError: the program can't be started.
    """
    command = sys.orig_argv
    kept = len(command) - len(arguments)
    if kept < 1 or command[kept:] != list(arguments):
        return
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PASSWD")}
    environ[NAMED] = ",".join(sorted(named))
    for variable, password in passwords.items():
        data = password.reveal().encode("utf-8") + b"\n"
        assert len(data) <= 4 * MAX_PASSWORD + 1, "more might not fit the pipe, which is not read yet"
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        os.set_inheritable(reader, True)
        environ[variable] = str(reader)
    flush()
    try:
        os.execve(sys.executable, [*command[:kept], *replacement], environ)
    except OSError as error:
        raise MountError(SYSTEM_ERROR, f"can't start {sys.executable} anew: {error.strerror}") from None

"""Credentials files, as for mount.cifs, and users with their domain. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfsfs.config.errors import ConfigError
from dfsfs.config.values import password as check_password
from dfsfs.config.values import sendable_text as check_sendable
from dfsfs.smb.auth.credentials import Secret

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class CredentialsFile:
    """What a credentials file says; None for what it doesn't."""

    username: str | None = None
    password: Secret | None = None
    domain: str | None = None
    password2: Secret | None = None
    spaced: tuple[int, ...] = ()
    """Lines like `name = value`, whose value begins with that space."""


def split_username(text: str) -> tuple[str | None, str]:
    """`DOMAIN/NAME` or `DOMAIN\\NAME` as domain and name; None for a name without a domain."""
    domain, separator, name = text.replace("\\", "/").partition("/")
    return (domain, name) if separator else (None, text)


def parse_credentials(text: str, file_name: str) -> CredentialsFile:
    """Reads the text of a credentials file: lines `username=`, `password=`, `password2=` and `domain=`.

    As for mount.cifs, spaces and tabs before a line's name and the case of the name don't matter, a name may go on
    after `user`, `pass` and `dom`, and the value is all that stands after the first `=`, spaces and commas and all.
    Empty lines and those that begin with # or ; are comments.

    Raises:
        ConfigError: a line is none of these. The message has its number and nothing of its text.
    """
    found = CredentialsFile()
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        name, equals, value = line.removesuffix("\r").lstrip(" \t").partition("=")
        if line.strip() == "" or name.startswith(("#", ";")):
            continue
        place, name = f"{file_name} line {number}", name.lower() if equals else ""
        if name.startswith("user"):
            domain, user = split_username(_check(value, check_sendable, place))
            found = replace(found, username=user or None, domain=found.domain if domain is None else domain)
        elif name.startswith(("pass2", "password2")):
            found = replace(found, password2=Secret(_check(value, check_password, place)))
        elif name.startswith("pass"):
            found = replace(found, password=Secret(_check(value, check_password, place)))
        elif name.startswith("dom") or name.rstrip() == "workgroup":
            found = replace(found, domain=_check(value, check_sendable, place))
        else:
            raise ConfigError(f"{place}: a line has to begin with username=, password=, password2= or domain=")
        if name.endswith((" ", "\t")) and value.startswith((" ", "\t")):
            found = replace(found, spaced=(*found.spaced, number))
    return found


def _check(text: str, check: Callable[[str], str], place: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None

"""What is mounted: the first argument of mount.dfsfs, and prefixpath=. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dfsfs.config.errors import ConfigError
from dfsfs.config.values import sendable_text as check_sendable
from dfsfs.unc import UncError, UncPath, parse_address

if TYPE_CHECKING:
    from dfsfs.config.model import ParsedOptions


def parse_unc(text: str) -> UncPath:
    """Reads what is to be mounted: `//server/share`, with folders after it, with slashes or backslashes.

    fstab(5) has `\\040` for a space, and so for tab, newline and backslash. As a share's name may begin with 040, the
    escapes count only where the text has slashes.

    An IPv6 address may be in brackets, as in a URL; they are no part of it.

    Raises:
        ConfigError: it names no share, or a user.
    """
    # What stands before an @ may be a password.
    shown = "the first argument" if "@" in text else repr(text)
    if text.startswith("//"):
        text = re.sub(r"\\(040|011|012|134)", lambda match: chr(int(match[1], 8)), text)
    elif not text.startswith("\\\\"):
        raise ConfigError(f"{shown} is not of the form //SERVER/SHARE or //DOMAIN/NAMESPACE")
    try:
        path = UncPath.parse(check_sendable(text))
    except ValueError as error:
        raise ConfigError(f"{shown} is not of the form //SERVER/SHARE: {error}") from None
    if "@" in path.host:
        raise ConfigError("a server's name has no @ in it; user and password are options: -o username=NAME")
    if len(path) < 2:
        raise ConfigError(f"{path} names a server only; a share or namespace is needed, as in {path}/NAME")
    if path.host.startswith("["):
        address = parse_address(path.host)
        if address is None:
            raise ConfigError(f"{path.host} is no IPv6 address in brackets")
        path = UncPath((address, *path.components[1:]))
    return path


def join_prefix(unc: UncPath, options: ParsedOptions) -> UncPath:
    """What is mounted: the path that was given, and what prefixpath= puts behind it. Raises ConfigError."""
    try:
        return unc.join(options.prefix_path)
    except UncError as error:
        raise ConfigError(f"option 'prefixpath={'/'.join(options.prefix_path)}': {error}") from None

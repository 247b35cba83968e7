"""The values of mount options: one function for each kind of text, all of them pure.

A function here takes the text after the `=` and returns the value, or raises ValueError with what is wrong, in words
that go on from `option 'NAME=TEXT': `.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from dfsfs.filetime import parse_gmt_token
from dfsfs.unc import UncError, UncPath, fold_name, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

MAX_PASSWORD = 512
"""Characters; what mount.cifs takes. Fits the buffer of a pipe in any encoding."""

NOT_YET = "this release of dfsfs does not have that yet"

MAX_ID = 2**32 - 2
"""The highest user or group number. 2**32 - 1 means "no change" to chown(2)."""

_WHOLE = re.compile(r"[0-9]{1,15}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_MODE = re.compile(r"0{0,2}[0-7]{1,4}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def number(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`, in decimal digits."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"it has to be a whole number from {low} to {high}")
        return int(text)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A time in seconds, which may have a fraction."""

    def parse(text: str) -> float:
        if not _SECONDS.fullmatch(text) or not low <= float(text) <= high:
            raise ValueError(f"it has to be a number of seconds from {low:g} to {high:g}")
        return float(text)

    return parse


def mode(text: str) -> int:
    """Permission bits in octal."""
    if not _MODE.fullmatch(text):
        raise ValueError("it has to be a mode in octal, like 0755")
    return int(text, 8)


def account(text: str) -> int | str:
    """A user or group, as its number or its name."""
    if _WHOLE.fullmatch(text):
        if int(text) > MAX_ID:
            raise ValueError(f"the highest number is {MAX_ID}")
        return int(text)
    return plain_text(text)


def plain_text(text: str) -> str:
    """Any text without control characters."""
    if _CONTROL.search(text):
        raise ValueError("there is a control character in it")
    return text


def sendable_text(text: str) -> str:
    """A text that can go to a server: Unicode, and without control characters."""
    _check_unicode(text)
    return plain_text(text)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("there is a byte in it that is no UTF-8") from None


def password(text: str) -> str:
    """A password. What a terminal or a line of a file cannot give is more likely a mistake."""
    if re.search(r"[\0\r\n]", text):
        raise ValueError("there is a line break or a NUL character in it")
    if len(text) > MAX_PASSWORD:
        raise ValueError(f"it has more than {MAX_PASSWORD} characters")
    _check_unicode(text)
    return text


def username(text: str) -> str:
    """A user's name. `NAME%PASSWORD`, as old programs took it, would be sent and shown with the password in it."""
    if "%" in text:
        raise ValueError("a password after % is not taken; use password= or credentials=")
    return sendable_text(text)


def choice(values: Mapping[str, T], refused: Mapping[str, str] | None = None) -> Callable[[str], T]:
    """One of some words. `refused` has the reasons for words that mean something and are not taken."""

    def parse(text: str) -> T:
        if text in values:
            return values[text]
        if refused is not None and text in refused:
            raise ValueError(refused[text])
        raise ValueError("it has to be one of " + ", ".join(values))

    return parse


def address(text: str) -> str:
    """An IPv4 or IPv6 address, the latter with a zone if need be, and in brackets or not."""
    found = parse_address(text)
    if found is None:
        raise ValueError("it has to be an IP address")
    return found


def listen_address(text: str) -> str:
    """`ADDRESS:PORT`, `:PORT`, or the path of a Unix socket."""
    if text.startswith("/"):
        return plain_text(text)
    host, colon, port = text.rpartition(":")
    if not colon or not _WHOLE.fullmatch(port) or not 0 < int(port) < 65536:
        raise ValueError("it has to be ADDRESS:PORT, :PORT for this computer alone, or the path of a Unix socket")
    return f"[{address(host)}]:{port}" if ":" in host else f"{address(host) if host else ''}:{port}"


def host_list(text: str) -> tuple[str, ...]:
    """`HOST[:HOST...]`: names of servers."""
    names = tuple(filter(None, sendable_text(text).split(":")))
    if not names or any(re.search(r"[/\\\s]", name) for name in names):
        raise ValueError("it has to be the name of a server, and more of them after colons")
    return names


def globs(text: str) -> tuple[str, ...]:
    """`PATTERN[;PATTERN...]`: patterns of host names, with * and ?."""
    patterns = tuple(filter(None, sendable_text(text).split(";")))
    if not patterns or any(re.search(r"[/\\\s]", pattern) for pattern in patterns):
        raise ValueError("it has to be a pattern of host names like fs*.berlin.contoso.com, and more after semicolons")
    return patterns


def suffixes(text: str) -> tuple[str, ...]:
    """`DOMAIN[;DOMAIN...]`: names of domains in DNS."""
    names = tuple(name.strip(".") for name in sendable_text(text).split(";") if name)
    if not names or any(not name or re.search(r"[/\\\s:]", name) for name in names):
        raise ValueError("it has to be a domain in DNS like contoso.com, and more after semicolons")
    return names


def pin(text: str) -> dict[str, UncPath]:
    """`PATH:TARGET`: a path of the namespace, and the UNC path to use for it."""
    match = re.fullmatch(r"(.+?):((?://|\\\\).+)", sendable_text(text))
    if match is None:
        raise ValueError("it has to be PATH:TARGET, like software/tools://fs1/tools")
    try:
        target = UncPath.parse(match[2])
        target.share  # noqa: B018 - raises if there is none
    except UncError as error:
        raise ValueError(f"the target {match[2]!r}: {error}") from None
    return {match[1]: target}


def prefix_path(text: str) -> tuple[str, ...]:
    """`FOLDER[/FOLDER...]`, with slashes or backslashes, also at its beginning and end."""
    names = tuple(part for part in re.split(r"[/\\]", sendable_text(text)) if part)
    if not names or any(name in (".", "..") for name in names):
        raise ValueError("it has to be a folder below the share, like docs/manuals")
    return names


def hosts(text: str) -> dict[str, str]:
    """`NAME:ADDRESS[;NAME:ADDRESS...]`: fixed addresses of servers, by folded name. An IPv6 address as name is in
    brackets.
    """
    found = {}
    for pair in filter(None, text.split(";")):
        match = re.fullmatch(r"\[([^\]]*)\]:(.*)", pair)
        name, colon, literal = (match[1], ":", match[2]) if match else pair.partition(":")
        if not name or not colon:
            raise ValueError("it has to be NAME:ADDRESS, and more of them after semicolons")
        try:
            found[fold_name(plain_text(parse_address(name) or name))] = address(literal)
        except ValueError:
            raise ValueError(f"the address of {name!r} has to be an IP address") from None
    if not found:
        raise ValueError("it has to be NAME:ADDRESS, and more of them after semicolons")
    return found


def parse_snapshot_time(text: str) -> int:
    """The time of a snapshot: its name, or a number of 100 ns since 1601, as mount.cifs takes them."""
    found = int(text) if re.fullmatch("[0-9]{1,19}", text) else parse_gmt_token(text)
    if found is None or not 0 < found < 2**63:
        raise ValueError("it has to be a time like @GMT-2024.02.29-12.00.00, in UTC, or a number of 100 ns since 1601")
    return found

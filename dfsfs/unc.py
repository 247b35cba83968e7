"""UncPath: the one type in which dfsfs holds, compares, joins and splits UNC paths (MS-DFSC 2.2.1).

A path is a tuple of components, `("contoso", "public", "a")`, compared component by component: `//srv/ns/linked` is
not below `//srv/ns/link`. On the wire a path has exactly one leading backslash and no trailing one (`\\srv\\ns`);
people see `//srv/ns`.

The names of hosts and shares have no case. What is below a share may have: of two links or folders `Case` and `case`
each is one of its own on a server that keeps them apart. So two paths are equal only if they are spelled alike below
the share. Whether another spelling leads to the same place is for the server to say, which costs a question; taken for
the same without one, it may be the wrong place. What people type is looked for in any case where nothing is spelled so.

Case is folded by the servers' own table (upcase.py), one UTF-16 code unit at a time: folding never changes a name's
length, so `straße` and `STRASSE` stay two names.

Nothing outside this module joins or splits paths with slashes or backslashes.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from dfsfs.upcase import UPPER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

T = TypeVar("T")


def is_unc(text: str) -> bool:
    """Whether a text names a place in a namespace, and not one of this computer: it begins with two slashes."""
    return text.startswith(("//", "\\\\"))


class UncError(ValueError):
    """A text that is not a UNC path; the message says what is wrong with it."""


@lru_cache(maxsize=8192)
def fold_name(name: str) -> str:
    """One component in the form in which two spellings of the same name are equal."""
    if name.isascii():
        return name.upper()
    return name.translate(UPPER)


def _check(components: Iterable[str]) -> None:
    """Raises: UncError: one of them can't be a component of a UNC path."""
    for component in components:
        if not component or "\\" in component or "\0" in component:
            raise UncError(f"{component!r} can't be a component of a UNC path")


_new, _set = object.__new__, object.__setattr__  # as a frozen dataclass's own __init__ does


@dataclass(frozen=True, slots=True, eq=False)
class UncPath:
    """An immutable UNC path of at least one component; `str()` gives `//a/b`. Equality and hash ignore the case of host
    and share.
    """

    components: tuple[str, ...]
    key: tuple[str, ...] = field(init=False, repr=False)
    """Host and share folded, the rest as it is spelled: what equality, hash and prefix tests use."""

    def __post_init__(self) -> None:
        if not self.components:
            raise UncError("a UNC path needs a server name")
        _check(self.components)
        object.__setattr__(self, "key", (*map(fold_name, self.components[:2]), *self.components[2:]))

    @classmethod
    def parse(cls, text: str) -> UncPath:
        """Reads `//srv/share/a`, `\\\\srv\\share\\a` or a wire path with one or no leading backslash.

        Repeated and trailing separators count once or not at all.

        Raises:
            UncError: there is no component in it, or one with a NUL character.
        """
        return cls(tuple(part for part in text.replace("/", "\\").split("\\") if part))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UncPath) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __len__(self) -> int:
        return len(self.components)

    def __str__(self) -> str:
        return "//" + "/".join(self.components)

    @property
    def folded(self) -> tuple[str, ...]:
        """All components without case, for what may be spelled in another way."""
        return tuple(map(fold_name, self.components))

    @property
    def sort_key(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What lists for people are sorted by: other spellings of one path stand together."""
        return self.folded, self.key

    @property
    def host(self) -> str:
        """The first component: a server's or a domain's name."""
        return self.components[0]

    @property
    def share(self) -> UncPath:
        """The first two components.

        Raises:
            UncError: the path has only one.
        """
        if len(self.components) < 2:
            raise UncError(f"{self} names no share")
        return self if len(self.components) == 2 else UncPath(self.components[:2])

    @property
    def below_share(self) -> tuple[str, ...]:
        """The components after server and share; empty for the share itself."""
        return self.components[2:]

    @property
    def parent(self) -> UncPath:
        """The path without its last component.

        Raises:
            UncError: only one component is left.
        """
        return UncPath(self.components[:-1])

    @property
    def wire(self) -> str:
        """The form that MS-DFSC puts on the wire: `\\a\\b`."""
        return "\\" + "\\".join(self.components)

    def join(self, components: Iterable[str]) -> UncPath:
        """This path with more components below it. Raises: UncError: one of them can't be a component."""
        more = tuple(components)
        if len(self.components) < 2:
            return UncPath(self.components + more)
        # Each request does this: what is known of this path is not found out again.
        _check(more)
        path = _new(UncPath)
        _set(path, "components", self.components + more)
        _set(path, "key", self.key + more)
        return path

    def is_prefix_of(self, other: UncPath) -> bool:
        """Whether `other` is this path or lies below it, on whole components."""
        return other.key[: len(self.key)] == self.key

    def is_prefix_in_any_case_of(self, other: UncPath) -> bool:
        """The same without regard to case below the share. Only for paths that users have typed."""
        length = len(self.components)
        if length > len(other.components) or len(self.components[-1]) != len(other.components[length - 1]):
            return False  # folding keeps lengths: most of 50,000 links are told apart by that
        return self.folded == tuple(map(fold_name, other.components[:length]))

    def below(self, things: Iterable[T], path_of: Callable[[T], UncPath]) -> list[T]:
        """The things at or below this path, which a user has typed; if none is spelled so, those in any case."""
        known = [(thing, path_of(thing)) for thing in things]
        exact = [thing for thing, path in known if self.is_prefix_of(path)]
        return exact or [thing for thing, path in known if self.is_prefix_in_any_case_of(path)]

    def nearest_of(self, prefixes: Collection[UncPath]) -> list[UncPath]:
        """The longest of `prefixes` that this path begins with, in any case; of several that differ in case only the
        one that is spelled like the path, or all if none is.
        """
        exact = max((prefix for prefix in prefixes if prefix.is_prefix_of(self)), key=len, default=None)
        least = 0 if exact is None else len(exact)
        longer = [prefix for prefix in prefixes if len(prefix) > least and prefix.is_prefix_in_any_case_of(self)]
        longest = max(map(len, longer), default=0)
        nearest = [prefix for prefix in longer if len(prefix) == longest]
        return nearest or ([] if exact is None else [exact])

    def rest_of(self, other: UncPath) -> tuple[str, ...]:
        """The components of `other` below this path, in the case in which `other` has them.

        Raises:
            UncError: `other` is not below this path.
        """
        if not self.is_prefix_of(other):
            raise UncError(f"{other} is not below {self}")
        return other.components[len(self.components) :]

    def replace_prefix(self, prefix: UncPath, target: UncPath) -> UncPath:
        """This path with its leading `prefix` replaced by `target` (MS-DFSC 3.1.4.1 steps 3 and 11).

        Raises:
            UncError: this path does not begin with `prefix`.
        """
        return target.join(prefix.rest_of(self))

    def consumed_prefix(self, byte_count: int) -> UncPath | None:
        """The leading components that PathConsumed counts, in UTF-16 bytes of the wire form (MS-DFSC 2.2.4).

        None if the count does not end at a component's end within the path. A count that includes the backslash after
        the last of them is accepted: servers send it for requests with a trailing backslash.
        """
        total = 0
        for index, component in enumerate(self.components, start=1):
            total += 2 + len(component.encode("utf-16-le", "surrogatepass"))
            if byte_count in (total, total + 2):
                return UncPath(self.components[:index])
        return None


_LITERAL_DOMAIN = ".ipv6-literal.net"
"""Where Windows has IPv6 addresses in UNC paths, which know no colon: `fe80--1s4.ipv6-literal.net`. DNS does not."""


def parse_address(host: str) -> str | None:
    """The IP address, with the zone of a link-local one, by which a server is named: `10.0.0.1`, `::1`, `[::1]`,
    `[fe80::1%eth0]` or the form of Windows. None for a name.
    """
    text = host
    if host.startswith("[") and host.endswith("]"):
        text = host[1:-1]
        if ":" not in text:
            return None
    elif host.lower().endswith(_LITERAL_DOMAIN):
        text = host[: -len(_LITERAL_DOMAIN)].lower().replace("-", ":").replace("s", "%")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None

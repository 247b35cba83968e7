"""dfs_static=: a TOML file of namespaces that stands in for servers' referrals, or overrides some of them. Pure.

    [[namespace]]
    path = "//contoso/public"              # a root
    targets = ["//fs1/public"]             # without targets the root stays the servers', and only links are overridden
    ttl = 300                              # seconds; 300 for roots, 1800 for links
    failback = true                        # false if nothing is said

    [[namespace.link]]
    path = "software/tools"
    targets = [
      "//fs1/tools",
      { path = "//fs2/tools", priority = "global-low", rank = 3 },
    ]

Targets are ordered by priority class and rank (MS-DFSC 3.2.5.5); those that are alike in both are one target set, in
the order of the file. A link whose target is a namespace of the same file is marked as an interlink.

A link is entered by its name, in any case; of two links whose names differ in case only, by the one that is spelled so,
and otherwise by the first. To be seen in a listing it needs what it has on a Windows server, an empty folder of that
name in the root's share.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from dfsfs.dfsc.wire import HeaderFlags, ReferralEntry, ReferralResponse
from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncError, UncPath, is_unc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

PRIORITY_CLASSES = ("global-high", "site-cost-high", "site-cost-normal", "site-cost-low", "global-low")
"""Best first (MS-DFSC 3.2.5.5)."""
MAX_RANK = 31
ROOT_TTL, LINK_TTL = 300, 1800
"""Seconds: what Windows servers say."""
MAX_TTL = 2**32 - 1

_HEADER = re.compile(r"\s*\[\[?\s*([\w.\"-]+)\s*\]")
_KEY = re.compile(r"\s*\"?([\w-]+)\"?\s*=")


class StaticError(ValueError):
    """The file can't be used. One line: `FILE line N: what is wrong`."""


@dataclass(frozen=True, slots=True)
class StaticPlace:
    """A root or link of the file. Targets with whether they begin a target set."""

    path: UncPath
    is_root: bool
    ttl: int
    failback: bool
    targets: tuple[tuple[UncPath, bool], ...]
    interlink: bool

    def response(self, asked: UncPath) -> ReferralResponse:
        """The referral that a server would send (MS-DFSC 3.2.5.5)."""
        flags = HeaderFlags.REFERRAL_SERVERS if self.is_root or self.interlink else HeaderFlags(0)
        flags |= HeaderFlags(0) if self.interlink else HeaderFlags.STORAGE_SERVERS
        flags |= HeaderFlags.TARGET_FAIL_BACK if self.failback else HeaderFlags(0)
        covered = UncPath(asked.components[: len(self.path)])
        entries = tuple(
            ReferralEntry(self.is_root, self.ttl, first, target, covered.wire, covered.wire)
            for target, first in self.targets
        )
        return ReferralResponse(4, flags, covered, entries)


@dataclass(frozen=True, slots=True)
class StaticNamespaces:
    """The namespaces of a file. A root in `partial` has no targets there: its referrals come from servers."""

    roots: Mapping[UncPath, StaticPlace]
    links: Mapping[UncPath, StaticPlace]
    partial: frozenset[UncPath]
    in_any_case: Mapping[tuple[str, ...], StaticPlace] = field(init=False, repr=False)
    """The first link of each name, by its path without case."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "in_any_case", {link.path.folded: link for link in reversed(list(self.links.values()))}
        )

    def answer(self, path: UncPath, *, root: bool) -> ReferralResponse | None:
        """The answer to a root or link referral request for `path`; None if a server is to be asked.

        Raises:
            SmbError: OBJECT_PATH_NOT_FOUND, no link covers the path, and nobody else is to be asked.
        """
        if root:
            place = self.roots.get(path.share)
            return place.response(path) if place is not None else None
        link = self._link(path)
        if link is not None:
            return link.response(path)
        if path.share in self.roots:
            raise SmbError(
                NtStatus.OBJECT_PATH_NOT_FOUND, f"DFS referral for {path}, which dfs_static= has no link for"
            )
        return None

    def link_above(self, path: UncPath) -> UncPath | None:
        """The link at or above a path, spelled as the path is."""
        link = self._link(path)
        return None if link is None else UncPath(path.components[: len(link.path)])

    def _link(self, path: UncPath) -> StaticPlace | None:
        lengths = range(len(path), 2, -1)
        for length in lengths:
            if (exact := self.links.get(UncPath(path.components[:length]))) is not None:
                return exact
        folded = path.folded
        return next((link for length in lengths if (link := self.in_any_case.get(folded[:length]))), None)


def parse_static(text: str, name: str) -> StaticNamespaces:
    """Reads the text of a file; `name` is what errors call it.

    Raises:
        StaticError: it is no TOML, or says something that makes no sense.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StaticError(f"{name}: {error}") from None
    return _Reader(name, text).read(document)


class _Reader:
    """Turns the document into places. Errors name the line, which tomllib does not keep: the text is looked through."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._lines = _lines_of_tables(text)

    def read(self, document: Mapping[str, Any]) -> StaticNamespaces:
        top = _Table(self, document, self._line("", 0))
        top.only("namespace")
        roots: dict[UncPath, StaticPlace] = {}
        links: dict[UncPath, StaticPlace] = {}
        partial = set()
        link_number = 0
        for number, table in enumerate(top.tables("namespace")):
            namespace = _Table(self, table, self._line("namespace", number))
            namespace.only("path", "targets", "ttl", "failback", "link")
            path = namespace.unc("path")
            if len(path) != 2:
                raise namespace.error(
                    "path", f"{path} is no root: it has to be //SERVER/NAMESPACE or //DOMAIN/NAMESPACE"
                )
            if path in roots or path in partial:
                raise namespace.error("path", f"{path} is there twice")
            if "targets" in table:
                roots[path] = namespace.place(path, is_root=True)
            else:
                partial.add(path)
            for link_table in namespace.tables("link"):
                link = _Table(self, link_table, self._line("namespace.link", link_number))
                link_number += 1
                _add_link(links, path, link)
        if not roots and not links:
            raise StaticError(f"{self._name} has no [[namespace]] with targets, and no link")
        return StaticNamespaces(roots, _marked(links, {*roots, *partial}), frozenset(partial))

    def _line(self, table: str, number: int) -> dict[str, int]:
        found = self._lines.get(table, [])
        return found[number] if number < len(found) else {"": 1}

    def failure(self, line: int, text: str) -> StaticError:
        return StaticError(f"{self._name} line {line}: {text}")


def _add_link(links: dict[UncPath, StaticPlace], root: UncPath, table: _Table) -> None:
    table.only("path", "targets", "ttl", "failback")
    try:
        path = root.join(UncPath.parse(table.text("path")).components)
    except UncError as error:
        raise table.error("path", str(error)) from None
    for other in links:
        if other.is_prefix_of(path) or path.is_prefix_of(other):
            what = "is there twice" if other == path else f"and {other} can't both be links: one lies in the other"
            raise table.error("path", f"{path} {what}")
    links[path] = table.place(path, is_root=False)


def _marked(links: Mapping[UncPath, StaticPlace], namespaces: set[UncPath]) -> dict[UncPath, StaticPlace]:
    """The links, with those marked as interlinks that lead into a namespace of the file."""
    return {
        path: replace(link, interlink=all(target.share in namespaces for target, _ in link.targets))
        for path, link in links.items()
    }


class _Table:
    """One table of the file, and the lines of its keys."""

    def __init__(self, reader: _Reader, table: Mapping[str, Any], lines: Mapping[str, int]) -> None:
        self._reader = reader
        self._table = table
        self._lines = lines

    def error(self, key: str, text: str) -> StaticError:
        return self._reader.failure(self._lines.get(key, self._lines[""]), text)

    def only(self, *known: str) -> None:
        for key in self._table:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                raise self.error(key, f"unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else ""))

    def tables(self, key: str) -> Sequence[Mapping[str, Any]]:
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"{key} has to be written as [[{key}]]")
        return value

    def text(self, key: str) -> str:
        return self._get(key, str, "a text in quotes")

    def unc(self, key: str) -> UncPath:
        return self._unc(key, self.text(key))

    def place(self, path: UncPath, *, is_root: bool) -> StaticPlace:
        ttl = self._get("ttl", int, "a whole number of seconds", ROOT_TTL if is_root else LINK_TTL)
        if not 0 <= ttl <= MAX_TTL:
            raise self.error("ttl", f"ttl = {ttl}: it has to be from 0 to {MAX_TTL} seconds")
        failback = self._get("failback", bool, "true or false", False)
        targets = self._get("targets", list, "a list")
        if not targets:
            raise self.error("targets", f"{path} has no targets")
        ranked = [self._target(target) for target in targets]
        if len({target for _, target in ranked}) < len(ranked):
            raise self.error("targets", f"{path} has a target twice")
        return StaticPlace(path, is_root, ttl, failback, tuple(_in_sets(ranked)), interlink=False)

    def _target(self, value: object) -> tuple[tuple[int, int], UncPath]:
        table = {"path": value} if isinstance(value, str) else value
        if not isinstance(table, dict):
            raise self.error(
                "targets", "a target has to be a text in quotes, or { path = ..., priority = ..., rank = ... }"
            )
        target = _Table(self._reader, table, {"": self._lines.get("targets", self._lines[""])})
        target.only("path", "priority", "rank")
        priority = target._get("priority", str, "a text in quotes", "site-cost-normal")
        if priority not in PRIORITY_CLASSES:
            raise target.error("priority", f"priority {priority!r} has to be one of {', '.join(PRIORITY_CLASSES)}")
        rank = target._get("rank", int, "a whole number", 0)
        if not 0 <= rank <= MAX_RANK:
            raise target.error("rank", f"rank = {rank}: it has to be from 0, the best, to {MAX_RANK}")
        return (PRIORITY_CLASSES.index(priority), rank), target.unc("path")

    def _unc(self, key: str, text: str) -> UncPath:
        try:
            path = UncPath.parse(text)
            path.share  # noqa: B018 - raises if there is none
        except UncError as error:
            raise self.error(key, f"{text!r}: {error}") from None
        if not is_unc(text):
            raise self.error(key, f"{text!r} has to begin with //SERVER/SHARE")
        return path

    def _get(self, key: str, kind: type[T], what: str, default: T | None = None) -> T:
        value = self._table.get(key, default)
        if value is None:
            raise self.error(key, f"{key} is missing")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"{key} has to be {what}")
        return value


def _in_sets(ranked: Iterable[tuple[tuple[int, int], UncPath]]) -> Iterable[tuple[UncPath, bool]]:
    """The targets in order, with whether they begin a target set."""
    before: tuple[int, int] | None = None
    for rank, target in sorted(ranked, key=lambda item: item[0]):
        yield target, rank != before
        before = rank


def _lines_of_tables(text: str) -> dict[str, list[dict[str, int]]]:
    """For each name of tables these in order, with the line of each key; that of the table itself under ""."""
    found: dict[str, list[dict[str, int]]] = {"": [{"": 1}]}
    current = found[""][0]
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            current = {"": number}
            found.setdefault(header[1].replace('"', ""), []).append(current)
        elif key := _KEY.match(line):
            current.setdefault(key[1], number)
    return found

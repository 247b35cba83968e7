"""The commands `dfsfs cache` and `dfsfs domain`: what mounts know of namespaces and domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from dfsfs.cli.asking import good, our_own_mounts, the_mount
from dfsfs.cli.command import Command, Parser, add_json, shown_left, shown_time
from dfsfs.cli.messages import SUCCESS
from dfsfs.cli.output import show, show_json
from dfsfs.control.answers import CachedReferral, Domains, Flushed
from dfsfs.control.client import ANSWERING, Patience, ask, ask_each, mount_at
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from dfsfs.control.client import Answer
    from dfsfs.control.places import MountEntry

    Results = list[tuple[MountEntry, Answer[Any]]]

T = TypeVar("T")


def _add_mount(parser: Parser) -> None:
    text = "the mount to ask; without, show asks all, and flush the only one that there is"
    parser.add_argument("--mount", metavar="PATH", help=text)


def _cache_parser() -> Parser:
    parser = Parser("cache", "shows or empties the referral caches of mounts")
    parser.add_argument("action", choices=["show", "flush"])
    parser.add_argument("prefix", nargs="?", metavar="PATH", help="only what is at or below a path, local or UNC")
    _add_mount(parser)
    add_json(parser)
    return parser


def _cache(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries, prefix = _places(arguments.prefix, arguments.mount, every=arguments.action == "show")
    wanted = {"prefix": prefix} if prefix is not None else {}
    if arguments.action == "flush":
        flushed = ask(Flushed, entries[0], "cache.flush", **wanted)
        lines = [f"{flushed.said.flushed} referrals forgotten; what is used next is asked for again"]
        return _shown(flushed, lines, json=arguments.json)
    found, code = good(ask_each(Patience(ANSWERING), tuple[CachedReferral, ...], entries, "cache.show", **wanted))
    if arguments.json:
        show_json([{**row, "mount": entry.mountpoint} for entry, answer in found for row in answer.raw])
    else:
        _show_each(found, cache_lines, headed=len(entries) > 1)
    return code


def _show_each(found: Results, lines_of: Callable[[Any], list[str]], *, headed: bool) -> None:
    for number, (entry, answer) in enumerate(found):
        head = [*([""] if number else []), f"{entry.mountpoint} ({entry.source})"] if headed else []
        show([*head, *lines_of(answer.said)])


def _shown(answer: Answer[Any], lines: Sequence[str], *, json: bool) -> int:
    """Shows an answer, which is `lines` for people. The exit code."""
    if json:
        show_json(answer.raw)
    else:
        show(lines)
    return SUCCESS


def cache_lines(entries: Sequence[CachedReferral]) -> list[str]:
    """The entries of a referral cache, for people."""
    lines = []
    for entry in sorted(entries, key=lambda entry: entry.prefix.casefold()):
        left = f"{shown_time(entry.seconds_left)} of {shown_time(entry.ttl)} left"
        if entry.seconds_left <= 0:
            left = f"{shown_left(entry.seconds_left)}, was good for {shown_time(entry.ttl)}"
        lines.append(f"{entry.prefix}  ({entry.kind}, {left}{', failback' if entry.failback else ''})")
        for number, target in enumerate(entry.targets):
            lines += ["    --"] if number and target.starts_set else []
            lines.append(f"  {'*' if target.hint else ' '} {target.path}")
    return lines or ["the cache is empty"]


def _places(path: str | None, mount: str | None, *, every: bool) -> tuple[list[MountEntry], str | None]:
    """The mounts to ask about a path, and the path as they know it. `every`: all, where none is named."""
    if path is None or is_unc(path):
        return (our_own_mounts() if every and mount is None else [the_mount(mount, path)]), path
    entry, rest = mount_at(path)
    return [entry], rest or "."


def _domain_parser() -> Parser:
    parser = Parser("domain", "shows or forgets the domains that mounts know, with their controllers")
    parser.add_argument("action", choices=["show", "flush"])
    _add_mount(parser)
    add_json(parser)
    return parser


def _domain(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries = _places(None, arguments.mount, every=arguments.action == "show")[0]
    if arguments.action == "flush":
        flushed = ask(Flushed, entries[0], "domain.flush")
        lines = [f"{flushed.said.flushed} domains forgotten, and looked for again"]
        return _shown(flushed, lines, json=arguments.json)
    found, code = good(ask_each(Patience(ANSWERING), Domains, entries, "domain.show"))
    if not arguments.json:
        _show_each(found, domains_lines, headed=len(entries) > 1)
    elif len(entries) > 1:
        show_json([{**answer.raw, "mount": entry.mountpoint} for entry, answer in found])
    elif found:
        show_json(found[0][1].raw)
    return code


def domains_lines(found: Domains) -> list[str]:
    """The domains that a mount knows, for people."""
    lines = []
    ours = found.found
    if ours is None:
        lines.append("no domain of this computer was found")
    else:
        names = " or ".join(filter(None, (ours.name, ours.netbios))) or "of unknown name"
        lines.append(f"our domain: {names}{', site ' + ours.site if ours.site else ''}")
        lines += [f"    {host}" for host in ours.controllers]
    for domain in found.domains:
        lines.append(f"{domain.name}{'' if domain.controllers else '  (its controllers were not asked for yet)'}")
        lines += [f"  {'*' if host == domain.hint else ' '} {host}" for host in domain.controllers]
    return lines


CACHE = Command("cache", _cache_parser, _cache)
DOMAIN = Command("domain", _domain_parser, _domain)

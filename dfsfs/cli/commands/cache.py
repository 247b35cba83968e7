"""The command `dfsfs cache`: the referral caches of mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.cli.asking import add_mount_of_several, places_of, show_answer, show_each, take_good
from dfsfs.cli.command import Command, Parser, add_json
from dfsfs.cli.figures import format_left, format_time
from dfsfs.cli.output import show_json
from dfsfs.control.answers import CachedReferral, Flushed
from dfsfs.control.client import ANSWERING, Patience, ask, ask_each

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def _make_parser() -> Parser:
    parser = Parser("cache", "shows or empties the referral caches of mounts")
    parser.add_argument("action", choices=["show", "flush"])
    parser.add_argument("prefix", nargs="?", metavar="PATH", help="only what is at or below a path, local or UNC")
    add_mount_of_several(parser)
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries, prefix = places_of(arguments.prefix, arguments.mount, every=arguments.action == "show")
    wanted = {"prefix": prefix} if prefix is not None else {}
    if arguments.action == "flush":
        flushed = ask(Flushed, entries[0], "cache.flush", **wanted)
        lines = [f"{flushed.said.flushed} referrals forgotten; what is used next is asked for again"]
        return show_answer(flushed, lines, json=arguments.json)
    found, code = take_good(ask_each(Patience(ANSWERING), tuple[CachedReferral, ...], entries, "cache.show", **wanted))
    if arguments.json:
        show_json([{**row, "mount": entry.mountpoint} for entry, answer in found for row in answer.raw])
    else:
        show_each(found, format_cache, headed=len(entries) > 1)
    return code


def format_cache(entries: Sequence[CachedReferral]) -> list[str]:
    """The entries of a referral cache, for people."""
    lines = []
    for entry in sorted(entries, key=lambda entry: entry.prefix.casefold()):
        left = f"{format_time(entry.seconds_left)} of {format_time(entry.ttl)} left"
        if entry.seconds_left <= 0:
            left = f"{format_left(entry.seconds_left)}, was good for {format_time(entry.ttl)}"
        lines.append(f"{entry.prefix}  ({entry.kind}, {left}{', failback' if entry.failback else ''})")
        for number, target in enumerate(entry.targets):
            lines += ["    --"] if number and target.starts_set else []
            lines.append(f"  {'*' if target.hint else ' '} {target.path}")
    return lines or ["the cache is empty"]


COMMAND = Command("cache", _make_parser, _run)

"""The command `dfsfs domain`: the domains that mounts know, with their controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.cli.asking import add_mount_of_several, places_of, show_answer, show_each, take_good
from dfsfs.cli.command import Command, Parser, add_json
from dfsfs.cli.output import show_json
from dfsfs.control.answers import Domains, Flushed
from dfsfs.control.client import ANSWERING, Patience, ask, ask_each

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def _make_parser() -> Parser:
    parser = Parser("domain", "shows or forgets the domains that mounts know, with their controllers")
    parser.add_argument("action", choices=["show", "flush"])
    add_mount_of_several(parser)
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries = places_of(None, arguments.mount, every=arguments.action == "show")[0]
    if arguments.action == "flush":
        flushed = ask(Flushed, entries[0], "domain.flush")
        lines = [f"{flushed.said.flushed} domains forgotten, and looked for again"]
        return show_answer(flushed, lines, json=arguments.json)
    found, code = take_good(ask_each(Patience(ANSWERING), Domains, entries, "domain.show"))
    if not arguments.json:
        show_each(found, format_domains, headed=len(entries) > 1)
    elif len(entries) > 1:
        show_json([{**answer.raw, "mount": entry.mountpoint} for entry, answer in found])
    elif found:
        show_json(found[0][1].raw)
    return code


def format_domains(found: Domains) -> list[str]:
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


COMMAND = Command("domain", _make_parser, _run)

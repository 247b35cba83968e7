"""The command `dfsfs drain`: mounts keep off a server, before it is taken down.

All mounts are asked first what they would do, so that an unknown name changes nothing anywhere.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from dfsfs.cli.asking import our_own_mounts, take_good, the_mount
from dfsfs.cli.command import Command, Parser, add_json
from dfsfs.cli.output import show, show_json
from dfsfs.control.answers import Drained
from dfsfs.control.client import ANSWERING, Patience, ask_each, is_trusted
from dfsfs.control.protocol import WRONG, ControlError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.control.client import Answer
    from dfsfs.control.places import MountEntry

    Results = Sequence[tuple[MountEntry, Answer[Drained]]]


def _make_parser() -> Parser:
    parser = Parser(
        "drain",
        "moves links off a server, before it is taken down",
        about="Moves the links of mounts off a server, and keeps them off it as long as another target answers. "
        "Files that are open there stay until they are closed. Without --mount, all mounts of this computer that you "
        "may ask do so, and each says what it has done. A server that none of them has a target on is refused.",
    )
    parser.add_argument("host", metavar="SERVER", help="its name as in the targets, or the first part of it")
    parser.add_argument("--undo", action="store_true", help="let links go there again")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--mount", metavar="PATH", help="only this mount, or the one that a path is in")
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries = our_own_mounts() if arguments.mount is None else [the_mount(arguments.mount)]
    command = "undrain" if arguments.undo else "drain"
    patience = Patience(ANSWERING)
    planned, code = take_good(ask_each(patience, Drained, entries, command, host=arguments.host, dry_run="yes"))
    if not planned:
        return code
    name = _name_of(planned, arguments.host, undo=arguments.undo)
    results, asked = planned, [entry for entry, answer in planned if answer.said.known or not arguments.undo]
    if not arguments.dry_run:
        results, worse = take_good(ask_each(patience, Drained, asked, command, host=name))
        code = max(code, worse)
        results = [*results, *((entry, answer) for entry, answer in planned if entry not in asked)]
    results = sorted(results, key=lambda result: entries.index(result[0]))
    if arguments.json:
        show_json([{**answer.raw, "mount": entry.mountpoint} for entry, answer in results])
        return code
    for entry, answer in results:
        what = word_for(undo=arguments.undo, was=answer.said.known, only_said=arguments.dry_run)
        show([f"{entry.mountpoint}: {name} {what}", *format_links(answer.said, only_said=arguments.dry_run)])
    return code


def _name_of(planned: Results, host: str, *, undo: bool) -> str:
    """The server's whole name, as a mount has it; one of ours, if it can be. Raises ControlError: none has it."""
    known = [(not is_trusted(entry), answer.said.host) for entry, answer in planned if answer.said.known]
    if known:
        return min(known)[1]
    servers = sorted({server for _, answer in planned for server in answer.said.servers})
    what = "is not drained" if undo else "is not the server of any target that a mount has heard of"
    raise ControlError(f"{host} {what}{_hint(host, servers, 'drained are' if undo else 'there are')}", WRONG)


def _hint(host: str, servers: list[str], there_are: str) -> str:
    short = {server.split(".")[0].casefold(): server for server in servers}
    names = {**short, **{server.casefold(): server for server in servers}}
    close = difflib.get_close_matches(host.casefold(), names, n=1)
    if close:
        return f"; did you mean {names[close[0]]}?"
    shown = ", ".join(servers[:10]) + (", ..." if len(servers) > 10 else "")
    return f"; {there_are} {shown}" if servers else ""


def word_for(*, undo: bool, was: bool, only_said: bool) -> str:
    """What has become of a server in one mount."""
    if undo:
        return ("would be used again" if only_said else "may be used again") if was else "was not drained"
    return "would be drained" if only_said else "is drained"


def format_links(found: Drained, *, only_said: bool) -> list[str]:
    """What becomes of the links that are on the server."""
    lines = []
    for link in found.links:
        if link.to:
            lines.append(f"    {link.path} {'would move' if only_said else 'moved'} to {link.to}")
        else:
            stays = "would stay" if only_said else "stays"
            lines.append(
                f"    {link.path} {stays} at {link.from_}: no other target {'is known' if only_said else 'answers'}"
            )
    return lines


COMMAND = Command("drain", _make_parser, _run)

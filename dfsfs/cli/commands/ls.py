"""The command `dfsfs ls`: a folder of a namespace without a mount, for scripts and rescue."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, add_json, add_options
from dfsfs.cli.exitcodes import SUCCESS
from dfsfs.cli.figures import format_size
from dfsfs.cli.output import show, show_json
from dfsfs.cli.remote import Remote, config_for, hide_options, run
from dfsfs.control.shapes import to_json
from dfsfs.printable import printable_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.smb.wire.fscc import FileStat


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a folder: what --json shows. `kind`: file, folder, link or special; `modified`: in seconds since
    1970.
    """

    name: str
    kind: str
    size: int
    modified: float


def _make_parser() -> Parser:
    parser = Parser(
        "ls",
        "lists a folder of a namespace without mounting it",
        about="Lists a folder of a namespace without mounting it. A line is a name; control characters and backslashes "
        "in names are escaped as by ls -b, with \\x1b for a number.",
    )
    parser.add_argument("path", metavar="//SERVER/NAMESPACE[/FOLDER...]")
    parser.add_argument("-l", "--long", action="store_true", help="show sizes and times too")
    add_options(parser)
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    hide_options(arguments, ["ls", *words])
    entries = run(config_for(arguments.path, arguments), _list)
    if arguments.json:
        show_json(to_json(entries))
        return SUCCESS
    show(_format(entry, long=arguments.long) for entry in entries)
    return SUCCESS


def _format(entry: Entry, *, long: bool) -> str:
    """An entry of a folder, for people and for programs that read names: escapes as in `ls -b`."""
    name = printable_name(entry.name) + {"folder": "/", "link": "/", "special": "@"}.get(entry.kind, "")
    if not long:
        return name
    changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.modified))
    size = format_size(entry.size) if entry.kind == "file" else entry.kind
    return f"{size:>10}  {changed}  {name}"


async def _list(remote: Remote) -> list[Entry]:
    location, stat = await remote.namespace.find(remote.path(remote.config.unc))
    if not stat.is_directory:
        return [_entry(remote, location.components[-1] if location.components else "", stat)]
    entries = [_entry(remote, entry.name, entry.stat) for entry in await remote.namespace.entries(location)]
    return sorted(entries, key=lambda entry: entry.name.casefold())


def _entry(remote: Remote, name: str, stat: FileStat) -> Entry:
    shown = remote.names.from_wire(name)
    kind = "link" if stat.is_marked_link else "folder" if stat.is_directory else "special" if stat.special else "file"
    return Entry(
        name=name if shown is None else shown.decode("utf-8", "backslashreplace"),
        kind=kind,
        size=stat.size,
        modified=stat.written / 1e9,
    )


COMMAND = Command("ls", _make_parser, _run)

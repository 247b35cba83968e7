"""The command `dfsfs target`: the targets of a link, and which of them to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.cli.asking import the_mount
from dfsfs.cli.command import Command, Parser, add_json, add_mount
from dfsfs.cli.exitcodes import SUCCESS
from dfsfs.cli.output import show, show_json
from dfsfs.control.answers import Targets
from dfsfs.control.client import ask, mount_at
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.control.places import MountEntry


def _make_parser() -> Parser:
    parser = Parser(
        "target",
        "shows the targets of a link, or chooses the one to use",
        about="Shows the targets of the link that a path is in, or chooses the one to use (set) until the mount ends "
        "or the namespace decides again (unset).",
    )
    parser.add_argument("action", choices=["list", "set", "unset"])
    parser.add_argument("path", metavar="PATH", help="a path in a mount, or a UNC path")
    parser.add_argument("target", nargs="?", metavar="TARGET", help="for set: a server, or one of the targets whole")
    add_mount(parser)
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    if (arguments.action == "set") != (arguments.target is not None):
        raise ControlError("set takes a target, list and unset take none; see dfsfs target --help", WRONG)
    entry, path = _find_mount(arguments.path, arguments.mount)
    extra = {"target": arguments.target} if arguments.target is not None else {}
    found = ask(Targets, entry, f"target.{arguments.action}", path=path or ".", **extra)
    if arguments.json:
        show_json(found.raw)
    else:
        show(format_targets(found.said))
    return SUCCESS


def _find_mount(path: str, mount: str | None) -> tuple[MountEntry, str]:
    """The mount to ask about a path, and the path as it knows it."""
    return (the_mount(mount, path), path) if is_unc(path) else mount_at(path)


def format_targets(found: Targets) -> list[str]:
    """The targets of a link, for people."""
    lines = [found.path]
    for target in found.targets:
        words = [word for word, so in (("chosen", target.chosen), ("drained", target.drained)) if so]
        shown = f"  ({', '.join(words)})" if words else ""
        lines.append(f"  {'*' if target.in_use else ' '} {target.path}{shown}")
    return lines


COMMAND = Command("target", _make_parser, _run)

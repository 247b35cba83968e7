"""The command `dfsfs tree`: what is in a namespace, and where its links lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.cli.command import Command, Parser, add_json, add_options
from dfsfs.cli.exitcodes import SUCCESS
from dfsfs.cli.messages import describe_error
from dfsfs.cli.output import show, show_json
from dfsfs.cli.remote import config_for, hide_options, run, survey_of
from dfsfs.printable import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.enumeration import NamespaceLinks
    from dfsfs.unc import UncPath


def _make_parser() -> Parser:
    parser = Parser(
        "tree",
        "shows the folders and links of a namespace, and where the links lead",
        about="Shows the folders and links of a namespace, and where the links lead. No target is entered.",
    )
    parser.add_argument("path", metavar="//SERVER/NAMESPACE[/FOLDER...]")
    add_options(parser)
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    hide_options(arguments, ["tree", *words])
    config = config_for(arguments.path, arguments)
    found = run(config, survey_of)
    if arguments.json:
        show_json(_to_json(found, config))
    else:
        show(format_tree(found, config))
    return SUCCESS


def _to_json(found: NamespaceLinks, config: MountConfig) -> dict[str, Any]:
    return {
        "path": str(found.root),
        "folders": [str(path) for path in sorted(found.folders, key=lambda path: path.sort_key)],
        "links": [
            {
                "path": str(link.path),
                "targets": list(map(str, link.targets)),
                "problem": None if link.problem is None else describe_error(link.problem, config),
            }
            for link in sorted(found.links, key=lambda link: link.path.sort_key)
        ],
        "problems": [{"path": str(path), "problem": describe_error(error, config)} for path, error in found.problems],
    }


def format_tree(found: NamespaceLinks, config: MountConfig) -> list[str]:
    """A namespace as a tree, for people."""
    notes: dict[UncPath, str] = dict.fromkeys(found.folders, "/")
    notes |= {path: f"/  ({describe_error(error, config)})" for path, error in found.problems}
    for link in found.links:
        problem = "no target" if link.problem is None else describe_error(link.problem, config)
        notes[link.path] = " -> " + (", ".join(map(str, link.targets)) or f"({problem})")
    children: dict[UncPath, list[UncPath]] = {}
    for path in sorted(notes, key=lambda path: path.sort_key):
        children.setdefault(path.parent, []).append(path)
    lines = [str(found.root)]

    def draw(path: UncPath, before: str) -> None:
        below = children.get(path, [])
        for number, child in enumerate(below, 1):
            last = number == len(below)
            lines.append(f"{before}{'└── ' if last else '├── '}{child.components[-1]}{notes[child]}")
            draw(child, before + ("    " if last else "│   "))

    draw(found.root, "")
    lines.append(f"{counted(len(found.folders), 'folder')}, {counted(len(found.links), 'link')}")
    return lines


COMMAND = Command("tree", _make_parser, _run)

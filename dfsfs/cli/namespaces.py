"""The commands `dfsfs tree` and `dfsfs check`: what is in a namespace, and whether it is in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.cli.command import PROBLEMS, Command, Parser, add_json, add_options, shown_time, table
from dfsfs.cli.messages import SUCCESS
from dfsfs.cli.output import is_watched, show, show_json
from dfsfs.cli.remote import Remote, config_for, options_hidden, run

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from dfsfs.namespace.survey import FoundLink, Survey
    from dfsfs.unc import UncPath


# -- tree -------------------------------------------------------------------------------------------------------------


def _tree_parser() -> Parser:
    parser = Parser(
        "tree",
        "shows the folders and links of a namespace, and where the links lead",
        about="Shows the folders and links of a namespace, and where the links lead. No target is entered.",
    )
    parser.add_argument("path", metavar="//SERVER/NAMESPACE[/FOLDER...]")
    add_options(parser)
    add_json(parser)
    return parser


def _tree(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    options_hidden(arguments, ["tree", *words])
    found = run(config_for(arguments.path, arguments), _survey)
    if arguments.json:
        show_json(_tree_report(found))
    else:
        show(tree_lines(found))
    return SUCCESS


async def _survey(remote: Remote, tell: Callable[[FoundLink], None] = lambda link: None) -> Survey:
    from dfsfs.namespace.survey import survey

    location, _ = await remote.namespace.find(remote.path(remote.config.unc))
    return await survey(remote.namespace, location, tell)


def _tree_report(found: Survey) -> dict[str, Any]:
    links = sorted(found.links, key=lambda link: link.path.order)
    return {
        "path": str(found.root),
        "folders": [str(path) for path in sorted(found.folders, key=lambda path: path.order)],
        "links": [
            {"path": str(link.path), "targets": list(map(str, link.targets)), "problem": link.problem or None}
            for link in links
        ],
        "problems": [{"path": str(path), "problem": text} for path, text in found.problems],
    }


def _link_row(link: FoundLink) -> dict[str, Any]:
    return {"path": str(link.path), "targets": list(map(str, link.targets)), "problem": link.problem or None}


def tree_lines(found: Survey) -> list[str]:
    """A namespace as a tree, for people."""
    notes: dict[UncPath, str] = dict.fromkeys(found.folders, "/")
    notes |= {path: f"/  ({text})" for path, text in found.problems}
    for link in found.links:
        notes[link.path] = " -> " + (", ".join(map(str, link.targets)) or f"({link.problem})")
    children: dict[UncPath, list[UncPath]] = {}
    for path in sorted(notes, key=lambda path: path.order):
        children.setdefault(path.parent, []).append(path)
    lines = [str(found.root)]

    def draw(path: UncPath, before: str) -> None:
        below = children.get(path, [])
        for number, child in enumerate(below, 1):
            last = number == len(below)
            lines.append(f"{before}{'└── ' if last else '├── '}{child.components[-1]}{notes[child]}")
            draw(child, before + ("    " if last else "│   "))

    draw(found.root, "")
    lines.append(f"{len(found.folders)} folders, {len(found.links)} links")
    return lines


# -- check ------------------------------------------------------------------------------------------------------------


def _check_parser() -> Parser:
    parser = Parser(
        "check",
        "tests every link and every target of a namespace",
        about="Walks through a namespace and tests every target of every link: whether its server can be reached, "
        "takes the login and lists the folder, and how long that takes; and whether all servers of the namespace "
        f"give the same answers. The exit code is {PROBLEMS} if anything is wrong.",
    )
    parser.add_argument("path", metavar="//SERVER/NAMESPACE[/FOLDER...]")
    parser.add_argument("-q", "--quiet", action="store_true", help="show only what is wrong")
    add_options(parser)
    add_json(parser)
    return parser


def _check(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    options_hidden(arguments, ["check", *words])
    config = config_for(arguments.path, arguments)
    found = run(config, lambda remote: _check_all(remote, show_progress=not arguments.quiet and not arguments.json))
    if arguments.json:
        show_json(found)
    else:
        show(check_lines(found, quiet=arguments.quiet))
    return PROBLEMS if found["problems"] else SUCCESS


async def _check_all(remote: Remote, *, show_progress: bool) -> dict[str, Any]:
    from dfsfs.namespace.health import check_link

    if not show_progress or not is_watched():
        found = await _survey(remote)
        rows = await _each(found.links, lambda link: check_link(remote.namespace, remote.pool, link))
        return _check_report(found, rows)
    from dfsfs.cli.progress import of_counts  # takes long to import

    with of_counts() as bars:
        bars.begin("links")
        found = await _survey(remote, lambda link: bars.advance("links"))
        bars.end("links", len(found.links))
        bars.begin("tested", len(found.links))

        async def one(link: FoundLink) -> dict[str, Any]:
            row = await check_link(remote.namespace, remote.pool, link)
            bars.advance("tested")
            return row

        return _check_report(found, await _each(found.links, one))


async def _each(links: list[FoundLink], work: Callable[[FoundLink], Any]) -> list[dict[str, Any]]:
    import trio

    from dfsfs.namespace.survey import AT_ONCE

    rows: list[dict[str, Any]] = []
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(link: FoundLink) -> None:
        async with limit:
            rows.append(await work(link))

    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(one, link)
    return sorted(rows, key=lambda row: str(row["path"]).casefold())


def _check_report(found: Survey, rows: list[dict[str, Any]]) -> dict[str, Any]:
    problems = [f"{path}: {text}" for path, text in found.problems]
    for row in rows:
        problems += [f"{row['path']}: {text}" for text in row["problems"]]
    return {"path": str(found.root), "folders": len(found.folders), "links": rows, "problems": problems}


def check_lines(found: dict[str, Any], *, quiet: bool) -> list[str]:
    """The result of a check, for people."""
    rows = [
        (
            link["path"],
            target["path"],
            "-" if target["seconds"] is None else shown_time(target["seconds"]),
            "ok" if not target["problem"] else target["problem"],
        )
        for link in found["links"]
        for target in link["targets"]
    ]
    lines = [] if quiet else [*table(["LINK", "TARGET", "TIME", "STATE"], rows), ""]
    lines += [f"problem: {text}" for text in found["problems"]]
    count = len(found["problems"])
    lines.append(
        f"{len(found['links'])} links with {len(rows)} targets: "
        + ("all in order" if not count else "1 problem" if count == 1 else f"{count} problems")
    )
    return lines


TREE = Command("tree", _tree_parser, _tree)
CHECK = Command("check", _check_parser, _check)

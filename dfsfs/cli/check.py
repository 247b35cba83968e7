"""The command `dfsfs check`: whether a namespace is in order, all its links and all their targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.cli.command import PROBLEMS, Command, Parser, add_json, add_options, shown_time, table
from dfsfs.cli.messages import SUCCESS
from dfsfs.cli.namespaces import survey_of
from dfsfs.cli.output import is_watched, show, show_json
from dfsfs.cli.remote import Remote, config_for, options_hidden, run
from dfsfs.errors import UNREACHED
from dfsfs.printable import counted
from dfsfs.wording import explained

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Sequence

    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.health import CheckedLink
    from dfsfs.namespace.survey import FoundLink, Survey


def _parser() -> Parser:
    parser = Parser(
        "check",
        "tests every link and every target of a namespace",
        about="Walks through a namespace and tests every target of every link, which is followed as a mount follows "
        "it: whether its server can be reached, takes the login and lists the folder, and how long that takes, logging "
        "in not included; and whether all servers of the namespace give the same answers. "
        f"The exit code is {PROBLEMS} if anything is wrong.",
    )
    parser.add_argument("path", metavar="//SERVER/NAMESPACE[/FOLDER...]")
    parser.add_argument("-q", "--quiet", action="store_true", help="show only what is wrong")
    add_options(parser)
    add_json(parser)
    return parser


def _check(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    options_hidden(arguments, ["check", *words])
    config = config_for(arguments.path, arguments)
    watched = not arguments.quiet and not arguments.json and is_watched()
    work = _check_watched if watched else _check_all
    found = check_report(*run(config, work), config)
    if arguments.json:
        show_json(found)
    else:
        show(check_lines(found, quiet=arguments.quiet))
    return PROBLEMS if found["problems"] else SUCCESS


async def _check_all(remote: Remote) -> tuple[Survey, list[CheckedLink]]:
    found = await survey_of(remote)
    return found, await _each(found.links, lambda link: _test(remote, link))


async def _check_watched(remote: Remote) -> tuple[Survey, list[CheckedLink]]:
    """The same, with bars that show how far it is."""
    from dfsfs.cli.progress import of_counts  # takes long to import

    with of_counts() as bars:
        bars.begin("links")
        found = await survey_of(remote, lambda link: bars.advance("links"))
        bars.end("links", len(found.links))
        bars.begin("tested", len(found.links))

        async def one(link: FoundLink) -> CheckedLink:
            tested = await _test(remote, link)
            bars.advance("tested")
            return tested

        return found, await _each(found.links, one)


def _test(remote: Remote, link: FoundLink) -> Awaitable[CheckedLink]:
    from dfsfs.namespace.health import check_link

    return check_link(remote.namespace, remote.pool, link)


async def _each(links: list[FoundLink], work: Callable[[FoundLink], Awaitable[CheckedLink]]) -> list[CheckedLink]:
    import trio

    from dfsfs.namespace.survey import AT_ONCE

    tested: list[CheckedLink] = []
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(link: FoundLink) -> None:
        async with limit:
            tested.append(await work(link))

    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(one, link)
    return sorted(tested, key=lambda link: str(link.path).casefold())


def check_report(found: Survey, tested: Sequence[CheckedLink], config: MountConfig) -> dict[str, Any]:
    """What --json shows. A problem of a server of the namespace itself is said once, and not for each link."""

    rows = [_row(link, config) for link in tested]
    servers = [
        f"{found.root.share}: namespace server {answer.host}: {explained(answer.problem, config)}"
        for link in tested
        for answer in link.roots
        if answer.problem is not None and answer.problem.disposition in UNREACHED
    ]
    problems = [*servers, *(f"{path}: {explained(error, config)}" for path, error in found.problems)]
    problems += [f"{row['path']}: {text}" for row in rows for text in row["problems"]]
    return {
        "path": str(found.root),
        "folders": len(found.folders),
        "links": rows,
        "problems": list(dict.fromkeys(problems)),
    }


def _row(link: CheckedLink, config: MountConfig) -> dict[str, Any]:
    targets = [
        {
            "path": str(target.path),
            "seconds": None if target.seconds is None else round(target.seconds, 6),
            "problem": None if target.problem is None else explained(target.problem, config),
        }
        for target in link.targets
    ]
    problems = [str(target["problem"]) for target in targets if target["problem"]]
    if link.problem is not None and not problems:
        problems.append(explained(link.problem, config))
    problems += _differences(link, config)
    return {"path": str(link.path), "targets": targets, "problems": list(dict.fromkeys(problems))}


def _differences(link: CheckedLink, config: MountConfig) -> list[str]:
    """What the servers of the namespace do not agree on."""

    if link.uncompared is not None:
        return [f"the servers of the namespace can't be compared: {explained(link.uncompared, config)}"]
    problems = [
        f"namespace server {answer.host}: {explained(answer.problem, config)}"
        for answer in link.roots
        if answer.problem is not None and answer.problem.disposition not in UNREACHED
    ]
    said = {
        answer.host: sorted(str(entry.network_address) for entry in answer.response.entries)
        for answer in link.roots
        if answer.response is not None
    }
    if len({tuple(map(str.casefold, targets)) for targets in said.values()}) > 1:
        shown = "; ".join(f"{host} says {', '.join(targets) or 'none'}" for host, targets in said.items())
        problems.append(f"the servers of the namespace differ: {shown}")
    return problems


def check_lines(found: dict[str, Any], *, quiet: bool) -> list[str]:
    """The result of a check, for people. What is wrong is said once, below the table."""
    rows = [
        (
            "-" if target["seconds"] is None else shown_time(target["seconds"]),
            "WRONG" if target["problem"] else "ok",
            _below(link["path"], found["path"]),
            target["path"],
        )
        for link in found["links"]
        for target in link["targets"] or [{"path": "-", "seconds": None, "problem": "no target"}]
    ]
    lines = [] if quiet else [*table(["TIME", "STATE", "LINK", "TARGET"], rows), ""]
    lines += [f"problem: {_below(text, found['path'])}" for text in found["problems"]]
    count, targets = len(found["problems"]), sum(len(link["targets"]) for link in found["links"])
    lines.append(
        f"{counted(len(found['links']), 'link')} with {counted(targets, 'target')}: "
        + (counted(count, "problem") if count else "all in order")
    )
    return lines


def _below(text: str, top: str) -> str:
    """A text that begins with a link, as that is called below the folder that is checked."""
    return text.removeprefix(f"{top}/")


CHECK = Command("check", _parser, _check)

"""The command `dfsfs check`: whether a namespace is in order, all its links and all their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, add_json, add_options
from dfsfs.cli.exitcodes import PROBLEMS, SUCCESS
from dfsfs.cli.figures import format_time
from dfsfs.cli.messages import describe_error
from dfsfs.cli.output import is_watched, show, show_json
from dfsfs.cli.remote import Remote, config_for, hide_options, run, survey_of
from dfsfs.cli.tables import Column, Table
from dfsfs.control.shapes import to_json
from dfsfs.printable import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Sequence

    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.enumeration import FoundLink, NamespaceLinks
    from dfsfs.namespace.health import CheckedLink


OK, WRONG = "ok", "WRONG"
_STYLES = {OK: "green", WRONG: "bold red"}


@dataclass(frozen=True, slots=True)
class TargetReport:
    """A target of a link. `seconds`: the time of one question and its answer, None if there was none."""

    path: str
    seconds: float | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class LinkReport:
    """A link, with all that is wrong with it."""

    path: str
    targets: tuple[TargetReport, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What --json shows: see docs/json.md."""

    path: str
    folders: int
    links: tuple[LinkReport, ...]
    problems: tuple[str, ...]


_NO_TARGET = TargetReport("-", None, "no target")


def _make_parser() -> Parser:
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


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    hide_options(arguments, ["check", *words])
    config = config_for(arguments.path, arguments)
    watched = not arguments.quiet and not arguments.json and is_watched()
    work = _check_watched if watched else _check_all
    found = report_of(*run(config, work), config)
    if arguments.json:
        show_json(to_json(found))
    else:
        show(format_check(found, quiet=arguments.quiet))
    return PROBLEMS if found.problems else SUCCESS


async def _check_all(remote: Remote) -> tuple[NamespaceLinks, list[CheckedLink]]:
    found = await survey_of(remote)
    return found, await _test_each(found.links, lambda link: _test(remote, link))


async def _check_watched(remote: Remote) -> tuple[NamespaceLinks, list[CheckedLink]]:
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

        return found, await _test_each(found.links, one)


def _test(remote: Remote, link: FoundLink) -> Awaitable[CheckedLink]:
    from dfsfs.namespace.health import check_link

    return check_link(remote.namespace, remote.pool, link)


async def _test_each(links: list[FoundLink], work: Callable[[FoundLink], Awaitable[CheckedLink]]) -> list[CheckedLink]:
    import trio

    from dfsfs.namespace.enumeration import MAX_CONCURRENT

    tested: list[CheckedLink] = []
    limit = trio.CapacityLimiter(MAX_CONCURRENT)

    async def one(link: FoundLink) -> None:
        async with limit:
            tested.append(await work(link))

    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(one, link)
    return sorted(tested, key=lambda link: str(link.path).casefold())


def report_of(found: NamespaceLinks, tested: Sequence[CheckedLink], config: MountConfig) -> CheckReport:
    """What was found. A problem of a server of the namespace itself is named once, and not for each link."""
    from dfsfs.errors import SERVER_FAULTS

    links = tuple(_link(link, config) for link in tested)
    servers = [
        f"{found.root.share}: namespace server {answer.host}: {describe_error(answer.problem, config)}"
        for link in tested
        for answer in link.roots
        if answer.problem is not None and answer.problem.disposition in SERVER_FAULTS
    ]
    problems = [*servers, *(f"{path}: {describe_error(error, config)}" for path, error in found.problems)]
    problems += [f"{link.path}: {text}" for link in links for text in link.problems]
    return CheckReport(str(found.root), len(found.folders), links, tuple(dict.fromkeys(problems)))


def _link(link: CheckedLink, config: MountConfig) -> LinkReport:
    targets = tuple(
        TargetReport(
            path=str(target.path),
            seconds=None if target.seconds is None else round(target.seconds, 6),
            problem=None if target.problem is None else describe_error(target.problem, config),
        )
        for target in link.targets
    )
    problems = [target.problem for target in targets if target.problem]
    if link.problem is not None and not problems:
        problems.append(describe_error(link.problem, config))
    problems += _differences(link, config)
    return LinkReport(str(link.path), targets, tuple(dict.fromkeys(problems)))


def _differences(link: CheckedLink, config: MountConfig) -> list[str]:
    """What the servers of the namespace do not agree on."""
    from dfsfs.errors import SERVER_FAULTS

    if link.uncompared is not None:
        return [f"the servers of the namespace can't be compared: {describe_error(link.uncompared, config)}"]
    problems = [
        f"namespace server {answer.host}: {describe_error(answer.problem, config)}"
        for answer in link.roots
        if answer.problem is not None and answer.problem.disposition not in SERVER_FAULTS
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


def format_check(found: CheckReport, *, quiet: bool) -> list[str | Table]:
    """The result of a check, for people. What is wrong is said once, below the table. `quiet`: without the table."""
    page: list[str | Table] = [] if quiet else [_targets_table(found), ""]
    page += [f"problem: {_below(text, found.path)}" for text in found.problems]
    count, targets = len(found.problems), sum(len(link.targets) for link in found.links)
    page.append(
        f"{counted(len(found.links), 'link')} with {counted(targets, 'target')}: "
        + (counted(count, "problem") if count else "all in order")
    )
    return page


def _targets_table(found: CheckReport) -> Table:
    columns = (Column("TIME"), Column("STATE", style=_STYLES.__getitem__), Column("LINK"), Column("TARGET"))
    return Table(
        columns,
        [
            (
                "-" if target.seconds is None else format_time(target.seconds),
                WRONG if target.problem else OK,
                _below(link.path, found.path),
                target.path,
            )
            for link in found.links
            for target in link.targets or (_NO_TARGET,)
        ],
    )


def _below(text: str, top: str) -> str:
    """A text that begins with a link, as that is called below the folder that is checked."""
    return text.removeprefix(f"{top}/")


COMMAND = Command("check", _make_parser, _run)

"""The command `dfsfs status`: what running mounts do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.cli.asking import all_mounts, may_ask
from dfsfs.cli.command import Command, Parser, add_json, code_of
from dfsfs.cli.exitcodes import SUCCESS
from dfsfs.cli.figures import format_left, format_size, format_time
from dfsfs.cli.lingering import Lingering, find_lingering
from dfsfs.cli.output import show, show_json
from dfsfs.cli.tables import Column, Table
from dfsfs.control.answers import Status
from dfsfs.control.client import AT_ONCE, Patience, ask_each, ask_with, is_trusted, mount_at
from dfsfs.control.places import our_mounts
from dfsfs.control.protocol import WRONG, ControlError, DeadMount
from dfsfs.printable import counted, how_often

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from dfsfs.control.answers import Link, Requests, Session
    from dfsfs.control.client import Answer
    from dfsfs.control.places import MountEntry

    Report = Answer[Status] | ControlError

CONNECTED, FAILED_OVER = "connected", "failed over"
"""Words of a link's state."""


def _make_parser() -> Parser:
    parser = Parser(
        "status",
        "shows what running mounts do: targets, sessions, open files, errors, times",
        about="Shows what running mounts do: targets, sessions, open files, errors, times. Without PATH, of all mounts "
        "of this computer. One that is dead, does not answer, or answers what makes no sense is shown with the reason, "
        "and the exit code says so.",
    )
    parser.add_argument("mount", nargs="?", metavar="PATH", help="a mount, or a path in one; without, all mounts")
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    patience = Patience(AT_ONCE)
    reports: list[tuple[MountEntry, Report]]
    left: list[Lingering] = []
    if arguments.mount:
        entry, _ = mount_at(arguments.mount)
        reports = [(entry, ask_with(patience, Status, entry, "status"))]
    else:
        left = find_lingering()
        reports = list(_ask_each(patience, all_mounts() if not left or our_mounts() else []))
    if arguments.json:
        show_json([*(_report_to_json(entry, report) for entry, report in reports), *(one.to_json() for one in left)])
    else:
        pages: list[Sequence[str | Table]] = [_format_report(entry, report) for entry, report in reports]
        pages += [one.page() for one in left]
        for number, page in enumerate(pages):
            show([*([""] if number else []), *page])
    wrong = [report for entry, report in reports if isinstance(report, ControlError) and may_ask(entry)]
    return max(map(code_of, wrong), default=SUCCESS)


def _ask_each(patience: Patience, entries: Sequence[MountEntry]) -> Iterator[tuple[MountEntry, Report]]:
    """The reports of mounts; those that answer others only are not asked."""
    for entry in entries:
        if may_ask(entry):
            yield from ask_each(patience, Status, [entry], "status")
        else:
            yield entry, ControlError(f"only user {entry.owner}, who has mounted it, or root may ask it", WRONG)


def _format_report(entry: MountEntry, report: Report) -> list[str | Table]:
    if not isinstance(report, ControlError):
        return format_status(entry, report.said)
    if isinstance(report, DeadMount):
        state = f"DEAD: {report.reason}"
    else:
        state = f"NO ANSWER: {report}" if may_ask(entry) else str(report)
    return [f"{entry.mountpoint} is {entry.source}", f"  {state}"]


def _report_to_json(entry: MountEntry, report: Report) -> dict[str, Any]:
    """A report with what the kernel says of the mount in the place of what its program says."""
    sure = {"path": entry.mountpoint, "owner": entry.owner}
    if isinstance(report, ControlError):
        return {"mount": {**sure, "unc": entry.source}, "problem": str(report)}
    return {**report.raw, "mount": {**report.raw["mount"], **sure}, "problem": None}


def format_status(entry: MountEntry, found: Status) -> list[str | Table]:
    """A report of a mount, for people."""
    mount = found.mount
    page: list[str | Table] = [
        f"{entry.mountpoint} is {mount.unc}",
        *([] if is_trusted(entry) else [f"  mounted by user {entry.owner}, whose program says all of this"]),
        f"  as {mount.user}{', each user for themselves' if mount.multiuser else ''}"
        f"{', read only' if mount.read_only else ''}; for {format_time(mount.seconds)}; "
        f"process {mount.pid}, dfsfs {mount.version}",
        f"  {counted(found.files.open, 'open file')}, {format_size(found.bytes.read)} read, "
        f"{format_size(found.bytes.written)} written; {counted(found.caches.referrals, 'referral')} known",
        "",
        _links_table(found.links, mount.unc),
        "",
        _sessions_table(found.sessions),
    ]
    if found.drained:
        page += ["", f"drained: {', '.join(found.drained)}"]
    if found.requests:
        page += ["", _requests_table(found.requests)]
    if found.errors:
        page += ["", "errors: " + ", ".join(f"{name} {count}" for name, count in sorted(found.errors.items()))]
    moves = {name: found.events.get(name, 0) for name in ("FailedOver", "FailedBack", "Reconnected")}
    if any(moves.values()):
        often = {name: how_often(count) for name, count in moves.items()}
        page += [
            "",
            "failed over {FailedOver}, back {FailedBack}; connected again {Reconnected}".format(**often),
        ]
    return page


def _links_table(links: Sequence[Link], top: str) -> Table:
    columns = ("LINK", "IS AT", "OF", "REFERRAL")
    return Table(
        (*map(Column, columns), Column("STATE", wraps=True, style=_style_of_state)),
        [
            (
                link.path.removeprefix(f"{top}/"),
                link.target or "-",
                len(link.targets),
                "-" if link.seconds_left is None else format_left(link.seconds_left),
                _state_of(link),
            )
            for link in links
        ],
    )


def _state_of(link: Link) -> str:
    words = [CONNECTED if link.connected else "leads back to itself" if link.loops else "not connected"]
    words += [FAILED_OVER] if link.failed_over else []
    words += ["chosen by hand"] if link.chosen else []
    words += [f"user {link.uid}"] if link.uid is not None else []
    return ", ".join(words)


def _style_of_state(state: str) -> str:
    if not state.startswith(CONNECTED):
        return "red"
    return "yellow" if FAILED_OVER in state else ""


def _sessions_table(sessions: Sequence[Session]) -> Table:
    return Table(
        (
            *(Column("SERVER", wraps=True), Column("SMB"), Column("PROTECTED BY", wraps=True)),
            *map(Column, ("LOGIN", "USER", "WAITING", "REQUESTS")),
        ),
        [
            (
                session.host if session.host == session.address else f"{session.host} ({session.address})",
                session.dialect,
                session.encryption or f"{session.signing} signed",
                session.authentication,
                session.user if session.uid is None else f"user {session.uid}",
                session.in_flight,
                session.requests,
            )
            for session in sessions
        ],
    )


def _requests_table(requests: dict[str, Requests]) -> Table:
    columns = ("REQUEST", "COUNT", "FAILED", "50% MS", "95%", "99%", "LONGEST")
    return Table(
        tuple(map(Column, columns)),
        [
            (
                name,
                figures.count,
                figures.failed,
                *(round(seconds * 1000, 1) for seconds in (figures.p50, figures.p95, figures.p99, figures.longest)),
            )
            for name, figures in requests.items()
        ],
    )


COMMAND = Command("status", _make_parser, _run)

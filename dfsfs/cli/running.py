"""Commands for running mounts, which they ask through their control sockets: status and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.cli.asking import all_mounts, may_ask, the_mount
from dfsfs.cli.command import (
    Command,
    Parser,
    add_json,
    add_mount,
    code_of,
    shown_left,
    shown_size,
    shown_time,
    table,
)
from dfsfs.cli.lingering import Lingering, lingering
from dfsfs.cli.messages import SUCCESS
from dfsfs.cli.output import show, show_json
from dfsfs.control.answers import Status, Targets
from dfsfs.control.client import AT_ONCE, Patience, ask, ask_each, ask_with, is_trusted, mount_at
from dfsfs.control.places import our_mounts
from dfsfs.control.protocol import WRONG, ControlError, DeadMount
from dfsfs.printable import counted, how_often
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from dfsfs.control.answers import Link, Requests, Session
    from dfsfs.control.client import Answer
    from dfsfs.control.places import MountEntry

    Report = Answer[Status] | ControlError


# -- status -----------------------------------------------------------------------------------------------------------


def _status_parser() -> Parser:
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


def _status(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    patience = Patience(AT_ONCE)
    reports: list[tuple[MountEntry, Report]]
    left: list[Lingering] = []
    if arguments.mount:
        entry, _ = mount_at(arguments.mount)
        reports = [(entry, ask_with(patience, Status, entry, "status"))]
    else:
        left = lingering()
        reports = list(_each(patience, all_mounts() if not left or our_mounts() else []))
    if arguments.json:
        show_json([*(_json_of(entry, report) for entry, report in reports), *(one.as_json() for one in left)])
    else:
        pages = [*(_lines_of(entry, report) for entry, report in reports), *(one.lines() for one in left)]
        for number, lines in enumerate(pages):
            show([*([""] if number else []), *lines])
    wrong = [report for entry, report in reports if isinstance(report, ControlError) and may_ask(entry)]
    return max(map(code_of, wrong), default=SUCCESS)


def _each(patience: Patience, entries: Sequence[MountEntry]) -> Iterator[tuple[MountEntry, Report]]:
    """The reports of mounts; those that answer others only are not asked."""
    for entry in entries:
        if may_ask(entry):
            yield from ask_each(patience, Status, [entry], "status")
        else:
            yield entry, ControlError(f"only user {entry.owner}, who has mounted it, or root may ask it", WRONG)


def _lines_of(entry: MountEntry, report: Report) -> list[str]:
    if not isinstance(report, ControlError):
        return status_lines(entry, report.said)
    state = "DEAD: " if isinstance(report, DeadMount) else "NO ANSWER: " if may_ask(entry) else ""
    reason = str(report).removeprefix(f"nobody answers for the mount on {entry.mountpoint}: ")
    return [f"{entry.mountpoint} is {entry.source}", f"  {state}{reason}"]


def _json_of(entry: MountEntry, report: Report) -> dict[str, Any]:
    """A report with what the kernel says of the mount in the place of what its program says."""
    sure = {"path": entry.mountpoint, "owner": entry.owner}
    if isinstance(report, ControlError):
        return {"mount": {**sure, "unc": entry.source}, "problem": str(report)}
    return {**report.raw, "mount": {**report.raw["mount"], **sure}, "problem": None}


def status_lines(entry: MountEntry, found: Status) -> list[str]:
    """A report of a mount, for people."""
    mount = found.mount
    lines = [
        f"{entry.mountpoint} is {mount.unc}",
        *([] if is_trusted(entry) else [f"  mounted by user {entry.owner}, whose program says all of this"]),
        f"  as {mount.user}{', each user for themselves' if mount.multiuser else ''}"
        f"{', read only' if mount.read_only else ''}; for {shown_time(mount.seconds)}; "
        f"process {mount.pid}, dfsfs {mount.version}",
        f"  {counted(found.files.open, 'open file')}, {shown_size(found.bytes.read)} read, "
        f"{shown_size(found.bytes.written)} written; {counted(found.caches.referrals, 'referral')} known",
        "",
        *_links_table(found.links, mount.unc),
        "",
        *_sessions_table(found.sessions),
    ]
    if found.drained:
        lines += ["", f"drained: {', '.join(found.drained)}"]
    if found.requests:
        lines += ["", *_requests_table(found.requests)]
    if found.errors:
        lines += ["", "errors: " + ", ".join(f"{name} {count}" for name, count in sorted(found.errors.items()))]
    moves = {name: found.events.get(name, 0) for name in ("FailedOver", "FailedBack", "Reconnected")}
    if any(moves.values()):
        often = {name: how_often(count) for name, count in moves.items()}
        lines += [
            "",
            "failed over {FailedOver}, back {FailedBack}; connected again {Reconnected}".format(**often),
        ]
    return lines


def _links_table(links: Sequence[Link], top: str) -> list[str]:
    def state(link: Link) -> str:
        words = ["connected" if link.connected else "leads back to itself" if link.loops else "not connected"]
        words += ["failed over"] if link.failed_over else []
        words += ["chosen by hand"] if link.chosen else []
        words += [f"user {link.uid}"] if link.uid is not None else []
        return ", ".join(words)

    rows = [
        (
            link.path.removeprefix(f"{top}/"),
            link.target or "-",
            len(link.targets),
            "-" if link.seconds_left is None else shown_left(link.seconds_left),
            state(link),
        )
        for link in links
    ]
    return table(["LINK", "IS AT", "OF", "REFERRAL", "STATE"], rows)


def _sessions_table(sessions: Sequence[Session]) -> list[str]:
    rows = [
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
    ]
    return table(["SERVER", "SMB", "PROTECTED BY", "LOGIN", "USER", "WAITING", "REQUESTS"], rows)


def _requests_table(requests: dict[str, Requests]) -> list[str]:
    rows = [
        (
            name,
            figures.count,
            figures.failed,
            *(f"{seconds * 1000:.1f}" for seconds in (figures.p50, figures.p95, figures.p99, figures.longest)),
        )
        for name, figures in requests.items()
    ]
    return table(["REQUEST", "COUNT", "FAILED", "50% MS", "95%", "99%", "LONGEST"], rows)


# -- targets ----------------------------------------------------------------------------------------------------------


def _target_parser() -> Parser:
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


def _target(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    if (arguments.action == "set") != (arguments.target is not None):
        raise ControlError("set takes a target, list and unset take none; see dfsfs target --help", WRONG)
    entry, path = _place(arguments.path, arguments.mount)
    extra = {"target": arguments.target} if arguments.target is not None else {}
    found = ask(Targets, entry, f"target.{arguments.action}", path=path or ".", **extra)
    if arguments.json:
        show_json(found.raw)
    else:
        show(targets_lines(found.said))
    return SUCCESS


def _place(path: str, mount: str | None) -> tuple[MountEntry, str]:
    """The mount to ask about a path, and the path as it knows it."""
    return (the_mount(mount, path), path) if is_unc(path) else mount_at(path)


def targets_lines(found: Targets) -> list[str]:
    """The targets of a link, for people."""
    lines = [found.path]
    for target in found.targets:
        words = [word for word, so in (("chosen", target.chosen), ("drained", target.drained)) if so]
        shown = f"  ({', '.join(words)})" if words else ""
        lines.append(f"  {'*' if target.in_use else ' '} {target.path}{shown}")
    return lines


STATUS = Command("status", _status_parser, _status)
TARGET = Command("target", _target_parser, _target)

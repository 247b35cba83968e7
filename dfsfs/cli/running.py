"""Commands for running mounts, which they ask through their control sockets: status, cache, domain, target, drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from dfsfs.cli.command import (
    Command,
    Parser,
    add_json,
    add_mount,
    code_of,
    fail,
    shown_size,
    shown_time,
    table,
)
from dfsfs.cli.messages import SUCCESS
from dfsfs.cli.output import show, show_json
from dfsfs.control.answers import CachedReferral, Domains, Drained, Flushed, Status, Targets
from dfsfs.control.client import ANSWERING, AT_ONCE, Patience, ask, ask_each, is_trusted, mount_at
from dfsfs.control.places import our_mounts
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from dfsfs.control.answers import Link, Requests, Session
    from dfsfs.control.client import Answer
    from dfsfs.control.places import MountEntry

T = TypeVar("T")


def the_mount(path: str | None) -> MountEntry:
    """The mount that a path is in; without one, the only mount that there is. Raises ControlError."""
    if path is not None:
        return mount_at(path)[0]
    found = our_mounts()
    if len(found) == 1:
        return found[0]
    if not found:
        raise ControlError("nothing is mounted by dfsfs", WRONG)
    raise ControlError(f"there are {len(found)} mounts; name one of {', '.join(m.mountpoint for m in found)}", WRONG)


def _good(
    answers: Iterable[tuple[MountEntry, Answer[T] | ControlError]],
) -> tuple[list[tuple[MountEntry, Answer[T]]], int]:
    """The answers that make sense, and the exit code; of each other one it is said what is wrong."""
    found, code = [], SUCCESS
    for entry, answer in answers:
        if isinstance(answer, ControlError):
            code = max(code, fail(str(answer), code_of(answer)))
        else:
            found.append((entry, answer))
    return found, code


# -- status -----------------------------------------------------------------------------------------------------------


def _status_parser() -> Parser:
    parser = Parser(
        "status",
        "shows what running mounts do: targets, sessions, open files, errors, times",
        about="Shows what running mounts do: targets, sessions, open files, errors, times. A mount that does not "
        "answer, or answers what makes no sense, is one line on stderr, and the exit code says so.",
    )
    parser.add_argument("mount", nargs="?", metavar="PATH", help="a mount, or a path in one; without, all mounts")
    add_json(parser)
    return parser


def _status(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries = [mount_at(arguments.mount)[0]] if arguments.mount else our_mounts()
    if not entries:
        raise ControlError("nothing is mounted by dfsfs", WRONG)
    reports, code = _good(ask_each(Patience(AT_ONCE), Status, entries, "status"))
    if arguments.json:
        show_json([_with_what_is_sure(entry, report.raw) for entry, report in reports])
        return code
    for number, (entry, report) in enumerate(reports):
        show(["", *status_lines(entry, report.said)] if number else status_lines(entry, report.said))
    return code


def _with_what_is_sure(entry: MountEntry, report: dict[str, Any]) -> dict[str, Any]:
    """A report with what the kernel says of the mount in the place of what its program says."""
    return {**report, "mount": {**report["mount"], "path": entry.mountpoint, "owner": entry.owner}}


def status_lines(entry: MountEntry, found: Status) -> list[str]:
    """A report of a mount, for people."""
    mount = found.mount
    lines = [
        f"{entry.mountpoint} is {mount.unc}",
        *([] if is_trusted(entry) else [f"  mounted by user {entry.owner}, whose program says all of this"]),
        f"  as {mount.user}{', each user for themselves' if mount.multiuser else ''}"
        f"{', read only' if mount.read_only else ''}; for {shown_time(mount.seconds)}; "
        f"process {mount.pid}, dfsfs {mount.version}",
        f"  {found.files.open} open files, {shown_size(found.bytes.read)} read, "
        f"{shown_size(found.bytes.written)} written; {found.caches.referrals} referrals known",
        "",
        *_links_table(found.links),
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
        lines += [
            "",
            "failed over {FailedOver} times, back {FailedBack}; connected again {Reconnected}".format(**moves),
        ]
    return lines


def _links_table(links: Sequence[Link]) -> list[str]:
    def state(link: Link) -> str:
        words = ["connected" if link.connected else "not connected"]
        words += ["failed over"] if link.failed_over else []
        words += ["chosen by hand"] if link.chosen else []
        words += [f"user {link.uid}"] if link.uid is not None else []
        return ", ".join(words)

    rows = [
        (
            link.path,
            link.target,
            f"{len(link.targets)} targets" if len(link.targets) != 1 else "1 target",
            "-" if link.seconds_left is None else shown_time(link.seconds_left),
            state(link),
        )
        for link in links
    ]
    return table(["LINK", "IS AT", "OF", "REFERRAL ENDS IN", "STATE"], rows)


def _sessions_table(sessions: Sequence[Session]) -> list[str]:
    rows = [
        (
            session.host,
            session.address,
            session.dialect,
            session.encryption or f"{session.signing} signatures",
            session.authentication,
            session.user if session.uid is None else f"user {session.uid}",
            session.in_flight,
            session.requests,
        )
        for session in sessions
    ]
    return table(["SERVER", "ADDRESS", "SMB", "PROTECTED BY", "LOGIN", "USER", "WAITING", "REQUESTS"], rows)


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


# -- cache and domain -------------------------------------------------------------------------------------------------


def _cache_parser() -> Parser:
    parser = Parser("cache", "shows or empties the referral cache of a mount")
    parser.add_argument("action", choices=["show", "flush"])
    parser.add_argument("prefix", nargs="?", metavar="PATH", help="only what is at or below a path, local or UNC")
    add_mount(parser)
    add_json(parser)
    return parser


def _cache(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entry, prefix = _place(arguments.prefix, arguments.mount)
    wanted = {"prefix": prefix} if prefix is not None else {}
    if arguments.action == "flush":
        flushed = ask(Flushed, entry, "cache.flush", **wanted)
        lines = [f"{flushed.said.flushed} referrals forgotten; what is used next is asked for again"]
        return _shown(flushed, lines, json=arguments.json)
    found = ask(tuple[CachedReferral, ...], entry, "cache.show", **wanted)
    return _shown(found, cache_lines(found.said), json=arguments.json)


def _shown(answer: Answer[Any], lines: Sequence[str], *, json: bool) -> int:
    """Shows an answer, which is `lines` for people. The exit code."""
    if json:
        show_json(answer.raw)
    else:
        show(lines)
    return SUCCESS


def cache_lines(entries: Sequence[CachedReferral]) -> list[str]:
    """The entries of a referral cache, for people."""
    lines = []
    for entry in sorted(entries, key=lambda entry: entry.prefix.casefold()):
        left = f"{shown_time(entry.seconds_left)} of {shown_time(entry.ttl)} left"
        lines.append(f"{entry.prefix}  ({entry.kind}, {left}{', failback' if entry.failback else ''})")
        for number, target in enumerate(entry.targets):
            lines += ["    --"] if number and target.starts_set else []
            lines.append(f"  {'*' if target.hint else ' '} {target.path}")
    return lines or ["the cache is empty"]


def _place(path: str | None, mount: str | None) -> tuple[MountEntry, str | None]:
    """The mount to ask about a path, and the path as it knows it."""
    if path is None or is_unc(path):
        return the_mount(mount), path
    entry, rest = mount_at(path)
    return entry, rest or "."


def _domain_parser() -> Parser:
    parser = Parser("domain", "shows or forgets the domains that a mount knows, with their controllers")
    parser.add_argument("action", choices=["show", "flush"])
    add_mount(parser)
    add_json(parser)
    return parser


def _domain(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entry = the_mount(arguments.mount)
    if arguments.action == "flush":
        flushed = ask(Flushed, entry, "domain.flush")
        lines = [f"{flushed.said.flushed} domains forgotten, and looked for again"]
        return _shown(flushed, lines, json=arguments.json)
    found = ask(Domains, entry, "domain.show")
    return _shown(found, domains_lines(found.said), json=arguments.json)


def domains_lines(found: Domains) -> list[str]:
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
    return _shown(found, targets_lines(found.said), json=arguments.json)


def targets_lines(found: Targets) -> list[str]:
    """The targets of a link, for people."""
    lines = [found.path]
    for target in found.targets:
        words = [word for word, so in (("chosen", target.chosen), ("drained", target.drained)) if so]
        shown = f"  ({', '.join(words)})" if words else ""
        lines.append(f"  {'*' if target.in_use else ' '} {target.path}{shown}")
    return lines


def _drain_parser() -> Parser:
    parser = Parser(
        "drain",
        "moves links off a server, before it is taken down",
        about="Moves the links of all mounts off a server, and keeps them off it as long as another target answers. "
        "Files that are open there stay until they are closed.",
    )
    parser.add_argument("host", metavar="SERVER")
    parser.add_argument("--undo", action="store_true", help="let links go there again")
    add_mount(parser)
    add_json(parser)
    return parser


def _drain(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries = our_mounts() if arguments.mount is None else [the_mount(arguments.mount)]
    if not entries:
        raise ControlError("nothing is mounted by dfsfs", WRONG)
    command = "undrain" if arguments.undo else "drain"
    found, code = _good(ask_each(Patience(ANSWERING), Drained, entries, command, host=arguments.host))
    if arguments.json:
        show_json([{**answer.raw, "mount": entry.mountpoint} for entry, answer in found])
        return code
    for entry, answer in found:
        show([f"{entry.mountpoint}: {answer.said.host} {'may be used again' if arguments.undo else 'is drained'}"])
        for link in answer.said.links:
            left = f"moved to {link.to}" if link.to else f"stays at {link.from_}: no other target answers"
            show([f"    {link.path} {left}"])
    return code


STATUS = Command("status", _status_parser, _status)
CACHE = Command("cache", _cache_parser, _cache)
DOMAIN = Command("domain", _domain_parser, _domain)
TARGET = Command("target", _target_parser, _target)
DRAIN = Command("drain", _drain_parser, _drain)

"""Commands for running mounts, which they ask through their control sockets: status, cache, domain, target, drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.cli.command import (
    Command,
    Parser,
    add_json,
    add_mount,
    print_json,
    shown_size,
    shown_time,
    table,
)
from dfsfs.cli.messages import SUCCESS
from dfsfs.control.client import ask, mount_at
from dfsfs.control.places import our_mounts
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.control.places import MountEntry


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


# -- status -----------------------------------------------------------------------------------------------------------


def _status_parser() -> Parser:
    parser = Parser("status", "shows what running mounts do: targets, sessions, open files, errors, times")
    parser.add_argument("mount", nargs="?", metavar="PATH", help="a mount, or a path in one; without, all mounts")
    add_json(parser)
    return parser


def _status(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    entries = [mount_at(arguments.mount)[0]] if arguments.mount else our_mounts()
    if not entries:
        raise ControlError("nothing is mounted by dfsfs", WRONG)
    reports = [ask(entry, "status") for entry in entries]
    if arguments.json:
        print_json(reports)
    else:
        print("\n\n".join(map(status_text, reports)))
    return SUCCESS


def status_text(found: dict[str, Any]) -> str:
    """A report of a mount, for people."""
    mount, counts = found["mount"], found["bytes"]
    lines = [
        f"{mount['path']} is {mount['unc']}",
        f"  as {mount['user']}{', each user for themselves' if mount['multiuser'] else ''}"
        f"{', read only' if mount['read_only'] else ''}; for {shown_time(mount['seconds'])}; "
        f"process {mount['pid']}, dfsfs {mount['version']}",
        f"  {found['files']['open']} open files, {shown_size(counts['read'])} read, "
        f"{shown_size(counts['written'])} written; {found['caches']['referrals']} referrals known",
        "",
        _links_text(found["links"]),
        "",
        _sessions_text(found["sessions"]),
    ]
    if found["drained"]:
        lines += ["", f"drained: {', '.join(found['drained'])}"]
    if found["requests"]:
        lines += ["", _requests_text(found["requests"])]
    if found["errors"]:
        lines += ["", "errors: " + ", ".join(f"{name} {count}" for name, count in sorted(found["errors"].items()))]
    moves = {name: found["events"].get(name, 0) for name in ("FailedOver", "FailedBack", "Reconnected")}
    if any(moves.values()):
        lines += [
            "",
            "failed over {FailedOver} times, back {FailedBack}; connected again {Reconnected}".format(**moves),
        ]
    return "\n".join(lines)


def _links_text(links: list[dict[str, Any]]) -> str:
    def state(link: dict[str, Any]) -> str:
        words = ["connected" if link["connected"] else "not connected"]
        words += ["failed over"] if link["failed_over"] else []
        words += ["chosen by hand"] if link["chosen"] else []
        words += [f"user {link['uid']}"] if link["uid"] is not None else []
        return ", ".join(words)

    rows = [
        (
            link["path"],
            link["target"],
            f"{len(link['targets'])} targets" if len(link["targets"]) != 1 else "1 target",
            "-" if link["seconds_left"] is None else shown_time(link["seconds_left"]),
            state(link),
        )
        for link in links
    ]
    return table(["LINK", "IS AT", "OF", "REFERRAL ENDS IN", "STATE"], rows)


def _sessions_text(sessions: list[dict[str, Any]]) -> str:
    rows = [
        (
            session["host"],
            session["address"],
            session["dialect"],
            session["encryption"] or f"{session['signing']} signatures",
            session["authentication"],
            session["user"] if session["uid"] is None else f"user {session['uid']}",
            session["in_flight"],
            session["requests"],
        )
        for session in sessions
    ]
    return table(["SERVER", "ADDRESS", "SMB", "PROTECTED BY", "LOGIN", "USER", "WAITING", "REQUESTS"], rows)


def _requests_text(requests: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            name,
            figures["count"],
            figures["failed"],
            *(f"{figures[key] * 1000:.1f}" for key in ("p50", "p95", "p99", "longest")),
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
    found = ask(entry, f"cache.{arguments.action}", **wanted)
    if arguments.json:
        print_json(found)
    elif arguments.action == "flush":
        print(f"{found['flushed']} referrals forgotten; what is used next is asked for again")
    else:
        print(cache_text(found) if found else "the cache is empty")
    return SUCCESS


def cache_text(entries: list[dict[str, Any]]) -> str:
    """The entries of a referral cache, for people."""
    lines = []
    for entry in sorted(entries, key=lambda entry: str(entry["prefix"]).casefold()):
        kind = "root" if entry["kind"] == "root" else entry["kind"]
        left = f"{shown_time(entry['seconds_left'])} of {shown_time(entry['ttl'])} left"
        lines.append(f"{entry['prefix']}  ({kind}, {left}{', failback' if entry['failback'] else ''})")
        for number, target in enumerate(entry["targets"]):
            set_begins = number and target["starts_set"]
            lines += ["    --"] if set_begins else []
            lines.append(f"  {'*' if target['hint'] else ' '} {target['path']}")
    return "\n".join(lines)


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
    found = ask(the_mount(arguments.mount), f"domain.{arguments.action}")
    if arguments.json:
        print_json(found)
    elif arguments.action == "flush":
        print(f"{found['flushed']} domains forgotten, and looked for again")
    else:
        print(_domains_text(found))
    return SUCCESS


def _domains_text(found: dict[str, Any]) -> str:
    lines = []
    if found["found"] is None:
        lines.append("no domain of this computer was found")
    else:
        ours = found["found"]
        names = " or ".join(filter(None, (ours["name"], ours["netbios"]))) or "of unknown name"
        lines.append(f"our domain: {names}{', site ' + ours['site'] if ours['site'] else ''}")
        lines += [f"    {host}" for host in ours["controllers"]]
    for domain in found["domains"]:
        lines.append(f"{domain['name']}{'' if domain['controllers'] else '  (its controllers were not asked for yet)'}")
        lines += [f"  {'*' if host == domain['hint'] else ' '} {host}" for host in domain["controllers"]]
    return "\n".join(lines)


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
    found = ask(entry, f"target.{arguments.action}", path=path or ".", **extra)
    if arguments.json:
        print_json(found)
    else:
        print(targets_text(found))
    return SUCCESS


def targets_text(found: dict[str, Any]) -> str:
    """The targets of a link, for people."""
    lines = [found["path"]]
    for target in found["targets"]:
        words = [word for word in ("chosen", "drained") if target[word]]
        shown = f"  ({', '.join(words)})" if words else ""
        lines.append(f"  {'*' if target['in_use'] else ' '} {target['path']}{shown}")
    return "\n".join(lines)


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
    found = [{"mount": entry.mountpoint, **ask(entry, command, host=arguments.host)} for entry in entries]
    if arguments.json:
        print_json(found)
        return SUCCESS
    for one in found:
        print(f"{one['mount']}: {one['host']} {'may be used again' if arguments.undo else 'is drained'}")
        for link in one.get("links", ()):
            left = f"moved to {link['to']}" if link["to"] else f"stays at {link['from']}: no other target answers"
            print(f"    {link['path']} {left}")
    return SUCCESS


STATUS = Command("status", _status_parser, _status)
CACHE = Command("cache", _cache_parser, _cache)
DOMAIN = Command("domain", _domain_parser, _domain)
TARGET = Command("target", _target_parser, _target)
DRAIN = Command("drain", _drain_parser, _drain)

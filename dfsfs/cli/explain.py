"""The command `dfsfs explain`: how a path of a namespace is resolved, step by step, and which of its targets answer.

A path of a mount is explained by the mount: with what its caches have, and the targets and sessions that it uses. For
a UNC path servers are asked anew, as a mount with the same options would at its first access. Nothing is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfsfs.cli.command import Command, Parser, add_json, add_options, fail, print_json, shown_time, table
from dfsfs.cli.messages import MOUNT_FAILURE, SUCCESS, describe, one_line
from dfsfs.cli.remote import Remote, config_for, options_hidden, run
from dfsfs.control.client import ask, mount_at
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def _parser() -> Parser:
    parser = Parser(
        "explain",
        "shows how a path is resolved, step by step, and which of its targets answer",
        about="Shows how a path is resolved: what the cache has, who is asked for a referral, what the answers say, "
        "which namespaces the path leads through, and which target it comes to. Then every target is tried.\n\n"
        "For a path in a mount, that mount says it. For a UNC path servers are asked as a mount with the same options "
        "would ask them; the password is asked for or comes from where mount.dfsfs takes it.",
    )
    parser.add_argument("path", metavar="PATH", help="a path in a mount, or //SERVER/NAMESPACE[/FOLDER...]")
    parser.add_argument("--all-roots", action="store_true", help="also ask every server of the namespace, and compare")
    add_options(parser)
    add_json(parser)
    return parser


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    if is_unc(arguments.path):
        options_hidden(arguments, ["explain", *words])
        found = run(config_for(arguments.path, arguments), lambda remote: _explain(remote, arguments.all_roots))
    else:
        entry, path = mount_at(arguments.path)
        extra = {"all_roots": "yes"} if arguments.all_roots else {}
        found = ask(entry, "explain", path=path or ".", **extra)
    if arguments.json:
        print_json(found)
        return MOUNT_FAILURE if found["problem"] else SUCCESS
    print(explanation_text(found))
    return fail(f"{found['path']}: {found['problem']}", MOUNT_FAILURE) if found["problem"] else SUCCESS


async def _explain(remote: Remote, all_roots: bool) -> dict[str, Any]:
    from dfsfs.control import report
    from dfsfs.namespace.explain import ask_all_roots, explain

    path = remote.path(remote.config.unc)
    found = await explain(remote.namespace, remote.pool, path)
    told = report.explanation(found, remote.pool.sessions())
    if found.problem is not None:
        told["problem"] = describe(found.problem, remote.config).text
    if all_roots:
        told["all_roots"] = report.roots(await ask_all_roots(remote.namespace, found.link or path))
    return told


def explanation_text(found: dict[str, Any]) -> str:
    """An explanation for people."""
    lines = [
        f"{number:3}  {step['seconds'] * 1000:7.1f} ms  {one_line(step['text'])}"
        for number, step in enumerate(found["steps"], 1)
    ]
    lines += [""] if lines else []
    lines.append(f"{found['path']} {'can not be used' if found['problem'] else 'is a ' + found['kind']}")
    if found["link"] is not None:
        left = f"; its referral is good for {shown_time(found['seconds_left'])}" if found["seconds_left"] else ""
        lines.append(f"It is in {found['link']}{left}. The targets, in the order in which they are tried:")
        lines += [_target_text(target) for target in found["targets"]]
    if "all_roots" in found:
        lines += ["", _roots_text(found["all_roots"])]
    return "\n".join(lines)


def _target_text(target: dict[str, Any]) -> str:
    mark = "*" if target["in_use"] else " "
    if target["problem"]:
        return f"  {mark} {target['path']}: {target['problem']}"
    session = target["session"]
    parts = [f"answers in {shown_time(target['seconds'])}", target["remark"]]
    if session is not None:
        how = session["encryption"] or f"signed with {session['signing']}"
        login = f"{session['authentication']} as {session['user']}"
        login += f", ticket for {session['spn']}" if session["spn"] else ""
        parts += [f"SMB {session['dialect']} at {session['address']}, {how}", login]
    return f"  {mark} {target['path']}: {'; '.join(parts)}"


def _roots_text(found: dict[str, Any]) -> str:
    rows = [
        (
            row["host"],
            row["problem"] or ", ".join(row["targets"]) or "no target",
            "-" if row["ttl"] is None else row["ttl"],
        )
        for row in found["roots"]
    ]
    verdict = "They differ." if found["differ"] else "They say the same."
    return table(["NAMESPACE SERVER", "SAYS", "TTL"], rows) + f"\n{verdict if len(rows) > 1 else 'There is no other.'}"


EXPLAIN = Command("explain", _parser, _run)

"""The command `dfsfs explain`: how a path of a namespace is resolved, step by step, and which of its targets answer.

A path of a mount is explained by the mount: with what its caches have, and the targets and sessions that it uses. For
a UNC path servers are asked anew, as a mount with the same options would at its first access. Nothing is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, add_json, add_options, fail
from dfsfs.cli.exitcodes import MOUNT_FAILURE, SUCCESS
from dfsfs.cli.figures import format_time
from dfsfs.cli.output import show, show_json
from dfsfs.cli.remote import Remote, config_for, hide_options, run
from dfsfs.cli.tables import Column, Table
from dfsfs.control.answers import Explanation
from dfsfs.control.client import Answer, ask, mount_at
from dfsfs.control.shapes import to_json
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.control.answers import Roots, TriedTarget


def _make_parser() -> Parser:
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
        hide_options(arguments, ["explain", *words])
        config = config_for(arguments.path, arguments)
        said = run(config, lambda remote: _explain(remote, all_roots=arguments.all_roots))
        found = Answer(said, to_json(said))
    else:
        entry, path = mount_at(arguments.path)
        extra = {"all_roots": "yes"} if arguments.all_roots else {}
        found = ask(Explanation, entry, "explain", path=path or ".", **extra)
    problem = found.said.problem
    if arguments.json:
        show_json(found.raw)
        return MOUNT_FAILURE if problem else SUCCESS
    show(format_explanation(found.said))
    return fail(f"{found.said.path}: {problem}", MOUNT_FAILURE) if problem else SUCCESS


async def _explain(remote: Remote, *, all_roots: bool) -> Explanation:
    from dfsfs.control.explaining import explain_path  # needs trio, which a mount's answer does not

    path = remote.path(remote.config.unc)
    return await explain_path(remote.config, remote.namespace, remote.pool, path, all_roots=all_roots)


def format_explanation(found: Explanation) -> list[str | Table]:
    """An explanation for people."""
    lines: list[str | Table] = [
        f"{number:3}  {step.seconds * 1000:7.1f} ms  {step.text}" for number, step in enumerate(found.steps, 1)
    ]
    lines += [""] if lines else []
    lines.append(f"{found.path} {'can not be used' if found.problem else f'is a {found.kind}'}")
    if found.link is not None:
        left = "" if found.seconds_left is None else f"; its referral {_left(found.seconds_left)}"
        lines.append(f"It is in {found.link}{left}. The targets, in the order in which they are tried:")
        lines += map(_target_line, found.targets)
    if found.all_roots is not None:
        lines += ["", *_format_roots(found.all_roots)]
    return lines


def _left(seconds: float) -> str:
    return f"is good for {format_time(seconds)}" if seconds > 0 else "has expired, and is asked for again"


def _target_line(target: TriedTarget) -> str:
    mark = "*" if target.in_use else " "
    if target.problem or target.seconds is None:
        return f"  {mark} {target.path}: {target.problem or 'no answer'}"
    session = target.session
    parts = [f"answers in {format_time(target.seconds)}", target.remark]
    if session is not None:
        how = session.encryption or f"signed with {session.signing}"
        login = f"{session.authentication} as {session.user}"
        login += f", ticket for {session.spn}" if session.spn else ""
        parts += [f"SMB {session.dialect} at {session.address}, {how}", login]
    return f"  {mark} {target.path}: {'; '.join(parts)}"


def _format_roots(found: Roots) -> list[str | Table]:
    rows: list[tuple[str, str, str | int]] = [
        (root.host, root.problem or ", ".join(root.targets) or "no target", "-" if root.ttl is None else root.ttl)
        for root in found.roots
    ]
    verdict = "They differ." if found.differ else "They say the same."
    columns = (Column("NAMESPACE SERVER"), Column("SAYS", wraps=True), Column("TTL"))
    return [Table(columns, rows), verdict if len(rows) > 1 else "There is no other."]


COMMAND = Command("explain", _make_parser, _run)

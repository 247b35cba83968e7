"""The command dfsfs, with its subcommands; `mount` is mount.dfsfs under another name.

What a command needs is imported when it is called: see registry.py.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dfsfs.cli.collector import exempt_what_is_there
from dfsfs.cli.exitcodes import SUCCESS, USAGE
from dfsfs.cli.output import as_in_a_pipe, complain, escape_tracebacks, show
from dfsfs.cli.registry import all_commands, find
from dfsfs.smb.auth.identity import forbid_core_dumps
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    from collections.abc import Sequence


def help_lines() -> list[str]:
    """What --help shows."""
    rows = [("mount", "mounts a namespace or a share; the same as mount.dfsfs, which fstab and `mount -t dfsfs` use")]
    rows += [(command.name, command.make_parser().summary) for command in all_commands()]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {summary}" for name, summary in rows]
    return [
        "usage: dfsfs COMMAND [ARGUMENTS]",
        "       dfsfs COMMAND --help",
        "       dfsfs --version",
        "",
        "Mounts Microsoft DFS namespaces on Linux, and says what is going on in them.",
        "",
        *lines,
        "",
        "To unmount, use umount(8) or fusermount3 -u. See dfsfs(1) and mount.dfsfs(8).",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    escape_tracebacks()
    words = sys.argv[1:] if argv is None else list(argv)
    if argv is None:  # a program of its own
        exempt_what_is_there()
    forbid_core_dumps()
    return as_in_a_pipe(lambda: _run(words))


def _run(words: list[str]) -> int:
    match words:
        case ["mount", *rest]:
            return _mount(rest)
        case ["--version" | "-V", *_]:
            from dfsfs.cli.versions import format_versions

            show(format_versions())
            return SUCCESS
        case ["--help" | "-h" | "help"]:
            show(help_lines())
            return SUCCESS
        case [word, *_] if is_unc(word):
            # mount.fuse(8) starts what is mounted with the type fuse.dfsfs like this, also to remount it.
            return _mount(words)
        case [word, *rest]:
            command = find(word)
            if command is not None:
                return command.main(rest)
            complain("dfsfs", f"there is no command {word!r}; see dfsfs --help")
        case _:
            complain("dfsfs", "a command is needed; see dfsfs --help")
    return USAGE


def _mount(words: list[str]) -> int:
    from dfsfs.cli import mount

    return mount.main(words)


if __name__ == "__main__":
    sys.exit(main())

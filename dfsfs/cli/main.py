"""The command dfsfs, with its subcommands; `mount` is mount.dfsfs under another name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import dfsfs
from dfsfs.cli import copy, explain, login, mount
from dfsfs.cli.messages import SUCCESS, USAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = """\
usage: dfsfs mount //SERVER/NAMESPACE[/FOLDER...] MOUNTPOINT [OPTIONS]
       dfsfs explain //SERVER/NAMESPACE[/FOLDER...] [OPTIONS]
       dfsfs cp FILE... TARGET
       dfsfs login //DOMAIN-OR-SERVER
       dfsfs logout //DOMAIN-OR-SERVER
       dfsfs COMMAND --help
       dfsfs --version

dfsfs mounts a Microsoft DFS namespace on Linux.

  mount    mounts a namespace or a share; the same as mount.dfsfs, which `mount -t dfsfs` and /etc/fstab use
  explain  shows how a path is resolved, step by step, and which of its targets answer
  cp       copies files inside of a mount, on the server itself where that is possible
  login    keeps your user and password, for mounts of many users; logout forgets them

To unmount, use umount(8) or fusermount3 -u."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    match words:
        case ["mount", *rest]:
            return mount.main(rest)
        case ["explain", *rest]:
            return explain.main(rest)
        case ["cp", *rest]:
            return copy.main(rest)
        case ["login", *rest]:
            return login.login(rest)
        case ["logout", *rest]:
            return login.logout(rest)
        case ["--version" | "-V"]:
            print(f"dfsfs {dfsfs.__version__}")
            return SUCCESS
        case ["--help" | "-h" | "help"]:
            print(HELP)
            return SUCCESS
        case [word, *_]:
            print(f"dfsfs: there is no command {word!r}; see dfsfs --help", file=sys.stderr)
        case _:
            print("dfsfs: a command is needed; see dfsfs --help", file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())

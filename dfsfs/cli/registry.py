"""The commands of `dfsfs`, in the order in which help shows them. A module is imported when its command is needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.cli.command import Command

NAMES = (
    *("status", "explain", "check", "tree", "ls", "cat", "cp", "target", "drain", "cache", "domain", "login", "logout"),
    *("bugreport", "completion"),
)
"""Those of the modules in dfsfs/cli/commands."""


def find(name: str) -> Command | None:
    """The command of that name."""
    if name not in NAMES:
        return None
    command: Command = import_module(f"dfsfs.cli.commands.{name}").COMMAND
    return command


def all_commands() -> tuple[Command, ...]:
    """Every command."""
    return tuple(command for command in map(find, NAMES) if command is not None)

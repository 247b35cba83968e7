"""The commands of `dfsfs`, in the order in which help shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.cli.bugreport import BUGREPORT
from dfsfs.cli.caches import CACHE, DOMAIN
from dfsfs.cli.check import CHECK
from dfsfs.cli.completion import completion_command
from dfsfs.cli.copy import COPY
from dfsfs.cli.drain import DRAIN
from dfsfs.cli.explain import EXPLAIN
from dfsfs.cli.files import CAT, LS
from dfsfs.cli.login import LOGIN, LOGOUT
from dfsfs.cli.namespaces import TREE
from dfsfs.cli.running import STATUS, TARGET

if TYPE_CHECKING:
    from dfsfs.cli.command import Command

COMMANDS: tuple[Command, ...] = (
    *(STATUS, EXPLAIN, CHECK, TREE, LS, CAT, COPY, TARGET, DRAIN, CACHE, DOMAIN, LOGIN, LOGOUT),
    *(BUGREPORT, completion_command(lambda: COMMANDS)),
)


def find(name: str) -> Command | None:
    """The command of that name."""
    return next((command for command in COMMANDS if command.name == name), None)

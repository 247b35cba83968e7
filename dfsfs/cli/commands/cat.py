"""The command `dfsfs cat`: a file of a namespace without a mount, for scripts and rescue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, add_options
from dfsfs.cli.contents import pieces_of
from dfsfs.cli.exitcodes import SUCCESS, USAGE
from dfsfs.cli.messages import MountError
from dfsfs.cli.output import flush, write_data
from dfsfs.cli.remote import Remote, config_for, hide_options, run

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def _make_parser() -> Parser:
    parser = Parser("cat", "writes a file of a namespace to stdout without mounting it")
    parser.add_argument("path", metavar="//SERVER/NAMESPACE/FILE")
    add_options(parser)
    return parser


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    hide_options(arguments, ["cat", *words])
    run(config_for(arguments.path, arguments), _write_out)
    flush()
    return SUCCESS


async def _write_out(remote: Remote) -> None:
    import trio

    location, stat = await remote.namespace.find(remote.path(remote.config.unc))
    if stat.is_directory:
        raise MountError(USAGE, f"{remote.config.unc} is a folder; see dfsfs ls")
    async for piece in pieces_of(remote.namespace, location):
        await trio.to_thread.run_sync(write_data, piece)


COMMAND = Command("cat", _make_parser, _run)

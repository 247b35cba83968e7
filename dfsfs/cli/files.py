"""The commands `dfsfs ls` and `dfsfs cat`: folders and files of a namespace without a mount, for scripts and rescue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dfsfs.cli.command import Command, Parser, add_json, add_options, shown_size
from dfsfs.cli.messages import MOUNT_FAILURE, SUCCESS, USAGE, MountError
from dfsfs.cli.output import flush, show, show_json, write_data
from dfsfs.cli.remote import Remote, config_for, options_hidden, run
from dfsfs.printable import printable_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Sequence

    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Attempt, Location
    from dfsfs.smb.wire.messages import Buffer

PIECE = 8 * 1024 * 1024
"""Bytes that are read at once, in several requests under way together."""


# -- ls ---------------------------------------------------------------------------------------------------------------


def _ls_parser() -> Parser:
    parser = Parser(
        "ls",
        "lists a folder of a namespace without mounting it",
        about="Lists a folder of a namespace without mounting it. A line is a name; control characters and backslashes "
        "in names are escaped as by ls -b, with \\x1b for a number.",
    )
    parser.add_argument("path", metavar="//SERVER/NAMESPACE[/FOLDER...]")
    parser.add_argument("-l", "--long", action="store_true", help="show sizes and times too")
    add_options(parser)
    add_json(parser)
    return parser


def _ls(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    options_hidden(arguments, ["ls", *words])
    rows = run(config_for(arguments.path, arguments), _list)
    if arguments.json:
        show_json(rows)
        return SUCCESS
    show(_line(row, long=arguments.long) for row in rows)
    return SUCCESS


def _line(row: dict[str, Any], *, long: bool) -> str:
    """An entry of a folder, for people and for programs that read names: escapes as in `ls -b`."""
    name = printable_name(row["name"]) + {"folder": "/", "link": "/", "special": "@"}.get(row["kind"], "")
    if not long:
        return name
    changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["modified"]))
    size = shown_size(row["size"]) if row["kind"] == "file" else row["kind"]
    return f"{size:>10}  {changed}  {name}"


async def _list(remote: Remote) -> list[dict[str, Any]]:
    location, stat = await remote.namespace.find(remote.path(remote.config.unc))
    if not stat.is_directory:
        return [_row(remote, location.components[-1] if location.components else "", stat)]
    rows = [_row(remote, entry.name, entry.stat) for entry in await remote.namespace.list_directory(location)]
    return sorted(rows, key=lambda row: str(row["name"]).casefold())


def _row(remote: Remote, name: str, stat: Any) -> dict[str, Any]:
    """An entry of a folder. Times in seconds since 1970, sizes in bytes."""
    shown = remote.names.from_wire(name)
    kind = "link" if stat.is_marked_link else "folder" if stat.is_directory else "special" if stat.special else "file"
    return {
        "name": name if shown is None else shown.decode("utf-8", "backslashreplace"),
        "kind": kind,
        "size": stat.size,
        "modified": stat.written / 1e9,
    }


# -- cat --------------------------------------------------------------------------------------------------------------


def _cat_parser() -> Parser:
    parser = Parser("cat", "writes a file of a namespace to stdout without mounting it")
    parser.add_argument("path", metavar="//SERVER/NAMESPACE/FILE")
    add_options(parser)
    return parser


def _cat(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    options_hidden(arguments, ["cat", *words])
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


class SourceChanged(MountError):
    """A file has changed while it was read."""


async def pieces_of(
    namespace: Namespace, location: Location, begin: int = 0, version: tuple[int, int] | None = None
) -> AsyncIterator[Buffer]:
    """A file from `begin` to its end, read on whatever target answers, as long as it is the same file: the one of size
    and last write time `version`, or the one that is there at the beginning.

    Raises:
        SourceChanged: it is another one now.
        DfsfsError: what a server said.
    """
    from dfsfs.smb.wire.constants import Access, CreateDisposition

    offset = begin

    async def read(attempt: Attempt) -> Buffer:
        nonlocal version
        file = await attempt.tree.open(attempt.path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN)
        try:
            now = (file.stat.size, file.stat.written)
            if version is not None and now != version:
                raise SourceChanged(MOUNT_FAILURE, f"{location.unc} has changed while it was read")
            version = now
            return await file.read(offset, PIECE)
        finally:
            await file.close()

    while data := await namespace.run(location, read):
        yield data
        offset += len(data)


LS = Command("ls", _ls_parser, _ls)
CAT = Command("cat", _cat_parser, _cat)

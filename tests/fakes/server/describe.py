"""What a request asks, in a few words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.smb.wire.messages import Access, Command, CreateDisposition, FileInfoClass
from tests.fakes.server import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.fakes.server.messages import Part


def describe(parts: Sequence[Part]) -> str:
    """A frame: `CREATE f OPEN read lease + QUERY_INFO + CLOSE`."""
    return " + ".join(_DESCRIBE.get(part.command, _plain)(part) for part in parts)


def _plain(part: Part) -> str:
    return part.command.name


def _create(part: Part) -> str:
    asked = messages.parse_create(part.body)
    ways = [
        word
        for word, bits in (("read", Access.READ_DATA), ("write", Access.WRITE_DATA), ("delete", Access.DELETE))
        if asked.access & bits
    ]
    lease = f" lease {asked.lease[0][:2].hex()}" if asked.lease is not None else ""
    name = asked.name.replace("\\", "/") or "/"
    return f"CREATE {name} {CreateDisposition(asked.disposition).name} {'+'.join(ways) or 'look'}{lease}"


def _read(part: Part) -> str:
    _, offset, size = messages.parse_read(part.body)
    return f"READ {size} at {offset}"


def _write(part: Part) -> str:
    _, offset, data = messages.parse_write(part.body)
    return f"WRITE {data[:16]!r} at {offset}"


def _set_info(part: Part) -> str:
    _, _, info_class, info = messages.parse_set_info(part.body)
    kind = FileInfoClass(info_class)
    if kind in (FileInfoClass.RENAME, FileInfoClass.LINK):
        names, replace = messages.parse_rename(info)
        return f"{kind.name} to {'/'.join(names)}{' replacing' if replace else ''}"
    if kind is FileInfoClass.END_OF_FILE:
        return f"END_OF_FILE {int.from_bytes(info[:8], 'little')}"
    return f"SET {kind.name}"


_DESCRIBE: dict[Command, Callable[[Part], str]] = {
    Command.CREATE: _create,
    Command.READ: _read,
    Command.WRITE: _write,
    Command.SET_INFO: _set_info,
}

"""What a request asks, in a few words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.smb.wire.constants import Access, Command, CreateDisposition, FileInformationClass
from tests.support.fakes.server import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.fakes.server.messages import Part


def describe(parts: Sequence[Part]) -> str:
    """A frame: `CREATE f OPEN read lease + QUERY_INFO + CLOSE`."""
    return " + ".join(_DESCRIBE.get(part.command, _plain)(part) for part in parts)


def _plain(part: Part) -> str:
    return part.command.word


def _short(member: CreateDisposition | FileInformationClass) -> str:
    """`OPEN` of FILE_OPEN, `BASIC` of FILE_BASIC_INFORMATION."""
    return member.name.removeprefix("FILE_").removesuffix("_INFORMATION")


def _create(part: Part) -> str:
    asked = messages.parse_create(part.body)
    ways = [
        word
        for word, bits in (
            ("read", Access.FILE_READ_DATA),
            ("write", Access.FILE_WRITE_DATA),
            ("delete", Access.DELETE),
        )
        if asked.access & bits
    ]
    lease = f" lease {asked.lease[0][:2].hex()}" if asked.lease is not None else ""
    name = asked.name.replace("\\", "/") or "/"
    return f"CREATE {name} {_short(CreateDisposition(asked.disposition))} {'+'.join(ways) or 'look'}{lease}"


def _read(part: Part) -> str:
    _, offset, size = messages.parse_read(part.body)
    return f"READ {size} at {offset}"


def _write(part: Part) -> str:
    _, offset, data = messages.parse_write(part.body)
    return f"WRITE {data[:16]!r} at {offset}"


def _set_info(part: Part) -> str:
    _, _, info_class, info = messages.parse_set_info(part.body)
    kind = FileInformationClass(info_class)
    if kind in (FileInformationClass.FILE_RENAME_INFORMATION, FileInformationClass.FILE_LINK_INFORMATION):
        names, replace = messages.parse_rename(info)
        return f"{_short(kind)} to {'/'.join(names)}{' replacing' if replace else ''}"
    if kind is FileInformationClass.FILE_END_OF_FILE_INFORMATION:
        return f"END_OF_FILE {int.from_bytes(info[:8], 'little')}"
    return f"SET {_short(kind)}"


_DESCRIBE: dict[Command, Callable[[Part], str]] = {
    Command.SMB2_CREATE: _create,
    Command.SMB2_READ: _read,
    Command.SMB2_WRITE: _write,
    Command.SMB2_SET_INFO: _set_info,
}

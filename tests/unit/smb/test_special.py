"""What is done to symbolic links on a server, and to no DFS link. Samba keeps both alike."""

from __future__ import annotations

import stat as posix
import struct
from typing import TYPE_CHECKING, cast

import pytest

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Response, Route
from dfsfs.smb.tree.channel import IoLimits
from dfsfs.smb.tree.compounds import PathChannel
from dfsfs.smb.tree.special import SpecialFiles
from dfsfs.smb.wire.constants import Command, ReparseTag
from dfsfs.smb.wire.messages import HEADER_SIZE, Header, Request
from dfsfs.smb.wire.reparse import SpecialFile, encode_reparse
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dfsfs.smb.connection.connection import Connection

SHARE = UncPath.parse("//ns/dfs")
PATH = SHARE.join(["name"])
CREATED = struct.pack("<HBBIQQQQQQII16sII", 89, 0, 0, 1, *[0] * 6, 0x400, 0, b"i" * 16, 0, 0)
ALL = struct.pack("<QQQQIIQQIBBHQIIQII", *[0] * 4, 0x400, *[0] * 13)


class OneName(PathChannel):
    """A share on which everything is a reparse point with this data. `changes`: what was asked besides looking."""

    def __init__(self, data: bytes) -> None:
        route = Route(dfs=True)
        super().__init__(cast("Connection", object()), SHARE, route, IoLimits(65536, 65536, 65536))
        self.special = SpecialFiles(self, mfsymlinks=False)
        self.data = data
        self.changes: list[Command] = []

    async def call(self, requests: Sequence[Request]) -> list[Response]:
        self.changes += [
            request.command for request in requests if request.command in (Command.SMB2_SET_INFO, Command.SMB2_WRITE)
        ]
        return [self._answer(request) for request in requests]

    def call_nowait(self, requests: Sequence[Request]) -> None:
        assert [request.command for request in requests] == [Command.SMB2_CLOSE]

    def _answer(self, request: Request) -> Response:
        body = b""
        if request.command == Command.SMB2_CREATE:
            body = CREATED
        elif request.command == Command.SMB2_QUERY_INFO:
            body = struct.pack("<HHI", 9, HEADER_SIZE + 8, len(ALL)) + ALL
        elif request.command == Command.SMB2_IOCTL:
            head = struct.pack("<HHI16sIIIIII", 49, 0, 0, b"i" * 16, 0, 0, HEADER_SIZE + 48, len(self.data), 0, 0)
            body = head + self.data
        header = cast("Header", _Status(NtStatus.SUCCESS))
        return Response(header, memoryview(bytes(HEADER_SIZE) + body))


class _Status:
    def __init__(self, status: int) -> None:
        self.status = status


def link(text: str) -> bytes:
    """As Samba 4.22 sends it."""
    return encode_reparse(SpecialFile(posix.S_IFLNK, wire_target=text))


CHANGES: list[Callable[[SpecialFiles], Awaitable[object]]] = [
    lambda special: special.remove(PATH),
    lambda special: special.rename(PATH, SHARE.join(["new"]), replace=True),
    lambda special: special.link(PATH, SHARE.join(["new"])),
    lambda special: special.set_basic(PATH, b""),
]
DFS_LINKS = {
    "as Samba 4.22 has it": link("msdfs:fs1/data"),
    "as Samba takes it as well": link("MsDfs:fs1/data,fs2/data"),
    "as an NFS server has it": encode_reparse(SpecialFile(posix.S_IFLNK, "msdfs:fs1\\data")),
    "as Windows has it": struct.pack("<IHH", ReparseTag.IO_REPARSE_TAG_DFS, 4, 0) + b"data",
}


@pytest.mark.parametrize("data", DFS_LINKS.values(), ids=DFS_LINKS)
async def test_a_dfs_link_is_not_changed_whatever_it_looks_like(data: bytes) -> None:
    for change in CHANGES:
        share = OneName(data)
        with pytest.raises(SmbError) as caught:
            await change(share.special)
        assert caught.value.status == NtStatus.PATH_NOT_COVERED and not share.changes


@pytest.mark.parametrize("name", [name for name in DFS_LINKS if name != "as Windows has it"])
async def test_a_dfs_link_is_shown_as_none_of_ours(name: str) -> None:
    with pytest.raises(SmbError) as caught:
        await OneName(DFS_LINKS[name]).special.lstat(PATH)
    assert caught.value.status == NtStatus.PATH_NOT_COVERED


async def test_one_of_windows_is_shown_by_its_tag() -> None:
    assert (await OneName(DFS_LINKS["as Windows has it"]).special.lstat(PATH)).is_marked_link


@pytest.mark.parametrize("text", ["target", "to/msdfs:x", "msdfs"])
async def test_another_link_is_changed(text: str) -> None:
    for change in CHANGES:
        share = OneName(link(text))
        await change(share.special)
        assert Command.SMB2_SET_INFO in share.changes
    stat = await OneName(link(text)).special.lstat(PATH)
    assert stat.special is not None and stat.special.wire_target == text


@pytest.mark.parametrize("text", ["msdfs:fs1\\data", "MSDFS:"])
@pytest.mark.parametrize("wire_target", [True, False])
async def test_nobody_makes_a_dfs_link(text: str, *, wire_target: bool) -> None:
    """Who makes a symbolic link with such a text gets one that only programs follow."""
    share = OneName(b"")
    special = SpecialFile(posix.S_IFLNK, text, text if wire_target else "")
    assert await share.special.make(PATH, special) is not None
    assert Command.SMB2_WRITE in share.changes, "it is a file with the text in it"

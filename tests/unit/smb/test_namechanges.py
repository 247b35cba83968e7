"""Removals of read-only files, on a server in memory: what is refused, and what they are then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Access, Command, FileAttributes, FileInformationClass
from tests.support.fakes.server import messages
from tests.support.fakes.server.client import SHARE, connected
from tests.support.fakes.server.requests import Answer
from tests.support.fakes.server.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fakes.server.messages import Part
    from tests.support.fakes.server.requests import Session

FILE = SHARE.join(["file"])
READ_ONLY = FileAttributes.FILE_ATTRIBUTE_READONLY | FileAttributes.FILE_ATTRIBUTE_ARCHIVE


def holding(attributes: int = READ_ONLY) -> Server:
    server = Server()
    server.volume.add_file("file", b"data")
    server.volume.at("file").attributes = attributes
    return server


def refusing(
    command: Command, what: Callable[[bytes], bool], status: NtStatus
) -> Callable[[Session, Part], Answer | None]:
    def lie(session: Session, part: Part) -> Answer | None:
        return Answer(status, messages.ERROR_BODY) if part.command is command and what(part.body) else None

    return lie


def names(server: Server) -> list[str]:
    return [name for name, _ in server.volume.root.children.values()]


async def test_a_file_that_is_known_to_be_read_only_is_removed_at_once() -> None:
    server = holding()
    async with connected(server) as tree:
        assert await tree.remove_file(FILE, [SHARE], READ_ONLY) != [None]
    assert not names(server)


async def test_who_may_not_change_attributes_may_still_remove() -> None:
    """As where a share lets read-only files be deleted (Samba: delete readonly)."""
    server = holding(FileAttributes.FILE_ATTRIBUTE_ARCHIVE)
    changes = refusing(
        Command.SMB2_CREATE,
        lambda body: bool(messages.parse_create(body).access & Access.FILE_WRITE_ATTRIBUTES),
        NtStatus.ACCESS_DENIED,
    )
    server.lie = changes
    async with connected(server) as tree:
        assert await tree.remove_file(FILE, [SHARE], READ_ONLY) != [None]
    assert not names(server)


@pytest.mark.parametrize("known", [0, READ_ONLY])
@pytest.mark.parametrize("status", [NtStatus.ACCESS_DENIED, NtStatus.CANNOT_DELETE])
async def test_a_read_only_file_that_is_not_removed_is_read_only_still(known: int, status: NtStatus) -> None:
    server = holding()
    server.lie = refusing(
        Command.SMB2_SET_INFO,
        lambda body: messages.parse_set_info(body)[2] == FileInformationClass.FILE_DISPOSITION_INFORMATION,
        status,
    )
    async with connected(server) as tree:
        with pytest.raises(SmbError) as caught:
            await tree.remove_file(FILE, [SHARE], known)
        assert caught.value.status == status
    assert names(server) == ["file"] and server.volume.at("file").attributes == READ_ONLY

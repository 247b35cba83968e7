"""Extended attributes: which names of a server's programs are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfsfs.errors import ConnectionLost, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.vfs.xattrs import is_usable
from tests.support.fakes.memory_tree import MemoryXattrs
from tests.unit.vfs.world import World

if TYPE_CHECKING:
    from dfsfs.unc import UncPath


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        (b"user.note", True),
        (b"user.\xff", True),
        (b"user." + b"x" * 250, True),
        (b"user." + b"x" * 251, False),
        (b"user.", False),
        (b"user.a\0b", False),
        (b"user.dfsfs.path", False),
        (b"user.stream.Zone.Identifier", True),
        ("user.stream.ü".encode(), True),
        (b"user.stream.", False),
        (b"user.stream.a/b", False),
        (b"user.stream.a:b", False),
        (b"user.stream.a\nb", False),
        ("user.stream.\ud800".encode("utf-8", "surrogatepass"), False),
    ],
)
def test_names_that_no_program_can_ask_for_are_left_out(name: bytes, usable: bool) -> None:
    assert is_usable(name) is usable


async def test_a_stream_whose_removal_was_not_answered_is_removed(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, streams = World(), {"note"}
    world.root.add_file("file")

    async def read_stream(xattrs: MemoryXattrs, path: UncPath, name: str) -> bytes:
        return b"text"

    async def remove_stream(xattrs: MemoryXattrs, path: UncPath, name: str) -> None:
        if name not in streams:
            raise SmbError(NtStatus.OBJECT_NAME_NOT_FOUND, f"removal of {name}")
        streams.remove(name)
        world.namespace.cut("//dfs/ns")
        raise ConnectionLost(path.host, NtStatus.CONNECTION_RESET, "and the answer with it")

    monkeypatch.setattr(MemoryXattrs, "read_stream", read_stream, raising=False)
    monkeypatch.setattr(MemoryXattrs, "remove_stream", remove_stream, raising=False)
    ino = await world.ino("file")
    await world.fs.removexattr(ino, b"user.stream.note")
    assert not streams and await world.ino("file") == ino

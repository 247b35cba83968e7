"""What the tests of this package share: pools, hosts that are put right, raw requests.

The lab is one for the whole session. Whoever stops or pauses a host does it inside `paused` or `down`, whoever needs
files asks for `scratch_folder`.
"""

from __future__ import annotations

import os
import shutil
import struct
import uuid
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.smb.pool import Pool
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import Access, Command, CreateDisposition, Dialect
from dfsfs.smb.wire.messages import Request
from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from dfsfs.smb.connection.connection import Connection
    from dfsfs.smb.tree.tree import Tree
    from tests.support.lab.samba import Lab, LabHost

PATIENCE = 10
"""Seconds until what has to happen soon counts as never."""
EXCLUSIVE = 0
"""ShareAccess of an open that tolerates no other."""
BATCH_OPLOCK = 9
"""RequestedOplockLevel (MS-SMB2 2.2.13)."""

PLAIN = {
    "2.1": TransportSettings(dialects=(Dialect.SMB_2_1,)),
    "3.0": TransportSettings(dialects=(Dialect.SMB_3_0,)),
    "3.0.2": TransportSettings(dialects=(Dialect.SMB_3_0_2,)),
    "3.1.1": TransportSettings(dialects=(Dialect.SMB_3_1_1,)),
}
SEALED = {f"{name} sealed": replace(PLAIN[name], seal=True) for name in ("3.0", "3.0.2", "3.1.1")}
SPOKEN = PLAIN | SEALED
"""Every way to talk to a server, as settings by name."""


def credentials_of(lab: Lab) -> Credentials:
    user, password = lab.credentials
    return Credentials(user, Secret(password))


@asynccontextmanager
async def open_pool(
    lab: Lab, settings: TransportSettings | None = None, credentials: Credentials | None = None
) -> AsyncIterator[Pool]:
    async with Pool(settings or TransportSettings(), credentials or credentials_of(lab)) as pool:
        yield pool


def share_of(lab: Lab, host: str, share: str) -> UncPath:
    return UncPath((lab.address(host), share))


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns as soon as the condition holds; fails the test if it does not come to that."""
    deadline = trio.current_time() + PATIENCE
    while not condition():
        assert trio.current_time() < deadline, "what the test waits for does not happen"
        await trio.sleep(0.005)


async def idle(connection: Connection) -> None:
    """Returns once the server has answered everything, posted requests included."""
    await eventually(lambda: connection.statistics().in_flight == connection.statistics().queued == 0)


@contextmanager
def paused(host: LabHost) -> Iterator[None]:
    host.pause()
    try:
        yield
    finally:
        host.resume()


@contextmanager
def to_be_restored(host: LabHost) -> Iterator[None]:
    """The host runs at the end, whatever became of it."""
    try:
        yield
    finally:
        if not host.running:
            host.start()


@dataclass(frozen=True)
class Scratch:
    """A folder in fs1/data that only one test uses, as the client and as this machine see it."""

    share: UncPath
    path: UncPath
    local: Path

    def file(self, name: str, data: bytes = b"") -> UncPath:
        """Makes a file in it behind the server's back."""
        (self.local / name).write_bytes(data)
        shutil.chown(self.local / name, _owner(self.local), _group(self.local))
        return self.path.join([name])


def _owner(path: Path) -> int:
    return path.parent.stat().st_uid


def _group(path: Path) -> int:
    return path.parent.stat().st_gid


@contextmanager
def scratch_folder(lab: Lab) -> Iterator[Scratch]:
    data = lab.host("fs1").share_path("data")
    before = data.stat()
    local = data / f"scratch-{uuid.uuid4().hex[:8]}"
    local.mkdir()
    os.chown(local, before.st_uid, before.st_gid)
    share = share_of(lab, "fs1", "data")
    try:
        yield Scratch(share, share.join([local.name]), local)
    finally:
        shutil.rmtree(local)
        os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))


# -- requests that dfsfs itself has no use for ------------------------------------------------------------------------


def echo() -> Request:
    return messages.encode_plain(Command.SMB2_ECHO)


def change_notify(file_id: bytes) -> Request:
    """A request that the server holds until a name below the folder changes (MS-SMB2 2.2.35)."""
    return Request(Command.SMB2_CHANGE_NOTIFY, struct.pack("<HHI16sII", 32, 0, 4096, file_id, 0x3, 0))


def encode_open(tree: Tree, path: UncPath, *, share_access: int = 7, oplock: int = 0) -> Request:
    """CREATE that opens a file for reading, as dfsfs never does it: with an oplock, or sharing nothing."""
    request = messages.encode_create(
        tree.channel.wire_name(path),
        access=Access.READ,
        disposition=CreateDisposition.FILE_OPEN,
        share_access=share_access,
    )
    return replace(request, body=request.body[:3] + bytes([oplock]) + request.body[4:])


LOCK_SHARED, LOCK_EXCLUSIVE, LOCK_UNLOCK, LOCK_AT_ONCE = 1, 2, 4, 0x10
"""Flags of a lock (MS-SMB2 2.2.26.1); AT_ONCE: or not at all."""


def lock_range(file_id: bytes, offset: int, length: int, flags: int = LOCK_EXCLUSIVE | LOCK_AT_ONCE) -> Request:
    """LOCK of one range of bytes (MS-SMB2 2.2.26), which dfsfs never asks for."""
    return Request(Command.SMB2_LOCK, struct.pack("<HHI16sQQII", 48, 1, 0, file_id, offset, length, flags, 0))


@asynccontextmanager
async def locked_by_another(
    lab: Lab, path: UncPath, *ranges: tuple[int, int], flags: int = LOCK_EXCLUSIVE | LOCK_AT_ONCE
) -> AsyncIterator[None]:
    """Another client has these ranges of a file, (offset, length), for itself."""
    async with open_pool(lab) as pool:
        tree = await pool.connect_tree(path.share)
        create = messages.encode_create(
            tree.channel.wire_name(path),
            access=Access.READ | Access.FILE_WRITE_DATA,
            disposition=CreateDisposition.FILE_OPEN,
        )
        (response,) = await tree.channel.call([create])
        tree.channel.check(response, f"open of {path}")
        file_id = messages.decode_create(response.message).file_id
        for offset, length in ranges:
            (response,) = await tree.channel.call([lock_range(file_id, offset, length, flags)])
            tree.channel.check(response, f"lock of {path}")
        try:
            yield
        finally:
            await close_raw(tree, file_id)


async def open_raw(tree: Tree, path: UncPath, *, share_access: int = 7, oplock: int = 0) -> bytes:
    """The FileId of a new handle."""
    (response,) = await tree.channel.call([encode_open(tree, path, share_access=share_access, oplock=oplock)])
    tree.channel.check(response, f"open of {path}")
    return messages.decode_create(response.message).file_id


async def close_raw(tree: Tree, file_id: bytes) -> None:
    (response,) = await tree.channel.call([messages.encode_close(file_id)])
    tree.channel.check(response, "close")


async def nobody_has_open(tree: Tree, path: UncPath) -> bool:
    """Whether the server lets somebody have the file for himself: then no handle on it is left."""
    opened, _ = await tree.channel.call(
        [encode_open(tree, path, share_access=EXCLUSIVE), messages.encode_close(b"\xff" * 16)]
    )
    assert opened.status in (NtStatus.SUCCESS, NtStatus.SHARING_VIOLATION)
    return opened.status == NtStatus.SUCCESS


async def eventually_closed(tree: Tree, path: UncPath) -> None:
    deadline = trio.current_time() + PATIENCE
    while not await nobody_has_open(tree, path):
        assert trio.current_time() < deadline, f"a handle on {path} is left open"

"""`dfsfs cp` from and to UNC paths, without a mount.

What is copied is written beside its target under another name, brought to the disk there, and only then takes the
target's place: whoever looks sees the old file or the new one. A copy that fails leaves nothing behind, as far as the
server answers.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from dfsfs.cli.files import PIECE, pieces_of
from dfsfs.cli.messages import MOUNT_FAILURE, USAGE, MountError, cannot_read
from dfsfs.errors import DfsfsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dfsfs.cli.remote import Remote
    from dfsfs.namespace.junction import Attempt, Location
    from dfsfs.smb.fscc import FileStat
    from dfsfs.smb.wire import Buffer
    from dfsfs.unc import UncPath


async def fetch(remote: Remote, source: UncPath, place: Path) -> int:
    """Copies a file of a namespace to a file of this computer. How many bytes that were.

    Raises:
        MountError: it is no file, or can't be written here.
        DfsfsError: what a server said.
    """
    import trio

    location, stat = await _file_at(remote, source)
    part = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}.part")
    size = 0
    try:
        with part.open("xb", buffering=0) as file:
            try:
                async for piece in pieces_of(remote.namespace, location):
                    await trio.to_thread.run_sync(_write_all, file.fileno(), piece)
                    size += len(piece)
                await trio.to_thread.run_sync(os.fsync, file.fileno())
                os.utime(file.fileno(), ns=(stat.written, stat.written))
                part.rename(place)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise MountError(MOUNT_FAILURE, f"{place}: {error.strerror}") from None
    return size


def _write_all(file: int, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


async def send(remote: Remote, source: Path, target: UncPath) -> int:
    """Copies a file of this computer into a namespace; `target` is a file or a folder. How many bytes that were.

    Raises:
        MountError: the source can't be read, or has changed meanwhile.
        DfsfsError: what a server said.
    """
    try:
        with source.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            name = remote.names.to_wire(os.fsencode(source.name))
            size = await _send(remote, _LocalFile(file.fileno()), name, target)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise cannot_read(str(source), error) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise MountError(MOUNT_FAILURE, f"{source} has changed while it was copied; the copy may be neither")
    return size


async def carry(remote: Remote, source: UncPath, target: UncPath) -> int:
    """Copies a file from one place of namespaces to another, by way of this computer. Errors as in fetch and send."""
    location, _ = await _file_at(remote, source)
    return await _send(remote, _RemoteFile(remote, location), remote.path(source).components[-1], target)


class _LocalFile:
    """The content of a file here, from its beginning as often as it is asked for."""

    def __init__(self, file: int) -> None:
        self._file = file

    async def pieces(self) -> AsyncIterator[Buffer]:
        import trio

        offset = 0
        while data := await trio.to_thread.run_sync(os.pread, self._file, PIECE, offset):
            yield data
            offset += len(data)


class _RemoteFile:
    """The same of a file in a namespace."""

    def __init__(self, remote: Remote, location: Location) -> None:
        self._remote, self._location = remote, location

    def pieces(self) -> AsyncIterator[Buffer]:
        return pieces_of(self._remote.namespace, self._location)


async def _send(remote: Remote, source: _LocalFile | _RemoteFile, name: str, target: UncPath) -> int:
    folder, name = await _place(remote, target, name)
    part = f".{name[:200]}.{secrets.token_hex(4)}.part"

    async def write(attempt: Attempt) -> int:
        """All of it, also when it is tried again on another target: a part of a file is nobody's business."""
        from dfsfs.smb.wire import Access, CreateDisposition

        path = attempt.path.join([part])
        access, disposition = Access.READ | Access.WRITE, CreateDisposition.OVERWRITE_IF
        file = await attempt.tree.open(path, access=access, disposition=disposition)
        offset = 0
        try:
            async for piece in source.pieces():
                await file.write(offset, piece)
                offset += len(piece)
            await file.flush()
        finally:
            await file.close()
        await attempt.tree.rename(path, attempt.path.join([name]), replace=True)
        return offset

    try:
        return await remote.namespace.run(folder, write)
    except BaseException:
        await _remove(remote, folder, part)
        raise


async def _remove(remote: Remote, folder: Location, part: str) -> None:
    """What a copy has left, if the server answers within a moment."""
    import trio

    with trio.move_on_after(5, shield=True):
        try:
            await remote.namespace.run(folder, lambda attempt: attempt.tree.remove_file(attempt.path.join([part])))
        except DfsfsError:
            pass  # mostly there is none; else the error that is under way says enough


async def _place(remote: Remote, target: UncPath, name: str) -> tuple[Location, str]:
    """The folder of a target, and the name in it: its own, or that of the source if it is a folder."""
    try:
        location, stat = await remote.namespace.find(remote.path(target))
    except DfsfsError as error:
        if len(target) < 3:
            raise
        try:
            location, _ = await remote.namespace.find(remote.path(target.parent))
        except DfsfsError:
            raise error from None
        return location, remote.path(target).components[-1]
    if stat.is_directory:
        return location, name
    location, _ = await remote.namespace.find(remote.path(target.parent))
    return location, remote.path(target).components[-1]


async def _file_at(remote: Remote, source: UncPath) -> tuple[Location, FileStat]:
    location, stat = await remote.namespace.find(remote.path(source))
    if stat.is_directory:
        raise MountError(USAGE, f"{source} is a folder, and dfsfs cp copies files")
    return location, stat

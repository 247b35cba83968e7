"""`dfsfs cp` from and to UNC paths, without a mount.

What is copied is written beside its target under another name, brought to the disk there, and only then takes the
target's place: a reader sees the old file or the new one. A copy that fails or is interrupted leaves nothing
behind, as far as the server answers; with --continue it leaves what it has, and the next one goes on with that.
"""

from __future__ import annotations

import os
import secrets
import stat as posix
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.cli.contents import PIECE, SourceChanged, pieces_of
from dfsfs.cli.exitcodes import MOUNT_FAILURE, USAGE
from dfsfs.cli.messages import MountError, cannot_read
from dfsfs.cli.parts import CopyError, open_part, part_name, place_to_go_on, refusal, show_progress
from dfsfs.errors import DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dfsfs.cli.parts import Options, Report
    from dfsfs.cli.remote import Remote
    from dfsfs.namespace.junction import Attempt, Location
    from dfsfs.smb.tree.file import RemoteFile
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.unc import UncPath

CLEANING = 5.0
"""Seconds that a server has to take away what a copy has left."""


@dataclass(frozen=True, slots=True)
class _Source:
    """What is sent: its name on the wire, its size in bytes, its times in ns since 1970, what tells its version from
    others, and its content from some place on.
    """

    shown_name: str
    name: str
    size: int
    accessed: int
    written: int
    version: str
    pieces: Callable[[int], AsyncIterator[Buffer]]


async def fetch(remote: Remote, source: UncPath, place: Path, options: Options) -> None:
    """Copies a file of a namespace to a file of this computer.

    Raises:
        MountError: it is no file, or can't be written here.
        DfsfsError: what a server said.
    """
    location, stat = await _file_at(remote, source)
    part = place.with_name(part_name(place.name, _version(source, stat)))
    try:
        descriptor, begin = open_part(part, stat.size, resume=options.resume)
        try:
            with show_progress(source.components[-1], stat.size, options) as report:
                await _fill(remote, location, stat, descriptor, begin, report)
            if options.preserve:
                os.utime(descriptor, ns=(stat.accessed or stat.written, stat.written))
            part.rename(place)
        except BaseException as error:
            if not options.resume or isinstance(error, SourceChanged):
                part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except CopyError as error:
        raise MountError(MOUNT_FAILURE, str(error)) from None
    except OSError as error:
        raise MountError(MOUNT_FAILURE, f"{place}: {error.strerror}") from None


async def _fill(
    remote: Remote, location: Location, stat: FileStat, descriptor: int, begin: int, report: Report
) -> None:
    """Writes the rest of a file of a namespace to one here, and brings it to the disk."""
    import trio

    offset = begin
    async for piece in pieces_of(remote.namespace, location, begin, (stat.size, stat.written)):
        await trio.to_thread.run_sync(_write_all, descriptor, piece, offset)
        offset += len(piece)
        report(offset)
    await trio.to_thread.run_sync(os.fsync, descriptor)


def _write_all(file: int, data: Buffer, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


async def send(remote: Remote, source: Path, target: UncPath, options: Options) -> None:
    """Copies a file of this computer into a namespace; `target` is a file or a folder.

    Raises:
        MountError: the source can't be read, or has changed meanwhile.
        DfsfsError: what a server said.
    """
    try:
        # Without O_NONBLOCK a pipe would wait for its other end.
        file = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(file)
            if not posix.S_ISREG(before.st_mode):
                raise MountError(USAGE, f"{source} is not a file")
            await _send(remote, _source_here(remote, source, file, before), target, options)
            after = os.fstat(file)
        finally:
            os.close(file)
    except OSError as error:
        raise cannot_read(str(source), error) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise MountError(MOUNT_FAILURE, f"{source} has changed while it was copied; the copy may be neither")


async def carry(remote: Remote, source: UncPath, target: UncPath, options: Options) -> None:
    """Copies a file from one place of namespaces to another, by way of this computer. Errors as in fetch and send."""
    location, stat = await _file_at(remote, source)
    content = _Source(
        source.components[-1],
        remote.path(source).components[-1],
        stat.size,
        stat.accessed or stat.written,
        stat.written,
        _version(source, stat),
        lambda begin: pieces_of(remote.namespace, location, begin, (stat.size, stat.written)),
    )
    await _send(remote, content, target, options)


def _version(source: UncPath, stat: FileStat) -> str:
    return f"{source}:{stat.size}:{stat.written}"


def _source_here(remote: Remote, source: Path, file: int, about: os.stat_result) -> _Source:
    """The content of a file here, from some place on as often as it is asked for."""

    async def pieces(begin: int) -> AsyncIterator[Buffer]:
        import trio

        offset = begin
        while data := await trio.to_thread.run_sync(os.pread, file, PIECE, offset):
            yield data
            offset += len(data)

    name = remote.names.to_wire(os.fsencode(source.name))
    version = f"{about.st_dev}:{about.st_ino}:{about.st_size}:{about.st_mtime_ns}"
    return _Source(source.name, name, about.st_size, about.st_atime_ns, about.st_mtime_ns, version, pieces)


# -- writing on a server ----------------------------------------------------------------------------------------------


async def _send(remote: Remote, source: _Source, target: UncPath, options: Options) -> None:
    folder, name = await _place(remote, target, source.name)
    with show_progress(source.shown_name, source.size, options) as report:
        sending = _Sending(source, part_name(name, source.version), name, options, report)
        try:
            await remote.namespace.run(folder, sending.write)
        except BaseException as error:
            if not options.resume or isinstance(error, SourceChanged):
                await _remove(remote, folder, sending.parts)
            raise


@dataclass(slots=True)
class _Sending:
    """A file on its way into a folder. `parts`: under which names it was written so far, the last one counts."""

    source: _Source
    part: str
    name: str
    options: Options
    report: Report
    parts: list[str] = field(default_factory=list)

    async def write(self, attempt: Attempt) -> None:
        """All of it, also when it is tried again on another target, as no program uses a part. Errors as in send."""
        import trio

        from dfsfs.smb.wire.fscc import encode_basic_information

        file, path, offset = await self._open(attempt)
        try:
            async for piece in self.source.pieces(offset):
                await file.write(offset, piece)
                offset += len(piece)
                self.report(offset)
            await file.flush()
        finally:
            with trio.move_on_after(CLEANING, shield=True):
                await file.close()
        if self.options.preserve:
            times = encode_basic_information(None, self.source.accessed, self.source.written, None)
            await attempt.tree.set_basic(path, times)
        await attempt.tree.rename(path, attempt.path.join([self.name]), replace=True)

    async def _open(self, attempt: Attempt) -> tuple[RemoteFile, UncPath, int]:
        """The file to write to, its path, and where to go on."""
        from dfsfs.smb.wire.constants import Access, CreateDisposition

        access = Access.READ | Access.WRITE
        path = attempt.path.join([self.part])
        if self.options.resume and (left := await _open_left(attempt, path, self.source.size)) is not None:
            return left[0], path, left[1]
        if self.parts:  # what the last attempt has begun may still be open, for a server that has not noticed
            path = attempt.path.join([f"{self.part[:-5]}.{secrets.token_hex(4)}.part"])
        else:
            await _make_room(attempt, path)
        self.parts.append(path.components[-1])
        return await attempt.tree.open(path, access=access, disposition=CreateDisposition.FILE_CREATE), path, 0


async def _open_left(attempt: Attempt, path: UncPath, size: int) -> tuple[RemoteFile, int] | None:
    """What an interrupted copy has left, and where to go on; None if there is nothing.

    Raises:
        MountError: it is no plain file with one name.
    """
    from dfsfs.smb.wire.constants import Access, CreateDisposition

    try:
        file = await attempt.tree.open(path, access=Access.READ | Access.WRITE, disposition=CreateDisposition.FILE_OPEN)
    except SmbError as error:
        if error.status == NtStatus.OBJECT_NAME_NOT_FOUND:
            return None
        raise
    stat = file.stat
    if not posix.S_ISREG(stat.kind) or stat.reparse_tag or stat.links > 1:
        await file.close()
        raise MountError(MOUNT_FAILURE, str(refusal(path)))
    begin = place_to_go_on(stat.size, size)
    if begin == 0 and stat.size:
        await file.set_size(0)
    return file, begin


async def _make_room(attempt: Attempt, path: UncPath) -> None:
    """The name of a part can be guessed: what is there is removed, and never written to."""
    try:
        await attempt.tree.remove_file(path)
    except SmbError as error:
        if error.status not in (NtStatus.OBJECT_NAME_NOT_FOUND, NtStatus.OBJECT_PATH_NOT_FOUND):
            raise


async def _remove(remote: Remote, folder: Location, parts: list[str]) -> None:
    """What a copy has left, if the server answers within a moment."""
    import trio

    async def remove(attempt: Attempt) -> None:
        for part in parts:
            await _make_room(attempt, attempt.path.join([part]))

    with trio.move_on_after(CLEANING, shield=True):
        try:
            await remote.namespace.run(folder, remove)
        except DfsfsError:
            pass  # the error that is under way says enough


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

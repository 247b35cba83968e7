"""Copies files inside of a mounted namespace, on the server itself where that is possible.

The data of a file whose copy is on the same server doesn't come here and go back. Anything else is read and written, so
that any two files can be copied, as by cp(1). A copy is written to a file beside the target that takes the target's
place when it is complete; what an interrupted copy has left, the next one can go on with.
"""

from __future__ import annotations

import errno
import os
import stat as posix
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from dfsfs.cli.parts import STEP, CopyError, Options, open_part, part_name

if TYPE_CHECKING:
    from pathlib import Path

    from dfsfs.cli.parts import Report

BUFFER = 1024 * 1024
COPY_XATTR = "user.dfsfs.copy"
PATH_XATTR = "user.dfsfs.path"
"""Every file of a mount of ours has it."""
_ELSEWHERE = (errno.EXDEV, errno.EOPNOTSUPP)
"""What says that the server can't copy between two files."""


def copy(source: Path, target: Path, options: Options | None = None, report: Report = lambda done: None) -> None:
    """Copies a file over another one, or to a new one.

    Raises:
        CopyError: the source is no file, changes while it is copied, or is the target.
        OSError: as open(2), read(2), write(2), fsync(2) and rename(2) say it.
    """
    options = options or Options()
    with ExitStack() as stack:
        reader = stack.enter_context(source.open("rb", buffering=0))
        before = os.fstat(reader.fileno())
        if not posix.S_ISREG(before.st_mode):
            raise CopyError(f"{source} is not a file")
        with suppress(FileNotFoundError):
            if target.samefile(source):
                raise CopyError(f"{source} and {target} are the same file")
            if target.is_dir():
                raise CopyError(f"{target} is a folder")
        part = _part_of(target, before)
        found, begin = open_part(part, before.st_size, resume=options.resume)
        writer = stack.enter_context(open(found, "r+b", buffering=0))
        _copy_data(reader.fileno(), writer.fileno(), begin, before, report)
        os.fsync(writer.fileno())
        if os.fstat(writer.fileno()).st_size != before.st_size:
            raise CopyError(f"{part} has {os.fstat(writer.fileno()).st_size} bytes and should have {before.st_size}")
        now = os.fstat(reader.fileno())
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            part.unlink()
            raise CopyError(f"{source} has changed while it was copied")
        if options.preserve:
            os.utime(writer.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
    part.rename(target)


def version_of(source: os.stat_result) -> str:
    """What tells one version of a file here from another."""
    return f"{source.st_dev}:{source.st_ino}:{source.st_size}:{source.st_mtime_ns}"


def _part_of(target: Path, source: os.stat_result) -> Path:
    """Where a copy is while it is not complete."""
    return target.with_name(part_name(target.name, version_of(source)))


def _copy_data(reader: int, writer: int, begin: int, source: os.stat_result, report: Report) -> None:
    by_server = _are_on_one_mount(reader, writer)
    for offset in range(begin, source.st_size, STEP):
        length = min(STEP, source.st_size - offset)
        by_server = by_server and _copy_on_server(writer, source.st_ino, offset, length)
        if not by_server:
            _copy_here(reader, writer, offset, length)
        report(offset + length)


def _are_on_one_mount(reader: int, writer: int) -> bool:
    """Whether both files are on the same mount of ours. Any other file system would keep the attribute as it is."""
    try:
        os.getxattr(writer, PATH_XATTR)
    except OSError:
        return False
    return os.fstat(reader).st_dev == os.fstat(writer).st_dev


def _copy_on_server(writer: int, source: int, offset: int, length: int) -> bool:
    try:
        os.setxattr(writer, COPY_XATTR, f"{source}:{offset}:{offset}:{length}".encode())
    except OSError as error:
        if error.errno in _ELSEWHERE:
            return False
        raise
    return True


def _copy_here(reader: int, writer: int, offset: int, length: int) -> None:
    end = offset + length
    while offset < end:
        data = os.pread(reader, min(BUFFER, end - offset), offset)
        if not data:
            return  # it has become shorter, which is found out at the end
        while data:
            written = os.pwrite(writer, data, offset)
            data, offset = data[written:], offset + written

"""The command `dfsfs cp`: copies files inside of a mounted namespace, on the server itself where that is possible, and
from and to UNC paths (transfer.py).

The data of a file whose copy is on the same server doesn't come here and go back. Anything else is read and written, so
that the command does what cp(1) does for any two files. It writes to a file beside the target that takes the target's
place when it is complete; what an interrupted copy has left, `--continue` goes on with.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat as posix
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.cli import transfer
from dfsfs.cli.command import Command, Parser, add_options, fail
from dfsfs.cli.messages import INTERRUPTED, SUCCESS
from dfsfs.cli.output import is_watched
from dfsfs.cli.remote import config_for, options_hidden, run
from dfsfs.config import ConfigError, parse_unc
from dfsfs.control.places import is_ours
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from dfsfs.cli.remote import Remote

    Report = Callable[[int], None]
    """Called with the bytes that are copied so far."""

FAILURE = 32
"""The exit code if a file could not be copied."""
STEP = 16 * 1024 * 1024
"""Bytes that are copied at once: as many as a server takes in one request."""
BUFFER = 1024 * 1024
SHOWN_FROM = 64 * 1024 * 1024
"""Bytes of a file from which on a terminal sees how far its copy is."""
COPY_XATTR = "user.dfsfs.copy"
PATH_XATTR = "user.dfsfs.path"
"""Every file of a mount of ours has it."""
_ELSEWHERE = (errno.EXDEV, errno.EOPNOTSUPP)
"""What says that the server can't copy between two files."""


class CopyError(Exception):
    """A file could not be copied; the text names it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    resume: bool = False
    preserve: bool = False
    quiet: bool = False


def _parser() -> Parser:
    parser = Parser(
        "cp",
        "copies files inside of a mount on the server itself, and from and to UNC paths without a mount",
        about="Copies files to a file or into a folder. Where source and target are on the same server of a mounted "
        "namespace, that server copies, and the data does not travel. A file of the target's name is replaced when "
        "the copy is complete. A FILE or the TARGET may be a UNC path, for which no mount is needed.\n\n"
        "What is not there: folders are not copied (cp -r does that).",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="one or more, and the target as the last")
    parser.add_argument(
        *("-c", "--continue"),
        dest="resume",
        action="store_true",
        help="go on with a copy that was interrupted, if the source has not changed since",
    )
    parser.add_argument("-p", "--preserve", action="store_true", help="keep the time of the last change")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_options(parser)
    return parser


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    if any(map(is_unc, arguments.files)):
        return _run_remote(arguments, words)
    options = Options(arguments.resume, arguments.preserve, arguments.quiet)
    *sources, target = map(Path, arguments.files)
    if not sources:
        raise ConfigError("a file and a target are needed; see dfsfs cp --help")
    if len(sources) > 1 and not target.is_dir():
        raise ConfigError(f"{target} is not a folder, and there is more than one file to copy")
    code = SUCCESS
    for source in sources:
        place = target / source.name if target.is_dir() else target
        try:
            _copy_and_show(source, place, options)
        except CopyError as error:
            code = fail(str(error), FAILURE)
        except OSError as error:
            code = fail(f"{error.filename or source}: {error.strerror}", FAILURE)
        except KeyboardInterrupt:
            return fail(f"interrupted; dfsfs cp --continue goes on with {source}", INTERRUPTED)
    return code


def _run_remote(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Copies between here and a namespace, or two of them; all are reached with the login for the first one."""
    if arguments.resume:
        raise ConfigError("--continue is for copies inside of a mount")
    if len(arguments.files) < 2:
        raise ConfigError("a file and a target are needed; see dfsfs cp --help")
    options_hidden(arguments, ["cp", *words])
    *sources, target = arguments.files
    folder = Path(target)
    into = folder.is_dir()
    config = config_for(next(filter(is_unc, arguments.files)), arguments)

    async def work(remote: Remote) -> None:
        for source in sources:
            if is_unc(source) and is_unc(target):
                await transfer.carry(remote, parse_unc(source), parse_unc(target))
            elif is_unc(source):
                unc = parse_unc(source)
                await transfer.fetch(remote, unc, folder / unc.components[-1] if into else folder)
            elif is_unc(target):
                await transfer.send(remote, Path(source), parse_unc(target))
            else:
                raise ConfigError(f"{source} and {target} are both on this computer; use cp")

    run(config, work)
    return SUCCESS


def _copy_and_show(source: Path, target: Path, options: Options) -> None:
    size = source.stat().st_size
    if options.quiet or size < SHOWN_FROM or not is_watched():
        copy(source, target, options)
        return
    from dfsfs.cli.progress import of_bytes  # takes long to import, and only a terminal needs it

    with of_bytes(source.name, size) as report:
        copy(source, target, options, report)


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
        left = _open_left(part) if options.resume else None
        writer = stack.enter_context(open(_make(part) if left is None else left, "r+b", buffering=0))
        begin = _begin(writer.fileno(), before.st_size)
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


def _part_of(target: Path, source: os.stat_result) -> Path:
    """Where a copy is while it is not complete: the same for the same version of a source, so that it can go on."""
    version = f"{source.st_dev}:{source.st_ino}:{source.st_size}:{source.st_mtime_ns}"
    return target.with_name(f".{target.name[:200]}.{hashlib.blake2b(version.encode(), digest_size=6).hexdigest()}.part")


def _make(part: Path) -> int:
    """A descriptor of a new file to write to. Everybody can work out its name, so what is there may be a link that
    somebody else has laid: it is removed, and never written to. Raises OSError.
    """
    with suppress(FileNotFoundError):
        os.unlink(part)
    return os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _open_left(part: Path) -> int | None:
    """A descriptor of what an interrupted copy has left; None if there is nothing.

    Raises:
        CopyError: it may be somebody else's.
        OSError: as open(2) says it.
    """
    refusal = CopyError(f"{part} is not what an interrupted copy leaves; remove it, or copy without --continue")
    try:
        # Or else a pipe would wait for its other end.
        found = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise refusal from None
        raise
    about = os.fstat(found)
    # On a mount of ours st_uid is what its options say, and the server alone knows whose a file is.
    owned = about.st_uid == os.geteuid() or is_ours(about.st_dev)
    if not posix.S_ISREG(about.st_mode) or about.st_nlink != 1 or not owned:
        os.close(found)
        raise refusal
    return found


def _begin(part: int, size: int) -> int:
    """Where to go on; 0 in an empty file. What was last written may not have arrived whole."""
    there = os.fstat(part).st_size
    if there > size:
        os.ftruncate(part, 0)
        return 0
    return max(0, there - STEP) // STEP * STEP


def _copy_data(reader: int, writer: int, begin: int, source: os.stat_result, report: Report) -> None:
    by_server = _are_on_one_mount(reader, writer)
    for offset in range(begin, source.st_size, STEP):
        length = min(STEP, source.st_size - offset)
        by_server = by_server and _copied_by_server(writer, source.st_ino, offset, length)
        if not by_server:
            _copied_here(reader, writer, offset, length)
        report(offset + length)


def _are_on_one_mount(reader: int, writer: int) -> bool:
    """Whether both files are on the same mount of ours. Any other file system would keep the attribute as it is."""
    try:
        os.getxattr(writer, PATH_XATTR)
    except OSError:
        return False
    return os.fstat(reader).st_dev == os.fstat(writer).st_dev


def _copied_by_server(writer: int, source: int, offset: int, length: int) -> bool:
    try:
        os.setxattr(writer, COPY_XATTR, f"{source}:{offset}:{offset}:{length}".encode())
    except OSError as error:
        if error.errno in _ELSEWHERE:
            return False
        raise
    return True


def _copied_here(reader: int, writer: int, offset: int, length: int) -> None:
    end = offset + length
    while offset < end:
        data = os.pread(reader, min(BUFFER, end - offset), offset)
        if not data:
            return  # it has become shorter, which is found out at the end
        while data:
            written = os.pwrite(writer, data, offset)
            data, offset = data[written:], offset + written


COPY = Command("cp", _parser, _run)

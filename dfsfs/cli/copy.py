"""The command `dfsfs cp`: copies files inside of a mounted namespace, on the server itself where that is possible, and
from and to UNC paths (transfer.py).

The data of a file whose copy is on the same server doesn't come here and go back. Anything else is read and written, so
that the command does what cp(1) does for any two files. It writes to a file beside the target that takes the target's
place when it is complete; what an interrupted copy has left, `--continue` goes on with.
"""

from __future__ import annotations

import errno
import os
import stat as posix
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, add_options, fail
from dfsfs.cli.messages import INTERRUPTED, SUCCESS
from dfsfs.cli.parts import STEP, CopyError, Options, endings_interrupt, open_part, part_name, shown
from dfsfs.cli.remote import config_for, options_hidden, run_to_the_end
from dfsfs.config import ConfigError, parse_unc
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.cli.parts import Report
    from dfsfs.cli.remote import Remote

FAILURE = 32
"""The exit code if a file could not be copied."""
BUFFER = 1024 * 1024
COPY_XATTR = "user.dfsfs.copy"
PATH_XATTR = "user.dfsfs.path"
"""Every file of a mount of ours has it."""
_ELSEWHERE = (errno.EXDEV, errno.EOPNOTSUPP)
"""What says that the server can't copy between two files."""


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
        help="go on with a copy that was interrupted, if the source has not changed since; between UNC paths with one "
        "that was begun with this option, as others leave nothing",
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
            with endings_interrupt():
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
    from dfsfs.cli import transfer

    if len(arguments.files) < 2:
        raise ConfigError("a file and a target are needed; see dfsfs cp --help")
    options_hidden(arguments, ["cp", *words])
    *sources, target = arguments.files
    folder = Path(target)
    into = folder.is_dir()
    config = config_for(next(filter(is_unc, arguments.files)), arguments)
    options = Options(arguments.resume, arguments.preserve, arguments.quiet)

    async def work(remote: Remote) -> None:
        for source in sources:
            if is_unc(source) and is_unc(target):
                await transfer.carry(remote, parse_unc(source), parse_unc(target), options)
            elif is_unc(source):
                unc = parse_unc(source)
                await transfer.fetch(remote, unc, folder / unc.components[-1] if into else folder, options)
            elif is_unc(target):
                await transfer.send(remote, Path(source), parse_unc(target), options)
            else:
                raise ConfigError(f"{source} and {target} are both on this computer; use cp")

    try:
        run_to_the_end(config, work)
    except KeyboardInterrupt:
        left = "; dfsfs cp --continue goes on" if options.resume else "; nothing is left of the copy"
        return fail(f"interrupted{left}", INTERRUPTED)
    return SUCCESS


def _copy_and_show(source: Path, target: Path, options: Options) -> None:
    with shown(source.name, source.stat().st_size, options) as report:
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

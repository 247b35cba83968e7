"""The command `dfsfs cp`: copies files inside of a mounted namespace (copying.py), and from and to UNC paths
(transfer.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser, add_options, fail
from dfsfs.cli.copying import copy
from dfsfs.cli.exitcodes import INTERRUPTED, SUCCESS
from dfsfs.cli.parts import CopyError, Options, interrupt_on_signals, show_progress
from dfsfs.cli.remote import config_for, hide_options, run_to_the_end
from dfsfs.config.errors import ConfigError
from dfsfs.config.place import parse_unc
from dfsfs.unc import is_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dfsfs.cli.remote import Remote

FAILURE = 32
"""The exit code if a file could not be copied."""


def _make_parser() -> Parser:
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
            with interrupt_on_signals():
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
    from dfsfs.cli import transfer  # knows what servers say, which a copy here does not need

    if len(arguments.files) < 2:
        raise ConfigError("a file and a target are needed; see dfsfs cp --help")
    hide_options(arguments, ["cp", *words])
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
    with show_progress(source.name, source.stat().st_size, options) as report:
        copy(source, target, options, report)


COMMAND = Command("cp", _make_parser, _run)

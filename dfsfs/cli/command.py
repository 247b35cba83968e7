"""What the commands of `dfsfs` have in common: how words are read, how they fail, and how results are shown.

A command is a module with a parser and a function that does the work. Results are text for people, or with --json what
docs/json.md describes. Whatever fails is one line on stderr and an exit code:

    0   done                                    2    this system can't do it
    1   wrong usage, or not permitted           8    interrupted
    3   done, and it found problems (check)     32   a mount or a server failed
    141 whoever read the results has ended, as for any program in a pipe (128 + SIGPIPE)
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from dfsfs.cli.messages import INTERRUPTED, MOUNT_FAILURE, USAGE, MountError
from dfsfs.cli.output import complain, joined, show
from dfsfs.config import ConfigError
from dfsfs.control.protocol import WRONG, ControlError
from dfsfs.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import SupportsWrite

WIDTH = 100
"""Characters of a line of help."""
PROBLEMS = 3
"""The exit code of `dfsfs check` if something is wrong with a namespace."""


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError, and asks for no abbreviations to be guessed."""

    def __init__(self, name: str, summary: str, *, about: str = "") -> None:
        super().__init__(
            prog=f"dfsfs {name}",
            description="\n\n".join(textwrap.fill(text, WIDTH) for text in (about or summary).split("\n\n")),
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.summary = summary

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message}; {joined(self.format_usage())}")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Shows the help, as everything is shown."""
        show(self.format_help().splitlines())


@dataclass(frozen=True, slots=True)
class Command:
    """`make_parser` is cheap; `run` gets what was parsed and the words that were, and returns the exit code."""

    name: str
    make_parser: Callable[[], Parser]
    run: Callable[[argparse.Namespace, Sequence[str]], int]

    def main(self, words: Sequence[str]) -> int:
        """Reads the words, does it, says what went wrong."""
        try:
            return self.run(self.make_parser().parse_args(list(words)), words)
        except ConfigError as error:
            return fail(str(error), USAGE)
        except MountError as error:
            return fail(error.verdict.text, error.verdict.code)
        except ControlError as error:
            return fail(str(error), code_of(error))
        except KeyboardInterrupt:
            return fail("interrupted", INTERRUPTED)
        except SystemExit as end:  # argparse, after --help
            return end.code if isinstance(end.code, int) else USAGE


def fail(text: str, code: int) -> int:
    """Says what went wrong, in one line."""
    complain("dfsfs", text)
    return code


def code_of(error: ControlError) -> int:
    """The exit code for a mount that has not done what it was asked for."""
    return USAGE if error.code == WRONG else MOUNT_FAILURE


def warn(text: str) -> None:
    """Says something that is no failure."""
    complain("dfsfs: warning", text)


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="write JSON instead of text")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option -o of commands that log in to servers."""
    parser.add_argument(
        *("-o", "--options"),
        action="append",
        default=[],
        metavar="OPTIONS",
        help="options of mount.dfsfs, as in -o sec=krb5",
    )


def add_mount(parser: argparse.ArgumentParser) -> None:
    """The option --mount of commands for a running mount."""
    parser.add_argument("--mount", metavar="PATH", help="the mount to ask; without, the only one that there is")


def shown_time(seconds: float) -> str:
    """A time for people: 0.4 ms, 12 s, 3 min, 2 h 5 min."""
    if seconds < 0:
        return f"-{shown_time(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole < 172_800 else f"{whole // 86_400} days"


def shown_left(seconds: float) -> str:
    """How long something is still good, for people."""
    return shown_time(seconds) if seconds > 0 else "expired"


def shown_size(size: float) -> str:
    """Bytes for people: 999 B, 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> list[str]:
    """Rows under headings, each column as wide as it has to be; nothing is cut. Numbers stand to the right."""
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in [list(columns), *texts]) for index in range(len(columns))]
    right = [bool(rows) and all(isinstance(row[index], int | float) for row in rows) for index in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        )
        return (indent + "  ".join(padded)).rstrip()

    return [line(columns), *map(line, texts)]

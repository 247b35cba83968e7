"""What the commands of `dfsfs` have in common: how words are read, and how they fail.

A command is a module of dfsfs/cli/commands with a COMMAND: a parser and a function that does the work. Results are text
for people, or with --json what docs/json.md describes. Whatever fails is one line on stderr and an exit code:

    0   done                                    2    this system can't do it
    1   wrong usage, or not permitted           8    interrupted
    3   done, and it found problems (check)     32   a mount or a server failed
    141 the reader of the results has ended, as for any program in a pipe (128 + SIGPIPE)
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from dfsfs.cli.exitcodes import INTERRUPTED, MOUNT_FAILURE, USAGE
from dfsfs.cli.messages import MountError
from dfsfs.cli.output import complain, join_lines, show
from dfsfs.config.errors import ConfigError
from dfsfs.control.protocol import WRONG, ControlError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import SupportsWrite

WIDTH = 100
"""Characters of a line of help."""


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError and takes no abbreviations."""

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
        raise ConfigError(f"{message}; {join_lines(self.format_usage())}")

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

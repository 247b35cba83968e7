"""The one place from which the commands write to stdout and stderr, and from which nothing comes that does not stand
for itself: see printable.py. What else writes is found by tests/unit/cli/test_output.py.

It makes no difference whether a terminal or a pipe is at the other end, as what goes to a pipe is shown in the end:
who wants names for a program takes --json, whose strings say the same with JSON's own escapes. Only the content of a
file (`dfsfs cat`) is written as it is.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

from dfsfs.printable import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from dfsfs.smb.wire.messages import Buffer

UNREAD = 128 + signal.SIGPIPE
"""The exit code if nobody reads what a command says."""


def show(lines: Iterable[str]) -> None:
    """Writes lines to stdout. A line end within one is shown like any other control character."""
    _write(sys.stdout, lines)


def show_json(result: Any) -> None:
    """Writes what JSON has to stdout."""
    text = json_text(result)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(result, indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_text(result: Any) -> str:
    """A result as --json has it."""
    return printable_json(json.dumps(result, indent=2, ensure_ascii=False))


def complain(program: str, text: str) -> None:
    """Says in one line on stderr what went wrong, or could. That nobody reads it changes nothing of what is done."""
    try:
        _write(sys.stderr, [f"{program}: {text}"])
    except BrokenPipeError:
        hang_up()


def joined(text: str) -> str:
    """What another program has said in lines, as one."""
    return " ".join(text.split())


def ask_hidden(question: str) -> str:
    """Asks on the terminal for what is not shown while it is typed. Raises EOFError, KeyboardInterrupt."""
    import getpass

    return getpass.getpass(printable(question))


def write_data(data: Buffer) -> None:
    """Writes the content of a file to stdout, as it is. May wait."""
    sys.stdout.buffer.write(data)


def flush() -> None:
    """Hands on what was written so far."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def as_in_a_pipe(run: Callable[[], int]) -> int:
    """Runs a command, whose reader may end before it, and returns its exit code.

    That is no failure and says nothing: `dfsfs --help | head -1`. Sockets need SIGPIPE to be ignored, as Python has it,
    so the code is what a shell shows for a program that dies of it.
    """
    try:
        code = run()
        flush()
    except BrokenPipeError:
        hang_up()
        return UNREAD
    return code


def hang_up() -> None:
    """For when nobody reads any more: what is left goes nowhere, or else Python complains when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not _is_read(stream):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _is_read(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (BrokenPipeError, ValueError):
        return False
    return True


def is_watched() -> bool:
    """Whether there is a terminal to show progress on."""
    return sys.stderr is not None and sys.stderr.isatty()


class StderrHandler(logging.Handler):
    """Writes log messages to stderr; the formatter makes each line of them printable."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record."""
        try:
            _write(sys.stderr, self.format(record).split("\n"))
        except Exception:  # a log must not end what it tells of
            self.handleError(record)


def escape_tracebacks() -> None:
    """Has exceptions that nobody expected shown like anything else."""

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for text in traceback.format_exception(kind, error, trace):
            _write(sys.stderr, text.rstrip("\n").split("\n"))

    sys.excepthook = excepthook


def _write(stream: TextIO | None, lines: Iterable[str]) -> None:
    if stream is None:  # whoever started this has closed it
        return
    encoding = stream.encoding or "ascii"
    text = "".join(f"{printable(line)}\n" for line in lines)
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()

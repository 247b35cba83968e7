"""The only module that writes to stdout and stderr. Whatever does not stand for itself it writes as an escape: see
printable.py. tests/unit/cli/test_output.py finds other modules that write.

Escapes are the same for a terminal and for a pipe, as the output of a pipe is shown in the end. For programs there is
--json, whose strings say the same with JSON's own escapes. Only the content of a file (`dfsfs cat`) is written as it
is. Colours are for terminals: see tables.py.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

from dfsfs.cli.exitcodes import UNREAD
from dfsfs.cli.tables import Table, plain_lines
from dfsfs.printable import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from dfsfs.smb.wire.messages import Buffer


def show(page: Iterable[str | Table]) -> None:
    """Writes lines and tables to stdout. A line end within a line is shown like any other control character."""
    _write(sys.stdout, page)


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
    """Says in one line on stderr what went wrong, or could. If its reader has ended, the command goes on."""
    try:
        _write(sys.stderr, [f"{program}: {text}"])
    except BrokenPipeError:
        hang_up()


def join_lines(text: str) -> str:
    """The lines that another program has written, as one."""
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
    """Runs a command and returns its exit code. The reader of its output may end before it.

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
    """Sends the rest of the output to /dev/null, as its reader has ended: Python would complain at its own end."""
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
    """Has unexpected exceptions shown with the same escapes."""

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for text in traceback.format_exception(kind, error, trace):
            _write(sys.stderr, text.rstrip("\n").split("\n"))

    sys.excepthook = excepthook


def _write(stream: TextIO | None, page: Iterable[str | Table]) -> None:
    if stream is None:  # it was closed when this program was started
        return
    encoding = stream.encoding or "ascii"
    texts = (
        _format_table(part, encoding, on_terminal=stream.isatty())
        if isinstance(part, Table)
        else f"{printable(part)}\n"
        for part in page
    )
    stream.write("".join(texts).encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def _format_table(table: Table, encoding: str, *, on_terminal: bool) -> str:
    drawn = None
    if on_terminal:
        from dfsfs.cli.terminal import draw  # takes long to import

        drawn = draw(table, encoding)
    return "".join(f"{line}\n" for line in plain_lines(table, encoding)) if drawn is None else drawn

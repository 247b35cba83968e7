"""Where log messages go: to stderr in front; in the background to the journal, else to syslog, else to nowhere.

The journal gets its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), so that messages can be found by what they are
about: `journalctl DFSFS_MOUNT=/mnt/public`, DFSFS_PATH=, DFSFS_TARGET=, DFSFS_STATUS=. A message that repeats within
FOLDED seconds is said once, and how often it came with the next one.

Names of files and what servers say are in messages, so each is made printable, in one line. What has lines of its own,
tracebacks and the attribute `dfsfs_details` of a record, follows in lines that are set in.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from dfsfs.cli.output import StderrHandler
from dfsfs.printable import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SYSLOG = "/dev/log"
JOURNAL = "/run/systemd/journal/socket"
JOURNAL_VARIABLE = "DFSFS_JOURNAL"
"""The environment variable with another address of the journal's socket. The tests read there what daemons log."""
IDENTIFIER = "mount.dfsfs"
FOLDED = 60.0
"""Seconds in which a message is said once."""
REMEMBERED = 200
"""Messages of which is known when they were said."""
FIELDS = ("path", "target", "status")
"""Attributes `dfsfs_...` of a log record that become fields of the journal."""
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DATAGRAM = 64 * 1024
"""Bytes of a message that a datagram surely has room for."""


class Printable(logging.Formatter):
    """See the module's text."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, and the lines that belong to it."""
        details = getattr(record, "dfsfs_details", None)
        return "\n".join([super().format(record), *([] if details is None else [_indent(str(details))])])

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message alone."""
        return printable(super().formatMessage(record))

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """A traceback; in it may be what an exception says."""
        return _indent(super().formatException(ei))


def _indent(text: str) -> str:
    return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


class Folding(logging.Filter):
    """Lets a message pass once in FOLDED seconds. Errors with a traceback always pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written. Adds how often it was not."""
        if record.exc_info:
            return True
        text, now = record.getMessage(), self._clock()
        since, skipped = self._said.get(text, (-FOLDED, 0))
        if now - since < FOLDED:
            self._said[text] = (since, skipped + 1)
            return False
        self._said[text] = (now, 0)
        self._said.move_to_end(text)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        if skipped:
            record.msg, record.args = f"{text} ({counted(skipped, 'time')} more since)", ()
        return True


class JournalHandler(logging.Handler):
    """Writes to the journal. `fields` are in every message."""

    def __init__(self, address: str = JOURNAL, fields: dict[str, str] | None = None) -> None:
        super().__init__()
        self._fields = fields or {}
        self.setFormatter(Printable())
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record. One that the journal has no room for now is lost: nothing waits for it."""
        try:
            self._socket.send(self.datagram(record))
        except OSError:
            self.handleError(record)

    def datagram(self, record: logging.LogRecord) -> bytes:
        """The record in the journal's protocol."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        fields = {
            "MESSAGE": self.format(record)[: _DATAGRAM // 4],
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "DFSFS_PART": record.name,
            **{name: printable(value) for name, value in self._fields.items()},
        }
        for name in FIELDS:
            value = getattr(record, f"dfsfs_{name}", None)
            if value is not None:
                fields[f"DFSFS_{name.upper()}"] = printable(str(value))[:4096]
        return b"".join(_field(name, value) for name, value in fields.items())

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()
        super().close()


def _field(name: str, value: str) -> bytes:
    data = value.encode()
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def log_to_stderr(*, level: int) -> None:
    """For a mount in front, and in the background for the time until it is ready."""
    handler = StderrHandler()
    handler.setFormatter(Printable("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _use(handler, level)


def log_to_system(*, level: int, mountpoint: str, journal: str = "", address: str = SYSLOG) -> None:
    """For a mount in the background, and for one that a service runs. `journal`: the address of its socket, if that is
    another one than JOURNAL.
    """
    handler: logging.Handler
    journal = journal or os.environ.get(JOURNAL_VARIABLE, JOURNAL)
    try:
        handler = JournalHandler(journal, {"DFSFS_MOUNT": mountpoint})
    except OSError:
        handler = _syslog(address)
    handler.addFilter(Folding())
    _use(handler, level)


def _syslog(address: str) -> logging.Handler:
    from logging.handlers import SysLogHandler

    try:
        handler = SysLogHandler(address, SysLogHandler.LOG_DAEMON)
    except OSError:
        return logging.NullHandler()  # no syslog here, as in most containers
    handler.setFormatter(_OneLine(f"{IDENTIFIER}[{os.getpid()}]: %(message)s"))
    return handler


class _OneLine(Printable):
    """For syslog, where a line is all that there is."""

    def format(self, record: logging.LogRecord) -> str:
        """All of it."""
        return " | ".join(line.strip() for line in super().format(record).split("\n"))


def is_service() -> bool:
    """Whether what is written to stderr goes to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        about = os.fstat(2)
    except OSError:
        return False
    return (str(about.st_dev), str(about.st_ino)) == (device, inode)


def _use(handler: logging.Handler, level: int) -> None:
    logger = logging.getLogger("dfsfs")
    logger.setLevel(level)
    logger.propagate = False
    logger.addHandler(handler)
    # What goes wrong in writing a log must not fill stderr with tracebacks.
    logging.raiseExceptions = False

"""Log messages: what repeats is folded, and the journal gets fields."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli import logs
from dfsfs.cli.logs import FOLDED, Folding, JournalHandler, is_service
from dfsfs.telemetry import FailedOver, Telemetry
from dfsfs.unc import UncPath
from tests.support.daemonlog import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.logs(".")


def record(text: str, *args: object, level: int = logging.WARNING, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("dfsfs.smb", level, "file.py", 1, text, args, None)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


def test_what_repeats_is_said_once_and_then_how_often() -> None:
    now = 0.0
    folding = Folding(lambda: now)
    assert folding.filter(record("%s is down", "fs1"))
    assert not any(folding.filter(record("%s is down", "fs1")) for _ in range(7))
    assert folding.filter(record("%s is down", "fs2")), "another message"
    now = FOLDED + 1
    again = record("%s is down", "fs1")
    assert folding.filter(again)
    assert again.getMessage() == "fs1 is down (7 times more since)"
    assert not folding.filter(record("%s is down", "fs1"))
    now += FOLDED
    once_more = record("%s is down", "fs1")
    assert folding.filter(once_more) and once_more.getMessage() == "fs1 is down (1 time more since)"
    now += FOLDED
    after = record("%s is down", "fs1")
    assert folding.filter(after) and after.getMessage() == "fs1 is down"


def test_a_traceback_is_never_folded() -> None:
    folding = Folding(lambda: 0.0)
    try:
        raise ValueError("x")
    except ValueError:
        found = record("broken")
        found.exc_info = sys.exc_info()
    assert folding.filter(found) and folding.filter(found)


def test_folding_does_not_grow() -> None:
    folding = Folding(lambda: 0.0)
    for number in range(10 * logs.REMEMBERED):
        folding.filter(record(f"{number}"))
    assert len(folding._said) <= logs.REMEMBERED


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "journal"))
        receiver.settimeout(5)
        yield receiver


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The program's logger, put back afterwards."""
    found = logging.getLogger("dfsfs")
    before = (found.level, found.propagate, list(found.handlers))
    raising = logging.raiseExceptions
    yield found
    for handler in set(found.handlers) - set(before[2]):
        found.removeHandler(handler)
        handler.close()
    found.setLevel(before[0])
    found.propagate = before[1]
    logging.raiseExceptions = raising


def test_the_journal_gets_fields(journal: socket.socket, logger: logging.Logger, tmp_path: Path) -> None:
    logs.log_to_system(level=logging.INFO, mountpoint="/mnt/public", journal=str(tmp_path / "journal"))
    link, old, new = map(UncPath.parse, ("//contoso/public/docs", "//fs1/docs", "//fs2/docs"))
    Telemetry().publish(FailedOver(link, old, new, "STATUS_CONNECTION_RESET"))
    found = fields_of(journal.recv(65536))
    assert found["MESSAGE"] == f"{link}: failed over from {old} to {new} after STATUS_CONNECTION_RESET"
    assert (found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("4", "mount.dfsfs")
    assert (found["DFSFS_MOUNT"], found["DFSFS_PATH"], found["DFSFS_TARGET"]) == ("/mnt/public", str(link), str(new))
    logger.error("two\nlines = 1", extra={"dfsfs_status": "0xC0000001", "dfsfs_details": "a\nb"})
    found = fields_of(journal.recv(65536))
    message = "two\\nlines = 1\n    a\n    b"
    assert (found["MESSAGE"], found["PRIORITY"], found["DFSFS_STATUS"]) == (message, "3", "0xC0000001")


def test_a_message_that_is_too_long_is_cut(journal: socket.socket, tmp_path: Path) -> None:
    handler = JournalHandler(str(tmp_path / "journal"))
    handler.emit(record("x" * 1_000_000))
    assert 1000 < len(fields_of(journal.recv(100_000))["MESSAGE"]) < 64 * 1024
    handler.close()


def test_a_journal_that_is_full_keeps_nobody_waiting(journal: socket.socket, tmp_path: Path) -> None:
    handler = JournalHandler(str(tmp_path / "journal"))
    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        for _ in range(5000):
            handler.emit(record("x" * 1000))
    finally:
        logging.raiseExceptions = before
        handler.close()


def test_without_a_journal_there_is_syslog_and_without_that_nothing(tmp_path: Path, logger: logging.Logger) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        receiver.settimeout(5)
        gone = str(tmp_path / "gone")
        logs.log_to_system(level=logging.INFO, mountpoint="/m", journal=gone, address=str(tmp_path / "log"))
        logger.warning("a\nb")
        assert receiver.recv(1000).rstrip(b"\0").endswith(f"mount.dfsfs[{os.getpid()}]: a\\nb".encode())
    logs.log_to_system(level=logging.INFO, mountpoint="/m", journal=gone, address=gone)
    logger.warning("nobody hears this")


def test_a_service_is_known_by_its_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    about = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
    assert is_service()
    monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino + 1}")
    assert not is_service()
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not is_service()

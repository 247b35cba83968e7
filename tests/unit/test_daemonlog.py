"""The journal in which the tests read what daemons log: tests/support/daemonlog.py."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli import logs
from tests.support.daemonlog import ERROR, Journal, Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "socket")
    yield journal
    journal.close()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The logger of dfsfs, put right again after the test has set it up."""
    logger = logging.getLogger("dfsfs")
    before = logger.level, logger.propagate, list(logger.handlers), logging.raiseExceptions
    yield logger
    for handler in [handler for handler in logger.handlers if handler not in before[2]]:
        logger.removeHandler(handler)
        handler.close()
    logger.level, logger.propagate, _, logging.raiseExceptions = before


@pytest.mark.logs("^WARNING dfsfs.vfs: slow$", "^ERROR dfsfs: lost$")
def test_what_a_daemon_logs_is_read(
    journal: Journal, logger: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.JOURNAL_VARIABLE, str(tmp_path / "socket"))
    logs.log_to_system(level=logging.INFO, mountpoint="/mnt")
    logging.getLogger("dfsfs.vfs").warning("slow")
    logger.error("lost", extra={"dfsfs_details": "in two\nlines"})
    assert journal.take() == [
        Record(4, "dfsfs.vfs", "slow", "/mnt"),
        Record(ERROR, "dfsfs", "lost\n    in two\n    lines", "/mnt"),
    ]
    assert journal.take() == []


@pytest.mark.logs("^WARNING dfsfs: number")
def test_nothing_is_lost_of_what_is_logged_in_a_row(journal: Journal, tmp_path: Path) -> None:
    """The kernel has room for ten datagrams, so somebody has to take them all the time."""
    handler = logs.JournalHandler(str(tmp_path / "socket"))
    handler._socket.setblocking(True)
    for number in range(500):
        handler.emit(logging.makeLogRecord({"msg": f"number {number}", "levelno": logging.WARNING, "name": "dfsfs"}))
    handler.close()
    assert [record.message for record in journal.take()] == [f"number {number}" for number in range(500)]

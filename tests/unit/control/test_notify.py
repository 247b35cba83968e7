"""What systemd is told."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from dfsfs.control.notify import Notifier, notifier_from

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        name = str(tmp_path / "notify") if request.param == "path" else f"@dfsfs-test-{os.getpid()}"
        receiver.bind(name.replace("@", "\0"))
        receiver.settimeout(5)
        yield receiver, name


def test_the_messages(listener: tuple[socket.socket, str]) -> None:
    receiver, name = listener
    notifier = notifier_from({"NOTIFY_SOCKET": name}, 7)
    notifier.tell_ready("3 targets,\n1 failed over")
    assert receiver.recv(1000) == f"READY=1\nMAINPID={os.getpid()}\nSTATUS=3 targets,\\n1 failed over".encode()
    notifier.tell_status("x" * 1000)
    assert receiver.recv(2000) == b"STATUS=" + b"x" * 400
    notifier.tell_alive()
    notifier.tell_stopping()
    assert (receiver.recv(100), receiver.recv(100)) == (b"WATCHDOG=1", b"STOPPING=1")


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog(environment: dict[str, str], watchdog: float | None) -> None:
    assert notifier_from({"NOTIFY_SOCKET": "/run/notify", **environment}, 7).watchdog == watchdog


@pytest.mark.parametrize("address", ["", "relative"])
def test_nobody_to_tell(address: str) -> None:
    notifier = notifier_from({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"}, 7)
    assert notifier == Notifier()
    notifier.tell_ready("x")


def test_that_nobody_listens_is_no_failure(tmp_path: Path) -> None:
    notifier_from({"NOTIFY_SOCKET": str(tmp_path / "gone")}, 7).tell_ready("x")

"""Processes that were started with a mark in their environment, NAME=value, and all that they have started since."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def marked(mark: str) -> list[int]:
    """The pids of the processes with a mark. To be signalled they are found anew."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _has(name, mark)]


def end_marked(mark: str, patience: float) -> None:
    """Ends the processes with a mark, within `patience` seconds: by SIGTERM in the first half, then by SIGKILL."""
    deadline = time.monotonic() + patience
    while (left := marked(mark)) and time.monotonic() < deadline:
        late = time.monotonic() > deadline - patience / 2
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                _send(pid, mark, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)


def _has(pid: int | str, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # it has ended


def _send(pid: int, mark: str, number: signal.Signals) -> None:
    """Through a pidfd that was opened before the mark was read: the number may have passed to another process."""
    process = os.pidfd_open(pid)
    try:
        if _has(pid, mark):
            signal.pidfd_send_signal(process, number)
    finally:
        os.close(process)

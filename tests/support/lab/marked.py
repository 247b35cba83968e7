"""Processes that were started with a mark in their environment, NAME=value, and all that they have started since."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def marked(mark: str) -> list[int]:
    """The pids of the processes with a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end_marked(mark: str, patience: float) -> None:
    """Ends the processes with a mark, within `patience` seconds: by SIGTERM in the first half, then by SIGKILL."""
    deadline = time.monotonic() + patience
    while (left := marked(mark)) and time.monotonic() < deadline:
        late = time.monotonic() > deadline - patience / 2
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)

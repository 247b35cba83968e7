"""What a mount's process takes of its computer: memory, descriptors, threads and tasks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import trio

_MEMORY = {"resident": "VmRSS", "own": "RssAnon", "peak": "VmHWM"}
"""What they are called in /proc/self/status (proc(5)), where they are KiB."""


def figures() -> dict[str, int]:
    """The figures now; memory in bytes. `own` is what belongs to no file, 0 where the kernel does not say it."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    fields = {name: value.split() for name, _, value in lines}
    return {
        **{name: 1024 * int(fields[field][0]) if field in fields else 0 for name, field in _MEMORY.items()},
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
        "threads": threading.active_count(),
        "tasks": _tasks(),
    }


def _tasks() -> int:
    root = trio.lowlevel.current_root_task()
    count, found = 0, [] if root is None else [root]
    while found:
        count += 1
        for nursery in found.pop().child_nurseries:
            found.extend(nursery.child_tasks)
    return count

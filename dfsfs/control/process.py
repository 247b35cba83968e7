"""The resources that a mount's process uses: memory, descriptors, threads and tasks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import trio

from dfsfs.control.answers import ProcessFigures


def measure_process() -> ProcessFigures:
    """The figures of this process, now."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    fields = {name: value.split() for name, _, value in lines}

    def memory(name: str) -> int:
        return 1024 * int(fields[name][0]) if name in fields else 0  # KiB there (proc(5))

    return ProcessFigures(
        resident=memory("VmRSS"),
        own=memory("RssAnon"),
        peak=memory("VmHWM"),
        descriptors=len(os.listdir("/proc/self/fd")) - 1,
        threads=threading.active_count(),
        tasks=_count_tasks(),
    )


def _count_tasks() -> int:
    root = trio.lowlevel.current_root_task()
    count, found = 0, [] if root is None else [root]
    while found:
        count += 1
        for nursery in found.pop().child_nurseries:
            found.extend(nursery.child_tasks)
    return count

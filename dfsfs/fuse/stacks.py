"""The stacks of all tasks and threads as text, which SIGUSR1 writes to the log: for a mount that seems to hang."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


def describe_stacks() -> str:
    """The stacks of all trio tasks and of all threads, one frame a line. Call it in trio's thread."""
    return "\n".join([*_tasks(), *_threads()])


def _tasks() -> Iterator[str]:
    root = trio.lowlevel.current_root_task()
    stack = [(root, 0)] if root is not None else []
    while stack:
        task, depth = stack.pop()
        yield f"{'  ' * depth}task {task.name}"
        for frame, line in task.iter_await_frames():
            code = frame.f_code
            yield f"{'  ' * depth}    {code.co_filename}:{line} in {code.co_name}"
        for nursery in task.child_nurseries:
            stack.extend((child, depth + 1) for child in nursery.child_tasks)


def _threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"thread {names.get(ident, ident)}"
        yield from (line.rstrip() for line in traceback.format_stack(frame))

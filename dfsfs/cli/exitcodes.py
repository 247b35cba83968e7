"""The exit codes of mount.dfsfs and dfsfs. Those that mount.dfsfs has are those of mount(8)."""

from __future__ import annotations

import signal

SUCCESS = 0
USAGE = 1
"""Wrong usage, or not permitted."""
SYSTEM_ERROR = 2
"""This system can't do it."""
INTERRUPTED = 8
MOUNT_FAILURE = 32
"""A mount or a server failed."""
PROBLEMS = 3
"""`dfsfs check` has found that something is wrong with a namespace."""
UNREAD = 128 + signal.SIGPIPE
"""The reader of the output has ended: what a shell shows for a program in a pipe."""

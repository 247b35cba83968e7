"""What is wanted of the kernel's FUSE, and why."""

from __future__ import annotations

from pathlib import Path

from dfsfs.fuse.abi.constants import InitFlag
from dfsfs.fuse.abi.negotiation import Wanted

FLAGS = (
    InitFlag.ASYNC_READ  # several reads of read-ahead at a time
    | InitFlag.ATOMIC_O_TRUNC  # open(O_TRUNC) is one request, and not a truncation beside it
    | InitFlag.BIG_WRITES  # more than a page
    | InitFlag.AUTO_INVAL_DATA  # pages go when a file's time or size has changed on the server
    | InitFlag.DO_READDIRPLUS  # what a listing says of files need not be asked for
    | InitFlag.ASYNC_DIO  # O_DIRECT: parts of one call, and calls of io_submit, at a time
    | InitFlag.PARALLEL_DIROPS  # a lookup does not wait for other lookups in its directory
    | InitFlag.HANDLE_KILLPRIV_V2  # no question for security.capability before each write: servers have none
    | InitFlag.MAX_PAGES
)

MAX_PAGES = 256
"""Pages in a read or a write at most, if the kernel says nothing of a limit: 1 MiB."""
MOST_PAGES = 1024
"""Pages that are asked for, of as many as the administrator may have allowed (fs.fuse.max_pages_limit, Linux 6.13)."""
_LIMIT = Path("/proc/sys/fs/fuse/max_pages_limit")
MAX_READAHEAD = 4 << 20
MAX_BACKGROUND = 64
"""Requests of read-ahead and O_DIRECT under way: with the kernel's default, 12, readers of several files wait for each
other."""


def make_wanted() -> Wanted:
    """What is wanted of this computer's kernel."""
    try:
        limit = int(_LIMIT.read_text("ascii"))
    except (OSError, ValueError):
        limit = MAX_PAGES
    return Wanted(FLAGS, min(limit, MOST_PAGES), MAX_READAHEAD, MAX_BACKGROUND)

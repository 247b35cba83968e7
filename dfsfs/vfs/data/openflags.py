"""The flags of open(2) as parameters of an SMB2 CREATE. Pure."""

from __future__ import annotations

import os
from functools import lru_cache

from dfsfs.smb.wire.constants import Access, CreateDisposition, CreateOptions

_KNOWN = 256
"""Combinations of flags of which the parameters are kept: putting IntFlags together takes microseconds."""


@lru_cache(_KNOWN)
def access_of(flags: int) -> Access:
    """The access that the handle needs."""
    mode = flags & os.O_ACCMODE
    access = Access.READ if mode in (os.O_RDONLY, os.O_RDWR) else Access(0)
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        access |= Access.WRITE
    return access


def disposition_of(flags: int) -> CreateDisposition:
    """What an open(2) with O_CREAT does if the file exists, and if not."""
    if flags & os.O_EXCL:
        return CreateDisposition.FILE_CREATE
    return CreateDisposition.FILE_OVERWRITE_IF if flags & os.O_TRUNC else CreateDisposition.FILE_OPEN_IF


@lru_cache(_KNOWN)
def options_of(flags: int) -> CreateOptions:
    """O_DSYNC, which is part of O_SYNC, has the server write through to its disk."""
    through = CreateOptions.FILE_WRITE_THROUGH if flags & os.O_DSYNC else CreateOptions.NONE
    return CreateOptions.FILE_NON_DIRECTORY_FILE | through


def only_reads(flags: int) -> bool:
    """Whether cached data may serve the open: it does not write or truncate, and does not bypass caches (O_DIRECT)."""
    return flags & (os.O_ACCMODE | os.O_DIRECT | os.O_TRUNC) == os.O_RDONLY


def is_synchronous(flags: int) -> bool:
    """Whether each write has to wait for the server."""
    return bool(flags & (os.O_DSYNC | os.O_DIRECT))

"""Operations that remove names on a server, and what became of an operation whose answer was lost."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVar

from dfsfs.errors import DfsfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inodetable import Inode

T = TypeVar("T")


def allow_repeat(operation: Callable[[Attempt], Awaitable[T]]) -> Callable[[Attempt], Awaitable[T | None]]:
    """Wraps an operation that removes something: returns None if a request whose answer was lost had done so
    already.
    """

    async def removing(attempt: Attempt) -> T | None:
        try:
            return await operation(attempt)
        except DfsfsError as error:
            if not attempt.is_replay or error.errno != errno.ENOENT:
                raise
            return None

    return removing


async def remove_directory(attempt: Attempt) -> None:
    """The operation that removes an empty directory."""
    await attempt.tree.remove_directory(attempt.path)


async def remove_file(attempt: Attempt) -> None:
    """The operation that removes a file."""
    await attempt.tree.remove_file(attempt.path)


async def remove_directory_in_view(attempt: Attempt) -> FileStat | None:
    """The operation that removes an empty directory. What became of the one that it was in, if the server said that."""
    return (await attempt.tree.remove_directory(attempt.path, [attempt.path.parent]))[0]


async def remove_file_in_view(attempt: Attempt, attributes: int) -> FileStat | None:
    """The operation that removes a file. What became of its directory, if the server said that. `attributes`: those of
    the file if they are known, else 0.
    """
    return (await attempt.tree.remove_file(attempt.path, [attempt.path.parent], attributes))[0]


async def remove_special_in_view(attempt: Attempt) -> FileStat | None:
    """The operation that removes a symbolic link, device, fifo or socket. What became of its directory, if the server
    said that.
    """
    return (await attempt.tree.special.remove(attempt.path, [attempt.path.parent]))[0]


async def is_renamed(attempt: Attempt, target: UncPath, inode: Inode) -> bool:
    """Whether a rename whose answer was lost was carried out: the file with the inode's file id is at `target`."""
    try:
        stat = await attempt.tree.stat(target)
    except DfsfsError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return bool(inode.file_id) and inode.share == attempt.tree.volume and stat.file_id == inode.file_id

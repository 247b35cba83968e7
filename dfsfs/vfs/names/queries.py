"""Operations that ask what is at a place, and what is in a directory."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from dfsfs.vfs.names.specialentries import resolve_special_entries

if TYPE_CHECKING:
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import DirEntry, FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inodetable import Inode, InodeTable


async def stat_of(attempt: Attempt) -> tuple[FileStat, UncPath]:
    """The operation that asks for the attributes of a place, and on which share it is."""
    return await attempt.tree.stat(attempt.path), attempt.tree.volume


async def entries_of(
    table: InodeTable, directory: Inode, limit: int, attempt: Attempt
) -> tuple[list[DirEntry], UncPath]:
    """The operation that lists a directory, until there are more than `limit` entries, and says on which share it
    is.
    """
    found: list[DirEntry] = []
    async with aclosing(attempt.tree.list(attempt.path)) as listing:
        async for batch in listing:
            found += await resolve_special_entries(table, attempt, directory, batch)
            if len(found) > limit:
                break
    return found, attempt.tree.volume


def is_same_but_for_id(inode: Inode, stat: FileStat, share: UncPath) -> bool:
    """Whether attributes on a share are those of the inode's file in everything but the file id."""
    known = inode.stat
    if known is None or inode.share != share or not inode.file_id or inode.file_id == stat.file_id:
        return False
    was, now = (
        (each.kind, each.created, each.size, each.written, each.changed, each.attributes) for each in (known, stat)
    )
    return was == now

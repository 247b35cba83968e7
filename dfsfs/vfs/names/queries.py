"""The operation that asks what is at a place, and what its answers have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.inodetable import Inode


async def stat_of(attempt: Attempt) -> tuple[FileStat, UncPath]:
    """The operation that asks for the attributes of a place, and on which share it is."""
    return await attempt.tree.stat(attempt.path), attempt.tree.volume


def is_same_but_for_id(inode: Inode, stat: FileStat, share: UncPath) -> bool:
    """Whether attributes on a share are those of the inode's file in everything but the file id."""
    known = inode.stat
    if known is None or inode.share != share or not inode.file_id or inode.file_id == stat.file_id:
        return False
    was, now = (
        (each.kind, each.created, each.size, each.written, each.changed, each.attributes) for each in (known, stat)
    )
    return was == now

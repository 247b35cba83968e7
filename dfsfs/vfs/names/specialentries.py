"""What a listing does not say: whether an entry is a symbolic link, a device, a fifo or a socket.

The kernel takes the type of an entry from the listing and never asks again, so it has to be known before the entry is
handed on. Only entries with a tag or a size that such files have are asked for, several at the same time, and only
those that have changed since they were asked for last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError, Disposition
from dfsfs.smb.wire.directories import DirectoryPage
from dfsfs.smb.wire.fscc import DirEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dfsfs.namespace.junction import Attempt
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.vfs.names.inodetable import Inode, InodeTable

QUERIES_MAX = 32
"""Entries of one listing that are asked for at the same time."""


async def resolve_special_entries(
    table: InodeTable, attempt: Attempt, directory: Inode, batch: Sequence[DirEntry]
) -> dict[int, DirEntry]:
    """Those entries of a listing of a directory, by their number in a batch, of which the listing does not say what
    they are, each with its type: `FileStat.special`.

    Raises:
        DfsfsError: the connection to the server has ended.
    """
    found = dict(_find_unclear(attempt, batch))
    limiter = trio.CapacityLimiter(QUERIES_MAX)
    lost: list[DfsfsError] = []

    async def look(index: int, entry: DirEntry) -> None:
        async with limiter:
            try:
                found[index] = DirEntry(entry.name, await _query_special(attempt, entry))
            except DfsfsError as error:
                lost.append(error)

    if not found:
        return found
    async with trio.open_nursery() as nursery:
        for index, entry in list(found.items()):
            known = table.child(directory, entry.name)
            if known is not None and known.stat is not None and _is_unchanged(known.stat, entry.stat):
                special, tag = known.stat.special, known.stat.reparse_tag
                found[index] = DirEntry(entry.name, replace(entry.stat, special=special, reparse_tag=tag))
            else:
                nursery.start_soon(look, index, entry)
    if lost:
        raise lost[0]
    return found


def _find_unclear(attempt: Attempt, batch: Sequence[DirEntry]) -> Iterator[tuple[int, DirEntry]]:
    indexes = batch.unusual if isinstance(batch, DirectoryPage) else range(len(batch))
    for index in indexes:
        entry = batch[index]
        if attempt.tree.special.may_be_special(entry.stat):
            yield index, entry


async def _query_special(attempt: Attempt, entry: DirEntry) -> FileStat:
    try:
        return await attempt.tree.special.stat_listed_entry(attempt.path.join([entry.name]), entry.stat)
    except DfsfsError as error:
        if error.disposition in (Disposition.RETURN, Disposition.REFER, Disposition.NEXT_TARGET):
            return entry.stat  # what is done with it will fail with the same error
        raise


def _is_unchanged(known: FileStat, listed: FileStat) -> bool:
    """Whether a listed file is the one that is known, and has not changed since that was asked for."""
    now = (listed.file_id, listed.written, listed.changed)
    return bool(listed.file_id) and (known.file_id, known.written, known.changed) == now

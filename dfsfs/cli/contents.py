"""The content of a file of a namespace, read on whichever target answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfsfs.cli.exitcodes import MOUNT_FAILURE
from dfsfs.cli.messages import MountError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.junction import Attempt, Location
    from dfsfs.smb.wire.messages import Buffer

PIECE = 8 * 1024 * 1024
"""Bytes that are read at once, in several requests under way together."""


class SourceChanged(MountError):
    """A file has changed while it was read."""


async def pieces_of(
    namespace: Namespace, location: Location, begin: int = 0, version: tuple[int, int] | None = None
) -> AsyncIterator[Buffer]:
    """A file from `begin` to its end, read on whatever target answers, as long as it is the same file: the one of size
    and last write time `version`, or the one that is there at the beginning.

    Raises:
        SourceChanged: it is another one now.
        DfsfsError: what a server said.
    """
    from dfsfs.smb.wire.constants import Access, CreateDisposition

    offset = begin

    async def read(attempt: Attempt) -> Buffer:
        nonlocal version
        file = await attempt.tree.open(attempt.path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN)
        try:
            now = (file.stat.size, file.stat.written)
            if version is not None and now != version:
                raise SourceChanged(MOUNT_FAILURE, f"{location.unc} has changed while it was read")
            version = now
            return await file.read(offset, PIECE)
        finally:
            await file.close()

    while data := await namespace.run(location, read):
        yield data
        offset += len(data)

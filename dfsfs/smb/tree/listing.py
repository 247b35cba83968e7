"""Lists a directory: QUERY_DIRECTORY until the server says that there are no more entries (MS-SMB2 3.2.4.17)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.tree.bounds import ListingBounds
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import Access, CreateDisposition, CreateOptions
from dfsfs.smb.wire.directories import DirectoryPage
from dfsfs.smb.wire.messages import RELATED_FILE_ID

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from dfsfs.smb.connection.calls import Response
    from dfsfs.smb.tree.compounds import PathChannel
    from dfsfs.unc import UncPath

FIRST_LISTING_SIZE = 128 * 1024
"""OutputBufferLength in bytes of the first QUERY_DIRECTORYs, which are in the compound that opens the directory: enough
for about 800 names.
"""
LISTING_SIZE = 1024 * 1024
"""OutputBufferLength in bytes of the further ones, if nobody wants less."""
_LISTED = (NtStatus.NO_MORE_FILES, NtStatus.NO_SUCH_FILE)


async def list_directory(
    channel: PathChannel, path: UncPath, output_size: Callable[[], int]
) -> AsyncGenerator[DirectoryPage, None]:
    """The entries of a directory, those of each round trip together, without `.` and `..`, in the server's order.

    One round trip unless the directory is large. Its handle is closed with the last answer, or when the iteration ends.
    An entry with an impossible name or size is left out, and logged once. `output_size`: returns OutputBufferLength in
    bytes of the next QUERY_DIRECTORY; that of the first ones is FIRST_LISTING_SIZE.

    Raises:
        EndlessAnswer: a bound of bounds.py is exceeded.
        SmbError, ConnectionLost, SecurityError, WireError: as in Tree.stat.
    """
    what = f"listing of {path}"
    access = Access.FILE_READ_DATA | Access.FILE_READ_ATTRIBUTES
    create = channel.encode_create(
        path, access=access, disposition=CreateDisposition.FILE_OPEN, options=CreateOptions.FILE_DIRECTORY_FILE
    )
    io_size, limits = channel.connection.io_size, channel.limits
    # The second QUERY_DIRECTORY nearly always fetches the end of the list in the same round trip.
    size = io_size(min(FIRST_LISTING_SIZE, limits.transact))
    query = messages.encode_query_directory(RELATED_FILE_ID, size)
    created, *answers = await channel.call([create, query, query])
    channel.check(created, what)
    file_id = messages.decode_create(created.message).file_id
    bounds = ListingBounds(what)
    with ExitStack() as handle:
        handle.callback(channel.call_nowait, [messages.encode_close(file_id)])
        while True:
            is_end = answers[-1].status in _LISTED
            if is_end:
                handle.close()  # a server keeps what is removed as long as somebody has it open
            page = _decode_page(channel, path, answers, bounds)
            if page:
                yield page
            if is_end:
                return
            size = io_size(min(output_size(), limits.transact))
            answers = await channel.call([messages.encode_query_directory(file_id, size)])


def _decode_page(
    channel: PathChannel, path: UncPath, answers: Sequence[Response], bounds: ListingBounds
) -> DirectoryPage:
    """The entries of answers to QUERY_DIRECTORY, up to the one that says that there are no more."""
    page = DirectoryPage()
    for answer in answers:
        if answer.status in _LISTED:
            break
        channel.check(answer, f"listing of {path}")
        count = len(page)
        for problem in page.add(messages.decode_output(answer.message)):
            channel.content_warnings.warn_once(path, problem, "it is left out of the listing")
        bounds.take(len(page) - count, len(answer.message))
    return page

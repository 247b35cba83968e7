"""RemoteFile: an open file on a server (MS-SMB2 3.2.4.6 to 3.2.4.9).

Transfers larger than one request are split, and several parts are in flight at once. A handle belongs to its tree
connect and ends with the connection; opening the file again is left to the layers above.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import FileInformationClass
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Buffer, Request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.smb.connection.calls import Response
    from dfsfs.smb.connection.leases import Lease
    from dfsfs.smb.connection.pendingcall import PendingCall
    from dfsfs.smb.tree.channel import Channel
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath

MAX_TRANSFER_SIZE = 1024 * 1024
"""Bytes of the largest READ or WRITE. Larger ones are no faster on a fast line, and block other requests on a slow
one.
"""
MAX_TRANSFERS_IN_FLIGHT = 8
"""The most parts of one split transfer that are in flight at once."""
_END_OF_FILE: Final = int(NtStatus.END_OF_FILE)  # bound once: each READ looks at it


class PendingWrite:
    """The WRITEs in flight of one `start_write`."""

    __slots__ = ("_calls", "_file")

    def __init__(self, file: RemoteFile, calls: list[tuple[PendingCall, int]]) -> None:
        self._file = file
        self._calls = calls

    async def outcome(self) -> DfsfsError | None:
        """Waits for the responses; the first error, or None. Cancelling this does not abandon the WRITEs."""
        for call, size in self._calls:
            await call.wait_done()
            try:
                (response,) = self._file.tree.update_state(call.result())
                self._file.check_write_response(response, size)
            except DfsfsError as error:
                return error
        return None


class PendingRead:
    """A READ in flight. `size`: the bytes that it asks for."""

    __slots__ = ("_call", "_file", "size")

    def __init__(self, file: RemoteFile, call: PendingCall, size: int) -> None:
        self.size = size
        self._file = file
        self._call = call

    @property
    def is_done(self) -> bool:
        """Whether `outcome` returns without waiting."""
        return self._call.is_done

    async def outcome(self) -> Buffer:
        """Waits for the data: fewer bytes than `size` only at the end of the file. Errors as in RemoteFile.read.
        Cancelling this does not abandon the READ.
        """
        await self._call.wait_done()
        (response,) = self._file.tree.update_state(self._call.result())
        return self._file.decode_read_response(response, self.size)

    def abandon(self) -> None:
        """Gives up the READ."""
        self._call.abandon()


class PendingFetch:
    """A file that is being opened, read and closed in one compound, as Tree.start_fetch gives it."""

    __slots__ = ("_call", "_path", "_size", "_tree")

    def __init__(self, tree: Tree, path: UncPath, call: PendingCall, size: int) -> None:
        self._tree = tree
        self._path = path
        self._call = call
        self._size = size

    async def outcome(self) -> RemoteFile:
        """Waits for the file, which is closed already. Errors as in Tree.stat."""
        await self._call.wait_done()
        return self._tree.make_fetched_file(self._call.result(), self._path, self._size)

    def abandon(self) -> None:
        """Gives up the fetch."""
        self._call.abandon()


class RemoteFile:
    """An open handle. `tree`: the tree connect that it belongs to. `stat`: that of the open.

    `inline_data`: the beginning of the file, if the open has read it; all of the file if it is as long as that.
    `is_written`: whether the file was changed through the handle, so that its close matters.
    """

    def __init__(
        self,
        tree: Channel,
        path: UncPath,
        file_id: bytes,
        stat: FileStat,
        inline_data: Buffer | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.tree = tree
        self.path = path
        self.stat = stat
        self.inline_data = inline_data
        self.lease = lease
        self.inline_data_is_locked = False
        """Whether the open could not read the beginning because of a byte range lock of another client."""
        self._file_id = file_id
        self.is_written = False
        self._closed = False

    @classmethod
    def make_closed(cls, tree: Channel, path: UncPath, stat: FileStat, inline_data: Buffer | None) -> RemoteFile:
        """A file that was opened, read and closed in one compound."""
        file = cls(tree, path, b"", stat, inline_data)
        file._closed = True
        return file

    @property
    def alive(self) -> bool:
        return self.tree.alive and not self._closed

    @property
    def file_id(self) -> bytes:
        """The FileId of the handle, for requests that are made elsewhere: ranges.py."""
        return self._file_id

    async def read(self, offset: int, size: int) -> Buffer:
        """Up to `size` bytes at `offset`: fewer only at the end of the file, none at or behind it.

        Raises:
            SmbError: the server's answer.
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        limit = self._transfer_size(self.tree.limits.read)
        if size <= limit:
            (response,) = await self.tree.call([messages.encode_read(self._file_id, offset, size)])
            return self.decode_read_response(response, size)
        pieces = [(start, min(limit, offset + size - start)) for start in range(offset, offset + size, limit)]
        requests = (messages.encode_read(self._file_id, start, length) for start, length in pieces)
        result = bytearray()
        for (_, length), response in zip(pieces, await self._pipeline(requests), strict=True):
            data = self.decode_read_response(response, length)
            result += data
            if len(data) < length:
                break
        return result

    def start_read(self, offset: int, size: int) -> PendingRead:
        """Sends a READ of `size` bytes at `offset`, or of as many as one READ can have. Does not wait.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has ended.
        """
        size = min(size, self._transfer_size(self.tree.limits.read))
        return PendingRead(self, self.tree.start([messages.encode_read(self._file_id, offset, size)]), size)

    def decode_read_response(self, response: Response, size: int) -> Buffer:
        """The data in the response to a READ of `size` bytes. Errors as in read."""
        if response.status == _END_OF_FILE:
            return b""
        self.tree.check(response, f"read of {self.path}")
        return messages.decode_read(response.message, size)

    async def write(self, offset: int, data: Buffer) -> None:
        """Writes all of `data` at `offset`. After an error an unknown part may be in the file. Errors as in read."""
        self.is_written = True
        pieces = self._split(data)
        requests = (messages.encode_write(self._file_id, offset + start, piece) for start, piece in pieces)
        for (_, piece), response in zip(pieces, await self._pipeline(requests), strict=True):
            self.check_write_response(response, len(piece))

    def start_write(self, offset: int, data: Buffer) -> PendingWrite:
        """Sends all of `data` without waiting for the responses; it must not change until they have come.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has ended.
        """
        self.is_written = True
        return PendingWrite(
            self,
            [
                (self.tree.start([messages.encode_write(self._file_id, offset + start, piece)]), len(piece))
                for start, piece in self._split(data)
            ],
        )

    def _split(self, data: Buffer) -> list[tuple[int, Buffer]]:
        """The payloads of the WRITEs for `data`, each with its offset in it."""
        limit = self._transfer_size(self.tree.limits.write)
        if len(data) <= limit:
            return [(0, data)]
        view = memoryview(data)
        return [(start, view[start : start + limit]) for start in range(0, len(view), limit)]

    def check_write_response(self, response: Response, size: int) -> None:
        """Raises: SmbError: the WRITE of `size` bytes has failed, or has written fewer."""
        self.tree.check(response, f"write to {self.path}")
        if messages.decode_write(response.message, size) != size:
            raise SmbError(NtStatus.DISK_FULL, f"write to {self.path} stopped short")

    async def flush(self) -> None:
        """Has the server write the file to its disk, and waits for that. Errors as in read."""
        (response,) = await self.tree.call([messages.encode_flush(self._file_id)])
        self.tree.check(response, f"fsync of {self.path}")

    async def set_size(self, size: int) -> None:
        """Truncates or extends the file to `size` bytes. Errors as in read."""
        self.is_written = True
        change = messages.encode_set_info(
            self._file_id, FileInformationClass.FILE_END_OF_FILE_INFORMATION, fscc.encode_end_of_file(size)
        )
        (response,) = await self.tree.call([change])
        self.tree.check(response, f"truncation of {self.path}")

    async def set_basic(self, info: bytes) -> FileStat:
        """Sets times and attributes, as fscc.encode_basic_information packs them; returns the stat afterwards.

        One round trip. Errors as in read.
        """
        change = messages.encode_set_info(self._file_id, FileInformationClass.FILE_BASIC_INFORMATION, info)
        changed, queried = await self.tree.call([change, messages.encode_query_all()])
        self.tree.check(changed, f"setting attributes of {self.path}")
        return self.tree.decode_stat(queried, f"stat of {self.path}")

    async def query(self) -> FileStat:
        """The current stat of the file. Errors as in read."""
        (response,) = await self.tree.call([messages.encode_query_all(self._file_id)])
        return self.tree.decode_stat(response, f"stat of {self.path}")

    async def close(self, written: int | None = None) -> FileStat | None:
        """Closes the handle. A second close does nothing, nor does one after the connection has ended.

        Waits for the response only if the file was written, since only then an error of the close matters. One round
        trip. Errors as in read.

        Args:
            written: the last write time to set, in ns since 1970; None leaves it to the server.

        Returns:
            Times, sizes and attributes of a written file (MS-SMB2 3.3.5.10), if the server sends them; fields that are
            not in a CLOSE response are 0. None in all other cases.
        """
        if not self.is_written:
            self.discard()
            return None
        if not self._mark_closed():
            return None
        change: list[Request] = []
        if written is not None:
            info = fscc.encode_basic_information(None, None, written, None, 0)
            change.append(messages.encode_set_info(self._file_id, FileInformationClass.FILE_BASIC_INFORMATION, info))
        file_id = RELATED_FILE_ID if change else self._file_id
        try:
            # A failure to set the time is ignored.
            *_, response = await self.tree.call([*change, messages.encode_close(file_id, query=True)])
        except BaseException:
            self.tree.call_nowait([messages.encode_close(self._file_id)])  # the call may not have been sent yet
            raise
        self.tree.check(response, f"close of {self.path}")
        return messages.decode_close(response.message)

    def discard(self) -> None:
        """Closes the handle without waiting for the response. A second close does nothing."""
        if self._mark_closed():
            self.tree.call_nowait([messages.encode_close(self._file_id)])

    def _mark_closed(self) -> bool:
        if self._closed:
            return False
        self._closed = True
        if self.lease is not None:
            self.tree.connection.leases.remove_handle(self.lease)
        return self.tree.alive

    def _transfer_size(self, limit: int) -> int:
        """Bytes of one READ or WRITE, at most `limit`. io_size may return more than its argument, as a credit pays for
        64 KiB.
        """
        largest = min(MAX_TRANSFER_SIZE, limit)
        return min(largest, self.tree.connection.io_size(largest))

    async def _pipeline(self, requests: Iterable[Request]) -> list[Response]:
        """The responses to all requests, in order, with MAX_TRANSFERS_IN_FLIGHT of them in flight at most."""
        waiting: deque[PendingCall] = deque()
        responses: list[Response] = []
        try:
            for request in requests:
                if len(waiting) == MAX_TRANSFERS_IN_FLIGHT:
                    responses += await self._wait_first(waiting)
                waiting.append(self.tree.start([request]))
            while waiting:
                responses += await self._wait_first(waiting)
        finally:
            for call in waiting:
                call.give_up()
        return responses

    async def _wait_first(self, waiting: deque[PendingCall]) -> list[Response]:
        responses = await waiting[0].wait()
        waiting.popleft()
        return self.tree.update_state(responses)

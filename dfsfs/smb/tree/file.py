"""RemoteFile: an open file on a server (MS-SMB2 3.2.4.6 to 3.2.4.9).

Transfers larger than one request are split and several pieces are in flight at once. A handle belongs to its tree and
dies with the connection; opening it again is the business of whoever knows what that would mean.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire import copychunk, fscc, messages
from dfsfs.smb.wire.constants import CtlCode, FileInformationClass
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Buffer, Request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfsfs.smb.connection.calls import Response
    from dfsfs.smb.connection.connection import PendingCall
    from dfsfs.smb.connection.leases import Lease
    from dfsfs.smb.tree.channel import Channel
    from dfsfs.smb.tree.tree import Tree
    from dfsfs.smb.wire.copychunk import Range
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath

MAX_TRANSFER_SIZE = 1024 * 1024
"""The largest READ or WRITE in bytes. Larger ones gain nothing on a fast line and block the connection on a slow
one.
"""
MAX_TRANSFERS_IN_FLIGHT = 8
_END_OF_FILE: Final = int(NtStatus.END_OF_FILE)  # bound once: each READ looks at it


class PendingWrite:
    """WRITEs under way, for the data of one `start_write`."""

    __slots__ = ("_calls", "_file")

    def __init__(self, file: RemoteFile, calls: list[tuple[PendingCall, int]]) -> None:
        self._file = file
        self._calls = calls

    async def outcome(self) -> DfsfsError | None:
        """Waits for the answers; None if everything was written. Cancelling this wait gives up nothing."""
        for call, size in self._calls:
            await call.wait_done()
            try:
                (response,) = self._file.tree.update_state(call.result())
                self._file.check_write_response(response, size)
            except DfsfsError as error:
                return error
        return None


class PendingRead:
    """A READ under way."""

    __slots__ = ("_call", "_file", "size")

    def __init__(self, file: RemoteFile, call: PendingCall, size: int) -> None:
        self.size = size
        self._file = file
        self._call = call

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self._call.is_done

    async def outcome(self) -> Buffer:
        """Waits for the data, fewer bytes than were asked for only at the end of the file. Errors as in
        RemoteFile.read. Cancelling this wait gives up nothing.
        """
        await self._call.wait_done()
        (response,) = self._file.tree.update_state(self._call.result())
        return self._file.decode_read_response(response, self.size)

    def abandon(self) -> None:
        """Nobody wants the data any more."""
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
        """The outcome is not wanted any more."""
        self._call.abandon()


class RemoteFile:
    """An open handle. `stat` is what the server said when it was opened.

    `inline_data` is the beginning of the file if it was read along, all of it if it is as long as the file.
    `is_written`: whether something was changed through it, so that its close counts.
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
        """The beginning was to be read along, and another client has locked some of it."""
        self._file_id = file_id
        self.is_written = False
        self._closed = False

    @classmethod
    def closed(cls, tree: Channel, path: UncPath, stat: FileStat, inline_data: Buffer | None) -> RemoteFile:
        """A file of which only the head is known: it was opened and is closed again."""
        file = cls(tree, path, b"", stat, inline_data)
        file._closed = True
        return file

    @property
    def alive(self) -> bool:
        return self.tree.alive and not self._closed

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
        """Asks for `size` bytes at `offset`, fewer if one READ does not carry them, and does not wait.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has ended.
        """
        size = min(size, self._transfer_size(self.tree.limits.read))
        return PendingRead(self, self.tree.start([messages.encode_read(self._file_id, offset, size)]), size)

    def decode_read_response(self, response: Response, size: int) -> Buffer:
        """What the answer to a READ of `size` bytes has brought. Errors as in read."""
        if response.status == _END_OF_FILE:
            return b""
        self.tree.check(response, f"read of {self.path}")
        return messages.decode_read(response.message, size)

    async def write(self, offset: int, data: Buffer) -> None:
        """Writes all of `data` at `offset`, or fails; after a failure an unknown part of it may be in the file.

        Raises: as read does.
        """
        self.is_written = True
        pieces = self._split(data)
        requests = (messages.encode_write(self._file_id, offset + start, piece) for start, piece in pieces)
        for (_, piece), response in zip(pieces, await self._pipeline(requests), strict=True):
            self.check_write_response(response, len(piece))

    def start_write(self, offset: int, data: Buffer) -> PendingWrite:
        """Sends all of `data` without waiting for the answer; it must not change until that has come.

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
        """The payloads of the WRITEs for `data`, and where each begins in it."""
        limit = self._transfer_size(self.tree.limits.write)
        if len(data) <= limit:
            return [(0, data)]
        view = memoryview(data)
        return [(start, view[start : start + limit]) for start in range(0, len(view), limit)]

    def check_write_response(self, response: Response, size: int) -> None:
        """Raises: SmbError: the answer to a WRITE of `size` bytes does not say that they were written."""
        self.tree.check(response, f"write to {self.path}")
        if messages.decode_write(response.message, size) != size:
            raise SmbError(NtStatus.DISK_FULL, f"write to {self.path} stopped short")

    async def flush(self) -> None:
        """Returns when the server says that what was written is on its disk. Errors as in read."""
        (response,) = await self.tree.call([messages.encode_flush(self._file_id)])
        self.tree.check(response, f"fsync of {self.path}")

    async def set_size(self, size: int) -> None:
        """Cuts or extends the file to `size` bytes. Errors as in read."""
        self.is_written = True
        change = messages.encode_set_info(
            self._file_id, FileInformationClass.FILE_END_OF_FILE_INFORMATION, fscc.encode_end_of_file(size)
        )
        (response,) = await self.tree.call([change])
        self.tree.check(response, f"truncation of {self.path}")

    async def set_basic(self, info: bytes) -> FileStat:
        """Sets times and attributes, as fscc.encode_basic_information packs them, and says what the server knows then.

        One round trip. Errors as in read.
        """
        change = messages.encode_set_info(self._file_id, FileInformationClass.FILE_BASIC_INFORMATION, info)
        changed, queried = await self.tree.call([change, messages.encode_query_all()])
        self.tree.check(changed, f"setting attributes of {self.path}")
        return self.tree.decode_stat(queried, f"stat of {self.path}")

    async def query(self) -> FileStat:
        """What the server knows of the file now. Errors as in read."""
        (response,) = await self.tree.call([messages.encode_query_all(self._file_id)])
        return self.tree.decode_stat(response, f"stat of {self.path}")

    async def resume_key(self) -> bytes:
        """What names this file as the source of a copy on its server (MS-SMB2 3.2.4.20.1). Errors as in read."""
        size = copychunk.KEY_RESPONSE_SIZE
        (response,) = await self.tree.call(
            [messages.encode_ioctl(CtlCode.FSCTL_SRV_REQUEST_RESUME_KEY, b"", size, self._file_id)]
        )
        self.tree.check(response, f"copy of {self.path}")
        return copychunk.decode_resume_key(messages.decode_ioctl(response.message, size))

    async def copy_from(self, source: RemoteFile, wanted: Range) -> None:
        """Has the server write a part of another file on it into this one. Two round trips.

        Raises:
            SmbError: the server's answer; an unknown part may be in the file.
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        self.is_written = True
        key, what = await source.resume_key(), f"copy of {source.path} to {self.path}"
        request = copychunk.encode_copychunk(key, wanted.chunks)
        size = copychunk.RESPONSE_SIZE
        (response,) = await self.tree.call(
            [messages.encode_ioctl(CtlCode.FSCTL_SRV_COPYCHUNK_WRITE, request, size, self._file_id)]
        )
        self.tree.check(response, what)
        if copychunk.decode_copychunk(messages.decode_ioctl(response.message, size)) != wanted.length:
            raise SmbError(NtStatus.END_OF_FILE, f"{what} stopped short")

    async def close(self, written: int | None = None) -> FileStat | None:
        """Closes the handle; a second close does nothing.

        Waits for the server only if something was written: that is when a close can fail in a way that matters. On a
        connection that has ended there is nothing left to close. One round trip. Errors as in read.

        Args:
            written: the last write time to leave behind, in ns since 1970, or what the server makes of it.

        Returns:
            Times, sizes and attributes after a file was written (MS-SMB2 3.3.5.10), if the server says them; what a
            CLOSE does not say is unknown (0) in it.
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
            # If it can't be set, the time is the server's.
            *_, response = await self.tree.call([*change, messages.encode_close(file_id, query=True)])
        except BaseException:
            self.tree.call_nowait([messages.encode_close(self._file_id)])  # what is given up may not have been sent
            raise
        self.tree.check(response, f"close of {self.path}")
        return messages.decode_close(response.message)

    def discard(self) -> None:
        """Closes the handle without waiting for the server; a second close does nothing."""
        if self._mark_closed():
            self.tree.call_nowait([messages.encode_close(self._file_id)])

    def _mark_closed(self) -> bool:
        if self._closed:
            return False
        self._closed = True
        if self.lease is not None:
            self.tree.connection.leases.closed(self.lease)
        return self.tree.alive

    def _transfer_size(self, limit: int) -> int:
        """The bytes of one READ or WRITE where no more than `limit` are wanted; io_size may name more than it was asked
        for, since a credit pays for 64 KiB."""
        largest = min(MAX_TRANSFER_SIZE, limit)
        return min(largest, self.tree.connection.io_size(largest))

    async def _pipeline(self, requests: Iterable[Request]) -> list[Response]:
        """The answers to all requests, in order, with a bounded number of them in flight."""
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
                call.abandon()
        return responses

    async def _wait_first(self, waiting: deque[PendingCall]) -> list[Response]:
        responses = await waiting[0].wait()
        waiting.popleft()
        return self.tree.update_state(responses)

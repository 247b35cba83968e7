"""Tree: one tree connect, and the whole operations on paths below it (MS-SMB2 3.2.4).

Each operation is one compound where SMB2 allows it, see compounds.py. What can be done to symbolic links and the like
is in special.py, what a file has beside its data in xattrs.py. Nothing here tries again.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError, PosixError, SmbError, WireError
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb.connection.leases import KEY_SIZE, Lease, LeaseRequest
from dfsfs.smb.tree.bounds import ListingBounds
from dfsfs.smb.tree.file import PendingFetch, RemoteFile
from dfsfs.smb.tree.snapshots import Snapshots
from dfsfs.smb.tree.special import SpecialFiles
from dfsfs.smb.tree.xattrs import ExtendedAttributes
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import (
    SMB2_GLOBAL_CAP_LEASING,
    Access,
    CreateDisposition,
    CreateOptions,
    CtlCode,
    Dialect,
    FileAttributes,
    FileInformationClass,
    FileSystemInformationClass,
    ShareAccess,
)
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from dfsfs.smb.connection.calls import Response
    from dfsfs.smb.connection.connection import PendingCall
    from dfsfs.smb.tree.compounds import PathChannel
    from dfsfs.smb.wire.fscc import DirEntry, FileStat, VolumeSize
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.unc import UncPath

_BASIC = FileInformationClass.FILE_BASIC_INFORMATION
_LINK, _RENAME = FileInformationClass.FILE_LINK_INFORMATION, FileInformationClass.FILE_RENAME_INFORMATION
_DISPOSITION = FileInformationClass.FILE_DISPOSITION_INFORMATION
FIRST_LISTING_SIZE = 128 * 1024
"""Enough for about 800 names: most folders are listed by the compound that opens them."""
LISTING_SIZE = 1024 * 1024
HANDLE_BREAK_TIMEOUT = 2.0
"""Seconds that a removal waits for other clients to close a handle that they only keep."""
REMOVAL_ATTEMPTS = 18
"""How often a removal is sent that a server does not answer because another client does not answer it."""
ALL_ACCESS = 0xFFFFFFFF
"""Every right there is, as an access mask (MS-SMB2 2.2.13.1)."""
PAST_MAX = 512
"""Snapshots of a share that are kept in mind, those used last: as many as Windows has. A server can name more."""


class Tree:
    """See the module's text.

    What can be done to special files is in `special`, what files have beside their data in `xattrs`, previous versions
    of the share in `snapshots`. `maximal_access`: what the share lets the user do at all (MS-SMB2 2.2.10).
    """

    def __init__(self, channel: PathChannel, *, maximal_access: int = ALL_ACCESS, mfsymlinks: bool = False) -> None:
        self.channel = channel
        self.special = SpecialFiles(channel, mfsymlinks=mfsymlinks)
        self.stat = self.special.stat
        """See there: whatever has a name may be a special file."""
        self.xattrs = ExtendedAttributes(channel)
        self.snapshots = Snapshots(channel)
        self.connection, self.share, self.route = channel.connection, channel.share, channel.route
        self.is_dfs = channel.is_dfs
        """Whether the share takes part in DFS, so that paths below it may lead elsewhere."""
        self.volume = channel.volume
        """What file ids are unique in: the share, as it is or as it was at one time."""
        self._maximal_access = maximal_access
        self._mfsymlinks = mfsymlinks
        self._past: dict[int, Tree] = {}

    @property
    def alive(self) -> bool:
        """False once and for all when the tree connect or its connection has ended."""
        return self.channel.alive

    def server_time(self) -> int:
        """The server's clock in nanoseconds since 1970, as far as it is known here."""
        return self.connection.server_time()

    def disconnect(self) -> None:
        """Tells the server that the tree is not used any more; does not wait for it."""
        self.channel.disconnect()

    def at(self, snapshot_time: int | None) -> Tree:
        """The share as it was at a time, in 100 ns since 1601. A namespace's share has no past: it is as it is."""
        if snapshot_time is None or self.is_dfs:
            return self
        past = self._past.pop(snapshot_time, None)
        if past is None:
            channel = self.channel.at(snapshot_time)
            past = Tree(channel, maximal_access=self._maximal_access, mfsymlinks=self._mfsymlinks)
            if len(self._past) >= PAST_MAX:
                del self._past[next(iter(self._past))]
        self._past[snapshot_time] = past
        return past

    # -- operations on paths ----------------------------------------------------------------------------------------

    async def make_directory(self, path: UncPath) -> FileStat:
        """Makes a folder; OBJECT_NAME_COLLISION if the name is taken. One round trip. Errors as in stat."""
        requests = self.channel.encode_stat_compound(
            path, CreateDisposition.FILE_CREATE, CreateOptions.FILE_DIRECTORY_FILE
        )
        return self.channel.decode_stat_compound(await self.channel.call(requests), f"mkdir of {path}")

    async def open(
        self,
        path: UncPath,
        *,
        access: Access,
        disposition: CreateDisposition,
        options: CreateOptions = CreateOptions.NONE,
        attributes: int = 0,
        read: int = 0,
        lease: LeaseRequest | None = None,
    ) -> RemoteFile:
        """Opens or creates a file, with all sharing allowed. One round trip. Errors as in stat.

        `read` bytes of its beginning come along as the file's `inline_data`, if they can be read. The handle is under
        the lease, whatever that turns out to be.
        """
        create = self.channel.encode_create(
            path, access=access, disposition=disposition, options=options, attributes=attributes, lease=lease
        )
        requests = [create, messages.encode_query_all(), *_reading(read)]
        if lease is None:
            return self._file(await self.channel.call(requests), path, read)
        leases = self.connection.leases
        leases.opened(lease.lease)
        try:
            return self._file(await self._call_with_lease(lease.lease, requests), path, read, lease.lease)
        except BaseException:
            leases.closed(lease.lease)
            raise

    def make_lease(self, path: UncPath) -> Lease | None:
        """A lease for a file, with nothing open under it yet; None if the server has none to give."""
        negotiated = self.connection.negotiated
        if not negotiated.capabilities & SMB2_GLOBAL_CAP_LEASING or self.channel.snapshot_time is not None:
            return None
        version = 2 if negotiated.dialect >= Dialect.SMB_3_0 else 1
        return Lease(os.urandom(KEY_SIZE), version, path, self.route)

    async def renew(self, path: UncPath, access: Access, lease: LeaseRequest) -> None:
        """Asks once more for a lease of which something was lost, by opening the file and closing it again.

        One round trip. Errors as in stat.
        """
        create = self.channel.encode_create(path, access=access, disposition=CreateDisposition.FILE_OPEN, lease=lease)
        requests = [create, messages.encode_close(RELATED_FILE_ID)]
        self.channel.check((await self._call_with_lease(lease.lease, requests))[0], f"open of {path}")

    async def _call_with_lease(self, lease: Lease, requests: Sequence[Request]) -> list[Response]:
        """A call whose CREATE asks for a lease: what is granted counts from the moment at which the answer comes."""

        def received(response: Response) -> None:
            if not is_failure(response.status):
                lease.apply_grant(response.message)

        return self.channel.update_state(await self.channel.start(requests, received).wait())

    def _file(self, responses: Sequence[Response], path: UncPath, read: int, lease: Lease | None = None) -> RemoteFile:
        """The file that CREATE, QUERY_INFO and perhaps READ have opened. Errors as in stat."""
        self.channel.check(responses[0], f"open of {path}")
        file_id = messages.decode_create(responses[0].message).file_id
        try:
            stat, inline_data = self._decode_open(responses, path, read)
        except DfsfsError:
            self.channel.call_nowait([messages.encode_close(file_id)])
            raise
        file = RemoteFile(self.channel, path, file_id, stat, inline_data, lease)
        file.inline_data_is_locked = _is_locked(responses, read)
        return file

    def start_fetch(self, path: UncPath, size: int) -> PendingFetch:
        """Asks for a file's first `size` bytes, opening and closing it, and does not wait for the answer.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has ended.
        """
        options = CreateOptions.FILE_NON_DIRECTORY_FILE
        create = self.channel.encode_create(
            path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN, options=options
        )
        requests = [create, messages.encode_query_all(), *_reading(size), messages.encode_close(RELATED_FILE_ID)]
        return PendingFetch(self, path, self.channel.start(requests), size)

    def make_fetched_file(self, responses: list[Response], path: UncPath, size: int) -> RemoteFile:
        """What a fetch has brought, as a file that is closed already. Errors as in stat."""
        self.channel.check(self.channel.update_state(responses)[0], f"open of {path}")
        stat, inline_data = self._decode_open(responses, path, size)
        file = RemoteFile.closed(self.channel, path, stat, inline_data)
        file.inline_data_is_locked = _is_locked(responses, size)
        return file

    def _decode_open(self, responses: Sequence[Response], path: UncPath, size: int) -> tuple[FileStat, Buffer | None]:
        """What QUERY_INFO and READ in the compound of an open have said."""
        stat = self.channel.decode_stat(responses[1], f"open of {path}")
        if not size:
            return stat, None
        status = responses[2].status
        if status == NtStatus.END_OF_FILE:
            return stat, b""
        return stat, None if is_failure(status) else messages.decode_read(responses[2].message, size)

    async def remove_file(self, path: UncPath) -> None:
        """Deletes a file. One round trip, two more for one that is read-only: SMB refuses to delete it, POSIX does not.

        A client that only keeps a handle, under a lease, is asked for it first: see `_wait_exclusive`. If somebody
        really has the file open, here or at any other client, the name goes when the last handle is closed; that is one
        round trip more. Errors as in stat.
        """
        responses = await self._wait_exclusive(self.channel.start(self._encode_removal(path, ShareAccess.NONE)))
        await self._finish_removal(path, responses)

    async def remove_file_and_stat_parent(self, folder: UncPath, path: UncPath) -> FileStat | None:
        """Deletes a file as remove_file does, and says what the server knows of its folder then, if it tells.

        Both are sent at once, so that it takes one round trip. A server that works on several requests at a time may
        give the folder's times as they were just before; if the removal had to wait, nothing is told.
        """
        removal, looking = (
            self.channel.start(self._encode_removal(path, ShareAccess.NONE)),
            self.channel.start(self.channel.encode_stat_compound(folder)),
        )
        try:
            responses = await self._wait_exclusive(removal)
            if await self._finish_removal(path, responses):
                return None
            try:
                return self.channel.decode_stat_compound(
                    self.channel.update_state(await looking.wait()), f"stat of {folder}"
                )
            except DfsfsError:
                return None  # the file is gone all the same
        finally:
            looking.abandon()

    async def _finish_removal(self, path: UncPath, responses: Sequence[Response] | None) -> bool:
        """Does what is left to do after the first try of a removal. Whether there was anything."""
        if responses is not None and self._check_removed(path, responses):
            return False
        if responses is None:
            responses = await self._retry_removal(path)
            if responses[0].status == NtStatus.OBJECT_NAME_NOT_FOUND:
                return True  # it was there a moment ago, and whoever had it open is done with it
        if not self._check_removed(path, responses):
            await self._remove_read_only(path)
        return True

    async def _wait_exclusive(self, call: PendingCall) -> Sequence[Response] | None:
        """The answers to a compound whose CREATE shares nothing; None if that can't be had.

        A server asks whoever has the file open under a HANDLE lease to let go of it before it refuses such an open
        (MS-SMB2 3.3.4.7, MS-FSA 2.1.5.1.2): a handle that a client only keeps is closed then, and one that a program
        uses is not. Samba 4.17 does not ask for anything less.
        """
        responses = await self._wait_briefly(call)
        return None if responses is None or responses[0].status == NtStatus.SHARING_VIOLATION else responses

    async def _wait_briefly(self, call: PendingCall) -> Sequence[Response] | None:
        """The answers to a call; None if they take longer than ASKING seconds, then it is cancelled.

        Samba 4.17 and 4.22 were seen to honour that at once, and the answer to it shows that they live: while they wait
        for another client they say nothing to a compound.
        """
        with trio.move_on_after(HANDLE_BREAK_TIMEOUT):
            return self.channel.update_state(await call.wait())
        return None

    async def _retry_removal(self, path: UncPath) -> Sequence[Response]:
        """The answers to a removal with all sharing. A client that is dead, but not yet for the server, holds it until
        the server has waited long enough for that one: 35 seconds with Samba.
        """
        for _ in range(REMOVAL_ATTEMPTS):
            if (responses := await self._wait_briefly(self.channel.start(self._encode_removal(path)))) is not None:
                return responses
        return await self.channel.call(self._encode_removal(path))

    async def break_handle_leases(self, path: UncPath) -> bool:
        """Has clients that only keep a handle on a file close it. Whether nobody has it open then. One round trip.

        Errors as in stat.
        """
        create = self.channel.encode_create(
            path, access=Access.DELETE, disposition=CreateDisposition.FILE_OPEN, share_access=ShareAccess.NONE
        )
        responses = await self._wait_exclusive(self.channel.start([create, messages.encode_close(RELATED_FILE_ID)]))
        if responses is None:
            return False
        self.channel.check(responses[0], f"open of {path}")
        return True

    def _encode_removal(self, path: UncPath, share: ShareAccess = ShareAccess.ALL) -> Sequence[Request]:
        return self.channel.encode_set_compound(
            path, Access.DELETE, _DISPOSITION, fscc.encode_disposition(), share_access=share
        )

    def _check_removed(self, path: UncPath, responses: Sequence[Response]) -> bool:
        """Whether the answers to `_encode_removal` say that the file is removed; False if it is read-only.

        Raises:
            SmbError: the server's answer, if it is another one.
        """
        for response in responses:
            if response.status == NtStatus.CANNOT_DELETE:
                return False
            self.channel.check(response, f"unlink of {path}")
        return True

    async def _remove_read_only(self, path: UncPath) -> None:
        before = (await self.stat(path)).attributes
        access = Access.DELETE | Access.FILE_WRITE_ATTRIBUTES
        normal = fscc.encode_attributes(FileAttributes.FILE_ATTRIBUTE_NORMAL)
        requests = list(self.channel.encode_set_compound(path, access, _DISPOSITION, fscc.encode_disposition()))
        # In the same compound, so that no lost connection leaves the file there without the attribute.
        requests.insert(1, messages.encode_set_info(RELATED_FILE_ID, _BASIC, normal))
        created, changed, *removed = await self.channel.call(requests)
        self.channel.check(created, f"unlink of {path}")
        self.channel.check(changed, f"unlink of {path}")
        try:
            for response in removed:
                self.channel.check(response, f"unlink of {path}")
        except SmbError:
            await self.set_basic(path, fscc.encode_attributes(before))
            raise

    async def remove_unused(self, path: UncPath) -> None:
        """Deletes a file that nobody has open; SHARING_VIOLATION if somebody has. One round trip. Errors as in stat."""
        responses = await self._wait_exclusive(self.channel.start(self._encode_removal(path, ShareAccess.NONE)))
        if responses is None:
            raise SmbError(NtStatus.SHARING_VIOLATION, f"unlink of {path}")
        for response in responses:
            self.channel.check(response, f"unlink of {path}")

    async def remove_directory(self, path: UncPath) -> None:
        """Deletes an empty folder; DIRECTORY_NOT_EMPTY if it is not. One round trip. Errors as in stat."""
        info, options = fscc.encode_disposition(), CreateOptions.FILE_DIRECTORY_FILE
        await self.channel.set_info(path, Access.DELETE, _DISPOSITION, info, f"rmdir of {path}", options)

    async def rename(self, old: UncPath, new: UncPath, *, replace: bool) -> None:
        """Gives a file or folder another name on the same share. `replace` lets a file take the place of another;
        without it a taken name is OBJECT_NAME_COLLISION. One round trip. Errors as in stat."""
        # The new name is relative to the share, also where names in CREATE are not.
        info = fscc.encode_rename("\\".join(new.below_share), replace=replace)
        await self.channel.set_info(old, Access.DELETE, _RENAME, info, f"rename of {old} to {new}")

    async def link(self, path: UncPath, new: UncPath) -> None:
        """Gives a file one more name on the same share; OBJECT_NAME_COLLISION if that is taken. One round trip. Errors
        as in stat.

        The right to look at the file is enough: what it may need besides is the folder's business. Samba makes the name
        on a share that is read-only, too, so what the share allows is looked at here.
        """
        if not self._maximal_access & Access.FILE_WRITE_DATA:
            raise SmbError(NtStatus.ACCESS_DENIED, f"link of {path} to {new}: the share is read-only")
        info = fscc.encode_link("\\".join(new.below_share))
        await self.channel.set_info(path, Access.FILE_READ_ATTRIBUTES, _LINK, info, f"link of {path} to {new}")

    async def set_basic(self, path: UncPath, info: bytes) -> FileStat | None:
        """Sets times and attributes, as fscc.encode_basic_information packs them. One round trip. Errors as in stat.

        Returns what the server says of the file then; None if it lets the user change it and not ask.
        """
        what = f"setting attributes of {path}"
        access = Access.FILE_WRITE_ATTRIBUTES | Access.FILE_READ_ATTRIBUTES
        requests = list(self.channel.encode_set_compound(path, access, _BASIC, info))
        requests.insert(-1, messages.encode_query_all())
        *changed, asked, closed = await self.channel.call(requests)
        for response in (*changed, closed):
            self.channel.check(response, what)
        try:
            return self.channel.decode_stat(asked, what)
        except SmbError:
            return None

    async def set_size(self, path: UncPath, size: int, written: int | None = None) -> FileStat:
        """Cuts or extends a file to `size` bytes. One round trip. Errors as in stat.

        `written`: the last write time that it is to have then, in ns since 1970: a server may leave that as it is while
        somebody has the file open. Returns what the server knows of the file then.
        """
        what = f"truncation of {path}"
        access = Access.FILE_WRITE_DATA | Access.FILE_READ_ATTRIBUTES
        end = fscc.encode_end_of_file(size)
        changes = [messages.encode_set_info(RELATED_FILE_ID, FileInformationClass.FILE_END_OF_FILE_INFORMATION, end)]
        if written is not None:
            access |= Access.FILE_WRITE_ATTRIBUTES
            times = fscc.encode_basic_information(None, None, written, None, 0)
            changes.append(messages.encode_set_info(RELATED_FILE_ID, _BASIC, times))
        create = self.channel.encode_create(path, access=access, disposition=CreateDisposition.FILE_OPEN)
        requests = [create, *changes, messages.encode_query_all(), messages.encode_close(RELATED_FILE_ID)]
        *changed, asked, closed = await self.channel.call(requests)
        for response in (*changed, closed):
            self.channel.check(response, what)
        return self.channel.decode_stat(asked, what)

    async def list(self, path: UncPath) -> AsyncGenerator[list[DirEntry], None]:
        """The entries of a folder in batches, without `.` and `..`, in the server's order.

        Opening the folder and reading it is one round trip unless it is large. Its handle is closed when the
        iteration ends, also when it is given up. An entry that no file can have is left out, and said once.

        Raises: as stat, and
            EndlessAnswer: it goes on for longer than any listing, see bounds.py.
        """
        what = f"listing of {path}"
        access = Access.FILE_READ_DATA | Access.FILE_READ_ATTRIBUTES
        create = self.channel.encode_create(
            path, access=access, disposition=CreateDisposition.FILE_OPEN, options=CreateOptions.FILE_DIRECTORY_FILE
        )
        # The second QUERY_DIRECTORY nearly always fetches the end of the list in the same round trip.
        size = self.connection.io_size(min(FIRST_LISTING_SIZE, self.channel.limits.transact))
        query = messages.encode_query_directory(RELATED_FILE_ID, size)
        created, *answers = await self.channel.call([create, query, query])
        self.channel.check(created, what)
        file_id = messages.decode_create(created.message).file_id
        bounds = ListingBounds(what)
        try:
            while True:
                for answer in answers:
                    if answer.status in (NtStatus.NO_MORE_FILES, NtStatus.NO_SUCH_FILE):
                        return
                    self.channel.check(answer, what)
                    entries, left_out = fscc.decode_directory(messages.decode_output(answer.message))
                    for oddity in left_out:
                        self.channel.content_warnings.warn_once(path, oddity, "it is left out of the listing")
                    names = [entry for entry in entries if entry.name not in (".", "..")]
                    bounds.take(len(names), len(answer.message))
                    yield names
                size = self.connection.io_size(min(LISTING_SIZE, self.channel.limits.transact))
                answers = await self.channel.call([messages.encode_query_directory(file_id, size)])
        finally:
            self.channel.call_nowait([messages.encode_close(file_id)])

    async def volume_size(self) -> VolumeSize:
        """Size and free space of the volume below the share. One round trip. Errors as in stat, and:

        Raises:
            PosixError: the figures make no sense (EIO). That is no reason to leave the target: its files are there.
        """
        query = messages.encode_query_volume(FileSystemInformationClass.FILE_FS_FULL_SIZE_INFORMATION, 64)
        queried = await self.channel.query_info(
            self.share, Access.FILE_READ_ATTRIBUTES, query, f"statfs of {self.share}"
        )
        output = messages.decode_output(queried.message)
        try:
            return fscc.decode_full_size(output)
        except WireError as error:
            raise PosixError(errno.EIO, f"the size of the volume of {self.share}: {error}") from None

    async def referral(self, code: CtlCode, request: bytes, max_output: int) -> tuple[int, bytes]:
        """Sends a DFS referral request, plain or extended (MS-DFSC 3.1.4.2).

        Returns the NTSTATUS and, for SUCCESS, the answer. With STATUS_BUFFER_OVERFLOW there is none: what Samba sends
        then is cut in the middle of an entry.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        (response,) = await self.channel.call([messages.encode_ioctl(code, request, max_output)])
        if response.status != NtStatus.SUCCESS:
            return response.status, b""
        return response.status, bytes(messages.decode_ioctl(response.message, max_output))


def _is_locked(responses: Sequence[Response], size: int) -> bool:
    """Whether the READ in the compound of an open, of `size` bytes if there is one, has met somebody's lock."""
    return bool(size) and responses[2].status in (NtStatus.FILE_LOCK_CONFLICT, NtStatus.LOCK_NOT_GRANTED)


def _reading(size: int) -> list[Request]:
    return [messages.encode_read(RELATED_FILE_ID, 0, size)] if size else []

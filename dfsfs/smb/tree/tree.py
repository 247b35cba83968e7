"""Tree: the operations on the files of a share, over one tree connect (MS-SMB2 3.2.4).

Each operation is one compound where SMB2 allows it, see compounds.py. Operations on names are in namechanges.py, on
special files in special.py, on extended attributes in xattrs.py, on lists of snapshots in snapshots.py. Nothing here
retries after a failure.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, PosixError, SmbError, WireError
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb.connection.leases import KEY_SIZE, Lease, LeaseRequest
from dfsfs.smb.tree.file import PendingFetch, RemoteFile
from dfsfs.smb.tree.listing import LISTING_SIZE, list_directory
from dfsfs.smb.tree.namechanges import NameChanges
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
    FileInformationClass,
    FileSystemInformationClass,
)
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from dfsfs.smb.connection.calls import Response
    from dfsfs.smb.tree.compounds import PathChannel
    from dfsfs.smb.wire.directories import DirectoryPage
    from dfsfs.smb.wire.fscc import FileStat, VolumeSize
    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.unc import UncPath

_BASIC = FileInformationClass.FILE_BASIC_INFORMATION
ALL_ACCESS = 0xFFFFFFFF
"""An access mask with all rights (MS-SMB2 2.2.13.1)."""
PAST_MAX = 512
"""The most snapshots of a share whose trees are kept, those used last. Windows has no more; a server can name more."""


class Tree:
    """See the module's text.

    `special`, `xattrs` and `snapshots` have the operations on special files, extended attributes and lists of
    snapshots; those of NameChanges are the tree's own. `maximal_access`: MaximalAccess of the TREE_CONNECT response.
    `mfsymlinks`: see SpecialFiles.
    """

    def __init__(self, channel: PathChannel, *, maximal_access: int = ALL_ACCESS, mfsymlinks: bool = False) -> None:
        self.channel = channel
        self.special = SpecialFiles(channel, mfsymlinks=mfsymlinks)
        self.stat = self.special.stat
        """See SpecialFiles.stat: any name may be that of a special file."""
        self.names = names = NameChanges(channel, maximal_access, self.stat)
        self.remove_file, self.remove_unused = names.remove_file, names.remove_unused
        self.remove_directory, self.rename, self.link = names.remove_directory, names.rename, names.link
        self.rename_and_stat, self.break_handle_leases = names.rename_and_stat, names.break_handle_leases
        self.xattrs = ExtendedAttributes(channel)
        self.snapshots = Snapshots(channel)
        self.connection, self.share, self.route = channel.connection, channel.share, channel.route
        self.is_dfs = channel.is_dfs
        """Whether the share takes part in DFS, so that paths below it may lead elsewhere."""
        self.volume = channel.volume
        """The scope in which file ids are unique: the share, or its snapshot."""
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
        """The tree for the snapshot of a time, in 100 ns since 1601. Itself for None, and on a namespace's share."""
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
        """Makes a directory; OBJECT_NAME_COLLISION if the name is taken. One round trip. Errors as in stat."""
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
        requests = [create, messages.encode_query_all(), *_encode_head_read(read)]
        if lease is None:
            return self._file(await self.channel.call(requests), path, read)
        leases = self.connection.leases
        leases.add_handle(lease.lease)
        try:
            return self._file(await self._call_with_lease(lease.lease, requests), path, read, lease.lease)
        except BaseException:
            leases.remove_handle(lease.lease)
            raise

    def make_lease(self, path: UncPath) -> Lease | None:
        """A new lease for a file, without handles; None if the server has no leases, or for a snapshot."""
        negotiated = self.connection.negotiated
        if not negotiated.capabilities & SMB2_GLOBAL_CAP_LEASING or self.channel.snapshot_time is not None:
            return None
        version = 2 if negotiated.dialect >= Dialect.SMB_3_0 else 1
        return Lease(os.urandom(KEY_SIZE), version, path, self.route)

    async def renew(self, path: UncPath, access: Access, lease: LeaseRequest) -> None:
        """Requests a lease again after a break, by an open and close of the file. One round trip. Errors as in stat."""
        create = self.channel.encode_create(path, access=access, disposition=CreateDisposition.FILE_OPEN, lease=lease)
        requests = [create, messages.encode_close(RELATED_FILE_ID)]
        self.channel.check((await self._call_with_lease(lease.lease, requests))[0], f"open of {path}")

    async def _call_with_lease(self, lease: Lease, requests: Sequence[Request]) -> list[Response]:
        """A call whose CREATE requests a lease. The grant is processed when the response is received, see leases.py."""

        def received(response: Response) -> None:
            if not is_failure(response.status):
                lease.apply_grant(response.message)

        return self.channel.update_state(await self.connection.call(requests, self.channel.route, received))

    def _file(self, responses: Sequence[Response], path: UncPath, read: int, lease: Lease | None = None) -> RemoteFile:
        """The file of the responses to CREATE, QUERY_INFO and perhaps READ. Errors as in stat."""
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
        """Sends the compound that opens a file, reads its first `size` bytes and closes it. Does not wait.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection has ended.
        """
        options = CreateOptions.FILE_NON_DIRECTORY_FILE
        create = self.channel.encode_create(
            path, access=Access.READ, disposition=CreateDisposition.FILE_OPEN, options=options
        )
        requests = [
            create,
            messages.encode_query_all(),
            *_encode_head_read(size),
            messages.encode_close(RELATED_FILE_ID),
        ]
        return PendingFetch(self, path, self.channel.start(requests), size)

    def make_fetched_file(self, responses: list[Response], path: UncPath, size: int) -> RemoteFile:
        """The file of the responses to `start_fetch`, which is closed already. Errors as in stat."""
        self.channel.check(self.channel.update_state(responses)[0], f"open of {path}")
        stat, inline_data = self._decode_open(responses, path, size)
        file = RemoteFile.make_closed(self.channel, path, stat, inline_data)
        file.inline_data_is_locked = _is_locked(responses, size)
        return file

    def _decode_open(self, responses: Sequence[Response], path: UncPath, size: int) -> tuple[FileStat, Buffer | None]:
        """Decodes the responses to QUERY_INFO and READ in the compound of an open. None: the data could not be read."""
        stat = self.channel.decode_stat(responses[1], f"open of {path}")
        if not size:
            return stat, None
        status = responses[2].status
        if status == NtStatus.END_OF_FILE:
            return stat, b""
        return stat, None if is_failure(status) else messages.decode_read(responses[2].message, size)

    async def set_basic(self, path: UncPath, info: bytes) -> FileStat | None:
        """Sets times and attributes, as fscc.encode_basic_information packs them. One round trip. Errors as in stat.

        Returns the stat of the file afterwards; None if the user may change it but not query it.
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
        """Truncates or extends a file to `size` bytes; returns its stat afterwards. One round trip. Errors as in stat.

        `written`: the last write time to set, in ns since 1970. Without it a server may leave the time as it is while
        the file is open.
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

    def list(
        self, path: UncPath, output_size: Callable[[], int] = lambda: LISTING_SIZE
    ) -> AsyncGenerator[DirectoryPage, None]:
        """The entries of a directory: see listing.py."""
        return list_directory(self.channel, path, output_size)

    async def volume_size(self) -> VolumeSize:
        """Size and free space of the share's file system. One round trip.

        Raises:
            PosixError: EIO, the numbers are malformed. No WireError, since that would be a reason to leave the target.
            SmbError, ConnectionLost, SecurityError, WireError: as in stat.
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

        Returns the NTSTATUS and, for SUCCESS, the output. With STATUS_BUFFER_OVERFLOW it is left out: Samba cuts it in
        the middle of an entry.

        Raises:
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        (response,) = await self.channel.call([messages.encode_ioctl(code, request, max_output)])
        if response.status != NtStatus.SUCCESS:
            return response.status, b""
        return response.status, bytes(messages.decode_ioctl(response.message, max_output))


def _is_locked(responses: Sequence[Response], size: int) -> bool:
    """Whether the READ in the compound of an open was refused because of a byte range lock. `size`: of the READ, 0 if
    there is none.
    """
    return bool(size) and responses[2].status in (NtStatus.FILE_LOCK_CONFLICT, NtStatus.LOCK_NOT_GRANTED)


def _encode_head_read(size: int) -> list[Request]:
    return [messages.encode_read(RELATED_FILE_ID, 0, size)] if size else []

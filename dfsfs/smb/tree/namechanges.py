"""NameChanges: the operations of a share that take names from files and give them names (MS-SMB2 3.2.4).

A removal and a rename can bring along what they have made of directories (`seen`), in the same compound: the kernel
asks for the attributes of a directory after each change of it, before it allows the next one.

Each is one compound where SMB2 allows it, see compounds.py. Nothing here retries after a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import (
    Access,
    CreateDisposition,
    CreateOptions,
    FileAttributes,
    FileInformationClass,
    ShareAccess,
)
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dfsfs.smb.connection.calls import Response
    from dfsfs.smb.connection.pendingcall import PendingCall
    from dfsfs.smb.tree.compounds import PathChannel
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath

_BASIC = FileInformationClass.FILE_BASIC_INFORMATION
_LINK, _RENAME = FileInformationClass.FILE_LINK_INFORMATION, FileInformationClass.FILE_RENAME_INFORMATION
_DISPOSITION = FileInformationClass.FILE_DISPOSITION_INFORMATION
HANDLE_BREAK_TIMEOUT = 2.0
"""Seconds that a removal waits for other clients to give up HANDLE leases, and close handles of deferred closes."""
_PLAIN_REMOVAL = 3
"""Requests of a removal that changes no attributes."""
REMOVAL_ATTEMPTS = 18
"""How often a removal is sent, HANDLE_BREAK_TIMEOUT seconds each, while the server waits for another client."""


class NameChanges:
    """See the module's text. `maximal_access`: MaximalAccess of the TREE_CONNECT response. `stat`: that of the tree."""

    def __init__(
        self, channel: PathChannel, maximal_access: int, stat: Callable[[UncPath], Awaitable[FileStat]]
    ) -> None:
        self._channel = channel
        self._maximal_access = maximal_access
        self._stat = stat

    async def remove_file(
        self, path: UncPath, seen: Sequence[UncPath] = (), attributes: int = 0
    ) -> list[FileStat | None]:
        """Deletes a file. One round trip, two more for a read-only one: SMB refuses to delete it, POSIX does not. With
        `attributes`, those that a read-only file is known to have, it is one.

        Handles of deferred closes at other clients are closed first: see `_wait_exclusive`. If a program has the file
        open, at this client or another, that is one round trip more, and the name disappears with the last close.
        Returns what became of the directories `seen`, None of each if it took more than one round trip. Errors as in
        Tree.stat.
        """
        removal = self._encode_removal(path, ShareAccess.NONE, attributes)
        requests = [*removal, *self._channel.encode_glances(seen)]
        responses = await self._wait_exclusive(self._channel.start(requests))
        if attributes and responses is not None and responses[0].status == NtStatus.ACCESS_DENIED:
            return await self.remove_file(path, seen)  # the caller may delete it, but not change its attributes
        own = None if responses is None else responses[: len(removal)]
        if responses is not None and own is not None and await self._is_removed(path, own, attributes):
            return self._channel.decode_glances(responses[len(removal) :])
        await self._finish_removal(path, own, attributes)
        return [None] * len(seen)

    async def _finish_removal(self, path: UncPath, responses: Sequence[Response] | None, attributes: int) -> None:
        """Completes a removal whose first compound was not enough; `responses`: to that, None: the file is open."""
        if responses is None:
            responses = await self._retry_removal(path, attributes)
            if responses[0].status == NtStatus.OBJECT_NAME_NOT_FOUND:
                return  # the cancelled compound has removed it, or another client
            if await self._is_removed(path, responses, attributes):
                return
        await self._remove_read_only(path)

    async def _wait_exclusive(self, call: PendingCall) -> Sequence[Response] | None:
        """The responses to a compound whose CREATE shares nothing; None if the file is open elsewhere.

        Before a server refuses such an open, it breaks the HANDLE leases on the file (MS-SMB2 3.3.4.7, MS-FSA
        2.1.5.1.2). Clients then close handles of deferred closes, but not those that programs use. Samba 4.17 breaks
        them for no weaker open.
        """
        responses = await self._wait_briefly(call)
        return None if responses is None or responses[0].status == NtStatus.SHARING_VIOLATION else responses

    async def _wait_briefly(self, call: PendingCall) -> Sequence[Response] | None:
        """The responses to a call; None if they take longer than HANDLE_BREAK_TIMEOUT, then it is cancelled.

        Samba 4.17 and 4.22 answer a CANCEL at once, which shows that they are alive: to a compound they send no
        STATUS_PENDING while they wait for another client.
        """
        with trio.move_on_after(HANDLE_BREAK_TIMEOUT):
            return self._channel.update_state(await call.wait())
        return None

    async def _retry_removal(self, path: UncPath, attributes: int) -> Sequence[Response]:
        """The responses to a removal that shares everything. If a client that has a lease is dead, they come after the
        server's time-out for the break: 35 seconds with Samba.
        """
        requests = self._encode_removal(path, ShareAccess.ALL, attributes)
        for _ in range(REMOVAL_ATTEMPTS):
            if (responses := await self._wait_briefly(self._channel.start(requests))) is not None:
                return responses
        return await self._channel.call(requests)

    async def break_handle_leases(self, path: UncPath) -> bool:
        """Has other clients close handles of deferred closes. Returns whether no handle is left. One round trip.

        Errors as in Tree.stat.
        """
        create = self._channel.encode_create(
            path, access=Access.DELETE, disposition=CreateDisposition.FILE_OPEN, share_access=ShareAccess.NONE
        )
        responses = await self._wait_exclusive(self._channel.start([create, messages.encode_close(RELATED_FILE_ID)]))
        if responses is None:
            return False
        self._channel.check(responses[0], f"open of {path}")
        return True

    def _encode_removal(self, path: UncPath, share: ShareAccess, attributes: int = 0) -> Sequence[Request]:
        """The compound that deletes a file. If it is known to be read-only, it loses that attribute before, and has it
        again after its deletion is decided, for the sake of its other names: all in one compound, so that a lost
        connection can't leave it without.
        """
        access, disposition = Access.DELETE, fscc.encode_disposition()
        if not attributes & FileAttributes.FILE_ATTRIBUTE_READONLY:
            return self._channel.encode_set_compound(path, access, _DISPOSITION, disposition, share_access=share)
        access |= Access.FILE_WRITE_ATTRIBUTES
        created, removed, closed = self._channel.encode_set_compound(
            path, access, _DISPOSITION, disposition, share_access=share
        )
        normal = messages.encode_set_info(
            RELATED_FILE_ID, _BASIC, fscc.encode_attributes(FileAttributes.FILE_ATTRIBUTE_NORMAL)
        )
        again = messages.encode_set_info(RELATED_FILE_ID, _BASIC, fscc.encode_attributes(attributes))
        return [created, normal, removed, again, closed]

    async def _is_removed(self, path: UncPath, responses: Sequence[Response], attributes: int = 0) -> bool:
        """Whether the responses to `_encode_removal` say that the file is removed; False if it is read-only. If it is
        not removed, it has its attribute again.

        Raises:
            SmbError: the server's answer, if it is another failure.
        """
        if len(responses) == _PLAIN_REMOVAL:
            return self._check_removed(path, responses)
        created, changed, removed, again, closed = responses
        is_removed = False
        try:
            is_removed = self._check_removed(path, (created, changed, removed, closed))
        finally:
            if not is_removed and is_failure(again.status) and not is_failure(changed.status):
                await self._set_attributes(path, attributes)
        return is_removed

    def _check_removed(self, path: UncPath, responses: Sequence[Response]) -> bool:
        """`_is_removed` by the responses that matter."""
        for response in responses:
            if response.status == NtStatus.CANNOT_DELETE:
                return False
            self._channel.check(response, f"unlink of {path}")
        return True

    async def _set_attributes(self, path: UncPath, attributes: int) -> None:
        access, info = Access.FILE_WRITE_ATTRIBUTES | Access.FILE_READ_ATTRIBUTES, fscc.encode_attributes(attributes)
        await self._channel.set_info(path, access, _BASIC, info, f"setting attributes of {path}")

    async def _remove_read_only(self, path: UncPath) -> None:
        """Deletes a file that may be read-only: its attributes are asked for. Errors as in Tree.stat."""
        attributes = (await self._stat(path)).attributes
        responses = await self._channel.call(self._encode_removal(path, ShareAccess.ALL, attributes))
        if not await self._is_removed(path, responses, attributes):
            raise SmbError(NtStatus.CANNOT_DELETE, f"unlink of {path}")

    async def remove_unused(self, path: UncPath) -> None:
        """Deletes a file that is not open; SHARING_VIOLATION if it is. One round trip. Errors as in Tree.stat."""
        responses = await self._wait_exclusive(self._channel.start(self._encode_removal(path, ShareAccess.NONE)))
        if responses is None:
            raise SmbError(NtStatus.SHARING_VIOLATION, f"unlink of {path}")
        for response in responses:
            self._channel.check(response, f"unlink of {path}")

    async def remove_directory(self, path: UncPath, seen: Sequence[UncPath] = ()) -> list[FileStat | None]:
        """Deletes an empty directory; DIRECTORY_NOT_EMPTY if it is not. One round trip. Errors as in Tree.stat.

        Returns what became of the directories `seen`.
        """
        info, options = fscc.encode_disposition(), CreateOptions.FILE_DIRECTORY_FILE
        removal = self._channel.encode_set_compound(path, Access.DELETE, _DISPOSITION, info, options)
        return await self._change(removal, seen, f"rmdir of {path}")

    async def rename(
        self, old: UncPath, new: UncPath, *, replace: bool, seen: Sequence[UncPath] = ()
    ) -> list[FileStat | None]:
        """Renames a file or directory within the share. `replace` lets a file replace another; without it a taken name
        is OBJECT_NAME_COLLISION. One round trip. Errors as in Tree.stat.

        Returns what became of the directories `seen`.
        """
        # The new name is relative to the share, also where names in CREATE are not.
        info = fscc.encode_rename("\\".join(new.below_share), replace=replace)
        renaming = self._channel.encode_set_compound(old, Access.DELETE, _RENAME, info)
        return await self._change(renaming, seen, f"rename of {old} to {new}")

    async def rename_and_stat(
        self, old: UncPath, new: UncPath, seen: Sequence[UncPath] = ()
    ) -> tuple[FileStat, list[FileStat | None]]:
        """Renames a file to a name that is not taken. One round trip. Errors as in Tree.stat.

        Returns the stat of the file that was renamed, and what became of the directories `seen`.
        """
        what, info = f"rename of {old} to {new}", fscc.encode_rename("\\".join(new.below_share), replace=False)
        access = Access.DELETE | Access.FILE_READ_ATTRIBUTES
        requests = list(self._channel.encode_set_compound(old, access, _RENAME, info))
        requests.insert(-1, messages.encode_query_all())
        responses = await self._channel.call([*requests, *self._channel.encode_glances(seen)])
        *renamed, asked, closed = responses[: len(requests)]
        for response in (*renamed, closed):
            self._channel.check(response, what)
        return self._channel.decode_stat(asked, what), self._channel.decode_glances(responses[len(requests) :])

    async def _change(self, requests: Sequence[Request], seen: Sequence[UncPath], what: str) -> list[FileStat | None]:
        """Sends a change, and what is to be seen after it. Errors as in Tree.stat."""
        responses = await self._channel.call([*requests, *self._channel.encode_glances(seen)])
        for response in responses[: len(requests)]:
            self._channel.check(response, what)
        return self._channel.decode_glances(responses[len(requests) :])

    async def link(self, path: UncPath, new: UncPath) -> FileStat:
        """Makes a hard link to a file within the share; OBJECT_NAME_COLLISION if the name is taken. Returns the file's
        stat afterwards. One round trip. Errors as in Tree.stat.

        The right to read the file's attributes is enough; the directory needs more. Samba makes links on read-only
        shares, too, so the share's MaximalAccess is checked here.
        """
        what = f"link of {path} to {new}"
        if not self._maximal_access & Access.FILE_WRITE_DATA:
            raise SmbError(NtStatus.ACCESS_DENIED, f"{what}: the share is read-only")
        info = fscc.encode_link("\\".join(new.below_share))
        requests = list(self._channel.encode_set_compound(path, Access.FILE_READ_ATTRIBUTES, _LINK, info))
        requests.insert(-1, messages.encode_query_all())
        *linked, asked, closed = await self._channel.call(requests)
        for response in (*linked, closed):
            self._channel.check(response, what)
        return self._channel.decode_stat(asked, what)

"""SpecialFiles: symbolic links, devices, fifos and sockets on a share. Their formats are in reparse.py.

A server refuses to open a reparse point that it can't follow. Only then it is opened as what it is, with
FILE_OPEN_REPARSE_POINT. On a namespace's share the same flag opens a DFS link itself (Samba 4.22: as a symbolic link
whose target begins with `msdfs:`), and what is done through such a handle is done to the namespace. So a change goes
through a handle whose tag was checked before: `_open_special` closes the handle if the tag is none of those that dfsfs
knows, or that of a DFS link. None is made either: a symbolic link whose target begins so becomes a file.
"""

from __future__ import annotations

import stat as posix
from dataclasses import replace
from typing import TYPE_CHECKING

from dfsfs.errors import ContentError, SmbError
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb.wire import fscc, messages
from dfsfs.smb.wire.constants import (
    FILE_OPEN_REPARSE_POINT,
    Access,
    CreateDisposition,
    CreateOptions,
    CtlCode,
    FileAttributes,
    FileInformationClass,
    InfoType,
    ReparseTag,
)
from dfsfs.smb.wire.eas import decode_eas, encode_ea
from dfsfs.smb.wire.messages import RELATED_FILE_ID
from dfsfs.smb.wire.reparse import (
    LINK_MARK,
    MFSYMLINK_SIZE,
    SPECIAL_TAGS,
    SpecialFile,
    decode_mfsymlink,
    decode_reparse,
    encode_mfsymlink,
    encode_reparse,
    link_mark,
    tag_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.connection.calls import Response
    from dfsfs.smb.tree.compounds import PathChannel
    from dfsfs.smb.wire.fscc import FileStat
    from dfsfs.unc import UncPath

_NOT_FOLLOWED = (NtStatus.STOPPED_ON_SYMLINK, NtStatus.IO_REPARSE_TAG_NOT_HANDLED)
_REPARSE_SIZE = 16 * 1024
"""Bytes of the largest reparse point (MS-FSCC 2.1.2)."""
_EAS_SIZE = 65536
"""OutputBufferLength in bytes of the query for EAs."""
_DEVICE_EA = b"$LXDEV"
"""The name of the EA with the numbers of a device of the Linux subsystem."""
_QUERY_EAS = messages.encode_query_info(
    RELATED_FILE_ID, InfoType.SMB2_0_INFO_FILE, FileInformationClass.FILE_FULL_EA_INFORMATION, _EAS_SIZE
)
AS_FILE = "it is shown as a plain file"
"""The consequence of a malformed reparse point or EA, for the log."""


class SpecialFiles:
    """See the module's text. `mfsymlinks`: every file in the format of a symbolic link is taken for one, as the mount
    option says; otherwise only those that dfsfs has marked.
    """

    def __init__(self, channel: PathChannel, *, mfsymlinks: bool) -> None:
        self._channel = channel
        self._mfsymlinks = mfsymlinks
        self._lacks_reparse_points = False
        """Whether the server has refused FSCTL_SET_REPARSE_POINT as unsupported."""

    # -- stat -------------------------------------------------------------------------------------------------------

    async def stat(self, path: UncPath) -> FileStat:
        """The stat of whatever has a name. One round trip, another one for what turns out to be a special file.

        Raises:
            SmbError: the server's answer, PATH_NOT_COVERED if the path leads through a DFS link.
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        channel = self._channel
        responses = await channel.call(channel.encode_stat_compound(path))
        if responses[0].status in _NOT_FOLLOWED:
            return await self.lstat(path)
        stat = channel.decode_stat_compound(responses, f"stat of {path}")
        return await self._read_mfsymlink(path, stat) if self._may_be_mfsymlink(stat) else stat

    async def stat_listed_entry(self, path: UncPath, listed: FileStat) -> FileStat:
        """The stat of an entry of a listing for which `may_be_special` is true. One round trip. Errors as in stat."""
        if listed.reparse_tag in SPECIAL_TAGS:
            return await self.lstat(path)
        return await self._read_mfsymlink(path, listed) if self._may_be_mfsymlink(listed) else listed

    def may_be_special(self, stat: FileStat) -> bool:
        """Whether the stat of a listing is not enough to know what an entry is."""
        return stat.special is None and (stat.reparse_tag in SPECIAL_TAGS or self._may_be_mfsymlink(stat))

    def _may_be_mfsymlink(self, stat: FileStat) -> bool:
        """Whether it may be a file in the format of a symbolic link, with the EA that marks it if that is needed."""
        if stat.size != MFSYMLINK_SIZE or stat.is_directory:
            return False
        return self._mfsymlinks or stat.ea_size != 0

    async def _read_mfsymlink(self, path: UncPath, stat: FileStat) -> FileStat:
        """Reads a file that may be a symbolic link. Returns its stat as what it is. Errors as in stat."""
        access = Access.FILE_READ_DATA | Access.FILE_READ_ATTRIBUTES | Access.FILE_READ_EA
        create = self._channel.encode_create(path, access=access, disposition=CreateDisposition.FILE_OPEN)
        read = messages.encode_read(RELATED_FILE_ID, 0, MFSYMLINK_SIZE)
        requests = [create, messages.encode_query_all(), read, _QUERY_EAS, messages.encode_close(RELATED_FILE_ID)]
        opened, queried, answer, eas, _ = await self._channel.call(requests)
        if is_failure(opened.status) or is_failure(answer.status):
            return stat  # the error is reported when a program opens it
        content = messages.decode_read(answer.message, MFSYMLINK_SIZE)
        special = decode_mfsymlink(content)
        if special is not None and not self._mfsymlinks and not self._has_link_mark(path, content, eas):
            special = None
        return replace(self._channel.decode_stat(queried, f"stat of {path}"), special=special)

    def _has_link_mark(self, path: UncPath, content: messages.Buffer, eas: Response) -> bool:
        """Whether the EAs have the mark with which dfsfs makes a file of this content."""
        try:
            return _decode_eas_answer(eas).get(LINK_MARK) == link_mark(content)
        except ContentError as error:
            self._channel.content_warnings.warn_once(path, str(error), AS_FILE)
            return False

    async def lstat(self, path: UncPath) -> FileStat:
        """The stat of a name without following it if it is a reparse point. One round trip. Errors as in stat.

        Samba before 4.22 follows symbolic links of its own file system all the same.
        """
        what = f"stat of {path}"
        requests = [
            self._create_reparse_point(path, Access.FILE_READ_ATTRIBUTES | Access.FILE_READ_EA),
            messages.encode_query_all(),
            messages.encode_ioctl(CtlCode.FSCTL_GET_REPARSE_POINT, b"", _REPARSE_SIZE),
            _QUERY_EAS,
            messages.encode_close(RELATED_FILE_ID),
        ]
        opened, queried, got, eas, _ = await self._channel.call(requests)
        self._channel.check(opened, what)
        stat = self._channel.decode_stat(queried, what)
        if got.status == NtStatus.NOT_A_REPARSE_POINT:
            return stat
        self._channel.check(got, what)
        data = messages.decode_ioctl(got.message, _REPARSE_SIZE)
        try:
            special = decode_reparse(data, _decode_device_ea(eas) if _has_device_ea(data) else None)
        except ContentError as error:
            self._channel.content_warnings.warn_once(path, str(error), AS_FILE)
            return replace(stat, reparse_tag=tag_of(data) if len(data) >= 8 else 0)
        _refuse_dfs_link(special, what)
        return replace(stat, reparse_tag=tag_of(data), special=special)

    # -- making -----------------------------------------------------------------------------------------------------

    async def make(self, path: UncPath, special: SpecialFile) -> FileStat:
        """Makes a symbolic link, device, fifo or socket; returns its stat. OBJECT_NAME_COLLISION: the name is taken.

        Without reparse points a symbolic link becomes a file, see make_mfsymlink, and so does one that Samba would take
        for a DFS link; anything else is NOT_SUPPORTED then. Two round trips. Errors as in stat.
        """
        if self._lacks_reparse_points or special.is_dfs_link:
            return await self.make_mfsymlink(path, special)
        data = encode_reparse(special)
        change = messages.encode_ioctl(CtlCode.FSCTL_SET_REPARSE_POINT, data, 0)
        opening = self._create_reparse_point(path, Access.FILE_READ_ATTRIBUTES)
        status, stat = await self._make_from_file(path, [change], opening)
        if is_failure(status):
            # A server may also refuse this one only: Windows demands a privilege for symbolic links.
            self._lacks_reparse_points = status in _UNSUPPORTED
            return await self.make_mfsymlink(path, special)
        if stat is None or not stat.attributes & FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT:
            return await self.stat(path)
        return replace(stat, reparse_tag=tag_of(data), special=decode_reparse(data, None))

    async def make_mfsymlink(self, path: UncPath, special: SpecialFile) -> FileStat:
        """Makes a symbolic link as a file that contains the target, and returns its stat. Errors as in make.

        Without the option mfsymlinks it gets the EA that marks it; NOT_SUPPORTED if the server has no EAs.
        """
        content = encode_mfsymlink(special.target) if special.kind == posix.S_IFLNK else None
        if content is None:
            reason = NtStatus.NAME_TOO_LONG if special.kind == posix.S_IFLNK else NtStatus.NOT_SUPPORTED
            raise SmbError(reason, f"making {path}, for which the server has no form")
        changes = [messages.encode_write(RELATED_FILE_ID, 0, content)]
        if not self._mfsymlinks:
            mark = encode_ea(LINK_MARK, link_mark(content))
            changes.append(
                messages.encode_set_info(RELATED_FILE_ID, FileInformationClass.FILE_FULL_EA_INFORMATION, mark)
            )
        access = Access.FILE_READ_ATTRIBUTES
        opening = self._channel.encode_create(path, access=access, disposition=CreateDisposition.FILE_OPEN)
        status, stat = await self._make_from_file(path, changes, opening)
        if status in _NO_EAS:
            raise SmbError(NtStatus.NOT_SUPPORTED, f"making {path}, for which the server has no form")
        if is_failure(status):
            raise SmbError(status, f"making {path}")
        if stat is None or stat.size != MFSYMLINK_SIZE:
            return await self.stat(path)
        return replace(stat, special=decode_mfsymlink(content))

    async def _make_from_file(
        self, path: UncPath, then: Sequence[messages.Request], opening: messages.Request
    ) -> tuple[int, FileStat | None]:
        """Makes an empty file and sends the requests that make it a special file. Returns their first failure, or a
        success; after a failure there is no file. With a success, what is there then, as `opening` has opened it; None
        if that was refused. Two round trips.

        The file is deleted with its handle until those requests have succeeded, so that a lost connection leaves
        nothing half made. It is asked for once that handle is closed, as a close may move times.
        """
        what = f"making {path}"
        create = self._channel.encode_create(
            path,
            access=Access.WRITE | Access.DELETE,
            disposition=CreateDisposition.FILE_CREATE,
            options=CreateOptions.FILE_NON_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT,
        )
        made, marked, *answers = await self._channel.call(
            [create, _encode_set_disposition(RELATED_FILE_ID, delete=True), *then]
        )
        self._channel.check(made, what)
        file_id = messages.decode_create(made.message).file_id
        status = next((answer.status for answer in answers if is_failure(answer.status)), answers[-1].status)
        failed = is_failure(status)
        changes = [_encode_set_disposition(file_id, delete=failed)] if failed or not is_failure(marked.status) else []
        asking = [] if failed else [opening, messages.encode_query_all(), messages.encode_close(RELATED_FILE_ID)]
        asked = await self._finish(file_id, changes, what, asking)
        if failed or is_failure(asked[0].status) or is_failure(asked[1].status):
            return status, None
        return status, self._channel.decode_stat(asked[1], what)

    async def _finish(
        self, file_id: bytes, changes: Sequence[messages.Request], what: str, then: Sequence[messages.Request] = ()
    ) -> Sequence[Response]:
        """Sends requests on a handle, and closes it, also when cancelled. The responses to what is sent behind that,
        `then`, in the same compound.
        """
        try:
            responses = await self._channel.call([*changes, messages.encode_close(file_id), *then])
        except BaseException:
            self._channel.call_nowait([messages.encode_close(file_id)])
            raise
        own = len(changes) + 1
        for response in responses[:own]:
            self._channel.check(response, what)
        return responses[own:]

    # -- changing ---------------------------------------------------------------------------------------------------

    async def remove(self, path: UncPath, seen: Sequence[UncPath] = ()) -> list[FileStat | None]:
        """Deletes a reparse point. Two round trips. Errors as in stat; OBJECT_TYPE_MISMATCH if it is none. Returns what
        became of the directories `seen`.
        """
        what = f"unlink of {path}"
        file_id, _ = await self._open_special(path, Access.DELETE, what)
        glances = self._channel.encode_glances(seen)
        answers = await self._finish(file_id, [_encode_set_disposition(file_id, delete=True)], what, glances)
        return self._channel.decode_glances(answers)

    async def rename(
        self, old: UncPath, new: UncPath, *, replace: bool, seen: Sequence[UncPath] = ()
    ) -> list[FileStat | None]:
        """Renames a reparse point within the share, as Tree.rename does. Two round trips. Errors as in remove.

        Samba 4.22 loses the reparse point in a rename, and shows an empty file from then on. So it is set again,
        through the same handle and in the same compound, which a lost connection can't cut in two.
        """
        info, what = fscc.encode_rename("\\".join(new.below_share), replace=replace), f"rename of {old} to {new}"
        file_id, data = await self._open_special(old, Access.DELETE | Access.FILE_WRITE_ATTRIBUTES, what)
        renaming = messages.encode_set_info(file_id, FileInformationClass.FILE_RENAME_INFORMATION, info)
        repairing = messages.encode_ioctl(CtlCode.FSCTL_SET_REPARSE_POINT, data, 0, file_id)
        requests = [renaming, repairing, messages.encode_query_all(), *self._channel.encode_glances(seen)]
        try:
            renamed, repaired, looked, *answers = await self._channel.call(requests)
            self._channel.check(renamed, what)
            if not self._channel.decode_stat(looked, what).attributes & FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT:
                self._channel.check(repaired, what)
            return self._channel.decode_glances(answers)
        finally:
            self._channel.call_nowait([messages.encode_close(file_id)])

    async def link(self, path: UncPath, new: UncPath) -> None:
        """Makes a hard link to a reparse point within the share. Two round trips. Errors as in remove."""
        info = fscc.encode_link("\\".join(new.below_share))
        await self._change_special(
            path,
            Access.FILE_WRITE_ATTRIBUTES,
            FileInformationClass.FILE_LINK_INFORMATION,
            info,
            f"link of {path} to {new}",
        )

    async def set_basic(self, path: UncPath, info: bytes) -> None:
        """Sets times and attributes of a reparse point, see Tree.set_basic. Two round trips. Errors as in remove."""
        what = f"setting attributes of {path}"
        await self._change_special(
            path, Access.FILE_WRITE_ATTRIBUTES, FileInformationClass.FILE_BASIC_INFORMATION, info, what
        )

    async def _change_special(
        self, path: UncPath, access: Access, info_class: FileInformationClass, info: bytes, what: str
    ) -> None:
        file_id, _ = await self._open_special(path, access, what)
        await self._finish(file_id, [messages.encode_set_info(file_id, info_class, info)], what)

    async def _open_special(self, path: UncPath, access: Access, what: str) -> tuple[bytes, bytes]:
        """Opens a reparse point that is a special file and no DFS link. Returns its handle and its data."""
        opening = self._create_reparse_point(path, access | Access.FILE_READ_ATTRIBUTES)
        opened, got = await self._channel.call(
            [opening, messages.encode_ioctl(CtlCode.FSCTL_GET_REPARSE_POINT, b"", _REPARSE_SIZE)]
        )
        self._channel.check(opened, what)
        file_id = messages.decode_create(opened.message).file_id
        try:
            if got.status == NtStatus.NOT_A_REPARSE_POINT:
                raise SmbError(NtStatus.OBJECT_TYPE_MISMATCH, f"{what}, which is something else now")
            self._channel.check(got, what)
            data = messages.decode_ioctl(got.message, _REPARSE_SIZE)
            _refuse_dfs_link(decode_reparse(data), what)  # malformed data may be one, and is refused
            if tag_of(data) == ReparseTag.IO_REPARSE_TAG_DFS:
                raise SmbError(NtStatus.PATH_NOT_COVERED, what)
            if tag_of(data) not in SPECIAL_TAGS:
                raise SmbError(NtStatus.OBJECT_TYPE_MISMATCH, f"{what}, whose tag is {tag_of(data):#x}")
        except BaseException:
            self._channel.call_nowait([messages.encode_close(file_id)])
            raise
        return file_id, bytes(data)

    def _create_reparse_point(self, path: UncPath, access: Access) -> messages.Request:
        return self._channel.encode_create(
            path, access=access, disposition=CreateDisposition.FILE_OPEN, options=FILE_OPEN_REPARSE_POINT
        )


_NO_EAS = (NtStatus.EAS_NOT_SUPPORTED, NtStatus.NOT_SUPPORTED, NtStatus.INVALID_INFO_CLASS, NtStatus.NOT_IMPLEMENTED)
_UNSUPPORTED = (
    NtStatus.NOT_A_REPARSE_POINT,  # Samba 4.17
    NtStatus.INVALID_DEVICE_REQUEST,
    NtStatus.NOT_SUPPORTED,
    NtStatus.NOT_IMPLEMENTED,
)


def _encode_set_disposition(file_id: bytes, *, delete: bool) -> messages.Request:
    return messages.encode_set_info(
        file_id, FileInformationClass.FILE_DISPOSITION_INFORMATION, fscc.encode_disposition(delete=delete)
    )


def _refuse_dfs_link(special: SpecialFile | None, what: str) -> None:
    """Raises: SmbError: PATH_NOT_COVERED, it is a symbolic link as which Samba stores a DFS link."""
    if special is not None and special.is_dfs_link:
        raise SmbError(NtStatus.PATH_NOT_COVERED, what)


def _has_device_ea(data: messages.Buffer) -> bool:
    return len(data) >= 8 and tag_of(data) in (ReparseTag.IO_REPARSE_TAG_LX_CHR, ReparseTag.IO_REPARSE_TAG_LX_BLK)


def _decode_device_ea(eas: Response) -> tuple[int, int] | None:
    """Major and minor number of a device of the Linux subsystem, if it has them. Raises: ContentError: bad EAs."""
    value = _decode_eas_answer(eas).get(_DEVICE_EA)
    if value is None or len(value) != 8:
        return None
    return int.from_bytes(value[:4], "little"), int.from_bytes(value[4:], "little")


def _decode_eas_answer(answer: Response) -> dict[bytes, bytes]:
    """The EAs in the response to _QUERY_EAS, by names in upper case. Raises: ContentError: they are malformed."""
    if is_failure(answer.status):
        return {}
    return {name.upper(): value for name, value in decode_eas(messages.decode_output(answer.message)).items()}

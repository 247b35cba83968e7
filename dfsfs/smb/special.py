"""SpecialFiles: symbolic links, devices, fifos and sockets on a share. What they look like is in reparse.py.

A server does not open a reparse point that it can't follow, and says so; only then it is opened as what it is, with
FILE_OPEN_REPARSE_POINT. On a namespace's share the same flag opens a DFS link itself (Samba 4.22: as a symbolic link
whose target begins with `msdfs:`), and what is done through such a handle is done to the namespace. So a change goes
through a handle of which it is known by then what it is: `_open_special` asks for the tag and gives the handle up if it
is none of those that dfsfs knows, or a DFS link.
"""

from __future__ import annotations

import stat as posix
from dataclasses import replace
from typing import TYPE_CHECKING

from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus, is_failure
from dfsfs.smb import fscc, wire
from dfsfs.smb.eas import decode_eas
from dfsfs.smb.paths import OPEN_REPARSE_POINT, PathChannel
from dfsfs.smb.reparse import (
    DFS_TARGET,
    MFSYMLINK_SIZE,
    SPECIAL_TAGS,
    Special,
    decode_mfsymlink,
    decode_reparse,
    encode_mfsymlink,
    encode_reparse,
    tag_of,
)
from dfsfs.smb.wire import RELATED_FILE_ID, Access, CreateDisposition, CreateOptions, FileInfoClass, Fsctl, InfoType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.smb.calls import Response
    from dfsfs.smb.fscc import FileStat
    from dfsfs.unc import UncPath

_NOT_FOLLOWED = (NtStatus.STOPPED_ON_SYMLINK, NtStatus.IO_REPARSE_TAG_NOT_HANDLED)
_REPARSE_SIZE = 16 * 1024
"""The largest reparse point in bytes (MS-FSCC 2.1.2)."""
_EAS_SIZE = 4096
_DEVICE_EA = b"$LXDEV"


class SpecialFiles(PathChannel):
    """See the module's text."""

    _lacks_reparse_points = False
    """Whether the server has said that it can't make one here."""

    # -- looking ----------------------------------------------------------------------------------------------------

    async def stat(self, path: UncPath) -> FileStat:
        """What the server knows of a file or folder. One round trip, another one for what turns out to be special.

        Raises:
            SmbError: the server's answer, PATH_NOT_COVERED if the path leads through a DFS link.
            ConnectionLost, SecurityError, WireError: the connection ended.
        """
        responses = await self.call(self._asking(path))
        if responses[0].status in _NOT_FOLLOWED:
            return await self._look_at_reparse_point(path)
        return await self._look_into(path, self._asked(responses, f"stat of {path}"))

    async def look_at(self, path: UncPath, listed: FileStat) -> FileStat:
        """What a listed entry is that may be special. One round trip. Errors as in stat."""
        if listed.reparse_tag in SPECIAL_TAGS:
            return await self._look_at_reparse_point(path)
        return await self._look_into(path, listed)

    async def _look_into(self, path: UncPath, stat: FileStat) -> FileStat:
        """Reads a file that has the size of a symbolic link."""
        if stat.size != MFSYMLINK_SIZE or stat.is_directory:
            return stat
        access = Access.READ_DATA | Access.READ_ATTRIBUTES
        create = self._create(path, access=access, disposition=CreateDisposition.OPEN)
        read = wire.encode_read(RELATED_FILE_ID, 0, MFSYMLINK_SIZE)
        requests = [create, wire.encode_query_all(), read, wire.encode_close(RELATED_FILE_ID)]
        opened, queried, answer, _ = await self.call(requests)
        if is_failure(opened.status) or is_failure(answer.status):
            return stat  # whoever opens it will hear why it can't be read
        special = decode_mfsymlink(wire.decode_read(answer.message, MFSYMLINK_SIZE))
        return replace(self.decode_stat(queried, f"stat of {path}"), special=special)

    async def _look_at_reparse_point(self, path: UncPath) -> FileStat:
        what = f"stat of {path}"
        requests = [
            self._create_reparse_point(path, Access.READ_ATTRIBUTES | Access.READ_EA),
            wire.encode_query_all(),
            wire.encode_ioctl(Fsctl.GET_REPARSE_POINT, b"", _REPARSE_SIZE),
            wire.encode_query_info(RELATED_FILE_ID, InfoType.FILE, FileInfoClass.FULL_EA, _EAS_SIZE),
            wire.encode_close(RELATED_FILE_ID),
        ]
        opened, queried, got, eas, _ = await self.call(requests)
        self.check(opened, what)
        stat = self.decode_stat(queried, what)
        if got.status == NtStatus.NOT_A_REPARSE_POINT:
            return stat
        self.check(got, what)
        data = wire.decode_ioctl(got.message, _REPARSE_SIZE)
        special = decode_reparse(data, _device_of(eas))
        _refuse_dfs_link(special, what)
        return replace(stat, reparse_tag=tag_of(data), special=special)

    # -- making -----------------------------------------------------------------------------------------------------

    async def make_special(self, path: UncPath, special: Special) -> FileStat:
        """Makes a symbolic link, device, fifo or socket; OBJECT_NAME_COLLISION if the name is taken.

        A symbolic link becomes a file with the target in it where the server has no reparse points; for anything else
        that is NOT_SUPPORTED. Three round trips. Errors as in stat.
        """
        if self._lacks_reparse_points:
            return await self.make_mfsymlink(path, special)
        change = wire.encode_ioctl(Fsctl.SET_REPARSE_POINT, encode_reparse(special), 0)
        status = await self._make(path, change)
        if is_failure(status):
            # A server may also refuse this file only: Windows asks for a privilege to make symbolic links.
            self._lacks_reparse_points = status in _UNSUPPORTED
            return await self.make_mfsymlink(path, special)
        return await self.stat(path)

    async def make_mfsymlink(self, path: UncPath, special: Special) -> FileStat:
        """Makes a symbolic link as a file with the target in it. Errors as in make_special."""
        content = encode_mfsymlink(special.target) if special.kind == posix.S_IFLNK else None
        if content is None:
            reason = NtStatus.NAME_TOO_LONG if special.kind == posix.S_IFLNK else NtStatus.NOT_SUPPORTED
            raise SmbError(reason, f"making {path}, for which the server has no form")
        status = await self._make(path, wire.encode_write(RELATED_FILE_ID, 0, content))
        if is_failure(status):
            raise SmbError(status, f"making {path}")
        return await self.stat(path)

    async def _make(self, path: UncPath, then: wire.Request) -> int:
        """Makes an empty file and something of it. The status of the latter; if that failed, there is no file."""
        what = f"making {path}"
        create = self._create(
            path,
            access=Access.WRITE | Access.DELETE,
            disposition=CreateDisposition.CREATE,
            options=CreateOptions.NON_DIRECTORY_FILE | OPEN_REPARSE_POINT,
        )
        made, answer = await self.call([create, then])
        self.check(made, what)
        file_id = wire.decode_create(made.message).file_id
        removal = wire.encode_set_info(file_id, FileInfoClass.DISPOSITION, fscc.encode_disposition())
        changes = [removal] if is_failure(answer.status) else []
        await self._end(file_id, changes, what)
        return answer.status

    async def _end(self, file_id: bytes, changes: Sequence[wire.Request], what: str) -> None:
        """Does something through a handle and closes it, also if nobody waits for that any more."""
        try:
            responses = await self.call([*changes, wire.encode_close(file_id)])
        except BaseException:
            self.post([wire.encode_close(file_id)])
            raise
        for response in responses:
            self.check(response, what)

    # -- changing ---------------------------------------------------------------------------------------------------

    async def remove_special(self, path: UncPath) -> None:
        """Deletes a reparse point. Two round trips. Errors as in stat; OBJECT_TYPE_MISMATCH if it is none."""
        disposition = fscc.encode_disposition()
        await self._change_special(path, Access.DELETE, FileInfoClass.DISPOSITION, disposition, f"unlink of {path}")

    async def rename_special(self, old: UncPath, new: UncPath, *, replace: bool) -> None:
        """Gives a reparse point another name on the same share, as Tree.rename does. Errors as in remove_special.

        Samba 4.22 forgets in a rename that a file is a reparse point, and shows an empty file from then on: there it is
        made one again, through the same handle.
        """
        info, what = fscc.encode_rename("\\".join(new.below_share), replace=replace), f"rename of {old} to {new}"
        file_id, data = await self._open_special(old, Access.DELETE | Access.WRITE_ATTRIBUTES, what)
        renaming = wire.encode_set_info(file_id, FileInfoClass.RENAME, info)
        try:
            renamed, looked = await self.call([renaming, wire.encode_query_all()])
            self.check(renamed, what)
            if not self.decode_stat(looked, what).attributes & fscc.FileAttributes.REPARSE_POINT:
                (repaired,) = await self.call([wire.encode_ioctl(Fsctl.SET_REPARSE_POINT, data, 0, file_id)])
                self.check(repaired, what)
        finally:
            self.post([wire.encode_close(file_id)])

    async def link_special(self, path: UncPath, new: UncPath) -> None:
        """Gives a reparse point one more name on the same share. Errors as in remove_special."""
        info = fscc.encode_link("\\".join(new.below_share))
        await self._change_special(path, Access.WRITE_ATTRIBUTES, FileInfoClass.LINK, info, f"link of {path} to {new}")

    async def set_basic_special(self, path: UncPath, info: bytes) -> None:
        """Sets times and attributes of a reparse point, as Tree.set_basic does. Errors as in remove_special."""
        what = f"setting attributes of {path}"
        await self._change_special(path, Access.WRITE_ATTRIBUTES, FileInfoClass.BASIC, info, what)

    async def _change_special(
        self, path: UncPath, access: Access, info_class: FileInfoClass, info: bytes, what: str
    ) -> None:
        file_id, _ = await self._open_special(path, access, what)
        await self._end(file_id, [wire.encode_set_info(file_id, info_class, info)], what)

    async def _open_special(self, path: UncPath, access: Access, what: str) -> tuple[bytes, bytes]:
        """A handle on what is certainly a reparse point and no DFS link, and its data."""
        opening = self._create_reparse_point(path, access | Access.READ_ATTRIBUTES)
        opened, got = await self.call([opening, wire.encode_ioctl(Fsctl.GET_REPARSE_POINT, b"", _REPARSE_SIZE)])
        self.check(opened, what)
        file_id = wire.decode_create(opened.message).file_id
        try:
            if got.status == NtStatus.NOT_A_REPARSE_POINT:
                raise SmbError(NtStatus.OBJECT_TYPE_MISMATCH, f"{what}, which is something else now")
            self.check(got, what)
            data = wire.decode_ioctl(got.message, _REPARSE_SIZE)
            _refuse_dfs_link(decode_reparse(data), what)
            if tag_of(data) not in SPECIAL_TAGS:
                raise SmbError(NtStatus.OBJECT_TYPE_MISMATCH, f"{what}, whose tag is {tag_of(data):#x}")
        except BaseException:
            self.post([wire.encode_close(file_id)])
            raise
        return file_id, bytes(data)

    def _create_reparse_point(self, path: UncPath, access: Access) -> wire.Request:
        return self._create(path, access=access, disposition=CreateDisposition.OPEN, options=OPEN_REPARSE_POINT)


_UNSUPPORTED = (
    NtStatus.NOT_A_REPARSE_POINT,  # Samba 4.17
    NtStatus.INVALID_DEVICE_REQUEST,
    NtStatus.NOT_SUPPORTED,
    NtStatus.NOT_IMPLEMENTED,
)


def may_be_special(stat: FileStat) -> bool:
    """Whether a listed entry has to be looked at to know what it is."""
    if stat.special is not None:
        return False
    return stat.reparse_tag in SPECIAL_TAGS or (stat.size == MFSYMLINK_SIZE and not stat.is_directory)


def _refuse_dfs_link(special: Special | None, what: str) -> None:
    """Raises: SmbError: PATH_NOT_COVERED, it is how Samba keeps a DFS link."""
    if special is not None and special.target.startswith(DFS_TARGET):
        raise SmbError(NtStatus.PATH_NOT_COVERED, what)


def _device_of(eas: Response) -> tuple[int, int] | None:
    """The numbers of a device of the Linux subsystem, if it has some."""
    if is_failure(eas.status):
        return None
    value = decode_eas(wire.decode_output(eas.message)).get(_DEVICE_EA)
    if value is None or len(value) != 8:
        return None
    return int.from_bytes(value[:4], "little"), int.from_bytes(value[4:], "little")

"""OpenFileTable: the files that programs of a mount have open, by handle number and by inode. It does no I/O and never
waits.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfsfs.caller import current_caller
from dfsfs.errors import PosixError
from dfsfs.smb.wire.constants import Access

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.caller import Caller
    from dfsfs.vfs.data.openfile import OpenFile
    from dfsfs.vfs.names.inodetable import Inode


class OpenFileTable:
    """A file leaves the table in two steps: its handle number when the program closes it, and the file itself when what
    was written through it has been sent. In between `get_files` still has it.
    """

    def __init__(self) -> None:
        self._next_handle = 1
        self._handles: dict[int, OpenFile] = {}
        self._by_inode: dict[Inode, list[OpenFile]] = {}

    @property
    def count(self) -> int:
        """How many handles are open."""
        return len(self._handles)

    @property
    def handle_numbers(self) -> Sequence[int]:
        """The numbers of all handles."""
        return tuple(self._handles)

    @property
    def files(self) -> Sequence[OpenFile]:
        """The files that have a handle number."""
        return tuple(self._handles.values())

    def add(self, file: OpenFile) -> int:
        """Adds a file and returns the number of its handle."""
        self._by_inode.setdefault(file.inode, []).append(file)
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self._handles[handle] = file
        return handle

    def remove_handle(self, handle: int) -> OpenFile | None:
        """Takes a handle number out and returns its file; None if there is no such handle."""
        return self._handles.pop(handle, None)

    def remove_file(self, file: OpenFile) -> None:
        """Takes a file out that has no handle number any more. Does nothing the second time."""
        files = self._by_inode.get(file.inode, [])
        if file in files:
            files.remove(file)
        if not files:
            self._by_inode.pop(file.inode, None)

    def get(self, handle: int) -> OpenFile:
        """The file of a handle. Raises: PosixError: EBADF, there is no such handle."""
        file = self._handles.get(handle)
        if file is None:
            raise PosixError(errno.EBADF, f"there is no open file {handle}")
        return file

    def find(self, handle: int | None) -> OpenFile | None:
        """The file of a handle, None if there is no such handle."""
        return self._handles.get(handle) if handle is not None else None

    def is_open(self, inode: Inode) -> bool:
        """Whether any program has the file open."""
        return inode in self._by_inode

    def get_files(self, inode: Inode) -> Sequence[OpenFile]:
        """What is open of an inode, as it is now: the sequence does not change later."""
        return tuple(self._by_inode.get(inode, ()))

    def get_inodes(self) -> Sequence[Inode]:
        """The inodes that are open."""
        return tuple(self._by_inode)

    # -- by user ----------------------------------------------------------------------------------------------------

    def get_files_of_caller(self, inode: Inode) -> Sequence[OpenFile]:
        """What the caller has open of an inode: access that another user was given is not the caller's."""
        uid = current_caller().uid
        return [file for file in self._by_inode.get(inode, ()) if file.user.uid == uid]

    def find_readable(self, inode: Inode) -> OpenFile | None:
        """A file that the caller has open for reading, if there is one."""
        return next((file for file in self.get_files_of_caller(inode) if file.access & Access.FILE_READ_DATA), None)

    def find_writable(self, inode: Inode) -> OpenFile | None:
        """A file that the caller has open for writing, if there is one."""
        return next((file for file in self.get_files_of_caller(inode) if file.writable), None)

    def find_current(self, inode: Inode) -> OpenFile | None:
        """A file that the caller has open, and its server, too, on the target that the inode leads to; None if there is
        none.
        """
        if inode not in self._by_inode:
            return None
        return next((file for file in self.get_files_of_caller(inode) if file.is_current), None)

    def get_opener(self, inode: Inode) -> Caller | None:
        """A user who has the file open, if there is one."""
        return next((file.user for file in self._by_inode.get(inode, ())), None)

    def has_open(self, uid: int) -> bool:
        """Whether a user has any file open."""
        return any(file.user.uid == uid for file in self._handles.values())

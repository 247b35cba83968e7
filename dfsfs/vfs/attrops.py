"""AttributeOperations: asks for attributes and changes them, of files that may be open here.

Size and times of a file that is open for writing are this mount's own (LocalWrites). A file that the caller has open is
asked through its handle: that takes one request and not three, and is about this file whatever became of its name. What
no server can say more about is shown as it was last.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfsfs.errors import DfsfsError, PosixError
from dfsfs.smb.wire.fscc import encode_basic_information
from dfsfs.unanswered import watch
from dfsfs.vfs.names.handlelimit import is_handle_shortage
from dfsfs.vfs.names.mapping import attributes_for_mode
from dfsfs.vfs.names.ordering import ASKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfsfs.vfs.data.fileops import FileOperations
    from dfsfs.vfs.names.inodetable import Inode
    from dfsfs.vfs.names.lookup import Lookup
    from dfsfs.vfs.names.mapping import AttributeChanges


class AttributeOperations:
    """See the module's text. `is_directory_open` says whether a program has a directory open."""

    def __init__(self, lookup: Lookup, files: FileOperations, is_directory_open: Callable[[Inode], bool]) -> None:
        self._lookup = lookup
        self._files = files
        self._is_directory_open = is_directory_open

    async def refresh(self, inode: Inode) -> Inode:
        """Asks for an inode's attributes if those that are known are too old. The inode whose attributes are to be
        shown: that of the file that a program has opened instead, if there is one.

        Raises:
            DfsfsError: the server's answer.
        """
        if inode.forwarded is not None and self._files.table.is_open(inode.forwarded):
            inode = inode.forwarded
        for _ in range(ASKS):
            if inode.pending_changes:
                await self._files.on_server.wait_opens(inode)
            if self._lookup.attributes.is_fresh(inode) or self._has_no_answer(inode):
                break
            await self._files.dirty.write_back(inode)
            if await self._ask(inode):
                break
            own = inode.local_writes
            if own is not None and own.written and not own.is_size_unsure:
                break  # size and times of what is written here are ours, however often the server's answer is overtaken
        return inode

    async def _ask(self, inode: Inode) -> bool:
        """Asks for attributes, by name or through a handle. Whether no change made here has overtaken the answer."""
        if inode.silly is not None or inode.location is None:
            return self._is_directory_open(inode) or await self._files.attributes.query(inode)
        if (file := self._files.table.find_current(inode)) is not None:
            try:
                return await self._files.attributes.query_through(file)
            except DfsfsError:
                if file in self._files.table.get_files(inode):
                    raise
                # Another program has closed it in the meantime, so the name is asked.
        try:
            return await self._lookup.revalidate(inode)
        except DfsfsError as error:
            if error.errno == errno.ESTALE and self._is_directory_open(inode):
                return True  # a program has it open, and fstat of what is open never fails
            if not (error.errno == errno.ESTALE or is_handle_shortage(error)) or not self._files.table.is_open(inode):
                raise
        # Its name is another file's, or can't be asked for: the file itself is still open here.
        return await self._files.attributes.query(inode)

    def _has_no_answer(self, inode: Inode) -> bool:
        """Whether no server can say more of an inode than is known: a file that was removed here and is not open, or a
        directory without a name that a program has open.
        """
        if inode.stat is None or self._files.table.is_open(inode):
            return False
        return inode.removed or (inode.detached and self._is_directory_open(inode))

    async def change(self, inode: Inode, changes: AttributeChanges, handle: int | None) -> None:
        """Changes attributes. Raises as FileSystem.setattr."""
        sets_basic = changes.sets_times or changes.mode is not None
        if sets_basic and inode.is_link and not self._lookup.attributes.is_bound(inode):
            raise PosixError(errno.EBUSY, f"{inode.name} is a DFS link")
        if changes.size is not None:
            if inode.is_directory:
                raise PosixError(errno.EISDIR, f"{inode.name} is a directory")
            await self._files.attributes.set_size(inode, handle, changes.size)
        if sets_basic:
            await self._set_basic(inode, changes)

    async def _set_basic(self, inode: Inode, changes: AttributeChanges) -> None:
        if changes.mode is not None:
            await self.refresh(inode)
        stat = inode.stat
        attributes = attributes_for_mode(stat, changes.mode) if stat is not None and changes.mode is not None else None
        if attributes is None and not changes.sets_times:
            return
        info = encode_basic_information(None, changes.atime_ns, changes.mtime_ns, None, attributes or 0)
        await self._files.dirty.write_back(inode)
        await self._files.on_server.wait_closes(inode)
        table = self._lookup.table
        begun, alone = table.begin_change(inode), False
        change = self._files.attributes.set_basic if changes.mtime_ns is None else self._files.attributes.set_times
        with watch() as unanswered:
            try:
                now = await change(inode, info)
            finally:
                alone = table.end_change(inode, begun, unanswered=unanswered)
        # A link that is kept as a file looks like any other one here: what it is, only its content says.
        is_plain = stat is not None and stat.special is None
        if now is not None and alone and is_plain and not changes.sets_odd_times:
            self._lookup.attributes.update(inode, now, table.version)

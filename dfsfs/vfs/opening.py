"""Opener: from a name or a node to an open file, with as few requests as will do.

    a handle that was kept when its last program closed the file (kept.py)      nothing is asked
    a small file that was fetched because it was expected (prefetch.py)          nothing is asked
    else a CREATE, under a lease (leases.py), that brings a small file's data along

What comes out belongs to the caller, who has to close it.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfsfs.errors import DfsfsError, PosixError, SmbError
from dfsfs.namespace.junction import Attempt, Covered, TargetBinding
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.constants import Access, CreateDisposition, FileAttributes
from dfsfs.vfs.handles import OpenFile
from dfsfs.vfs.leases import CacheMode
from dfsfs.vfs.openflags import access_of, disposition_of, is_synchronous, only_reads, options_of
from dfsfs.vfs.prefetch import HEAD
from dfsfs.vfs.writebehind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfsfs.smb.file import RemoteFile
    from dfsfs.smb.fscc import FileStat
    from dfsfs.vfs.leases import Leases
    from dfsfs.vfs.nodes import Node
    from dfsfs.vfs.places import Places
    from dfsfs.vfs.prefetch import Prefetch
    from dfsfs.vfs.writebehind import Budget

_KEPT = FileAttributes.FILE_ATTRIBUTE_HIDDEN | FileAttributes.FILE_ATTRIBUTE_SYSTEM
"""Attributes that an overwriting open has to repeat, or else it is refused (MS-FSA 2.1.5.1.2.1)."""


class Opener:
    """See the module's text. `budget` is shared by what all files have to write."""

    def __init__(self, places: Places, leases: Leases, prefetch: Prefetch, budget: Budget) -> None:
        self._places = places
        self._leases = leases
        self._prefetch = prefetch
        self._budget = budget

    async def open(self, node: Node, flags: int) -> OpenFile:
        """Opens a file.

        Raises:
            PosixError: ESTALE, another file has its name.
            DfsfsError: the server's answer.
        """
        reads = only_reads(flags) and self._leases.mode is not CacheMode.NONE
        before = node.stat if node.own is None else None  # of what is written here, the kernel knows as much as we do
        file = (await self._kept(node, flags) if reads else None) or await self._opened(node, flags, reads=reads)
        if reads and self._places.lifetimes.files > 0 and not self._places.proofs.needed:
            self._prefetch.opened(node)  # what it fetches is given to whoever opens it
        stat = file.opened
        if before is not None and _shown(before) != _shown(stat):
            # The kernel would go on to believe the old size for a while, and cut reads there. Or it has the one name
            # that a listing gives a file that has several.
            try:
                await self._leases.kernel.forget_attributes(node.ino)
            except trio.Cancelled:
                self._discard(node, file.remote[0])
                raise
        return file

    async def create(self, parent: Node, name: str, mode: int, flags: int) -> OpenFile:
        """Makes and opens a file, or opens the one that is there unless O_EXCL is given.

        Raises:
            PosixError: EEXIST or EISDIR, the name is a DFS link; EIO, see raise_if_unknown.
            DfsfsError: the server's answer.
        """
        access, disposition = access_of(flags), disposition_of(flags)
        known = self._places.table.child(parent, name)
        attributes = FileAttributes.FILE_ATTRIBUTE_NORMAL if mode & 0o200 else FileAttributes.FILE_ATTRIBUTE_READONLY

        async def operation(attempt: Attempt) -> tuple[RemoteFile, TargetBinding]:
            try:
                remote = await self._leased(
                    attempt,
                    known,
                    access,
                    partial(
                        attempt.tree.open,
                        attempt.path,
                        access=access,
                        disposition=disposition,
                        options=options_of(flags),
                        attributes=attributes,
                    ),
                )
            except DfsfsError as error:
                raise_if_unknown(attempt, error)
                raise
            return remote, attempt.binding

        table, alone = self._places.table, False
        started = table.moment
        begun = table.begin(known) if known is not None else 0
        try:
            with self._places.making(parent, name) as made:
                remote, binding = await self._places.run_in(parent, name, operation)
                made(remote.stat)
        except Covered as link:
            code = errno.EEXIST if flags & os.O_EXCL else errno.EISDIR
            raise PosixError(code, f"{link.prefix} is a DFS link") from None
        finally:
            if known is not None:
                alone = table.end(known, begun)
        node = table.observe(parent, name, remote.stat, remote.tree.volume)
        if node is not known:
            self._leases.adopt(node, remote.lease)
            alone = not node.overtakes(started)
        asked = table.moment if alone else started
        self._places.note(node, remote.stat, asked)
        return self._file_of(node, remote, binding, flags, self._places.clock(), asked)

    async def _kept(self, node: Node, flags: int) -> OpenFile | None:
        """The file with a handle that was kept when a program closed it."""
        location = node.location
        binding = location.junction.binding if location is not None else None
        remote = self._leases.kept.take(node, access_of(flags), binding)
        if remote is None or binding is None:
            return None
        if node.lease is not remote.lease:
            self._leases.adopt(node, remote.lease)  # the kernel had forgotten the file in the meantime
        asked = node.asked
        if node.expires <= self._places.clock() or node.stat is None or node.overtakes(asked):
            asked, seen = self._places.table.moment, node.seen
            try:
                await self._places.accept(node, await remote.query(), remote.tree.volume, asked)
                node.seen = seen  # that was the file, and not its name
            except (DfsfsError, trio.Cancelled) as error:
                self._discard(node, remote)
                if isinstance(error, DfsfsError):
                    return None
                raise
        assert node.stat is not None
        remote.stat = node.stat
        return self._file_of(node, remote, binding, flags, self._places.clock(), asked)

    async def _opened(self, node: Node, flags: int, *, reads: bool) -> OpenFile:
        """The file, opened on the server or fetched from there already. `reads`: data may come along."""
        access, known = access_of(flags), node.stat
        truncate = bool(flags & os.O_TRUNC)

        async def operation(attempt: Attempt) -> tuple[RemoteFile, TargetBinding]:
            remote = await self._leased(
                attempt,
                node,
                access,
                partial(
                    attempt.tree.open,
                    attempt.path,
                    access=access,
                    disposition=CreateDisposition.FILE_OVERWRITE if truncate else CreateDisposition.FILE_OPEN,
                    options=options_of(flags),
                    attributes=known.attributes & _KEPT if truncate and known is not None else 0,
                    read=head,
                ),
            )
            return remote, attempt.binding

        if truncate:
            await self._places.make_sure(node)  # what has the name would be empty before we see which file it is
        reads = reads and self._places.lifetimes.files > 0
        is_small = known is not None and known.size <= HEAD
        head = HEAD if reads and is_small and not self._leases.has_data(node) else 0
        time, table = self._places.clock(), self._places.table
        asked = begun = table.begin(node) if truncate else table.moment
        try:
            fetched = await self._prefetch.take(node) if reads else None
            if fetched is not None:
                remote, binding, time, asked = fetched
            else:
                remote, binding = await self._places.run_by_name(node, operation)
        finally:
            if truncate and table.end(node, begun):
                asked = table.moment
        try:
            await self._places.accept(node, remote.stat, remote.tree.volume, asked)
        except (DfsfsError, trio.Cancelled):
            self._discard(node, remote)
            raise
        if fetched is not None:
            node.expires = min(node.expires, time + self._places.lifetimes.files)
        if remote.lease is not node.lease and remote.lease is not None:
            self._leases.adopt(node, remote.lease)
        file = self._file_of(node, remote, binding, flags, time, asked)
        if truncate:
            remote.is_written = True
            file.changed_data()
        return file

    async def _leased(
        self,
        attempt: Attempt,
        node: Node | None,
        access: Access,
        opening: Callable[..., Awaitable[RemoteFile]],
    ) -> RemoteFile:
        """Opens a file under the lease of its node, if it is still that file.

        A server refuses the key of a lease for another file than the one that it belongs to (MS-SMB2 3.3.5.9.8): then
        the name has become another file's, and it is opened with a key of its own.
        """
        request = self._leases.request(attempt, node, access)
        try:
            return await opening(lease=request)
        except SmbError as error:
            if error.status != NtStatus.INVALID_PARAMETER or request is None or not request.lease.was_granted:
                raise
        return await opening(lease=self._leases.request(attempt, None, access))

    def _file_of(
        self, node: Node, remote: RemoteFile, binding: TargetBinding, flags: int, time: float, asked: int
    ) -> OpenFile:
        return OpenFile(
            node,
            access_of(flags),
            remote,
            binding,
            WriteBehind(self._budget),
            asked=asked,
            appends=bool(flags & os.O_APPEND),
            synchronous=is_synchronous(flags) or self._leases.mode is CacheMode.NONE,
            reads_ahead=not flags & os.O_DIRECT and self._leases.mode is not CacheMode.NONE,
            bypasses=bool(flags & os.O_DIRECT) and self._leases.mode is not CacheMode.NONE,
            head_expires=time + self._places.lifetimes.files,
            ask_lease=self._leases.request,
        )

    def _discard(self, node: Node, remote: RemoteFile) -> None:
        remote.discard()
        self._leases.ended(node, remote.lease)


def _shown(stat: FileStat) -> tuple[int, int, int]:
    """What programs see of a file that an open may find to be something else. A listing counts no names."""
    return stat.size, stat.written, stat.links or 1


def raise_if_unknown(attempt: Attempt, error: DfsfsError) -> None:
    """Makes EIO of the "exists already" that follows a lost request: nobody can know whether that one had made it.

    Raises:
        PosixError: EIO.
    """
    if attempt.repeated and error.errno == errno.EEXIST:
        text = f"{attempt.path} exists, but the connection was lost while it was made: perhaps by this request"
        raise PosixError(errno.EIO, text) from error

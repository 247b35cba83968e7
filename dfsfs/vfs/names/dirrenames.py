"""DirectoryRenames: which folders are being renamed, and what is sent for them and what is in them.

A request names a path. One that is under way while a folder on that path gets another name may find nothing there, and
a server refuses to rename a folder while anything in it is open, be it for the length of a stat. So who renames a
folder holds it: what would be sent for it, or for something in it, waits, and what was sent before is waited for.

No deadlock: who waits to be let in is not counted as running, who is in need not wait again, and who holds a folder
waits for what runs no longer than PATIENCE. What is sent for the rename itself is about a name in the folder above.
"""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterator

    from dfsfs.vfs.names.inode import Inode

PATIENCE = 2.0
"""Seconds that what was sent before may keep a rename waiting: its server may be waiting for somebody else."""


_inside: ContextVar[bool] = ContextVar("inside", default=False)
"""Whether this task is in `running` already: an open, for one, is more than one request."""


class OpenDirectory(Protocol):
    """A directory that is being read, and is open on its server from one answer to the next."""

    inode: Inode

    async def close(self) -> None:
        """Closes it on its server, unless an answer is waited for. Who reads on has it opened again."""
        ...


class DirectoryRenames:
    """See the module's text."""

    def __init__(self) -> None:
        self.directories: set[OpenDirectory] = set()
        """Those that are being read."""
        self._held: dict[Inode, int] = {}
        self._running: dict[Inode, int] = {}
        self._moved = trio.Event()
        """Set, and replaced, whenever something that may be waited for has ended."""

    def is_held(self, inode: Inode) -> bool:
        """Whether the inode or a folder above it is held."""
        return bool(self._held) and is_within(inode, self._held)

    async def free(self, *inodes: Inode) -> None:
        """Returns when none of the inodes is held, and no folder above one."""
        while any(map(self.is_held, inodes)) and not _inside.get():
            await self._moved.wait()

    @contextmanager
    def running(self, inode: Inode) -> Iterator[None]:
        """Around what is sent for an inode, or for something in a folder. Comes after `free`, with nothing in
        between."""
        self._running[inode] = self._running.get(inode, 0) + 1
        token = _inside.set(True)
        try:
            yield
        finally:
            _inside.reset(token)
            self._one_less(self._running, inode)

    @asynccontextmanager
    async def on_its_way(self, *inodes: Inode) -> AsyncIterator[None]:
        """Both: around something that may run when the folders are free."""
        await self.free(*inodes)
        with ExitStack() as stack:
            for inode in inodes:
                stack.enter_context(self.running(inode))
            yield

    @asynccontextmanager
    async def held(self, folder: Inode) -> AsyncIterator[None]:
        """Nothing is sent for the folder and what is in it, and what was sent before is done, or takes too long."""
        self._held[folder] = self._held.get(folder, 0) + 1
        try:
            with trio.move_on_after(PATIENCE):
                while any(is_within(inode, (folder,)) for inode in self._running):
                    await self._moved.wait()
            for directory in list(self.directories):
                if is_within(directory.inode.parent, (folder,)):
                    await directory.close()
            yield
        finally:
            self._one_less(self._held, folder)

    def _one_less(self, counts: dict[Inode, int], inode: Inode) -> None:
        counts[inode] -= 1
        if not counts[inode]:
            del counts[inode]
        if self._held or counts is self._held:
            moved, self._moved = self._moved, trio.Event()
            moved.set()


def is_within(inode: Inode | None, folders: Container[Inode]) -> bool:
    """Whether an inode is one of these folders or below one."""
    while inode is not None:
        if inode in folders:
            return True
        inode = inode.parent
    return False

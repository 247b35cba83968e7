"""DirectoryRenames: keeps requests away from directories that are being renamed, and listings from removed ones.

A request names a path. One that is under way while a directory on that path is renamed may find nothing there, and a
server refuses to rename a directory while anything in it is open, if only for the length of a stat. So a rename holds
its directory: requests for it, and for what is below it, wait, and those that were sent before are waited for.

A removal closes what listings have open of the directory (`removing`). A server that is told to remove a directory that
is open says that it has done so, and waits for the last CLOSE: until then the name is listed and can't be made anew,
and if the server dies in between, the directory is there again for good. No listing opens the directory meanwhile, as
the kernel asks for nothing in a directory that is being removed.

No deadlock: a request that waits for a held directory does not count as running; one that runs does not wait again;
and a rename waits for running requests for PATIENCE seconds at most. The request of the rename itself is about a name
in the directory above.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import trio

from dfsfs.caller import current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from dfsfs.caller import Caller
    from dfsfs.vfs.names.inode import Inode

PATIENCE = 2.0
"""Seconds that a rename waits for requests that were sent before it: their server may itself wait for another client.
"""


_is_inside: ContextVar[bool] = ContextVar("inside", default=False)
"""Whether this task is in `running` already: an operation such as an open sends more than one request."""


class OpenDirectory(Protocol):
    """A directory listing that is open on its server between two answers."""

    inode: Inode
    user: Caller

    async def close(self) -> None:
        """Closes it on its server, unless an answer is awaited. Reading on opens it again."""
        ...


class DirectoryRenames:
    """See the module's text."""

    def __init__(self) -> None:
        self.open_directories: set[OpenDirectory] = set()
        """Listings that are open on their server."""
        self._held: dict[Inode, int] = {}
        self._running: dict[Inode, int] = {}
        self._ended = trio.Event()
        """Set, and replaced, whenever a request or a rename that is waited for has ended."""

    def is_held(self, inode: Inode) -> bool:
        """Whether the inode or a directory above it is held."""
        return bool(self._held) and is_within(inode, self._held)

    async def wait_until_free(self, *inodes: Inode) -> None:
        """Returns when none of the inodes is held, and no directory above one. In a task that is in `running`, at
        once.
        """
        while self._held and any(map(self.is_held, inodes)) and not _is_inside.get():
            await self._ended.wait()

    def running(self, inode: Inode) -> AbstractContextManager[None]:
        """Around a request for an inode, or for a name in a directory. Follows `wait_until_free` without a checkpoint
        in between.
        """
        return _Running(self, (inode,))

    def run_when_free(self, *inodes: Inode) -> AbstractAsyncContextManager[None]:
        """`wait_until_free` and `running` together."""
        return _Running(self, inodes)

    @asynccontextmanager
    async def hold(self, directory: Inode) -> AsyncIterator[None]:
        """While the block runs, requests for the directory and what is below it wait. Those sent before have ended when
        it begins, or take longer than PATIENCE, and listings below it are closed on their server.
        """
        self._held[directory] = self._held.get(directory, 0) + 1
        try:
            with trio.move_on_after(PATIENCE):
                while any(is_within(inode, (directory,)) for inode in self._running):
                    await self._ended.wait()
            await self._close(lambda opened: is_within(opened.inode.parent, (directory,)))
            yield
        finally:
            self._decrement(self._held, directory)

    @asynccontextmanager
    async def removing(self, directory: Inode) -> AsyncIterator[None]:
        """Around the removal of a directory: its listings are closed on their server. Those of other users are so once
        it is removed: nobody's listing has to begin anew because of somebody who may not remove the directory.
        """
        uid = current_caller().uid
        await self._close(lambda opened: opened.user.uid == uid and _are_same(opened.inode, directory))
        yield
        await self._close(lambda opened: _are_same(opened.inode, directory))

    async def _close(self, which: Callable[[OpenDirectory], bool]) -> None:
        for opened in list(self.open_directories):
            if which(opened):
                await opened.close()

    def _decrement(self, counts: dict[Inode, int], inode: Inode) -> None:
        counts[inode] -= 1
        if not counts[inode]:
            del counts[inode]
        if self._held or counts is self._held:
            moved, self._ended = self._ended, trio.Event()
            moved.set()


class _Running:
    """A block around requests for some inodes. No generator, as it is entered for each request."""

    __slots__ = ("_inodes", "_renames", "_token")

    def __init__(self, renames: DirectoryRenames, inodes: tuple[Inode, ...]) -> None:
        self._renames = renames
        self._inodes = inodes

    def __enter__(self) -> None:
        running = self._renames._running
        for inode in self._inodes:
            running[inode] = running.get(inode, 0) + 1
        self._token = _is_inside.set(True)

    def __exit__(self, *exception: object) -> None:
        _is_inside.reset(self._token)
        for inode in self._inodes:
            self._renames._decrement(self._renames._running, inode)

    async def __aenter__(self) -> None:
        await self._renames.wait_until_free(*self._inodes)
        self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__()


def is_within(inode: Inode | None, directories: Container[Inode]) -> bool:
    """Whether an inode is one of the directories or below one."""
    while inode is not None:
        if inode in directories:
            return True
        inode = inode.parent
    return False


def _are_same(inode: Inode, other: Inode) -> bool:
    """Whether two inodes are one directory on the server, which several DFS links may lead to."""
    return inode is other or (bool(inode.file_id) and (inode.share, inode.file_id) == (other.share, other.file_id))

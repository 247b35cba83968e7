"""A file system on a namespace in memory, and the walk of a path in it, for the tests of the vfs."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from dfsfs.errors import DfsfsError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.vfs.filesystem import DOTS, FileSystem
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import NameMapping, Ownership
from tests.support.fakes.memory_namespace import MemoryNamespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from dfsfs.vfs.data.caching import Caching
    from dfsfs.vfs.names.mapping import Attributes

ACTIMEO = 1.0


class RecordingKernel:
    """A kernel that does as it is told."""

    def __init__(self) -> None:
        self.forgotten: list[int] = []
        self.attributes_forgotten: list[int] = []
        self.may_forget = trio.Event()
        """Until it is set, nothing is forgotten."""
        self.may_forget.set()

    async def invalidate(self, ino: int) -> None:
        await self.may_forget.wait()
        self.forgotten.append(ino)

    async def invalidate_attributes(self, ino: int) -> None:
        await trio.lowlevel.checkpoint()
        self.attributes_forgotten.append(ino)


class World:
    """The namespace //dfs/ns, and the share //fs1/data, which its link `link` leads to."""

    def __init__(
        self,
        *components: str,
        follow_links: bool = True,
        caching: Caching | None = None,
        many_users: bool = False,
    ) -> None:
        self.kernel = RecordingKernel()
        self.namespace = MemoryNamespace()
        self.root = self.namespace.add_share("//dfs/ns")
        self.data = self.namespace.add_share("//fs1/data")
        self.root.add_link("link")
        self.namespace.add_link("//dfs/ns/link", "//fs1/data")
        self.fs = FileSystem(
            self.namespace.as_namespace(),
            self.namespace.root("//dfs/ns", *components),
            names=NameMapping(),
            ownership=Ownership(uid=7, gid=8, file_mode=0o644, dir_mode=0o755),
            lifetimes=Lifetimes(ACTIMEO, ACTIMEO),
            clock=trio.current_time,
            follow_links=follow_links,
            caching=caching,
            kernel=self.kernel,
            many_users=many_users,
        )

    async def walk(self, path: str) -> Attributes:
        """Looks a path up as the kernel does, and forgets the folders on the way again."""
        ino, attributes = ROOT, None
        for name in path.split("/"):
            attributes = await self.fs.lookup(ino, name.encode())
            if ino != ROOT:
                self.fs.forget(ino, 1)
            ino = attributes.ino
        assert attributes is not None
        return attributes

    async def ino(self, path: str) -> int:
        return (await self.walk(path)).ino if path else ROOT

    async def listing(self, path: str = "") -> dict[str, Attributes]:
        """Lists a folder, without `.` and `..`, and forgets what it saw."""
        ino = await self.ino(path)
        handle = await self.fs.opendir(ino)
        found = {}
        try:
            async for name, attributes, _ in self.entries_of(handle):
                if name not in DOTS:
                    found[name.decode()] = attributes
                    self.fs.forget(attributes.ino, 1)
        finally:
            await self.fs.releasedir(handle)
            self.fs.forget(ino, 1)
        return found

    async def entries_of(self, handle: int, offset: int = 0) -> AsyncIterator[tuple[bytes, Attributes, int]]:
        """The entries of an open folder from an offset on, asked for as the kernel does until there are no more."""
        begun = -1
        while begun != offset:
            begun = offset
            async for name, attributes, offset in self.fs.readdir(handle, begun):
                yield name, attributes, offset

    def sent(self, *, since: int = 0) -> list[str]:
        """What was sent to both shares: the verbs with their paths."""
        return [f"{verb} {path}" for store in (self.root, self.data) for verb, path in store.calls[since:]]

    def clear(self) -> None:
        self.root.calls.clear()
        self.data.calls.clear()


async def fails(code: int, action: Awaitable[object]) -> None:
    """Awaits what has to fail with an errno."""
    with pytest.raises(DfsfsError) as caught:
        await action
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code], str(caught.value)


def refuse(verb: str, refused: str) -> None:
    """A fault for MemoryStore.before: ACCESS_DENIED for one verb."""
    if verb == refused:
        raise SmbError(NtStatus.ACCESS_DENIED, f"{verb} as the test wants it")

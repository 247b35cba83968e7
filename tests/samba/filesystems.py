"""A file system on a real server, without a kernel: the verbs of dfsfs/vfs/filesystem.py down to the disk."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from dfsfs.namespace.client import Namespace
from dfsfs.smb.connection.settings import TransportSettings
from dfsfs.vfs.filesystem import FileSystem
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import NameMapping, Ownership
from tests.samba.clients import open_pool
from tests.unit.vfs.world import ACTIMEO, RecordingKernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfsfs.unc import UncPath
    from dfsfs.vfs.data.caching import Caching
    from tests.support.lab.samba import Lab


class Mounted:
    """A file system, and what a test does with it by path. `kernel` has recorded what it was told to forget."""

    def __init__(self, fs: FileSystem, kernel: RecordingKernel) -> None:
        self.fs = fs
        self.kernel = kernel
        self.handles: list[int] = []

    async def ino(self, path: str) -> int:
        """Looks a path up."""
        ino = ROOT
        for name in filter(None, path.split("/")):
            ino = (await self.fs.lookup(ino, name.encode())).ino
        return ino

    async def open(self, path: str, flags: int = os.O_RDWR) -> int:
        """Opens a file, which is made if `flags` has O_CREAT. It is closed with the file system."""
        folder, _, name = path.rpartition("/")
        if flags & os.O_CREAT:
            opened, _ = await self.fs.create(await self.ino(folder), name.encode(), 0o644, flags)
        else:
            opened = await self.fs.open(await self.ino(path), flags)
        self.handles.append(opened.handle)
        return opened.handle

    async def close(self, handle: int) -> None:
        """As the kernel does it."""
        self.handles.remove(handle)
        await self.fs.flush(handle)
        await self.fs.release(handle)


@asynccontextmanager
async def filesystem(
    lab: Lab, unc: UncPath, settings: TransportSettings | None = None, caching: Caching | None = None
) -> AsyncIterator[Mounted]:
    """The file system on a namespace or share."""
    async with open_pool(lab, settings or TransportSettings()) as pool:
        namespace = Namespace(pool)
        kernel = RecordingKernel()
        fs = FileSystem(
            namespace,
            await namespace.mount_root(unc),
            names=NameMapping(),
            ownership=Ownership(),
            lifetimes=Lifetimes(ACTIMEO, ACTIMEO),
            clock=trio.current_time,
            caching=caching,
            kernel=kernel,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fs.serve)
            mounted = Mounted(fs, kernel)
            try:
                yield mounted
                for handle in tuple(mounted.handles):
                    await mounted.close(handle)
            finally:
                with trio.CancelScope(shield=True):
                    await fs.close()
            nursery.cancel_scope.cancel()

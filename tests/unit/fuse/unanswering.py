"""A real mount that answers nothing about its root: `python -m tests.unit.fuse.unanswering MOUNTPOINT`.

Says `ready` on standard output when the mount is there, and `asked` when somebody looks at the mount point.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import trio

from dfsfs.fuse.device.mounting import MountSpec
from dfsfs.fuse.operations import DfsOperations
from dfsfs.fuse.session import FuseKernelCache, ServeSettings, serve

if TYPE_CHECKING:
    from pyfuse3 import EntryAttributes, RequestContext


class Unanswering(DfsOperations):
    """See the module's text."""

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        print("asked", flush=True)
        await trio.sleep_forever()
        raise AssertionError


async def main(mountpoint: str) -> None:
    nothing: Any = None
    spec = MountSpec(mountpoint, "test", "test", frozenset())
    operations = Unanswering(nothing, deadline=60)
    await serve(operations, ServeSettings(spec), FuseKernelCache(), lambda: print("ready", flush=True))


if __name__ == "__main__":
    trio.run(main, sys.argv[1])

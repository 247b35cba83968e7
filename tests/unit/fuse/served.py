"""A real mount of a namespace in memory, as a program: `python -m tests.unit.fuse.served MOUNTPOINT`.

Says `ready` on standard output when the mount answers, and what is left in the node table after the end.

The namespace: a folder `plain`, a link `link` to a share that is there, a link `dead` to one that is down. A file named
`stuck` can't be read within the deadline, and `broken` raises an exception that nobody expects.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import trio

from dfsfs.fuse.kernel import serve
from dfsfs.fuse.operations import DfsOperations
from dfsfs.unc import UncPath
from dfsfs.vfs.filesystem import FileSystem
from dfsfs.vfs.mapping import NameMapping, Ownership
from dfsfs.vfs.places import Lifetimes
from tests.fakes.memory_namespace import MemoryNamespace
from tests.fakes.memory_tree import open_files

if TYPE_CHECKING:
    from dfsfs.smb.wire import Buffer

DEADLINE = 1.0


class Faulty(FileSystem):
    """Two files on which a handler misbehaves."""

    async def read(self, handle: int, offset: int, size: int) -> Buffer:
        data = await super().read(handle, offset, size)
        if bytes(data[:5]) == b"stuck":
            await trio.sleep_forever()
        if bytes(data[:6]) == b"broken":
            raise LookupError("as the test wants it")
        return data


def populate(namespace: MemoryNamespace) -> None:
    root = namespace.add_share("//dfs/ns")
    data = namespace.add_share("//fs1/data")
    root.add_folder("plain")
    root.add_file("stuck", b"stuck")
    root.add_file("broken", b"broken")
    for name, target in (("link", "//fs1/data"), ("dead", "//fs9/data")):
        root.add_link(name)
        namespace.add_link(f"//dfs/ns/{name}", target)
    namespace.down.add(UncPath.parse("//fs9/data"))
    data.add_file("inside.txt", b"inside\n")


async def main(mountpoint: str) -> None:
    namespace = MemoryNamespace()
    populate(namespace)
    filesystem = Faulty(
        namespace.as_namespace(),
        namespace.root("//dfs/ns"),
        names=NameMapping(),
        ownership=Ownership(file_mode=0o644),
        lifetimes=Lifetimes(0.2, 0.2),
        clock=trio.current_time,
    )
    operations = DfsOperations(filesystem, deadline=DEADLINE)
    options = {"fsname=//dfs/ns", "subtype=dfsfs", "default_permissions", "allow_other"}
    await serve(operations, mountpoint, options, lambda: print("ready", flush=True))
    await filesystem.close()
    filesystem.check_invariants()
    left = [node.name for store in namespace.stores.values() for node in open_files(store)]
    print("left open:", left, filesystem.statistics().open_files, filesystem.statistics().open_directories)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    trio.run(main, sys.argv[1])

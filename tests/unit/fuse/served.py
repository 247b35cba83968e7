"""A real mount of a namespace in memory, as a program: `python -m tests.unit.fuse.served MOUNTPOINT LOOP`.

Says `ready` on standard output when the mount answers, and what is left in the inode table after the end.

The namespace: a folder `plain`, a link `link` to a share that is there, a link `dead` to one that is down. A file named
`stuck` can't be read within the deadline, and `broken` raises an exception that nobody expects. The folder `vanishing`
can be opened, and is gone when it is listed. The first lookup of a name that begins with NAME, as those in the folder
`gated` do but for their case, says `looked up`, and waits for a line on standard input.

Once the mount is ready, whatever the loop's thread opens by a name is an error in the log, but for modules of Python.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING

import trio

from dfsfs.cli.logs import log_to_stderr
from dfsfs.errors import SmbError
from dfsfs.fuse.device.mounting import MountSpec
from dfsfs.fuse.operations import DfsOperations
from dfsfs.fuse.session import FuseKernelCache, ServeSettings, serve
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import UncPath
from dfsfs.vfs.filesystem import FileSystem
from dfsfs.vfs.names.attrcache import Lifetimes
from dfsfs.vfs.names.mapping import NameMapping, Ownership
from tests.support.fakes.memory_namespace import MemoryNamespace
from tests.support.fakes.memory_tree import open_files

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Any

    from dfsfs.smb.wire.messages import Buffer
    from dfsfs.vfs.names.mapping import Attributes

DEADLINE = 1.0
NOBODYS = re.compile(r"/etc/machine-id|/proc/\d+/stat|<.*>")
"""What the names of hidden files are made of: the kernel's and the computer's, and no caller's. And what stands for a
file that there is none of in a traceback: Python 3.13 looks for it."""
log = logging.getLogger("served")


class Faulty(FileSystem):
    """Two files on which a handler misbehaves, a folder whose server does, and names that are looked up slowly."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._passed: set[bytes] = set()

    async def lookup(self, parent: int, name: bytes) -> Attributes:
        found = await super().lookup(parent, name)
        if name.startswith(b"NAME") and name not in self._passed:
            self._passed.add(name)
            print("looked up", flush=True)
            await trio.lowlevel.wait_readable(sys.stdin)
            os.read(sys.stdin.fileno(), 100)
        return found

    async def read(self, handle: int, offset: int, size: int) -> Buffer:
        data = await super().read(handle, offset, size)
        if bytes(data[:5]) == b"stuck":
            await trio.sleep_forever()
        if bytes(data[:6]) == b"broken":
            raise LookupError("as the test wants it")
        return data

    async def readdir(self, handle: int, offset: int) -> AsyncGenerator[tuple[bytes, Attributes, int], None]:
        async with aclosing(super().readdir(handle, offset)) as entries:
            async for entry in entries:
                if entry[0] == b"in-vanishing":
                    raise SmbError(NtStatus.OBJECT_PATH_NOT_FOUND, "listing of vanishing")
                yield entry


def populate(namespace: MemoryNamespace) -> None:
    root = namespace.add_share("//dfs/ns")
    data = namespace.add_share("//fs1/data")
    root.add_folder("plain")
    root.add_folder("vanishing")
    root.add_file("vanishing/in-vanishing", b"")
    root.add_file("stuck", b"stuck")
    root.add_file("broken", b"broken")
    for name, target in (("link", "//fs1/data"), ("dead", "//fs9/data")):
        root.add_link(name)
        namespace.add_link(f"//dfs/ns/{name}", target)
    namespace.down.add(UncPath.parse("//fs9/data"))
    data.add_file("inside.txt", b"inside\n")
    root.add_folder("gated")
    for number in range(4):
        root.add_file(f"gated/name{number}", b"gated")


def ready() -> None:
    loop = threading.get_ident()

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or threading.get_ident() != loop or not isinstance(arguments[0], (str, bytes)):
            return
        path = os.fsdecode(arguments[0])
        if not path.endswith((".py", ".pyc", ".so")) and not NOBODYS.fullmatch(path):
            log.error("opened in the loop: %s", path)

    sys.addaudithook(look)
    print("ready", flush=True)


async def main(mountpoint: str, loop: str) -> None:
    namespace = MemoryNamespace()
    populate(namespace)
    filesystem = Faulty(
        namespace.as_namespace(),
        namespace.root("//dfs/ns"),
        names=NameMapping(),
        ownership=Ownership(file_mode=0o644, dir_mode=0o777),
        lifetimes=Lifetimes(0.2, 0.2),
        clock=trio.current_time,
    )
    operations = DfsOperations(filesystem, deadline=DEADLINE)
    spec = MountSpec(mountpoint, "//dfs/ns", "dfsfs", frozenset({"default_permissions", "allow_other"}))
    await serve(operations, ServeSettings(spec, uses_pyfuse3=loop == "pyfuse3"), FuseKernelCache(), ready)
    await filesystem.close()
    filesystem.check_invariants()
    left = [inode.name for store in namespace.stores.values() for inode in open_files(store)]
    print("left open:", left, filesystem.statistics().open_files, filesystem.statistics().open_directories)


if __name__ == "__main__":
    log_to_stderr(level=logging.INFO)
    trio.run(main, sys.argv[1], sys.argv[2])

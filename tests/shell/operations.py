"""The operations that meet, each as system calls on the modelled kernel and as steps of the POSIX model."""

from __future__ import annotations

import errno
import os
import stat as posix
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dfsfs.vfs.data.ranges import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
from tests.shell.model import File
from tests.shell.steps import (
    allocate_steps,
    close_steps,
    copy_steps,
    fstat_steps,
    hole_steps,
    link_steps,
    list_steps,
    make_steps,
    nothing_steps,
    open_steps,
    read_steps,
    rename_steps,
    stat_steps,
    truncate_steps,
    unlink_steps,
    write_steps,
    zero_steps,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from tests.shell.model import Model
    from tests.shell.scene import Scene

    Steps = Generator[None, None, Any]

MTIME = 1_500_000_000 * 10**9
"""What utime sets."""


@dataclass(frozen=True)
class Operation:
    """`needs` are descriptors that are open before it begins: see scene.OPEN. `touches` are the files and folders that
    it has to do with, so that operations with nothing in common need not meet. `grows`: it makes no file smaller.
    """

    name: str
    real: Callable[[Scene], Awaitable[Any]]
    model: Callable[[Model], Steps]
    needs: tuple[str, ...] = ()
    touches: frozenset[str] = frozenset({"f", "/"})
    grows: bool = True
    writes: bool = False
    """Whether the time of a file's last write moves."""
    elsewhere: bool = False
    """Whether another client does it."""
    forgets: bool = False
    """Whether the mount may know afterwards what a listing tells, which counts no names of files."""


# -- the table --------------------------------------------------------------------------------------------------------


def _on_stat(path: str) -> Callable[[Scene], Awaitable[Any]]:
    async def real(scene: Scene) -> Any:
        return scene.seen(await scene.kernel.stat(path))

    return real


def _on_open(path: str, flags: int, fd: str) -> Callable[[Scene], Awaitable[Any]]:
    async def real(scene: Scene) -> Any:
        scene.fds[fd] = await scene.kernel.open(path, flags)
        return "opened"

    return real


def stat_of(path: str, name: str = "") -> Operation:
    return Operation(f"stat {path}", _on_stat(path), stat_steps(path), touches=frozenset({path, "/"}))


def opening(what: str, path: str, flags: int, *, grows: bool = True, writes: bool = False) -> Operation:
    fd = f"new {what}"
    return Operation(
        f"open {path} {what}",
        _on_open(path, flags, fd),
        open_steps(path, flags, fd),
        touches=frozenset({path, "/"}),
        grows=grows,
        writes=writes,
    )


def writing(fd: str, data: bytes, offset: int | None) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.write(scene.fds[fd], data, offset)

    where = "append" if offset is None else f"write at {offset}"
    return Operation(f"{where} by {fd}", real, write_steps(fd, data, offset), needs=(fd,), writes=True)


def reading(fd: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.read(scene.fds[fd], 0, 4096)

    return Operation(f"read by {fd}", real, read_steps(fd), needs=(fd,))


def cutting(size: int, *, fd: str = "", path: str = "") -> Operation:
    async def real(scene: Scene) -> Any:
        if fd:
            return await scene.kernel.ftruncate(scene.fds[fd], size)
        return await scene.kernel.truncate(path, size)

    steps = truncate_steps(size, fd=fd, path=path)
    needs = (fd,) if fd else ()
    return Operation(f"truncate {fd or path} to {size}", real, steps, needs=needs, grows=size > 4, writes=True)


def punching(fd: str, offset: int, length: int) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.fallocate(scene.fds[fd], PUNCH, offset, length)

    return Operation(f"punch by {fd}", real, zero_steps(fd, offset, length), needs=(fd,), writes=True)


def allocating(fd: str, size: int) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.fallocate(scene.fds[fd], 0, 1, size - 1)

    return Operation(f"allocate {size} by {fd}", real, allocate_steps(fd, size), needs=(fd,), writes=True)


def copying(fd_in: str, fd_out: str, offset: int) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.copy_file_range(scene.fds[fd_in], 0, scene.fds[fd_out], offset, 4)

    return Operation(
        f"copy from {fd_in} to {fd_out}",
        real,
        copy_steps(fd_in, fd_out, offset, 4),
        needs=(fd_in, fd_out),
        touches=frozenset({"f", "v", "/"}),
        writes=True,
    )


def seeking(fd: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.lseek(scene.fds[fd], 0, os.SEEK_HOLE)

    return Operation(f"seek hole by {fd}", real, hole_steps(fd), needs=(fd,))


def syncing(fd: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.fsync(scene.fds[fd])

    return Operation(f"fsync by {fd}", real, nothing_steps(), needs=(fd,))


def closing(fd: str) -> Operation:
    async def real(scene: Scene) -> Any:
        if fd not in scene.fds:
            raise OSError(errno.EBADF, fd)
        return await scene.kernel.close(scene.fds.pop(fd))

    return Operation(f"close {fd}", real, close_steps(fd), needs=(fd,))


def looking(fd: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return scene.seen(await scene.kernel.fstat(scene.fds[fd]))

    return Operation(f"fstat {fd}", real, fstat_steps(fd), needs=(fd,))


def renaming(old: str, new: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.rename(old, new)

    touches = frozenset({"/", old, new})
    return Operation(f"rename {old} to {new}", real, rename_steps(old, new), touches=touches)


def removing(path: str, *, folder: bool = False) -> Operation:
    async def real(scene: Scene) -> Any:
        return await (scene.kernel.rmdir if folder else scene.kernel.unlink)(path)

    word = "rmdir" if folder else "unlink"
    return Operation(f"{word} {path}", real, unlink_steps(path, folder=folder), touches=frozenset({"/", path}))


def making_folder(path: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.mkdir(path)

    steps = make_steps(path, lambda: File(posix.S_IFDIR, entries={}, links=2))
    return Operation(f"mkdir {path}", real, steps, touches=frozenset({"/", path}))


def making_symlink(path: str, target: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.symlink(target, path)

    steps = make_steps(path, lambda: File(posix.S_IFLNK, target.encode()))
    return Operation(f"symlink {path}", real, steps, touches=frozenset({"/", path}))


def linking(path: str, new: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.link(path, new)

    return Operation(f"link {path} to {new}", real, link_steps(path, new), touches=frozenset({"/", path, new}))


def setting_time(path: str) -> Operation:
    async def real(scene: Scene) -> Any:
        return await scene.kernel.utime(path, MTIME)

    return Operation(f"utime {path}", real, nothing_steps(path), touches=frozenset({path}))


def listing(path: str = "") -> Operation:
    async def real(scene: Scene) -> Any:
        found = await scene.kernel.listdir(path)
        return {name: scene.number_of(ino) for name, ino in found.items()}

    return Operation(f"list {path or '/'}", real, list_steps(path), touches=frozenset({"/", "f", "v", "d"}))


def forgetting() -> Operation:
    async def real(scene: Scene) -> Any:
        await scene.kernel.drop_caches()

    return Operation("drop caches", real, nothing_steps(), forgets=True)


def reading_neighbours() -> Operation:
    """Opens the files before `f` in the folder's listing, so that `f` is fetched before anybody asks."""

    async def real(scene: Scene) -> Any:
        for name in ("a", "b"):
            fd = await scene.kernel.open(name, os.O_RDONLY)
            await scene.kernel.close(fd)

    return Operation("prefetch f", real, nothing_steps())


def listing_slowly() -> Operation:
    """Reads the folder in pieces; what is in it changes between two of them."""

    async def real(scene: Scene) -> Any:
        await scene.kernel.listdir("", between=lambda: scene.pause("READDIR goes on"))

    return Operation("list / in pieces", real, nothing_steps(), touches=frozenset({"/", "f", "v", "d"}))


PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
R, W, A, B, H = "r:f", "w:f", "a:f", "b:f", "w:g"

OPERATIONS: tuple[Operation, ...] = (
    opening("new", "n", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    opening("or make", "n", os.O_CREAT | os.O_RDWR),
    opening("to read", "f", os.O_RDONLY),
    opening("to write", "f", os.O_WRONLY),
    opening("to append", "f", os.O_WRONLY | os.O_APPEND),
    opening("over", "f", os.O_WRONLY | os.O_TRUNC, grows=False, writes=True),
    opening("to read, other name", "g", os.O_RDONLY),
    writing(W, b"WW", 0),
    writing(W, b"WWW", 5),
    writing(H, b"hh", 1),
    writing(A, b"+1", None),
    writing(B, b"+2", None),
    cutting(2, fd=W),
    cutting(9, fd=W),
    cutting(1, path="f"),
    punching(W, 1, 2),
    allocating(W, 9),
    copying("r:v", W, 2),
    seeking(W),
    syncing(W),
    closing(W),
    closing(A),
    closing(R),
    renaming("f", "n"),
    renaming("v", "f"),
    renaming("f", "v"),
    renaming("f", "d/n"),
    renaming("d/x", "f"),
    removing("f"),
    removing("g"),
    removing("v"),
    making_folder("n"),
    removing("e", folder=True),
    linking("f", "n"),
    making_symlink("n", "f"),
    setting_time("f"),
    stat_of("f"),
    stat_of("g"),
    stat_of("n"),
    looking(R),
    looking(W),
    listing(),
    listing_slowly(),
    reading(R),
    reading_neighbours(),
    forgetting(),
)
BY_NAME = {operation.name: operation for operation in OPERATIONS}

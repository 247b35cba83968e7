"""The answer to a close is on its way while another client writes, and a program opens the file again.

With its last handle a lease has ended, so no break tells of that write: only the answer to the open knows of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dfsfs.unc import UncPath
from dfsfs.vfs.data.caching import Caching
from dfsfs.vfs.names.mapping import AttributeChanges
from tests.support.fakes.memory_tree import MemoryFile, MemoryTree
from tests.unit.vfs.world import ACTIMEO, World

if TYPE_CHECKING:
    from collections.abc import Callable

SHARE = UncPath.parse("//fs1/data")
OURS, THEIRS = b"nine byte", b"what another client has written"


class Held:
    """Holds back the answers of one verb, from `hold` on until `let_go`."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, verb: str) -> None:
        self._free = trio.Event()
        self._free.set()
        ask: Callable[..., Any] = getattr(owner, verb)

        async def asked(*args: Any, **kwargs: Any) -> Any:
            answer = await ask(*args, **kwargs)
            await self._free.wait()
            return answer

        patch.setattr(owner, verb, asked)

    def hold(self) -> None:
        self._free = trio.Event()

    def let_go(self) -> None:
        self._free.set()


@pytest.mark.parametrize("first", ["close", "open"])
@pytest.mark.parametrize("leases", [True, False])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT])
async def test_an_open_knows_what_another_client_wrote_since_the_close_of_ours(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, first: str, flags: int, leases: bool
) -> None:
    world, ino, handle = await open_again(monkeypatch, first, flags, leases=leases)
    assert (await world.fs.getattr(ino)).size == len(THEIRS)
    if not flags & os.O_CREAT:  # the kernel has attributes with the answer to that
        assert ino in world.kernel.attributes_forgotten, "it believes in the old size, and ends reads there"
    assert bytes(await world.fs.read(handle, 0, 100)) == THEIRS
    await world.fs.release(handle)
    again = (await world.fs.open(ino, os.O_RDONLY)).handle
    assert (await world.fs.getattr(ino)).size == len(THEIRS)
    await world.fs.release(again)


@pytest.mark.parametrize("first", ["close", "open"])
@pytest.mark.parametrize("leases", [True, False])
async def test_what_is_appended_goes_behind_what_another_client_wrote(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, first: str, leases: bool
) -> None:
    world, _, handle = await open_again(monkeypatch, first, os.O_WRONLY | os.O_APPEND, leases=leases)
    await world.fs.write(handle, len(OURS), b"+")  # the kernel believes that it ends there
    await world.fs.flush(handle)
    assert world.data.at(SHARE.join(["file"]), "the test").data == THEIRS + b"+"
    await world.fs.release(handle)


async def open_again(
    monkeypatch: pytest.MonkeyPatch, first: str, flags: int, *, leases: bool
) -> tuple[World, int, int]:
    """A file that was opened, with `flags`, before the answer to the close of another handle was here: the world, the
    inode's number and the handle. `first`: which of the two is answered first.
    """
    closing, opening = Held(monkeypatch, MemoryFile, "close"), Held(monkeypatch, MemoryTree, "open")
    world = World(caching=Caching())
    world.data.gives_leases = leases
    file = world.data.add_file("file", b"one")
    ino, folder = await world.ino("link/file"), await world.ino("link")
    opened: list[int] = []

    async def reopen() -> None:
        if flags & os.O_CREAT:
            result, _ = await world.fs.create(folder, b"file", 0o644, flags)
        else:
            result = await world.fs.open(ino, flags)
        opened.append(result.handle)

    ours = (await world.fs.open(ino, os.O_RDWR)).handle
    await world.fs.write(ours, 0, OURS)
    await world.fs.flush(ours)
    assert (await world.fs.getattr(ino)).size == len(OURS)
    world.kernel.attributes_forgotten.clear()
    async with trio.open_nursery() as nursery:
        closing.hold()
        opening.hold()
        nursery.start_soon(world.fs.release, ours)
        await wait_all_tasks_blocked()
        assert (file.opens, opened) == (0, [])
        file.data[:], file.written = THEIRS, world.data.tick()
        nursery.start_soon(reopen)
        await wait_all_tasks_blocked()
        assert (file.opens, opened) == (1, [])
        for held in (closing, opening) if first == "close" else (opening, closing):
            held.let_go()
            await wait_all_tasks_blocked()
    return world, ino, opened[0]


async def test_an_open_has_the_kernel_forget_the_size_that_it_was_told_last(autojump_clock: object) -> None:
    """It takes in the answer to a SETATTR or CREATE after it was told to forget the file, whichever was sent first."""
    world = World(caching=Caching())
    world.data.gives_leases = True
    file = world.data.add_file("file", b"one")
    ino = await world.ino("link/file")
    await world.fs.setattr(ino, AttributeChanges(size=len(OURS)))
    file.data[:], file.written = THEIRS, world.data.tick()
    inode = world.fs._lookup.get_inode(ino)
    await trio.sleep(2 * ACTIMEO)
    await world.fs._lookup.revalidate(inode)  # for a listing, say: its answer is not the kernel's
    opened = (await world.fs.open(ino, os.O_RDONLY)).handle
    assert world.kernel.attributes_forgotten == [ino]
    await world.fs.release(opened)


@pytest.mark.parametrize("silent", ["one", "two"])
async def test_the_end_of_a_mount_writes_also_while_another_server_is_silent(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    """What programs have written is sent for as long as the end may take, from each file, whichever comes first."""
    world = World(caching=Caching())
    handles = {}
    for name in ("one", "two"):
        world.data.add_file(name, b"old")
        handles[name] = (await world.fs.open(await world.ino(f"link/{name}"), os.O_WRONLY)).handle
        await world.fs.write(handles[name], 0, b"new")
    write = MemoryFile.write

    async def answer(file: MemoryFile, offset: int, data: bytes) -> None:
        if file.path.components[-1] == silent:
            await trio.sleep_forever()
        await write(file, offset, data)

    monkeypatch.setattr(MemoryFile, "write", answer)
    with trio.move_on_after(5.0) as ending:
        await world.fs.close()
    assert ending.cancelled_caught
    for name in handles:
        assert bytes(world.data.at(SHARE.join([name]), "the test").data) == (b"old" if name == silent else b"new")
        assert world.data.at(SHARE.join([name]), "the test").opens == 0

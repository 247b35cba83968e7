"""How much room a file takes (st_blocks) while it is open for writing here, before its server has said it."""

from __future__ import annotations

import os

import pytest

from dfsfs.vfs.names.inodetable import ROOT
from dfsfs.vfs.names.mapping import AttributeChanges
from tests.unit.vfs.world import World

KIB = 1024
BLOCK = 512
"""The unit of st_blocks, in bytes."""


async def made(world: World, size: int) -> tuple[int, int]:
    """A file of `size` bytes that the server knows of, open for writing: its number and the handle."""
    world.root.add_file("f", bytes(size))
    ino = await world.ino("f")
    return ino, (await world.fs.open(ino, os.O_RDWR)).handle


async def room(world: World, ino: int) -> int:
    """Bytes that a file takes, as programs see it."""
    return (await world.fs.getattr(ino)).blocks * BLOCK


@pytest.mark.parametrize(("size", "left"), [(8 * KIB, 8 * KIB), (5 * KIB, 8 * KIB), (1, 4 * KIB), (0, 0)])
async def test_what_was_cut_off_takes_no_room(size: int, left: int, autojump_clock: object) -> None:
    world = World()
    ino, handle = await made(world, 40 * KIB)
    assert await room(world, ino) == 40 * KIB
    assert (await world.fs.setattr(ino, AttributeChanges(size=size), handle)).blocks * BLOCK == left
    assert await room(world, ino) == left


async def test_after_the_close_too(autojump_clock: object) -> None:
    """generic/701 of xfstests: truncate(1) and then stat(1)."""
    world = World()
    ino, handle = await made(world, 40 * KIB)
    await world.fs.setattr(ino, AttributeChanges(size=8 * KIB), handle)
    await world.fs.flush(handle)
    assert await room(world, ino) == 8 * KIB
    await world.fs.release(handle)
    assert await room(world, ino) == 8 * KIB


async def test_what_was_written_here_is_cut_off_as_well(autojump_clock: object) -> None:
    world = World()
    opened, shown = await world.fs.create(ROOT, b"f", 0o644, os.O_RDWR)
    await world.fs.write(opened.handle, 0, bytes(40 * KIB))
    await world.fs.setattr(shown.ino, AttributeChanges(size=8 * KIB), opened.handle)
    assert await room(world, shown.ino) == 8 * KIB
    await world.fs.write(opened.handle, 8 * KIB, bytes(4 * KIB))
    assert await room(world, shown.ino) == 12 * KIB


async def test_a_hole_takes_no_room(autojump_clock: object) -> None:
    world = World()
    ino, handle = await made(world, 8 * KIB)
    await world.fs.setattr(ino, AttributeChanges(size=800 * KIB), handle)
    assert await room(world, ino) == 8 * KIB


async def test_what_was_cut_off_does_not_come_back_as_a_hole(autojump_clock: object) -> None:
    world = World()
    ino, handle = await made(world, 8 * KIB)
    await world.fs.write(handle, 0, bytes(40 * KIB))
    for size in (0, 800 * KIB):
        await world.fs.setattr(ino, AttributeChanges(size=size), handle)
    assert await room(world, ino) == 0

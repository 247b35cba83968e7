"""What is done with leaves nothing that only the garbage collector would find: that comes late, and where there is much
to look at very late. Meanwhile one small object may keep a buffer of 64 KiB.
"""

from __future__ import annotations

import ast
import gc
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import dfsfs
from dfsfs.errors import ConnectionLost, PosixError, SmbError
from dfsfs.ntstatus import NtStatus
from dfsfs.smb.connection.calls import Route
from dfsfs.smb.wire.constants import Command
from dfsfs.smb.wire.messages import encode_plain
from dfsfs.vfs.names.inodetable import ROOT
from tests.shell.scene import Scene
from tests.support.fakes.server.client import PlainSession
from tests.unit.smb.test_server_memory import protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROUNDS = 20
PACKAGE = Path(dfsfs.__file__).parent


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def _listed(scene: Scene) -> None:
    await scene.kernel.listdir("")


async def _read(scene: Scene) -> None:
    await trio.sleep(5)  # nothing is known any more, no handle is kept
    await _opened(scene, "f", os.O_RDONLY)
    await trio.sleep(5)


async def _opened(scene: Scene, path: str, flags: int) -> None:
    ino = (await scene.kernel.stat(path)).ino
    result = await scene.fs.open(ino, flags)
    await scene.fs.read(result.handle, 0, 100)
    await scene.fs.release(result.handle)


async def _written(scene: Scene) -> None:
    ino = (await scene.kernel.stat("f")).ino
    result = await scene.fs.open(ino, os.O_RDWR)
    await scene.fs.write(result.handle, 0, b"data")
    await scene.fs.flush(result.handle)
    await scene.fs.release(result.handle)
    await trio.sleep(5)


async def _missed(scene: Scene) -> None:
    with suppress(PosixError, SmbError):
        await scene.fs.lookup(ROOT, b"nothing")
    await trio.sleep(5)


async def _made_and_removed(scene: Scene) -> None:
    result, made = await scene.fs.create(ROOT, b"new", 0o644, os.O_RDWR)
    await scene.fs.write(result.handle, 0, bytes(100_000))
    await scene.fs.rename(ROOT, b"new", ROOT, b"newer", 0)
    await scene.fs.unlink(ROOT, b"newer")
    await scene.fs.release(result.handle)
    scene.fs.forget(made.ino, 1)
    await scene.fs.mkdir(ROOT, b"folder")
    await scene.fs.rmdir(ROOT, b"folder")


@pytest.mark.parametrize("action", [_listed, _read, _written, _missed, _made_and_removed])
async def test_nothing_is_left_to_the_collector(
    action: Callable[[Scene], Awaitable[None]], autojump_clock: object, uncollected: None
) -> None:
    async with trio.open_nursery() as nursery:
        scene = Scene(nursery)
        for _ in range(3):
            await action(scene)
        gc.collect()
        gc.garbage.clear()
        for _ in range(ROUNDS):
            await action(scene)
        gc.collect()
        left = Counter(type(each).__name__ for each in gc.garbage)
        nursery.cancel_scope.cancel()
    assert not {name: count for name, count in left.items() if count >= ROUNDS}


def test_the_error_of_a_lost_connection_holds_nobody_who_got_it() -> None:
    lost = protocol()
    error = ConnectionLost("fs1", NtStatus.CONNECTION_RESET, "cut")
    lost.connection_lost(error)
    for _ in range(100):
        with pytest.raises(ConnectionLost):
            lost.submit([encode_plain(Command.SMB2_ECHO)], Route(session=PlainSession()), lambda: None)
    depth, traceback = 0, error.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    assert depth < 10


def test_an_error_that_is_kept_is_raised_without_the_frames_of_the_last_time() -> None:
    """An error that an object keeps may be raised many times: each raise adds frames to the traceback that it has."""
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{node.lineno}: raise {ast.unparse(node.exc)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("self.")
        if isinstance(node.exc, (ast.Attribute, ast.Subscript))
    ]
    assert found == []

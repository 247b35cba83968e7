"""Unix sockets at paths: who listens at one keeps it."""

from __future__ import annotations

import errno
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfsfs.config.errors import ConfigError
from dfsfs.control import metrics, server, socketfile
from dfsfs.mount.service import prepare
from tests.kernel.mounts import refused

if TYPE_CHECKING:
    from pathlib import Path


def answers(path: Path) -> bool:
    """Whether somebody listens at a path."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def is_there(path: Path | str) -> bool:
    return os.path.lexists(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sock"


def listen(path: Path) -> socket.socket:
    return socketfile.listen_at(str(path), 0o117, 4)


def test_who_listens_keeps_the_place(path: Path) -> None:
    with listen(path):
        refused(errno.EADDRINUSE, lambda: listen(path))
        assert answers(path)
        config: Any = SimpleNamespace(metrics=str(path))
        with pytest.raises(ConfigError, match=r"metrics=.*: a program listens there"):
            prepare(config)
        assert answers(path)


def test_a_queue_that_is_full_is_somebody_too(path: Path) -> None:
    with socketfile.listen_at(str(path), 0o117, 0):
        waiting = []
        with pytest.raises(BlockingIOError):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(path))
        refused(errno.EADDRINUSE, lambda: listen(path))
        for one in waiting:
            one.close()


def test_a_socket_of_another_kind_is_somebody_too(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        refused(errno.EADDRINUSE, lambda: listen(path))
    with listen(path):
        assert answers(path)


def test_a_dead_socket_of_ours_is_replaced(path: Path) -> None:
    listen(path).close()
    assert path.is_socket() and not answers(path)
    with listen(path):
        assert answers(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make somebody else's")
def test_a_dead_socket_of_somebody_else_is_left_alone(path: Path) -> None:
    listen(path).close()
    os.chown(path, 65534, 65534)
    refused(errno.EADDRINUSE, lambda: listen(path))
    assert path.is_socket()


def test_what_is_no_socket_is_left_alone(path: Path, tmp_path: Path) -> None:
    path.write_text("precious")
    refused(errno.EEXIST, lambda: listen(path))
    path.rename(tmp_path / "file")
    path.symlink_to("file")
    refused(errno.EEXIST, lambda: listen(path))
    assert (tmp_path / "file").read_text() == "precious"


async def test_a_mount_that_ends_takes_its_figures_away_and_no_others(path: Path) -> None:
    nobody: Any = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metrics.serve, listen(path), nobody)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not is_there(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metrics.serve, listen(path), nobody)
        await trio.testing.wait_all_tasks_blocked()
        os.unlink(path)
        other = listen(path)
        nursery.cancel_scope.cancel()
    assert answers(path)
    other.close()


async def test_the_next_mount_of_a_number_has_its_control_socket_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives the number of a mount that has ended to the next one, while the process of the old one may still
    be closing files.
    """
    monkeypatch.setattr("dfsfs.control.places.ROOTS_FOLDER", str(tmp_path / "dfsfs"))
    answer: Any = None
    async with trio.open_nursery() as nursery:
        ending = trio.CancelScope()

        async def serve_until_it_ends(listener: socket.socket, path: str) -> None:
            with ending:
                await server.serve(listener, path, 0, answer)

        listener, path = server.open_socket("0:51", 0)
        nursery.start_soon(serve_until_it_ends, listener, path)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.serve, *server.open_socket("0:51", 0), 0, answer)
        await trio.testing.wait_all_tasks_blocked()
        ending.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
        nursery.cancel_scope.cancel()
    assert not is_there(path)

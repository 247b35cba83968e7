"""The two ends of a control socket, talking."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfsfs.control import client, places, server
from dfsfs.control.places import MountEntry
from dfsfs.control.protocol import ControlError, Request
from dfsfs.errors import SmbError
from dfsfs.ntstatus import NtStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.logs("may not use the control socket", "a request at the control socket failed")


@dataclass(frozen=True, slots=True)
class Item:
    number: int
    text: str


OWNER = os.geteuid()
ENTRY = MountEntry("0:51", "/mnt/ns", places.TYPE, "//a/b", OWNER)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "ROOTS_FOLDER", str(tmp_path / "dfsfs"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # for who is not root
    return tmp_path / "dfsfs"


async def answer(request: Request) -> Any:
    match request.command:
        case "say":
            return dict(request.arguments)
        case "refuse":
            raise ControlError("no", 2)
        case "fail":
            raise SmbError(NtStatus.ACCESS_DENIED, "stat")
        case "break":
            raise KeyError("x")
        case "list":
            return [{"number": number, "text": "[],"} for number in range(int(request.arguments["length"]))]
        case "much":
            return "x" * 3_000_000
        case _:
            await trio.sleep_forever()


@asynccontextmanager
async def serving(device: str = ENTRY.device) -> AsyncIterator[str]:
    listener, path = server.open_socket(device, OWNER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, listener, path, OWNER, answer)
        yield path
        nursery.cancel_scope.cancel()


KINDS: dict[str, Any] = {"much": str, "list": tuple[Item, ...]}


async def ask(command: str, **arguments: str) -> Any:
    kind = KINDS.get(command, dict[str, str])
    return (await trio.to_thread.run_sync(partial(client.ask, kind, ENTRY, command, **arguments))).raw


async def test_questions_and_answers(folder: Path) -> None:
    async with serving() as path:
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert await ask("say", a="ä", b="") == {"a": "ä", "b": ""}
        assert len(await ask("much")) == 3_000_000
        for length in (0, 1, server.AT_ONCE, server.AT_ONCE + 1, 5 * server.AT_ONCE, 12_345):
            assert await ask("list", length=str(length)) == [
                {"number": number, "text": "[],"} for number in range(length)
            ]
        for command, text in (
            ("refuse", "^no$"),
            ("fail", r"stat: the user has no permission \(STATUS_ACCESS_DENIED\)"),
            ("break", "should not"),
        ):
            with pytest.raises(ControlError, match=text):
                await ask(command)
    assert os.listdir(folder) == []


async def test_many_at_once_and_one_that_hangs(folder: Path) -> None:
    async with serving() as path:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(server.CONNECTIONS - 1)]
        for one in silent:
            one.connect(path)
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(ask, "say")
        for one in silent:
            one.close()


async def test_a_request_that_does_not_come_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RECEIVING", 0.05)
    async with serving() as path:
        async with await trio.open_unix_socket(path) as stream:
            assert b"no request within" in await stream.receive_some()


async def test_a_request_without_end_is_refused(folder: Path) -> None:
    async with serving() as path:
        stream = await trio.open_unix_socket(path)
        async with stream:
            await stream.send_all(b"x" * 70_000)
            assert b"at most 64 KiB" in await stream.receive_some()


async def test_a_command_has_a_time_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWERING", 0.05)
    async with serving():
        with pytest.raises(ControlError, match=r"not done within 0\.05 seconds"):
            await ask("hang")


async def test_the_socket_of_a_dead_mount_is_replaced(folder: Path) -> None:
    listener, _ = server.open_socket(ENTRY.device, OWNER)
    listener.close()
    with pytest.raises(ControlError, match="no program answers for the mount on /mnt/ns"):
        await ask("say")
    async with serving():
        assert await ask("say") == {}
    with pytest.raises(ControlError, match="no program answers"):
        await ask("say")


async def test_what_dead_mounts_have_left_is_swept_away_and_nothing_else(folder: Path) -> None:
    async with serving("0:1") as alive:
        for device in ("0:2", "0:3"):
            listener, dead = server.open_socket(device, OWNER)
            listener.close()
        os.utime(folder / "0-2.sock", (1, 1))
        os.utime(alive, (1, 1))
        (folder / "other").touch()
        async with serving():
            assert sorted(os.listdir(folder)) == ["0-1.sock", "0-3.sock", "0-51.sock", "other"], dead
        server.sweep(str(folder), 0)
        assert sorted(os.listdir(folder)) == ["0-1.sock", "other"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_who_is_at_the_other_end_counts_and_not_who_may_open_the_socket(folder: Path) -> None:
    for parent in folder.parents:
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    async with serving() as path:
        os.chmod(path, 0o666)
        script = (
            "import socket,sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            's.sendall(b\'{"version": 1, "command": "say"}\\n\'); print(s.recv(1000).decode())'
        )
        words = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script, path]
        done = await trio.run_process(words, capture_stdout=True)
        assert b"only the owner of the mount, or root" in done.stdout


def test_the_folder_is_for_everybody_whatever_the_umask_is(folder: Path) -> None:
    """Which is 0077 in the service, and the next mount may be somebody's by hand."""
    before = os.umask(0o077)
    try:
        listener, path = server.open_socket("0:1", os.geteuid())
    finally:
        os.umask(before)
    listener.close()
    assert folder.stat().st_mode & 0o777 == 0o755
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_folder_that_others_may_change_is_not_used(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(server.NoPlace, match="only its owner may change"):
        server.open_socket("0:1", OWNER)
    folder.rmdir()
    folder.symlink_to(folder.parent)
    with pytest.raises(server.NoPlace, match="only its owner may change"):
        server.open_socket("0:1", OWNER)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user has folders who has none from elsewhere: in the place of /tmp."""
    place = tmp_path / "tmp"
    place.mkdir()
    place.chmod(0o1777)
    monkeypatch.setattr(places, "SHARED_FOLDER", str(place))
    monkeypatch.setattr(places, "folders_for", lambda owner: [places.private_folder(owner)])
    monkeypatch.setattr(server, "folders_for", lambda owner: [places.private_folder(owner)])
    return place


async def test_a_user_without_a_folder_gets_a_private_one_for_the_time(shared: Path) -> None:
    me = os.geteuid()
    before = os.umask(0)
    try:
        listener, path = server.open_socket(ENTRY.device, me)
    finally:
        os.umask(before)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, listener, path, me, answer)
        assert path == f"{shared}/dfsfs-{me}/0-51.sock"
        assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
        entry = MountEntry(ENTRY.device, "/mnt/ns", places.TYPE, "//a/b", me)
        asked = await trio.to_thread.run_sync(partial(client.ask, dict[str, str], entry, "say", a="b"))
        assert asked.said == {"a": "b"}
        nursery.cancel_scope.cancel()
    assert os.listdir(shared) == []


@pytest.mark.parametrize("lay", ["link", "open"])
def test_a_private_folder_that_somebody_else_has_laid_is_not_used(shared: Path, lay: str) -> None:
    place = shared / f"dfsfs-{os.geteuid()}"
    (shared / "elsewhere").mkdir(0o700)
    if lay == "link":
        place.symlink_to(shared / "elsewhere")
    else:
        place.mkdir()
        place.chmod(0o755)
    with pytest.raises(server.NoPlace, match="only its owner may enter"):
        server.open_socket("0:1", os.geteuid())
    assert os.listdir(shared / "elsewhere") == []

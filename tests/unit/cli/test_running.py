"""The commands for running mounts, asked of programs that answer with anything."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from dfsfs.cli import bugreport
from dfsfs.cli.main import main
from dfsfs.control import client, places
from dfsfs.control.places import MountEntry
from dfsfs.control.protocol import decode_request, encode_result
from tests.fakes.evil import EVIL, SHOWN, spoils, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Play = Callable[[socket.socket, str], None]
    """Answers on a connection to a command."""

SESSION = {
    **dict.fromkeys(("host", "name", "address", "dialect", "signing", "authentication", "spn", "user"), EVIL),
    **dict.fromkeys(("in_flight", "queued", "requests", "bytes_sent", "bytes_received"), 1),
    "encryption": None,
    "uid": None,
    "shares": [EVIL],
}
LINK = {
    **dict.fromkeys(("path", "target"), EVIL),
    **dict.fromkeys(("connected", "failed_over", "chosen"), True),
    "targets": [EVIL],
    "generation": 1,
    "seconds_left": 1.5,
    "uid": 7,
}
FIGURES = dict.fromkeys(("count", "failed", "p50", "p95", "p99", "longest"), 1)
ABOUT = {"pid": 1, "seconds": 1.5, "multiuser": True, "read_only": True}
STATUS: dict[str, Any] = {
    "mount": {**ABOUT, **dict.fromkeys(("path", "unc", "version", "user"), EVIL)},
    "links": [LINK],
    "failed_over": 1,
    "sessions": [SESSION],
    "files": {"open": 1, "open_folders": 1, "known": 1},
    "caches": {"referrals": 1, "domains": 1},
    "requests": {EVIL: FIGURES},
    "errors": {EVIL: 1},
    "bytes": {"read": 1, "written": 1},
    "events": {"FailedOver": 1},
    "drained": [EVIL],
}
ROOT = {"host": EVIL, "asked": EVIL, "problem": None, "covered": EVIL, "ttl": 1, "targets": [EVIL]}
TRIED = {"path": EVIL, "in_use": True, "seconds": 0.1, "problem": None, "remark": EVIL, "session": SESSION}
RESULTS: dict[str, Any] = {
    "status": STATUS,
    "cache.show": [
        {
            "prefix": EVIL,
            "kind": EVIL,
            "namespace_below": False,
            "failback": True,
            "ttl": 1,
            "seconds_left": 0.5,
            "targets": [{"path": EVIL, "hint": True, "starts_set": True}] * 2,
        }
    ],
    "domain.show": {
        "found": {"name": EVIL, "netbios": EVIL, "site": EVIL, "controllers": [EVIL]},
        "bootstrap": EVIL,
        "domains": [{"name": EVIL, "controllers": [EVIL], "hint": EVIL}],
    },
    "target.list": {"path": EVIL, "targets": [{"path": EVIL, "in_use": True, "chosen": True, "drained": True}]},
    "drain": {
        "host": EVIL,
        "links": [{"path": EVIL, "from": EVIL, "to": None}, {"path": EVIL, "from": "", "to": EVIL}],
    },
    "explain": {
        "path": EVIL,
        "kind": EVIL,
        "problem": EVIL,
        "link": EVIL,
        "seconds_left": 1,
        "steps": [{"seconds": 0.1, "event": EVIL, "text": EVIL}],
        "targets": [TRIED, {**TRIED, "seconds": None, "problem": EVIL, "session": None}],
        "all_roots": {"roots": [ROOT, {**ROOT, "problem": EVIL}], "differ": True},
    },
}
COMMANDS = {
    ("status",): "status",
    ("cache", "show"): "cache.show",
    ("domain", "show"): "domain.show",
    ("target", "list", "{mount}"): "target.list",
    ("drain", "x"): "drain",
    ("explain", "{mount}"): "explain",
}


def say(line: bytes) -> Play:
    return lambda connection, command: connection.sendall(line)


def play_results(connection: socket.socket, command: str) -> None:
    connection.sendall(encode_result(RESULTS[command]))


class Mounts:
    """Mounts that are only in the list, with sockets at which somebody answers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries: list[MountEntry] = []
        self._listeners: list[socket.socket] = []
        self._folder = folder
        folder.mkdir()
        monkeypatch.setattr(places, "ROOTS_FOLDER", str(folder))
        monkeypatch.setattr(places, "mounts", lambda: self.entries)

    def add(self, play: Play) -> MountEntry:
        number = len(self.entries)
        entry = MountEntry(f"0:{number}", f"/mnt/{number}", places.TYPE, "//a/b", 0)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._folder / places.socket_name(entry.device)))
        listener.listen(8)
        self.entries.append(entry)
        self._listeners.append(listener)
        threading.Thread(target=self._serve, args=(listener, play), daemon=True).start()
        return entry

    def _serve(self, listener: socket.socket, play: Play) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    if line := connection.recv(65536):
                        play(connection, decode_request(line).command)

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounts]:
    made = Mounts(tmp_path / "sockets", monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_shows_hostile_names(
    words: tuple[str, ...], mounts: Mounts, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = mounts.add(play_results)
    main([word.format(mount=entry.mountpoint) for word in words])
    shown, errors = capsys.readouterr()
    assert SHOWN in shown and not spoils(shown + errors)
    assert not any(line.startswith("b\\u202e") for line in (shown + errors).splitlines()), "a line of its own"
    main([*(word.format(mount=entry.mountpoint) for word in words), "--json"])
    shown, errors = capsys.readouterr()
    assert not spoils(shown + errors)
    assert EVIL in set(texts(json.loads(shown)))


def test_what_a_mount_refuses_is_shown_in_one_line(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    mounts.add(say(json.dumps({"version": 1, "error": EVIL, "code": 2}).encode() + b"\n"))
    assert main(["status"]) == 1
    assert capsys.readouterr().err == f"dfsfs: /mnt/0: {SHOWN}\n"


BAD = {
    "no JSON": b"hello\n",
    "nothing": b"",
    "no result": b'{"version": 1}\n',
    "a list": encode_result([]),
    "null": encode_result(None),
    "no fields": encode_result({}),
    "links that are none": encode_result({**STATUS, "links": [1]}),
    "a mount that is none": encode_result({**STATUS, "mount": "x"}),
    "an endless number": encode_result({**STATUS, "bytes": {"read": 10**400, "written": 0}}),
    "infinity": encode_result({**STATUS, "failed_over": 0}).replace(b'"seconds": 1.5', b'"seconds": 1e999'),
    "NaN": encode_result({**STATUS, "failed_over": 0}).replace(b'"seconds": 1.5', b'"seconds": NaN'),
    "a deep one": b'{"version": 1, "result": ' + b"[" * 900 + b"]" * 900 + b"}\n",
    "an error that is none": b'{"version": 1, "error": [[]], "code": "x"}\n',
    "half a line": encode_result(STATUS)[:-20],
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_report_is_one_line_and_the_others_are_shown(
    bad: str, mounts: Mounts, capsys: pytest.CaptureFixture[str]
) -> None:
    for play in (play_results, say(BAD[bad]), play_results):
        mounts.add(play)
    assert main(["status"]) == (1 if bad in ("no JSON", "a deep one", "infinity", "NaN") else 32)
    shown, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert line.startswith("dfsfs: ") and "/mnt/1" in line and len(line) < 700
    assert "/mnt/0 is " in shown and "/mnt/2 is " in shown and "/mnt/1 is" not in shown
    assert main(["status", "--json"])
    assert [report["mount"]["path"] for report in json.loads(capsys.readouterr().out)] == ["/mnt/0", "/mnt/2"]
    assert isinstance(bugreport.collect()["mounts"][1]["status"], str)


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != ("status",)])
@pytest.mark.parametrize("bad", ["null", "no fields", "a deep one"])
def test_so_it_is_with_every_command(
    words: tuple[str, ...], bad: str, mounts: Mounts, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = mounts.add(say(BAD[bad]))
    assert main([word.format(mount=entry.mountpoint) for word in words]) in (1, 32)
    shown, errors = capsys.readouterr()
    assert not shown and len(errors.splitlines()) == 1


def test_a_server_is_drained_on_the_mounts_that_make_sense(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    for play in (say(BAD["null"]), play_results):
        mounts.add(play)
    assert main(["drain", "x"]) == 32
    shown, errors = capsys.readouterr()
    assert shown.startswith("/mnt/1: ") and "/mnt/0" in errors


def drip(connection: socket.socket, command: str) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b" ")
            time.sleep(0.005)


def flood(connection: socket.socket, command: str) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b" " * 65536)


@pytest.mark.parametrize("play", [drip, lambda connection, command: connection.recv(1)], ids=["drip", "silence"])
def test_nobody_is_waited_for_without_end(
    play: Play, mounts: Mounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfsfs.cli.running.AT_ONCE", 0.3)
    for one in (play, play_results):
        mounts.add(one)
    started = time.monotonic()
    assert main(["status"]) == 32
    assert time.monotonic() - started < 5
    shown, errors = capsys.readouterr()
    assert "/mnt/1 is " in shown and "/mnt/0 does not answer" in errors


def test_others_have_less_room_and_one_time_for_all_their_mounts(
    mounts: Mounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "is_trusted", lambda entry: entry.device == "0:4")
    monkeypatch.setattr("dfsfs.cli.running.AT_ONCE", 1.0)
    for play in (flood, *[drip] * 3, play_results):
        mounts.add(play)
    started = time.monotonic()
    assert main(["status"]) == 32
    assert time.monotonic() - started < 2.5, "three mounts, and not a second for each"
    shown, errors = capsys.readouterr()
    assert f"longer than {client.MAX_OTHERS_ANSWER} bytes" in errors and errors.count("does not answer") == 3
    assert "/mnt/4 is " in shown


def test_only_the_owner_of_a_mount_answers_for_it(
    mounts: Mounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user's socket may be a link to one of root's, who would be told what the user wants."""
    heard: list[str] = []
    root = mounts.add(lambda connection, command: heard.append(command))
    users = MountEntry("0:9", "/home/u/m", places.TYPE, "//a/b", 1234)
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "0-9.sock").symlink_to(tmp_path / "sockets" / places.socket_name(root.device))
    folders = {0: str(tmp_path / "sockets"), 1234: str(tmp_path / "users")}
    monkeypatch.setattr(places, "folder_for", folders.get)
    mounts.entries[:] = [users]
    assert main(["status"]) == 32
    assert "answers for the mount on /home/u/m, which is user 1234's" in capsys.readouterr().err
    assert not heard

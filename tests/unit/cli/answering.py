"""Mounts that are only in a list, with sockets at which anything answers."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dfsfs.cli.registry import all_commands
from dfsfs.control import places
from dfsfs.control.places import MountEntry
from dfsfs.control.protocol import decode_request, encode_result
from tests.support.fakes.evil import EVIL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pytest

    Play = Callable[[socket.socket, str, Mapping[str, str]], None]
    """Answers on a connection to a command with arguments."""

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
        "known": True,
        "servers": [EVIL],
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
    return lambda connection, command, arguments: connection.sendall(line)


def play_results(connection: socket.socket, command: str, arguments: Mapping[str, str]) -> None:
    connection.sendall(encode_result(RESULTS[command]))


class Mounts:
    """Mounts that are only in the list. `folder`: where their sockets are."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries: list[MountEntry] = []
        self._listeners: list[socket.socket] = []
        self.folder = folder
        all_commands()  # are imported before places is patched, from which they take functions by name
        folder.mkdir()
        monkeypatch.setattr(places, "ROOTS_FOLDER", str(folder))
        monkeypatch.setattr(places, "folders_for", lambda _owner: [str(folder)])
        monkeypatch.setattr(places, "mounts", lambda: self.entries)

    def add(self, play: Play) -> MountEntry:
        number = len(self.entries)
        entry = MountEntry(f"0:{number}", f"/mnt/{number}", places.TYPE, "//a/b", os.geteuid())
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / places.socket_name(entry.device)))
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
                        play(connection, (request := decode_request(line)).command, request.arguments)

    def close(self) -> None:
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

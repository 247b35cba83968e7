"""The commands for running mounts, asked of programs that answer with anything."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dfsfs.cli.commands import bugreport, cache, explain
from dfsfs.cli.main import main
from dfsfs.control import client, places
from dfsfs.control.answers import CachedReferral, Explanation
from dfsfs.control.places import MountEntry
from dfsfs.control.protocol import encode_result
from dfsfs.control.shapes import from_json
from tests.support.fakes.evil import EVIL, SHOWN, spoils, texts
from tests.unit.cli.answering import COMMANDS, LINK, RESULTS, STATUS, Mounts, play_results, say

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.unit.cli.answering import Play


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
    assert capsys.readouterr() == (f"/mnt/0 is //a/b\n  NO ANSWER: /mnt/0: {SHOWN}\n", "")
    assert main(["cache", "show"]) == 1
    assert capsys.readouterr() == ("", f"dfsfs: /mnt/0: {SHOWN}\n")


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
    head, _, rest = shown.partition("\n/mnt/1 is //a/b\n")
    (line, empty, *others) = rest.splitlines()
    assert line.startswith("  NO ANSWER: ") and "/mnt/1" in line and len(line) < 700 and not empty and not errors
    assert head.startswith("/mnt/0 is ") and others[0].startswith("/mnt/2 is ")
    assert main(["status", "--json"])
    reports = json.loads(capsys.readouterr().out)
    assert [report["mount"]["path"] for report in reports] == ["/mnt/0", "/mnt/1", "/mnt/2"]
    assert [report["problem"] for report in reports if "links" in report] == [None, None]
    assert reports[1]["mount"]["unc"] == "//a/b" and "/mnt/1" in reports[1]["problem"]
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


def drip(connection: socket.socket, command: str, arguments: Mapping[str, str]) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b" ")
            time.sleep(0.005)


def flood(connection: socket.socket, command: str, arguments: Mapping[str, str]) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b" " * 65536)


@pytest.mark.parametrize(
    "play", [drip, lambda connection, command, arguments: connection.recv(1)], ids=["drip", "silence"]
)
def test_nobody_is_waited_for_without_end(
    play: Play, mounts: Mounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfsfs.cli.commands.status.AT_ONCE", 0.3)
    for one in (play, play_results):
        mounts.add(one)
    started = time.monotonic()
    assert main(["status"]) == 32
    assert time.monotonic() - started < 5
    shown = capsys.readouterr().out
    assert "/mnt/1 is " in shown and "  NO ANSWER: the mount on /mnt/0 does not answer\n" in shown


def test_others_have_less_room_and_one_time_for_all_their_mounts(
    mounts: Mounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "is_trusted", lambda entry: entry.device == "0:4")
    monkeypatch.setattr("dfsfs.cli.commands.status.AT_ONCE", 1.0)
    for play in (flood, *[drip] * 3, play_results):
        mounts.add(play)
    started = time.monotonic()
    assert main(["status"]) == 32
    assert time.monotonic() - started < 2.5, "three mounts, and not a second for each"
    shown = capsys.readouterr().out
    assert f"longer than {client.MAX_OTHERS_ANSWER} bytes" in shown and shown.count("does not answer") == 3
    assert "/mnt/4 is " in shown


def test_only_the_owner_of_a_mount_answers_for_it(
    mounts: Mounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user's socket may be a link to one of root's, who would be told what the user wants."""
    heard: list[str] = []
    root = mounts.add(lambda connection, command, arguments: heard.append(command))
    users = MountEntry("0:9", "/home/u/m", places.TYPE, "//a/b", 1234)
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "0-9.sock").symlink_to(tmp_path / "sockets" / places.socket_name(root.device))
    folders = {0: str(tmp_path / "sockets"), 1234: str(tmp_path / "users")}
    monkeypatch.setattr(places, "folders_for", lambda owner: [folders[owner]])
    monkeypatch.setattr(places, "ROOTS_FOLDER", str(tmp_path / "none"))  # where status looks for what lives on
    mounts.entries[:] = [users]
    assert main(["status"]) == 32
    assert "answers for the mount on /home/u/m, which is user 1234's" in capsys.readouterr().out
    assert not heard


def test_a_dead_mount_is_a_row_and_the_others_are_shown(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    mounts.add(play_results)
    mounts.entries.append(MountEntry("0:77", "/mnt/a b", places.TYPE, "//srv/dead", 0))
    assert main(["status"]) == 32
    shown, errors = capsys.readouterr()
    assert "/mnt/0 is " in shown and "\n/mnt/a b is //srv/dead\n  DEAD: its program has ended" in shown and not errors
    assert shown.endswith("; umount -l '/mnt/a b' takes it away\n")
    assert main(["status", "/mnt/a b/x"]) == 32
    shown, errors = capsys.readouterr()
    assert not shown and errors.startswith("dfsfs: no program answers for the mount on /mnt/a b")
    for words in (["cache", "show"], ["domain", "show"], ["drain", "x"]):
        assert main(words) == 32
        shown, errors = capsys.readouterr()
        assert "/mnt/0" in shown and errors.count("\n") == 1 and "/mnt/a b" in errors, words


def test_what_is_bound_to_two_places_is_one_mount(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    entry = mounts.add(play_results)
    mounts.entries.append(replace(entry, mountpoint="/srv/again"))
    assert main(["target", "list", "//a/b"]) == 0
    capsys.readouterr()
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("/mnt/0 is ") and "again is" not in shown


def test_the_mount_of_a_unc_path_is_the_one_that_has_it(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        mounts.add(play_results)
    mounts.entries[1] = replace(mounts.entries[1], source="//c/d")
    assert main(["target", "list", "//C/d/x"]) == 0
    assert main(["target", "list", "//elsewhere/x"]) == 1
    assert "there are 2 mounts; name one of /mnt/0, /mnt/1 with --mount" in capsys.readouterr().err


def test_mounts_of_others_are_no_failure(
    mounts: Mounts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts.add(play_results)
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "/mnt/0 is //a/b\n  only user 0, who has mounted it, or root may ask it\n"
    for words in (["cache", "show"], ["drain", "x"], ["domain", "show"], ["target", "list", "//a/b"]):
        assert main(words) == 1
        assert "what is mounted by dfsfs is for user 0 to ask, and for root" in capsys.readouterr().err


class Drains:
    """A mount that has heard of some servers, and remembers which are drained."""

    def __init__(self, *servers: str, drained: tuple[str, ...] = ()) -> None:
        self.servers, self.drained, self.asked = list(servers), list(drained), list[str]()

    def play(self, connection: socket.socket, command: str, arguments: Mapping[str, str]) -> None:
        host, known = arguments["host"], self.servers if command == "drain" else self.drained
        full = next((name for name in known if name.split(".")[0] == host.split(".")[0]), None)
        result = {"host": full or host, "known": full is not None, "servers": list(known), "links": []}
        if "dry_run" not in arguments:
            self.asked.append(f"{command} {host}")
        connection.sendall(encode_result(result))


def test_a_server_is_drained_in_all_mounts_or_in_none(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    made = [Drains("fs1.x.test", "fs2.x.test"), Drains("other")]
    for each in made:
        mounts.add(each.play)
    assert main(["drain", "fs11"]) == 1
    line = "dfsfs: fs11 is not the server of any target that a mount has heard of; did you mean fs1.x.test?\n"
    assert capsys.readouterr() == ("", line)
    assert main(["drain", "fs1", "--dry-run"]) == 0
    assert capsys.readouterr().out == "/mnt/0: fs1.x.test would be drained\n/mnt/1: fs1.x.test would be drained\n"
    assert [each.asked for each in made] == [[], []]
    assert main(["drain", "fs1"]) == 0
    assert capsys.readouterr().out == "/mnt/0: fs1.x.test is drained\n/mnt/1: fs1.x.test is drained\n"
    assert [each.asked for each in made] == [["drain fs1.x.test"]] * 2


def test_what_was_drained_somewhere_is_used_again_there(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    made = [Drains("fs1"), Drains("fs1", drained=("fs1",)), Drains("fs1", drained=("fs1", "fs2"))]
    for each in made:
        mounts.add(each.play)
    assert main(["drain", "--undo", "fs3"]) == 1
    assert "fs3 is not drained; did you mean fs" in capsys.readouterr().err
    assert main(["drain", "--undo", "fs1"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        "/mnt/0: fs1 was not drained",
        "/mnt/1: fs1 may be used again",
        "/mnt/2: fs1 may be used again",
    ]
    assert [each.asked for each in made] == [[], ["undrain fs1"], ["undrain fs1"]]
    assert main(["drain", "--undo", "fs2", "--mount", "/mnt/0"]) == 1
    assert main(["drain", "--undo", "fs2", "--mount", "/mnt/2", "--json"]) == 0


def test_caches_of_several_mounts(mounts: Mounts, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        mounts.add(play_results)
    assert main(["cache", "show"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("/mnt/0 (//a/b)\n") and "\n\n/mnt/1 (//a/b)\n" in shown
    assert main(["cache", "show", "//a/b/c", "--json"]) == 0
    assert [row["mount"] for row in json.loads(capsys.readouterr().out)] == ["/mnt/0", "/mnt/1"]
    assert main(["domain", "show", "--json"]) == 0
    assert [row["mount"] for row in json.loads(capsys.readouterr().out)] == ["/mnt/0", "/mnt/1"]
    assert main(["cache", "flush"]) == 1, "that is for one"
    assert "name one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failed_over", "shown"),
    [
        (0, "failed over 0 times, back 2 times; connected again once"),
        (1, "failed over once, back 2 times; connected again once"),
        (3, "failed over 3 times, back 2 times; connected again once"),
    ],
)
def test_how_often_links_have_moved(
    failed_over: int, shown: str, capsys: pytest.CaptureFixture[str], mounts: Mounts
) -> None:
    events = {"FailedOver": failed_over, "FailedBack": 2, "Reconnected": 1}
    mounts.add(say(encode_result({**STATUS, "events": events})))
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == shown


def test_a_time_that_is_up(capsys: pytest.CaptureFixture[str], mounts: Mounts) -> None:
    link = {**LINK, "path": "//a/b/l", "target": "//c/d", "seconds_left": -1440.0}
    loop = {**link, "path": "//a/b/loop", "connected": False, "loops": True, "failed_over": False, "chosen": False}
    status = {**STATUS, "mount": {**STATUS["mount"], "unc": "//a/b"}, "links": [link, {**loop, "uid": None}]}
    mounts.add(say(encode_result(status)))
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "l     //c/d   1  expired   connected, failed over" in shown and "-24 min" not in shown
    assert "loop  //c/d   1  expired   leads back to itself\n" in shown
    referral = {**RESULTS["cache.show"][0], "seconds_left": -1440.0, "ttl": 600}
    assert "expired, was good for 10 min" in "\n".join(cache.format_cache([from_json(CachedReferral, referral)]))
    found = {**RESULTS["explain"], "seconds_left": -1440.0, "problem": None, "all_roots": None}
    assert "its referral has expired" in str(explain.format_explanation(from_json(Explanation, found)))

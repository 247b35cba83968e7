"""What a mount says of itself, from its parts to what a command reads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dfsfs.control import answers, explaining, report
from dfsfs.control.protocol import decode_answer, encode_result
from dfsfs.control.shapes import from_json, to_json
from dfsfs.meters import Meters
from dfsfs.namespace.explain import RootAnswer
from dfsfs.namespace.overrides import TargetOverrides
from dfsfs.telemetry import CacheHit, ReferralAnswered, Telemetry
from dfsfs.unc import UncPath

DOCUMENTED = (Path(__file__).parent.parent.parent.parent / "docs" / "json.md").read_text()
TOP = UncPath(("ns1", "dfs"))


def mount_of(*junctions: Any) -> Any:
    overrides = TargetOverrides()
    overrides.drained["FS9"] = "fs9"
    caches = SimpleNamespace(referrals=(1, 2), domains=SimpleNamespace(snapshot=tuple, bootstrap=""))
    telemetry = Telemetry()
    telemetry.publish(CacheHit(TOP, 5.0))
    meters = Meters()
    return SimpleNamespace(
        config=SimpleNamespace(
            unc=TOP, credentials=SimpleNamespace(principal="alice"), multiuser=False, fuse_options=("ro", "nosuid")
        ),
        mountpoint="/mnt/x",
        version="1",
        pool=SimpleNamespace(sessions=lambda: [session()]),
        namespace=SimpleNamespace(
            junctions=lambda: junctions,
            caches=caches,
            telemetry=telemetry,
            overrides=overrides,
            discovery=SimpleNamespace(found=None),
        ),
        filesystem=SimpleNamespace(open_files=1, open_folders=2, known_inodes=3),
        meters=meters,
        clock=lambda: 60.0,
        started=10.0,
        is_attached=True,
    )


def session() -> Any:
    texts = dict.fromkeys(("name", "address", "dialect", "signing", "authentication", "user"), "x")
    counted = SimpleNamespace(in_flight=1, queued=2, requests_sent=3, bytes_sent=4, bytes_received=5)
    return SimpleNamespace(**texts, host="fs1", encryption="", spn="", uid=None, shares=("data",), statistics=counted)


def junction(**changes: Any) -> Any:
    parts = {
        **dict.fromkeys(("binding", "resolution", "last_target")),
        "prefix": TOP,
        "loops": False,
        "generation": 1,
        "owner": SimpleNamespace(uid=0),
    }
    return SimpleNamespace(**{**parts, **changes})


async def test_what_a_mount_says_is_what_a_command_reads() -> None:
    used = UncPath(("fs1", "data"))
    bound = junction(
        binding=SimpleNamespace(target=used, tree=SimpleNamespace(alive=True)), owner=SimpleNamespace(uid=1000)
    )
    never_used = junction(generation=0)
    found = report.status_of(mount_of(junction(last_target=used), bound, never_used))
    assert from_json(answers.Status, decode_answer(encode_result(to_json(found)))) == found
    assert found.mount == answers.About("/mnt/x", "//ns1/dfs", found.mount.pid, "1", 50.0, "alice", False, True)
    assert [(link.target, link.connected, link.uid) for link in found.links] == [
        ("//fs1/data", False, None),
        ("//fs1/data", True, 1000),
    ]
    assert found.sessions[0].encryption is None and found.sessions[0].bytes_received == 5
    assert found.drained == ("fs9",) and found.events == {"CacheHit": 1}
    assert found.process.resident > 0 and found.process.threads > 0


def test_the_line_for_systemd() -> None:
    bound = SimpleNamespace(target=UncPath(("fs1", "data")), tree=SimpleNamespace(alive=True))
    assert report.summarize(mount_of(junction(binding=bound))) == "//ns1/dfs on /mnt/x: 1 target"
    assert report.summarize(mount_of(junction(), junction(binding=bound))).endswith(": 2 targets, 1 not connected")


def test_steps_have_the_fields_of_their_events() -> None:
    event = ReferralAnswered("ns1", "\\ns1\\dfs", 3, 2, 600, ("//a/b", "//c/d"))
    made = to_json(explaining.step_of(0.1234567, event))
    assert list(made)[:2] == ["seconds", "event"] and list(made)[-1] == "text"
    assert made["targets"] == ["//a/b", "//c/d"] and made["ttl"] == 600 and made["seconds"] == 0.123457
    assert from_json(answers.Step, json.loads(json.dumps(made))).text == str(event)


def test_servers_of_a_namespace_that_differ() -> None:
    def said(*targets: str) -> RootAnswer:
        entries = [SimpleNamespace(network_address=target) for target in targets]
        response: Any = SimpleNamespace(entries=entries, ttl=300, covered=TOP)
        return RootAnswer("ns1", TOP, response, None)

    config: Any = None
    same = explaining.roots_of((said("//a/b", "//c/d"), said("//c/d", "//a/b")), config)
    assert not same.differ and same.roots[0].targets == ("//a/b", "//c/d")
    assert explaining.roots_of((said("//a/b"), said("//c/d")), config).differ


KINDS = [kind for kind in vars(answers).values() if dataclasses.is_dataclass(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_documented(kind: Any) -> None:
    names = {field.name.rstrip("_") for field in dataclasses.fields(kind)} - {"details", "changed"}
    assert {name for name in names if name not in DOCUMENTED} == set()

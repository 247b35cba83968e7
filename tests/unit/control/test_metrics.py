"""Figures whose labels are names that others have chosen."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from dfsfs.control.metrics import HOSTS, Metrics, _attend
from dfsfs.meters import Meters
from dfsfs.telemetry import FailedOver, TargetSkipped, Telemetry
from dfsfs.unc import UncPath
from tests.support.fakes.evil import EVIL, SHOWN, spoils

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.logs("failed over")


def mount_of(telemetry: Telemetry, junctions: Callable[[], tuple[Any, ...]] = lambda: ()) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(unc=UncPath((EVIL, EVIL))),
        mountpoint=f"/mnt/{EVIL}",
        version="1",
        meters=Meters(),
        filesystem=SimpleNamespace(open_files=0, known_inodes=0),
        pool=SimpleNamespace(sessions=lambda: ()),
        namespace=SimpleNamespace(telemetry=telemetry, junctions=junctions, caches=SimpleNamespace(referrals=())),
    )


def test_a_name_that_can_not_be_written_ends_nothing() -> None:
    telemetry = Telemetry()
    metrics = Metrics(mount_of(telemetry))
    evil = UncPath((EVIL, EVIL))
    telemetry.publish(FailedOver(evil, evil, evil, EVIL))
    telemetry.publish(TargetSkipped(evil, evil, EVIL))
    text = metrics.text().decode()
    assert not spoils(text)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["dfsfs_mount_info"].samples[0].labels["path"] == f"/mnt/{SHOWN}"
    assert families["dfsfs_moves"].samples[0].labels["to_host"] == SHOWN


def test_referrals_can_not_make_it_count_more_and_more_servers() -> None:
    telemetry = Telemetry()
    metrics = Metrics(mount_of(telemetry))
    link = UncPath(("ns1", "dfs", "link"))
    for number in range(3 * HOSTS):
        telemetry.publish(TargetSkipped(link, UncPath((f"fs{number}", "data")), "down"))
        telemetry.publish(TargetSkipped(link, UncPath(("fs0", "data")), "down"))
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    samples = [sample for sample in families["dfsfs_targets_skipped"].samples if sample.name.endswith("_total")]
    assert len(samples) == HOSTS + 1
    assert sum(sample.value for sample in samples) == 6 * HOSTS
    assert next(sample.value for sample in samples if sample.labels["host"] == "fs0") == 3 * HOSTS + 1


def test_who_asks_all_the_time_has_the_figures_put_together_now_and_then() -> None:
    made: list[float] = []

    def junctions() -> tuple[Any, ...]:
        made.append(time.perf_counter())
        return ()

    metrics = Metrics(mount_of(Telemetry(), junctions))
    end = time.perf_counter() + 0.2
    asked = 0
    while time.perf_counter() < end:
        assert b"dfsfs_open_files" in metrics.text()
        asked += 1
    assert 1 < len(made) < asked / 5


class Answering:
    """The other end of a connection at which figures are answered for."""

    def __init__(self, request: bytes, metrics: Any) -> None:
        self.request = request
        self.metrics = metrics
        self.got = b""

    async def run(self) -> None:
        ours, theirs = (trio.socket.from_stdlib_socket(each) for each in self._pair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_attend, theirs, self.metrics)
            async with trio.SocketStream(ours) as stream:
                await stream.send_all(self.request)
                async for data in stream:
                    self.got += data

    @staticmethod
    def _pair() -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for each in pair:
            each.setblocking(False)
        return pair


async def test_who_asks_for_the_head_gets_that_alone() -> None:
    answering = Answering(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", SimpleNamespace(text=lambda: b"figure 1\n"))
    await answering.run()
    assert answering.got.startswith(b"HTTP/1.1 200 ") and b"Content-Length: 9\r\n" in answering.got
    assert answering.got.endswith(b"\r\n\r\n")


async def test_a_mistake_of_ours_costs_who_asks_and_not_the_mount(caplog: pytest.LogCaptureFixture) -> None:
    def text() -> bytes:
        raise RuntimeError("a mistake")

    answering = Answering(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", SimpleNamespace(text=text))
    await answering.run()
    assert answering.got == b""
    assert "a mistake" in caplog.text

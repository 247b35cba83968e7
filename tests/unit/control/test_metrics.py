"""Figures whose labels are names that others have chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dfsfs.control.metrics import Metrics
from dfsfs.meters import Meters
from dfsfs.telemetry import FailedOver, TargetSkipped, Telemetry
from dfsfs.unc import UncPath
from tests.fakes.evil import EVIL, SHOWN, spoils


def test_a_name_that_can_not_be_written_ends_nothing() -> None:
    telemetry = Telemetry()
    mount: Any = SimpleNamespace(
        config=SimpleNamespace(unc=UncPath((EVIL, EVIL))),
        mountpoint=f"/mnt/{EVIL}",
        version="1",
        meters=Meters(),
        filesystem=SimpleNamespace(open_files=0, known_nodes=0),
        pool=SimpleNamespace(sessions=lambda: ()),
        namespace=SimpleNamespace(telemetry=telemetry, junctions=lambda: (), caches=SimpleNamespace(referrals=())),
    )
    metrics = Metrics(mount)
    evil = UncPath((EVIL, EVIL))
    telemetry.publish(FailedOver(evil, evil, evil, EVIL))
    telemetry.publish(TargetSkipped(evil, evil, EVIL))
    text = metrics.text().decode()
    assert not spoils(text)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["dfsfs_mount_info"].samples[0].labels["path"] == f"/mnt/{SHOWN}"
    assert families["dfsfs_moves"].samples[0].labels["to_host"] == SHOWN

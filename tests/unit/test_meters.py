from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.meters import Latencies, Meters

SECONDS = st.floats(0, 60_000, allow_nan=False)


def test_nothing_yet() -> None:
    empty = Latencies()
    assert (empty.percentile(50), empty.percentile(99), empty.count) == (0.0, 0.0, 0)


@given(SECONDS)
def test_one_request_is_every_percentile(seconds: float) -> None:
    latencies = Latencies()
    latencies.record(seconds)
    assert latencies.percentile(50) == latencies.percentile(99) == latencies.longest == seconds


@given(st.lists(SECONDS, min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_too_high_by_a_fifth_at_most(times: list[float], percent: int) -> None:
    latencies = Latencies()
    for seconds in times:
        latencies.record(seconds)
    exact = sorted(times)[max(0, -(-len(times) * percent // 100) - 1)]
    assert exact <= latencies.percentile(percent) + 1e-9
    assert latencies.percentile(percent) <= exact * 1.25 + 2e-6
    assert latencies.count == len(times) and latencies.total == pytest.approx(sum(times))


@given(st.lists(st.floats(0, 20, allow_nan=False), max_size=100))
def test_cumulative_counts_rise_to_all(times: list[float]) -> None:
    latencies = Latencies()
    for seconds in times:
        latencies.record(seconds)
    bounds = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    counts = [count for _, count in latencies.cumulative(bounds)]
    assert counts == sorted(counts)
    assert counts[-1] == len(times)
    for bound, count in zip(bounds, counts, strict=True):
        assert count <= sum(seconds <= bound + 2e-6 for seconds in times)


def test_each_kind_has_its_own() -> None:
    meters = Meters()
    meters.get_latencies("read").record(0.001)
    assert meters.get_latencies("read").count == 1 and meters.get_latencies("write").count == 0
